"""What the datastore's cases are for: which may be offered for labelling, and how many labels there are of each kind. Reads only."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from monailabel_app.guarded_datastore import GuardedDatastore
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import Role, load_patients, load_split, role_of

FINAL_TAG = "final"
LABEL_INFO = "fedsca"
"""Key under which the datastore's index keeps what `label_intake` found out about a label."""


@dataclass(frozen=True)
class LabelCounts:
    """Final labels by what their cases are for; `unusable` ones (not on their image's grid) are counted nowhere else."""

    train: int = 0
    validation: int = 0
    test: int = 0
    unusable: int = 0

    @property
    def total(self) -> int:
        """All final labels."""
        return self.train + self.validation + self.test + self.unusable

    def to_dict(self) -> dict[str, int]:
        """JSON-ready dictionary."""
        return {**asdict(self), "total": self.total}


class CaseRoles:
    """Roles of one site's cases; `split.json` and `patients.json` are read anew at every call, they are small."""

    def __init__(self, site: SiteDirectory, settings: SiteSettings) -> None:
        self._site = site
        self._settings = settings

    def roles(self, cases: Iterable[str]) -> dict[str, Role]:
        """Role of each case.

        Raises:
            SettingError: split.json or patients.json cannot be used.
        """
        split, patients = load_split(self._site), load_patients(self._site)
        fraction = self._settings.validation_fraction
        return {case: role_of(case, split=split, patients=patients, fraction=fraction) for case in cases}

    def offered(self, datastore: GuardedDatastore) -> list[str]:
        """Unlabelled cases, sorted by name, without those that are kept for testing."""
        return sorted(case for case, role in self.roles(datastore.get_unlabeled_images()).items() if role != "test")

    def label_counts(self, datastore: GuardedDatastore) -> LabelCounts:
        """Count the final labels."""
        labelled = datastore.get_labeled_images()
        usable = [case for case in labelled if _usable(datastore.get_label_info(case, FINAL_TAG))]
        roles = list(self.roles(usable).values())
        return LabelCounts(roles.count("train"), roles.count("validation"), roles.count("test"), unusable=len(labelled) - len(usable))


def _usable(info: Any) -> bool:
    found = info.get(LABEL_INFO) if isinstance(info, dict) else None
    return bool(found.get("usable", True)) if isinstance(found, dict) else True
