"""Adapter folders on disk: what names them, how they come into being whole, and what a killed writer leaves behind. No torch.

A folder <adapters>/<id>/ holds a standard PEFT adapter (`adapter_config.json`, `adapter_model.safetensors`) and `provenance.json`. It is
made complete and flushed to the disk under <adapters>/.incoming-<random>/ and then renamed, so a folder of a version's name is always
whole. The writer holds the `flock` of its incoming folder: one that can be locked belongs to a dead writer and may be removed.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from sam_adapters import atomic, file_lock
from sam_adapters.errors import AdapterError, RegistryError
from sam_adapters.provenance import PROVENANCE_FILE, VERSION_ID_PATTERN, Provenance

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_FILES = (CONFIG_FILE, WEIGHTS_FILE)

_INCOMING = ".incoming-"
_DAMAGED = ".damaged-"


@dataclass(frozen=True)
class AdapterContent:
    """The two files of a PEFT adapter, whole in memory."""

    config: bytes
    weights: bytes

    @property
    def id(self) -> str:
        """First 16 hex digits of the content hash."""
        return content_sha256(self.config, self.weights)[:16]


def content_sha256(config: bytes, weights: bytes) -> str:
    """sha256 (hex) of what an adapter is, whatever order its files were written in.

    Hashed are the configuration as canonical JSON (sorted keys, no spaces) and, for every tensor in order of name, its name, dtype, shape
    and bytes; each piece with its length before it. The free text in a safetensors header is not hashed.

    Raises:
        AdapterError: a file is not what it should be.
    """
    try:
        value = json.loads(config)
    except ValueError as error:
        raise AdapterError(f"{CONFIG_FILE} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise AdapterError(f"{CONFIG_FILE} holds a {type(value).__name__}, expected a JSON object.")
    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(weights)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise AdapterError(f"{WEIGHTS_FILE} is not a whole safetensors file: {error}.") from error
    digest = hashlib.sha256(b"fedsca-adapter-1")
    _add(digest, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        _add(digest, json.dumps([name, tensor["dtype"], list(tensor["shape"])]).encode())
        _add(digest, tensor["data"])
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", piece: bytes | bytearray) -> None:
    digest.update(len(piece).to_bytes(8, "little"))
    digest.update(piece)


def read_content(folder: Path) -> AdapterContent:
    """Read a PEFT adapter folder; other files in it are ignored.

    Raises:
        AdapterError: one of the two files is missing or cannot be read.
    """
    try:
        return AdapterContent((folder / CONFIG_FILE).read_bytes(), (folder / WEIGHTS_FILE).read_bytes())
    except OSError as error:
        what = f"{error.strerror}: {error.filename}"
        raise AdapterError(f"{folder} is not a PEFT adapter folder ({what}): expected {' and '.join(PEFT_FILES)} in it.") from error


def problem_of(folder: Path, version_id: str) -> str | None:
    """What is wrong with the folder of a version, as a sentence; None when its contents are what its name promises."""
    if not folder.is_dir():
        return f"The folder of version {version_id} is missing: {folder}."
    try:
        found = read_content(folder).id
    except AdapterError as error:
        return f"Version {version_id} is damaged: {error}"
    if found != version_id:
        return f"Version {version_id} is damaged: the contents of {folder} hash to {found}."
    return None


@contextmanager
def incoming_folder(adapters: Path) -> Iterator[Path]:
    """A new, locked folder beside the versions; removed at the end unless it was renamed by `publish`."""
    folder, descriptor = _make_locked(adapters)
    try:
        yield folder
    finally:
        try:
            if folder.exists():
                _remove(folder)
        finally:
            os.close(descriptor)


def _make_locked(adapters: Path) -> tuple[Path, int]:
    while True:
        folder = adapters / f"{_INCOMING}{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        # Between the two calls a cleaner may take the folder for a dead writer's: then it is gone, and another one is made.
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if file_lock.try_lock(descriptor) and folder.exists():
                return folder, descriptor
            os.close(descriptor)


def fill(folder: Path, content: AdapterContent, provenance: Provenance) -> None:
    """Write a version's three files, read-only, and flush them and the folder to the disk."""
    provenance_bytes = (json.dumps(provenance.to_dict(), indent=1, sort_keys=True) + "\n").encode()
    for name, data in ((CONFIG_FILE, content.config), (WEIGHTS_FILE, content.weights), (PROVENANCE_FILE, provenance_bytes)):
        with (folder / name).open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o444)
            os.fsync(stream.fileno())
    atomic.fsync_directory(folder)


def publish(incoming: Path, target: Path) -> None:
    """Give a filled folder its version's name. A whole folder that is there already stays; a damaged one is replaced."""
    if problem_of(target, target.name) is None:
        return
    try:
        incoming.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        damaged = target.parent / f"{_DAMAGED}{secrets.token_hex(8)}"
        target.replace(damaged)
        incoming.replace(target)
    atomic.fsync_directory(target.parent)


def unregistered(adapters: Path, known: set[str]) -> list[str]:
    """Names of folders that look like versions but are not among `known`."""
    return sorted(path.name for path in adapters.iterdir() if VERSION_ID_PATTERN.fullmatch(path.name) and path.name not in known)


def remove_leftovers(adapters: Path) -> list[str]:
    """Remove what dead writers left under temporary names; folders of living writers stay. Returns the removed names."""
    removed = []
    for path in adapters.iterdir():
        if path.name.startswith((_INCOMING, _DAMAGED)) and _remove_if_dead(path):
            removed.append(path.name)
    return removed


def _remove_if_dead(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not file_lock.try_lock(descriptor):
            return False
        _remove(folder)
        return True
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def adopt(folder: Path) -> Provenance | None:
    """The provenance of a version's folder that has no row, if the folder is whole; None (and nothing is touched) if it is not."""
    if problem_of(folder, folder.name) is not None:
        return None
    try:
        return Provenance.load(folder / PROVENANCE_FILE)
    except RegistryError:
        return None


def export(folder: Path, destination: Path) -> None:
    """Copy a version's files into a new folder; the copies are writable. The folder appears whole or not at all.

    Raises:
        RegistryError: the destination exists, or cannot be written.
    """
    if destination.exists() or destination.is_symlink():
        raise RegistryError(f"{destination} exists already: name a folder that does not.")
    temporary = destination.parent / f".tmp-{destination.name}-{secrets.token_hex(4)}"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for name in (*PEFT_FILES, PROVENANCE_FILE):
            shutil.copyfile(folder / name, temporary / name)
        temporary.rename(destination)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RegistryError(f"{destination} cannot be written: {error.strerror}.") from error
