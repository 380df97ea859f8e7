"""What the templates are given: facts, charts and words for one moment and one choice of rounds. Pure, the clock is handed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from fed_backend.page import wording
from fed_backend.page.dice_chart import dice_chart
from fed_backend.page.heat_map import (
    MOST_DRAWN,
    colour_scale,
    distance_matrix,
    heat_map,
    largest_distance,
    most_help,
    small_map,
    weight_matrix,
)
from fed_backend.page.privacy_chart import privacy_chart
from fed_backend.page.round_facts import RoundFacts
from fed_backend.page.site_facts import SiteFacts, site_facts, site_order
from fed_backend.page.state_reader import FederationFacts
from fed_backend.page.timeline_chart import timeline
from fed_backend.page.traffic_chart import traffic_chart

WINDOW = 30
"""Rounds on the page at once; links lead to those before and after."""
SMALL_MAPS = 12
MOST_REFUSALS = 50

SETTING_WORDS = {
    "base": "base network",
    "rank": "adapter rank",
    "shared_depth": "share of encoder blocks that travel",
    "shared_decoder": "the decoder's adapters travel too",
    "min_sites": "quorum (sites)",
    "expected_sites": "sites to wait for",
    "join_seconds": "patience: joining (s)",
    "update_seconds": "patience: updates (s)",
    "probe_seconds": "patience: probes (s)",
    "mixture_seconds": "patience: verdicts (s)",
    "probe_every": "sites are compared every … rounds",
    "projection_size": "numbers in a probe",
    "caution": "caution κ",
    "encoding": "encoding of what travels",
    "privacy_noise": "privacy: noise asked of sites",
    "privacy_clip": "privacy: largest norm",
    "privacy_epsilon": "privacy: budget ε of a site",
    "privacy_delta": "privacy: δ",
    "privacy_probe": "privacy: probes leave too",
}


@dataclass(frozen=True)
class Matrices:
    """The matrices of one round, and its neighbours that have some."""

    number: int
    weights: Markup
    distance: Markup | None
    weight_table: tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]
    cut: bool
    numbers: tuple[int, ...]
    most_help: tuple[tuple[str, str, float], ...]
    scale: Markup
    farthest: float


@dataclass(frozen=True)
class SmallMap:
    """A link to a round's matrices."""

    number: int
    picture: Markup
    chosen: bool


def window_of(rounds: Sequence[RoundFacts], until: int | None) -> Sequence[RoundFacts]:
    """The last `WINDOW` rounds, or the last up to and with round `until`."""
    chosen = [one for one in rounds if until is None or one.number <= until]
    return (chosen or list(rounds[:1]))[-WINDOW:]


def matrices(facts: FederationFacts, number: int | None) -> Matrices | None:
    """The matrices of a round, by default of the newest that has some; None where there are none (for that round)."""
    with_weights = [one for one in facts.rounds if one.weights]
    one = next((one for one in reversed(with_weights) if number in (None, one.number)), None)
    if one is None:
        return None
    order = mixed_sites(facts)
    top = largest_distance(with_weights)
    weights, distance = weight_matrix(one, order), distance_matrix(one, order, top)
    if weights is None:
        return None
    numbers = tuple(item.number for item in with_weights)
    table = tuple(
        (row, tuple("" if value is None else f"{value:.3f}" for value in values))
        for row, values in zip(weights.rows, weights.cells, strict=True)
    )
    return Matrices(
        number=one.number,
        weights=heat_map(
            f"Weights of round {one.number}: receivers in rows, givers in columns", weights, "{column} gives {row}: weight {value}"
        ),
        distance=heat_map(f"Distances of round {one.number} between sites", distance, "{row} and {column}: distance {value}")
        if distance
        else None,
        weight_table=(weights.columns, table),
        cut=max(len(weights.rows), len(weights.columns)) > MOST_DRAWN,
        numbers=numbers,
        most_help=tuple(most_help(one, 4)),
        scale=colour_scale("from little to much"),
        farthest=top,
    )


def mixed_sites(facts: FederationFacts) -> list[str]:
    """Sites that ever got or gave something, in `site_order`: the rows of every round's matrices."""
    part = {site for one in facts.rounds for site in [*one.weights, *one.givers, *(giver for row in one.weights.values() for giver in row)]}
    return [*(site for site in site_order(facts) if site in part), *sorted(part - set(site_order(facts)))]


def small_maps(facts: FederationFacts, rounds: Sequence[RoundFacts], chosen: int | None) -> list[SmallMap]:
    """The weights of up to `SMALL_MAPS` of the rounds, evenly chosen, the newest always among them."""
    order = mixed_sites(facts)
    found = [(one.number, matrix) for one in rounds if (matrix := weight_matrix(one, order)) is not None]
    return [
        SmallMap(number, small_map(f"Weights of round {number}", matrix), number == chosen) for number, matrix in evenly(found, SMALL_MAPS)
    ]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced; with two or more, the first and the last are among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def page_context(
    facts: FederationFacts, now: datetime, *, until: int | None, chosen: int | None, who: str, stamp: str = ""
) -> dict[str, Any]:
    """Everything `page.html.j2` shows.

    Args:
        facts: the federation.
        now: the present, UTC.
        until: the last round of the window; None for the newest.
        chosen: the round whose matrices are shown; None for the newest that has some.
        who: the user who is signed in.
        stamp: of what is shown, see `StateReader.stamp`; the script asks for the page anew when there is another.
    """
    rounds = window_of(facts.rounds, until) if facts.rounds else []
    sites = site_facts(facts)
    names = [site.name for site in sites]
    shown = matrices(facts, chosen) or matrices(facts, None)
    refusals = [refusal for one in reversed(rounds) for refusal in one.refusals]
    return {
        "facts": facts,
        "now": now,
        "who": who,
        "stamp": stamp,
        "rounds": rounds,
        "sites": sites,
        "newest": facts.rounds[-1] if facts.rounds else None,
        "earlier": rounds[0].number - 1 if rounds and rounds[0].number > facts.rounds[0].number else None,
        "later": _later(facts.rounds, rounds),
        "timeline": timeline(rounds, names) if rounds else None,
        "dice": [(site, chart) for site in names if (chart := dice_chart(site, rounds)) is not None],
        "matrices": shown,
        "small_maps": small_maps(facts, rounds, shown.number if shown else None),
        "traffic": traffic_chart(rounds, names) if rounds else None,
        "privacy": privacy_chart(rounds, names),
        "refusals": refusals[:MOST_REFUSALS],
        "more_refusals": max(0, len(refusals) - MOST_REFUSALS),
        "settings": [(SETTING_WORDS.get(key, key), value) for key, value in facts.settings.items() if key != "federation"],
        "totals": totals(facts, sites),
        "w": wording,
    }


def totals(facts: FederationFacts, sites: Sequence[SiteFacts]) -> dict[str, Any]:
    """The numbers at the top of the page."""
    gains = [site.verdict.after - site.verdict.dice.base for site in sites if _gain_known(site)]  # type: ignore[operator,union-attr]
    last = facts.rounds[-1] if facts.rounds else None
    return {
        "finished": sum(one.status == "finished" for one in facts.rounds),
        "skipped": sum(one.status == "skipped" for one in facts.rounds),
        "heard": len(last.heard) if last else 0,
        "bytes": sum(site.up + site.down for site in sites),
        "gain": sum(gains) / len(gains) if gains else None,
        "refused_last": len(last.refusals) if last else 0,
    }


def _gain_known(site: SiteFacts) -> bool:
    return site.verdict is not None and site.verdict.after is not None and site.verdict.dice.base is not None


def _later(every: Sequence[RoundFacts], shown: Sequence[RoundFacts]) -> int | None:
    """The `until` of the window after the shown one; None at the end."""
    after = [one.number for one in every if shown and one.number > shown[-1].number]
    return after[min(WINDOW, len(after)) - 1] if after else None
