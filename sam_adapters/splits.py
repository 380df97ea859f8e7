"""Which cases are trained on, which validate and which are only tested. No torch.

A site may fix the split in `split.json` ({"train": [...], "val": [...], "test": [...]}, lists of case names). Everything else goes by a
hash of the patient: the same patient is on the same side at every start of every process, whatever else is in the studies folder.
`patients.json` ({"<case>": "<patient>"}) says which cases are of one patient; a case that is not in it is its own patient.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam_adapters.errors import SettingError
from sam_adapters.site_directory import SiteDirectory

Role = Literal["train", "validation", "test"]
VALIDATION_SALT = "fedsca-validation-1"

_SPLIT_KEYS: dict[str, Role] = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """A fixed split by case name; the three sets are disjoint."""

    train: frozenset[str]
    validation: frozenset[str]
    test: frozenset[str]

    def role(self, case: str) -> Role | None:
        """Where `case` is listed; None when it is not."""
        if case in self.train:
            return "train"
        if case in self.validation:
            return "validation"
        return "test" if case in self.test else None


def hash_fraction(text: str, *, salt: str) -> float:
    """A number in [0, 1), uniform over texts: the first 8 bytes of sha256(salt, zero byte, text), big-endian, its upper 53 bits / 2^53."""
    digest = hashlib.sha256(salt.encode() + b"\0" + text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def is_validation(patient: str, *, fraction: float = 0.2, salt: str = VALIDATION_SALT) -> bool:
    """Whether a patient's cases are kept for validation: a hash of the name alone, so it never changes.

    A patient who validates at one fraction also validates at every larger one.

    Raises:
        SettingError: fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise SettingError(f"Validation fraction is {fraction!r}, expected 0 to 1.")
    return hash_fraction(patient, salt=salt) < fraction


def patient_of(case: str, patients: Mapping[str, str]) -> str:
    """The patient of a case; a case that `patients.json` does not name is its own patient."""
    return patients.get(case, case)


def role_of(case: str, *, split: Split | None, patients: Mapping[str, str], fraction: float = 0.2) -> Role:
    """What a case is for.

    A case listed in the split has its listed role. A case that is not listed follows the listed cases of its patient, so that one patient
    never stands on both sides; else the hash of its patient decides between training and validation.
    """
    patient = patient_of(case, patients)
    if split is not None:
        listed = split.role(case) or next(
            (role for other, name in patients.items() if name == patient and (role := split.role(other)) is not None), split.role(patient)
        )
        if listed is not None:
            return listed
    return "validation" if is_validation(patient, fraction=fraction) else "train"


def load_split(site: SiteDirectory) -> Split | None:
    """The site's `split.json`; None when there is none.

    Raises:
        SettingError: the file cannot be used: not JSON, an unknown list, a case in two lists, or a patient on two sides.
    """
    path = site.split_file
    value = _read_object(path, '{"train": [...], "val": [...], "test": [...]}')
    if value is None:
        return None
    unknown = sorted(set(value) - set(_SPLIT_KEYS))
    if unknown:
        raise SettingError(f"{path} has unknown lists {', '.join(unknown)}: expected some of train, val, test.")
    lists = {role: _names(path, key, value.get(key, [])) for key, role in _SPLIT_KEYS.items()}
    split = Split(lists["train"], lists["validation"], lists["test"])
    _check_disjoint(path, split, load_patients(site))
    return split


def load_patients(site: SiteDirectory) -> dict[str, str]:
    """The site's `patients.json`, case -> patient; empty when there is none.

    Raises:
        SettingError: the file is not a JSON object of names.
    """
    path = site.patients_file
    value = _read_object(path, '{"<case>": "<patient>"}')
    if value is None:
        return {}
    for case, patient in value.items():
        if not case or not isinstance(patient, str) or not patient:
            raise SettingError(f"{path} gives case {case!r} the patient {patient!r}, expected a name in quotes.")
    return {str(case): str(patient) for case, patient in value.items()}


def _read_object(path: Path, expected: str) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read ({error}): expected a UTF-8 text file {expected}.") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingError(f"{path} is not JSON ({error}): expected {expected}.") from error
    if not isinstance(value, dict):
        raise SettingError(f"{path} holds a {type(value).__name__}, expected a JSON object {expected}.")
    return value


def _names(path: Path, key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise SettingError(f"{path}: list {key!r} is a {type(value).__name__}, expected a list of case names.")
    for name in value:
        if not isinstance(name, str) or not name:
            raise SettingError(f"{path}: list {key!r} holds {name!r}, expected case names in quotes.")
    if len(set(value)) != len(value):
        twice = next(name for name in value if value.count(name) > 1)
        raise SettingError(f"{path}: list {key!r} names case {twice!r} twice: remove one.")
    return frozenset(value)


def _check_disjoint(path: Path, split: Split, patients: Mapping[str, str]) -> None:
    """Refuse a case in two lists, and cases of one patient in two lists."""
    role_by_case: dict[str, Role] = {}
    side: dict[str, tuple[str, Role]] = {}
    listed: tuple[tuple[Role, frozenset[str]], ...] = (("train", split.train), ("validation", split.validation), ("test", split.test))
    for role, cases in listed:
        for case in sorted(cases):
            if case in role_by_case:
                raise SettingError(f"{path} lists case {case!r} under {role_by_case[case]} and {role}: keep it in one list.")
            role_by_case[case] = role
            other, other_role = side.setdefault(patient_of(case, patients), (case, role))
            if other_role != role:
                raise SettingError(
                    f"{path} puts cases {other!r} ({other_role}) and {case!r} ({role}) of patient {patient_of(case, patients)!r} "
                    "on two sides: keep a patient on one side."
                )
