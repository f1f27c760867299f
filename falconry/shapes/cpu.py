"""The shapes without GPUs beside an OpenVINO engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from falconry.engine.openvino.memory import CpuMemoryEstimate, estimate
from falconry.engine.spec import GIB, EngineSpec
from falconry.errors import SettingsError
from falconry.oci_facts import CpuShape, load_limits
from falconry.shapes.candidates import Candidate
from falconry.shapes.prices import Prices


def cpu_candidates(
    spec: EngineSpec,
    shapes: Iterable[CpuShape],
    concurrency: int,
    ocpus: float,
    prices: Prices | None = None,
) -> list[Candidate]:
    """Every shape beside the engine, flexible ones in the least size that holds it.

    Args:
        spec: of the engine.
        shapes: to look at.
        concurrency: longest requests that shall be answered at a time.
        ocpus: at least as many as these.
        prices: where they are known.

    Raises:
        SettingsError: more requests are asked for than the recipe's engine or cache takes.
    """
    memory = estimate(spec)
    most = min(spec.limits.max_batch_size, memory.longest_requests)
    if concurrency > most:
        raise SettingsError(
            f"{concurrency} longest requests at a time are more than the {most} of the recipe"
            f" (limits.max_batch_size {spec.limits.max_batch_size}, kv_cache.memory_gib"
            f" {spec.recipe.kv_cache.memory_gib:g})",
            where="CONCURRENCY",
            remedy="ask for fewer, or raise them in the recipe",
        )
    return [_candidate(memory, most, shape, concurrency, ocpus, prices) for shape in shapes]


def _candidate(
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
        problems=tuple(_problems(shape, ocpus, needed, usable)),
    )


def _size(shape: CpuShape, ocpus: float, needed: int) -> tuple[float, float]:
    """OCPUs and GiB to ask for."""
    if not shape.flexible:
        return shape.ocpus, shape.memory_gib
    wanted, limits = math.ceil(needed / GIB), load_limits().compute
    cores = min(shape.ocpus, max(ocpus, math.ceil(wanted / limits.most_gib_per_ocpu), 1))
    return cores, min(shape.memory_gib, max(wanted, limits.least_gib_per_ocpu * cores))


def _problems(shape: CpuShape, ocpus: float, needed: int, usable: int) -> Iterator[str]:
    if needed > usable:
        yield f"{needed / GIB:.1f} GiB are needed, and {shape.name} has {usable / GIB:.0f}"
    if ocpus > shape.ocpus:
        yield f"{ocpus:g} OCPUs are asked for, and {shape.name} has {shape.ocpus}"
