"""An annotator at work, for tests: everything real but the network and Slicer."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from FedSCALib.annotator import Annotator
from FedSCALib.client import Client
from FedSCALib.drafts import Drafts
from FedSCALib.jobs import Jobs
from FedSCALib.preferences import MemoryPreferences

from tests.slicer_extension.lib.array_canvas import ArrayCanvas

SECONDS = 60.0


class Bench:
    """An annotator with the time in the test's hands: `clock` stands still but for `pass_time`.

    One that a test drops without `close` is a program that was killed; `close_all` tidies up after it.
    """

    opened: ClassVar[list["Bench"]] = []

    def __init__(
        self, folder: Path, transport: Any, canvas: Any | None = None, *, real_time: bool = False, jobs: Jobs | None = None
    ) -> None:
        self.now = 1000.0
        self.canvas = canvas or ArrayCanvas()
        self.jobs = jobs or Jobs()
        self.preferences = MemoryPreferences()
        self.opened.append(self)
        self.annotator = Annotator(
            jobs=self.jobs,
            canvas=self.canvas,
            drafts=Drafts(folder / "drafts"),
            preferences=self.preferences,
            client_factory=lambda _address, _authority: Client(transport),
            clock=time.monotonic if real_time else (lambda: self.now),
        )

    @classmethod
    def close_all(cls) -> None:
        """End the threads of every bench, and remove what they downloaded."""
        while cls.opened:
            bench = cls.opened.pop()
            bench.annotator._worklist.remove_files()
            bench.annotator._submission.let_go()
            bench.jobs.close(SECONDS)

    @property
    def state(self) -> Any:
        return self.annotator.state

    def settle(self) -> None:
        """Until nothing is under way."""
        self.until(self.jobs.idle)

    def settle_requests(self) -> None:
        """Until no click is under way (a real server is asked for its status all the time)."""
        self.until(lambda: not any(ticket.kind.startswith("segment") for ticket in self.jobs._open.values()))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Deliver until something holds."""
        pause, deadline = threading.Event(), time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            self.annotator.deliver()
            found = condition()
            if found:
                return found
            pause.wait(0.005)
        raise AssertionError(f"not within {SECONDS:g} s; state: {self.state}")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.annotator.deliver()
        self.settle()

    def open(self) -> None:
        """Connect and open the next case."""
        self.annotator.connect("hospital")
        self.settle()
        self.annotator.next_case()
        self.settle()
        assert self.state.case == "case1", self.state.notice
