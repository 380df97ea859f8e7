"""The workstation: Slicer's core, three slice views, the controller, and the page, in one process for one person.

Threads: everything here runs on the event loop's thread; the controller's network calls run in its own worker threads and come back
through `deliver`, which is called every few milliseconds while something is asked, else every 30 ms.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from pathlib import Path
from typing import Any

import slicer
from FedSCALib.annotator import Annotator
from FedSCALib.drafts import Drafts
from FedSCALib.errors import FedSCAError
from FedSCALib.jobs import Jobs
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.preferences import FilePreferences
from FedSCALib.state import State
from FedSCALib.translate import tr
from trame_server import Server
from trame_slicer.core import SlicerApp
from wslink.websocket import ServerProtocol

from workstation import page, panel, texts
from workstation.actions import BadRequestError, actions
from workstation.case_display import CaseDisplay
from workstation.door import Door
from workstation.gestures import Gestures
from workstation.private_file import write_private
from workstation.pump import Pump
from workstation.settings import Settings
from workstation.slice_view import View
from workstation.uploads import Uploads
from workstation.wire import Wire

VIEWS = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))
SOON, LATER = 0.004, 0.03  # seconds between two looks for answers
log = logging.getLogger("workstation")


class Workstation:
    """Builds everything; `run` serves until the process is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._app = SlicerApp()
        slicer.mrmlScene = self._app.scene
        self.canvas = MrmlCanvas(self._app.scene)
        self.jobs = Jobs()
        self.annotator = Annotator(
            jobs=self.jobs,
            canvas=self.canvas,
            drafts=Drafts(settings.home / "drafts"),
            preferences=FilePreferences(settings.home / "preferences.json"),
            viewer="workstation",
        )
        self._wire = Wire(self._on_gesture, self._on_action, self._on_shown)
        self.pump = Pump(self._send, self._describe)
        self.views = {name: View(self._app, name, orientation, self.pump.want) for name, orientation in VIEWS}
        for view in self.views.values():
            self.pump.add(view)
        self.display = CaseDisplay(self._app, self.canvas, self.views, self._seen)
        self._actions = actions(self.annotator)
        self._actions["views"] = self._choose_views
        self._actions["hello"] = lambda _values: self._hello()
        self._gestures = Gestures(self.annotator, self.views, self.display, self._looked)
        self.door = Door()
        self._uploads = Uploads(self.annotator.upload, self._tell)
        self._server = Server("fedsca-workstation")
        self._server.client_type = "vue3"
        self._life = secrets.token_urlsafe(12)
        self._dirty = True
        self._set_up_page()
        self.annotator.changed.connect(self._changed)

    # The page

    def _set_up_page(self) -> None:
        state = self._server.state
        for name in page.STATE:
            state[name] = None
        self._publish()
        state.texts, state.keys, state.life = texts.texts(), texts.keys(), self._life
        page.build(self._server)
        self._server.add_protocol_to_configure(self._add_protocol)
        self._server.controller.on_server_bind.add(self._bind)
        self._server.controller.on_server_ready.add(self._ready)

    def _add_protocol(self, protocol: ServerProtocol) -> None:
        protocol.registerLinkProtocol(self._wire)

    def _bind(self, web_server: Any) -> None:
        web_server.app.middlewares.append(self.door.middleware())
        web_server.app.add_routes(page.routes(Path(self._server._www), self._life))
        web_server.app.router.add_post("/own-image", self._uploads.handle)

    def _ready(self, **_state: Any) -> None:
        address = f"http://{self._settings.host}:{self._server.port}/?token={self.door.token}"
        print(tr("FedSCA Workstation: open {address} (once, in one browser). Ctrl+C ends it.").format(address=address), flush=True)  # noqa: T201
        if self._settings.ready_file is not None:
            write_private(self._settings.ready_file, address)
        if self._settings.open_browser:
            import webbrowser

            webbrowser.open(address)

    async def run(self) -> None:
        """Serve the page, until the process is told to end."""
        self.pump.start()
        ticking = asyncio.get_running_loop().create_task(self._tick())
        if self._settings.server or self.annotator.state.address:
            self.annotator.connect(self._settings.server or None)
        try:
            await self._server.start(
                port=self._settings.port,
                host=self._settings.host,
                exec_mode="coroutine",
                open_browser=False,
                show_connection_info=False,
                disable_logging=True,
                timeout=0,
            )
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await self.pump.stop()
            self.annotator.close()
            self._uploads.close()
            for view in self.views.values():
                view.close()

    # The controller

    async def _tick(self) -> None:
        while True:
            try:
                self.annotator.deliver()
            except Exception:  # one answer that goes wrong must not end the work
                log.exception("An answer could not be used")
            try:
                if self._dirty:
                    self._publish()
            except Exception:
                log.exception("The page could not be brought up to date")
            await asyncio.sleep(SOON if self.jobs.running() else LATER)

    def _changed(self, _state: State) -> None:
        self._dirty = True

    def _publish(self) -> None:
        """Bring the page's state up to date; trame sends what is different."""
        self._dirty = False
        if self.display.refresh():
            self.pump.want_all()
        state = self.annotator.state
        with self._server.state as shown:
            shown.panel = panel.panel(state)
            shown.cases = panel.cases(state)
            shown.versions = panel.versions(state)
            shown.presets = self.display.presets()
            shown.prompts = self._prompts()

    def _prompts(self) -> dict[str, Any]:
        found = {}
        for name, view in self.views.items():
            place = view.place(self.display.volume)
            if place is not None:
                found[name] = panel.prompts(*place, self.annotator.prompts_on(*place))
        return found

    # What the page does

    def _hello(self) -> None:
        """A page is there: what changed between its first look at the state and now would be missing on it."""
        self._server.force_state_push(*page.STATE)
        self.pump.page_opened()

    def _choose_views(self, values: list[Any]) -> None:
        names = [name for name in values if name in self.views]
        if names:
            self.pump.first = names[0]
            self.pump.set_visible(names)
            self._looked(names[0])
            self.pump.want_all()

    def _looked(self, name: str) -> None:
        """A view is worked in: its slice is the one that the controller's keys are about."""
        self.pump.first = name
        place = self.views[name].place(self.display.volume)
        if place is not None:
            self.annotator.view_slice(*place)

    def _seen(self, axis: str, index: int) -> None:
        self.annotator.view_slice(axis, index)
        self._dirty = True

    def _on_gesture(self, view: str, kind: str, values: list[Any]) -> None:
        try:
            self._gestures(view, kind, values)
        except BadRequestError as error:
            log.warning("The page sent a gesture that cannot be: %s", error)
        except FedSCAError as error:
            self._tell(error.message)
        if kind in ("jump", "size", "fit"):
            self._dirty = True

    def _on_action(self, name: str, values: list[Any]) -> None:
        action = self._actions.get(name)
        try:
            if action is None:
                raise BadRequestError(name[:40])
            action(values)
        except BadRequestError as error:
            log.warning("The page asked for what cannot be: %s", error)
        except FedSCAError as error:
            self._tell(error.message)

    def _tell(self, text: str) -> None:
        self.annotator._desk.notify("error", text)

    def _on_shown(self, view: str, number: int) -> None:
        self.pump.shown(view, number)

    def _send(self, meta: dict[str, Any], content: bytes) -> None:
        meta["sent"] = round(1000 * time.time())
        self._wire.send(meta, content)

    def _describe(self, view: View) -> dict[str, Any]:
        window = self.display.window()
        return {**view.describe(self.display.volume), "window": [round(value, 2) for value in window] if window else None}
