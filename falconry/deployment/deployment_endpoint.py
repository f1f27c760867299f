"""A deployment as its clients see it."""

from __future__ import annotations

from typing import Any

from falconry.deployment.target import route_of
from falconry.cloud.session import Session
from falconry.endpoint import Endpoint


def endpoint_of(deployment: Any, session: Session) -> Endpoint:
    """The endpoint of a deployment, asked as the session's user.

    Args:
        deployment: oci's ModelDeployment.
        session: whose requests are signed.
    """
    return Endpoint(deployment.model_deployment_url, session.signer(), route_of(deployment))
