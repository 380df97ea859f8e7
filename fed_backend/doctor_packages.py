"""The doctor's look at installed packages: are they those that were proven together?

The pins are read from the requirements files of the checkout that this software runs from, so there is one list only.
"""

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

import fed_backend
from fed_backend.doctor_check import SETUP, Check, part

CHECKOUT = Path(fed_backend.__file__).resolve().parents[1]
SHOWN = ("torch", "monai", "monailabel", "transformers", "peft", "openvino", "flwr", "SimpleITK", "numpy")
"""Packages with a line of their own; the others are counted, and named when something is wrong with them."""
_FILES = (("requirements.txt", ""), ("requirements-nodeps.txt", "--no-deps "))


@dataclass(frozen=True)
class Pin:
    """A requirement and the command that installs it."""

    requirement: Requirement
    install: str


def read_pins(folder: Path = CHECKOUT) -> list[Pin]:
    """The pins of the requirements files in `folder`; empty where there are none."""
    pins = []
    for name, flags in _FILES:
        path = folder / name
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            text = line.split("#")[0].strip()
            if text:
                try:
                    pins.append(Pin(Requirement(text), f'pip install {flags}"{text}"'))
                except InvalidRequirement:
                    continue  # an option of pip, not a package
    return pins


def package_checks(pins: list[Pin] | None = None) -> list[Check]:
    """A line for each package that matters most or is not as it should be, and one line for all the others together."""
    pins = read_pins() if pins is None else pins
    if not pins:
        return [_unpinned()]
    pins = sorted(pins, key=lambda pin: SHOWN.index(pin.requirement.name) if pin.requirement.name in SHOWN else len(SHOWN))
    checks = [(pin, _package_check(pin)) for pin in pins]
    shown = [check for pin, check in checks if pin.requirement.name in SHOWN or check.status != "ok"]
    rest = len(checks) - len(shown)
    return [*shown, Check("other packages", f"{rest} as proven")] if rest else shown


def _package_check(pin: Pin) -> Check:
    name = pin.requirement.name
    version = installed_version(name)
    if version is None:
        return Check(name, "not installed", "missing", f"{SETUP}, or {pin.install}")
    if not pin.requirement.specifier.contains(version.split("+")[0], prereleases=True):
        return Check(name, f"{version}, proven is {str(pin.requirement.specifier).removeprefix('==')}", "warning", pin.install)
    return Check(name, version)


def _unpinned() -> Check:
    missing = [name for name in SHOWN if installed_version(name) is None]
    if missing:
        return Check("packages", f"not installed: {', '.join(missing)}", "missing", f"{SETUP}, in a checkout of the project")
    return Check("packages", "installed, but not from a checkout: versions were not compared", "warning", f"{SETUP}, in a checkout")


def installed_version(name: str) -> str | None:
    """Version of an installed distribution; None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def telemetry_check() -> Check:
    """openvino-telemetry reports to its makers; OpenVINO does without it, and the server never imports it."""
    if installed_version("openvino-telemetry") is None:
        return Check("openvino-telemetry", "not installed, as it should be")
    return Check("openvino-telemetry", "installed; the server does not use it", "warning", "pip uninstall openvino-telemetry")


def torchvision_check(version: str | None = None) -> Check:
    """torchvision from PyPI next to a CPU build of torch takes the imports of peft and transformers down with it."""
    version = version or installed_version("torchvision")
    if version is None:
        return Check("torchvision", "not installed, as it should be")
    probe = "import torch, torchvision; torch.ops.torchvision.nms"
    try:
        works = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        works = False
    if works:
        return Check("torchvision", f"{version}, not needed; it fits this torch", "warning", "pip uninstall torchvision, if imports fail")
    return Check(
        "torchvision", f"{version}, does not fit this torch and breaks peft and transformers", "missing", "pip uninstall torchvision"
    )


def import_checks(probe: dict[str, Any]) -> list[Check]:
    """Whether the packages can be imported together: one line when they can, one for each that cannot."""
    if "error" in probe:
        return [Check("imports", str(probe["error"]), "missing", SETUP)]
    imports = part(probe, "imports")
    broken = {module: problem for module, problem in imports.items() if problem is not None}
    if not broken:
        return [Check("imports", f"all {len(imports)} work together")]
    return [Check(f"import {module}", str(problem), "missing", SETUP) for module, problem in broken.items()]
