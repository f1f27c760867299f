"""What is said of one shape: whether it holds the engine, with which room, for which price."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from falconry.engine.spec import GIB


@dataclass(frozen=True, slots=True)
class Candidate:
    """A shape beside an engine; memory in bytes, of a GPU or, without GPUs, of the machine.

    Attributes:
        gpus: how many the shape has; 0 for none.
        gpus_used: how many of them the engine takes.
        gpu: their name; empty for none.
        sm: their architecture; None for none.
        ocpus, memory_gib: the size to ask for of a shape without GPUs.
        needed: by the engine and the requests that are asked for; estimated.
        usable: what there is.
        at_a_time: longest requests that can be answered at a time.
        engine: whether the engine that stands runs there.
        price_hour: of an instance; None where it is not known.
        problems: what keeps the engine from running there, as clauses.
        remedy: what would make it run there.
    """

    shape: str
    needed: int
    usable: int
    at_a_time: int
    engine: Literal["as built", "to be built"]
    gpus: int = 0
    gpus_used: int = 0
    gpu: str = ""
    sm: int | None = None
    ocpus: float | None = None
    memory_gib: float | None = None
    price_hour: float | None = None
    problems: tuple[str, ...] = ()
    remedy: str | None = None

    @property
    def headroom(self) -> int:
        """Memory that stays free."""
        return self.usable - self.needed

    @property
    def fits(self) -> bool:
        """Whether the engine runs there."""
        return not self.problems

    def facts(self) -> dict[str, object]:
        """Everything, for programs; memory in GiB."""
        return {
            "shape": self.shape,
            "fits": self.fits,
            "gpus": self.gpus,
            "gpus_used": self.gpus_used,
            "gpu": self.gpu or None,
            "sm": self.sm,
            "ocpus": self.ocpus,
            "memory_gib": self.memory_gib,
            "needed_gib": round(self.needed / GIB, 2),
            "usable_gib": round(self.usable / GIB, 2),
            "headroom_gib": round(self.headroom / GIB, 2),
            "longest_requests_at_a_time": self.at_a_time,
            "engine": self.engine,
            "price_hour": None if self.price_hour is None else round(self.price_hour, 4),
            "problems": list(self.problems),
            "remedy": self.remedy,
        }


def ranked(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those that fit first; then by price where it is known, and by memory, the least first.

    Memory stands for the price where none is known: larger shapes cost more.
    """

    def order(candidate: Candidate) -> tuple[bool, float, float]:
        price = math.inf if candidate.price_hour is None else candidate.price_hour
        memory = candidate.usable * max(candidate.gpus, 1)
        return not candidate.fits, price, memory

    return tuple(sorted(candidates, key=order))
