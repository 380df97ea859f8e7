"""When a site starts a local tuning by itself. Pure: no clock, no files, no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TuningPolicyDecision:
    """Whether to start a local tuning now, and why, as a sentence for the log and the status page."""

    start: bool
    reason: str


def tuning_decision(
    *, labelled_train_cases: int, labelled_at_last_start: int, threshold: int, minimum: int, busy: bool
) -> TuningPolicyDecision:
    """Decide whether saved labels should start a local tuning.

    Args:
        labelled_train_cases: labelled cases that may be trained on now (validation and test cases do not count).
        labelled_at_last_start: the same number when the last tuning started; 0 when there was none.
        threshold: newly labelled training cases that trigger a tuning (`tune_after`); 0 switches automatic tuning off.
        minimum: labelled training cases needed at all (`tune_minimum`).
        busy: a tuning is running.

    Raises:
        ValueError: a negative number.
    """
    if min(labelled_train_cases, labelled_at_last_start, threshold, minimum) < 0:
        raise ValueError(f"Counts must not be negative: {labelled_train_cases=}, {labelled_at_last_start=}, {threshold=}, {minimum=}.")
    new = max(0, labelled_train_cases - labelled_at_last_start)
    if threshold == 0:
        return TuningPolicyDecision(False, "Automatic tuning is switched off (tune_after is 0).")
    if busy:
        return TuningPolicyDecision(False, "A tuning is running.")
    if labelled_train_cases < minimum:
        return TuningPolicyDecision(False, f"{_cases(labelled_train_cases)} of the {minimum} needed before a tuning (tune_minimum).")
    if new < threshold:
        return TuningPolicyDecision(False, f"{_cases(new)} since the last tuning, of the {threshold} that start one (tune_after).")
    return TuningPolicyDecision(True, f"{_cases(new)} since the last tuning (tune_after is {threshold}).")


def _cases(count: int) -> str:
    return "1 labelled training case" if count == 1 else f"{count} labelled training cases"
