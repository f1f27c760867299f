"""Whether the tenancy has room and rights for a deployment, as far as that can be read.

Reading limits and policies is a right of its own: what could not be read is told and refuses
nothing. Neither does a statement that is not found, for others may give the same right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from falconry.findings import Finding, verdict
from falconry.oci_facts import GpuShape, Limits, PolicyRule, find_shape
from falconry.preflight.subject import Account, Compute, DeploymentSubject, ServiceLimit


def account_findings(subject: DeploymentSubject, limits: Limits) -> Iterator[Finding]:
    """The findings of the tenancy."""
    account = subject.account
    if account.limit is not None:
        yield _limit(account.limit, subject.compute)
    else:
        yield Finding("service limit", "skipped", f"that of {subject.compute.shape} was not read")
    large = subject.artifact.size > limits.artifact.direct_bytes
    rules = [rule for rule in limits.account.policies if large or not rule.large_artifacts_only]
    yield from _policies(account, rules)


def _limit(limit: ServiceLimit, compute: Compute) -> Finding:
    if limit.available is None:
        return Finding("service limit", "skipped", f"{limit.name} cannot be read: {limit.reason}")
    shape = find_shape(compute.shape)
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


def _policies(account: Account, rules: Sequence[PolicyRule]) -> Iterator[Finding]:
    if account.statements is None:
        why = f": {account.reason}" if account.reason else ""
        yield Finding("policies", "skipped", f"cannot be read{why}")
        return
    for rule in rules:
        found = any(
            re.search(rule.pattern, statement, re.IGNORECASE) for statement in account.statements
        )
        if found:
            yield Finding("policies", "ok", f"{rule.purpose}: a statement allows it")
        else:
            yield Finding(
                "policies",
                "warning",
                f"{rule.purpose}: no statement was found that allows it, such as"
                f" `{rule.statement}`",
            )
