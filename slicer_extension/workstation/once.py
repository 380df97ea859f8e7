"""Calls that come a second time because their answer was lost on its way. Pure memory, no threads."""

from __future__ import annotations

PAGES = 32  # tabs and reloads that are remembered; the longest unused is forgotten first


class Once:
    """By page, the highest number of a call that was done. A page's calls come in order, numbered from 1."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}

    def is_new(self, page: str, number: int) -> bool:
        """Whether a call was not done before; from now on it counts as done."""
        done = self._done.pop(page, 0)
        self._done[page] = max(done, number)  # at the end: used last
        while len(self._done) > PAGES:
            del self._done[next(iter(self._done))]
        return number > done
