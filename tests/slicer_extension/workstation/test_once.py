"""Calls that come twice, because their answer was lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from workstation.once import PAGES, Once


@given(st.lists(st.integers(1, 30), max_size=40))
def test_each_number_is_new_once_when_what_was_not_answered_comes_again(answered: list[int]) -> None:
    """A page sends 1, 2, 3, …; after each cut it begins again at the first that was not answered."""
    once, done, sent = Once(), [], 0
    for last in answered:
        first = min(last, sent + 1)
        for number in range(first, max(last, sent) + 1):
            if once.is_new("page", number):
                done.append(number)
        sent = max(last, sent)
    assert done == list(range(1, sent + 1))


def test_pages_are_apart_and_the_longest_unused_is_forgotten() -> None:
    once = Once()
    assert once.is_new("a", 1)
    assert once.is_new("b", 1)
    assert not once.is_new("a", 1)
    for number in range(PAGES - 1):
        once.is_new(f"other {number}", 1)
    assert not once.is_new("a", 1), "it was used after b"
    assert once.is_new("b", 1)
