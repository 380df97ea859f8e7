"""A state folder as a server leaves it: rounds of virtual sites, decided by the real FederatedRound, with times of our own."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_backend import server_state, server_state_file, wire
from fed_backend.federated_round import FederatedRound
from fed_backend.run_config import FederationSettings
from fed_backend.site_answer import SiteAnswer
from sam_adapters.schema import AdapterState
from tests.fed_backend.toys import FULL_SIZE

BEGIN = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
ROUNDS = 18
NEXT = BEGIN + timedelta(days=ROUNDS)


@dataclass
class VirtualSite:
    """A site: its images' direction, its cases, and how well it does."""

    name: str
    direction: tuple[float, float]
    cases: int
    base: float
    limit: float
    absent: Callable[[int], bool] = lambda _number: False
    active: float = field(init=False)

    def __post_init__(self) -> None:
        self.active = self.base


def five_sites() -> list[VirtualSite]:
    """Two groups that help each other, and one site that comes late."""
    return [
        VirtualSite("Alder", (1.0, 0.05), 24, 0.71, 0.90),
        VirtualSite("Birch", (0.95, 0.1), 15, 0.66, 0.88, lambda number: number in (6, 7)),
        VirtualSite("Cedar", (0.1, 1.0), 31, 0.74, 0.89),
        VirtualSite("Dogwood", (0.05, 0.9), 8, 0.58, 0.84, lambda number: number > 11),
        VirtualSite("Elm", (0.5, 0.6), 5, 0.62, 0.80, lambda number: number < 9),
    ]


def make_state_folder(folder: Path, sites: list[VirtualSite] | None = None, *, rounds: int = ROUNDS, privacy: bool = True) -> Path:
    """Run the rounds; returns `folder`."""
    sites = sites if sites is not None else five_sites()
    folder.mkdir(parents=True, exist_ok=True)
    settings = FederationSettings(federation="Virtual bladder study", min_sites=2, probe_every=1)
    settings.save(folder)
    state = server_state.new_state(FULL_SIZE)
    random = np.random.default_rng(5)
    for number in range(1, rounds + 1):
        state = _one_round(folder, state, settings, sites, number, random, privacy=privacy)
    server_state_file.save(state, folder / server_state_file.STATE_FILE)
    (folder / "schedule.json").write_text(json.dumps({"next_round": NEXT.isoformat()}), encoding="utf-8")
    return folder


def add_round(folder: Path, number: int) -> None:
    """Another round in a folder of `make_state_folder`."""
    state, settings = server_state_file.load(folder / server_state_file.STATE_FILE), FederationSettings.load(folder)
    after = _one_round(folder, state, settings, five_sites(), number, np.random.default_rng(number), privacy=True)
    server_state_file.save(after, folder / server_state_file.STATE_FILE)


def _one_round(
    folder: Path,
    state: server_state.ServerState,
    settings: FederationSettings,
    sites: list[VirtualSite],
    number: int,
    random: np.random.Generator,
    *,
    privacy: bool,
) -> server_state.ServerState:
    one = FederatedRound(state, settings, run=str(number), save=lambda _state: None)
    one.report.started = (BEGIN + timedelta(days=number - 1)).isoformat()
    there = [(node, site) for node, site in enumerate(sites, start=1) if not site.absent(number)]
    if number == 4:
        there = there[:1]
    answers = []
    for node, site in there:
        values = _adapters(site, number, random)
        update = wire.UpdateMessage(site.name, number, site.cases + number, AdapterState.from_vector(FULL_SIZE, values))
        answers.append(SiteAnswer(node, site.name, {"site": site.name, "payload": wire.encode_update(update), "version": "v"}))
    if number == 13:
        answers[1] = SiteAnswer(answers[1].node, answers[1].registered, error="No answer within 120 s.")
    one.take_updates(answers)
    one.report.seconds = {"join": 2.0, "update": 3.5 + number % 3}
    too_few = one.too_few()
    if too_few:
        one.skip(too_few)
    else:
        _compare_and_mix(one, [(node, site) for node, site in there if site.name in one.members], number, random)
        one.finish()
    one.report.finished = (BEGIN + timedelta(days=number - 1, seconds=one.report.seconds["total"])).isoformat()
    path = one.report.save(folder)
    if privacy:
        report = json.loads(path.read_text(encoding="utf-8"))
        for site in set(one.members) - {"Cedar"}:
            report["sites"][site] |= {"epsilon": round(0.35 * number**0.5, 3), "delta": 1e-5}
        path.write_text(json.dumps(report), encoding="utf-8")
    return one.state


def _adapters(site: VirtualSite, number: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Shared B as tuning makes it: a part that all sites have in common, one of the site's own, and what is new in every round."""
    common = np.random.default_rng(1).standard_normal(FULL_SIZE.size)
    own = np.random.default_rng([ord(letter) for letter in site.name]).standard_normal(FULL_SIZE.size)
    drawn = common + own + 0.3 * random.standard_normal(FULL_SIZE.size)
    return np.asarray(0.01 * min(number, 9) ** 0.5 * drawn, np.float32)


def _compare_and_mix(one: FederatedRound, there: list[tuple[int, VirtualSite]], number: int, random: np.random.Generator) -> None:
    request = wire.decode_probe_request(next(iter(one.probe_requests().values())), FULL_SIZE)
    replies = []
    for node, site in there:
        half = np.zeros(request.size, np.float32)
        half[:2] = site.direction
        noise = (0.35 / request.size**0.5 * random.standard_normal(request.size)).astype(np.float32)
        reply = wire.ProbeReply(
            site.name, number, request.seed, (site.cases // 2, site.cases - site.cases // 2), half + noise, half - noise
        )
        replies.append(SiteAnswer(node, site.name, {"site": site.name, "payload": wire.encode_probe_reply(reply), "seconds": 8.0}))
    one.take_probe_replies(replies)
    one.mixtures()
    one.take_verdicts([_verdict(node, site, number, random) for node, site in there])
    one.report.seconds |= {"probe": 20.0 + 9 * random.random() * len(there), "mixture": 30.0 + 8 * random.random() * len(there)}


def _verdict(node: int, site: VirtualSite, number: int, random: np.random.Generator) -> SiteAnswer:
    candidate = site.active + 0.3 * (site.limit - site.active) + 0.012 * random.standard_normal()
    promoted = candidate >= site.active
    figures = {"cases": 6, "overall": {"active": site.active, "candidate": candidate, "base": site.base}}
    words = f"Mean Dice {candidate:.3f} against {site.active:.3f} of the active version (6 cases)."
    fields = {"verdict": "promoted" if promoted else "rejected", "reason": words, "figures": json.dumps(figures), "candidate": f"v{number}"}
    if promoted:
        site.active = candidate
    return SiteAnswer(node, site.name, {"site": site.name, **fields})
