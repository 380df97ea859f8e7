"""Harm to real federations: a few quick faults with every test run, all of them with `make faults` (`pytest -m faults`)."""

from collections.abc import Iterator

import pytest

from tests.faults.everything import FAULTS
from tests.faults.fault import Fault, Grounds, NotHere
from tests.faults.federation import make_templates

QUICK = [one for one in FAULTS if one.quick]


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Grounds]:
    """For the faults that were asked for: templates of the sites that they need."""
    folder = tmp_path_factory.mktemp("faults")
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [spec.params["fault"] for spec in specs if spec is not None and isinstance(spec.params.get("fault"), Fault)]
    names = sorted({name for fault in asked for name in fault.sites})
    made = Grounds(folder, make_templates(folder / "templates", names))
    yield made
    made.close()


def make(grounds: Grounds, fault: Fault) -> None:
    try:
        seen, _ = grounds.make(fault)
    except NotHere as error:
        pytest.skip(f"{fault.name}: {error}")
    assert seen.what.endswith(".")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", QUICK, ids=[one.name for one in QUICK])
def test_quick_faults(grounds: Grounds, fault: Fault) -> None:
    make(grounds, fault)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS, ids=[one.name for one in FAULTS])
def test_every_fault(grounds: Grounds, fault: Fault) -> None:
    make(grounds, fault)


def test_there_are_many_faults_of_every_kind() -> None:
    assert len(FAULTS) >= 20
    assert {one.group for one in FAULTS} == {"kill", "disk", "clock", "files", "network", "skew", "late"}
