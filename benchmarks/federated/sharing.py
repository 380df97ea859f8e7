"""What the published methods do between two tunings: encode, aggregate on a server, decode. Folders of adapters in, folders out. No torch.

Everything travels through the product's own payload codec in half precision, both ways; the bytes counted are those of the payloads.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.federated import published
from fed_backend.payload_codec import decode_values, encode_values
from sam_adapters.adapter_files import PEFT_PREFIX, Tensors, read_config, read_schema, read_tensors, write_adapter

Weights = Callable[[NDArray[np.float64], Sequence[float]], NDArray[np.float64]]
Travelling = Callable[[Sequence[str], Tensors], list[str]]
"""(names of the shared B from the pixels on, all tensors of a site) -> names of what travels, in order."""
MEMORY_FILE = "not-sent-yet.npy"
"""Beside a site's adapters: what top-k has left out so far, (d,) float32."""


@dataclass(frozen=True)
class Shared:
    """What an exchange gave: bytes up and down of each site, and the weights of each site's mixture."""

    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    weights: dict[str, dict[str, float]]


def shared_alone(shared: Sequence[str], tensors: Tensors) -> list[str]:
    """The shared B."""
    return list(shared)


def everything(shared: Sequence[str], tensors: Tensors) -> list[str]:
    """The shared B and both factors of the local adapters; never the frozen A."""
    frozen = {name.replace(".lora_B.", ".lora_A.") for name in shared}
    return [name for name in sorted(tensors) if name not in frozen]


def half(shared: Sequence[str], tensors: Tensors, *, low: bool) -> list[str]:
    """Of the shared B the half nearest the pixels (`low`) or farthest from them, cut where the bytes of both are most alike."""
    sizes = np.cumsum([tensors[name].size for name in shared])
    cut = int(np.abs(2 * sizes - sizes[-1]).argmin()) + 1
    return list(shared[:cut] if low else shared[cut:])


low_half = partial(half, low=True)
high_half = partial(half, low=False)


def average(
    folders: Mapping[str, Path], cases: Mapping[str, int], out: Mapping[str, Path], weights: Weights, *, travelling: Travelling
) -> Shared:
    """Every site's mixture of the tensors that travel; the others stay its own.

    Args:
        folders: each site's tuned adapters.
        weights: (vectors (n, d), cases (n,)) -> (n, n).
    """
    sites = list(folders)
    own = {site: read_tensors(folders[site]) for site in sites}
    names = travelling(_shared_names(folders[sites[0]]), own[sites[0]])
    up = {site: through_the_wire([own[site][name] for name in names]) for site in sites}
    vectors = np.stack([np.concatenate([part.ravel() for part in up[site][0]]) for site in sites]).astype(np.float64)
    matrix = weights(vectors, [cases[site] for site in sites])
    down = {}
    for row, site in zip(matrix, sites, strict=True):
        mixed = [sum(weight * up[other][0][index] for weight, other in zip(row, sites, strict=True)) for index in range(len(names))]
        received, down[site] = through_the_wire([np.asarray(one, np.float32) for one in mixed])
        _write(folders[site], own[site] | dict(zip(names, received, strict=True)), out[site])
    return Shared({site: up[site][1] for site in sites}, down, _named(matrix, sites))


def average_products(folders: Mapping[str, Path], cases: Mapping[str, int], out: Mapping[str, Path]) -> Shared:
    """After FLAP-SAM: both factors travel, the products B A are averaged, and cut back to the rank by SVD.

    In modules whose A is frozen the average of the B is the average of the products, exactly.
    """
    sites = list(folders)
    own = {site: read_tensors(folders[site]) for site in sites}
    frozen = {spec.name for spec in read_schema(folders[sites[0]]).tensors}
    names = everything(_shared_names(folders[sites[0]]), own[sites[0]])
    up = {site: through_the_wire([own[site][name] for name in names]) for site in sites}
    sent = {site: dict(zip(names, up[site][0], strict=True)) for site in sites}
    p = published.shares([cases[site] for site in sites])
    mixed: Tensors = {}
    for name in names:
        if name.removeprefix(PEFT_PREFIX) in frozen:
            mixed[name] = np.asarray(sum(w * sent[site][name] for w, site in zip(p, sites, strict=True)), np.float32)
        elif ".lora_B." in name:
            a_name = name.replace(".lora_B.", ".lora_A.")
            b, a = published.product_average([sent[site][name] for site in sites], [sent[site][a_name] for site in sites], list(p))
            mixed[name], mixed[a_name] = b.astype(np.float32), a.astype(np.float32)
    received, size = through_the_wire([mixed[name] for name in names])
    for site in sites:
        _write(folders[site], own[site] | dict(zip(names, received, strict=True)), out[site])
    matrix = np.tile(p, (len(sites), 1))
    return Shared({site: up[site][1] for site in sites}, dict.fromkeys(sites, size), _named(matrix, sites))


def average_largest(
    folders: Mapping[str, Path],
    cases: Mapping[str, int],
    out: Mapping[str, Path],
    *,
    before: Mapping[str, Path | None],
    share: float,
) -> Shared:
    """FedAvg of the shared B, of which each site sends the largest changes only: top-k with memory (Stich et al., NeurIPS 2018).

    A change is the difference to what the site had when its tuning began, plus what it has left out before. Places cost a bit a value
    (a bitmap, before DEFLATE), values are half precision. The mixture comes down whole.

    Args:
        before: each site's adapters after the round before; None in the first.
        share: part of the values that is sent, above 0 to 1.
    """
    sites = list(folders)
    names = _shared_names(folders[sites[0]])
    own = {site: read_tensors(folders[site]) for site in sites}
    p = published.shares([cases[site] for site in sites])
    sizes = [own[sites[0]][name].size for name in names]
    total = np.zeros(sum(sizes))
    up, left = {}, {}
    for part, site in zip(p, sites, strict=True):
        folder = before[site]
        start = _vector(read_tensors(folder), names) if folder else np.zeros(sum(sizes), np.float32)
        change = _vector(own[site], names) - start + (np.load(folder / MEMORY_FILE) if folder else 0)
        chosen = largest(change, share)
        values, size = through_the_wire([change[chosen].astype(np.float32)])
        sent = np.zeros_like(change)
        sent[chosen] = values[0]
        up[site] = size + len(zlib.compress(np.packbits(chosen).tobytes(), 9))
        total += part * (start + sent)
        left[site] = change - sent
    received, down = through_the_wire([one.astype(np.float32) for one in np.split(total, np.cumsum(sizes)[:-1])])
    for site in sites:
        shaped = {name: value.reshape(own[site][name].shape) for name, value in zip(names, received, strict=True)}
        _write(folders[site], own[site] | shaped, out[site])
        np.save(out[site] / MEMORY_FILE, left[site])
    return Shared(up, dict.fromkeys(sites, down), _named(np.tile(p, (len(sites), 1)), sites))


def largest(values: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Where the `share` of the values that are largest in magnitude lie, at least one of them."""
    count = max(1, round(share * values.size))
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-np.abs(values), kind="stable")[:count]] = True
    return chosen


def _vector(tensors: Tensors, names: Sequence[str]) -> NDArray[np.float32]:
    """The named tensors one after the other."""
    return np.concatenate([tensors[name].ravel() for name in names])


def through_the_wire(arrays: Sequence[NDArray[np.float32]]) -> tuple[list[NDArray[np.float32]], int]:
    """The arrays as the other side decodes them, and the bytes of the payload."""
    values = np.concatenate([array.ravel() for array in arrays]).astype(np.float32)
    runs = [array.size for array in arrays]
    coded = encode_values(values, runs, finest="fp16", limit=4 * len(values) + 1024)
    decoded = decode_values(coded.payload, runs, coded.encoding)
    ends = np.cumsum(runs)
    parts = [decoded[end - run : end].reshape(array.shape) for end, run, array in zip(ends, runs, arrays, strict=True)]
    return parts, len(coded.payload)


def _shared_names(folder: Path) -> list[str]:
    return [PEFT_PREFIX + spec.name for spec in read_schema(folder).tensors]


def _write(like: Path, tensors: Tensors, out: Path) -> None:
    write_adapter(out, read_config(like), tensors, read_schema(like))


def _named(matrix: NDArray[np.float64], sites: Sequence[str]) -> dict[str, dict[str, float]]:
    return {site: {other: float(weight) for other, weight in zip(sites, row, strict=True)} for site, row in zip(sites, matrix, strict=True)}
