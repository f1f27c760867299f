"""The progress of a pull as steps of a work request."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str, float], None]

_TEXT = "Pulling the container image"
# Each step is an entry in the work request's log, so there are few.
_QUARTERS = 4


class PullSteps:
    """Tells a pull's beginning and its quarters, each once.

    Args:
        step: receives message and percentage of the whole job.
        first: percentage when the pull begins.
        last: percentage when it is done.
    """

    def __init__(self, step: Step, first: float, last: float) -> None:
        self._step = step
        self._first = first
        self._last = last
        self._told = -1

    def report(self, fraction: float) -> None:
        """The pull is so far, from 0 to 1."""
        quarter = int(fraction * _QUARTERS)
        if quarter > self._told:
            self._told = quarter
            done = quarter / _QUARTERS
            message = f"{_TEXT}: {done:.0%}" if quarter else _TEXT
            self._step(message, self._first + done * (self._last - self._first))
