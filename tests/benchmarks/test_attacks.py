"""Every attack of the benchmark, on small adapters: what is said, and what honest sites still get."""

import re

import numpy as np
import pytest

from benchmarks import attacks
from benchmarks.attacks import Attack, Result
from benchmarks.simulated_federation import Attacker, FloatArray, Move

ATTACKS = {attack.name: attack for attack in attacks.attacks()}
SAID = {
    "sign flip x 8": "agrees with nothing|works against its own probe|times the median",
    "sign flip": "agrees with nothing|works against its own probe",
    "sign flip x 8, said to be noised": "others hear it: it is judged like all. .*(times the median|against its own)",
    "sign flip, said to be noised": "others hear it: it is judged like all. It (agrees with nothing|works against its own probe)",
    "scaling x 100": "times the median of the others",
    "random values": "times the median of the others",
    "random, ordinary norm": "agrees with nothing",
    "NaN": "not finite",
    "zero": "every value is zero",
    "constant, 2 of 8 alike": "tunings of different hospitals never agree",
    "constant, 2 of 8 nearly alike": "agrees with nothing",
    "old round's message": "round",
    "another site's name": "but is registered as hospital-h",
    "honest probe, poisoned update": "works against its own probe",
    "probe that claims no noise": "halves of its probe are the same",
    "oversized payload": "expected at most",
    "malformed bytes": "",
}
TAKEN = {
    "old round's adapters as new": "went back to the adapters",
    "slow drift": "Taken",
    "backdoor-like": "Taken",
    "(an honest member)": "Taken",
}


def measured(attack: Attack) -> Result:
    return attacks.measure(attack, rounds=5, values=4096)


@pytest.mark.parametrize("name", sorted(SAID))
def test_it_is_refused_with_a_reason_and_the_others_are_as_without_it(name: str) -> None:
    result = measured(ATTACKS[name])
    assert result.first_refused == attacks.STARTS
    assert result.verdict
    assert re.search(SAID[name], result.verdict)
    assert result.deviation <= 0.05
    assert result.honest_refused == 0


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_what_no_check_can_see_is_taken_and_does_not_cost_honest_sites_their_place(name: str) -> None:
    result = measured(ATTACKS[name])
    assert result.first_refused is None
    assert TAKEN[name] in result.verdict
    assert result.honest_refused == 0
    assert result.deviation <= 1.5 * measured(ATTACKS["(an honest member)"]).deviation, "about as much as any member may"


def test_every_attack_is_looked_at() -> None:
    assert set(SAID) | set(TAKEN) == set(ATTACKS)
    assert not set(SAID) & set(TAKEN)


def test_honest_sites_are_not_refused() -> None:
    rates = attacks.honest_refusals(2, rounds=4, values=4096)
    assert rates == {"seeds": 2, "updates": 64, "refused": 0}


def noised(multiplier: float) -> Attacker:
    """A member that adds the noise that it says: of an update clipped at twice its norm, and of its probe."""

    def update(move: Move) -> FloatArray:
        deviation = 2 * 2 * float(np.linalg.norm(move.honest)) * multiplier
        return np.asarray(move.honest + move.rng.normal(0, deviation, len(move.honest)), np.float64)

    def probe(move: Move, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
        return a + move.rng.normal(0, 2 * multiplier, len(a)), b + move.rng.normal(0, 2 * multiplier, len(b))

    return Attacker(update, probe, claims_noise=True)


@pytest.mark.parametrize("multiplier", [0.0005, 0.02, 0.5, 2.0])
def test_a_member_that_adds_the_noise_that_it_says_is_not_refused(multiplier: float) -> None:
    attack = Attack("noised", lambda: noised(multiplier))
    assert attacks.measure(attack, rounds=5).first_refused is None


def test_noise_in_the_update_alone_is_refused_where_it_would_drown_the_others() -> None:
    attack = Attack("noised", lambda: Attacker(noised(0.02).update, claims_noise=True))
    found = attacks.measure(attack, rounds=3, values=4096)
    assert found.first_refused == attacks.STARTS
    assert "judged like all" in found.verdict
