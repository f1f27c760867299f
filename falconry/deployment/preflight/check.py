"""Runs all checks of a deployment and raises one error for all problems."""

from __future__ import annotations

from dataclasses import dataclass

from falconry.deployment.preflight.payload_checks import (
    artifact_findings,
    engine_findings,
    image_findings,
)
from falconry.deployment.preflight.service_checks import (
    account_findings,
    compute_findings,
    container_findings,
)
from falconry.deployment.preflight.subject import DeploymentSubject
from falconry.errors import PreflightError
from falconry.findings import Finding, failures, refuse
from falconry.oci_facts import Limits, load_limits


@dataclass(frozen=True, slots=True)
class Preflight:
    """The findings of all checks of a deployment."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that must stop the deployment."""
        return tuple(failures(self.findings))

    def refuse_problems(self) -> None:
        """Raises a PreflightError that names every problem, if there is one."""
        refuse(self.findings, PreflightError, "this deployment", self.name)


def check_deployment(subject: DeploymentSubject, limits: Limits | None = None) -> Preflight:
    """Checks what is known about a deployment before anything is sent. No I/O.

    Args:
        subject: what is to be deployed.
        limits: those of oci_limits.toml if left out.
    """
    limits = limits or load_limits()
    return Preflight(
        subject.name,
        (
            *artifact_findings(subject.artifact, subject.container, limits.artifact),
            *container_findings(subject.container, limits.container),
            *image_findings(subject.image, subject.engine, limits.image),
            *engine_findings(subject),
            *compute_findings(subject.compute, limits.compute),
            *account_findings(subject, limits),
        ),
    )
