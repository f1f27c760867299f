"""What every part of the fuzzer shares: inputs from one seed, a time limit, and an outcome.

A part is a module of scripts/fuzz with a function `run(seed: int, examples: int) -> Outcome`; it
starts what it needs, and __main__.py lists it. It calls `explore` once a surface (a reader, or a
route of a server), and adds the outcomes up:

    def run(seed: int, examples: int) -> Outcome:
        with serving() as url:
            return against(url, seed, examples)

    def against(url: str, seed: int, examples: int) -> Outcome:  # the suite has a server already
        return total(
            explore("served: generate", BODIES, lambda body: check(url, body), seed, examples),
            ...
        )

A check raises any exception where the answer is wrong (an `AssertionError` with a sentence is
best). hypothesis then looks for the smallest such input.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

# Without a word hypothesis keeps its tables in .hypothesis of the current directory.
_KEPT = Path(__file__).parents[2] / "build" / "hypothesis"
_LONGEST_S = 5.0  # for an input
_WAITING = 12
_TIMERS = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
_LONGEST_SHRINKING_S = 30.0
_SHOWN = 4_000  # characters of an input

_Input = TypeVar("_Input")


@dataclass(frozen=True, slots=True)
class Failure:
    """The smallest input found that was answered wrongly.

    Attributes:
        surface: a reader or a route, such as "config.json".
        problem: what is wrong, with the line of code.
        example: the input as Python writes it.
    """

    surface: str
    problem: str
    example: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many inputs were given to what, and what failed.

    Attributes:
        inputs: how many inputs each surface got, smaller versions of a failure not counted.
    """

    inputs: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


def total(*outcomes: Outcome) -> Outcome:
    """Adds outcomes up."""
    inputs: Counter[str] = Counter()
    for outcome in outcomes:
        inputs.update(outcome.inputs)
    return Outcome(dict(inputs), tuple(each for outcome in outcomes for each in outcome.failures))


def explore(
    surface: str,
    inputs: SearchStrategy[_Input],
    check: Callable[[_Input], Any],
    seed: int,
    examples: int,
) -> Outcome:
    """Gives a check inputs of a strategy, always the same for a seed.

    It ends at the first failure, with the smallest input that fails in the same way.

    Args:
        surface: its name in the report.
        inputs: the strategy.
        check: raises where something is wrong; what it returns does not matter.
        seed: decides the inputs.
        examples: how many.
    """
    set_hypothesis_home_dir(_KEPT)
    given, found, give_up = 0, Failure(surface, "", ""), 0.0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(inputs)
    def trial(example: _Input) -> None:
        nonlocal given, found, give_up
        if not found.problem:
            given += 1
        elif time.monotonic() > give_up:
            return
        try:
            with time_limit(_LONGEST_S):
                check(example)
        except Exception as error:
            give_up = give_up or time.monotonic() + _LONGEST_SHRINKING_S
            shown = _shown(example)
            if not found.problem or len(shown) <= len(found.example):
                found = Failure(surface, _located(error), shown)
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # of long inputs
        try:
            trial()
        except Exception:
            if not found.problem:  # a fault of the strategy
                raise
    return Outcome({surface: given}, (found,) if found.problem else ())


class TooSlowError(AssertionError):
    """An input that kept its reader busy for too long."""


class _Interrupt(BaseException):
    """Passes handlers of `Exception` in the code under test."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupts what runs inside; without effect outside the main thread.

    Args:
        seconds: of CPU time, so that a busy machine makes no failure; what waits gets 12 times as
            long.

    Raises:
        TooSlowError: it ran longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interrupt

    before = {number: signal.signal(number, interrupt) for number in _TIMERS.values()}
    # Again and again: an exception in a callback of the garbage collector is ignored.
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    signal.setitimer(signal.ITIMER_REAL, _WAITING * seconds, 1.0)
    try:
        yield
    except _Interrupt:
        raise TooSlowError(f"took longer than {seconds:g} s") from None
    finally:
        for timer, number in _TIMERS.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _located(error: Exception) -> str:
    """The error in one line, with where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{where}"


def _shown(example: object) -> str:
    text = repr(example)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
