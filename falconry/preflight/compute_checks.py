"""Whether Oracle takes the instances' size."""

from __future__ import annotations

from collections.abc import Iterator

from falconry.findings import Finding
from falconry.oci_facts import ComputeLimits, CpuShape, GpuShape, find_shape
from falconry.preflight.subject import Compute


def compute_findings(compute: Compute, limits: ComputeLimits) -> Iterator[Finding]:
    """The findings of the instances."""
    shape = find_shape(compute.shape)
    if shape is None:
        yield Finding("shape", "skipped", f"{compute.shape} is not known here, and is not checked")
    elif isinstance(shape, CpuShape) and shape.flexible:
        yield from _flexible(compute, shape, limits)
    else:
        yield _fixed(compute, shape)


def _flexible(compute: Compute, shape: CpuShape, limits: ComputeLimits) -> Iterator[Finding]:
    ocpus, memory = compute.ocpus, compute.memory_gib
    if ocpus is None or memory is None:
        yield Finding(
            "instance size",
            "failed",
            f"{shape.name} is flexible, and its size is not given",
            "set deployment.ocpus and deployment.memory_gib",
        )
        return
    fact = f"{ocpus:g} OCPUs and {memory:g} GiB of {shape.name}"
    problems = []
    if not 1 <= ocpus <= shape.ocpus:
        problems.append(f"{shape.name} has 1 to {shape.ocpus} OCPUs, not {ocpus:g}")
    least = limits.least_gib_per_ocpu * max(ocpus, 1)
    most = min(shape.memory_gib, limits.most_gib_per_ocpu * max(ocpus, 1))
    if not least <= memory <= most:
        problems.append(
            f"{ocpus:g} OCPUs of {shape.name} have {least:g} to {most:g} GiB, not {memory:g}"
        )
    if not problems:
        yield Finding("instance size", "ok", fact)
    for problem in problems:
        yield Finding(
            "instance size", "failed", problem, "change deployment.ocpus or deployment.memory_gib"
        )


def _fixed(compute: Compute, shape: GpuShape | CpuShape) -> Finding:
    if compute.ocpus is None and compute.memory_gib is None:
        return Finding("instance size", "ok", f"{compute.instances} of {shape.name}")
    return Finding(
        "instance size",
        "failed",
        f"{shape.name} has one size, and deployment.ocpus or deployment.memory_gib is given",
        "leave both out",
    )
