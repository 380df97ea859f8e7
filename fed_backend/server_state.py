"""What the server remembers between rounds, restarts and runs: one immutable value, pure functions to the next. No torch.

    state = server_state_file.load_or_new(path, schema)
    state = with_update(state, message)            # for every accepted update of the round
    if probe_due(state, round, present):           # compare the sites anew
        common = common_state_of(state, round)     # goes out in the probe request
        state = with_probe(state, round, replies)
    plan = plan_mixtures(state, round, receivers)  # what every receiver gets
    state = finish_round(state, entry, probe_every=k)
    server_state_file.save(state, path)

Every step may be repeated for the same round without changing the result, so a server that was killed starts the round again.
"""

import dataclasses
import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fed_backend import sgca
from fed_backend.distance_table import DISTANCE_RATE, DistanceTable, update_distance
from fed_backend.errors import AggregationError
from fed_backend.wire import ProbeReply, UpdateMessage
from sam_adapters.schema import AdapterSchema, AdapterState

HISTORY_LENGTH = 1000


@dataclass(frozen=True)
class SiteRecord:
    """What the server knows of one site.

    Attributes:
        name: the site's name in the federation.
        state: its last accepted shared adapter, as received (not clipped).
        cases: labelled training cases behind it; 0 for a newcomer.
        last_round: the round in which it was received, for the first time if the site went back to it.
        first_round: the first round in which the site was heard.
        noise: v of its last probe, as measured; None while it has never been probed.
        probe_cases: cases in the two halves of that probe.
        probe_round: the round of that probe.
        wire: version of the wire format in which that adapter came.
    """

    name: str
    state: AdapterState
    cases: int
    last_round: int
    first_round: int
    noise: float | None = None
    probe_cases: tuple[int, int] | None = None
    probe_round: int | None = None
    wire: int = 1

    @property
    def comparable(self) -> bool:
        """Whether the site has cases and has been probed: only then it gives to others and gets a mixture of its own."""
        return self.cases > 0 and self.noise is not None


@dataclass(frozen=True)
class RoundEntry:
    """One line of the federation's history.

    Attributes:
        round: its number, from 1 on.
        run: id of the Flower run that carried it.
        finished: UTC time, ISO 8601.
        heard: sites whose update was accepted.
        refused: site (or node) name -> why its message was refused.
        probed: sites that took part in a probe, empty if there was none.
        clipped: site -> factor by which its adapter was scaled down.
    """

    round: int
    run: str
    finished: str
    heard: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    probed: tuple[str, ...] = ()
    clipped: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerState:
    """Everything the server remembers. Immutable: the functions of this module return a new one.

    Attributes:
        federation: random id (UUID) given at creation; with the round number it names an exchange for ever.
        schema: the layout of the shared adapters that every member agrees on.
        sites: records by site name, in the order in which they joined.
        distances: squared gradient distances, averaged over probes.
        round: number of the last finished round, 0 before the first.
        next_probe: the round from which on a probe is due.
        last_probe: the round of the last probe, 0 before the first.
        history: the last rounds, oldest first.
    """

    federation: str
    schema: AdapterSchema
    sites: Mapping[str, SiteRecord] = field(default_factory=dict)
    distances: DistanceTable = field(default_factory=DistanceTable.empty)
    round: int = 0
    next_probe: int = 1
    last_probe: int = 0
    history: tuple[RoundEntry, ...] = ()


@dataclass(frozen=True)
class MixturePlan:
    """What goes out at the end of a round.

    Attributes:
        mixtures: receiver -> the state it is sent.
        weights: receiver -> giver -> weight; sums to 1; zeros left out.
        newcomers: receivers that get the mean over all, because they cannot be compared with anybody yet.
        givers: the comparable sites, in the order of the two following.
        noise: (n,) their noise with floor and age, as it entered the weights.
        distance: (n, n) their distances, as they entered the weights: ∞ where never compared.
        clipped: site -> factor < 1 by which its adapter was scaled down.
    """

    mixtures: Mapping[str, AdapterState]
    weights: Mapping[str, Mapping[str, float]]
    newcomers: frozenset[str]
    givers: tuple[str, ...]
    noise: NDArray[np.float64]
    distance: NDArray[np.float64]
    clipped: Mapping[str, float]


_EMPTY_PLAN = MixturePlan({}, {}, frozenset(), (), np.zeros(0), np.zeros((0, 0)), {})


def new_state(schema: AdapterSchema) -> ServerState:
    """The state of a federation that begins now, with a new random id."""
    return ServerState(federation=str(uuid.uuid4()), schema=schema)


def with_update(state: ServerState, update: UpdateMessage, *, wire: int = 1, first_seen: int | None = None) -> ServerState:
    """`state` after an update was accepted: a new site joins, a known one is replaced unless it was heard in a later round already.

    `wire`: version of the wire format in which it came. `first_seen`: the round in which these very adapters came before, if the site goes
    back to earlier ones: they are as old as that.

    Raises:
        AggregationError: the adapter does not belong to this federation, or is not finite.
    """
    reason = sgca.check_state(update.state, state.schema)
    if reason:
        raise AggregationError(f"Update of {update.site} refused. {reason}")
    known = state.sites.get(update.site)
    made = update.round if first_seen is None else first_seen
    if known is None:
        record = SiteRecord(update.site, update.state, update.cases, made, update.round, wire=wire)
    elif known.last_round > update.round:
        return state
    else:
        record = dataclasses.replace(known, state=update.state, cases=update.cases, last_round=made, wire=wire)
    return dataclasses.replace(state, sites={**state.sites, update.site: record})


def probe_due(state: ServerState, round: int, present: Collection[str]) -> bool:
    """Whether round `round` should compare the sites: the schedule says so, or a present site with cases has never been asked.

    A site that was asked in the last probe and kept its gradients at home is asked again when the schedule says so.
    """
    asked = {name for entry in state.history if entry.round == state.last_probe for name in entry.heard}
    new = [state.sites[name] for name in present if name in state.sites and name not in asked]
    unknown = any(site.cases > 0 and site.noise is None for site in new)
    return state.last_probe < round and (round >= state.next_probe or unknown)


def with_probe(state: ServerState, round: int, replies: Mapping[str, ProbeReply], *, rate: float = DISTANCE_RATE) -> ServerState:
    """`state` after the probe of `round`: distances averaged in, noise replaced. Repeating a probe's round changes nothing.

    Args:
        state: must know every site in `replies`.
        round: the probe's round.
        replies: by site name, all to the same request. Fewer than one changes nothing.
        rate: weight of the new distances, see `distance_table.update_distance`.

    Raises:
        AggregationError: a site that has sent no update yet, or halves that do not fit together or are not finite.
    """
    strangers = sorted(set(replies) - set(state.sites))
    if strangers:
        raise AggregationError(f"Probe replies of {', '.join(strangers)}, which have sent no update: expected members only.")
    if not replies or state.last_probe >= round:
        return state
    names = sorted(replies)
    sizes = {(*replies[name].half_a.shape, *replies[name].half_b.shape) for name in names}
    if len(sizes) != 1:
        raise AggregationError(f"Probe replies of different sizes {sorted(sizes)}, expected replies to one request.")
    distance, noise = sgca.probe_statistics(
        np.stack([replies[name].half_a for name in names]), np.stack([replies[name].half_b for name in names]), keep_negative=True
    )
    records = dict(state.sites)
    for name, v in zip(names, noise.tolist(), strict=True):
        records[name] = dataclasses.replace(records[name], noise=v, probe_cases=replies[name].cases, probe_round=round)
    distances = update_distance(state.distances, names, distance, rate=rate)
    return dataclasses.replace(state, sites=records, distances=distances, last_probe=round)


def common_state_of(state: ServerState, round: int, *, withheld: Collection[str] = ()) -> AdapterState:
    """The precision-weighted mean of all clipped adapters: where sites are compared, and what a newcomer is offered.

    Before the first probe the precision is the number of cases; a federation without any case has the plain mean. `withheld` sites do not
    count, unless there are no others.

    Raises:
        AggregationError: no site has sent an update yet.
    """
    names = _in_fixed_order(state, withheld) or _in_fixed_order(state, ())
    clipped = sgca.clip_to_median([state.sites[name].state for name in names])
    return sgca.common_state(clipped.states, _precision(state, names, round))


def _in_fixed_order(state: ServerState, withheld: Collection[str]) -> list[str]:
    """The sites by name: sums of floating-point numbers, and with them mixtures, must not depend on who answered first."""
    return sorted(set(state.sites) - set(withheld))


def plan_mixtures(
    state: ServerState, round: int, receivers: Sequence[str], *, caution: float = 1.0, withheld: Collection[str] = ()
) -> MixturePlan:
    """What every receiver gets at the end of `round`. Every member gives, present or not; its noise grows with its age.

    Args:
        state: after the round's updates and probe.
        round: the running round; a site last heard in it has age 0.
        receivers: names of members.
        caution: κ of `sgca.collaboration_weights`.
        withheld: sites that give nothing; one that receives is offered the mean over the others. Without others nobody receives anything.

    Raises:
        AggregationError: a receiver that has sent no update yet, or a negative caution.
    """
    strangers = sorted(set(receivers) - set(state.sites))
    if strangers:
        raise AggregationError(f"Receivers {', '.join(strangers)} have sent no update: expected members only.")
    names = _in_fixed_order(state, withheld)
    if not receivers or not names:
        return _EMPTY_PLAN
    clipped = sgca.clip_to_median([state.sites[name].state for name in names])
    givers, noise, distance, rows = _weights_of_givers(state, names, round, caution)

    row_of = {name: row for row, name in enumerate(givers)}
    column_of = {name: column for column, name in enumerate(names)}
    newcomers = frozenset(name for name in receivers if name not in row_of)
    weights = np.zeros((len(receivers), len(names)))
    columns = [column_of[name] for name in givers]
    mean = _mean_weights(state, names, round) if newcomers else None
    for index, name in enumerate(receivers):
        if name in newcomers:
            weights[index] = mean
        else:
            weights[index, columns] = rows[row_of[name]]
    mixtures = sgca.mix(clipped.states, weights)
    return MixturePlan(
        mixtures=dict(zip(receivers, mixtures, strict=True)),
        weights={
            name: {names[column]: float(row[column]) for column in np.flatnonzero(row > 0)}
            for name, row in zip(receivers, weights, strict=True)
        },
        newcomers=newcomers,
        givers=givers,
        noise=noise,
        distance=distance,
        clipped={name: float(scale) for name, scale in zip(names, clipped.scales, strict=True) if scale < 1},
    )


def mutual_weights(state: ServerState, round: int, *, caution: float = 1.0, withheld: Collection[str] = ()) -> dict[str, dict[str, float]]:
    """Receiver -> giver -> weight between the sites that can be compared, as `plan_mixtures` would use them; zeros left out."""
    givers, _, _, rows = _weights_of_givers(state, _in_fixed_order(state, withheld), round, caution)
    return {
        name: {givers[column]: float(row[column]) for column in np.flatnonzero(row > 0)} for name, row in zip(givers, rows, strict=True)
    }


def _weights_of_givers(
    state: ServerState, names: Sequence[str], round: int, caution: float
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Those of `names` that can be compared, their noise (n,), distances and weights (n, n)."""
    givers = tuple(name for name in names if state.sites[name].comparable)
    noise = _noise(state, givers, round)
    distance = state.distances.select(givers)
    rows = sgca.collaboration_weights(distance, noise, caution=caution) if givers else np.zeros((0, 0))
    return givers, noise, distance, rows


def _mean_weights(state: ServerState, names: Sequence[str], round: int) -> NDArray[np.float64]:
    """The weights of the mean over all, which newcomers are offered."""
    precision = _precision(state, names, round)
    return precision / precision.sum() if precision.any() else np.full(len(names), 1 / len(names))


def finish_round(state: ServerState, entry: RoundEntry, *, probe_every: int) -> ServerState:
    """`state` after a whole round. A round that is finished already is not finished again.

    Raises:
        ValueError: `probe_every` below 1.
    """
    if probe_every < 1:
        raise ValueError(f"probe_every is {probe_every}, expected a number of rounds from 1 on.")
    if entry.round <= state.round:
        return state
    next_probe = state.last_probe + probe_every if state.last_probe else state.next_probe
    history = (*state.history, entry)[-HISTORY_LENGTH:]
    return dataclasses.replace(state, round=entry.round, next_probe=next_probe, history=history)


def _noise(state: ServerState, names: Sequence[str], round: int) -> NDArray[np.float64]:
    records = [state.sites[name] for name in names]
    raw = [math.inf if record.noise is None else record.noise for record in records]
    ages = [max(round - record.last_round, 0) for record in records]
    return sgca.floor_and_age_noise(raw, [record.cases for record in records], ages)


def _precision(state: ServerState, names: Sequence[str], round: int) -> NDArray[np.float64]:
    """Weights that sum to 1 for the mean over all: inverse noise of the probed sites, case counts while there are none."""
    if any(state.sites[name].comparable for name in names):
        return sgca.inverse_variance_weights(_noise(state, names, round))
    cases = np.array([state.sites[name].cases for name in names], np.float64)
    return cases / max(float(cases.sum()), 1.0)


__all__ = [
    "MixturePlan",
    "RoundEntry",
    "ServerState",
    "SiteRecord",
    "common_state_of",
    "finish_round",
    "new_state",
    "plan_mixtures",
    "probe_due",
    "with_probe",
    "with_update",
]
