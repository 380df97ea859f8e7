"""`make tables`: its commands are ones that the benchmark takes, and it says what it needs."""

import shlex
import subprocess
from pathlib import Path

from benchmarks.federated.command import _parser
from benchmarks.federated.configuration import arms

ROOT = Path(__file__).parents[2]
COMMAND = "fedsca bench federated --root "
INSTALLED = ["-o", ".venv/.installed"]  # a test installs nothing


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *INSTALLED, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_its_commands_answer_the_first_three_questions_into_one_result_for_each_set_of_hospitals(tmp_path: Path) -> None:
    printed = _make("-n", "tables", f"DATA={tmp_path}", f"OUT={tmp_path}/out").stdout
    commands = [shlex.split("--root " + line.split(COMMAND)[1]) for line in printed.splitlines() if COMMAND in line]
    found = [_parser().parse_args(command) for command in commands]
    assert {(one.root.name, one.experiment) for one in found} == {
        ("fedbca", "main"),
        ("fedbca", "depth"),
        ("fedbca", "blocks"),
        ("optic_disc", "main"),
    }
    assert all(one.preset == "cpu" and one.out == tmp_path / "out" / f"{one.root.name}.json" for one in found)
    assert all(one.kinds == "box" for one in found if one.root.name == "fedbca")  # its crops tell the lesion by their frame
    assert all(arms(one.experiment, ("a", "b")) for one in found)


def test_without_hospitals_it_says_what_it_needs(tmp_path: Path) -> None:
    done = _make("tables", f"DATA={tmp_path}", f"OUT={tmp_path}/out")
    assert done.returncode != 0
    assert "make tables needs DATA=DIR, a folder with fedbca and optic_disc" in done.stdout
    assert not (tmp_path / "out").exists()
