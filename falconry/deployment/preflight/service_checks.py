"""Checks of what Oracle accepts: container, instances, the tenancy's limits and policies.

A user may lack the right to read limits and policies, so what could not be read is reported and
refuses nothing. Nor does a missing statement: another one may give the same right.
"""

from __future__ import annotations

from collections.abc import Iterator

from falconry.deployment.policies import check_rights, needed_rights
from falconry.deployment.preflight.subject import (
    Account,
    Compute,
    Container,
    DeploymentSubject,
    ServiceLimit,
)
from falconry.findings import Finding, verdict
from falconry.oci_facts import (
    ComputeLimits,
    ContainerLimits,
    CpuShape,
    GpuShape,
    Limits,
    Shape,
    UnusableShape,
    find_shape,
    variable_bytes,
)


def container_findings(container: Container, limits: ContainerLimits) -> Iterator[Finding]:
    """Checks the sizes of the container's command and variables."""
    words = [*container.entrypoint, *container.command]
    size = sum(len(word.encode()) for word in words)
    yield verdict(
        "command",
        size < limits.command_bytes,
        f"{size} of fewer than {limits.command_bytes} bytes",
        f"command and entrypoint have {size} bytes, and the cloud takes fewer than"
        f" {limits.command_bytes}",
        "put words into the image's entrypoint",
    )
    # Loading the profile measured only the user's variables; these include ours.
    size = variable_bytes(container.environment)
    yield verdict(
        "variables",
        size < limits.environment_bytes,
        f"{size} of fewer than {limits.environment_bytes} bytes",
        f"the variables have {size} bytes, and the cloud takes fewer than"
        f" {limits.environment_bytes}",
        "put fixed variables into the image",
    )


def compute_findings(subject: DeploymentSubject, limits: ComputeLimits) -> Iterator[Finding]:
    """Checks the shape and the size of the instances."""
    compute, shape, offer = subject.compute, subject.shape, subject.account.offer
    choose = "choose a shape by make shapes"
    if offer is not None and offer.shape is None and not offer.reason:
        text = f"model deployments of this region do not offer {compute.shape}"
        yield Finding("shape", "failed", text, choose)
    elif shape is None:
        why = f": {offer.reason}" if offer is not None else ""
        text = f"{compute.shape} is not known here, and the cloud's list was not read{why}"
        yield Finding("shape", "skipped", text)
    elif isinstance(shape, UnusableShape):
        yield Finding("shape", "failed", f"{shape.name} {shape.why}", choose)
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
    if find_shape(shape.name) is None:
        yield Finding("instance size", "ok", f"{fact}, whose largest size is not known here")
        return
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
    return verdict(
        "instance size",
        compute.ocpus is None and compute.memory_gib is None,
        f"{compute.instances} of {shape.name}",
        f"{shape.name} has one size, and deployment.ocpus or deployment.memory_gib is given",
        "leave both out",
    )


def account_findings(subject: DeploymentSubject, limits: Limits) -> Iterator[Finding]:
    """Checks the tenancy's service limit and policies."""
    account = subject.account
    if account.limit is not None:
        yield _limit(account.limit, subject.compute, subject.shape)
    else:
        yield Finding("service limit", "skipped", f"that of {subject.compute.shape} was not read")
    large = subject.artifact.size > limits.artifact.direct_bytes
    yield from policy_findings(account, staged=large, jobs=False)


def _limit(limit: ServiceLimit, compute: Compute, shape: Shape | None) -> Finding:
    if limit.available is None:
        return Finding("service limit", "skipped", f"{limit.name} cannot be read: {limit.reason}")
    # GPU limits count GPUs (Oracle's console: "GPUs for GPU.A10 based VM and BM Instances").
    each = shape.gpus if isinstance(shape, GpuShape) else 1
    needed = each * compute.instances
    fact = f"{needed} of {limit.available:g} that {limit.name} leaves"
    return verdict(
        "service limit",
        needed <= limit.available,
        fact,
        f"{compute.instances} of {compute.shape} take {needed} GPUs, and the limit {limit.name}"
        f" leaves {limit.available:g}",
        "ask Oracle for more (Console: Limits, Quotas and Usage), or choose another shape",
    )


def policy_findings(account: Account, *, staged: bool, jobs: bool) -> Iterator[Finding]:
    """Checks the policies of deployments, services and jobs, as far as they could be read."""
    if account.statements is None or account.scope is None:
        why = f": {account.reason}" if account.reason else ""
        yield Finding("policies", "skipped", f"cannot be read{why}")
        return
    rights = needed_rights(account.scope, staged=staged, jobs=jobs)
    yield from check_rights(rights, account.scope, account.statements, account.groups)
