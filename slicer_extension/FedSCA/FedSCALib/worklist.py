"""Which case is open: the next by strategy, one from the list, or a file of one's own. Main thread only."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from FedSCALib.client import Client
from FedSCALib.desk import Desk
from FedSCALib.errors import FedSCAError
from FedSCALib.packets import Case
from FedSCALib.translate import tr

LAST_RESORT = {"target": 1}


@dataclass(frozen=True)
class Opened:
    """A case's files on this computer: its image, and the label of a tag with the names that were saved with it (value -> name)."""

    case: str
    image: Path
    tag: str = ""
    label: Optional[Path] = None
    names: Mapping[int, str] = field(default_factory=dict)


class Worklist:
    """Opens cases.

    Args:
        opened: called when another case is on the canvas; `closing` before one leaves it.
    """

    def __init__(self, desk: Desk, opened: Callable[[], None], closing: Callable[[], None]) -> None:
        self._desk = desk
        self._opened = opened
        self._closing = closing
        self._skipped: List[str] = []
        self._folders: List[Path] = []

    def refresh(self) -> None:
        """Ask for the list of cases."""
        self._desk.call(
            "cases",
            lambda client, cancelled, _: client.cases(cancelled),
            self._take_cases,
            again=self.refresh,
            latest_only=True,
            quiet=True,
        )

    def welcome(self) -> None:
        """A server is there, and has told its strategies."""
        desk = self._desk
        self._skipped.clear()
        strategies = desk.state.info.strategies if desk.state.info is not None else ()
        wanted = desk.preferences.get("strategy")
        chosen = wanted if wanted in strategies else (strategies[0] if strategies else "")
        desk.update(strategies=strategies, strategy=chosen, tag=desk.preferences.get("tag", "final") or "final")

    def next(self) -> None:
        """Open the case that the strategy offers."""
        desk = self._desk
        strategy = desk.state.strategy or "random"
        skipped = tuple(self._skipped)

        def work(client: Client, cancelled: threading.Event, _report: Any) -> Optional[str]:
            found = client.next_case(strategy, cancelled)
            if found is not None and found in skipped:  # a strategy that is fixed offers it again: take the next that was not skipped
                found = next((case.id for case in client.cases(cancelled) if not case.labelled and case.id not in skipped), None)
            return found

        def done(case: Optional[str]) -> None:
            if case is None:
                self._nothing_left()
            else:
                self.open(case, tag="")

        desk.call("open", work, done, busy=tr("Choosing the next case"), again=self.next, latest_only=True)

    def skip(self) -> None:
        """Leave the open case as it is on the server, and go on with the next."""
        case = self._desk.state.case
        if case is not None and case not in self._skipped:
            self._skipped.append(case)
        self.next()

    def open(self, case: str, tag: Optional[str] = None) -> None:
        """Open a case, with the label of a tag: None takes one that there is, "" none."""
        desk = self._desk
        known = next((item for item in desk.state.cases if item.id == case), Case(case))
        if tag is None:
            tag = desk.state.tag if desk.state.tag in known.tags else (known.tags[0] if known.tags else "")
        folder = Path(tempfile.mkdtemp(prefix="fedsca-"))
        self._folders.append(folder)

        def work(client: Client, cancelled: threading.Event, report: Any) -> Opened:
            image = client.download_image(case, folder, lambda size, total: report(size / total if total else None), cancelled)
            if not tag:
                return Opened(case, image)
            label = client.download_label(case, tag, folder / "label", cancelled)
            return Opened(case, image, tag, label, client.label_names(case, tag, cancelled))

        def failed(error: Exception) -> bool:
            self._remove(folder)
            return False

        def done(opened: Opened) -> None:
            try:
                self._show(opened)
            finally:
                self.remove_files()  # the canvas holds the image now: no patient's file stays behind, even if this program is killed

        desk.call(
            "open",
            work,
            done,
            failed=failed,
            progress=lambda fraction: desk.update(progress=fraction),
            busy=tr("Loading {case}").format(case=case),
            again=lambda: self.open(case, tag),
            latest_only=True,
        )

    def upload(self, path: Path, name: Optional[str] = None) -> None:
        """Put a file of one's own on the server, once, and open it."""
        desk = self._desk
        path = Path(path)
        if not path.is_file():
            desk.notify("error", tr("There is no file {path}.").format(path=path))
            return
        case = case_name(name or path.name)

        def work(client: Client, cancelled: threading.Event, report: Any) -> str:
            if any(item.id == case for item in client.cases(cancelled)):  # asked now: the server would replace the other image
                text = tr("The server has a case {case} already. Rename the file, or open the case from the list.")
                raise FedSCAError(text.format(case=case))
            return client.upload_image(path, case, lambda size, total: report(size / total if total else None), cancelled)

        def done(stored: str) -> None:
            cases = tuple(sorted((*desk.state.cases, Case(stored)), key=lambda item: item.id.casefold()))
            desk.update(progress=None, cases=cases)
            self.refresh()
            self._show(Opened(stored, path))

        desk.call(
            "open",
            work,
            done,
            progress=lambda fraction: desk.update(progress=fraction),
            busy=tr("Uploading {case}").format(case=case),
            again=lambda: self.upload(path, name),
            latest_only=True,
        )

    def close(self) -> None:
        """Close the case; what was not submitted stays as a draft."""
        desk = self._desk
        if desk.state.case is None:
            return
        self._closing()
        desk.canvas.close_image()
        desk.update(case=None, case_tag="", labels=(), label="", unsaved=False, draft_offer=None, progress=None)
        self.remove_files()

    def remove_files(self) -> None:
        """The downloaded files are no longer needed."""
        for folder in list(self._folders):
            self._remove(folder)

    def submitted(self, case: str, tag: str) -> None:
        """The case has a label now."""
        cases = tuple(Case(item.id, tuple(sorted({*item.tags, tag}))) if item.id == case else item for item in self._desk.state.cases)
        self._desk.update(cases=cases, tags=all_tags(cases, self._desk.state.tag))

    def _take_cases(self, cases: List[Case]) -> None:
        self._desk.update(cases=tuple(cases), tags=all_tags(cases, self._desk.state.tag))

    def _nothing_left(self) -> None:
        desk = self._desk
        if self._skipped:
            count = len(self._skipped)
            self._skipped.clear()
            desk.notify(
                "info", tr("No more cases to label but the {count} that you skipped: press Next to see those again.").format(count=count)
            )
        else:
            desk.notify("info", tr("No more cases: every case that the server offers has a label. Thank you."))

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folders = [item for item in self._folders if item != folder]

    def _show(self, opened: Opened) -> None:
        """Bring a case onto the canvas, or say why that is not possible."""
        desk = self._desk
        if desk.state.case is not None:
            self._closing()
        try:
            desk.canvas.open_image(opened.image, opened.case)
        except FedSCAError as error:
            desk.notify("error", error.message)
            return
        labels = (desk.state.info.labels if desk.state.info is not None else {}) or LAST_RESORT
        problem = None
        try:
            for name, value in labels.items():
                desk.canvas.add_segment(name, value)
            if opened.label is not None:
                desk.canvas.load_labels(opened.label, names_of(labels, opened.names))
        except FedSCAError as error:
            problem = error.message
        segments = tuple(desk.canvas.segments())
        geometry = desk.canvas.geometry()
        middle = geometry.size_ijk[2] // 2 if geometry is not None else 0
        desk.update(
            case=opened.case,
            case_tag=opened.tag,
            labels=segments,
            label=segments[0].name if segments else "",
            axis="k",
            index=middle,
            unsaved=False,
            progress=None,
            draft_offer=None,
            notice=None,
        )
        self._opened()
        if problem is not None:
            desk.notify("error", tr("The image is open, but its label is not: {reason}").format(reason=problem))


def names_of(labels: Mapping[str, int], told: Mapping[int, str]) -> Dict[int, str]:
    """What the values of a label file are called.

    Args:
        labels: the server's, name -> value: these hold.
        told: value -> name as whoever saved the label said: holds for values and names that the server has no other use for.
    """
    names = {value: name for name, value in labels.items()}
    for value, name in told.items():
        if value not in names and name not in names.values():
            names[value] = name
    return names


def case_name(text: str) -> str:
    """A case's name out of a file's name: without its ending, letters that the server takes."""
    stem = re.sub(r"(\.nii\.gz|\.seg\.nrrd|\.[A-Za-z0-9]{1,5})$", "", Path(text).name)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._")[:100] or "case"


def all_tags(cases: Any, chosen: str) -> Tuple[str, ...]:
    """Every tag that there is, `final` first."""
    found = {tag for case in cases for tag in case.tags} | {chosen, "final"}
    return tuple(sorted(found, key=lambda tag: (tag != "final", tag)))
