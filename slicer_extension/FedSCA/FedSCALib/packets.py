"""The server's replies as values. Unknown keys are ignored (a newer server may send more); a needed one missing is a `BadReply`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.errors import BadReply
from FedSCALib.translate import tr
from FedSCALib.wire import Box, read_box, unpack

BASE = "base"


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        text = tr("The server's answer ({what}) is not what this version understands. Is it a FedSCA Label server of the same version?")
        raise BadReply(text.format(what=what))
    return value


def _text(value: Mapping[str, Any], key: str, what: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        text = tr("The server's answer ({what}) lacks “{key}”. Is it a FedSCA Label server of the same version?")
        raise BadReply(text.format(what=what, key=key))
    return found


def _whole(value: Mapping[str, Any], key: str, default: int = 0) -> int:
    found = value.get(key, default)
    return int(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else default


def _dict(value: Any) -> Dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Info:
    """`GET /info/`: what the server offers.

    Attributes:
        labels: names of the structures, and their values in label files where the server tells them (else 1, 2, …).
        strategies: names of the ways to choose the next case, the default first.
        models: names of the models.
    """

    name: str
    labels: Dict[str, int]
    strategies: Tuple[str, ...]
    models: Tuple[str, ...]

    @classmethod
    def from_json(cls, value: Any) -> Info:
        told = _object(value, "description")
        models = _dict(told.get("models"))
        labels = told.get("labels")
        if not labels:
            labels = next((model.get("labels") for model in models.values() if isinstance(model, dict) and model.get("labels")), {})
        if isinstance(labels, dict):
            numbered = {str(name): number if isinstance(number, int) else place for place, (name, number) in enumerate(labels.items(), 1)}
        else:
            numbered = {str(name): place for place, name in enumerate(labels or [], 1)}
        return cls(str(told.get("name") or "MONAI Label"), numbered, tuple(_dict(told.get("strategies"))), tuple(models))


@dataclass(frozen=True)
class Tuning:
    """What the server says of its tuning.

    Attributes:
        fraction: 0..1 while one is running, else None.
        sentence: what it is doing, or when the next begins.
        version: the version that the last one made, or None.
        last: id of the last tuning, 0 where there was none; `status` how it ended.
    """

    running: bool
    waiting: int
    fraction: Optional[float]
    sentence: str
    last: int
    status: str
    version: Optional[str]
    failure: str

    @classmethod
    def from_json(cls, value: Any) -> Tuning:
        told = _dict(value)
        progress, last = _dict(told.get("progress")), _dict(told.get("last"))
        running = bool(told.get("running"))
        steps, step = _whole(progress, "steps"), _whole(progress, "step")
        fraction = min(step / steps, 1.0) if running and steps else (0.0 if running else None)
        version = last.get("version")
        return cls(
            running,
            _whole(told, "waiting"),
            fraction,
            str(progress.get("stage") or "") if running else str(told.get("next") or ""),
            _whole(last, "id"),
            str(last.get("status") or ""),
            version if isinstance(version, str) else None,
            str(progress.get("error") or progress.get("reason") or ""),
        )


@dataclass(frozen=True)
class Round:
    """The last or the next federated round, as far as the server knows."""

    number: Optional[int]
    at: str
    decision: str
    reason: str

    @classmethod
    def from_json(cls, value: Any) -> Optional[Round]:
        if isinstance(value, str):
            return cls(None, value, "", "")
        told = _dict(value)
        if not told:
            return None
        number = told.get("round")
        return cls(
            number if isinstance(number, int) else None,
            str(told.get("at") or ""),
            str(told.get("decision") or ""),
            str(told.get("reason") or ""),
        )


@dataclass(frozen=True)
class Status:
    """`GET /fedsca/status`."""

    site: str
    active: str
    generation: int
    base: str
    base_sha256: str
    device: str
    engine: str
    tuning: Tuning
    labelled: int
    offered: int
    cases: int
    last_round: Optional[Round]
    next_round: Optional[Round]

    @classmethod
    def from_json(cls, value: Any) -> Status:
        told = _object(value, "status")
        base, cases, labels = _dict(told.get("base")), _dict(told.get("cases")), _dict(told.get("labels"))
        return cls(
            _text(told, "site", "status"),
            _text(told, "active", "status"),
            _whole(told, "generation"),
            str(base.get("name") or ""),
            str(base.get("sha256") or ""),
            str(told.get("device") or ""),
            str(told.get("engine") or ""),
            Tuning.from_json(told.get("tuning")),
            _whole(labels, "total"),
            _whole(cases, "offered"),
            _whole(cases, "total"),
            Round.from_json(told.get("last_round")),
            Round.from_json(told.get("next_round")),
        )


@dataclass(frozen=True)
class Decision:
    """What was decided about a version, by whom and why. `action`: activated, rolled back, rejected or held."""

    number: int
    at: str
    action: str
    version: str
    previous: Optional[str]
    reason: str
    by: str
    figures: Dict[str, Any]

    @classmethod
    def from_json(cls, value: Any) -> Decision:
        told = _object(value, "list of decisions")
        previous = told.get("previous")
        return cls(
            _whole(told, "number"),
            str(told.get("at") or ""),
            _text(told, "action", "list of decisions"),
            _text(told, "version", "list of decisions"),
            previous if isinstance(previous, str) else None,
            str(told.get("reason") or ""),
            str(told.get("by") or ""),
            _dict(told.get("figures")),
        )


@dataclass(frozen=True)
class Version:
    """An adapter version. `state`: candidate, active, rejected or retired; `kind`: tuned here, a round's mixture, imported."""

    id: str
    state: str
    kind: str
    parents: Tuple[str, ...]
    round: Optional[int]
    created: str
    cases: int
    metrics: Dict[str, Any]

    @classmethod
    def from_json(cls, value: Any) -> Version:
        told = _object(value, "list of versions")
        number = told.get("round")
        return cls(
            _text(told, "id", "list of versions"),
            _text(told, "state", "list of versions"),
            str(told.get("kind") or ""),
            tuple(str(parent) for parent in told.get("parents") or ()),
            number if isinstance(number, int) else None,
            str(told.get("created") or ""),
            _whole(told, "cases"),
            _dict(told.get("metrics")),
        )


@dataclass(frozen=True)
class Versions:
    """`GET /fedsca/adapters`: versions and decisions, oldest first.

    `learnt_from`: the version that tunings and rounds go on from, which need not be the one that serves; an older server does not say.
    """

    active: str
    versions: Tuple[Version, ...]
    decisions: Tuple[Decision, ...]
    learnt_from: str

    @classmethod
    def from_json(cls, value: Any) -> Versions:
        told = _object(value, "list of versions")
        return cls(
            _text(told, "active", "list of versions"),
            tuple(Version.from_json(item) for item in told.get("versions") or ()),
            tuple(Decision.from_json(item) for item in told.get("decisions") or ()),
            str(told.get("learnt_from") or told["active"]),
        )

    def decision_about(self, version: str) -> Optional[Decision]:
        """The newest decision about a version."""
        return next((decision for decision in reversed(self.decisions) if decision.version == version), None)


@dataclass(frozen=True)
class Case:
    """An image of the datastore and the tags under which it has labels."""

    id: str
    tags: Tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return bool(self.tags)


def read_cases(value: Any) -> List[Case]:
    """`GET /datastore/?output=all`, in the order of the names."""
    objects = _object(_object(value, "list of cases").get("objects") or {}, "list of cases")
    found = []
    for name, item in objects.items():
        tags = _dict(_dict(item).get("labels"))
        found.append(Case(str(name), tuple(sorted(str(tag) for tag in tags))))
    return sorted(found, key=lambda case: case.id.casefold())


def read_label_names(value: Any) -> Dict[int, str]:
    """`GET /datastore/label/info`: value -> name as whoever saved the label declared them; what cannot be read is left out."""
    told = _dict(value).get("label_info")
    entries = [_dict(entry) for entry in told] if isinstance(told, list) else []
    names: Dict[int, str] = {}
    for entry in entries:
        number, name = _whole(entry, "idx"), entry.get("name")
        if number > 0 and isinstance(name, str) and name.strip():
            names[number] = name.strip()
    return names


@dataclass(frozen=True)
class Segmented:
    """A mask of one slice: what changed against `against` (None: an empty mask). `pixels` is bool (rows, columns) of `change_box`."""

    result: str
    axis: str
    index: int
    label: str
    version: str
    size: Tuple[int, int]
    area: int
    box: Optional[Box]
    iou: float
    against: Optional[str]
    change_box: Optional[Box]
    pixels: Optional[NDArray[np.bool_]]
    seconds: Dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> Segmented:
        told = _object(value, "mask")
        size = told.get("size")
        if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise BadReply(tr("The server's mask has the size {size}, expected rows and columns.").format(size=repr(size)[:80]))
        box, pixels = read_change(told.get("change"))
        against = told.get("against")
        return cls(
            _text(told, "result", "mask"),
            _text(told, "axis", "mask"),
            _whole(told, "index", -1),
            str(told.get("label") or ""),
            str(told.get("version") or BASE),
            (size[0], size[1]),
            _whole(told, "area"),
            read_box(told.get("box")),
            float(told.get("iou") or 0.0),
            against if isinstance(against, str) else None,
            box,
            pixels,
            {str(key): float(number) for key, number in _dict(told.get("seconds")).items() if isinstance(number, (int, float))},
        )


def read_change(value: Any) -> Tuple[Optional[Box], Optional[NDArray[np.bool_]]]:
    """A change's box and pixels; both None where nothing changed."""
    if value is None:
        return None, None
    told = _object(value, "mask")
    box = read_box(told.get("box"))
    if box is None:
        raise BadReply(tr("The server's mask lacks its box."))
    return box, unpack(box, _text(told, "data", "mask"))


@dataclass(frozen=True)
class JobSlice:
    """One finished slice of a job, as the change against an empty mask."""

    number: int
    index: int
    result: str
    area: int
    change_box: Optional[Box]
    pixels: Optional[NDArray[np.bool_]]

    @classmethod
    def from_json(cls, value: Any) -> JobSlice:
        told = _object(value, "job")
        box, pixels = read_change(told.get("change"))
        return cls(_whole(told, "number"), _whole(told, "index", -1), _text(told, "result", "job"), _whole(told, "area"), box, pixels)


@dataclass(frozen=True)
class Job:
    """A propagation or a whole volume under way. `state`: queued, running, done, cancelled or failed."""

    id: str
    kind: str
    axis: str
    label: str
    version: str
    state: str
    done: int
    total: int
    slices: Tuple[JobSlice, ...]
    detail: str

    @property
    def ended(self) -> bool:
        return self.state in ("done", "cancelled", "failed")

    @classmethod
    def from_json(cls, value: Any) -> Job:
        told = _object(value, "job")
        return cls(
            _text(told, "job", "job"),
            str(told.get("kind") or ""),
            str(told.get("axis") or "k"),
            str(told.get("label") or ""),
            str(told.get("version") or BASE),
            _text(told, "state", "job"),
            _whole(told, "done"),
            _whole(told, "total"),
            tuple(JobSlice.from_json(item) for item in told.get("slices") or ()),
            str(told.get("detail") or ""),
        )


@dataclass(frozen=True)
class Submitted:
    """The reply to a saved label: whether a tuning began, and why or why not."""

    tuning_started: bool
    reason: str

    @classmethod
    def from_json(cls, value: Any) -> Submitted:
        tuning = _dict(_dict(_dict(value).get("fedsca")).get("tuning"))
        return cls(bool(tuning.get("started")), str(tuning.get("reason") or ""))
