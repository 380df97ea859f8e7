import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.sam.configuration_sam import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamModel

from sam_adapters.adapters import AdapterSettings, adapter_schema, attach_adapters
from sam_adapters.bases import base_sha256, load_base, sam_hf
from sam_adapters.errors import BaseModelError, SettingError
from sam_adapters.prompts import SlicePrompts
from sam_adapters.segmenter import Segmenter

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def tiny_sam(**vision: object) -> SamModel:
    """A SAM of four small layers, one of them with global attention, with random weights."""
    torch.manual_seed(7)
    layers = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "global_attn_indexes": [1, 3], "window_size": 3}
    vision_config = SamVisionConfig(**{**layers, "image_size": 128, "initializer_range": 0.5, **vision})
    prompt_config = SamPromptEncoderConfig(image_size=128, patch_size=16)
    model = SamModel(
        SamConfig(vision_config=vision_config, prompt_encoder_config=prompt_config, mask_decoder_config=SamMaskDecoderConfig())
    ).eval()
    with torch.no_grad():  # transformers starts these at 0, where a mistake would not show
        for name, parameter in model.named_parameters():
            if "pos" in name and "positional" not in name:
                parameter.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "tiny-sam"
    tiny_sam().save_pretrained(path)
    return path


def test_embedding_and_logits_are_those_of_sam_model(folder: Path) -> None:
    network, model = load_base(f"sam:{folder}"), SamModel.from_pretrained(folder).eval()
    pixels = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    points, labels = torch.tensor([[[20.0, 30], [50, 60]], [[70, 80], [5, 6]]]), torch.tensor([[1, 0], [1, 1]])
    boxes = torch.tensor([[10.0, 10, 90, 100], [0, 0, 127, 127]])
    with torch.inference_mode():
        embedding = network.encode(pixels)
        expected = model(
            (pixels - MEAN) / STD,
            input_points=points[:, None],
            input_labels=labels[:, None],
            input_boxes=boxes[:, None],
            multimask_output=False,
        )
        logits, iou = network.decode(embedding, points=points, labels=labels, boxes=boxes)
    torch.testing.assert_close(logits, expected.pred_masks[:, 0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(iou, expected.iou_scores[:, 0], rtol=1e-4, atol=1e-4)
    assert network.upscale(logits).shape == (2, 1, 128, 128)


def test_normalisation_is_the_checkpoints_own(folder: Path, tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}), encoding="utf-8")
    with torch.inference_mode():
        plain = load_base(f"sam:{tmp_path}").encode(pixels)
        torch.testing.assert_close(plain, load_base(f"sam:{folder}").encode(pixels * STD + MEAN), rtol=1e-4, atol=1e-4)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0], "image_std": [1, 1, 1]}), encoding="utf-8")
    with pytest.raises(BaseModelError, match="three numbers"):
        load_base(f"sam:{tmp_path}")


def test_two_halves_of_the_encoder_are_the_encoder(folder: Path) -> None:
    network = load_base(f"sam:{folder}")
    pixels = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        assert torch.equal(network.encode_from_stem(network.encode_stem(pixels)), network.encode(pixels))


@pytest.mark.parametrize("size", [64, 192])
def test_other_image_sizes(folder: Path, size: int) -> None:
    network = load_base(f"sam:{folder}", image_size=size)
    with torch.inference_mode():
        embedding = network.encode(torch.rand(1, 3, size, size))
        logits, _ = network.decode(embedding, boxes=torch.tensor([[2.0, 2, 50, 60]]))
    assert embedding.shape == (1, 256, size // 16, size // 16)
    assert logits.shape == (1, 1, size // 4, size // 4)
    assert network.upscale(logits).shape == (1, 1, size, size)


def test_named_after_the_folder_and_by_the_weights(folder: Path, tmp_path: Path) -> None:
    network = load_base(f"sam:{folder}")
    assert network.name == "sam:tiny-sam"
    assert network.sha256 == base_sha256(f"sam:{folder}")
    tiny_sam().save_pretrained(tmp_path)
    same = base_sha256(f"sam:{tmp_path}")
    assert same == network.sha256
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert base_sha256(f"sam:{tmp_path}") != same


def test_adapters_and_segmenter_work_on_it(folder: Path, tmp_path: Path) -> None:
    settings = AdapterSettings(rank=2, shared_depth=0.5, shared_decoder=False)
    adapted = attach_adapters(load_base(f"sam:{folder}"), settings)
    assert adapted.schema == adapter_schema(f"sam:{folder}", settings)
    # two blocks of qkv (96), proj (32), lin1 (128) and lin2 (32) outputs
    assert adapted.schema.size == 2 * 2 * (96 + 32 + 128 + 32)
    assert {spec.name.split(".")[3] for spec in adapted.schema.tensors} == {"0", "1"}
    adapted.save(tmp_path / "version")
    assert str(folder.parent) not in (tmp_path / "version" / "adapter_config.json").read_text(encoding="utf-8")
    segmenter = Segmenter(adapted)
    decoded = segmenter.decode(segmenter.encode(np.random.default_rng(0).random((40, 60))), SlicePrompts(box=(5, 5, 30, 20)))
    assert decoded.logits.shape == (40, 60)
    assert decoded.low_res.shape == (32, 32)


def test_what_is_not_a_usable_sam_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="not a hub id"):
        load_base(f"sam:{tmp_path}/absent")
    with pytest.raises(BaseModelError, match=r"no config\.json"):
        load_base(f"sam:{tmp_path}")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BaseModelError, match="no safetensors weights"):
        load_base(f"sam:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        load_base(f"sam:{tmp_path}")
    with pytest.raises(SettingError, match="image_size is 100"):
        load_base(f"sam:{folder}", image_size=100)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path, tmp_path: Path) -> None:
    tiny_sam(num_hidden_layers=3).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BaseModelError, match=r"layers\.3"):
        load_base(f"sam:{tmp_path}")


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(BaseModelError, match="name its folder"):
        sam_hf.resolve("nobody/no-such-model")
