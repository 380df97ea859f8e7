import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from sam_adapters.adapter_files import PEFT_PREFIX, read_schema, read_shared_state, read_tensors, write_adapter, write_mixture
from sam_adapters.adapters import AdaptedNetwork, AdapterSettings, adapter_schema, attach_adapters, shared_block_count
from sam_adapters.bases import load_base
from sam_adapters.errors import AdapterError, SettingError
from sam_adapters.frozen_projection import frozen_projection
from sam_adapters.schema import AdapterSchema, AdapterState

SIZE = 64
PIXELS = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(11))
BOX = torch.tensor([[8.0, 8, 50, 44]])


HALF = AdapterSettings(shared_depth=0.5, shared_decoder=False)  # some adapters are shared, some local


def fresh(settings: AdapterSettings = HALF, seed: int = 0) -> AdaptedNetwork:
    return attach_adapters(load_base("litemedsam", image_size=SIZE), settings, seed=seed)


def stirred(seed: int = 1) -> AdaptedNetwork:
    """Adapters with something in every factor, as after a tuning."""
    adapted = fresh()
    stir(adapted, seed)
    return adapted


def stir(adapted: AdaptedNetwork, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def answer(adapted: AdaptedNetwork) -> torch.Tensor:
    return adapted.network.decode(adapted.network.encode(PIXELS), boxes=BOX)[0]


@pytest.fixture(scope="module")
def untuned() -> torch.Tensor:
    network = load_base("litemedsam", image_size=SIZE)
    with torch.no_grad():
        return network.decode(network.encode(PIXELS), boxes=BOX)[0]


@pytest.fixture(scope="module")
def adapted() -> AdaptedNetwork:
    return fresh()


def test_everything_is_shared_unless_told() -> None:
    schema = adapter_schema("litemedsam")
    assert (schema.shared_depth, schema.shared_decoder) == (1.0, True)
    # ten blocks: two of width 128, six of 160, two of 320; the decoder's seven attentions have four projections each
    assert len(schema.tensors) == 10 * 4 + 7 * 4
    assert schema.size == 175_616


def test_half_of_the_encoder(adapted: AdaptedNetwork) -> None:
    # blocks of width 128 (two) and 160 (three): outputs of qkv, proj, fc1 and fc2 are 3, 1, 4 and 1 widths
    assert adapted.schema.size == 8 * (2 * 9 * 128 + 3 * 9 * 160) == 52_992
    names = [spec.name for spec in adapted.schema.tensors]
    assert len(names) == 20
    assert names[0] == "image_encoder.layers.1.blocks.0.attn.qkv.lora_B.weight"
    assert names[-1] == "image_encoder.layers.2.blocks.2.mlp.fc2.lora_B.weight"


def test_schema_is_known_without_the_weights_and_at_any_size(adapted: AdaptedNetwork) -> None:
    assert adapter_schema("litemedsam", HALF) == adapted.schema
    assert adapter_schema("litemedsam", HALF, 256).id == adapted.schema.id
    assert adapter_schema("litemedsam", replace(HALF, rank=4)).id != adapted.schema.id


def test_the_decoder_can_be_shared_too(adapted: AdaptedNetwork) -> None:
    schema = adapter_schema("litemedsam", replace(HALF, shared_decoder=True))
    encoder, decoder = schema.tensors[:20], schema.tensors[20:]
    assert encoder == adapted.schema.tensors
    assert len(decoder) == 28
    assert all("decoder" in spec.name for spec in decoder)
    assert schema.id != adapted.schema.id
    assert AdapterSchema.from_json(schema.to_json()) == schema
    assert schema.layout == "rank 8, shared depth 0.5, the decoder's too"


def test_a_layout_without_the_decoder_has_the_id_it_always_had(adapted: AdaptedNetwork) -> None:
    assert "decoder" not in json.loads(adapted.schema.to_json())
    assert adapted.schema.id == "cd423e9d9b64ef39"


def test_what_is_shared_follows_from_b_alone_in_the_decoder_too() -> None:
    settings = AdapterSettings(shared_depth=1.0, shared_decoder=True)
    one, other = fresh(settings, seed=1), fresh(settings, seed=2)
    stir(one, 3)
    other.load_shared(one.shared_state())  # nothing is local: the whole model travels
    assert torch.equal(answer(one), answer(other))
    assert len(one.trainable_parameters()) == len(one.shared_parameters()) == 40 + 28


@pytest.mark.parametrize(("depth", "blocks"), [(0.01, 1), (0.25, 3), (0.5, 5), (0.95, 10), (1.0, 10)])
def test_shared_depth_counts_blocks_from_the_pixels(depth: float, blocks: int) -> None:
    assert shared_block_count(10, depth) == blocks


@pytest.mark.parametrize(("rank", "depth"), [(0, 0.5), (8, 0.0), (8, 1.1)])
def test_unusable_settings_are_refused(rank: int, depth: float) -> None:
    with pytest.raises(SettingError, match="expected"):
        AdapterSettings(rank, depth)


def test_rank_above_the_inputs_is_refused() -> None:
    with pytest.raises(SettingError, match="lower the rank"):
        fresh(AdapterSettings(rank=129))


def test_attaching_changes_nothing(untuned: torch.Tensor, adapted: AdaptedNetwork) -> None:
    assert torch.equal(answer(adapted), untuned)


def test_shared_a_is_frozen_and_the_same_at_every_site() -> None:
    one, other = fresh(seed=1), fresh(seed=2)
    trained = {id(parameter) for parameter in one.trainable_parameters()}
    factors = dict(one.network.named_parameters())
    others = dict(other.network.named_parameters())
    shared = [name.replace(".lora_B.", ".lora_A.default.") for name in one.shared_parameters()]
    local = [name for name in factors if ".lora_A." in name and name not in shared]
    for name in shared:
        assert torch.equal(factors[name], others[name])
        assert id(factors[name]) not in trained
        assert not factors[name].requires_grad
        a = factors[name].detach().numpy()
        np.testing.assert_allclose(a @ a.T, np.eye(8), atol=1e-5)
    assert all(not torch.equal(factors[name], others[name]) and id(factors[name]) in trained for name in local)
    assert len(shared) == 20
    assert len(local) == 20 + 28  # the other five blocks, and seven attentions of the decoder


def test_only_adapters_are_trained(adapted: AdaptedNetwork) -> None:
    trained = {id(parameter) for parameter in adapted.trainable_parameters()}
    assert trained == {id(parameter) for parameter in adapted.network.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in adapted.shared_parameters().values()} <= trained
    assert list(adapted.shared_parameters()) == [spec.name for spec in adapted.schema.tensors]


def test_gradients_reach_every_shared_b() -> None:
    tuned = fresh()
    tuned.set_training(True)
    network = tuned.network
    network.decode(network.encode(PIXELS), boxes=BOX)[0].mean().backward()
    for name, parameter in tuned.shared_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in network.parameters() if not parameter.requires_grad)


def test_averaging_b_averages_the_weights_exactly() -> None:
    generator = np.random.default_rng(4)
    schema = adapter_schema("litemedsam", HALF)
    states = [AdapterState.from_vector(schema, generator.normal(size=schema.size).astype(np.float32)) for _ in range(3)]
    mean = AdapterState.from_vector(schema, np.mean([state.to_vector() for state in states], axis=0))
    module = "image_encoder.layers.2.blocks.1.mlp.fc1"
    path = f"{module}.base_layer.weight"
    deltas = []
    adapted = fresh()
    base = adapted.network.get_parameter(path).detach().clone()
    for state in (*states, mean):
        adapted.load_shared(state)
        adapted.merge()
        deltas.append(adapted.network.get_parameter(path).detach() - base)
        adapted.unmerge()
    torch.testing.assert_close(torch.stack(deltas[:3]).mean(dim=0), deltas[3], rtol=0, atol=1e-5)
    # orthonormal rows of A: inner products of weight changes are inner products of B
    name = f"{module}.lora_B.weight"
    assert float((deltas[0] * deltas[1]).sum()) == pytest.approx(float((states[0].tensors[name] * states[1].tensors[name]).sum()), abs=0.05)


def test_a_version_loads_with_plain_peft_and_answers_alike(tmp_path: Path) -> None:
    tuned = stirred()
    tuned.save(tmp_path / "version")
    expected = answer(tuned)
    network = load_base("litemedsam", image_size=SIZE)
    plain = PeftModel.from_pretrained(network, tmp_path / "version")
    with torch.no_grad():
        found = plain.base_model.model.decode(plain.base_model.model.encode(PIXELS), boxes=BOX)[0]
    assert torch.equal(found, expected)


def test_saving_and_loading_come_back_to_the_same(tmp_path: Path, untuned: torch.Tensor) -> None:
    tuned = stirred()
    expected = answer(tuned)
    assert not torch.allclose(expected, untuned, atol=0.1)
    tuned.save(tmp_path / "one")
    other = fresh(seed=9)
    other.load(tmp_path / "one")
    assert torch.equal(answer(other), expected)
    other.save(tmp_path / "two")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_folder_says_what_it_belongs_to(tmp_path: Path, adapted: AdaptedNetwork) -> None:
    adapted.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == f"litemedsam@sha256:{adapted.network.sha256}"
    assert config["lora_alpha"] == config["r"] == 8
    assert read_schema(tmp_path) == adapted.schema


def test_versions_are_switched_in_place(tmp_path: Path, untuned: torch.Tensor) -> None:
    expected = []
    for seed in (1, 2):
        tuned = stirred(seed)
        tuned.save(tmp_path / str(seed))
        expected.append(answer(tuned))
    for merged in (False, True):
        served = fresh()
        if merged:
            served.merge()
        for seed in (1, 2, 1):
            served.load(tmp_path / str(seed))
            torch.testing.assert_close(answer(served), expected[seed - 1], rtol=0, atol=1e-3 if merged else 0)
        served.reset()
        assert torch.equal(answer(served), untuned)


def test_merging_changes_no_answer_and_unmerging_leaves_no_trace(untuned: torch.Tensor) -> None:
    tuned = stirred()
    expected, state = answer(tuned), tuned.shared_state().to_vector()
    for _ in range(3):
        tuned.merge()
        tuned.merge()
        assert tuned.merged
        torch.testing.assert_close(answer(tuned), expected, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(tuned.shared_state().to_vector(), state)
        tuned.set_training(True)
        assert not tuned.merged
        tuned.set_training(False)
    assert torch.equal(answer(tuned), expected)
    tuned.reset()
    assert torch.equal(answer(tuned), untuned)


def test_shared_state_goes_out_and_comes_in(tmp_path: Path) -> None:
    tuned, other = stirred(), fresh()
    state = tuned.shared_state()
    other.load_shared(state)
    np.testing.assert_array_equal(other.shared_state().to_vector(), state.to_vector())
    tuned.save(tmp_path)
    np.testing.assert_array_equal(read_shared_state(tmp_path, tuned.schema).to_vector(), state.to_vector())
    stir(tuned, 3)
    assert not np.array_equal(tuned.shared_state().to_vector(), state.to_vector())  # it was a copy


def test_a_mixture_has_others_shared_and_own_local_adapters(tmp_path: Path) -> None:
    own, others = stirred(1), stirred(2)
    own.save(tmp_path / "own")
    write_mixture(tmp_path / "own", others.shared_state(), tmp_path / "mixture")
    served = fresh()
    served.load(tmp_path / "mixture")
    own.load_shared(others.shared_state())
    assert torch.equal(answer(served), answer(own))


def test_shared_states_that_do_not_fit_are_refused(adapted: AdaptedNetwork) -> None:
    before = adapted.shared_state().to_vector()
    with pytest.raises(AdapterError, match="expected"):
        adapted.load_shared(AdapterState.zeros(adapter_schema("litemedsam", AdapterSettings(rank=4))))
    poisoned = np.zeros(adapted.schema.size, np.float32)
    poisoned[-1] = np.nan
    with pytest.raises(AdapterError, match="not finite"):
        adapted.load_shared(AdapterState.from_vector(adapted.schema, poisoned))
    np.testing.assert_array_equal(adapted.shared_state().to_vector(), before)


def test_versions_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path, adapted: AdaptedNetwork, untuned: torch.Tensor) -> None:
    adapted.save(tmp_path / "good")
    config = json.loads((tmp_path / "good" / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = {key: value + np.float32(0.1) * ("lora_B" in key) for key, value in read_tensors(tmp_path / "good").items()}
    a_name = PEFT_PREFIX + adapted.schema.tensors[0].name.replace("lora_B", "lora_A")
    b_name = PEFT_PREFIX + adapted.schema.tensors[0].name
    spoiled = {
        "not the frozen projection": (config, {**tensors, a_name: tensors[a_name] + np.float32(1e-3)}),
        "expected \\[384, 8\\]": (config, {**tensors, b_name: tensors[b_name][:5]}),
        "other tensors": (config, {key: value for key, value in tensors.items() if key != b_name}),
        "lora_alpha is 16, expected 8": ({**config, "lora_alpha": 16}, tensors),
    }
    for number, (message, (settings, contents)) in enumerate(spoiled.items()):
        write_adapter(tmp_path / str(number), settings, contents, adapted.schema)
        with pytest.raises(AdapterError, match=message):
            adapted.load(tmp_path / str(number))
    for settings in (replace(HALF, rank=4), replace(HALF, shared_depth=1.0), replace(HALF, shared_decoder=True)):
        fresh(settings).save(tmp_path / "other")
        with pytest.raises(AdapterError, match="another set-up"):
            adapted.load(tmp_path / "other")
    with pytest.raises(AdapterError, match="not an adapter version"):
        adapted.load(tmp_path / "absent")
    assert torch.equal(answer(adapted), untuned)


def test_adapters_with_values_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    broken = fresh()
    with torch.no_grad():
        broken.trainable_parameters()[-1][0, 0] = float("nan")
    with pytest.raises(AdapterError, match="not finite"):
        broken.save(tmp_path / "version")
    assert not (tmp_path / "version").exists()


def test_adapters_are_attached_once(adapted: AdaptedNetwork) -> None:
    with pytest.raises(AdapterError, match="once"):
        attach_adapters(adapted.network)


def test_a_site_on_another_machine_is_accepted(tmp_path: Path, adapted: AdaptedNetwork) -> None:
    # its frozen projection may differ in the last bit of float32
    adapted.save(tmp_path)
    tensors = read_tensors(tmp_path)
    spec = adapted.schema.tensors[0]
    key = PEFT_PREFIX + spec.name.replace("lora_B", "lora_A")
    tensors[key] = np.nextafter(tensors[key], np.float32(1))
    write_adapter(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8")), tensors, adapted.schema)
    adapted.load(tmp_path)
    expected = frozen_projection(adapted.network.sha256, spec.name.removesuffix(".lora_B.weight"), 8, 128)
    np.testing.assert_allclose(tensors[key], expected, atol=1e-6)


def test_training_mode_leaves_running_statistics_alone(adapted: AdaptedNetwork) -> None:
    adapted.set_training(True)
    norms = [module for module in adapted.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert adapted.peft_model.training
    adapted.set_training(False)
    assert not adapted.peft_model.training
