"""The page: trame's index with our name on it, our scripts and styles, and one element that they fill. Everything is served from here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aiohttp import web
from FedSCALib.translate import tr
from trame_client.ui.core import AbstractLayout
from trame_client.widgets.core import AbstractElement
from trame_server import Server

ASSETS = Path(__file__).with_name("assets")
FOLDER = "workstation"
SCRIPT = "workstation.js"  # an ES module; it imports the others, in order
STATE = ("panel", "cases", "versions", "prompts", "texts", "keys", "presets", "life")


class Root(AbstractElement):  # type: ignore[misc]
    """The element that the scripts fill."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("fedsca-workstation", **kwargs)
        self._attr_names += list(STATE)


def build(server: Server) -> None:
    """Make the page of a trame server. Its state must hold everything in `STATE`."""
    server.enable_module(
        {
            "serve": {FOLDER: str(ASSETS)},
            "module_scripts": [f"{FOLDER}/{SCRIPT}"],
            "styles": [f"{FOLDER}/workstation.css"],
            "vue_use": ["fedscaWorkstation"],
        }
    )
    server.state.trame__title = tr("FedSCA Workstation")
    server.state.trame__favicon = f"{FOLDER}/favicon.svg"
    layout = AbstractLayout(server, Root(trame_server=server, **{name: (name,) for name in STATE}))
    layout.flush_content()
    # What trame shows when the connection is cut. Its own would throw our page away; ours stays, and comes back by itself.
    server.state.trame__template_error = server.state.trame__template_main


def routes(content: Path, life: str) -> list[web.RouteDef]:
    """trame's own index and loading picture, without another project's name and logo.

    Args:
        content: the folder that trame serves at /.
        life: names this run of the workstation; the page asks for it after a cut, to know whom it finds.
    """
    index = own_index((content / "index.html").read_text(encoding="utf-8"))

    async def show_index(_request: web.Request) -> web.Response:
        return web.Response(text=index, content_type="text/html")

    async def loading(_request: web.Request) -> web.Response:
        return web.Response(text=LOADING.format(text=tr("Starting…")), content_type="text/html")

    async def icon(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(ASSETS / "favicon.svg")

    async def here(_request: web.Request) -> web.Response:
        return web.Response(text=life)

    found = {"/index.html": show_index, "/loading.tpl": loading, "/favicon.ico": icon, "/logo.png": icon, "/here": here}
    return [web.get(path, handler) for path, handler in found.items()]


LOADING = (
    '<div style="position:fixed;inset:0;display:grid;place-items:center;background:#0e1114;color:#8b97a5;font:14px system-ui">{text}</div>'
)


def own_index(html: str) -> str:
    """The index with our title, icon and background."""
    html = re.sub(r"<title>.*?</title>", f"<title>{tr('FedSCA Workstation')}</title>", html, flags=re.S)
    html = re.sub(r'<link rel="icon"[^>]*>', f'<link rel="icon" href="{FOLDER}/favicon.svg" />', html)
    html = re.sub(r'<meta\s+name="(description|keywords)"[^>]*>', "", html)
    return html.replace("<body>", '<body style="background:#0e1114;margin:0">')
