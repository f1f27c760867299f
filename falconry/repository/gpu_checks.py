"""Whether a TensorRT-LLM engine is what its papers say, before a repository is made of it."""

from __future__ import annotations

from pathlib import Path

from falconry.engine.manifest import GpuEngine
from falconry.engine.serving import SERVING_FILE, EngineLimits
from falconry.engine.tensorrt_llm.built import BuiltEngine
from falconry.engine.tensorrt_llm.layout import CONFIG
from falconry.errors import RepositoryError


def check_built(
    directory: Path, built: BuiltEngine, limits: EngineLimits, manifest: GpuEngine
) -> None:
    """Compares the engine's own config.json and files with engine.json and the manifest.

    Raises:
        RepositoryError: it names every difference.
    """
    if problems := [*_of_limits(built, limits), *_of_manifest(built, manifest), *_of_files(built)]:
        raise RepositoryError(
            f"is not the engine that its papers describe: {'; '.join(problems)}",
            where=directory,
            remedy="remove it from the store and run make engine again",
        )


def _of_limits(built: BuiltEngine, limits: EngineLimits) -> list[str]:
    return [
        f"{CONFIG} has {name} {getattr(built, name)} and {SERVING_FILE} has {getattr(limits, name)}"
        for name in ("max_batch_size", "max_input_len", "max_seq_len")
        if getattr(built, name) != getattr(limits, name)
    ]


def _of_manifest(built: BuiltEngine, manifest: GpuEngine) -> list[str]:
    told = {
        "tensor parallelism": (built.tensor_parallel, manifest.tensor_parallel),
        "pipeline parallelism": (built.pipeline_parallel, manifest.pipeline_parallel),
        "TensorRT-LLM": (built.tensorrt_llm or manifest.tensorrt_llm, manifest.tensorrt_llm),
    }
    return [
        f"{CONFIG} has {name} {found} and the manifest has {expected}"
        for name, (found, expected) in told.items()
        if found != expected
    ]


def _of_files(built: BuiltEngine) -> list[str]:
    if len(built.ranks) == built.world_size:
        return []
    return [
        f"{CONFIG} calls for {built.world_size} ranks (tensor {built.tensor_parallel} times "
        f"pipeline {built.pipeline_parallel}) and there are {len(built.ranks)} engine files"
    ]
