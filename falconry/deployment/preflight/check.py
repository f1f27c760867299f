"""Runs all checks of a deployment."""

from __future__ import annotations

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
from falconry.findings import Finding
from falconry.oci_facts import load_limits


def check_deployment(subject: DeploymentSubject) -> list[Finding]:
    """Checks what is known about a deployment. No I/O."""
    limits = load_limits()
    return [
        *artifact_findings(subject.artifact, subject.container, limits.artifact),
        *container_findings(subject.container, limits.container),
        *image_findings(subject.image, subject.engine, limits.image),
        *engine_findings(subject),
        *compute_findings(subject, limits.compute),
        *account_findings(subject, limits),
    ]
