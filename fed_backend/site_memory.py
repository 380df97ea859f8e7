"""What a site remembers of its messages so that differences suffice: `<site>/work/sent.safetensors`. numpy only.

    memory = load(path, federation, schema)
    payload, memory = encode(memory, message, "int8")     the update; then save(memory, path), and only then send
    memory = with_common(memory, round, state)            the common state of a probe, as decoded
    memory = acknowledged(memory, round, digest)          a mixture says what the server has; another digest, or "", means: not what we have

A difference is sent only to a state that the server has acknowledged. Everything else is a full state: the first update, one after a lost
message or a refusal, one that is asked for again. So the file may be lost at any time; what it costs is one round's precision.

Error feedback (Seide et al., "1-bit stochastic gradient descent", 2014; Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019):
with int8 what an update did not carry is added to the next one, so the sum of what was decoded follows the sum of what was meant within
one update's error. An update that was not acknowledged leaves the error as it was before.

One process a site works on it (see `client_site`). Writing is atomic; a file that cannot be used counts as none.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fed_backend import wire
from fed_backend.payload_codec import Encoding
from fed_backend.wire_budget import update_limit
from sam_adapters import atomic
from sam_adapters.errors import AdapterError
from sam_adapters.schema import AdapterSchema, AdapterState

MEMORY_FILE = "sent.safetensors"
FORMAT_VERSION = 1
_VECTORS = ("sent", "error_before", "error_after", "common")


@dataclass(frozen=True)
class SiteMemory:
    """See the module.

    Attributes:
        federation: id of the federation; another one's memory is of no use.
        sent: the last update as the server decodes it.
        sent_round: its round; 0 before the first.
        is_acknowledged: whether the server has said that it has `sent`.
        error_before, error_after: (n,) float32, what was left to send before and after it.
        common: the common state of the last probe, as decoded.
        common_round: its round; 0 before the first.
    """

    federation: str
    sent: AdapterState
    sent_round: int
    is_acknowledged: bool
    error_before: NDArray[np.float32]
    error_after: NDArray[np.float32]
    common: AdapterState
    common_round: int


def empty(federation: str, schema: AdapterSchema) -> SiteMemory:
    """Before the first message."""
    nothing, zeros = AdapterState.zeros(schema), np.zeros(schema.size, np.float32)
    return SiteMemory(federation, nothing, 0, False, zeros, zeros, nothing, 0)


def encode(memory: SiteMemory, message: wire.UpdateMessage, encoding: Encoding) -> tuple[bytes, SiteMemory]:
    """The update's bytes and what is to be remembered once they leave.

    Raises:
        WireError: values that cannot be sent.
    """
    known = memory.is_acknowledged and memory.sent_round < message.round
    error = memory.error_after if known else memory.error_before
    schema = message.state.schema
    meant = message.state if encoding == "fp16" else AdapterState.from_vector(schema, message.state.to_vector() + error)
    reference = wire.nearest_reference(meant, [memory.sent] if known else [])
    coding = wire.Coding(encoding, update_limit(encoding, schema.size), reference)
    payload = wire.encode_update(dataclasses.replace(message, state=meant), coding)
    sent = wire.decode_update(payload, schema, references=[memory.sent]).state
    left = meant.to_vector() - sent.to_vector() if encoding == "int8" else np.zeros_like(error)
    return payload, dataclasses.replace(
        memory, sent=sent, sent_round=message.round, is_acknowledged=False, error_before=error, error_after=left
    )


def with_common(memory: SiteMemory, round: int, state: AdapterState) -> SiteMemory:
    """`memory` with the common state of the probe of `round`."""
    return dataclasses.replace(memory, common=state, common_round=round)


def acknowledged(memory: SiteMemory, round: int, digest: str) -> SiteMemory:
    """`memory` after the server has said in `round` what it has of this site: `wire.state_digest`, or "" for nothing."""
    same = round == memory.sent_round and digest == wire.state_digest(memory.sent)
    return dataclasses.replace(memory, is_acknowledged=same)


def references(memory: SiteMemory, round: int) -> list[AdapterState]:
    """The states to which a mixture of `round` may be the difference."""
    rounds = ((memory.sent_round, memory.sent), (memory.common_round, memory.common))
    return [state for number, state in rounds if number == round]


def save(memory: SiteMemory, path: Path) -> None:
    """Replace the file, atomically."""
    vectors = {
        "sent": memory.sent.to_vector(),
        "error_before": memory.error_before,
        "error_after": memory.error_after,
        "common": memory.common.to_vector(),
    }
    metadata = {
        "format": str(FORMAT_VERSION),
        "federation": memory.federation,
        "schema": memory.sent.schema.id,
        "sent_round": str(memory.sent_round),
        "acknowledged": str(int(memory.is_acknowledged)),
        "common_round": str(memory.common_round),
    }
    atomic.write_bytes(path, safetensors.numpy.save(vectors, metadata | {"sha256": _digest(metadata, vectors)}))


def load(path: Path, federation: str, schema: AdapterSchema) -> SiteMemory:
    """The memory of this federation; an empty one if there is no such file, or it is damaged, of another federation, layout or format."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            vectors = {name: file.get_tensor(name) for name in _VECTORS}
        digest = metadata.pop("sha256")
        expected = {"format": str(FORMAT_VERSION), "federation": federation, "schema": schema.id}
        if digest != _digest(metadata, vectors) or any(metadata[key] != value for key, value in expected.items()):
            return empty(federation, schema)
        return SiteMemory(
            federation,
            AdapterState.from_vector(schema, vectors["sent"]),
            int(metadata["sent_round"]),
            metadata["acknowledged"] == "1",
            vectors["error_before"],
            vectors["error_after"],
            AdapterState.from_vector(schema, vectors["common"]),
            int(metadata["common_round"]),
        )
    except (SafetensorError, OSError, KeyError, ValueError, AdapterError):
        return empty(federation, schema)


def _digest(metadata: dict[str, str], vectors: dict[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in _VECTORS:
        digest.update(vectors[name].astype("<f4").tobytes())
    return digest.hexdigest()
