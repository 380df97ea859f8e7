"""Unsubmitted work on this computer: a label file and a few facts, kept until the server confirmed the label.

A draft is a description (JSON) that names a label file beside it. The label file is complete before the description names it, and older
files go only after that, so a power cut leaves the earlier draft or the new one. Every opening of a case writes a draft of its own: work
that is offered again is never overwritten before somebody decided about it.
Main thread only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from FedSCALib.errors import DraftError
from FedSCALib.preferences import write_atomically
from FedSCALib.translate import tr

FORMAT = 1
LABEL_FILE = "labels-{token}-{number}.nii.gz"  # mostly zeros: writing it compressed is two to three times quicker


@dataclass(frozen=True)
class Draft:
    """Work that was not submitted.

    Attributes:
        saved: seconds since 1970.
        names: value in the label file -> name of the segment.
        version: adapter version that proposed the last mask, or "".
        prompts: as `kept_prompts` reads them.
    """

    file: Path
    labels: Path
    case: str
    tag: str
    saved: float
    names: Dict[int, str]
    version: str
    prompts: List[Any]


class Drafts:
    """The drafts in a folder of this computer.

    Args:
        folder: the user's own (others should not be able to read it): labels are medical data.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._token = uuid.uuid4().hex[:12]
        self._number = 0

    def begin(self) -> None:
        """A case is opened: from now on drafts are new ones."""
        self._token = uuid.uuid4().hex[:12]
        self._number = 0

    def save(
        self, address: str, case: str, tag: str, version: str, prompts: List[Any], export: Callable[[Path], List[Dict[str, Any]]]
    ) -> Draft:
        """Write the work as it is now; `export` writes the labels to a file and returns label_info.

        Raises:
            DraftError: the disk does not take it; the draft from before is still there.
        """
        place = self._place(address, case)
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._number += 1
            labels = place / LABEL_FILE.format(token=self._token, number=self._number)
            names = {int(item["idx"]): str(item["name"]) for item in export(labels)}
            _flush(labels)
            draft = Draft(place / f"draft-{self._token}.json", labels, case, tag, self._clock(), names, version, prompts)
            told: Dict[str, Any] = {
                "format": FORMAT,
                "case": case,
                "tag": tag,
                "saved": draft.saved,
                "labels": labels.name,
                "version": version,
            }
            told.update(names={str(value): name for value, name in names.items()}, prompts=prompts)
            write_atomically(draft.file, json.dumps(told).encode())
        except OSError as error:
            raise DraftError(
                tr("Your work could not be saved on this computer ({reason}). Submit it, or make room.").format(
                    reason=error.strerror or error
                )
            ) from error
        for other in place.glob(f"labels-{self._token}-*"):
            if other != labels:
                other.unlink(missing_ok=True)
        return draft

    def find(self, address: str, case: str) -> Optional[Draft]:
        """The newest draft of a case that can be read, or None."""
        found = [draft for draft in map(_read, self._place(address, case).glob("draft-*.json")) if draft is not None and draft.case == case]
        return max(found, key=lambda draft: draft.saved, default=None)

    def drop(self, draft: Draft) -> None:
        """Forget a draft, and its label file."""
        draft.file.unlink(missing_ok=True)
        draft.labels.unlink(missing_ok=True)

    def drop_unless_newer(self, draft: Draft) -> None:
        """Forget a draft, but not one that has been saved in its place since."""
        there = _read(draft.file)
        if there is None or there.saved <= draft.saved:
            self.drop(draft)

    def _place(self, address: str, case: str) -> Path:
        digest = hashlib.sha256(f"{address}\n{case}".encode()).hexdigest()[:16]
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', case)[:40].strip('.') or 'case'}-{digest}"


def _read(file: Path) -> Optional[Draft]:
    try:
        told = json.loads(file.read_bytes())
        if told["format"] != FORMAT:
            return None
        labels = file.parent / Path(str(told["labels"])).name
        names = {int(value): str(name) for value, name in told["names"].items()}
        prompts = told.get("prompts")
        saved, version = float(told["saved"]), str(told["version"])
        draft = Draft(
            file, labels, str(told["case"]), str(told["tag"]), saved, names, version, prompts if isinstance(prompts, list) else []
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return draft if labels.is_file() else None


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
