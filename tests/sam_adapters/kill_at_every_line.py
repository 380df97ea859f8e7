"""Run an operation on a site again and again, killing it with SIGKILL before the first, second, third … line that it executes.

    python -m tests.sam_adapters.kill_at_every_line <operation> <empty folder>

Lines are those of the registry, the adapter store, the label log and the atomic writes; so there is a kill between any two writes. Each
trial is a forked process on a fresh copy of the site; afterwards the site is opened as after a crash and checked. Says how many trials were
killed and in which states they left the site, as JSON. A process of its own, so that the test process is never forked.
"""

import gc
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import sam_adapters
from sam_adapters.label_log import LabelEntry, LabelLog
from sam_adapters.registry import BASE, Registry, RoundRecord
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import make_adapter, toy_provenance

TRACED = tuple(
    str(Path(sam_adapters.__file__).with_name(name))
    for name in ("registry.py", "registry_rows.py", "registry_schema.py", "adapter_store.py", "atomic.py", "label_log.py", "file_lock.py")
)


@dataclass(frozen=True)
class Operation:
    """What is killed. `prepare` makes the site; `run` is killed, on a registry that is open already unless `opens`, which makes opening
    it part of what is killed; `state` names what is found afterwards; repeating `run` must then lead to `finished`.
    """

    prepare: Callable[[SiteDirectory, Path], None]
    run: Callable[[SiteDirectory, Registry, Path], object]
    state: Callable[[Registry], str]
    finished: str
    opens: bool = False

    def repeat(self, site: SiteDirectory, adapters: Path) -> None:
        with Registry(site) as registry:
            self.run(site, registry, adapters)


def add(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    registry.add(adapters / "1", toy_provenance())


def activate(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    registry.activate(registry.versions()[0].id, reason="better", by="gate")


def roll_back(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    if registry.active() == registry.versions()[1]:
        registry.rollback(reason="worse", by="dr")


def record(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    registry.record_round(RoundRecord("f", 1, decision="promoted", bytes_up={"update": 1}))


def log_label(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    LabelLog(site.label_log_file).append(LabelEntry("case", "final", "0" * 64))


def only_open(site: SiteDirectory, registry: Registry, adapters: Path) -> None:
    pass


def nothing(site: SiteDirectory, adapters: Path) -> None:
    pass


def empty_registry(site: SiteDirectory, adapters: Path) -> None:
    Registry(site).close()


def with_two_active_in_turn(site: SiteDirectory, adapters: Path) -> None:
    with Registry(site) as registry:
        for seed in (1, 2):
            registry.activate(registry.add(adapters / str(seed), toy_provenance()).id, reason="better", by="gate")


def with_damaged_version(site: SiteDirectory, adapters: Path) -> None:
    with Registry(site) as registry:
        weights = registry.folder(registry.add(adapters / "1", toy_provenance()).id) / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"")


def with_leftovers(site: SiteDirectory, adapters: Path) -> None:
    """An incoming folder of a dead writer, and a whole folder without a row."""
    Registry(site).close()
    shutil.copytree(adapters / "1", site.adapters / ".incoming-0123")
    other = SiteDirectory.open(site.root.parent / "other")
    with Registry(other) as registry:
        version = registry.add(adapters / "2", toy_provenance())
    (other.adapters / version.id).rename(site.adapters / version.id)


def versions_state(registry: Registry) -> str:
    return f"{len(registry.versions())} versions"


def active_state(registry: Registry) -> str:
    active = registry.active()
    order = [version.id for version in registry.versions()]
    return f"active {BASE if active is None else order.index(active.id)}, {len(registry.decisions())} decisions"


def rounds_state(registry: Registry) -> str:
    return f"{len(registry.rounds())} rounds"


OPERATIONS = {
    "create": Operation(nothing, only_open, versions_state, "0 versions", opens=True),
    "recover": Operation(with_leftovers, only_open, versions_state, "1 versions", opens=True),
    "add": Operation(empty_registry, add, versions_state, "1 versions"),
    "heal": Operation(with_damaged_version, add, versions_state, "1 versions"),
    "activate": Operation(with_two_active_in_turn, activate, active_state, "active 0, 3 decisions"),
    "roll_back": Operation(with_two_active_in_turn, roll_back, active_state, "active 0, 3 decisions"),
    "record_round": Operation(empty_registry, record, rounds_state, "1 rounds"),
    "log_label": Operation(empty_registry, log_label, rounds_state, "0 rounds"),
}


def main(name: str, folder: Path) -> None:
    operation = OPERATIONS[name]
    adapters = folder / "made"
    for seed in (1, 2):
        make_adapter(adapters / str(seed), seed)
    template = SiteDirectory.open(folder / "template" / "site")
    operation.prepare(template, adapters)
    states: Counter[str] = Counter()
    kills = 0
    while True:
        trial = folder / "trial"
        shutil.copytree(folder / "template", trial)
        site = SiteDirectory(trial / "site")
        killed = run_and_kill(operation, site, adapters, before_line=kills + 1)
        before = len(lines(site))
        states[check(site, operation.state, may_be_damaged=name == "heal")] += 1
        operation.repeat(site, adapters)
        end = check(site, operation.state)
        if end != operation.finished:
            raise SystemExit(f"after {kills} lines: {end} once the operation was repeated, expected {operation.finished}")
        if name == "log_label" and len(lines(site)) != before + 1:
            raise SystemExit(f"after {kills} lines: {before} entries became {len(lines(site))}")
        shutil.rmtree(trial)
        if not killed:
            break
        kills += 1
    sys.stdout.write(json.dumps({"kills": kills, "states": states}) + "\n")


def lines(site: SiteDirectory) -> list[LabelEntry]:
    return LabelLog(site.label_log_file).entries()


def run_and_kill(operation: Operation, site: SiteDirectory, adapters: Path, *, before_line: int) -> bool:
    """Run in a forked process that is killed before its n-th traced line; whether it came to that."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                count += 1
                if count == before_line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        gc.disable()  # finalisers at random moments would shift the count
        try:
            if operation.opens:
                sys.settrace(trace)
                operation.repeat(site, adapters)
            else:
                registry = Registry(site)
                sys.settrace(trace)
                operation.run(site, registry, adapters)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise SystemExit(f"the operation failed by itself before line {before_line}")
    return False


def check(site: SiteDirectory, state: Callable[[Registry], str], *, may_be_damaged: bool = False) -> str:
    """Open the site as after a crash, refuse anything half done, and name the state it is in."""
    with Registry(site) as registry:
        versions = registry.versions()
        folders = sorted(path.name for path in site.adapters.iterdir())
        damaged = [version.id for version in versions if registry.verify(version.id) is not None]
        switches = [decision for decision in registry.decisions() if decision.previous is not None]
        found = state(registry)
        generation = registry.generation()
        active = registry.active()
    problems = []
    if damaged and not may_be_damaged:
        problems.append(f"damaged: {damaged}")
    if set(folders) - {version.id for version in versions}:
        problems.append(f"folders {folders} but rows {[version.id for version in versions]}")
    if generation != len(switches):
        problems.append(f"generation {generation} after {len(switches)} decisions")
    if switches and switches[-1].version != (BASE if active is None else active.id):
        problems.append(f"{active} is active, the last decision says {switches[-1].version}")
    connection = sqlite3.connect(site.registry_file)
    integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    if integrity != "ok":
        problems.append(integrity)
    if problems:
        raise SystemExit("; ".join(problems))
    return f"{found}, damaged" if damaged else found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
