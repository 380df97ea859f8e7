"""Does an attack to a real federation, and reads what came of it from the places where a person would look."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

import numpy as np

from fed_backend.page.page_options import USERS_FILE, PageOptions
from fed_backend.page.web import application
from fed_backend.quarantine import load as trust_book
from tests.attacks.attack_list import ATTACKS, HONEST, MOLES, RealAttack
from tests.attacks.federation import AttackedFederation
from tests.fed_backend.page.asgi_client import asgi_client
from tests.fed_backend.page.running_page import NAME, PHRASE, add_operator

ADDRESS = "http://127.0.0.1:9190"
Vectors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Course:
    """What rounds of a federation came to, round by round.

    Attributes:
        reports: the server's.
        logs: what the server's command printed.
        mixtures: honest site -> what it received.
        sent: site -> what it sent, attackers among them.
        page: the operator's page after the last round, as text.
        quarantined: sites in quarantine at the end.
    """

    reports: Sequence[Mapping[str, Any]]
    logs: Sequence[str]
    mixtures: Sequence[Vectors]
    sent: Sequence[Vectors]
    page: str
    quarantined: tuple[str, ...]


def take(federation: AttackedFederation, attack: RealAttack) -> Course:
    """Put the federation back to its first round, and run the attack's rounds."""
    moles = MOLES[: attack.moles]
    federation.restore()
    for mole in moles:
        federation.plan_of(mole).write_text(json.dumps({"attack": attack.name, "moves": attack.moves}), encoding="utf-8")
    federation.present(moles)
    reports, logs, mixtures, sent = [], [], [], []
    for _ in attack.moves:
        report, log = federation.run_round()
        reports.append(report)
        logs.append(log)
        mixtures.append({name: federation.mixture(name, report) for name in HONEST if name in report["weights"]})
        files = {mole: federation.plan_of(mole).with_suffix(f".{report['round']}.npy") for mole in moles}
        everybody = {name: federation.sent(name, report) for name in HONEST}
        sent.append(everybody | {mole: np.load(file) for mole, file in files.items() if file.exists()})
    return Course(reports, logs, mixtures, sent, page_of(federation), tuple(trust_book(federation.state).quarantined()))


def page_of(federation: AttackedFederation) -> str:
    """The operator's page, after a login."""
    if not (federation.state / USERS_FILE).exists():
        add_operator(federation.state)
    with asgi_client(application(PageOptions(federation.state)), ADDRESS) as client:
        answer = client.post("/login", data={"username": NAME, "password": PHRASE}, headers={"Origin": ADDRESS})
        assert answer.headers["location"] == "/", answer.text
        return unescape(client.get("/").text)


def assert_sound(course: Course) -> None:
    """Without an attack nobody is refused, and every honest site's mixture is a mixture."""
    for report in course.reports:
        assert report["refusals"] == [], report["refusals"]
        assert sorted(report["verdicts"]) == sorted(report["sites"])
        for name in HONEST:
            assert report["weights"][name][name] < 0.95, report["weights"][name]
            assert sum(weight > 0.02 for weight in report["weights"][name].values()) >= 3, report["weights"][name]
    assert "Nothing was refused" in course.page


@dataclass(frozen=True)
class Result:
    """One line of the table; see `measure`.

    Attributes:
        refused_in: the first round, counted from the attacker's joining, in which it was refused; None if it never was.
        said: the sentence, in the server's report, its log, and on the page.
        deviation: honest site -> largest relative L2 distance of its mixture to the one without the attack.
        fedavg: the same of the plain mean; infinite where that is not finite.
    """

    name: str
    refused_in: int | None
    said: str
    quarantined: bool
    deviation: Mapping[str, float]
    fedavg: float


def measure(attack: RealAttack, course: Course, beside: Course) -> Result:
    """What the attack came to, compared with `beside`; AssertionError if something is not as it must be."""
    begin = attack.moves.index("attack") if "attack" in attack.moves else 0
    said = [(index, refusal) for index, report in enumerate(course.reports) for refusal in report["refusals"]]
    honest_refused = [refusal for _, refusal in said if refusal["site"] in HONEST]
    assert honest_refused == [], honest_refused
    for index, refusal in said:
        assert refusal["reason"][:500] in course.page, f"The page does not say: {refusal['reason']}"
        assert refusal["reason"] in " ".join(course.logs[index].split()), f"The log does not say: {refusal['reason']}"
    assert all(sorted(mixtures) == sorted(HONEST) for mixtures in course.mixtures), "An honest site was sent no mixture."
    notes = [line["note"] for report in course.reports for line in report["sites"].values() if line["note"]]
    rounds = range(begin, min(len(course.mixtures), len(beside.mixtures)))
    deviation = {name: max(relative(course.mixtures[r][name], beside.mixtures[r][name]) for r in rounds) for name in HONEST}
    fedavg = max(relative(mean(course.sent[r].values()), mean(beside.sent[r].values())) for r in rounds)
    if attack.is_value:
        assert fedavg > 0.05, f"Plain FedAvg is moved by {fedavg} only: this attack would show nothing."
    refused = [index for index, refusal in said if refusal["site"] in MOLES]
    if attack.refused:
        own = [refusal["reason"] for _, refusal in said if refusal["reason"].startswith("The site declined")]
        assert own == [], f"It was not the server that refused: {own}"
        assert refused[:1] == [begin], f"Not refused at once: {said}"
        assert max(deviation.values()) < 1e-3, deviation
    return Result(
        attack.name,
        refused[0] - begin + 1 if refused else None,
        said[0][1]["reason"] if said else notes[-1] if notes else "Taken: nothing that a check can see.",
        any(mole in course.quarantined for mole in MOLES),
        deviation,
        fedavg,
    )


def mean(states: Any) -> np.ndarray:
    """Plain FedAvg: all sites have as many cases."""
    with np.errstate(all="ignore"):
        found: np.ndarray = np.mean(list(states), axis=0)
        return found


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖; infinite where that is not finite."""
    with np.errstate(all="ignore"):
        value = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return value if np.isfinite(value) else float("inf")


class Courses:
    """Takes each course once: those that others are compared with are kept."""

    def __init__(self, federation: AttackedFederation) -> None:
        self._federation = federation
        self._kept: dict[str, Course] = {}

    def of(self, name: str) -> Course:
        """The course of an attack, or of what stands beside it."""
        if name not in self._kept:
            course = take(self._federation, ATTACKS[name])
            if name in ("(nobody)", "(an honest member)"):
                assert_sound(course)
            if not name.startswith("("):
                return course
            self._kept[name] = course
        return self._kept[name]

    def result(self, attack: RealAttack) -> Result:
        """Do it, and measure."""
        beside = self.of(attack.beside or "(nobody)")
        return measure(attack, self.of(attack.name), beside)
