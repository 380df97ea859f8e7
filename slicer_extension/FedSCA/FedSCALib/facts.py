"""What the panel says at one glance about base, active version, tuning, rounds and versions: pure functions from replies to short texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, List, Optional

from FedSCALib.packets import BASE, Decision, Round, Status, Tuning, Version, Versions
from FedSCALib.translate import tr

SHORT = 8  # letters of a version's id that tell versions apart at a glance


@dataclass(frozen=True)
class Fact:
    """A short text for the panel and the whole sentence for its tooltip."""

    text: str
    detail: str


@dataclass(frozen=True)
class VersionRow:
    """One line of the list of versions.

    Attributes:
        use: text of the button that chooses the version; "" where there is nothing to choose.
    """

    id: str
    name: str
    origin: str
    dice: str
    active: bool
    detail: str
    use: str


def short(version: str) -> str:
    """A version's id, cut to what is shown; the base by name."""
    return tr("base") if version == BASE else version[:SHORT]


def local_time(text: str, now: Optional[datetime] = None) -> str:
    """An ISO time in local time: the hour for today, else the day. Text that is no time is returned as it is."""
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return text
    today = (now or datetime.now()).astimezone().date()
    return when.strftime("%H:%M") if when.date() == today else when.strftime("%d %b")


def base_fact(status: Status) -> Fact:
    """The frozen base network."""
    device = " · ".join(part for part in (status.device, status.engine) if part)
    return Fact(
        status.base, tr("Base network {name} ({sha}…) on {device}").format(name=status.base, sha=status.base_sha256[:12], device=device)
    )


def version_fact(status: Status, versions: Optional[Versions]) -> Fact:
    """The version that serves now."""
    if status.active == BASE:
        return Fact(tr("base, not tuned"), tr("No adapter is active: the base network serves as it came."))
    found = next((version for version in versions.versions if version.id == status.active), None) if versions else None
    origin = origin_of(found) if found else ""
    detail = tr("Version {id}").format(id=status.active)
    return Fact(" · ".join(part for part in (short(status.active), origin) if part), f"{detail}\n{origin}" if origin else detail)


def tuning_fact(tuning: Tuning) -> Fact:
    """What the server's tuning does."""
    if tuning.running:
        if tuning.fraction == 1:
            return Fact(tr("comparing Dice"), tuning.sentence)
        percent = round(100 * (tuning.fraction or 0))
        return Fact(tr("running, {percent} %").format(percent=percent), tuning.sentence)
    if tuning.waiting:
        return Fact(tr("waiting to start"), tuning.sentence)
    if tuning.status == "failed":
        return Fact(tr("last one failed"), tuning.failure or tuning.sentence)
    return Fact(tr("waits for labels"), tuning.sentence)


def round_fact(last: Optional[Round], upcoming: Optional[Round]) -> Fact:
    """The last and the next federated round."""
    parts, details = [], []
    if last is not None:
        name = tr("#{number}").format(number=last.number) if last.number is not None else tr("last")
        parts.append(f"{name} {local_time(last.at)}" if last.at else name)
        details.append(" ".join(part for part in (last.decision, last.reason) if part))
    if upcoming is not None and upcoming.at:
        parts.append(tr("next {time}").format(time=local_time(upcoming.at)))
    if not parts:
        return Fact(tr("none yet"), tr("This hospital has not taken part in a federated round, or the server does not say."))
    return Fact(" · ".join(parts), "\n".join(detail for detail in details if detail))


def origin_of(version: Version) -> str:
    """Where a version came from, in a few words."""
    if version.kind == "mixture":
        return tr("round {number}").format(number=version.round) if version.round is not None else tr("federation")
    if version.kind == "imported":
        return tr("imported")
    return tr("tuned here")


def dice_of(decision: Optional[Decision]) -> str:
    """Mean Dice on the validation cases of the version that was active and of this one: `0.71 → 0.84`; "" where it was not measured."""
    overall: Any = decision.figures.get("overall") if decision else None
    if not isinstance(overall, dict):
        return ""
    before, after = overall.get("active"), overall.get("candidate")
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return ""
    return f"{before:.2f} → {after:.2f}"


def version_rows(versions: Versions) -> List[VersionRow]:
    """All versions, the newest first, the base last."""
    rows = []
    for version in reversed(versions.versions):
        decision = next((item for item in reversed(versions.decisions) if item.version == version.id and "overall" in item.figures), None)
        last = versions.decision_about(version.id)
        detail = [tr("Version {id}").format(id=version.id), f"{origin_of(version)}, {version.state}, {local_time(version.created)}"]
        if version.cases:
            detail.append(tr("Learned from {count} labelled cases.").format(count=version.cases))
        if last is not None:
            detail.append(f"{local_time(last.at)} {last.by}: {last.action}. {last.reason}")
        origin = " · ".join((origin_of(version), local_time(version.created)))
        rows.append(_row(versions, version.id, origin, dice_of(decision), detail))
    rows.append(_row(versions, BASE, tr("not tuned"), "", [tr("The base network as it came, without any adapter.")]))
    return rows


def _row(versions: Versions, version: str, origin: str, dice: str, detail: List[str]) -> VersionRow:
    """A line, with what is to be said and chosen where learning goes on from another version than the one that serves."""
    active, elsewhere = version == versions.active, versions.learnt_from != versions.active
    use = "" if active else tr("Use {name}").format(name=short(version))
    if elsewhere and version == versions.learnt_from:
        origin = " · ".join((origin, tr("learned from")))
        detail = [*detail, tr("It does not serve, but tunings and rounds go on from it: it is worse by little, or by chance.")]
    elif active and elsewhere:
        use = tr("Go on from {name}").format(name=short(version))
        detail = [*detail, tr("Tunings and rounds go on from {name}, not from this version.").format(name=short(versions.learnt_from))]
    return VersionRow(version, short(version), origin, dice, active, "\n".join(detail), use)
