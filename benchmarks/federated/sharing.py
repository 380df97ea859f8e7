"""What the published methods do between two tunings: encode, aggregate on a server, decode. Folders of adapters in, folders out. No torch.

Everything travels through the product's own payload codec in half precision, both ways; the bytes counted are those of the payloads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.federated import published
from fed_backend.payload_codec import decode_values, encode_values
from sam_adapters.adapter_files import PEFT_PREFIX, Tensors, read_config, read_schema, read_tensors, write_adapter

Weights = Callable[[NDArray[np.float64], Sequence[float]], NDArray[np.float64]]


@dataclass(frozen=True)
class Shared:
    """What an exchange gave: bytes up and down of each site, and the weights of each site's mixture."""

    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    weights: dict[str, dict[str, float]]


def average(
    folders: Mapping[str, Path], cases: Mapping[str, int], out: Mapping[str, Path], weights: Weights, *, everything: bool
) -> Shared:
    """Every site's mixture of the tensors that travel; the others stay its own.

    Args:
        folders: each site's tuned adapters.
        weights: (vectors (n, d), cases (n,)) -> (n, n).
        everything: all adapters travel, else the shared B alone.
    """
    sites = list(folders)
    own = {site: read_tensors(folders[site]) for site in sites}
    names = _travelling(folders[sites[0]], own[sites[0]], everything=everything)
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
    names = _travelling(folders[sites[0]], own[sites[0]], everything=True)
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


def through_the_wire(arrays: Sequence[NDArray[np.float32]]) -> tuple[list[NDArray[np.float32]], int]:
    """The arrays as the other side decodes them, and the bytes of the payload."""
    values = np.concatenate([array.ravel() for array in arrays]).astype(np.float32)
    runs = [array.size for array in arrays]
    coded = encode_values(values, runs, finest="fp16", limit=4 * len(values) + 1024)
    decoded = decode_values(coded.payload, runs, coded.encoding)
    ends = np.cumsum(runs)
    parts = [decoded[end - run : end].reshape(array.shape) for end, run, array in zip(ends, runs, arrays, strict=True)]
    return parts, len(coded.payload)


def _travelling(folder: Path, tensors: Tensors, *, everything: bool) -> list[str]:
    """Names, in order: the shared B; with `everything` also both factors of the local adapters, never the frozen A."""
    shared = [PEFT_PREFIX + spec.name for spec in read_schema(folder).tensors]
    if not everything:
        return shared
    frozen = {name.replace(".lora_B.", ".lora_A.") for name in shared}
    return [name for name in sorted(tensors) if name not in frozen]


def _write(like: Path, tensors: Tensors, out: Path) -> None:
    write_adapter(out, read_config(like), tensors, read_schema(like))


def _named(matrix: NDArray[np.float64], sites: Sequence[str]) -> dict[str, dict[str, float]]:
    return {site: {other: float(weight) for other, weight in zip(sites, row, strict=True)} for site, row in zip(sites, matrix, strict=True)}
