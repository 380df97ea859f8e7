"""How much of an image comes back from a site's gradient probe: a measured attempt to invert it, with and without noise.

    python benchmarks/gradient_inversion.py [--images 2] [--steps 300] [--size 64] [--json FILE]

The attacker is the server, and gets more help than it would have: the probed half consists of a single case, it knows the network, the
common state, the projection, the target mask and the prompts, and that the picture is grey. It looks for pixels whose gradient points the
same way (1 - cosine, plus total variation: Geiping et al., "Inverting Gradients", NeurIPS 2020) with Adam from a flat grey start.

Pictures are sums of smooth blobs around a bright disc, the target. Reported is the correlation with the true picture outside the target
(the mask is known to the attacker, so the target proves nothing): 0 for nothing, 1 for the picture. The
cosine that was reached says whether the attack got anywhere: one that did not proves nothing. Columns:

    shared         gradient of the shared B, the encoder's blocks nearest the pixels (as computed at the site, before projection)
    all            gradient of the B of all blocks (a federation with shared_depth 1)
    projected      `shared`, projected to 4,096 numbers: what a probe without a rule sends
    as large       `projected` with noise of the same norm
    rule           `projected` under a privacy rule with noise multiplier 1: σ = 2 √2
    other          chance: the same number of steps towards the gradient of another picture with the same mask
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.machine import machine
from fed_backend.projection import NONZEROS, projection_table
from sam_adapters import atomic
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.loading import load_adapted
from sam_adapters.settings import SiteSettings
from sam_adapters.tuning_loss import fixed_prompt_loss
from sam_adapters.tuning_slices import TrainingSlice

SIZE = 4096
SEED = 7
SMOOTHNESS = 0.02  # weight of the total variation


def picture(rng: np.random.Generator, size: int) -> TrainingSlice:
    """A picture of blobs with a bright disc in the middle, values 0..1; the mask is the same for every picture."""
    j, i = np.mgrid[:size, :size] / size
    values = np.zeros((size, size))
    for _blob in range(12):
        y, x, width = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.15)
        values += rng.uniform(-1, 1) * np.exp(-((j - y) ** 2 + (i - x) ** 2) / (2 * width**2))
    target = ((j - 0.5) ** 2 + (i - 0.5) ** 2 <= 0.15**2).astype(np.float32)
    values = 0.5 * (values - values.min()) / np.ptp(values) + 0.4 * target
    return TrainingSlice(np.repeat(values[None].astype(np.float32), 3, axis=0), target, (size, size))


def gradient(adapted: AdaptedNetwork, one: TrainingSlice, grey: Tensor, *, differentiable: bool) -> Tensor:
    """Gradient of the probe's loss with respect to the shared B at these pixels (1, 1, S, S), (n,)."""
    parameters = list(adapted.shared_parameters().values())
    loss = fixed_prompt_loss(adapted.network, adapted.network.encode(grey.expand(1, 3, -1, -1)), one)
    parts = torch.autograd.grad(loss, parameters, create_graph=differentiable, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(parts, parameters, strict=True)])


def projected(vector: Tensor) -> Tensor:
    """`fed_backend.projection.project` of a vector (n,), so that it can be differentiated, (4096,)."""
    places, signs = projection_table(len(vector), SEED, SIZE)
    spread = vector * torch.from_numpy(signs.astype(np.float32))
    return torch.zeros(SIZE).index_add(0, torch.from_numpy(places.ravel().copy()), spread.flatten()) / math.sqrt(NONZEROS)


def invert(
    adapted: AdaptedNetwork, one: TrainingSlice, seen: Tensor, view: Callable[[Tensor], Tensor], steps: int
) -> tuple[NDArray[np.float32], float]:
    """Pixels (S, S) whose gradient, as `view` shows it, points along what was seen, and the cosine that was reached."""
    grey = torch.full((1, 1, *one.target.shape), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([grey], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _step in range(steps):
        found = view(gradient(adapted, one, grey, differentiable=True))
        far = 1 - torch.nn.functional.cosine_similarity(found, seen, dim=0)
        rough = (grey[..., 1:, :] - grey[..., :-1, :]).abs().mean() + (grey[..., 1:] - grey[..., :-1]).abs().mean()
        (slope,) = torch.autograd.grad(far + SMOOTHNESS * rough, [grey])
        grey.grad = slope
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            grey.clamp_(0, 1)
    return grey.detach()[0, 0].numpy(), 1 - float(far)


def likeness(found: NDArray[np.float32], one: TrainingSlice) -> float:
    """Correlation with the true picture outside the target; 0 where the found one is flat."""
    outside = one.target == 0
    a, b = found[outside], one.pixels[0][outside]
    return 0.0 if a.std() < 1e-6 else float(np.corrcoef(a, b)[0, 1])


def measure(size: int, images: int, steps: int, done: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Every column for every picture. `done` is called after each."""
    networks = {name: load_adapted(SiteSettings(image_size=size, shared_depth=depth)) for name, depth in (("shared", 0.5), ("all", 1.0))}
    for adapted in networks.values():
        adapted.set_training(False)
    shared = networks["shared"]
    result: dict[str, Any] = {"values": {name: adapted.schema.size for name, adapted in networks.items()}, "likeness": {}, "cosine": {}}
    rng = np.random.default_rng(0)
    pictures = [picture(rng, size) for _ in range(images + 1)]

    def seen_by(adapted: AdaptedNetwork, one: TrainingSlice) -> Tensor:
        whole = gradient(adapted, one, torch.from_numpy(one.pixels[None, :1]), differentiable=False)
        return whole / whole.norm()

    noise = torch.Generator().manual_seed(1)
    for number, one in enumerate(pictures[:images]):
        probe = projected(seen_by(shared, one))
        random = torch.randn(SIZE, generator=noise)
        columns: dict[str, tuple[AdaptedNetwork, Tensor, Callable[[Tensor], Tensor]]] = {
            "shared": (shared, seen_by(shared, one), lambda vector: vector),
            "projected": (shared, probe, projected),
            "as large": (shared, probe + random * probe.norm() / random.norm(), projected),
            "rule": (shared, probe + 2 * math.sqrt(2) * random, projected),
            "other": (shared, projected(seen_by(shared, pictures[number + 1])), projected),
            "all": (networks["all"], seen_by(networks["all"], one), lambda vector: vector),
        }
        for name, (adapted, seen, view) in columns.items():
            found, cosine = invert(adapted, one, seen, view, steps)
            result["likeness"].setdefault(name, []).append(round(likeness(found, one), 3))
            result["cosine"].setdefault(name, []).append(round(cosine, 3))
            print(f"picture {number}, {name}: likeness {likeness(found, one):.3f}, cosine reached {cosine:.3f}", flush=True)
            done(result)
    return result


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Try to get a picture back from a gradient probe.")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    setting = {"images": options.images, "steps": options.steps, "size": options.size, "machine": machine()}

    def keep(result: dict[str, Any]) -> None:
        if options.json:
            atomic.write_bytes(options.json, (json.dumps({**setting, **result}, indent=1) + "\n").encode())

    torch.manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
        measure(options.size, options.images, options.steps, keep)


if __name__ == "__main__":
    main()
