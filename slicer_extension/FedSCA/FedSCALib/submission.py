"""Submitting a label, and keeping it on this computer until the server has it. Main thread only."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Optional

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
        self._taken: Optional[Draft] = None
        self._changes = 0
        self._drafted = 0
        self._not_before = 0.0

    def opened(self) -> None:
        """A case is open: is there unsubmitted work for it?"""
        desk = self._desk
        self._drafts.begin()
        self._taken = None
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
        desk.later("draft", max(DRAFT_SECONDS, self._not_before - desk.clock()), self.save_draft)

    def save_draft(self) -> None:
        """Write the draft now, if anything changed since the last."""
        desk, case = self._desk, self._desk.state.case
        desk.not_later("draft")
        if case is None or self._drafted == self._changes or not desk.state.unsaved:
            return
        began = desk.clock()
        try:
            self._drafts.save(desk.state.address, case, desk.state.tag, self._prompting.version, desk.canvas.export_labels)
        except DraftError as error:
            desk.notify("warning", error.message)
        except FedSCAError as error:
            desk.notify("warning", tr("Your work could not be saved on this computer: {reason}").format(reason=error.message))
        else:
            self._drafted = self._changes
        self._not_before = desk.clock() + DRAFT_SHARE * (desk.clock() - began)

    def take_draft(self) -> None:
        """Go on with the unsubmitted work that was offered."""
        desk, offer = self._desk, self._desk.state.draft_offer
        if offer is None:
            return
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
        try:
            if desk.canvas.empty() and not even_empty:
                desk.notify("warning", tr("Nothing is drawn. Submit this case as one without any structure?"), "submit_empty")
                return
            folder = Path(tempfile.mkdtemp(prefix="fedsca-submit-"))
            file = folder / "label.nii.gz"
            label_info = desk.canvas.export_labels(file)
        except (FedSCAError, OSError) as error:
            desk.notify("error", getattr(error, "message", str(error)))
            return
        self.save_draft()
        self._send(case, desk.state.tag, file, label_info, self._prompting.version or None, self._changes)

    def _send(self, case: str, tag: str, file: Path, label_info: Any, version: Optional[str], changes: int) -> None:
        desk = self._desk
        desk.update(submitting=True)

        def work(client: Client, _cancelled: threading.Event, _report: Any) -> Submitted:
            return client.submit_label(case, file, tag=tag, label_info=label_info, version=version, client_id=self._client_id)

        def done(reply: Submitted) -> None:
            shutil.rmtree(file.parent, ignore_errors=True)
            desk.update(submitting=False)
            if desk.state.case == case:
                if changes == self._changes:
                    desk.update(unsaved=False, case_tag=tag)
                    self._drafts.drop_own(desk.state.address, case)
                if self._taken is not None:
                    self._drafts.drop(self._taken)
                    self._taken = None
            self._submitted(case, tag, reply)

        def failed(error: Exception) -> bool:
            if isinstance(error, (ConnectionProblem, LoginNeeded)):
                return False  # `again` sends the same file when the server is back: saving a label twice is saving it once
            shutil.rmtree(file.parent, ignore_errors=True)
            desk.update(submitting=False)
            text = error.message if isinstance(error, FedSCAError) else str(error)
            desk.notify("error", tr("The label was not saved: {reason} It is still here.").format(reason=text), "submit")
            return True

        desk.call(
            KIND,
            work,
            done,
            failed=failed,
            busy=tr("Submitting {case}").format(case=case),
            again=lambda: self._send(case, tag, file, label_info, version, changes),
            lane=KIND,
        )
