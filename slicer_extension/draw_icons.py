"""Draws the module's icons: `python slicer_extension/draw_icons.py` (needs PySide6) writes FedSCA/Resources/Icons.

Every icon is lines on a 24 x 24 field. Each is written as an SVG, and as PNGs of 48 x 48 in two inks: `<name>-light.png` is dark ink for
a light palette, `<name>-dark.png` light ink for a dark one. The module uses the PNGs, so that it does not depend on Qt's SVG plug-in.
Icons whose colour means something (include, exclude, submit) have that colour in both.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "FedSCA" / "Resources" / "Icons"
INK = {"light": "#27313d", "dark": "#dde5ee"}
GREEN, RED, WHITE = "#1f9d55", "#d64545", "#ffffff"
PIXELS = 48

LINES = {
    "point": '<circle cx="12" cy="12" r="3.2" fill="INK" stroke="none"/><path d="M12 3v4M12 17v4M3 12h4M17 12h4"/>',
    "box": '<path d="M5 6.5h14v11H5z" stroke-dasharray="3.2 2.4"/>'
    '<circle cx="5" cy="6.5" r="2" fill="INK" stroke="none"/><circle cx="19" cy="17.5" r="2" fill="INK" stroke="none"/>',
    "scribble": '<path d="M3.5 15.5c2.2-8 5.5-9.5 6.5-6.5s-3 8 0 8.5 4.5-9 7-8.5 0 6.5 3.5 6.5"/>',
    "paint": '<path d="M19.5 4.5l-8.5 8.5"/>'
    '<path d="M9.8 12.3c1.8.4 2.7 1.6 2.6 3.2-.2 2.8-3.9 4-7.9 3.5 1.8-1 1.9-2 2-3.5.2-1.9 1.5-3.5 3.3-3.2z" fill="INK"/>',
    "erase": '<path d="M8.5 19.5L3.8 14.8a1.5 1.5 0 0 1 0-2.1l8.2-8.2a1.5 1.5 0 0 1 2.1 0l5.2 5.2a1.5 1.5 0 0 1 0 2.1l-7.7 7.7z"/>'
    '<path d="M8 8.5l7.3 7.3M8.5 19.5h11"/>',
    "undo": '<path d="M8.5 4.5L4 9l4.5 4.5"/><path d="M4.5 9H14a5.5 5.5 0 0 1 0 11h-4"/>',
    "redo": '<path d="M15.5 4.5L20 9l-4.5 4.5"/><path d="M19.5 9H10a5.5 5.5 0 0 0 0 11h4"/>',
    "reset": '<path d="M19 12a7 7 0 1 1-2.3-5.2"/><path d="M19.3 3.5v4h-4"/>',
    "auto": '<path d="M12 3.5l1.9 5.1 5.1 1.9-5.1 1.9L12 17.5l-1.9-5.1L5 10.5l5.1-1.9z" fill="INK"/><path d="M18.5 16v4.5M16.3 18.2h4.5"/>',
    "propagate": '<path d="M6 9.5h12v5H6z" fill="INK"/><path d="M12 7V3m-2.5 2.2L12 3l2.5 2.2M12 17v4m-2.5-2.2L12 21l2.5-2.2"/>',
    "volume": '<path d="M12 3l8 4.5v9L12 21l-8-4.5v-9z"/><path d="M4 7.5l8 4.5 8-4.5M12 12v9"/>',
    "locked": '<path d="M6 11h12v9H6z" fill="INK"/><path d="M8.5 11V8a3.5 3.5 0 0 1 7 0v3"/>',
    "unlocked": '<path d="M6 11h12v9H6z" opacity=".55"/><path d="M8.5 11V8a3.5 3.5 0 0 1 6.8-1.2" opacity=".55"/>',
    "visible": '<path d="M2.5 12c4.5-8 14.5-8 19 0-4.5 8-14.5 8-19 0z"/><circle cx="12" cy="12" r="3" fill="INK" stroke="none"/>',
    "hidden": '<g opacity=".55"><path d="M2.5 12c4.5-8 14.5-8 19 0-4.5 8-14.5 8-19 0z"/><path d="M4.5 20L19.5 4"/></g>',
    "server": '<path d="M4 4.5h16v6H4zM4 13.5h16v6H4z"/><path d="M7.5 7.5h.01M7.5 16.5h.01M11 7.5h5M11 16.5h5"/>',
    "down": '<path d="M6 9l6 6 6-6" stroke-width="2.6"/>',
    "close": '<path d="M6 6l12 12M18 6L6 18"/>',
    "next": '<path d="M5 5l9 7-9 7zM18 5v14"/>',
    "info": '<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 7.8h.01"/>',
    "warning": '<path d="M12 4l9 16H3z"/><path d="M12 10v5M12 17.6h.01"/>',
}
COLOURED = {
    "include": f'<circle cx="12" cy="12" r="9" fill="{GREEN}" stroke="none"/>'
    f'<path d="M12 7.5v9M7.5 12h9" stroke="{WHITE}" stroke-width="2.4"/>',
    "exclude": f'<circle cx="12" cy="12" r="9" fill="{RED}" stroke="none"/><path d="M7.5 12h9" stroke="{WHITE}" stroke-width="2.4"/>',
    "check": f'<path d="M5 12.5l4.5 4.5L19 7.5" stroke="{WHITE}" stroke-width="3.4"/>',
    "submit": f'<path d="M12 18.5V6m-5 5l5-5 5 5M5 20.5h14" stroke="{WHITE}" stroke-width="2.4"/>',
}
MODULE = """<rect x="0.5" y="0.5" width="23" height="23" rx="5" fill="#16324f" stroke="none"/>
<path d="M5.2 9.5c.6-4.3 5.4-6 9-4.5 4 1.6 5.7 6 4.2 9.5-1.6 3.7-6.7 5.6-10.2 3.6-2.7-1.5-3.5-5.2-3-8.6z"
 fill="#2dd4bf" fill-opacity=".28" stroke="#2dd4bf" stroke-width="1.5"/>
<circle cx="9" cy="10" r="1.9" fill="#ffffff" stroke="none"/><circle cx="14.8" cy="9.2" r="1.3" fill="#fbbf24" stroke="none"/>
<circle cx="13" cy="14.6" r="1.3" fill="#fbbf24" stroke="none"/>
<path d="M10.8 9.8l2.8-.4M10.2 11.5l2 2.2M14.4 10.5l-.9 2.9" stroke="#ffffff" stroke-width=".9"/>"""


def svg(inside: str, ink: str) -> str:
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="48" height="48" fill="none" stroke="INK" stroke-width="1.8"'
    return (f'{head} stroke-linecap="round" stroke-linejoin="round">\n{inside}\n</svg>\n').replace("INK", ink)


def main() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6 import QtGui

    application = QtGui.QGuiApplication.instance() or QtGui.QGuiApplication([])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, inside in LINES.items():
        for palette, ink in INK.items():
            _write(svg(inside, ink), FOLDER / f"{name}-{palette}.png", PIXELS)
        (FOLDER / f"{name}.svg").write_text(svg(inside, INK["light"]), encoding="utf-8")
    for name, inside in COLOURED.items():
        _write(svg(inside, INK["light"]), FOLDER / f"{name}.png", PIXELS)
        (FOLDER / f"{name}.svg").write_text(svg(inside, INK["light"]), encoding="utf-8")
    (FOLDER / "FedSCA.svg").write_text(svg(MODULE, INK["light"]), encoding="utf-8")
    _write(svg(MODULE, INK["light"]), FOLDER / "FedSCA.png", 128)
    del application


def _write(text: str, path: Path, pixels: int) -> None:
    from PySide6 import QtCore, QtGui, QtSvg

    image = QtGui.QImage(pixels, pixels, QtGui.QImage.Format.Format_ARGB32)
    image.fill(QtCore.Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(image)
    QtSvg.QSvgRenderer(text.encode()).render(painter)
    painter.end()
    image.save(str(path), "PNG")


if __name__ == "__main__":
    main()
