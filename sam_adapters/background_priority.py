"""Work that nobody waits for leaves the processor to whoever asks: tuning beside a server that answers clicks. No torch."""

import os

NICENESS = 19
"""The gentlest there is: beside a click, such a process gets about 1.5 % of a processor, and all of it as soon as nobody else asks."""


def yield_to_others() -> str:
    """Let every other process of this machine come before this one and the threads that it starts from now on.

    Needs no privilege; cannot be undone without one.

    Returns:
        `nice`, or `none` on a system that has no niceness.
    """
    try:
        os.nice(max(0, NICENESS - os.nice(0)))
    except (AttributeError, OSError):
        return "none"
    return "nice"
