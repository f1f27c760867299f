"""Whether an engine runs on the shape, in the release of the image, with the memory there."""

from __future__ import annotations

from collections.abc import Iterator

from falconry.engine.manifest import GpuEngine
from falconry.engine.preflight import image_problems, shape_problems
from falconry.engine.tensorrt_llm.memory import MemoryEstimate, sum_line, usable_bytes
from falconry.findings import Finding, verdict
from falconry.oci_facts import CpuShape, GpuShape, find_shape
from falconry.preflight.subject import DeploymentSubject


def engine_findings(subject: DeploymentSubject) -> Iterator[Finding]:
    """The findings of the engine beside its image and shape."""
    shape = find_shape(subject.compute.shape)
    if subject.engine is None:
        yield Finding("engine", "skipped", "its manifest was not read")
        return
    engine = subject.engine.gpu
    if engine is None:
        yield _cpu_engine(subject, shape)
        return
    if isinstance(shape, GpuShape):
        yield from _on_gpus(subject, engine, shape)
    elif isinstance(shape, CpuShape):
        yield Finding(
            "engine and shape",
            "failed",
            f"the engine is one for GPUs ({engine.gpu}), and {shape.name} has none",
            "choose a shape by make shapes",
        )
    if subject.toolchain is not None:
        for problem in image_problems(engine, subject.toolchain):
            yield Finding(
                "engine and image",
                "failed",
                problem,
                f"build the engine or the image with engine.toolchain {engine.release}",
            )


def _cpu_engine(subject: DeploymentSubject, shape: GpuShape | CpuShape | None) -> Finding:
    if isinstance(shape, GpuShape):
        return Finding(
            "engine and shape",
            "failed",
            f"the engine is one for CPUs, and the GPUs of {shape.name} would be paid for in vain",
            'choose a CPU shape, or build with engine.builder = "tensorrt_llm"',
        )
    return Finding("engine and shape", "ok", f"a CPU engine on {subject.compute.shape}")


def _on_gpus(subject: DeploymentSubject, engine: GpuEngine, shape: GpuShape) -> Iterator[Finding]:
    problems = shape_problems(engine, shape)
    ranks = engine.tensor_parallel * engine.pipeline_parallel
    fact = f"SM {engine.sm}, {ranks} of the {shape.gpus} GPUs of {shape.name}"
    if not problems:
        yield Finding("engine and shape", "ok", fact)
    for problem in problems:
        yield Finding("engine and shape", "failed", problem, "choose a shape by make shapes")
    if subject.memory is not None:
        yield _memory(subject.memory, subject.concurrency, shape)


def _memory(memory: MemoryEstimate, concurrency: int, shape: GpuShape) -> Finding:
    """Whether as many longest requests as are asked for have their cache; an estimate."""
    room = usable_bytes(shape)
    at_once = memory.longest_requests(room)
    line = f"{sum_line(memory, room)}; cache for {at_once} longest requests at a time (estimated)"
    return verdict(
        "GPU memory",
        at_once >= concurrency,
        line,
        f"{shape.name} holds {at_once} longest requests at a time, and {concurrency} are asked for"
        f" ({sum_line(memory, room)}, estimated)",
        "choose a shape by make shapes, or quantise weights or cache",
    )
