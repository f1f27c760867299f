"""The GPU shapes beside a TensorRT-LLM engine, before or after it is built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from falconry.engine.manifest import GpuEngine
from falconry.engine.tensorrt_llm.memory import estimate, usable_bytes
from falconry.engine.tensorrt_llm.recipe import Parallelism
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from falconry.errors import SettingsError
from falconry.findings import failures
from falconry.oci_facts import GpuShape
from falconry.shapes.candidates import Candidate
from falconry.shapes.prices import Prices

# Ways to split that Oracle's shapes have GPUs for.
_SPLITS = (1, 2, 4, 8)


def gpu_candidates(
    spec: GpuEngineSpec,
    shapes: Iterable[GpuShape],
    concurrency: int,
    built: GpuEngine | None = None,
    prices: Prices | None = None,
) -> list[Candidate]:
    """Every shape beside the engine.

    Args:
        spec: of the engine, for whatever shape.
        shapes: to look at.
        concurrency: longest requests that shall be answered at a time.
        built: the engine, where it stands already.
        prices: where they are known.

    Raises:
        SettingsError: more requests are asked for than the recipe's engine takes.
    """
    limits = spec.recipe.limits
    if concurrency > limits.max_batch_size:
        raise SettingsError(
            f"{concurrency} requests at a time are more than the recipe's limits.max_batch_size"
            f" {limits.max_batch_size}",
            where="CONCURRENCY",
            remedy="ask for fewer, or raise it in the recipe",
        )
    return [_candidate(replace(spec, shape=shape), concurrency, built, prices) for shape in shapes]


def _candidate(
    spec: GpuEngineSpec, concurrency: int, built: GpuEngine | None, prices: Prices | None
) -> Candidate:
    shape, memory, room = spec.shape, estimate(spec), usable_bytes(spec.shape)
    problems = _problems(spec, concurrency)
    return Candidate(
        shape=shape.name,
        needed=memory.bytes_for(concurrency),
        usable=room,
        at_a_time=memory.longest_requests(room) if memory.needed <= room else 0,
        engine="as built" if built is not None and built.sm == shape.sm else "to be built",
        gpus=shape.gpus,
        gpus_used=spec.recipe.parallelism.world_size,
        gpu=shape.gpu,
        sm=shape.sm,
        price_hour=prices.of_gpus(shape) if prices else None,
        problems=problems,
        remedy=_other_split(spec, concurrency) if problems else None,
    )


def _problems(spec: GpuEngineSpec, concurrency: int) -> tuple[str, ...]:
    if failed := [check.text for check in failures(spec_checks(spec))]:
        return tuple(failed)
    at_a_time = estimate(spec).longest_requests(usable_bytes(spec.shape))
    if at_a_time < concurrency:
        return (f"there is cache for {at_a_time} longest requests at a time, not {concurrency}",)
    return ()


def _other_split(spec: GpuEngineSpec, concurrency: int) -> str | None:
    """The least tensor parallelism with which the shape would hold it after all."""
    for tensor in _SPLITS:
        parallelism = Parallelism(tensor=tensor, pipeline=1)
        recipe = spec.recipe.model_copy(update={"parallelism": parallelism})
        if tensor <= spec.shape.gpus and not _problems(replace(spec, recipe=recipe), concurrency):
            return f"parallelism.tensor = {tensor} in the recipe"
    return None
