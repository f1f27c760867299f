"""All checks of a deployment, and the one error that tells every problem."""

from __future__ import annotations

from dataclasses import dataclass

from falconry.errors import PreflightError
from falconry.findings import Finding, failures, refuse
from falconry.oci_facts import Limits, load_limits
from falconry.preflight.account_checks import account_findings
from falconry.preflight.artifact_checks import artifact_findings
from falconry.preflight.compute_checks import compute_findings
from falconry.preflight.container_checks import container_findings
from falconry.preflight.engine_checks import engine_findings
from falconry.preflight.image_checks import image_findings
from falconry.preflight.subject import DeploymentSubject


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
