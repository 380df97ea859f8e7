"""What a site and round cost in bytes: our messages beside whole adapters, the whole decoder and the whole network.

    python -m benchmarks.wire_bytes [--out FILE.json]

Ours are lengths of real messages on the default base's layout: normal values of size 0.01, differences of size 0.002, a projection to
4,096 numbers, two sites in the mixture. The others are their numbers of values times two bytes, without any frame. The error is that of
one message, relative (L2) to what it was to carry.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmarks.machine import machine
from fed_backend import wire
from fed_backend.payload_codec import ENCODINGS, Encoding
from fed_backend.wire_budget import mixture_limit, probe_request_limit, update_limit
from sam_adapters.schema import AdapterSchema, AdapterState

NAME = "hospital-a"


def normal_state(schema: AdapterSchema, seed: int, size: float = 0.01) -> AdapterState:
    """Normal values; the same for the same seed."""
    return AdapterState.from_vector(schema, np.random.default_rng(seed).normal(0, size, schema.size).astype(np.float32))


def shifted(state: AdapterState, seed: int, size: float = 0.002) -> AdapterState:
    """`state` after a round's tuning."""
    return AdapterState.from_vector(state.schema, state.to_vector() + normal_state(state.schema, seed, size).to_vector())


def round_bytes(schema: AdapterSchema, encoding: Encoding) -> dict[str, Any]:
    """Lengths of a round's messages, and the errors of update and mixture."""
    known = normal_state(schema, 0)
    meant, mixed = shifted(known, 1), shifted(known, 2)
    halves = np.random.default_rng(3).normal(0, 0.016, (2, 4096)).astype(np.float32)
    update = wire.encode_update(wire.UpdateMessage(NAME, 3, 60, meant), wire.Coding(encoding, update_limit(encoding, schema.size), known))
    received = wire.decode_update(update, schema, references=[known]).state
    reply = wire.encode_probe_reply(wire.ProbeReply(NAME, 3, 2**62, (16, 16), halves[0], halves[1]), wire.Coding("int8"))
    request = wire.encode_probe_request(
        wire.ProbeRequest(3, meant, 2**62), wire.Coding(encoding, probe_request_limit(encoding, schema.size))
    )
    mixture = wire.Mixture(NAME, 3, mixed, {NAME: 0.6123456789, "hospital-b": 1 - 0.6123456789}, acknowledged=wire.state_digest(received))
    result: dict[str, Any] = {"update": len(update), "probe_reply": len(reply), "probe_request": len(request)}
    result["update_error"] = _error(received, meant, known)
    for key, probed in (("mixture_probe_round", True), ("mixture_alone", False)):
        data = wire.encode_mixture(mixture, wire.Coding(encoding, mixture_limit(encoding, schema.size, probed=probed), received))
        result[key] = len(data)
        result[f"{key}_error"] = _error(wire.decode_mixture(data, schema, references=[received]).state, mixed, received)
    result["up"], result["down_probe_round"] = len(update) + len(reply), len(request) + result["mixture_probe_round"]
    return result


def _error(found: AdapterState, meant: AdapterState, reference: AdapterState) -> float:
    """Relative to the difference that was to travel."""
    exact = meant.to_vector()
    return round(float(np.linalg.norm(found.to_vector() - exact) / np.linalg.norm(exact - reference.to_vector())), 5)


def network_bytes() -> tuple[AdapterSchema, dict[str, int]]:
    """The default base's layout, and how many bytes others would send with two bytes a value."""
    from sam_adapters.loading import base_skeleton, write_untuned
    from sam_adapters.settings import SiteSettings

    settings = SiteSettings(name=NAME)
    with tempfile.TemporaryDirectory() as folder:
        schema = write_untuned(settings, Path(folder))
        with safe_open(Path(folder) / "adapter_model.safetensors", framework="numpy") as file:
            adapters = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 - not a dictionary
    network = base_skeleton(settings.base, image_size=settings.image_size)
    values = {name: parameter.numel() for name, parameter in network.named_parameters()}
    decoder = sum(count for name, count in values.items() if "mask_decoder" in name)
    return schema, {"all_adapters": 2 * adapters, "whole_decoder": 2 * decoder, "whole_network": 2 * sum(values.values())}


def measure() -> dict[str, Any]:
    """Everything, JSON-ready."""
    schema, others = network_bytes()
    ours = {encoding: round_bytes(schema, encoding) for encoding in ENCODINGS}
    return {"values": schema.size, "version_1": 2 * schema.size, "ours": ours, "others": others, "machine": machine()}


def main() -> None:
    """Print the figures, and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/wire-bytes.json"), help="JSON file to write")
    arguments = parser.parse_args()
    result = measure()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=1))


if __name__ == "__main__":
    main()
