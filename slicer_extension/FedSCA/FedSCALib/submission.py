"""Submitting a label, and keeping it on this computer until the server has it. Main thread only."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from FedSCALib.client import Client
from FedSCALib.desk import Desk
from FedSCALib.drafts import Draft, Drafts
from FedSCALib.errors import ConnectionProblem, DraftError, FedSCAError, LoginNeeded
from FedSCALib.packets import Submitted
from FedSCALib.prompting import Prompting
from FedSCALib.translate import tr

DRAFT_SECONDS = 1.0
DRAFT_SHARE = 20.0  # saving a draft may take this part of the time at most: one in twenty
KIND = "submit"
LABEL = "label.nii.gz"


@dataclass(frozen=True)
class Sending:
    """A label on its way.

    Attributes:
        folder: holds the label file alone.
        opening, changes: which opening of a case it was, and how much had been changed then.
        drafts: that hold the same work.
    """

    case: str
    tag: str
    folder: Path
    label_info: List[Dict[str, Any]]
    version: Optional[str]
    opening: int
    changes: int
    drafts: Tuple[Draft, ...]


class Submission:
    """Drafts and submits of the open case.

    Args:
        submitted: called with case, tag and the server's reply.
    """

    def __init__(
        self, desk: Desk, prompting: Prompting, drafts: Drafts, submitted: Callable[[str, str, Submitted], None], client_id: str
    ) -> None:
        self._desk = desk
        self._prompting = prompting
        self._drafts = drafts
        self._submitted = submitted
        self._client_id = client_id
        self._own: Optional[Draft] = None
        self._taken: Optional[Draft] = None
        self._sending: Optional[Sending] = None
        self._opening = 0
        self._changes = 0
        self._drafted = 0
        self._not_before = 0.0

    def opened(self) -> None:
        """A case is open: is there unsubmitted work for it?"""
        desk = self._desk
        self._drafts.begin()
        self._own = self._taken = None
        self._opening += 1
        self._changes = self._drafted = 0
        desk.not_later("draft")
        if desk.state.case is not None:
            offer = self._drafts.find(desk.state.address, desk.state.case)
            desk.update(draft_offer=offer)
            if offer is not None:
                desk.notify("info", tr("There is unsubmitted work for this case on this computer. Take it, or go on without."), "draft")

    def drew(self) -> None:
        """Something was changed: save it soon."""
        desk = self._desk
        if desk.state.case is None:
            return
        self._changes += 1
        desk.update(unsaved=True)
        desk.by("draft", max(DRAFT_SECONDS, self._not_before - desk.clock()), self.save_draft)

    def save_draft(self) -> None:
        """Write the draft now, if anything changed since the last."""
        desk, case = self._desk, self._desk.state.case
        desk.not_later("draft")
        if case is None or self._drafted == self._changes or not desk.state.unsaved:
            return
        began = desk.clock()
        try:
            version, prompts = self._prompting.version, self._prompting.to_json()
            self._own = self._drafts.save(desk.state.address, case, desk.state.tag, version, prompts, desk.canvas.export_labels)
        except DraftError as error:
            desk.notify("warning", error.message)
        except FedSCAError as error:
            desk.notify("warning", tr("Your work could not be saved on this computer: {reason}").format(reason=error.message))
        else:
            self._drafted = self._changes
        self._not_before = desk.clock() + DRAFT_SHARE * (desk.clock() - began)

    def take_draft(self) -> None:
        """Go on with the unsubmitted work that was offered. What was drawn meanwhile stays as a draft of its own, offered another time."""
        desk, offer = self._desk, self._desk.state.draft_offer
        if offer is None:
            return
        if desk.state.unsaved:
            self.save_draft()
            if self._drafted != self._changes:
                return  # there is no room for it, which the user has been told: nothing may go over it
            self._drafts.begin()
            self._own = None
        try:
            taken = {segment.value for segment in desk.canvas.segments()}
            for value, name in offer.names.items():
                if name not in {segment.name for segment in desk.canvas.segments()}:
                    desk.canvas.add_segment(name, value if value not in taken else max(taken) + 1)
            desk.canvas.load_labels(offer.labels, offer.names)
        except FedSCAError as error:
            desk.notify("error", error.message)
            return
        self._prompting.clear()
        self._prompting.version = offer.version
        self._prompting.take(offer.prompts)
        self._taken = offer
        self._changes += 1
        desk.update(draft_offer=None, unsaved=True, notice=None, labels=tuple(desk.canvas.segments()))
        self.save_draft()

    def drop_draft(self) -> None:
        """Forget the unsubmitted work that was offered."""
        offer = self._desk.state.draft_offer
        if offer is not None:
            self._drafts.drop(offer)
            self._desk.update(draft_offer=None, notice=None)

    def submit(self, *, even_empty: bool = False) -> None:
        """Send the label. It stays here until the server has confirmed it."""
        desk, case = self._desk, self._desk.state.case
        if case is None or desk.state.submitting:
            return
        if desk.client is None:
            desk.notify("warning", tr("Connect to your hospital's server first. Your work is kept on this computer."))
            return
        if desk.canvas.empty() and not even_empty:
            desk.notify("warning", tr("Nothing is drawn. Submit this case as one without any structure?"), "submit_empty")
            return
        folder = Path(tempfile.mkdtemp(prefix="fedsca-submit-"))
        try:
            label_info = desk.canvas.export_labels(folder / LABEL)
        except (FedSCAError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            desk.notify("error", getattr(error, "message", str(error)))
            return
        self.save_draft()
        drafts = tuple(draft for draft in (self._own, self._taken) if draft is not None)
        version = self._prompting.version or None
        self._send(Sending(case, desk.state.tag, folder, label_info, version, self._opening, self._changes, drafts))

    def let_go(self) -> None:
        """The server is let go: what was not sent is not sent any more. Its draft stays."""
        if self._sending is not None:
            shutil.rmtree(self._sending.folder, ignore_errors=True)
            self._sending = None
        self._desk.update(submitting=False)

    def _send(self, sending: Sending) -> None:
        desk = self._desk
        self._sending = sending
        desk.update(submitting=True)

        def work(client: Client, _cancelled: threading.Event, _report: Any) -> Submitted:
            return client.submit_label(
                sending.case,
                sending.folder / LABEL,
                tag=sending.tag,
                label_info=sending.label_info,
                version=sending.version,
                client_id=self._client_id,
            )

        def done(reply: Submitted) -> None:
            self.let_go()
            self._confirmed(sending)
            self._submitted(sending.case, sending.tag, reply)

        def failed(error: Exception) -> bool:
            if isinstance(error, (ConnectionProblem, LoginNeeded)):
                return False  # `again` sends the same file when the server is back: saving a label twice is saving it once
            self.let_go()
            text = error.message if isinstance(error, FedSCAError) else str(error)
            desk.notify("error", tr("The label was not saved: {reason} It is still here.").format(reason=text), "submit")
            return True

        busy = tr("Submitting {case}").format(case=sending.case)
        desk.call(KIND, work, done, failed=failed, busy=busy, again=lambda: self._send(sending), lane=KIND)

    def _confirmed(self, sending: Sending) -> None:
        """The server has the label. By now another case may be open, or the same one anew, or more may be drawn."""
        desk = self._desk
        still_open = desk.state.case == sending.case and self._opening == sending.opening
        if still_open and sending.changes == self._changes:
            desk.update(unsaved=False, case_tag=sending.tag)
        elif still_open:
            return  # the draft will hold what was drawn since
        for draft in sending.drafts:
            self._drafts.drop_unless_newer(draft)
            if desk.state.draft_offer is not None and desk.state.draft_offer.file == draft.file:
                desk.update(draft_offer=None, notice=None)
