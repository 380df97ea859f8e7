"""One line for each site over all rounds: when it was last heard, what it gained, what it gives, what it costs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fed_backend.page.round_facts import RoundFacts, VerdictFacts
from fed_backend.page.state_reader import FederationFacts, KnownSite

FRESH, STALE = 1, 5
"""Rounds without a word up to which a site is fresh, and from which on it is stale."""


@dataclass(frozen=True)
class SiteFacts:
    """One site.

    Attributes:
        cases: labelled training cases behind its last update.
        last_round: the round in which it was last heard; 0 if never.
        last_heard: when that was, UTC.
        missed: finished or skipped rounds since.
        verdict: its last verdict; `verdict_round` is that round's number.
        own_weight: the weight of its own adapters in its last mixture.
        given: mean weight that the others' last mixtures give it; None while nobody else got one.
        up, down: payload bytes over all rounds.
        refusals: how often something of it was not accepted, or did not come.
        privacy: (ε, δ) spent; None where it is not accounted.
    """

    name: str
    cases: int
    last_round: int
    last_heard: datetime | None
    missed: int
    verdict: VerdictFacts | None
    verdict_round: int
    own_weight: float | None
    given: float | None
    up: int
    down: int
    refusals: int
    privacy: tuple[float, float] | None

    @property
    def freshness(self) -> str:
        """`fresh`, `late` or `stale`."""
        if not self.last_round or self.missed >= STALE:
            return "stale"
        return "fresh" if self.missed <= FRESH else "late"


def site_order(facts: FederationFacts) -> list[str]:
    """All sites: in the order in which they joined, then what only the rounds know."""
    return list(dict.fromkeys([*(site.name for site in facts.sites), *(name for one in facts.rounds for name in one.sites())]))


def site_facts(facts: FederationFacts) -> list[SiteFacts]:
    """Every site's line, in `site_order`."""
    known = {site.name: site for site in facts.sites}
    return [_one_site(name, known.get(name), facts.rounds) for name in site_order(facts)]


def _one_site(name: str, known: KnownSite | None, rounds: Sequence[RoundFacts]) -> SiteFacts:
    heard = [one for one in rounds if name in one.heard]
    last = heard[-1] if heard else None
    last_round = max(known.last_round if known else 0, last.number if last else 0)
    judged = next((one for one in reversed(rounds) if name in one.verdicts), None)
    mixed = next((one for one in reversed(rounds) if name in one.weights), None)
    traffic = [one.bytes_of(name) for one in rounds]
    return SiteFacts(
        name=name,
        cases=last.heard[name] if last else known.cases if known else 0,
        last_round=last_round,
        last_heard=(last.finished or last.started) if last else None,
        missed=sum(one.number > last_round and one.status != "running" for one in rounds),
        verdict=judged.verdicts[name] if judged else None,
        verdict_round=judged.number if judged else 0,
        own_weight=mixed.weights[name].get(name, 0.0) if mixed else None,
        given=_given(name, rounds),
        up=sum(up for up, _ in traffic),
        down=sum(down for _, down in traffic),
        refusals=sum(refusal.site == name for one in rounds for refusal in one.refusals),
        privacy=next((one.privacy[name] for one in reversed(rounds) if name in one.privacy), None),
    )


def _given(name: str, rounds: Sequence[RoundFacts]) -> float | None:
    last = next((one for one in reversed(rounds) if one.weights), None)
    others = [row for site, row in last.weights.items() if site != name] if last else []
    return sum(row.get(name, 0.0) for row in others) / len(others) if others else None
