"""What every engine builder offers, whatever runtime it builds for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from falconry.checkpoint import Checkpoint
from falconry.engine.spec import EngineSpec

# Called with what is being done and the fraction of the whole build that is finished (0 to 1).
Report = Callable[[str, float], None]

# Called with a large file that will not change any more, while the build goes on.
Finished = Callable[[Path], None]


class EngineBuilder(Protocol):
    """Builds engines for one runtime."""

    @property
    def name(self) -> str:
        """The runtime, as it appears in keys and manifests."""
        ...

    def toolchain(self) -> Mapping[str, str]:
        """Versions and settings beside the spec that decide the engine's bytes; cheap to ask.

        Raises:
            MachineError: a part of the toolchain is not installed.
        """
        ...

    def check(self, spec: EngineSpec) -> None:
        """Refuses, before anything starts, a spec that cannot be built or served by this runtime.

        Raises:
            EngineError: it names every problem there is, those that no runtime could mend included.
        """
        ...

    def build(
        self,
        spec: EngineSpec,
        checkpoint: Checkpoint,
        output: Path,
        report: Report,
        finished: Finished,
    ) -> None:
        """Builds the engine; the same arguments give the same bytes.

        Args:
            spec: what to build, already checked.
            checkpoint: where the weights and the tokenizer come from.
            output: an empty directory, the only place that is written to.
            report: told of progress.
            finished: told of files that can be hashed and flushed meanwhile; need not be told of
                all.

        Raises:
            CheckpointError: a part of the checkpoint turns out to be damaged.
            EngineError: the engine cannot be built, or is not what it should be.
            MachineError: the machine stopped the work.
        """
        ...
