"""The keys of the module. They work while it is shown, wherever in the main window the focus is; a text field keeps its letters."""

from __future__ import annotations

from typing import Any, Callable

import qt

from FedSCALib.translate import tr

# key -> what it does, as the README and the panel's help list them
KEYS = {
    "P": "point",
    "B": "box",
    "S": "scribble",
    "D": "paint",
    "X": "erase",
    "T": "polarity",
    "E": "next_label",
    "R": "reset",
    "V": "visibility",
    "A": "automatic",
    "G": "propagate",
    "Ctrl+Z": "undo",
    "Ctrl+Y": "redo",
    "Ctrl+Shift+Z": "redo",
    "Esc": "cancel",
    "Ctrl+Return": "submit",
    "Ctrl+Enter": "submit",
    "Ctrl+Shift+N": "next_case",
}


def help_text() -> str:
    """The keys in a few lines, for the panel."""
    return "\n".join(
        (
            tr("P point · B box · S scribble · D paint · X erase"),
            tr("T include or exclude · E next label · V show or hide · R reset"),
            tr("A this slice without prompts · G propagate"),
            tr("Ctrl+Z undo · Ctrl+Y redo · Esc cancel"),
            tr("Ctrl+Return submit · Ctrl+Shift+N next case"),
        )
    )


class Keys:
    """Shortcuts of a window that are on only between `enable(True)` and `enable(False)`.

    Args:
        window: the main window; None (Slicer without one) makes no shortcuts.
        actions: what each name in KEYS does.
    """

    def __init__(self, window: Any, actions: dict[str, Callable[[], None]]) -> None:
        self._shortcuts: list[Any] = []
        for key, name in KEYS.items() if window is not None else ():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.setEnabled(False)
            shortcut.connect("activated()", actions[name])
            self._shortcuts.append(shortcut)

    def enable(self, on: bool) -> None:
        """Whether the keys do anything."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(on)

    def remove(self) -> None:
        """Give the keys back for good."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
