"""What would keep a deployment from being made or from serving, found before anything is sent."""

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
