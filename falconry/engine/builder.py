"""What every engine builder offers, whatever runtime it builds for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from falconry.engine.manifest import GpuEngine
from falconry.pipeline import Report

# Called with a large file that will not change any more, while the build continues.
Finished = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build found out, beside the files that it wrote.

    Attributes:
        description: a line for people: builder, precision, size.
    """

    description: str
    toolchain: Mapping[str, str]
    gpu: GpuEngine | None = None


class EngineJob(Protocol):
    """One engine that a profile asks for, by one builder."""

    @property
    def builder(self) -> str:
        """The builder's name, as it appears in manifests."""
        ...

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's name for people."""
        ...

    def inputs(self) -> Mapping[str, str]:
        """Everything that decides the engine's bytes, by a readable name; cheap."""
        ...

    def plan(self, key: str) -> Sequence[str]:
        """What a build would do and what was checked; contacts no server."""
        ...

    def build(self, key: str, output: Path, report: Report, finished: Finished) -> BuildResult:
        """Builds the engine, after checking everything that can be known beforehand.

        Nothing is written outside `output`, an empty directory. `finished` gets files that can be
        hashed and flushed meanwhile, not necessarily all of them.

        Raises:
            CheckpointError: the checkpoint is damaged or does not fit together.
            EngineError: the engine cannot be built (the message has every problem), or it is not
                what it should be.
            MachineError: the machine lacks something, or stopped the work.
        """
        ...
