"""Whether an engine fits its manifest, an image and an OCI shape.

TensorRT itself notices a mismatch only when it loads the engine, on the deployed machine.
"""

from __future__ import annotations

from falconry.engine.manifest import SERVING_FILE, EngineLimits, GpuEngine, Manifest
from falconry.engine.tensorrt_llm.engine_config import CONFIG, EngineConfig
from falconry.engine.tensorrt_llm.memory import GIB, usable_bytes
from falconry.engine.toolchain import Toolchain
from falconry.errors import EngineError, RepositoryError
from falconry.oci_facts import GpuShape

# TensorRT's engines are bound to major, minor and patch; the fourth part numbers builds of the
# same release, and not every image reports it (NVIDIA, TensorRT's versioning).
_PARTS_OF_TENSORRT = 3


def check_engine(manifest: Manifest, toolchain: Toolchain, shape: GpuShape) -> None:
    """Refuses an engine that `toolchain`'s image could not serve on `shape`.

    Raises:
        EngineError: it names everything that keeps the engine from running there.
    """
    engine = manifest.gpu
    if engine is None:
        raise EngineError(
            f"the engine {manifest.key[:12]} is one for CPUs (built by {manifest.builder}), and"
            f" {shape.name} has {shape.gpu} GPUs",
            remedy='build one with engine.builder = "tensorrt_llm", or choose a CPU shape',
        )
    if problems := [*image_problems(engine, toolchain), *shape_problems(engine, shape)]:
        raise EngineError(
            f"the engine {manifest.key[:12]} would not run in {toolchain.image} on {shape.name}:"
            f" {'; '.join(problems)}",
            remedy=f"build it with engine.toolchain {toolchain.release} for {shape.name}, or deploy"
            f" it with {engine.release} where there are {engine.gpu} GPUs (SM {engine.sm})",
        )


def image_problems(engine: GpuEngine, toolchain: Toolchain) -> list[str]:
    """What keeps an engine from running in a toolchain's image, as clauses."""
    problems = []
    if engine.tensorrt_llm != toolchain.tensorrt_llm:
        problems.append(
            f"it was built with TensorRT-LLM {engine.tensorrt_llm} and the image has"
            f" {toolchain.tensorrt_llm}"
        )
    if tensorrt_release(engine.tensorrt) != tensorrt_release(toolchain.tensorrt):
        problems.append(
            f"it was built with TensorRT {engine.tensorrt} and the image has {toolchain.tensorrt}"
        )
    return problems


def tensorrt_release(tensorrt: str) -> list[str]:
    """The parts of a version that an engine is bound to."""
    return tensorrt.split(".")[:_PARTS_OF_TENSORRT]


def shape_problems(engine: GpuEngine, shape: GpuShape) -> list[str]:
    """What keeps an engine from running on a shape, as clauses."""
    problems = []
    if engine.sm != shape.sm:
        problems.append(
            f"it was built on SM {engine.sm} ({engine.gpu}) and {shape.name} has SM {shape.sm}"
            f" ({shape.gpu})"
        )
    ranks = engine.tensor_parallel * engine.pipeline_parallel
    if ranks > shape.gpus:
        problems.append(
            f"it takes {ranks} GPUs (tensor {engine.tensor_parallel} times pipeline"
            f" {engine.pipeline_parallel}) and {shape.name} has {shape.gpus}"
        )
    if engine.memory_bytes > usable_bytes(shape):
        problems.append(
            f"it needs {engine.memory_bytes / GIB:.2f} GiB a GPU and {shape.gpu} gives"
            f" {usable_bytes(shape) / GIB:.2f} GiB"
        )
    return problems


def check_documents(engine: EngineConfig, limits: EngineLimits, manifest: GpuEngine) -> None:
    """Compares the engine's config.json and files with engine.json and the manifest."""
    mapping = engine.mapping
    compared = [
        (name, getattr(engine.limits, name), SERVING_FILE, getattr(limits, name))
        for name in ("max_batch_size", "max_input_len", "max_seq_len")
    ]
    compared += [
        ("tensor parallelism", mapping.tp_size, "the manifest", manifest.tensor_parallel),
        ("pipeline parallelism", mapping.pp_size, "the manifest", manifest.pipeline_parallel),
        ("TensorRT-LLM", engine.tensorrt_llm, "the manifest", manifest.tensorrt_llm),
    ]
    problems = [
        f"{CONFIG} has {name} {found} and {document} has {expected}"
        for name, found, document, expected in compared
        if found != expected
    ]
    ranks, files = mapping.tp_size * mapping.pp_size, len(engine.ranks)
    if files != ranks:
        problems.append(
            f"{CONFIG} calls for {ranks} ranks (tensor {mapping.tp_size} times pipeline"
            f" {mapping.pp_size}) and there are {files} engine files"
        )
    if problems:
        raise RepositoryError(
            f"is not the engine that its manifest describes: {'; '.join(problems)}",
            where=engine.directory,
            remedy="remove it from the store and run make engine again",
        )
