"""Makes litemedsam_reference.npz with the ORIGINAL LiteMedSAM network; see README.md in this folder. Not run by the tests.

    python make_litemedsam_reference.py <checkout of bowang-lab/MedSAM, branch LiteMedSAM> <lite_medsam.pth> <out.npz>

Needs torch and numpy only: what the original imports from timm at module level, and does not use at inference, is stood in for.
"""

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIZE = 256
BOXES = np.array([[60, 70, 150, 170], [20, 150, 90, 240]], np.float32)
POINTS = np.array([[105, 120], [200, 40]], np.float32)
LABELS = np.array([1, 0], np.int64)


def synthetic_image() -> np.ndarray:
    """(3, 256, 256) uint8: two bright ellipses over a shaded, textured ground; no random numbers."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    grey = 60 + 0.2 * x + 0.1 * y + 12 * np.sin(x / 5) * np.cos(y / 7)
    grey += 90 * (((x - 105) / 42) ** 2 + ((y - 120) / 48) ** 2 < 1)
    grey += 60 * (((x - 55) / 30) ** 2 + ((y - 195) / 40) ** 2 < 1)
    grey = np.clip(grey, 0, 255)
    return np.round(np.stack([grey, 0.8 * grey + 20, 255 - grey])).astype(np.uint8)


def original_network(checkout: Path, weights: Path) -> tuple[Any, Any, Any]:
    """Image encoder, prompt encoder and mask decoder, built as the original's inference script builds them."""
    layers = types.ModuleType("timm.models.layers")
    layers.DropPath = type("DropPath", (torch.nn.Identity,), {"__init__": lambda self, drop_prob=None: torch.nn.Identity.__init__(self)})
    layers.to_2tuple = lambda value: (value, value)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry = types.ModuleType("timm.models.registry")
    registry.register_model = lambda function: function
    package = types.ModuleType("segment_anything")  # its __init__ would import torchvision
    package.__path__ = [str(checkout / "segment_anything")]
    models = types.ModuleType("timm.models")
    sys.modules |= {
        "timm": types.ModuleType("timm"),
        "timm.models": models,
        "timm.models.layers": layers,
        "timm.models.registry": registry,
        "segment_anything": package,
    }
    sys.path.insert(0, str(checkout))
    from segment_anything.modeling.mask_decoder import MaskDecoder
    from segment_anything.modeling.prompt_encoder import PromptEncoder
    from segment_anything.modeling.transformer import TwoWayTransformer
    from tiny_vit_sam import TinyViT

    network = torch.nn.Module()
    network.image_encoder = TinyViT(
        img_size=SIZE,
        in_chans=3,
        embed_dims=[64, 128, 160, 320],
        depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7],
        mlp_ratio=4.0,
        drop_rate=0.0,
        drop_path_rate=0.0,
        use_checkpoint=False,
        mbconv_expand_ratio=4.0,
        local_conv_size=3,
        layer_lr_decay=0.8,
    )
    network.prompt_encoder = PromptEncoder(embed_dim=256, image_embedding_size=(64, 64), input_image_size=(SIZE, SIZE), mask_in_chans=16)
    network.mask_decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    network.eval()
    return network.image_encoder, network.prompt_encoder, network.mask_decoder


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    encoder, prompt_encoder, decoder = original_network(arguments.checkout, arguments.weights)
    image = synthetic_image()
    embedding = encoder(torch.from_numpy(image).float()[None] / 255)

    def decode(points: Any = None, box: Any = None, mask: Any = None) -> tuple[torch.Tensor, float]:
        sparse, dense = prompt_encoder(points=points, boxes=box, masks=mask)
        logits, iou = decoder(
            image_embeddings=embedding,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits, float(iou)

    boxes = torch.from_numpy(BOXES)
    points = (torch.from_numpy(POINTS)[None], torch.from_numpy(LABELS)[None])
    first, first_iou = decode(box=boxes[:1])
    answers = {
        "box": (first, first_iou),
        "second_box": decode(box=boxes[1:]),
        "points": decode(points=points),
        "box_and_points": decode(points=points, box=boxes[:1]),
        "mask": decode(mask=first),
        "nothing": decode(),
    }
    arrays = {f"logits_{name}": logits[0, 0, 1::4, 1::4].numpy() for name, (logits, _) in answers.items()}
    arrays |= {f"iou_{name}": np.float32(iou) for name, (_, iou) in answers.items()}
    np.savez_compressed(
        arguments.out, image=image, boxes=BOXES, points=POINTS, labels=LABELS, embedding=embedding[0, ::16, ::4, ::4].numpy(), **arrays
    )


if __name__ == "__main__":
    main()
