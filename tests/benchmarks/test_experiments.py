"""The named experiments, and configurations kept by older software."""

import pytest

from benchmarks.federated.configuration import EXPERIMENTS, MAIN, SHARED, Arm, Configuration, arms, completed


def test_what_is_not_said_in_a_kept_configuration_is_what_older_software_did() -> None:
    kept = Configuration(rounds=5).to_dict()
    assert completed(kept) == kept
    del kept["shared_decoder"]
    assert completed(kept)["shared_decoder"] is False
    assert completed(kept)["rounds"] == 5


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_arm_can_be_run_and_has_a_name_of_its_own(experiment: str) -> None:
    found = arms(experiment, ("A", "B", "C"))
    assert len({arm.name for arm in found if arm.name != MAIN}) == sum(arm.name != MAIN for arm in found)
    for arm in found:
        changed = Configuration().changed(arm.changes)
        assert (arm.name == MAIN) == (changed == Configuration()), arm


def test_the_usual_way_of_sharing_is_the_main_arm() -> None:
    named = {arm.name: Configuration().changed(arm.changes) for arm in arms("sharing", ("A", "B"))}
    wanted = {(depth, decoder) for depth, decoder in SHARED.values()}
    assert {(one.shared_depth, one.shared_decoder) for one in named.values()} == wanted
    assert named[MAIN] == Configuration()
    usual = {"shared_depth": Configuration.shared_depth, "shared_decoder": Configuration.shared_decoder}
    assert all(one.changed(usual) == Configuration() for one in named.values())
    assert Arm(MAIN, {}, ("local",)) in arms("sharing", ("A", "B"), ("local",))
