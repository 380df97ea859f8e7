"""An attack by a member of a real federation with processes of its own; `make attacks` does all of them."""

from pathlib import Path

import pytest

from tests.attacks.attack_list import ATTACKS
from tests.attacks.federation import AttackedFederation
from tests.attacks.scenario import Courses


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_poisoned_update_harms_nobody_and_is_told(tmp_path: Path) -> None:
    federation = AttackedFederation(tmp_path, ("mole",))
    try:
        result = Courses(federation.start()).result(ATTACKS["honest probe, poisoned update"])
    finally:
        federation.close()
    assert "works against its own probe" in result.said
    assert result.refused_in == 1
    assert max(result.deviation.values()) < 1e-3 < 0.05 < result.fedavg


def test_every_kind_of_attack_is_on_the_list() -> None:
    attacks = [one for one in ATTACKS.values() if not one.name.startswith("(")]
    assert len(attacks) >= 15
    assert {one.beside for one in attacks} - {""} <= set(ATTACKS)
    assert all("attack" in one.moves for one in attacks)
