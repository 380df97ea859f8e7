"""What the shared part of an adapter consists of, and the part itself as plain arrays. numpy only: no torch.

The *shared* adapters are the up-projections B of the LoRA modules in the encoder blocks nearest the pixels, and in the decoder's attention
where a federation says so. Their down-projections A
are frozen and the same at every site (see `frozen_projection`), so the weight change of a module is linear in B and averaging B averages
the models exactly.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.errors import AdapterError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TensorSpec:
    """Name and shape of one shared tensor: the B (out_features, rank) of one module."""

    name: str
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class AdapterSchema:
    """The layout that all members of a federation agree on. Two states can be compared or averaged only under one schema.

    Attributes:
        base: sha256 (hex) of the base network's weights.
        rank: LoRA rank r; the scaling alpha / r is 1.
        shared_depth: fraction of encoder blocks, counted from the pixels, that is shared; 0 < shared_depth <= 1.
        tensors: the shared tensors in the fixed order in which `AdapterState.to_vector` lays them out.
        shared_decoder: whether the decoder's attention is shared too.
    """

    base: str
    rank: int
    shared_depth: float
    tensors: tuple[TensorSpec, ...]
    shared_decoder: bool = False

    @property
    def layout(self) -> str:
        """What decides about the layout besides the base, for people."""
        decoder = ", the decoder's too" if self.shared_decoder else ""
        return f"rank {self.rank}, shared depth {self.shared_depth}{decoder}"

    @property
    def size(self) -> int:
        """Number of shared values."""
        return sum(spec.size for spec in self.tensors)

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 over the canonical JSON of everything above."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. A decoder that is not shared is not mentioned: older layouts keep their id."""
        value: dict[str, Any] = {
            "version": SCHEMA_VERSION,
            "base": self.base,
            "rank": self.rank,
            "shared_depth": self.shared_depth,
            "tensors": [[spec.name, list(spec.shape)] for spec in self.tensors],
        }
        if self.shared_decoder:
            value["shared_decoder"] = True
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "AdapterSchema":
        """Inverse of `to_json`.

        Raises:
            AdapterError: the text is not a schema of a version this software knows.
        """
        try:
            value = json.loads(text)
            if value["version"] != SCHEMA_VERSION:
                raise AdapterError(
                    f"Adapter schema version {value['version']!r} is not known here, expected {SCHEMA_VERSION}: "
                    "update the older side of the federation."
                )
            tensors = tuple(TensorSpec(str(name), (int(shape[0]), int(shape[1]))) for name, shape in value["tensors"])
            decoder = value.get("shared_decoder", False)
            if not isinstance(decoder, bool):
                raise AdapterError(f"Not an adapter schema: shared_decoder is {decoder!r}, expected true or false.")
            return cls(str(value["base"]), int(value["rank"]), float(value["shared_depth"]), tensors, decoder)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, AdapterError):
                raise
            raise AdapterError(f"Not an adapter schema: {error!r}.") from error


@dataclass(frozen=True)
class AdapterState:
    """The shared tensors of one adapter, float32, under a schema. Treat the arrays as read-only."""

    schema: AdapterSchema
    tensors: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        expected = {spec.name: spec.shape for spec in self.schema.tensors}
        if set(self.tensors) != set(expected):
            missing = sorted(set(expected) - set(self.tensors))[:3]
            extra = sorted(set(self.tensors) - set(expected))[:3]
            raise AdapterError(f"Shared adapter does not fit its schema: missing {missing}, unexpected {extra}.")
        for name, shape in expected.items():
            array = self.tensors[name]
            if array.shape != shape or array.dtype != np.float32:
                raise AdapterError(f"{name} is {array.dtype}{list(array.shape)}, expected float32{list(shape)}.")

    def to_vector(self) -> NDArray[np.float32]:
        """All values in schema order, each tensor row by row: shape (schema.size,), a copy."""
        return np.concatenate([np.ravel(self.tensors[spec.name]) for spec in self.schema.tensors]).astype(np.float32, copy=False)

    @classmethod
    def from_vector(cls, schema: AdapterSchema, vector: NDArray[np.floating]) -> "AdapterState":
        """Inverse of `to_vector`.

        Raises:
            AdapterError: the vector has not exactly schema.size values.
        """
        if vector.shape != (schema.size,):
            raise AdapterError(f"Shared adapter of shape {list(vector.shape)}, expected [{schema.size}].")
        tensors: dict[str, NDArray[np.float32]] = {}
        start = 0
        for spec in schema.tensors:
            tensors[spec.name] = vector[start : start + spec.size].reshape(spec.shape).astype(np.float32)
            start += spec.size
        return cls(schema, tensors)

    @classmethod
    def zeros(cls, schema: AdapterSchema) -> "AdapterState":
        """The common starting point: B = 0, which is exactly the base."""
        return cls.from_vector(schema, np.zeros(schema.size, np.float32))
