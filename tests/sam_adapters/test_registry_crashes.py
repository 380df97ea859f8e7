"""The registry and the label log, killed with SIGKILL between any two lines and used by many processes at once."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sam_adapters.label_log import LabelLog
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import make_adapter, toy_provenance

REPOSITORY = Path(__file__).parents[2]
MEMORY = "/dev/shm"


def start(module: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"tests.sam_adapters.{module}", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "states"),
    [
        ("create", {"0 versions"}),
        ("add", {"0 versions", "1 versions"}),
        ("heal", {"1 versions, damaged", "1 versions"}),
        ("recover", {"1 versions"}),
        ("activate", {"active 1, 2 decisions", "active 0, 3 decisions"}),
        ("roll_back", {"active 1, 2 decisions", "active 0, 3 decisions"}),
        ("record_round", {"0 rounds", "1 rounds"}),
        ("log_label", {"0 rounds"}),
    ],
)
def test_killed_before_every_line_it_is_either_undone_or_done(tmp_path: Path, operation: str, states: set[str]) -> None:
    # A killed process loses nothing that the system has taken: memory serves as well as a disk here, and quicker.
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        process = start("kill_at_every_line", operation, folder)
        out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    result = json.loads(out)
    assert set(result["states"]) == states
    assert result["kills"] >= 30


@pytest.mark.slow
def test_many_processes_write_while_some_are_killed(tmp_path: Path) -> None:
    """Four writers run to their end; three more are killed in the middle of their work."""
    site = SiteDirectory.open(tmp_path / "site")
    adapters = tmp_path / "made"
    for seed in range(20):
        make_adapter(adapters / str(seed), seed)
    survivors = [start("busy_writer", site.root, adapters, number, 12) for number in range(4)]
    victims = [start("busy_writer", site.root, adapters, number, 1000) for number in range(4, 7)]
    for wait_for, victim in enumerate(victims, start=3):
        assert victim.stdout is not None
        for _ in range(wait_for):
            assert victim.stdout.readline().startswith("did")
        os.kill(victim.pid, signal.SIGKILL)
    for process in (*survivors, *victims):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if process in victims else 0), errors

    registry = Registry(site)
    versions = registry.versions()
    assert sorted(path.name for path in site.adapters.iterdir()) == sorted(version.id for version in versions)
    assert [registry.verify(version.id) for version in versions] == [None] * len(versions)
    assert len({version.id for version in versions}) == len(versions) == 20
    # Every switch starts from where the one before it ended: no two decisions were ever made at the same time.
    active = BASE
    switches = [decision for decision in registry.decisions() if decision.previous is not None]
    for decision in switches:
        assert decision.previous == active
        active = decision.version
    now = registry.active()
    assert (BASE if now is None else now.id) == active
    assert registry.generation() == len(switches) > 0
    assert registry.find_round("chaos", 1) is not None
    entries = LabelLog(site.label_log_file).entries()
    for number in range(4):
        assert [entry.case for entry in entries if entry.who == str(number)] == [f"case-{number}-{turn}" for turn in range(12)]


@pytest.mark.slow
def test_many_processes_make_the_same_registry_at_the_same_moment(tmp_path: Path) -> None:
    adapters = tmp_path / "made"
    make_adapter(adapters / "0", 0)
    processes = [start("busy_writer", tmp_path, adapters, number, 0) for number in range(6)]
    pipes = [(process.stdin, process.stdout) for process in processes]
    assert all(out is not None and out.readline() == "ready\n" for _, out in pipes)  # everything is imported, all wait for a line
    for attempt in range(10):
        site = SiteDirectory.open(tmp_path / f"site-{attempt}")
        for to, _ in pipes:
            assert to is not None
            to.write(f"{site.root}\n")
            to.flush()
        answers = [out.readline() for _, out in pipes if out is not None]
        assert answers == ["did\n"] * 6
        assert [version.state for version in Registry(site).versions()] == ["candidate"]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_living_writers_folder_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    from sam_adapters import adapter_store

    site = SiteDirectory.open(tmp_path / "site")
    Registry(site).close()
    with adapter_store.incoming_folder(site.adapters) as incoming:
        (incoming / "adapter_config.json").write_text("half", encoding="utf-8")
        Registry(site).close()
        assert incoming.exists()
        dead = site.adapters / ".incoming-of-a-dead-writer"
        dead.mkdir()
        (dead / "adapter_config.json").write_text("half", encoding="utf-8")
        Registry(site).close()
        assert not dead.exists()
    assert list(site.adapters.iterdir()) == []


def test_a_whole_folder_without_a_row_is_adopted_and_a_broken_one_is_not(tmp_path: Path) -> None:
    site, other = SiteDirectory.open(tmp_path / "site"), SiteDirectory.open(tmp_path / "other")
    Registry(site).close()
    source = Registry(other)
    whole = source.add(make_adapter(tmp_path / "1", 1), toy_provenance(cases=7))
    broken = source.add(make_adapter(tmp_path / "2", 2), toy_provenance())
    for version in (whole, broken):
        (other.adapters / version.id).rename(site.adapters / version.id)
    (site.adapters / broken.id / "adapter_model.safetensors").unlink()
    (site.adapters / "not-a-version").mkdir()
    with Registry(site) as registry:
        assert registry.versions() == [whole]
        # Its contents coming again put the broken folder right.
        assert registry.add(tmp_path / "2", toy_provenance()).id == broken.id
        assert registry.verify(broken.id) is None
    assert (site.adapters / "not-a-version").is_dir()
