import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_adapters import tuning
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.case_loading import load_case
from sam_adapters.cases import LabelledCase, labelled_cases
from sam_adapters.errors import TuningError
from sam_adapters.evaluation import evaluate, mean_by_kind
from sam_adapters.loading import load_adapted
from sam_adapters.segmenter import Segmenter
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.tuning import TuningProgress, TuningSettings, rate, tune
from sam_adapters.tuning_loss import first_prompts, next_prompts, slice_tensors
from sam_adapters.tuning_slices import StemCache, TrainingSlice, training_slice
from tests.sam_adapters.toy_studies import SETTINGS, add_picture, add_volume, make_site, write_array

FAST = TuningSettings(steps=3, batch_size=1, seed=5, prompt_kinds=("mask",), checkpoint_every=1)

KILLED = """
import os, signal, sys
from pathlib import Path
from sam_adapters.cases import labelled_cases
from sam_adapters.loading import load_adapted
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.tuning import tune
from tests.sam_adapters.test_tuning import FAST
from tests.sam_adapters.toy_studies import SETTINGS

site = SiteDirectory.open(Path(sys.argv[1]))

def die(now):
    if now.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)

tune(load_adapted(SETTINGS), labelled_cases(site, SETTINGS), FAST, checkpoint=site.tuning_checkpoint_file, progress=die)
"""


@pytest.fixture(scope="module")
def adapted() -> AdaptedNetwork:
    return load_adapted(SETTINGS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteDirectory:
    site = SiteDirectory.open(tmp_path_factory.mktemp("site"))
    add_picture(site, "a", 1)
    add_volume(site, "b", 2)
    return site


@pytest.fixture
def cases(site: SiteDirectory) -> list[LabelledCase]:
    return labelled_cases(site, SETTINGS)


def weights(adapted: AdaptedNetwork) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in adapted.trainable_parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


@pytest.mark.slow
def test_a_killed_tuning_goes_on_to_exactly_the_same_weights(site, cases, adapted) -> None:  # type: ignore[no-untyped-def]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(site.root)], cwd=Path(__file__).parents[2], timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert site.tuning_checkpoint_file.exists()

    adapted.reset()
    seen: list[TuningProgress] = []
    resumed = tune(adapted, cases, FAST, checkpoint=site.tuning_checkpoint_file, progress=seen.append)
    after_kill = weights(adapted)
    assert resumed.resumed_at == 2
    assert [progress.step for progress in seen] == [3]

    adapted.reset()
    whole = tune(adapted, cases, FAST)
    assert whole.losses == resumed.losses
    assert equal(weights(adapted), after_kill)

    adapted.reset()
    finished = tune(adapted, cases, FAST, checkpoint=site.tuning_checkpoint_file)
    assert finished.resumed_at == 3  # killed between the last step and the registry: nothing is tuned again
    assert equal(weights(adapted), after_kill)

    adapted.reset()
    other = tune(adapted, cases, dataclasses.replace(FAST, steps=1, seed=6), checkpoint=site.tuning_checkpoint_file)
    assert other.resumed_at == 0
    adapted.reset()
    site.tuning_checkpoint_file.write_bytes(b"torn")
    assert tune(adapted, cases, dataclasses.replace(FAST, steps=1), checkpoint=site.tuning_checkpoint_file).resumed_at == 0


def test_a_stopped_tuning_keeps_what_it_has(site, cases, adapted, tmp_path) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    checkpoint = tmp_path / "checkpoint"
    asked: list[int] = []
    slow = dataclasses.replace(FAST, checkpoint_every=100)
    stopped = tune(adapted, cases, slow, checkpoint=checkpoint, stop=lambda: asked.append(1) or len(asked) > 1)
    assert (stopped.stopped, stopped.steps) == (True, 1)
    adapted.reset()
    assert tune(adapted, cases, slow, checkpoint=checkpoint, stop=lambda: True).resumed_at == 1


def test_only_the_trainable_adapters_change(cases, adapted) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    before = {name: value.clone() for name, value in adapted.network.state_dict().items()}
    result = tune(adapted, cases, TuningSettings(steps=1))
    changed = {name for name, value in adapted.network.state_dict().items() if not torch.equal(value, before[name])}
    trainable = {name for name, parameter in adapted.network.named_parameters() if parameter.requires_grad}
    assert changed
    assert changed <= trainable
    assert result.cases == tuple(cases)
    assert not adapted.network.training
    assert any(np.abs(value).max() > 0 for value in adapted.shared_state().tensors.values())


def test_the_stem_cache_changes_nothing(cases, adapted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    cached = tune(adapted, cases, FAST)
    with_cache = weights(adapted)
    monkeypatch.setattr(tuning, "StemCache", lambda stem: StemCache(stem, max_bytes=0))
    adapted.reset()
    assert tune(adapted, cases, FAST).losses == cached.losses
    assert equal(weights(adapted), with_cache)


def test_a_batch_weighs_its_slices_alike(cases, adapted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    norms: list[float] = []
    monkeypatch.setattr(tuning.nn.utils, "clip_grad_norm_", lambda parameters, limit: norms.append(1.0) or torch.tensor(1.0))
    settings = dataclasses.replace(FAST, steps=1, batch_size=2)
    result = tune(adapted, cases, settings)
    summed = [parameter.grad.clone() for parameter in adapted.trainable_parameters() if parameter.grad is not None]
    run = tuning._Run(adapted, settings, torch.device("cpu"), {})
    assert (len(result.losses), len(norms)) == (1, 1)
    adapted.reset()
    plan, _ = tuning._plan(64, cases, settings)
    run.slices = tuning._cut_slices(cases, plan, 64, settings)
    run.optimizer.zero_grad()
    whole = run._losses(plan[0]).mean()  # both slices through the encoder together
    whole.backward()
    together = [parameter.grad for parameter in adapted.trainable_parameters() if parameter.grad is not None]
    assert result.losses[0] == pytest.approx(float(whole.detach()), rel=1e-4)
    assert len(summed) == len(together) > 0
    scale = max(float(one.abs().max()) for one in summed)
    assert all(torch.allclose(one, other, atol=1e-4 * scale) for one, other in zip(summed, together, strict=True))


def test_bad_cases_are_reported_and_the_others_used(tmp_path, adapted) -> None:  # type: ignore[no-untyped-def]
    site = make_site(tmp_path / "site", train=2, validation=0)
    add_volume(site, "damaged", 3)
    (site.studies / "damaged.nii.gz").write_bytes(b"x" * 1000)
    write_array(np.zeros((48, 48), np.uint8), site.studies / "labels" / "final" / "t1.png")
    adapted.reset()
    result = tune(adapted, labelled_cases(site, SETTINGS), dataclasses.replace(FAST, steps=1))
    assert [case.case for case in result.cases] == ["t0"]
    assert {one.case for one in result.skipped} == {"damaged", "t1"}
    assert "no target" in {one.case: one.reason for one in result.skipped}["t1"]


def test_nothing_to_tune_on(tmp_path, adapted) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TuningError, match="no labelled training cases"):
        tune(adapted, [], FAST)
    site = make_site(tmp_path / "site", train=1, validation=0)
    (site.studies / "t0.png").write_bytes(b"")
    with pytest.raises(TuningError, match=r"t0: t0\.png is empty"):
        tune(adapted, labelled_cases(site, SETTINGS), FAST)


def test_a_loss_that_is_not_finite_ends_the_tuning(cases, adapted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    before = weights(adapted)
    real = tuning.mean_prompt_loss
    monkeypatch.setattr(tuning, "mean_prompt_loss", lambda *arguments: real(*arguments) * float("nan"))
    with pytest.raises(TuningError, match="no longer finite at step 1"):
        tune(adapted, cases, FAST)
    assert equal(weights(adapted), before)


def test_the_learning_rate_by_hand() -> None:
    assert [rate(number, 8) for number in range(8)] == pytest.approx([1, 1, 1, 1, 1, 1 - 0.95 / 3, 1 - 1.9 / 3, 0.05])
    assert [rate(number, 2) for number in range(2)] == [1, 1]
    assert rate(0, 1) == 1


def test_bfloat16_on_the_cpu(cases, adapted) -> None:  # type: ignore[no-untyped-def]
    adapted.reset()
    result = tune(adapted, cases, dataclasses.replace(FAST, steps=1, bf16=True))
    adapted.reset()
    exact = tune(adapted, cases, dataclasses.replace(FAST, steps=1))
    assert result.losses != exact.losses
    assert result.losses == pytest.approx(exact.losses, rel=0.05)


# --- prompts in the frame of the network's input ----------------------------------------------------------------------------------------


def test_a_training_slice_lies_where_the_network_sees_it(site: SiteDirectory) -> None:
    loaded = load_case(labelled_cases(site, SETTINGS)[1])
    one = training_slice(loaded, 1, 64)
    assert one.pixels.shape == (3, 64, 64)
    assert one.filled == (64, 64)
    wanted = loaded.target[1].mean()
    assert one.target.mean() == pytest.approx(wanted, rel=0.02)
    assert one.mask().mean() == pytest.approx(wanted, rel=0.05)
    tensors = slice_tensors(one, torch.device("cpu"))
    assert tensors.valid.min() == 1


def test_the_smallest_target_keeps_a_pixel() -> None:
    target = np.zeros((64, 64), np.float32)
    target[10, 20] = 0.05  # a pixel of a large image
    mask = TrainingSlice(np.zeros((3, 64, 64), np.float32), target, (40, 64)).mask()
    assert mask.shape == (40, 64)
    assert np.argwhere(mask).tolist() == [[10, 20]]


def test_simulated_prompts_of_each_kind() -> None:
    target = np.zeros((64, 64), np.float32)
    target[10:30, 20:50] = 1
    one = TrainingSlice(np.zeros((3, 64, 64), np.float32), target, (48, 64))
    rng = np.random.default_rng(0)
    box = first_prompts(one, "box", rng).box
    assert box is not None
    assert np.abs(np.array(box) - (20, 10, 49, 29)).max() <= 3
    ((x, y, label),) = first_prompts(one, "point", rng).points
    assert (target[int(y), int(x)], label) == (1, 1)
    assert first_prompts(one, "none", rng).empty
    starts = [first_prompts(one, "mask", np.random.default_rng(seed)) for seed in range(30)]
    assert {(start.box is None, len(start.points)) for start in starts} == {(True, 1), (False, 0)}
    empty = TrainingSlice(one.pixels, np.zeros_like(target), one.filled)
    assert first_prompts(empty, "box", rng).empty


def test_the_second_answer_is_to_a_corrective_click() -> None:
    target = np.zeros((64, 64), np.float32)
    target[10:30, 20:50] = 1
    one = TrainingSlice(np.zeros((3, 64, 64), np.float32), target, (48, 64))
    answer = torch.full((1, 1, 64, 64), -3.0)
    answer[..., 10:30, 20:30] = 3  # finds a third of it …
    answer[..., 48:, :] = 3  # … and padding, which nobody sees
    rng = np.random.default_rng(0)
    first = first_prompts(one, "point", rng)
    second = next_prompts(first, answer, answer, one, "point", rng)
    assert second is not None
    x, y, label = second.points[1]
    assert label == 1
    assert 30 <= x < 50
    assert 10 <= y < 30
    assert second.mask is None
    with_mask = next_prompts(first, answer, answer, one, "mask", rng)
    assert with_mask is not None
    assert with_mask.mask is not None
    assert np.array_equal(with_mask.mask, answer[0, 0].numpy())
    assert next_prompts(first, answer, answer, one, "box", rng) is None
    perfect = torch.from_numpy(target * 2 - 1)[None, None]
    assert next_prompts(first, perfect, perfect, one, "point", rng) is None
    unchanged = next_prompts(first, perfect, perfect, one, "mask", rng)
    assert unchanged is not None
    assert unchanged.points == first.points


def test_the_stem_cache_keeps_within_its_bound() -> None:
    calls: list[int] = []

    def stem(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return pixels * 2

    pixels = torch.ones(1, 3, 4, 4)
    cache = StemCache(stem, max_bytes=2 * pixels.nbytes)
    for key in ((0, 0), (0, 1), (0, 0), (0, 2), (0, 0), (0, 1)):  # 1 is dropped for 2, as 0 was used since
        assert torch.equal(cache.features(key, pixels), pixels * 2)
    assert len(calls) == 4


@pytest.mark.slow
def test_tuning_teaches_points_to_a_base_that_knows_boxes_only(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=6, validation=3)
    cases = labelled_cases(site, SETTINGS)
    train, validation = cases[:6], cases[6:]
    adapted = load_adapted(SETTINGS)
    before = mean_by_kind(evaluate(Segmenter(adapted), validation, kinds=("box", "point")))
    result = tune(adapted, train, TuningSettings(steps=16, prompt_kinds=("box", "point")))
    after = mean_by_kind(evaluate(Segmenter(adapted), validation, kinds=("box", "point")))
    assert np.mean(result.losses[-4:]) < 0.7 * np.mean(result.losses[:4])
    assert after["point"] > before["point"] + 0.2
    assert after["box"] > before["box"] - 0.03
