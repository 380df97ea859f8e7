"""What a hospital does in a round, as functions over its site directory. No Flower; torch only where the network is needed.

    collect_update    reads the shared B of the version that is learnt from and counts cases: numpy only, answered within a second
    answer_probe      gradients at the common state (torch)
    receive_mixture   mixture + own local adapters = candidate, then the gate (torch)
    note_refusal      writes down why the server took nothing from this site

A mixture counts once: per federation and round a site decides once, however often the message is delivered, and says the same again.

Processes: Flower starts one process a message and hands a site one message at a time; a second SuperNode on the same directory by mistake
is held off by <site>/work/federation.lock. The MONAI Label server and a local tuning may run at the same time; see `registry` and `gate`.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fed_backend import site_memory, wire
from fed_backend.errors import BudgetSpentError, PolicyError, RoundError
from fed_backend.member import Member, RoundInfo, agreed_schema, shared_state, site_schema, training_cases
from fed_backend.outgoing import Door
from fed_backend.payload_codec import Encoding
from fed_backend.projection import project
from fed_backend.site_memory import MEMORY_FILE, SiteMemory
from sam_adapters import adapter_files
from sam_adapters.federation_news import FederationNews
from sam_adapters.file_lock import locked
from sam_adapters.provenance import Provenance, utc_now
from sam_adapters.registry import BASE, Registry, RoundRecord, Version, id_or_base
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.site_directory import SiteDirectory

LOCK_FILE = "federation.lock"
UNCHANGED = "unchanged"
TOO_FEW_PATIENTS = "It has usable labelled training cases of fewer than two patients: too few to compare."
REFUSED = "refused"
HALF_BITS = 16
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class UpdateReply:
    """An update's bytes, the version they are of (`base` if there is none, "" if the site keeps it), and the cases behind them.

    `receives_only`: why the update is zeros that stand for nothing; "" if the site gives. `epsilon`, `delta`: what the site has
    spent of its privacy, None without a rule.
    """

    payload: bytes
    version: str
    cases: int
    receives_only: str = ""
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class MixtureReply:
    """What became of a mixture.

    Attributes:
        verdict: `promoted`, `rejected`, `waiting` (for a person) or `unchanged` (the mixture is what the site learns from already).
        reason: why, as a sentence.
        active_before, active_after: version ids, or `base`.
        candidate: version made of the mixture; "" if none was needed.
        figures: the gate's figures.
    """

    verdict: str
    reason: str
    active_before: str
    candidate: str
    active_after: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def collect_update(member: Member, info: RoundInfo) -> UpdateReply:
    """The site's shared adapters and case count.

    A site without a version of its own sends zeros and 0 cases, whatever it has labelled: it has nothing to give yet. So does one whose
    privacy budget is spent, or that has fewer cases than its policy wants: it only receives.

    Raises:
        RoundError: the federation uses another base or layout than this site.
        PolicyError, PrivacyError: nothing may leave; see `outgoing`.
        FedscaError: the site's settings, registry or adapters cannot be used.
    """
    schema, door = agreed_schema(member, info), Door.open(member.site, info.privacy)
    with Registry(member.site) as registry:
        learnt = registry.learnt_from()
        state, cases, why_not = _given(member, door, learnt, shared_state(registry, learnt, schema))
        payload = _encoded_update(member, info, door, wire.UpdateMessage(member.name, info.round, cases, state))
        version = id_or_base(learnt)
        door.leaves("update", payload, values=schema.size, round=info.round, sent=_sent(registry, info))
        registry.record_round(_record(info, sent_version=version, bytes_up={"update": len(payload)}))
    return UpdateReply(payload, version if door.rule is None else "", cases, why_not, door.spent(), door.rule.delta if door.rule else None)


def answer_probe(member: Member, info: RoundInfo, payload: bytes) -> bytes:
    """The two projected gradient halves at the common state, as bytes.

    Raises:
        RoundError: another base or layout, or fewer than two patients to compare.
        WireError: a request that cannot be used.
        FedscaError: the site's data or network cannot be used.
    """
    schema = agreed_schema(member, info)
    request = wire.decode_probe_request(payload, schema)
    if request.round != info.round:
        raise RoundError(f"The probe is of round {request.round}, the message of round {info.round}: the server mixes rounds up.")
    _remember(member, site_memory.with_common(_memory(member, info, schema), info.round, request.state))
    cases, door = training_cases(member), Door.open(member.site, info.privacy)
    if len({case.patient for case in cases}) < 2:  # known without starting torch
        raise RoundError(TOO_FEW_PATIENTS)
    why_not = door.gives([case.case for case in cases])
    if why_not:
        raise PolicyError(why_not)
    door.probe_allowed()
    from sam_adapters.probe import probe_halves  # torch

    halves = probe_halves(
        member.site,
        member.settings,
        request.state,
        project=lambda vector: project(vector, seed=request.seed, size=request.size),
        seed=request.seed % 2**31,
    )
    if halves is None:
        raise RoundError(TOO_FEW_PATIENTS)
    half_a, half_b = door.probe(halves.a, halves.b, request=payload, federation=info.federation, round=info.round)
    reply = wire.encode_probe_reply(
        wire.ProbeReply(member.name, info.round, request.seed, (halves.cases_a, halves.cases_b), half_a, half_b),
        wire.Coding("int8") if info.encoding else None,  # a hundredth of a half's size is far below the halves' own noise
    )
    with Registry(member.site) as registry:
        door.leaves("probe_reply", reply, values=2 * request.size, round=info.round, sent=_sent(registry, info))
        registry.record_round(_record(info, bytes_up={"probe_reply": len(reply)}, bytes_down={"probe_request": len(payload)}))
    return reply


def receive_mixture(member: Member, info: RoundInfo, payload: bytes) -> MixtureReply:
    """Make a candidate of the mixture and this site's local adapters, and let the gate decide.

    Raises:
        RoundError: another base or layout.
        WireError: a mixture that cannot be used, or is for another site or round.
        FedscaError: the site's registry or data cannot be used.
    """
    with locked(member.site.work / LOCK_FILE, timeout=_LOCK_SECONDS), Registry(member.site) as registry:
        known = registry.find_round(info.federation, info.round)
        if known is not None and known.decision not in (None, REFUSED):
            return _repeated(registry, known)
        schema = agreed_schema(member, info)
        memory = _memory(member, info, schema)
        mixture = wire.decode_mixture(
            payload, schema, site=member.name, round=info.round, references=site_memory.references(memory, info.round)
        )
        _remember(member, site_memory.acknowledged(memory, info.round, mixture.acknowledged))
        registry.record_round(_record(info, weights=mixture.weights, bytes_down={"mixture": len(payload)}))
        reply = _decide(member, info, registry, mixture)
        registry.record_round(_record(info, received_version=reply.candidate or None, decision=reply.verdict, reason=reply.reason))
        return reply


def note_heard(member: Member, info: RoundInfo) -> None:
    """Write down that the server was heard just now, and when it means to begin the next round; for people, so a full disk is no error."""
    with contextlib.suppress(OSError):
        FederationNews(info.name, info.round, utc_now().isoformat(timespec="seconds"), info.next_round or None).save(member.site)


def note_refusal(member: Member, info: RoundInfo, reason: str) -> None:
    """Write down that the server refused this site's update, and why."""
    with Registry(member.site) as registry:
        registry.record_round(_record(info, decision=REFUSED, reason=reason))
    if (member.site.work / MEMORY_FILE).exists():  # the next update has to be a full one
        _remember(member, site_memory.acknowledged(_memory(member, info, site_schema(member)), info.round, ""))


def _encoded_update(member: Member, info: RoundInfo, door: Door, message: wire.UpdateMessage) -> bytes:
    """The update as the server asks for it, or coarser if the site's policy wants that.

    What has to be remembered is on the disk before the bytes leave.
    """
    if info.encoding is None:
        return wire.encode_update(message)
    encoding: Encoding = "int8" if door.policy.bits < HALF_BITS else info.encoding
    payload, memory = site_memory.encode(_memory(member, info, message.state.schema), message, encoding)
    _remember(member, memory)
    return payload


def _memory(member: Member, info: RoundInfo, schema: AdapterSchema) -> SiteMemory:
    return site_memory.load(member.site.work / MEMORY_FILE, info.federation, schema)


def _remember(member: Member, memory: SiteMemory) -> None:
    site_memory.save(memory, member.site.work / MEMORY_FILE)


def _given(member: Member, door: Door, learnt: Version | None, state: AdapterState) -> tuple[AdapterState, int, str]:
    """What an update says: the numbers as they may leave, the cases they stand for, and why there are none."""
    if learnt is None:
        return state, 0, ""
    names = [case.case for case in training_cases(member)]
    why_not = door.gives(names)
    if not why_not:
        try:
            return door.update(state, learnt.id), len(names), ""
        except BudgetSpentError as error:
            why_not = str(error)
    return AdapterState.zeros(state.schema), 0, why_not


def _sent(registry: Registry, info: RoundInfo) -> Mapping[str, int]:
    """Purpose -> bytes that left in this round already."""
    known = registry.find_round(info.federation, info.round)
    return {} if known is None else known.bytes_up


def _decide(member: Member, info: RoundInfo, registry: Registry, mixture: wire.Mixture) -> MixtureReply:
    active, learnt = registry.active(), registry.learnt_from()
    before = id_or_base(active)
    schema = mixture.state.schema
    still = _sent_is_learnt_from(info, registry, learnt)
    if _same_in_half_precision(shared_state(registry, learnt, schema), mixture.state) or (still and _is_own_update(member, info, mixture)):
        return MixtureReply(UNCHANGED, "The mixture is what this site has already.", before, "", before)
    with _parent_folder(member, registry, learnt) as parent:
        candidate = _add_candidate(member, info, registry, learnt, parent, mixture)
    from sam_adapters.gate import run_gate  # torch

    # A tuning that came between the update and its mixture is not in the mixture: then it must be better to take that one's place.
    decision = run_gate(member.site, member.settings, candidate.id, round=info.round, learn=still)
    now = registry.active()
    return MixtureReply(decision.verdict, decision.reason, before, candidate.id, id_or_base(now), decision.figures)


def _add_candidate(
    member: Member, info: RoundInfo, registry: Registry, learnt: Version | None, parent: Path, mixture: wire.Mixture
) -> Version:
    """The version made of the mixture and the parent's local adapters. Done twice, it is the same version."""
    provenance = Provenance(
        kind="mixture",
        base=mixture.state.schema.base,
        schema_id=mixture.state.schema.id,
        site=member.name,
        parents=(learnt.id,) if learnt else (),
        federation=info.name,
        round=info.round,
        weights=dict(mixture.weights),
        settings={"federation_id": info.federation, "newcomer": mixture.newcomer},
    )
    with _temporary_folder(member.site) as folder:
        adapter_files.write_mixture(parent, mixture.state, folder)
        candidate = registry.add(folder, provenance)
    registry.record_round(_record(info, received_version=candidate.id))
    return candidate


@contextlib.contextmanager
def _parent_folder(member: Member, registry: Registry, learnt: Version | None) -> Iterator[Path]:
    """Folder with the site's local adapters: those of the version that is learnt from, or the untuned ones."""
    if learnt is not None:
        yield registry.folder(learnt.id)
        return
    from sam_adapters.loading import write_untuned  # torch

    with _temporary_folder(member.site) as folder:
        write_untuned(member.settings, folder)
        yield folder


@contextlib.contextmanager
def _temporary_folder(site: SiteDirectory) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mixture-", dir=site.work))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _same_in_half_precision(one: AdapterState, other: AdapterState) -> bool:
    """Whether both are the same 16-bit numbers, which is all that travels."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(one.to_vector().astype(np.float16), other.to_vector().astype(np.float16)))


def _sent_is_learnt_from(info: RoundInfo, registry: Registry, learnt: Version | None) -> bool:
    """Whether what this site sent in the round is what it still learns from."""
    known = registry.find_round(info.federation, info.round)
    return known is not None and known.sent_version == id_or_base(learnt)


def _is_own_update(member: Member, info: RoundInfo, mixture: wire.Mixture) -> bool:
    """Whether the mixture is this site's own update of the round, as it was rounded for the way."""
    memory = _memory(member, info, mixture.state.schema)
    return memory.sent_round == info.round and bool(np.array_equal(memory.sent.to_vector(), mixture.state.to_vector()))


def _repeated(registry: Registry, known: RoundRecord) -> MixtureReply:
    """What was said when this round's mixture came first."""
    candidate = known.received_version or ""
    # A person may have decided about the version since (activated it, rolled back to it): only the gate's decisions carry figures.
    judged = [decision for decision in registry.decisions(candidate) if decision.figures] if candidate else []
    figures = judged[-1].figures if judged else {}
    before = (judged[-1].previous if judged else None) or known.sent_version or BASE
    now = registry.active()
    return MixtureReply(known.decision or "", known.reason or "", before, candidate, id_or_base(now), json.loads(json.dumps(figures)))


def _record(info: RoundInfo, **values: Any) -> RoundRecord:
    return replace(RoundRecord(federation=info.federation, round=info.round, run_id=info.run), **values)
