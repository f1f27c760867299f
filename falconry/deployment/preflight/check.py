"""All checks of a deployment, and the one error that tells every problem."""

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
    """What was found of a deployment, good and bad.

    Attributes:
        name: of the deployment.
        findings: of all checks.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that must stop the deployment."""
        return tuple(failures(self.findings))

    def refuse_problems(self) -> None:
        """Refuses a deployment that has problems.

        Raises:
            PreflightError: it names every problem, and what to do about each kind.
        """
        refuse(self.findings, PreflightError, "this deployment", self.name)


def check_deployment(subject: DeploymentSubject, limits: Limits | None = None) -> Preflight:
    """Looks at everything that can be known of a deployment before anything is sent. No I/O.

    Args:
        subject: what is to be deployed.
        limits: other than oci_limits.toml.

    Returns:
        All findings; `refuse_problems` raises one error for those that are problems.
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
