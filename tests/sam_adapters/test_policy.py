import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.policy import tuning_decision

counts = st.integers(0, 50)


@pytest.mark.parametrize(
    ("labelled", "at_last_start", "threshold", "minimum", "busy", "start", "reason"),
    [
        (4, 0, 4, 3, False, True, "4 labelled training cases since the last tuning (tune_after is 4)."),
        (9, 4, 4, 3, False, True, "5 labelled training cases since the last tuning (tune_after is 4)."),
        (1, 0, 1, 1, False, True, "1 labelled training case since the last tuning (tune_after is 1)."),
        (3, 0, 4, 3, False, False, "3 labelled training cases since the last tuning, of the 4 that start one (tune_after)."),
        (7, 4, 4, 3, False, False, "3 labelled training cases since the last tuning, of the 4 that start one (tune_after)."),
        (4, 4, 4, 3, False, False, "0 labelled training cases since the last tuning, of the 4 that start one (tune_after)."),
        (2, 0, 1, 3, False, False, "2 labelled training cases of the 3 needed before a tuning (tune_minimum)."),
        (0, 0, 1, 1, False, False, "0 labelled training cases of the 1 needed before a tuning (tune_minimum)."),
        (9, 0, 4, 3, True, False, "A tuning is running."),
        (9, 0, 0, 3, False, False, "Automatic tuning is switched off (tune_after is 0)."),
        (9, 0, 0, 3, True, False, "Automatic tuning is switched off (tune_after is 0)."),
        # Labels were deleted since: nothing is new until there are more than there were.
        (3, 8, 1, 1, False, False, "0 labelled training cases since the last tuning, of the 1 that start one (tune_after)."),
    ],
)
def test_the_table(labelled: int, at_last_start: int, threshold: int, minimum: int, busy: bool, start: bool, reason: str) -> None:
    decision = tuning_decision(
        labelled_train_cases=labelled, labelled_at_last_start=at_last_start, threshold=threshold, minimum=minimum, busy=busy
    )
    assert (decision.start, decision.reason) == (start, reason)


@given(labelled=counts, at_last_start=counts, threshold=counts, minimum=counts, busy=st.booleans())
def test_it_starts_exactly_when_all_speaks_for_it(labelled: int, at_last_start: int, threshold: int, minimum: int, busy: bool) -> None:
    decision = tuning_decision(
        labelled_train_cases=labelled, labelled_at_last_start=at_last_start, threshold=threshold, minimum=minimum, busy=busy
    )
    assert decision.start == (threshold > 0 and not busy and labelled >= minimum and labelled - at_last_start >= threshold)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="labelled_train_cases=-1"):
        tuning_decision(labelled_train_cases=-1, labelled_at_last_start=0, threshold=1, minimum=1, busy=False)
