"""What runs a GPU engine's build container: this machine, or something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from falconry.checkpoint.source import CheckpointSource
from falconry.engine.tensorrt_llm.answers import memory_of
from falconry.engine.tensorrt_llm.container import BuildRun, docker_command, run_build
from falconry.engine.tensorrt_llm.machine import machine_checks, probe_gpus, this_machine
from falconry.engine.tensorrt_llm.quantization_checks import calibration_files
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding
from falconry.pipeline import Report


class BuildRunner(Protocol):
    """Runs build containers."""

    def plan(self, run: BuildRun, spec: GpuEngineSpec) -> Sequence[str]:
        """What `run` would do, for `make plan`; contacts no server."""
        ...

    def checkpoint(self, source: CheckpointSource, report: Report) -> Path:
        """A directory with the checkpoint, or with as much of it as is needed here."""
        ...

    def checks(self, spec: GpuEngineSpec) -> Sequence[Finding]:
        """What can be known before a build of the machine that it would run on."""
        ...

    def gpu_bytes(self, spec: GpuEngineSpec) -> int:
        """The memory of the GPUs that the container gets."""
        ...

    def run(self, run: BuildRun, spec: GpuEngineSpec, report: Report) -> Mapping[str, Any]:
        """Builds; fills the run's output and scratch; gives report.json and the `image`.

        Raises:
            EngineError: the build failed; the message is its cause.
        """
        ...

    def reject(self, run: BuildRun) -> None:
        """Takes note that what `run` gave is not what it should be."""
        ...


class HostRunner:
    """Runs them in this machine's Docker engine; `build` is the directory of its files."""

    def __init__(self, build: Path) -> None:
        self._build = build

    def plan(self, run: BuildRun, spec: GpuEngineSpec) -> Sequence[str]:
        """The `docker run` line."""
        return [f"command  {docker_command(run)}"]

    def checkpoint(self, source: CheckpointSource, report: Report) -> Path:
        """All of it."""
        return source.fetch(report)

    def checks(self, spec: GpuEngineSpec) -> Sequence[Finding]:
        """The calibration data, GPUs, driver, memory and disk."""
        machine = this_machine(self._build)
        return [calibration_files(spec), *machine_checks(spec, machine)]

    def gpu_bytes(self, spec: GpuEngineSpec) -> int:
        """Of the first GPUs here."""
        return memory_of(probe_gpus(), spec.recipe.parallelism.world_size)

    def run(self, run: BuildRun, spec: GpuEngineSpec, report: Report) -> Mapping[str, Any]:
        """Builds in a container; see `run_build`."""
        return run_build(run, report)

    def reject(self, run: BuildRun) -> None:
        """Nothing: the next build begins anew."""
