from pathlib import Path

import numpy as np
import pytest

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.case_loading import load_case
from sam_adapters.cases import LabelledCase, labelled_cases
from sam_adapters.errors import AdapterError
from sam_adapters.loading import load_adapted
from sam_adapters.probe import patient_halves, probe_halves, shared_gradient
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.tuning_loss import fixed_prompt_loss
from sam_adapters.tuning_slices import training_slice
from tests.sam_adapters.toy_studies import SETTINGS, make_site


def case(name: str, patient: str) -> LabelledCase:
    return LabelledCase(name, patient, Path(name), Path(name), "0" * 64)


@pytest.fixture(scope="module")
def adapted() -> AdaptedNetwork:
    return load_adapted(SETTINGS)


def test_halves_share_no_patient_and_are_even() -> None:
    cases = [case(f"c{number}", f"p{number // 3}") for number in range(30)]
    for seed in range(20):
        a, b = patient_halves(cases, seed)
        assert sorted(a + b, key=lambda one: cases.index(one)) == cases
        assert not {one.patient for one in a} & {one.patient for one in b}
        assert len(a) == len(b) == 15
    assert patient_halves(cases, 1) == patient_halves(list(reversed(cases)), 1)
    assert patient_halves(cases, 1) != patient_halves(cases, 2)


def test_one_patient_cannot_be_halved(tmp_path: Path) -> None:
    a, b = patient_halves([case("x", "p"), case("y", "p")], 0)
    assert sorted(map(len, (a, b))) == [0, 2]
    site = make_site(tmp_path / "site", train=2, validation=0)
    site.patients_file.write_text('{"t0": "anna", "t1": "anna"}', encoding="utf-8")
    assert probe_halves(site, SETTINGS, AdapterState.zeros(SCHEMA), project=lambda vector: vector) is None


SCHEMA = AdapterSchema("ab" * 32, 8, 0.5, ())


def test_the_probe_is_the_mean_of_unit_gradients(tmp_path: Path, adapted: AdaptedNetwork) -> None:
    site = make_site(tmp_path / "site", train=3, validation=1)
    cases = labelled_cases(site, SETTINGS)[:3]
    common = AdapterState.from_vector(adapted.schema, np.full(adapted.schema.size, 1e-3, np.float32))
    seen: list[np.ndarray] = []
    halves = probe_halves(site, SETTINGS, common, project=lambda vector: seen.append(vector) or vector[:10].astype(np.float32), seed=3)
    assert halves is not None
    a, b = patient_halves(cases, 3)
    assert (halves.cases_a, halves.cases_b) == (len(a), len(b)) == (2, 1)
    assert halves.a.shape == halves.b.shape == (10,)
    assert halves.a.dtype == np.float32
    assert np.linalg.norm(seen[1]) == pytest.approx(1)

    adapted.reset()
    adapted.load_shared(common)
    directions = []
    for one in a:
        gradient = shared_gradient(adapted, training_slice(load_case(one), 0, 64), next(adapted.network.parameters()).device)
        directions.append(gradient / np.linalg.norm(gradient))
    assert np.allclose(seen[0], np.mean(directions, axis=0), atol=1e-4)
    limited = probe_halves(site, SETTINGS, common, project=lambda vector: vector, max_cases_per_half=1, seed=3)
    assert limited is not None
    assert (limited.cases_a, limited.cases_b) == (1, 1)
    assert np.linalg.norm(limited.a) == pytest.approx(1, abs=1e-5)


def test_the_gradient_points_where_the_loss_grows(tmp_path: Path, adapted: AdaptedNetwork) -> None:
    import torch

    site = make_site(tmp_path / "site", train=1, validation=0)
    one = training_slice(load_case(labelled_cases(site, SETTINGS)[0]), 0, 64)
    adapted.reset()
    gradient = shared_gradient(adapted, one, torch.device("cpu"))
    step = 1e-2 / np.linalg.norm(gradient)

    def loss(sign: float) -> float:
        adapted.load_shared(AdapterState.from_vector(adapted.schema, (sign * step * gradient).astype(np.float32)))
        with torch.no_grad():
            return float(fixed_prompt_loss(adapted.network, adapted.network.encode(torch.from_numpy(one.pixels.copy())[None]), one))

    slope = (loss(1) - loss(-1)) / (2e-2)
    adapted.reset()
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=0.1)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=0)
    with pytest.raises(AdapterError):
        probe_halves(site, SETTINGS, AdapterState.zeros(SCHEMA), project=lambda vector: vector)
