"""What is started is tied to its starter, found again when that is killed, and started anew when it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fed_backend.errors import ScheduleError
from fed_backend.launch import free_port
from fed_backend.schedule import superlink_keeper
from fed_backend.schedule.child import ProcessStarter
from fed_backend.schedule.configuration import load_configuration
from fed_backend.schedule.kept_process import KeptProcess
from fed_backend.schedule.leftovers import end_leftovers, leftovers
from fed_backend.schedule.pulse import SILENT_QUESTIONS, Pulse
from fed_backend.schedule.server_plan import ServerPlan, page_argv, server_plan
from fed_backend.schedule.superlink_keeper import SuperLinkKeeper, pair_problem
from fed_backend.schedule.supervisor import LOCK_FILE, is_supervised, run
from sam_adapters.file_lock import locked
from tests.fed_backend.schedule.test_round_keeper import HandClock, Players
from tests.monailabel_app.certificates import write_certificate

SLEEP = "import signal, sys; print('up', flush=True); signal.pause()"
DEADLINE_SECONDS = 60.0


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_has_its_helpers_ended_with_it(tmp_path: Path) -> None:
    """The helper keeps the output open, as Flower's do, and is in the child's group."""
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    child = ProcessStarter(tmp_path)([sys.executable, "-c", script], dict(os.environ))
    wait_until(lambda: len(psutil.Process(child.pid).children()) == 1)
    (helper,) = psutil.Process(child.pid).children()
    assert {one.pid for one in leftovers(tmp_path)} == {child.pid, helper.pid}
    assert leftovers(tmp_path, [child.pid]) == []
    assert leftovers(tmp_path / "another") == []
    child.stop(20.0)
    assert child.ended() == -signal.SIGTERM
    wait_until(lambda: gone(helper.pid))


def test_what_a_killed_supervisor_leaves_is_ended_by_the_next(tmp_path: Path) -> None:
    """The child dies with its starter; its helper, in a session of its own as Flower's apps are, is found by its mark."""
    helper = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True).wait()"
    starter = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom fed_backend.schedule.child import ProcessStarter\n"
        f"child = ProcessStarter(Path({str(tmp_path)!r}))([sys.executable, '-c', {helper!r}], dict(os.environ))\n"
        "print(child.pid, flush=True)\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, encoding="utf-8") as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert supervisor.stdout.readline() == "up\n"
        supervisor.kill()
        wait_until(lambda: gone(child))
        (left,) = leftovers(tmp_path)
        assert end_leftovers(tmp_path) == 1
        assert gone(left.pid)
    assert end_leftovers(tmp_path) == 0


def test_a_second_supervisor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fed_backend.schedule.supervisor.StopSignals", lambda: None)
    monkeypatch.setattr("fed_backend.schedule.supervisor._LOCK_SECONDS", 0.01)
    (tmp_path / "federation.toml").write_text("", encoding="utf-8")
    assert not is_supervised(tmp_path)
    with locked(tmp_path / LOCK_FILE):
        assert is_supervised(tmp_path)
        with pytest.raises(ScheduleError, match="Another `fedsca server start` runs"):
            run(load_configuration(tmp_path / "federation.toml"))
    assert not is_supervised(tmp_path)


def test_what_ends_again_and_again_is_started_later_and_later() -> None:
    clock, players = HandClock(), Players()
    kept = KeptProcess("It", ["it"], {}, players, clock)
    waits = []
    kept.tick()
    for _ in range(8):
        players.started[-1].code = 1
        assert kept.tick()
        begun, count = clock.steady, len(players.started)
        while len(players.started) == count:
            clock.forward(1.0)
            assert not kept.tick()
        waits.append(clock.steady - begun)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.forward(61.0)
    players.started[-1].code = -9
    kept.tick()
    clock.forward(1.0)
    kept.tick()
    assert len(players.started) == 10


class KeeperBench:
    """A SuperLink that is played, with real certificate files."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = write_certificate(folder)
        self.clock, self.players, self.synchronised = HandClock(), Players(), 0
        self.listens, self.refuses, self.speaks = False, False, True
        watched = (self.certificate, self.certificate, self.key)  # it is its own authority
        plan = ServerPlan(["superlink"], {}, "127.0.0.1", 9092, watched[0], watched, enrolled=True)
        process = KeptProcess("The SuperLink", plan.argv, {}, self.players, self.clock)
        pulse = Pulse("The SuperLink", lambda: self.speaks, self.clock)
        self.keeper = SuperLinkKeeper(plan, process, self.clock, self._synchronise, pulse, lambda *_: self.listens)

    def _synchronise(self) -> list[str]:
        self.synchronised += 1
        if self.refuses:
            raise ScheduleError("Not now.")
        return ["Site A is let in."]


@pytest.fixture
def bench(tmp_path: Path) -> KeeperBench:
    return KeeperBench(tmp_path)


def test_the_roster_is_applied_when_the_superlink_is_up_and_again_when_that_fails(bench: KeeperBench) -> None:
    bench.keeper.tick(idle=True)
    bench.keeper.tick(idle=True)
    assert (bench.keeper.up, bench.synchronised) == (False, 0)
    bench.listens, bench.refuses = True, True
    bench.keeper.tick(idle=True)
    assert bench.keeper.up

    def ticked(count: int) -> bool:
        bench.keeper.tick(idle=True)
        return bench.synchronised == count and bench.keeper._sync is None

    wait_until(lambda: ticked(1))
    bench.refuses = False
    bench.clock.forward(superlink_keeper.SYNC_AGAIN_SECONDS)
    wait_until(lambda: ticked(2))
    bench.clock.forward(1000.0)
    bench.keeper.tick(idle=True)
    assert bench.synchronised == 2


def test_a_lost_superlink_is_told_and_started_again(bench: KeeperBench) -> None:
    bench.listens = True
    bench.keeper.tick(idle=True)
    bench.keeper.tick(idle=True)
    bench.players.started[0].code = -9
    assert bench.keeper.tick(idle=False)
    assert not bench.keeper.up
    bench.clock.forward(1.0)
    assert not bench.keeper.tick(idle=True)
    assert len(bench.players.started) == 2


def test_a_superlink_that_hangs_is_killed_and_started_again(bench: KeeperBench) -> None:
    bench.listens = True
    for _ in range(3):
        bench.keeper.tick(idle=True)
    bench.speaks = False

    def lost() -> bool:
        bench.clock.forward(superlink_keeper.SYNC_AGAIN_SECONDS)
        return bench.keeper.tick(idle=False)

    wait_until(lost)
    assert not bench.keeper.up
    assert bench.players.started[0].code is not None
    bench.speaks = True
    bench.keeper.tick(idle=True)
    assert len(bench.players.started) == 2
    for _ in range(10 * SILENT_QUESTIONS):
        bench.clock.forward(superlink_keeper.SYNC_AGAIN_SECONDS)
        assert not bench.keeper.tick(idle=True)


def test_a_renewed_certificate_is_taken_between_rounds(bench: KeeperBench, tmp_path: Path) -> None:
    bench.listens = True
    for _ in range(3):
        bench.keeper.tick(idle=True)
    (tmp_path / "new").mkdir()
    certificate, key = write_certificate(tmp_path / "new")
    # Half of it: the new certificate does not fit the old key.
    bench.certificate.write_bytes(certificate.read_bytes())
    for _ in range(4):
        bench.keeper.tick(idle=True)
    assert len(bench.players.started) == 1
    bench.key.write_bytes(key.read_bytes())
    for _ in range(4):
        bench.keeper.tick(idle=False)
    assert len(bench.players.started) == 1  # a round runs
    for _ in range(4):
        bench.keeper.tick(idle=True)
    assert [process.code for process in bench.players.started] == [-15, None]


def test_files_that_are_no_pair_are_told(bench: KeeperBench, tmp_path: Path) -> None:
    assert pair_problem((bench.certificate, bench.certificate, bench.key)) == ""
    assert pair_problem((bench.certificate, bench.certificate, tmp_path / "gone"))
    assert pair_problem((bench.key, bench.certificate, bench.key))


def test_a_plan_is_what_the_configuration_says(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "federation.toml").write_text(f"[server]\nport = {port}\n[page]\nport = 9300\nminutes = 30", encoding="utf-8")
    configuration = load_configuration(tmp_path / "federation.toml")
    plan = server_plan(configuration)
    assert (plan.host, plan.port, plan.root_certificates, plan.watched, plan.enrolled) == ("127.0.0.1", port, None, (), False)
    assert "--insecure" in plan.argv
    page = page_argv(configuration)
    assert page is not None
    assert page[-6:] == ["--host", "127.0.0.1", "--port", "9300", "--minutes", "30.0"]
