"""The extension as an installation has it: configured and installed by CMake, against a stub of Slicer's build system."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).resolve().parent / "stub_slicer"
CMAKE = shutil.which("cmake")
SECONDS = 120.0
# No compiler is needed for Python files, but project() looks for one.
NO_COMPILER = [f"-DCMAKE_{language}_COMPILER_{what}" for language in ("C", "CXX") for what in ("FORCED=TRUE", "WORKS=TRUE")]


def run(*arguments: object) -> None:
    """Run CMake; its last words are in the error."""
    assert CMAKE is not None, "CMake is not installed: apt install cmake, or pip install cmake"
    done = subprocess.run([CMAKE, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def configure(source: Path, build: Path, *, testing: bool = False) -> None:
    """Configure from the repository's root or from the extension's folder."""
    run("-S", source, "-B", build, f"-DSlicer_DIR={STUB}", f"-DBUILD_TESTING={'ON' if testing else 'OFF'}", *NO_COMPILER)


def staged_module(folder: Path) -> Path:
    """Install into a folder; returns the folder that holds FedSCA.py, as Slicer's module path has it."""
    configure(ROOT, folder / "build")
    run("--install", folder / "build", "--prefix", folder / "installed")
    return folder / "installed" / "qt-scripted-modules"
