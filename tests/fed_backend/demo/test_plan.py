import pytest

from fed_backend.demo.options import VIRTUAL_IMAGE_SIZE, VIRTUAL_MINUTES
from fed_backend.demo.plan import LADDER, VIRTUAL_LEVEL, HospitalPlan, Inventory, chosen_cases, make_plan, waves


def inventory(name: str, train: int, val: int, test: int, slices: int = 5) -> Inventory:
    a, b, c = (tuple(f"{part}{number}" for number in range(count)) for part, count in (("a", train), ("b", val), ("c", test)))
    every = dict.fromkeys(a + b + c, slices)
    return Inventory(name, a, b, c, slices=every, all_slices=dict.fromkeys(every, slices + 2))


def test_waves_share_out_evenly_and_never_more_than_there_are() -> None:
    assert waves(20, 2, 8) == (8, 8)
    assert waves(9, 2, 8) == (5, 4)
    assert waves(1, 3, 8) == (1, 0, 0)
    assert waves(0, 2, 8) == (0, 0)


def test_a_wave_is_what_starts_a_tuning() -> None:
    assert HospitalPlan("x", (5, 4), (), ()).tune_after == 4
    assert HospitalPlan("x", (1, 0), (), ()).tune_after == 1
    assert HospitalPlan("x", (0, 0), (), ()).tune_after == 1


def test_chosen_cases_are_seeded_and_in_order() -> None:
    cases = [f"c{number:02d}" for number in range(20)]
    picked = chosen_cases(cases, 5, 1)
    assert picked == chosen_cases(cases, 5, 1)
    assert picked != chosen_cases(cases, 5, 2)
    assert list(picked) == sorted(picked)
    assert chosen_cases(cases, 0, 1) == tuple(cases)


def test_more_time_is_used_and_less_time_is_kept() -> None:
    stock = [inventory("one", 58, 9, 24), inventory("two", 28, 7, 13)]
    rungs = []
    for minutes in (1, 4, 8, 15, 25, 60, 500):
        plan = make_plan(stock, rounds=2, seconds=60 * minutes, kinds=("box", "point"), seed=0, cores=2)
        rungs.append(LADDER.index(plan.level))
        assert plan.expected_seconds <= 60 * minutes or plan.level == LADDER[-1]
    assert rungs == sorted(rungs, reverse=True)
    assert rungs[-1] == 0
    assert rungs[0] > rungs[-1]


def test_one_hospital_cannot_be_spread_over_the_cores() -> None:
    big, small = inventory("big", 50, 9, 60), inventory("small", 3, 2, 2)
    few, many = (make_plan([big, small], rounds=2, seconds=1e9, kinds=("box",), seed=0, cores=cores) for cores in (2, 64))
    assert many.expected_seconds > 0.5 * few.expected_seconds


def test_the_plan_is_in_the_report() -> None:
    plan = make_plan([inventory("one", 6, 2, 3)], rounds=2, seconds=1e9, kinds=("box",), seed=0)
    shown = plan.to_dict()
    assert shown["training_cases_per_wave"] == {"one": [3, 3]}
    assert shown["test_cases"] == {"one": 3}


def test_the_default_time_is_enough_for_virtual_hospitals_on_two_cores() -> None:
    stock = [inventory(name, 7, 2, 3, slices=4) for name in ("one", "two", "three")]
    plan = make_plan(
        stock,
        rounds=2,
        seconds=60 * VIRTUAL_MINUTES,
        kinds=("box", "point", "none"),
        seed=0,
        image_size=VIRTUAL_IMAGE_SIZE,
        ladder=(VIRTUAL_LEVEL, *LADDER[-4:]),
        cores=2,
    )
    assert plan.level == VIRTUAL_LEVEL


def test_an_empty_ladder_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        make_plan([], rounds=1, seconds=1, kinds=("box",), seed=0, ladder=())
