"""Keeps the SuperLink running and answering, its list of nodes in line with the roster, and its certificate the one on the disk.

The SuperLink reads its certificate when it starts: when the files have changed and form a pair, it is started again, between rounds.
Sites connect anew by themselves. One that hangs (see `pulse`) is killed and started again like one that ended.

Threads: the main thread calls everything here. Bringing the nodes in line takes seconds and is an `errand`, at most one at a time; what it
leaves undone is done at the next start.
"""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from fed_backend import launch
from fed_backend.schedule.clock import Clock
from fed_backend.schedule.errand import Errand
from fed_backend.schedule.kept_process import KeptProcess
from fed_backend.schedule.pulse import Pulse
from fed_backend.schedule.server_plan import ServerPlan

log = getLogger(__name__)

STOP_SECONDS = 10.0
SYNC_AGAIN_SECONDS = 30.0
Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass
class SuperLinkKeeper:
    """See the module.

    Attributes:
        plan: how it is started.
        process: keeps the process.
        synchronise: brings its nodes in line with the roster; returns sentences.
        pulse: whether it still answers.
        reachable: whether something accepts connections at host and port.
        up: whether it was reached since its start.
    """

    plan: ServerPlan
    process: KeptProcess
    clock: Clock
    synchronise: Callable[[], Sequence[str]]
    pulse: Pulse
    reachable: Callable[[str, int], bool] = lambda host, port: launch.answers(host, port, seconds=0.2)
    up: bool = False
    _started_with: Stamps = ()
    _seen: Stamps = ()
    _refused: Stamps = ()
    _sync_at: float | None = None
    _sync: Errand[Sequence[str]] | None = None

    def tick(self, *, idle: bool) -> bool:
        """Look after it once.

        Args:
            idle: no round runs, so that it may be started again.

        Returns:
            whether it has just been lost: whatever used it is to be ended.
        """
        had_child = self.process.child is not None
        lost = self.process.tick()
        if not had_child and self.process.child is not None:
            self._started_with = self._seen = stamps(self.plan.watched)
        if lost:
            self.up = False
        elif self.process.child is not None and not self.up:
            self._look()
        elif self.up and self.pulse.hangs():
            log.error("The SuperLink hangs: it is killed and started again.")
            self.up = False
            self.process.stop(0)
            return True
        elif self.up:
            self._keep_nodes()
            if idle:
                self._keep_certificate()
        return lost

    def stop(self) -> None:
        """End it."""
        self.up = False
        self.process.stop(STOP_SECONDS)

    def _look(self) -> None:
        if self.reachable(self.plan.host, self.plan.port):
            self.up = True
            self.pulse.forget()
            log.info("The SuperLink answers on %s.", self.plan.address.address)
            self._sync_at = self.clock.monotonic() if self.plan.enrolled else None

    def _keep_nodes(self) -> None:
        now = self.clock.monotonic()
        if self._sync is not None and self._sync.done.is_set():
            problem = self._sync.problem
            for sentence in self._sync.found or ():
                log.info("%s", sentence)
            if problem:
                log.warning("The roster could not be applied, it is tried again: %s", problem)
            self._sync, self._sync_at = None, now + SYNC_AGAIN_SECONDS if problem else None
        if self._sync is None and self._sync_at is not None and now >= self._sync_at:
            self._sync = Errand("nodes", self.synchronise)

    def _keep_certificate(self) -> None:
        """A change counts when it has been the same twice, so that half a renewal is not taken."""
        found = stamps(self.plan.watched)
        steady, self._seen = found == self._seen, found
        if found == self._started_with or not steady or found == self._refused:
            return
        problem = pair_problem(self.plan.watched)
        if problem:
            self._refused = found
            log.warning("The certificate's files have changed but cannot be used (%s): the old certificate stays.", problem)
            return
        log.info("The certificate was renewed: the SuperLink is started again.")
        self.stop()


def stamps(files: Sequence[Path]) -> Stamps:
    """What tells a replaced file from the one before."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def pair_problem(files: Sequence[Path]) -> str:
    """Why authority, certificate and key cannot serve together; "" if they can."""
    ca, certificate, key = files
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        ssl.create_default_context(cafile=str(ca))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return str(error)
    return ""
