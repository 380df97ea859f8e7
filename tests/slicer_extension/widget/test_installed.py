"""What CMake installs is enough for the panel; and the README names tests that there are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slicer_extension.staging import CMAKE, ROOT, staged_module

SETUP = """
import sys
from pathlib import Path
from tests.slicer_extension.widget import conftest
from tests.slicer_extension.widget.desk import desk
installed, settings = Path(sys.argv[1]), Path(sys.argv[2])
with desk(settings, installed) as bench:
    import FedSCALib
    assert Path(FedSCALib.__file__).parent.parent == installed, FedSCALib.__file__
    bench.ui.addressEdit.setText("127.0.0.1:1")
    bench.press("connectButton")
    bench.until(lambda: bench.state.notice, "the refusal")
    assert not bench.ui.pointTool.icon.isNull()
    bench.module.FedSCATest().test_masks_and_undo()
print("set up")
"""


@pytest.mark.skipif(CMAKE is None, reason="CMake is not installed: apt install cmake, or pip install cmake")
def test_the_panel_is_set_up_from_what_is_installed(tmp_path: Path) -> None:
    installed = staged_module(tmp_path / "stage")
    settings = tmp_path / "settings"
    settings.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(installed), str(ROOT)))}
    command = [sys.executable, "-c", SETUP, str(installed), str(settings)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "set up" in done.stdout


def test_the_readme_names_tests_and_pictures_that_there_are() -> None:
    readme = (ROOT / "slicer_extension" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py)(?:::(test_\w+))?`", readme)
    rows = [(path, name) for path, name in named if "/test_" in path]
    assert len(rows) >= 15
    missing = [f"{path}::{name}" for path, name in rows if f"def {name}" not in (ROOT / "tests" / path).read_text(encoding="utf-8")]
    assert missing == []
    pictures = re.findall(r"\]\((Screenshots/[^)]+)\)", readme)
    assert pictures
    assert all((ROOT / "slicer_extension" / picture).is_file() for picture in pictures)
