"""Whether a shape holds an engine, with how much room and price."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from falconry.engine.manifest import GpuEngine
from falconry.engine.openvino.serving import CpuMemoryEstimate
from falconry.engine.openvino.serving import estimate as estimate_cpu
from falconry.engine.spec import GIB, EngineSpec
from falconry.engine.tensorrt_llm.memory import estimate, usable_bytes
from falconry.engine.tensorrt_llm.recipe import Parallelism
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from falconry.errors import SettingsError
from falconry.findings import failures
from falconry.oci_facts import CpuShape, GpuShape, load_limits
from falconry.shapes.prices import Prices

# Ways to split that Oracle's shapes have GPUs for.
_SPLITS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A shape for an engine; memory is a GPU's or the machine's.

    Attributes:
        gpus: how many the shape has; 0 for none.
        gpus_used: how many of them the engine takes.
        ocpus, memory_gib: the size to request of a shape without GPUs.
        needed: by the engine and the planned requests; estimated.
        at_a_time: longest requests that can be answered at a time.
        engine: whether the engine that exists runs there.
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
    """Candidates that fit first, then by price where known, then by memory.

    Memory replaces an unknown price: larger shapes cost more.
    """

    def order(candidate: Candidate) -> tuple[bool, float, float]:
        price = math.inf if candidate.price_hour is None else candidate.price_hour
        memory = candidate.usable * max(candidate.gpus, 1)
        return not candidate.fits, price, memory

    return tuple(sorted(candidates, key=order))


def cpu_candidates(
    spec: EngineSpec,
    shapes: Iterable[CpuShape],
    concurrency: int,
    ocpus: float,
    prices: Prices | None = None,
) -> list[Candidate]:
    """Every shape for the engine, flexible ones in the least fitting size.

    Args:
        spec: of the engine.
        shapes: the shapes to consider.
        concurrency: longest requests at a time.
        ocpus: the least number of OCPUs.
        prices: where they are known.
    """
    memory = estimate_cpu(spec)
    most = min(spec.limits.max_batch_size, memory.longest_requests)
    if concurrency > most:
        raise SettingsError(
            f"{concurrency} longest requests at a time are more than the {most} of the recipe"
            f" (limits.max_batch_size {spec.limits.max_batch_size}, kv_cache.memory_gib"
            f" {spec.recipe.kv_cache.memory_gib:g})",
            where="CONCURRENCY",
            remedy="ask for fewer, or raise them in the recipe",
        )
    return [_cpu_candidate(memory, most, shape, concurrency, ocpus, prices) for shape in shapes]


def _cpu_candidate(
    memory: CpuMemoryEstimate,
    most: int,
    shape: CpuShape,
    concurrency: int,
    ocpus: float,
    prices: Prices | None,
) -> Candidate:
    needed = memory.needed(concurrency)
    cores, gib = _size(shape, ocpus, needed)
    usable = int(gib * GIB)
    cache = usable - memory.needed(0)
    return Candidate(
        shape=shape.name,
        needed=needed,
        usable=usable,
        at_a_time=max(0, min(most, cache // memory.kv_cache_request)),
        engine="as built",  # one CPU engine runs on all of them
        ocpus=cores,
        memory_gib=gib,
        price_hour=prices.of_cpus(shape, cores, gib) if prices else None,
        problems=tuple(_cpu_problems(shape, ocpus, needed, usable)),
    )


def _size(shape: CpuShape, ocpus: float, needed: int) -> tuple[float, float]:
    """OCPUs and GiB to request."""
    if not shape.flexible:
        return shape.ocpus, shape.memory_gib
    wanted, limits = math.ceil(needed / GIB), load_limits().compute
    cores = min(shape.ocpus, max(ocpus, math.ceil(wanted / limits.most_gib_per_ocpu), 1))
    return cores, min(shape.memory_gib, max(wanted, limits.least_gib_per_ocpu * cores))


def _cpu_problems(shape: CpuShape, ocpus: float, needed: int, usable: int) -> Iterator[str]:
    if needed > usable:
        yield f"{needed / GIB:.1f} GiB are needed, and {shape.name} has {usable / GIB:.0f}"
    if ocpus > shape.ocpus:
        yield f"{ocpus:g} OCPUs are requested, and {shape.name} has {shape.ocpus}"


def gpu_candidates(
    spec: GpuEngineSpec,
    shapes: Iterable[GpuShape],
    concurrency: int,
    built: GpuEngine | None = None,
    prices: Prices | None = None,
) -> list[Candidate]:
    """Every shape for the engine, at a concurrency of longest requests.

    The spec may be for any shape; `built` is the engine, if it exists already.
    """
    limits = spec.recipe.limits
    if concurrency > limits.max_batch_size:
        raise SettingsError(
            f"{concurrency} requests at a time are more than the recipe's limits.max_batch_size"
            f" {limits.max_batch_size}",
            where="CONCURRENCY",
            remedy="ask for fewer, or raise it in the recipe",
        )
    specs = [replace(spec, shape=shape) for shape in shapes]
    return [_gpu_candidate(each, concurrency, built, prices) for each in specs]


def _gpu_candidate(
    spec: GpuEngineSpec, concurrency: int, built: GpuEngine | None, prices: Prices | None
) -> Candidate:
    shape, memory, room = spec.shape, estimate(spec), usable_bytes(spec.shape)
    problems = _gpu_problems(spec, concurrency)
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


def _gpu_problems(spec: GpuEngineSpec, concurrency: int) -> tuple[str, ...]:
    if failed := [check.text for check in failures(spec_checks(spec))]:
        return tuple(failed)
    at_a_time = estimate(spec).longest_requests(usable_bytes(spec.shape))
    if at_a_time < concurrency:
        return (f"there is cache for {at_a_time} longest requests at a time, not {concurrency}",)
    return ()


def _other_split(spec: GpuEngineSpec, concurrency: int) -> str | None:
    """The least tensor parallelism with which the shape would hold it."""
    for tensor in _SPLITS:
        parallelism = Parallelism(tensor=tensor, pipeline=1)
        recipe = spec.recipe.model_copy(update={"parallelism": parallelism})
        spread = replace(spec, recipe=recipe)
        if tensor <= spec.shape.gpus and not _gpu_problems(spread, concurrency):
            return f"parallelism.tensor = {tensor} in the recipe"
    return None
