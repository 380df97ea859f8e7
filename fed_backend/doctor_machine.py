"""The doctor's look at the machine: Python, commands, SQLite, device, base, memory, disk."""

import os
import platform
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

from fed_backend.doctor_check import SETUP, Check, part

COMMANDS = ("flower-superlink", "flower-supernode", "flwr", "monailabel")
PROVEN_PYTHON = ((3, 11), (3, 12))
SQLITE_NEEDED = (3, 35, 0)  # RETURNING
SERVER_GIB = 1.5
"""Memory of one MONAI Label server with its tuning process, at 256 pixels."""


def python_check(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Python itself."""
    found = f"{platform.python_version()} ({sys.executable})"
    if version < PROVEN_PYTHON[0]:
        return Check("python", found, "missing", "install Python 3.11 or 3.12, then make setup PYTHON=python3.12")
    if version not in PROVEN_PYTHON:
        return Check("python", f"{found}; proven are 3.11 and 3.12", "warning", "make setup PYTHON=python3.12, if something fails")
    return Check("python", found)


def command_checks(beside: Path = Path(sys.executable).parent) -> list[Check]:
    """The commands that are started, beside the running Python: one line for all that are there, one for each that is not."""
    missing = [name for name in COMMANDS if not os.access(beside / name, os.X_OK)]
    checks = []
    if len(missing) < len(COMMANDS):
        checks.append(Check("commands", ", ".join(name for name in COMMANDS if name not in missing)))
    for name in missing:
        elsewhere = shutil.which(name)
        found = f"not in {beside}" + (f", but in {Path(elsewhere).parent}: another environment" if elsewhere else "")
        checks.append(Check(f"command {name}", found, "missing", SETUP))
    return checks


def sqlite_check(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Check:
    """The SQLite library that Python brings."""
    found = ".".join(map(str, version))
    if version < SQLITE_NEEDED:
        return Check("sqlite", f"{found}, 3.35 or newer is needed", "missing", "use a Python with a newer SQLite, e.g. from python.org")
    return Check("sqlite", found)


def device_check(probe: dict[str, Any]) -> Check:
    """What the network runs on with the setting `device auto`."""
    torch = part(probe, "torch")
    if not torch:
        return Check("device", "unknown: torch cannot be imported", "missing", SETUP)
    gpus = torch.get("gpus", [])
    if gpus:
        names = ", ".join(f"{gpu['name']} ({gpu['gib']} GiB)" for gpu in gpus)
        return Check("device", f"cuda: {names}; bf16 {'yes' if torch.get('bf16') else 'no'}")
    build = "CPU build of torch" if torch["build"] == "CPU" else f"torch for CUDA {torch['build']}, but no usable GPU"
    return Check("device", f"cpu, {os.cpu_count()} cores, {torch['threads']} threads ({build})")


def base_check(base: str, probe: dict[str, Any]) -> Check:
    """The base network's weights."""
    facts = part(probe, "base")
    if "sha256" in facts:
        return Check("base", f"{base}, sha256 {str(facts['sha256'])[:16]}…")
    return Check("base", f"{base} cannot be used", "missing", str(facts.get("error", SETUP)))


def memory_check(available: float | None = None) -> Check:
    """Memory that is free now."""
    if available is None:
        try:
            import psutil
        except ImportError:
            return Check("memory", "unknown: psutil is not installed", "warning", SETUP)
        available = psutil.virtual_memory().available
    gib = available / 2**30
    if gib < SERVER_GIB:
        return Check(
            "memory",
            f"{gib:.1f} GiB free, a hospital's server needs {SERVER_GIB:g}",
            "warning",
            "end other programs, or set a smaller image_size",
        )
    return Check("memory", f"{gib:.1f} GiB free")


def disk_check(folder: Path, free: float | None = None) -> Check:
    """Disk space that is free where `folder` is, or would be."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free if free is None else free
    gib = free / 2**30
    found = f"{gib:.1f} GiB free at {existing}"
    if gib < 0.2:
        return Check("disk", found, "missing", "free some space: labels and versions could not be saved")
    return Check("disk", found, "warning", "free some space before it runs out") if gib < 2 else Check("disk", found)
