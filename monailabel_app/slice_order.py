"""In which order slices are worked on: from the one in view outwards. Pure."""


def outwards(start: int, count: int) -> list[int]:
    """All of 0 .. count - 1 by distance from `start`, the higher of two at the same distance first: 2 of 5 gives 2, 3, 1, 4, 0.

    Raises:
        ValueError: `start` is none of them.
    """
    if not 0 <= start < count:
        raise ValueError(f"Slice {start}, expected 0 to {count - 1}.")
    return sorted(range(count), key=lambda index: (abs(index - start), -index))
