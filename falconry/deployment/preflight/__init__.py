"""Checks that find, before anything is sent, why a deployment would fail."""

from falconry.deployment.preflight.check import Preflight, check_deployment
from falconry.deployment.preflight.subject import (
    Account,
    Artifact,
    Compute,
    Container,
    DeploymentSubject,
    Image,
    ServiceLimit,
)

__all__ = [
    "Account",
    "Artifact",
    "Compute",
    "Container",
    "DeploymentSubject",
    "Image",
    "Preflight",
    "ServiceLimit",
    "check_deployment",
]
