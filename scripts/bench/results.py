"""Measured results and their targets, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

Unit = Literal["s", "ms", "s/GB", "tokens/s", "MiB", "MB"]
Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class TimesBetter:
    """At least this many times as fast as the best peer."""

    factor: float


@dataclass(frozen=True, slots=True)
class TimesAsLong:
    """At most this many times as long as the best peer, which does nothing."""

    factor: float


@dataclass(frozen=True, slots=True)
class LessThan:
    """Less than this, in the result's unit, whatever a peer takes."""

    limit: float


Goal = TimesBetter | TimesAsLong | LessThan


@dataclass(frozen=True, slots=True)
class Point:
    """Where a result stands on a curve of several.

    Attributes:
        curve: its name.
        along: what changes from point to point, with its unit.
        at: its value here.
    """

    curve: str
    along: str
    at: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Attributes:
        what: what was measured.
        unit: of all samples. Of tokens/s the largest median is the best, of the others the least.
        ours: the samples of each of our contestants, by its name.
        peers: the same of those that it is compared with.
        target: what is to be reached; None for information only.
        problem: why there are no samples, in a sentence; counts as a missed target.
        point: on a curve of several results; None if it stands alone.
    """

    what: str
    unit: Unit
    ours: Samples = field(default_factory=dict)
    peers: Samples = field(default_factory=dict)
    target: Goal | None = None
    problem: str | None = None
    point: Point | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than the best peer, or for TimesAsLong how much longer."""
        if not (self.ours and self.peers):
            return None
        (_, ours), (_, peer) = best(self.ours, self.unit), best(self.peers, self.unit)
        longer = self.unit == "tokens/s" or isinstance(self.target, TimesAsLong)
        return ours / peer if longer else peer / ours

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        if self.problem:
            return False
        match self.target, self.ratio:
            case TimesBetter(factor), float(ratio):
                return ratio >= factor
            case TimesAsLong(factor), float(ratio):
                return ratio <= factor
            case LessThan(limit), _:
                return best(self.ours, self.unit)[1] < limit
        return None

    def as_json(self) -> dict[str, Any]:
        """Every sample, with what follows from them."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": {name: list(samples) for name, samples in self.ours.items()},
            "peers": {name: list(samples) for name, samples in self.peers.items()},
            "ratio": self.ratio,
            "target": self._target_text(),
            "reached": self.reached,
            "problem": self.problem,
            "point": asdict(self.point) if self.point else None,
        }

    def row(self) -> tuple[str, ...]:
        """The cells of HEADER, as text."""
        if self.problem:
            return (self.what, "-", "-", "-", self._target_text(), "not measured")
        verdict = {True: "ok", False: "below target", None: ""}[self.reached]
        ratio = f"{self.ratio:.2f}x" if self.ratio is not None else ""
        cells = (_best_text(self.ours, self.unit), _best_text(self.peers, self.unit))
        return (self.what, *cells, ratio, self._target_text(), verdict)

    def _target_text(self) -> str:
        match self.target:
            case TimesBetter(factor):
                return f">= {factor:g}x"
            case TimesAsLong(factor) if self.peers:
                seconds = factor * best(self.peers, self.unit)[1]
                return f"<= {factor:g}x ({seconds:.2f} s)"
            case TimesAsLong(factor):
                return f"<= {factor:g}x"
            case LessThan(limit):
                return f"< {limit:g} {self.unit}"
        return ""


HEADER = ("", "Falconry", "peer", "ratio", "target", "")


def best(samples: Samples, unit: Unit) -> tuple[str, float]:
    """The best contestant's name and the median of its samples."""
    choose = max if unit == "tokens/s" else min
    return choose(
        ((name, median(values)) for name, values in samples.items()), key=lambda pair: pair[1]
    )


def table(results: Sequence[Result]) -> str:
    """All results, a line each; then the reasons of those that were not measured."""
    rows = [HEADER, *(result.row() for result in results)]
    lines = aligned(rows)
    lines += [f"{result.what}: {result.problem}" for result in results if result.problem]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns are as wide as their cells."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _best_text(samples: Samples, unit: Unit) -> str:
    if not samples:
        return ""
    name, value = best(samples, unit)
    digits = 2 if unit.startswith("s") else 1
    return f"{value:.{digits}f} {unit}  {name}"
