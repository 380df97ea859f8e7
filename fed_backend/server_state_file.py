"""The server's state on the disk: `<state>/server.safetensors`, atomic, with a checksum, a version and migrations. No torch.

One process owns the file. The last good snapshot is kept beside it as `<name>.previous`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fed_backend.distance_table import DistanceTable
from fed_backend.errors import ServerStateError, ServerStateVersionError
from fed_backend.server_state import RoundEntry, ServerState, SiteRecord, new_state
from sam_adapters import atomic
from sam_adapters.schema import AdapterSchema, AdapterState

STATE_FILE = "server.safetensors"
FORMAT_VERSION = 2  # 2: sites have `wire`


def save(state: ServerState, path: Path) -> None:
    """Replace the file at `path` by `state`, atomically; a file that was good before is kept as `<name>.previous`. The folder must exist.

    Layout: safetensors; tensors `site/<name>` (schema.size,) float32, `distance` (n, n) float64, `probes` (n, n) int64; metadata `document`
    (JSON of everything else) and `sha256` over the document and the tensors in the order of their names.
    """
    tensors: dict[str, NDArray[Any]] = {f"site/{name}": record.state.to_vector() for name, record in state.sites.items()}
    tensors |= {"distance": state.distances.distance, "probes": state.distances.probes}
    document = json.dumps(_to_document(state), sort_keys=True, separators=(",", ":"), allow_nan=False)
    data = safetensors.numpy.save(tensors, {"document": document, "sha256": _digest(document, tensors)})
    if path.exists() and _is_whole(path):
        atomic.write_bytes(previous_of(path), path.read_bytes())
    atomic.write_bytes(path, data)


def load(path: Path) -> ServerState:
    """The state in the file at `path`.

    Raises:
        ServerStateVersionError: a newer version of this software wrote it.
        ServerStateError: there is no such file, or it is damaged; the message says what to do.
    """
    document, tensors = _read(path)
    try:
        return _from_document(_migrated(document), tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # includes AdapterError and AggregationError
        raise ServerStateError(_damaged(path, f"{type(error).__name__}: {error}")) from error


def load_or_new(path: Path, schema: AdapterSchema) -> ServerState:
    """The state at `path`, or a new federation's if there is no such file and no `.previous` one either.

    Raises:
        ServerStateError: as `load`; or the file belongs to a federation with another schema.
    """
    if not path.exists() and not previous_of(path).exists():
        return new_state(schema)
    state = load(path)
    if state.schema != schema:
        raise ServerStateError(
            f"{path} belongs to a federation with {_described(state.schema)}, asked for was {_described(schema)}: use its settings, or "
            "another state file for a new federation."
        )
    return state


def _described(schema: AdapterSchema) -> str:
    return f"adapter layout {schema.id} (base {schema.base[:16]}, {schema.layout})"


def previous_of(path: Path) -> Path:
    """Where the snapshot before the last `save` lies."""
    return path.with_name(path.name + ".previous")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Document and tensors of a whole file of a known version."""
    if not path.exists():
        raise ServerStateError(f"There is no server state at {path}. {_remedy(path)}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        document = json.loads(metadata["document"])
        version = document["format"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ServerStateError(_damaged(path, f"{type(error).__name__}: {error}")) from error
    if type(version) is not int or version > FORMAT_VERSION:
        raise ServerStateVersionError(
            f"{path} has format version {version!r}, this software knows versions up to {FORMAT_VERSION}: update FedSCA Label here."
        )
    if metadata.get("sha256") != _digest(metadata["document"], tensors):
        raise ServerStateError(_damaged(path, "its checksum does not fit"))
    return document, tensors


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except ServerStateError:
        return False
    return True


def _damaged(path: Path, cause: str) -> str:
    return f"{path} is damaged ({cause}). {_remedy(path)}"


def _remedy(path: Path) -> str:
    previous = previous_of(path)
    if previous.exists():
        return f"The snapshot before it is kept: stop the server, copy {previous} to {path}, start it again; at most one round is repeated."
    return "No earlier snapshot is kept beside it: restore it from a backup, or name another file to begin a new federation."


def _digest(document: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _to_document(state: ServerState) -> dict[str, Any]:
    sites = []
    for record in state.sites.values():
        value = {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record) if entry.name != "state"}
        sites.append(value)
    return {
        "format": FORMAT_VERSION,
        "federation": state.federation,
        "schema": state.schema.to_json(),
        "sites": sites,
        "distance_sites": list(state.distances.sites),
        "round": state.round,
        "next_probe": state.next_probe,
        "last_probe": state.last_probe,
        "history": [dataclasses.asdict(entry) for entry in state.history],
    }


def _migrated(document: dict[str, Any]) -> dict[str, Any]:
    """A document of any known format as one of the present format; the file itself changes with the next `save`."""
    for version in range(document["format"], FORMAT_VERSION):
        document = {**_MIGRATIONS[version](document), "format": version + 1}
    return document


def _with_wire(document: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: until then all sites spoke version 1 of the wire format."""
    return {**document, "sites": [{**site, "wire": 1} for site in document["sites"]]}


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_wire}


def _from_document(document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> ServerState:
    schema = AdapterSchema.from_json(document["schema"])
    sites = {}
    for value in document["sites"]:
        pair = value["probe_cases"]
        state = AdapterState.from_vector(schema, tensors[f"site/{value['name']}"])
        sites[value["name"]] = SiteRecord(**{**value, "state": state, "probe_cases": None if pair is None else (pair[0], pair[1])})
    return ServerState(
        federation=document["federation"],
        schema=schema,
        sites=sites,
        distances=DistanceTable(tuple(document["distance_sites"]), tensors["distance"], tensors["probes"]),
        round=document["round"],
        next_probe=document["next_probe"],
        last_probe=document["last_probe"],
        history=tuple(
            RoundEntry(**{**entry, "heard": tuple(entry["heard"]), "probed": tuple(entry["probed"])}) for entry in document["history"]
        ),
    )
