"""The one controller that the Slicer module and the workstation drive. Main thread only: the front end's timer calls `deliver` every 30 ms.

Front ends show `state`, connect to `changed`, and turn clicks and keys into the methods below. All network traffic runs in
`jobs`' worker threads; all of Slicer and Qt stays on the main thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import MODES, Canvas, Voxel
from FedSCALib.client import Client
from FedSCALib.connection import ClientFactory, Connection
from FedSCALib.desk import Desk
from FedSCALib.drafts import Drafts
from FedSCALib.errors import FedSCAError
from FedSCALib.jobs import Jobs
from FedSCALib.learning import Learning
from FedSCALib.packets import Submitted
from FedSCALib.preferences import Preferences
from FedSCALib.prompting import Prompting
from FedSCALib.prompts import PromptSet, pixel_of
from FedSCALib.spreading import Spreading
from FedSCALib.state import TOOLS, Signal, State
from FedSCALib.submission import Submission
from FedSCALib.translate import tr
from FedSCALib.transport import RequestsTransport
from FedSCALib.worklist import Worklist

FETCH_AFTER = 0.15


def make_client(address: str, ca_file: Optional[Path]) -> Client:
    """A client over the network."""
    return Client(RequestsTransport(address, ca_file=ca_file))


class Annotator:
    """See the module.

    Args:
        client_factory: a client for an address and a CA file; `make_client` by default.
        canvas: where images and segments are shown.
        drafts: unsubmitted work on this computer.
        viewer: what this front end calls itself towards the server.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        canvas: Canvas,
        drafts: Drafts,
        preferences: Preferences,
        client_factory: ClientFactory = make_client,
        viewer: str = "slicer",
        clock: Optional[Any] = None,
    ) -> None:
        self._desk = Desk(jobs, canvas, preferences) if clock is None else Desk(jobs, canvas, preferences, clock)
        self._viewer = viewer
        self._prompting = Prompting(self._desk)
        self._spreading = Spreading(self._desk, self._prompting)
        self._worklist = Worklist(self._desk, self._opened, self._closing)
        self._submission = Submission(self._desk, self._prompting, drafts, self._submitted, viewer)
        self._learning = Learning(self._desk)
        self._connection = Connection(self._desk, client_factory, self._welcome, self._leave)
        self._prompting.drew.connect(lambda _: self._submission.drew())
        self._desk.update(address=preferences.get("address"), user=preferences.get("user"), tag=preferences.get("tag", "final") or "final")

    @property
    def state(self) -> State:
        """What to show."""
        return self._desk.state

    @property
    def changed(self) -> "Signal[State]":
        """Emitted with the new state after it changed."""
        return self._desk.changed

    @property
    def canvas(self) -> Canvas:
        return self._desk.canvas

    def deliver(self) -> None:
        """To be called every 30 ms or so: answers, retries, drafts."""
        self._desk.tick()

    def close(self, deadline: float = 5.0) -> bool:
        """The program ends: save what is not submitted, end the threads. Returns whether they ended in time."""
        self._submission.save_draft()
        self._submission.let_go()
        self._worklist.remove_files()
        return self._desk.jobs.close(deadline)

    # Connection

    def connect(self, address: Optional[str] = None, ca_file: Optional[Any] = None) -> None:
        """Connect; without an address to the one used last."""
        self._learning.forget()
        self._connection.connect(address, ca_file)

    def test_connection(self, address: str, ca_file: Optional[Any] = None) -> None:
        """Say whether a server answers there. No image is needed."""
        self._connection.test(address, ca_file)

    def login(self, user: str, password: str) -> None:
        """Log in; requests that waited for it go on."""
        self._connection.login(user, password)

    def disconnect(self) -> None:
        """Let the server go; the drawing stays."""
        self._connection.disconnect()

    # Cases

    def next_case(self) -> None:
        """Open the case that the strategy offers."""
        self._worklist.next()

    def skip_case(self) -> None:
        """Go on with the next without a label for this one."""
        self._worklist.skip()

    def open_case(self, case: str, tag: Optional[str] = None) -> None:
        """Open a case with the label of a tag; None takes a label that there is, "" none."""
        self._worklist.open(case, tag)

    def upload(self, path: Path, name: Optional[str] = None) -> None:
        """Put an image of one's own on the server, once, and work on it."""
        self._worklist.upload(path, name)

    def close_case(self) -> None:
        """Close the case; unsubmitted work stays as a draft."""
        self._worklist.close()
        if self.state.connection == "on":
            self._desk.call(
                "prefetch", lambda client, _c, _r: client.stop_prefetch(self._viewer), quiet=True, latest_only=True, lane="prefetch"
            )

    def refresh_cases(self) -> None:
        """Ask for the list of cases again."""
        self._worklist.refresh()

    def set_strategy(self, strategy: str) -> None:
        """How the next case is chosen."""
        self._desk.preferences.set("strategy", strategy)
        self._desk.update(strategy=strategy)

    def set_tag(self, tag: str) -> None:
        """Under which tag a label is submitted."""
        chosen = tag.strip() or "final"
        self._desk.preferences.set("tag", chosen)
        self._desk.update(tag=chosen)

    def set_review(self, on: bool) -> None:
        """Look at labels without the model."""
        if on:
            self.cancel()
        self._desk.update(review=on, tool="none" if on else self.state.tool)

    # Labels

    def select_label(self, name: str) -> None:
        """Prompts are for this label from now on."""
        if any(segment.name == name for segment in self.state.labels):
            self._desk.update(label=name)
            self._prompting.look()

    def next_label(self) -> None:
        """The next in the list."""
        names = [segment.name for segment in self.state.labels]
        if names:
            place = names.index(self.state.label) if self.state.label in names else -1
            self.select_label(names[(place + 1) % len(names)])

    def add_label(self, name: str) -> None:
        """A new label, with a value that no other has."""
        name = name.strip()
        if not name or self.state.case is None:
            self._desk.notify("info", tr("Open a case and type the label's name first."))
            return
        taken = {segment.value for segment in self.canvas.segments()} | set(self.state.info.labels.values() if self.state.info else ())
        try:
            self.canvas.add_segment(name, max(taken, default=0) + 1)
        except FedSCAError as error:
            self._desk.notify("error", error.message)
        self.refresh_labels()
        self.select_label(name)

    def refresh_labels(self) -> None:
        """The canvas's segments were changed by somebody else."""
        self._desk.update(labels=tuple(self.canvas.segments()))

    def set_locked(self, name: str, on: bool) -> None:
        """Whether nothing may change a label."""
        self.canvas.set_locked(name, on)
        self.refresh_labels()

    def set_visible(self, name: str, on: bool) -> None:
        """Whether a label is shown."""
        self.canvas.set_visible(name, on)
        self.refresh_labels()

    def toggle_visible(self) -> None:
        """Show or hide the chosen label."""
        segment = self.state.segment
        if segment is not None:
            self.set_visible(segment.name, not segment.visible)

    # Tools

    def set_tool(self, tool: str) -> None:
        """point, box, scribble, paint, erase or none."""
        if tool not in TOOLS:
            raise ValueError(f"tool {tool!r}, expected one of {', '.join(TOOLS)}")
        self._desk.update(tool=tool)

    def set_polarity(self, positive: bool) -> None:
        """+ or - for points and strokes."""
        self._desk.update(polarity=positive)

    def toggle_polarity(self) -> None:
        """+ becomes -, and the other way round."""
        self.set_polarity(not self.state.polarity)

    def set_mode(self, mode: str) -> None:
        """How the next slice's answers meet what is drawn: replace, add or subtract."""
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}, expected one of {', '.join(MODES)}")
        self._desk.update(mode=mode)

    def view_slice(self, axis: str, index: int) -> None:
        """This slice is in view: the server encodes from there outwards."""
        if (axis, index) == (self.state.axis, self.state.index):
            return
        self._desk.update(axis=axis, index=index)
        self._prompting.look()
        self._desk.later("prefetch", FETCH_AFTER, self._prefetch)

    # Prompts

    def prompts_on(self, axis: str, index: int, label: Optional[str] = None) -> PromptSet:
        """What to draw on a slice."""
        return self._prompting.on(axis, index, label)

    def add_point(self, ijk: Voxel, axis: str, positive: Optional[bool] = None) -> None:
        """A click on a slice perpendicular to `axis`."""
        self._told(lambda: self._prompting.add_point(ijk, axis, self.state.polarity if positive is None else positive))
        self._desk.update(axis=axis, index=pixel_of(axis, ijk)[0])

    def move_point(self, old: Voxel, new: Voxel, axis: str) -> None:
        """A point was dragged within its slice."""
        index = pixel_of(axis, old)[0]
        if pixel_of(axis, new)[0] == index and old != new:
            self._change(axis, index, self.prompts_on(axis, index).moved(old, new))

    def remove_point(self, ijk: Voxel, axis: str) -> None:
        """A point was deleted."""
        index = pixel_of(axis, ijk)[0]
        if any(point.ijk == ijk for point in self.prompts_on(axis, index).points):
            self._change(axis, index, self.prompts_on(axis, index).without_point(ijk))

    def set_box(self, axis: str, index: int, box: Optional[Sequence[int]]) -> None:
        """A box x0, y0, x1, y1 on a slice, corners in any order, cut to the slice; None takes it away."""
        geometry = self.canvas.geometry()
        if geometry is None:
            self._desk.notify("info", tr("Open a case first."))
            return
        rows, columns = geometry.slice_shape(axis)
        chosen = None
        if box is not None:
            x, y = sorted((int(box[0]), int(box[2]))), sorted((int(box[1]), int(box[3])))
            if x[1] < 0 or y[1] < 0 or x[0] >= columns or y[0] >= rows:
                self._desk.notify("warning", tr("That box lies outside of the image."))
                return
            chosen = (max(x[0], 0), max(y[0], 0), min(x[1], columns - 1), min(y[1], rows - 1))
        self._change(axis, index, self.prompts_on(axis, index).with_box(chosen))

    def add_scribble(self, axis: str, index: int, foreground: NDArray[np.bool_], background: NDArray[np.bool_]) -> None:
        """Strokes on a slice: masks (rows, columns), on and beside the structure."""
        if foreground.any() or background.any():
            self._change(axis, index, self.prompts_on(axis, index).with_scribble(foreground, background))

    def automatic(self, axis: str, index: int) -> None:
        """Let the model segment a slice without prompts."""
        self._change(axis, index, PromptSet(automatic=True))

    def reset_prompts(self) -> None:
        """Take the prompts of the slice in view away, and their mask."""
        self._told(lambda: self._prompting.reset(self.state.axis, self.state.index))

    def edited(self) -> None:
        """A person painted or erased by hand."""
        self._submission.drew()

    def paint(
        self, axis: str, index: int, box: Sequence[int], mask: NDArray[np.bool_], *, erase: bool = False, goes_on: bool = False
    ) -> None:
        """A stroke by hand: the pixels (rows, columns) of a box x0, y0, x1, y1 of a slice; `goes_on`: part of the stroke before."""
        self._told(lambda: self._prompting.paint(axis, index, (box[0], box[1], box[2], box[3]), mask, erase=erase, goes_on=goes_on))

    def undo(self) -> None:
        """Take the last action back: prompts and mask."""
        self._told(self._prompting.undo)

    def redo(self) -> None:
        """Do it again."""
        self._told(self._prompting.redo)

    def cancel(self) -> None:
        """Esc: end what is being waited for. What is drawn stays."""
        if self._spreading.cancel() or self._prompting.cancel():
            self._desk.notify("info", tr("Cancelled."))
        self._desk.not_again("open")
        if self._desk.jobs.cancel("open"):
            self._desk.not_busy("open")
            self._desk.update(progress=None)

    def propagate(self) -> None:
        """Carry the mask of the slice in view on to its neighbours."""
        self._told(self._spreading.propagate)

    def segment_volume(self) -> None:
        """Let the model segment every slice."""
        self._told(self._spreading.volume)

    # Results

    def submit(self) -> None:
        """Send the label to the server."""
        self._submission.submit()

    def take_draft(self) -> None:
        """Go on with unsubmitted work."""
        self._submission.take_draft()

    def drop_draft(self) -> None:
        """Forget it."""
        self._submission.drop_draft()

    def refresh_versions(self) -> None:
        """Ask for the list of versions."""
        self._learning.refresh_versions()

    def activate(self, version: str, reason: str = "") -> None:
        """Make another version (or `base`) serve."""
        self._learning.activate(version, reason)

    def accept_version(self) -> None:
        """The new version is good."""
        self.dismiss_notice()

    def warn(self, text: str) -> None:
        """A front end has something to say to the user."""
        self._desk.notify("warning", text)

    def dismiss_notice(self) -> None:
        """The notice was read."""
        self._desk.update(notice=None)

    def retry(self) -> None:
        """Do again what failed."""
        if self.state.connection in ("off", "lost"):
            self._connection.again()
        else:
            self._prompting.resend()

    def act(self, action: str) -> None:
        """What the button beside a notice does; `login` and `versions` are the front end's own."""
        known: Dict[str, Callable[[], None]] = {
            "retry": self.retry,
            "accept": self.accept_version,
            "draft": self.take_draft,
            "next": self.next_case,
            "submit": self.submit,
            "submit_empty": lambda: self._submission.submit(even_empty=True),
        }
        if action in known:
            known[action]()

    # Inside

    def _welcome(self, fresh: bool) -> None:
        if fresh:
            self._worklist.welcome()
        self._worklist.refresh()
        self._learning.welcome()
        self._prompting.resend()

    def _leave(self, for_another: bool) -> None:
        """The server is let go. What is drawn of its case belongs to it alone: for another server the case is closed."""
        self._submission.save_draft()
        self._spreading.cancel()
        self._prompting.let_go()
        self._submission.let_go()
        if for_another and self.state.case is not None:
            if self.state.unsaved:
                text = tr("{case} was closed: it belongs to {address}. Your work on it is kept on this computer and offered again there.")
                self._desk.notify("info", text.format(case=self.state.case, address=self.state.address))
            self._worklist.close()

    def _opened(self) -> None:
        self._spreading.cancel()
        self._prompting.clear()
        self._submission.opened()
        self._desk.later("prefetch", 0.0, self._prefetch)

    def _closing(self) -> None:
        self._submission.save_draft()
        self._spreading.cancel()
        self._prompting.clear()

    def _submitted(self, case: str, tag: str, reply: Submitted) -> None:
        self._worklist.submitted(case, tag)
        text = tr("Saved as “{tag}”.").format(tag=tag)
        text += " " + (tr("A tuning has started.") if reply.tuning_started else reply.reason)
        self._desk.notify("info", text.strip(), "next" if case == self.state.case else "")
        self._learning.watch()

    def _change(self, axis: str, index: int, prompts: PromptSet) -> None:
        self._told(lambda: self._prompting.change(axis, index, prompts))
        self._desk.update(axis=axis, index=index)

    def _told(self, action: Callable[[], None]) -> None:
        """Do something whose error the user is told: a label may have been removed in Slicer, say."""
        try:
            action()
        except FedSCAError as error:
            self._desk.notify("error", error.message)

    def _prefetch(self) -> None:
        state = self.state
        if state.connection != "on" or state.case is None or state.review:
            return
        case, axis, index = state.case, state.axis, state.index
        self._desk.call(
            "prefetch",
            lambda client, cancelled, _: client.prefetch(case, axis, index, self._viewer, cancelled),
            quiet=True,
            latest_only=True,
            lane="prefetch",
        )
