import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fed_backend.demo.errors import DemoError, ProcessFailedError
from fed_backend.demo.processes import Supervisor, free_ports, stop_kept, terminate_as_interrupt

# A parent with a child of its own; both write their number and then sleep. The child ignores SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, __file__, str(folder), "child"], start_new_session=True)
    (folder / "parent").write_text(str(os.getpid()))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "child").write_text(str(os.getpid()))
print("sleeping", flush=True)
time.sleep(300)
"""

DEMO = """
import sys, time
from pathlib import Path
from fed_backend.demo.processes import Supervisor, terminate_as_interrupt
folder = Path(sys.argv[1])
with terminate_as_interrupt(), Supervisor(folder / "logs", grace=0.2) as supervisor:
    supervisor.start("family", [sys.executable, str(folder / "family.py"), str(folder)])
    (folder / "started").touch()
    time.sleep(300)
"""


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    script = tmp_path / "family.py"
    script.write_text(FAMILY, encoding="utf-8")
    return [sys.executable, str(script), str(tmp_path)]


def eventually(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} not within {seconds} s"
        os.sched_yield()


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def numbers(folder: Path) -> list[int]:
    eventually(
        lambda: all((folder / who).exists() and (folder / who).read_text(encoding="utf-8") for who in ("parent", "child")),
        "the family started",
    )
    return [int((folder / who).read_text(encoding="utf-8")) for who in ("parent", "child")]


def test_leaving_the_block_stops_children_and_grandchildren(tmp_path: Path, family: list[str]) -> None:
    with Supervisor(tmp_path / "logs", grace=0.2) as supervisor:
        process = supervisor.start("family", family)
        pids = numbers(tmp_path)
        assert all(map(running, pids))
    assert not any(map(running, pids)), "the child ignores SIGTERM and had a session of its own"
    assert not process.alive
    assert (tmp_path / "logs" / "processes.json").read_text(encoding="utf-8").strip() == "[]"


def test_a_failure_stops_everything(tmp_path: Path, family: list[str]) -> None:
    pids: list[int] = []

    def start_and_fail() -> None:
        with Supervisor(tmp_path / "logs", grace=0.2) as supervisor:
            supervisor.start("family", family)
            pids.extend(numbers(tmp_path))
            raise RuntimeError("a part failed")

    with pytest.raises(RuntimeError, match="a part failed"):
        start_and_fail()
    assert not any(map(running, pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_end_of_the_demo_leaves_anything_running(tmp_path: Path, family: list[str], number: signal.Signals) -> None:
    demo = subprocess.Popen([sys.executable, "-c", DEMO, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        pids = numbers(tmp_path)
        demo.send_signal(number)
        demo.wait(30)
        eventually(lambda: not any(map(running, pids)), f"family gone after {number.name}", 25.0)
    finally:
        demo.kill()
        demo.wait()


def test_readiness_shows_the_end_of_the_log_when_a_process_ends(tmp_path: Path) -> None:
    with Supervisor(tmp_path, grace=0.2) as supervisor:
        process = supervisor.start("server", [sys.executable, "-c", "print('port is taken'); raise SystemExit(3)"])
        with pytest.raises(ProcessFailedError, match=r"exit code 3(.|\n)*port is taken"):
            supervisor.wait_until(process, lambda: False, seconds=20, what="GET /info/")


def test_readiness_has_a_deadline(tmp_path: Path, family: list[str]) -> None:
    with Supervisor(tmp_path / "logs", grace=0.2) as supervisor:
        process = supervisor.start("server", family)
        with pytest.raises(ProcessFailedError, match="not ready within 0 s"):
            supervisor.wait_until(process, lambda: False, seconds=0.3, what="GET /info/")


def test_check_reports_a_process_that_ended(tmp_path: Path) -> None:
    with Supervisor(tmp_path, grace=0.2) as supervisor:
        process = supervisor.start("node", [sys.executable, "-c", "print('bye')"])
        process.guardian.wait(20)
        with pytest.raises(ProcessFailedError, match="node: ended unexpectedly with exit code 0"):
            supervisor.check()


def test_run_returns_when_the_command_is_done_and_raises_when_it_fails(tmp_path: Path) -> None:
    with Supervisor(tmp_path, grace=0.2) as supervisor:
        done = supervisor.run("good", [sys.executable, "-c", "import os; print(os.environ['COLOUR'])"], seconds=20, env={"COLOUR": "green"})
        assert done.log_tail().splitlines()[0] == "green"
        assert "s of processor time" in done.log_tail()
        with pytest.raises(ProcessFailedError, match="failed with exit code 7"):
            supervisor.run("bad", [sys.executable, "-c", "raise SystemExit(7)"], seconds=20)
        with pytest.raises(ProcessFailedError, match="did not finish within 0 s"):
            supervisor.run("slow", [sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.3)
        assert supervisor.processes == []


def test_keep_leaves_it_running_until_it_is_stopped(tmp_path: Path, family: list[str]) -> None:
    logs = tmp_path / "logs"
    with Supervisor(logs, grace=0.2) as supervisor:
        process = supervisor.start("family", family)
        pids = numbers(tmp_path)
        supervisor.keep()
    assert process.guardian.stdin is not None
    process.guardian.stdin.close()  # as the end of the demo does
    with pytest.raises(subprocess.TimeoutExpired):
        process.guardian.wait(1)
    assert all(map(running, pids))

    assert stop_kept(logs) == ["family"]
    process.guardian.wait(5)
    assert not any(map(running, pids))
    assert stop_kept(logs) == []


def test_stop_kept_needs_a_list(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"no processes\.json"):
        stop_kept(tmp_path)


def test_terminate_becomes_an_interrupt_only_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20
