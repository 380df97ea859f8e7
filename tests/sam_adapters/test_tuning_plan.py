from collections import Counter

import pytest

from sam_adapters.settings import PROMPT_KINDS
from sam_adapters.tuning_plan import CaseSlices, Sample, draw_plan

CASES = [CaseSlices(tuple(range(1, 9)), (0, 9)), CaseSlices(()), CaseSlices((0,)), CaseSlices((4, 5))]


def flat(plan: list[tuple[Sample, ...]]) -> list[Sample]:
    return [sample for batch in plan for sample in batch]


def plan_of(cases=CASES, **changes):  # type: ignore[no-untyped-def]
    values = {"steps": 30, "batch_size": 2, "kinds": PROMPT_KINDS, "seed": 1, "max_slices": 1000, **changes}
    return draw_plan(cases, **values)


def test_the_plan_follows_from_the_seed() -> None:
    assert plan_of() == plan_of()
    assert plan_of() != plan_of(seed=2)
    assert len({sample.seed for sample in flat(plan_of())}) == 60


def test_a_longer_plan_begins_like_a_shorter_one() -> None:
    assert plan_of(steps=50)[:30] == plan_of()


def test_cases_take_turns_whatever_they_hold() -> None:
    plan = plan_of()
    assert [len(batch) for batch in plan] == [2] * 30
    counts = Counter(sample.case for sample in flat(plan))
    assert counts == {0: 20, 2: 20, 3: 20}  # case 1 has no target


def test_a_cases_slices_are_gone_through_before_one_is_repeated() -> None:
    shown = [sample.slice for sample in flat(plan_of(kinds=("box",))) if sample.case == 0]
    assert sorted(shown[:8]) == list(range(1, 9))
    assert sorted(shown[8:16]) == list(range(1, 9))


def test_slices_without_target_are_shown_without_prompts_only() -> None:
    samples = flat(plan_of(steps=400))
    empty = [sample for sample in samples if sample.case == 0 and sample.slice in (0, 9)]
    assert {sample.kinds for sample in empty} == {("none",)}
    assert 0.07 < len(empty) / sum(sample.case == 0 for sample in samples) < 0.19  # an eighth
    assert {sample.kinds for sample in samples if sample not in empty} == {PROMPT_KINDS}
    assert not [s for s in flat(plan_of(steps=400, kinds=("box", "point"))) if s.case == 0 and s.slice in (0, 9)]


def test_the_number_of_different_slices_is_bounded() -> None:
    many = [CaseSlices(tuple(range(100)), tuple(range(100, 120))) for _ in range(10)]
    for bound in (3, 10, 40):
        samples = flat(plan_of(many, steps=2000, max_slices=bound))
        assert len({(sample.case, sample.slice) for sample in samples}) <= bound
        assert len({sample.case for sample in samples}) == min(bound, 10)


def test_nothing_to_look_at() -> None:
    with pytest.raises(ValueError, match="target"):
        plan_of([CaseSlices((), (0, 1))])
