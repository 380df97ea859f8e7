"""Work that waits for somebody, done in a thread of its own while the supervisor's one thread goes on.

Threads: an errand shares nothing but its result, which is set before `done`. It is a daemon: what it leaves undone ends with the process.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from sam_adapters.errors import FedscaError

Found = TypeVar("Found")


class Errand(Generic[Found]):
    """One run of `work`, begun at once.

    Attributes:
        done: set when it has ended.
        found: what `work` returned; None until then, or if it raised.
        problem: what it raised, as a sentence; "" if nothing.
    """

    def __init__(self, name: str, work: Callable[[], Found]) -> None:
        """
        Args:
            name: of the thread.
            work: has a deadline of its own; may raise FedscaError and OSError.
        """
        self.found: Found | None = None
        self.problem = ""
        self.done = threading.Event()
        self._work = work
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self.found = self._work()
        except (FedscaError, OSError) as error:
            self.problem = str(error)
        finally:
            self.done.set()
