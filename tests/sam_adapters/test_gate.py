import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sam_adapters import gate
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.evaluation import CaseScore
from sam_adapters.gate import run_gate
from sam_adapters.gate_rule import chance_margin, decide, kind_below_base
from sam_adapters.loading import load_adapted
from sam_adapters.provenance import BASE, Provenance
from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_studies import SETTINGS, add_picture, make_site


def scores(**by_kind: list[float]) -> list[CaseScore]:
    return [CaseScore(f"case{number}", kind, value) for kind, values in by_kind.items() for number, value in enumerate(values)]


BASE_SCORES = scores(box=[0.7, 0.8], point=[0.0, 0.1])
ACTIVE = scores(box=[0.8, 0.9], point=[0.5, 0.7])


@pytest.mark.parametrize(
    ("candidate", "verdict", "reason"),
    [
        (scores(box=[0.85, 0.9], point=[0.6, 0.7]), "promoted", "0.762 against 0.725"),
        (ACTIVE, "promoted", "0.725 against 0.725"),
        # box .845 is .005 below, within the margin of .01, and the overall mean is higher
        (scores(box=[0.8, 0.89], point=[0.6, 0.7]), "promoted", ""),
        # box .83 is .02 below in each case alike, though the overall mean is higher
        (scores(box=[0.78, 0.88], point=[0.6, 0.7]), "rejected", "Box Dice 0.830 is more than 0.01 below the active version's 0.850"),
        # box .83 is .02 below too, but by one case of the two: a standard error of .02
        (scores(box=[0.8, 0.86], point=[0.6, 0.7]), "promoted", ""),
        # box .79 is .06 below with a standard error of .04: chance is given .05 at most
        (scores(box=[0.7, 0.88], point=[0.7, 0.9]), "rejected", "Box Dice 0.790 is more than 0.05 below the active version's 0.850"),
        # both kinds within the margin, but the overall mean is lower
        (scores(box=[0.8, 0.89], point=[0.5, 0.69]), "rejected", "over all prompts 0.720 is below the active version's 0.725"),
        # lower by less than three decimals show: the sentence still tells which is larger
        (scores(box=[0.8, 0.8996], point=[0.5, 0.7]), "rejected", "over all prompts 0.7249 is below the active version's 0.7250"),
        (scores(box=[0.6, 0.8], point=[0.9, 0.9]), "rejected", "Box Dice 0.700 is below the untuned base's 0.750"),
        # box .83 is .02 below, but the mean over both kinds rises by .165: a trade, for a person
        (scores(box=[0.78, 0.88], point=[0.9, 1.0]), "waiting", "0.830 is more than 0.01 below the active version's 0.850, but mean Dice"),
        # box loses .09, and all together gain .13
        (scores(box=[0.71, 0.81], point=[0.9, 1.0]), "waiting", "Box Dice 0.760"),
        # all together gain .12, but box loses .11
        (scores(box=[0.69, 0.79], point=[0.9, 1.0]), "rejected", "Box Dice 0.740"),
        # one case gets worse, the mean does not
        (scores(box=[0.7, 1.0], point=[0.4, 0.8]), "promoted", ""),
    ],
)
def test_decisions_by_hand(candidate: list[CaseScore], verdict: str, reason: str) -> None:
    decision = decide(candidate, ACTIVE, BASE_SCORES)
    assert decision.verdict == verdict
    assert reason in decision.reason
    assert "2 validation cases" in decision.reason


def test_the_base_is_a_floor_even_within_the_margin() -> None:
    base = scores(box=[0.8, 0.8])
    assert decide(scores(box=[0.799, 0.799]), scores(box=[0.805, 0.805]), base, margin=0.05).verdict == "rejected"
    active, base = scores(box=[0.8, 0.8], point=[0.1, 0.1]), scores(box=[0.8, 0.8], point=[0, 0])
    below = decide(scores(box=[0.795, 0.795], point=[0.15, 0.15]), active, base)
    assert below.verdict == "rejected"
    assert "untuned base" in below.reason
    trade = decide(scores(box=[0.795, 0.795], point=[0.9, 0.9]), active, base)
    assert trade.verdict == "waiting"
    assert "untuned base" in trade.reason


def test_what_chance_makes_of_few_cases_by_hand() -> None:
    active = scores(box=[0.8, 0.8, 0.8, 0.8], point=[0.5] * 4)
    candidate = scores(box=[0.78, 0.81, 0.8, 0.79], point=[0.4, 0.6, 0.5, 0.5])
    # box: differences -.02 .01 0 -.01, deviation .012910, error .006455; point: error .040825, twice that is more than .05
    assert chance_margin(candidate, active, "box") == pytest.approx(0.0129099, abs=1e-6)
    assert chance_margin(candidate, active, "point") == 0.05
    assert chance_margin(candidate[:1], active[:1], "box") == 0
    assert chance_margin(candidate, active, "box", errors=0) == 0
    figures = decide(candidate, active, active, margin=0.02).figures
    assert figures["margins"] == pytest.approx({"box": 0.02, "point": 0.05})
    assert decide(candidate, active, active, margin=0.02, errors=0).figures["margins"] == pytest.approx({"box": 0.02, "point": 0.02})


def test_alike_falls_in_many_cases_are_no_chance() -> None:
    base, active = scores(box=[0.5] * 12, point=[0.5] * 12), scores(box=[0.8] * 12, point=[0.8] * 12)
    candidate = scores(box=[0.76, 0.78] * 6, point=[0.9] * 12)
    decision = decide(candidate, active, base)
    assert decision.verdict == "rejected"
    assert "Box Dice 0.770 is more than 0.01 below" in decision.reason


def test_repeated_promotions_never_end_below_the_base() -> None:
    base = active = scores(box=[0.8, 0.8], point=[0.0, 0.0])
    for step in range(1, 30):  # each gives a little of the box away for a better point
        candidate = scores(box=[0.85 - 0.008 * step] * 2, point=[0.03 * step] * 2)
        if decide(candidate, active, base).verdict == "promoted":
            active = candidate
        assert kind_below_base(active, base) is None


@pytest.mark.parametrize("cases", [0, 1])
def test_fewer_than_two_cases_wait_for_a_person(cases: int) -> None:
    decision = decide(*[scores(box=[0.9] * cases, point=[0.9] * cases)] * 3)
    assert decision.verdict == "waiting"
    assert "Waits for a person" in decision.reason
    assert f"{cases} validation case" in decision.reason
    assert "at least 2" in decision.reason


def test_figures_hold_every_mean() -> None:
    figures = decide(ACTIVE, ACTIVE, BASE_SCORES).figures
    assert figures["cases"] == 2
    assert figures["kinds"]["box"] == pytest.approx({"candidate": 0.85, "active": 0.85, "base": 0.75})
    assert figures["overall"] == pytest.approx({"candidate": 0.725, "active": 0.725, "base": 0.4})


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (ACTIVE, True),
        # box .77 is .08 below the active version's .85: not served, learnt from
        (scores(box=[0.72, 0.82], point=[0.5, 0.7]), True),
        # box .74 is .11 below
        (scores(box=[0.69, 0.79], point=[0.9, 1.0]), False),
        # one point .49 is .11 below
        (scores(box=[0.9, 1.0], point=[0.44, 0.54]), False),
    ],
)
def test_what_is_learnt_from_by_hand(candidate: list[CaseScore], expected: bool) -> None:
    assert decide(candidate, ACTIVE, BASE_SCORES).figures["learnable"] is expected


def test_what_is_below_the_floor_over_all_kinds_is_not_learnt_from() -> None:
    base = scores(box=[0.8, 0.8], point=[0.2, 0.2])
    below, level = scores(box=[0.79, 0.79], point=[0.2, 0.2]), scores(box=[0.75, 0.75], point=[0.25, 0.25])
    assert not decide(below, base, base).figures["learnable"]
    assert decide(level, base, base).verdict == "rejected"
    assert decide(level, base, base).figures["learnable"]
    # unless a person has accepted as little
    assert decide(below, base, base, accepted=below).figures["learnable"]


def test_too_few_cases_teach_nothing() -> None:
    assert not decide(*[scores(box=[0.9], point=[0.9])] * 3).figures["learnable"]


def test_only_like_is_compared_with_like() -> None:
    for other in (scores(box=[0.5, 0.5]), scores(box=[0.5], point=[0.5]), ACTIVE[:-1], [*ACTIVE, ACTIVE[0]]):
        with pytest.raises(ValueError, match="same cases"):
            decide(ACTIVE, other, BASE_SCORES)


def test_kind_below_base() -> None:
    assert kind_below_base(ACTIVE, BASE_SCORES) is None
    assert kind_below_base(BASE_SCORES, BASE_SCORES) is None
    assert kind_below_base(scores(box=[0.9, 0.9], point=[0.0, 0.0]), BASE_SCORES) == "one-point Dice 0.000 against the untuned base's 0.050"


# --- run_gate, with a real registry; the network is replaced by known scores ------------------------------------------------------------


class Scripted:
    """Stands between run_gate and the network: a version's Dice for (box, point) by id; records what was computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dice: dict[str, tuple[float, float]] = {BASE: (0.7, 0.1)}
        self.computed: list[str] = []
        self.meanwhile = lambda version: None
        monkeypatch.setattr(gate._Scoring, "_compute", lambda scoring, version, advance: self.score(scoring, version))

    def score(self, scoring: gate._Scoring, version: str) -> list[CaseScore]:
        self.computed.append(version)
        self.meanwhile(version)
        values = dict(zip(("box", "point"), self.dice[version], strict=True))
        return [CaseScore(case.case, kind, values[kind]) for case in scoring.cases for kind in scoring.kinds]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


@pytest.fixture(scope="module")
def adapted() -> AdaptedNetwork:
    return load_adapted(SETTINGS)


def add_version(
    site: SiteDirectory, adapted: AdaptedNetwork, folder: Path, seed: int, scale: float = 1e-3, parents: tuple[str, ...] = ()
) -> str:
    """A version whose B are random numbers."""
    adapted.reset()
    state = adapted.shared_state()
    rng = np.random.default_rng(seed)
    tensors = {name: (scale * rng.normal(size=value.shape)).astype(np.float32) for name, value in state.tensors.items()}
    adapted.load_shared(dataclasses.replace(state, tensors=tensors))
    adapted.save(folder / str(seed))
    adapted.reset()
    with Registry(site) as registry:
        return registry.add(folder / str(seed), Provenance("local", adapted.schema.base, adapted.schema.id, "site", parents)).id


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    return make_site(tmp_path / "site", train=1, validation=3)


def active_id(site: SiteDirectory) -> str:
    with Registry(site) as registry:
        active = registry.active()
    return active.id if active else BASE


def test_a_better_candidate_becomes_active(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    version = add_version(site, adapted, tmp_path, 1)
    scripted.dice[version] = (0.8, 0.6)
    decision = run_gate(site, SETTINGS, version, round=7)
    assert decision.verdict == "promoted"
    assert active_id(site) == version
    with Registry(site) as registry:
        written = registry.decisions(version)[-1]
    assert (written.action, written.by, written.reason) == ("activated", "gate", decision.reason)
    assert written.figures["kinds"]["point"] == pytest.approx({"candidate": 0.6, "active": 0.1, "base": 0.1})
    assert written.figures["round"] == 7
    assert run_gate(site, SETTINGS, version).verdict == "promoted"  # again: nothing happens
    with Registry(site) as registry:
        assert len(registry.decisions(version)) == 1


def test_a_worse_candidate_is_rejected_and_nothing_else_changes(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    good, bad = (add_version(site, adapted, tmp_path, seed) for seed in (1, 2))
    scripted.dice |= {good: (0.8, 0.6), bad: (0.78, 0.65)}
    run_gate(site, SETTINGS, good)
    decision = run_gate(site, SETTINGS, bad)
    assert decision.verdict == "rejected"
    assert "more than 0.01 below" in decision.reason
    assert active_id(site) == good
    with Registry(site) as registry:
        assert registry.get(bad).state == "rejected"
        learnt = registry.learnt_from()
        assert learnt is not None
        assert learnt.id == good  # `bad` was not made of it


def test_one_that_was_turned_away_for_little_is_learnt_from(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    good = add_version(site, adapted, tmp_path, 1)
    scripted.dice[good] = (0.8, 0.6)
    run_gate(site, SETTINGS, good)
    steps = [(0.78, 0.65), (0.72, 0.55), (0.65, 0.45)]
    made, reasons = [good], []
    for seed, dice in enumerate(steps, start=2):
        made.append(add_version(site, adapted, tmp_path, seed, parents=(made[-1],)))
        scripted.dice[made[-1]] = dice
        decision = run_gate(site, SETTINGS, made[-1])
        assert decision.verdict == "rejected"
        reasons.append((decision.reason.rsplit(". ", 1)[-1], decision.figures.get("learnt_from")))
    # however slowly it falls: the active version, with which all are compared, does not move
    went_on = "Tunings and rounds go on from it all the same."
    assert reasons == [(went_on, made[1]), (went_on, made[2]), (f"Tunings and rounds go on from {good} again.", good)]
    assert active_id(site) == good


def test_what_may_not_be_learnt_from_is_not(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    good = add_version(site, adapted, tmp_path, 1)
    late = add_version(site, adapted, tmp_path, 2, parents=(good,))
    scripted.dice |= {good: (0.8, 0.6), late: (0.78, 0.65)}
    run_gate(site, SETTINGS, good)
    assert "all the same" not in run_gate(site, SETTINGS, late, learn=False).reason
    with Registry(site) as registry:
        learnt = registry.learnt_from()
    assert learnt is not None
    assert learnt.id == good


def test_scores_are_computed_once_for_each_set_of_validation_cases(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    first, second, third = (add_version(site, adapted, tmp_path, seed) for seed in (1, 2, 3))
    scripted.dice |= {first: (0.8, 0.6), second: (0.81, 0.7), third: (0.5, 0.5)}
    run_gate(site, SETTINGS, first)
    run_gate(site, SETTINGS, second)
    assert scripted.computed == [first, BASE, second]
    add_picture(site, "v1", 77)  # the label changes
    run_gate(site, SETTINGS, third)
    assert scripted.computed[3:] == [third, second, BASE]
    run_gate(site, dataclasses.replace(SETTINGS, gate_slices_per_case=2), third)
    assert scripted.computed[6:] == [third, second, BASE]


@pytest.mark.parametrize("validation", [0, 1])
def test_too_few_validation_cases_wait(tmp_path, adapted, scripted, validation) -> None:  # type: ignore[no-untyped-def]
    site = make_site(tmp_path / "site", train=1, validation=validation)
    version = add_version(site, adapted, tmp_path, 1)
    scripted.dice[version] = (0.9, 0.9)
    decision = run_gate(site, SETTINGS, version)
    assert decision.verdict == "waiting"
    assert active_id(site) == BASE
    with Registry(site) as registry:
        assert registry.get(version).state == "candidate"
        assert registry.decisions(version)[-1].action == "held"


def test_unusable_validation_cases_are_named_and_left_out(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    version = add_version(site, adapted, tmp_path, 1)
    scripted.dice[version] = (0.9, 0.9)
    (site.studies / "v0.png").write_bytes(b"")
    decision = run_gate(site, SETTINGS, version)
    assert decision.verdict == "promoted"
    assert decision.figures["cases"] == 2
    assert "empty" in decision.figures["skipped"]["v0"]


def test_an_active_version_that_fell_below_the_base_gives_way_to_it(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    active, worse = (add_version(site, adapted, tmp_path, seed) for seed in (1, 2))
    scripted.dice |= {active: (0.8, 0.6), worse: (0.5, 0.5)}
    run_gate(site, SETTINGS, active)
    add_picture(site, "v1", 78)
    scripted.dice[active] = (0.65, 0.6)
    decision = run_gate(site, SETTINGS, worse)
    assert decision.verdict == "rejected"
    assert "box Dice 0.650 against the untuned base's 0.700" in decision.reason
    assert active_id(site) == BASE
    with Registry(site) as registry:
        assert registry.learnt_from() is None


def test_an_active_version_below_the_base_gives_way_also_when_the_candidate_waits(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    active, trade = (add_version(site, adapted, tmp_path, seed) for seed in (1, 2))
    scripted.dice |= {active: (0.8, 0.2), trade: (0.68, 0.9)}
    run_gate(site, SETTINGS, active)
    add_picture(site, "v1", 78)
    scripted.dice[active] = (0.65, 0.2)
    decision = run_gate(site, SETTINGS, trade)
    assert decision.verdict == "waiting"
    assert active_id(site) == BASE
    with Registry(site) as registry:
        assert registry.get(trade).state == "candidate"


def test_a_trade_that_a_person_accepted_stands(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    trade, worse, better, lower, last = (add_version(site, adapted, tmp_path, seed) for seed in range(1, 6))
    scripted.dice |= {trade: (0.68, 0.9), worse: (0.5, 0.5), better: (0.69, 0.92), lower: (0.675, 0.95), last: (0.4, 0.4)}
    assert run_gate(site, SETTINGS, trade).verdict == "waiting"
    with Registry(site) as registry:
        registry.activate(trade, reason="points matter more here", by="dr. test")
    assert run_gate(site, SETTINGS, worse).verdict == "rejected"
    assert active_id(site) == trade
    # what the person accepted is the floor now, also for those that follow
    assert run_gate(site, SETTINGS, better).verdict == "promoted"
    decision = run_gate(site, SETTINGS, lower)
    assert decision.verdict == "rejected"
    assert "Box Dice 0.675 is below the 0.680 that a person accepted" in decision.reason
    assert run_gate(site, SETTINGS, last).verdict == "rejected"
    assert active_id(site) == better
    # until the person takes it back
    with Registry(site) as registry:
        registry.activate(BASE, reason="they do not", by="dr. test")
    assert "untuned base" in run_gate(site, SETTINGS, lower).reason


def test_what_became_active_meanwhile_is_what_counts(site, adapted, scripted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    candidate, rival = (add_version(site, adapted, tmp_path, seed) for seed in (1, 2))
    scripted.dice |= {candidate: (0.8, 0.6), rival: (0.9, 0.9)}

    def a_person_activates_the_rival(version: str) -> None:
        if version == candidate:
            with Registry(site) as registry:
                registry.activate(rival, reason="looks better", by="dr. test")

    scripted.meanwhile = a_person_activates_the_rival
    decision = run_gate(site, SETTINGS, candidate)
    assert decision.verdict == "rejected"
    assert active_id(site) == rival
    assert scripted.computed == [candidate, BASE, rival]


def test_versions_are_scored_with_their_own_adapters(site, adapted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    version = add_version(site, adapted, tmp_path, 1, scale=0.1)
    calls: list[tuple[int, int]] = []
    decision = run_gate(site, SETTINGS, version, adapted=adapted, progress=lambda done, total: calls.append((done, total)))
    means = decision.figures["kinds"]["box"]
    assert means["base"] == means["active"]
    assert means["candidate"] != means["base"]
    assert means["base"] > 0.7
    assert calls == [(number, 6) for number in range(1, 7)]
