"""Whether a TensorRT-LLM engine is what its papers say, before a repository is made of it."""

from __future__ import annotations

from falconry.engine.manifest import GpuEngine
from falconry.engine.serving import SERVING_FILE, EngineLimits
from falconry.engine.tensorrt_llm.engine_config import CONFIG, EngineConfig
from falconry.errors import RepositoryError


def check_papers(engine: EngineConfig, limits: EngineLimits, manifest: GpuEngine) -> None:
    """Compares the engine's config.json and files with engine.json and the manifest.

    Raises:
        RepositoryError: it names every difference.
    """
    if problems := [
        *_of_limits(engine, limits),
        *_of_manifest(engine, manifest),
        *_of_files(engine),
    ]:
        raise RepositoryError(
            f"is not the engine that its papers describe: {'; '.join(problems)}",
            where=engine.directory,
            remedy="remove it from the store and run make engine again",
        )


def _of_limits(engine: EngineConfig, limits: EngineLimits) -> list[str]:
    compared = {
        name: (getattr(engine.limits, name), getattr(limits, name))
        for name in ("max_batch_size", "max_input_len", "max_seq_len")
    }
    return [
        f"{CONFIG} has {name} {built} and {SERVING_FILE} has {given}"
        for name, (built, given) in compared.items()
        if built != given
    ]


def _of_manifest(engine: EngineConfig, manifest: GpuEngine) -> list[str]:
    compared = {
        "tensor parallelism": (engine.mapping.tp_size, manifest.tensor_parallel),
        "pipeline parallelism": (engine.mapping.pp_size, manifest.pipeline_parallel),
        "TensorRT-LLM": (engine.tensorrt_llm, manifest.tensorrt_llm),
    }
    return [
        f"{CONFIG} has {name} {found} and the manifest has {expected}"
        for name, (found, expected) in compared.items()
        if found != expected
    ]


def _of_files(engine: EngineConfig) -> list[str]:
    mapping, files = engine.mapping, len(engine.ranks)
    ranks = mapping.tp_size * mapping.pp_size
    if files == ranks:
        return []
    return [
        f"{CONFIG} calls for {ranks} ranks (tensor {mapping.tp_size} times pipeline"
        f" {mapping.pp_size}) and there are {files} engine files"
    ]
