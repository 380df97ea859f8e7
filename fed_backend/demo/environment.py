"""What the demo ran on: for the report. Reads, changes nothing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("fedsca-label", "torch", "monai", "monailabel", "peft", "transformers", "flwr", "SimpleITK", "numpy")


def environment(base: str, image_size: int) -> dict[str, str]:
    """Base, machine and versions as name -> text."""
    found = {
        "base": base,
        "image size": f"{image_size} px",
        "cores": str(os.cpu_count() or "?"),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    return found | {package: _version(package) for package in PACKAGES}


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
