"""Where everything of one site lies: the one place where the MONAI Label app and the federation meet. No torch.

<site>/site.json           the site's settings (`sam_adapters.settings`)
<site>/registry.sqlite     versions, states, decisions
<site>/adapters/<id>/      immutable PEFT folders, named by content hash
<site>/labels.jsonl        append-only label log
<site>/audit.jsonl         append-only audit log (`sam_adapters.audit`)
<site>/studies/            MONAI Label local datastore, labels in studies/labels/<tag>/
<site>/federation/         keys and membership (`fed_backend.enrolment`): back it up, and let nobody else read it
<site>/work/               checkpoints, progress and leftovers that may be deleted while nothing runs
<site>/split.json          optional: {"train": [...], "val": [...], "test": [...]}
<site>/sent-labels.json    with studies on a DICOMweb server: the labels that it has (`monailabel_app.label_delivery`)
<site>/patients.json       optional: {"<case>": "<patient>"}, so that one patient never stands on both sides of a split
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sam_adapters.errors import SettingError

SITE_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_site_name(name: str) -> str:
    """Return `name` if it can serve as a site's name (and as a file name), else raise SettingError."""
    if not SITE_NAME_PATTERN.fullmatch(name):
        raise SettingError(
            f"Site name {name!r} cannot be used: expected 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit."
        )
    return name


@dataclass(frozen=True)
class SiteDirectory:
    """Paths of one site. `studies` may lie elsewhere (`monailabel start_server --studies`)."""

    root: Path
    studies_override: Path | None = None

    @classmethod
    def open(cls, root: Path, studies: Path | None = None) -> "SiteDirectory":
        """Make the folder (mode 0700, it holds clinical work) and what must exist inside; idempotent."""
        site = cls(root.resolve(), studies.resolve() if studies else None)
        site.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (site.adapters, site.work):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not os.access(site.root, os.W_OK):
            raise SettingError(f"Site directory {site.root} is not writable: give this user write access or name another one.")
        return site

    @property
    def settings_file(self) -> Path:
        return self.root / "site.json"

    @property
    def registry_file(self) -> Path:
        return self.root / "registry.sqlite"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def label_log_file(self) -> Path:
        return self.root / "labels.jsonl"

    @property
    def audit_file(self) -> Path:
        return self.root / "audit.jsonl"

    @property
    def studies(self) -> Path:
        return self.studies_override or self.root / "studies"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def tuning_progress_file(self) -> Path:
        """Progress of the running (or last) local tuning, rewritten atomically; see `local_tuning`."""
        return self.work / "tuning.json"

    @property
    def tuning_checkpoint_file(self) -> Path:
        return self.work / "tuning.safetensors"

    @property
    def split_file(self) -> Path:
        return self.root / "split.json"

    @property
    def patients_file(self) -> Path:
        return self.root / "patients.json"
