"""The federation's numbers for Prometheus: a collector over facts, read anew for every scrape. Nothing is kept between scrapes.

Counters are sums over the reports of all rounds, which are only added; where some are deleted they start anew, as counters may.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fed_backend.page.round_facts import STATUSES, UP
from fed_backend.page.site_facts import SiteFacts, site_facts
from fed_backend.page.state_reader import FederationFacts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(facts: FederationFacts) -> bytes:
    """The text that a scrape gets (format 0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_FederationCollector(facts))
    return generate_latest(registry)


class _FederationCollector(Collector):
    def __init__(self, facts: FederationFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        yield from _of_rounds(self._facts)
        yield from _of_sites(self._facts)


def _of_rounds(facts: FederationFacts) -> Iterator[Metric]:
    by_status = Counter(one.status for one in facts.rounds)
    rounds = CounterMetricFamily("fedsca_rounds", "Rounds that ended, by status.", labels=["status"])
    for status in STATUSES:
        if status != "running":
            rounds.add_metric([status], by_status[status])
    yield rounds
    yield GaugeMetricFamily("fedsca_rounds_running", "Rounds that are under way.", value=by_status["running"])
    refusals = CounterMetricFamily("fedsca_refusals", "Answers that were refused or did not come, by phase of the round.", labels=["phase"])
    for phase, count in sorted(Counter(refusal.phase for one in facts.rounds for refusal in one.refusals).items()):
        refusals.add_metric([phase], count)
    yield refusals
    yield GaugeMetricFamily("fedsca_unreadable_round_files", "Reports of rounds that are damaged and left out.", value=facts.damaged)
    ended = [one for one in facts.rounds if one.status != "running"]
    if ended:
        last = ended[-1]
        yield GaugeMetricFamily("fedsca_last_round", "Number of the last round that ended.", value=last.number)
        yield GaugeMetricFamily("fedsca_last_round_sites", "Sites whose update was accepted in it.", value=len(last.heard))
        if last.finished is not None:
            yield GaugeMetricFamily("fedsca_last_round_end_timestamp_seconds", "When it ended.", value=last.finished.timestamp())
        if last.seconds is not None:
            yield GaugeMetricFamily("fedsca_last_round_duration_seconds", "How long it took.", value=last.seconds)
    if facts.next_round is not None:
        yield GaugeMetricFamily("fedsca_next_round_timestamp_seconds", "When the next round is due.", value=facts.next_round.timestamp())
    yield GaugeMetricFamily("fedsca_schedule_paused", "1 while the schedule is paused.", value=int(facts.paused))
    days = GaugeMetricFamily(
        "fedsca_certificate_left_days", "Whole days that a certificate is good for; negative once it ended.", labels=["certificate"]
    )
    for what, left in _days_left(facts).items():
        days.add_metric([what], left)
    yield days


def _days_left(facts: FederationFacts) -> dict[str, int]:
    """The first end of each kind of certificate."""
    left: dict[str, int] = {}
    for life in facts.certificates:
        left[life.what] = min(life.days, left.get(life.what, life.days))
    return left


def _of_sites(facts: FederationFacts) -> Iterator[Metric]:
    sites = site_facts(facts)
    yield GaugeMetricFamily("fedsca_sites", "Sites that the federation knows.", value=len(sites))
    yield _gauge(sites, "fedsca_site_training_cases", "Labelled training cases behind a site's last update.", lambda site: site.cases)
    yield _gauge(sites, "fedsca_site_last_heard_round", "The round in which a site was last heard; 0: never.", lambda site: site.last_round)
    yield _gauge(
        sites,
        "fedsca_site_last_heard_timestamp_seconds",
        "When that was.",
        lambda site: site.last_heard.timestamp() if site.last_heard else None,
    )
    yield _gauge(
        sites, "fedsca_site_own_weight_ratio", "Weight of a site's own adapters in its last mixture, 0 to 1.", lambda site: site.own_weight
    )
    dice = GaugeMetricFamily("fedsca_site_dice_ratio", "Mean Dice that a site told last, 0 to 1.", labels=["site", "version"])
    for site in sites:
        if site.verdict is not None:
            told = {"before": site.verdict.dice.before, "after": site.verdict.after, "base": site.verdict.dice.base}
            for version, value in told.items():
                if value is not None:
                    dice.add_metric([site.name, version], value)
    yield dice
    yield _gauge(sites, "fedsca_site_privacy_epsilon", "ε that a site has spent.", lambda site: site.privacy[0] if site.privacy else None)
    yield _traffic(facts)


def _gauge(sites: list[SiteFacts], name: str, words: str, value: Callable[[SiteFacts], float | None]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=["site"])
    for site in sites:
        found = value(site)
        if found is not None:
            family.add_metric([site.name], found)
    return family


def _traffic(facts: FederationFacts) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "fedsca_site_payload_bytes",
        "Payload bytes exchanged with a site, by direction as the site sees it.",
        labels=["site", "direction", "kind"],
    )
    counted: Counter[tuple[str, str]] = Counter()
    for one in facts.rounds:
        for site, row in one.traffic.items():
            counted.update({(site, kind): count for kind, count in row.items()})
    for (site, kind), count in counted.items():
        family.add_metric([site, "sent" if kind in UP else "received", kind], count)
    return family
