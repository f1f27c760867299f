"""HTTP of the gateway, whose base path is empty."""

from __future__ import annotations

import logging
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import ServiceError, not_found
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.deployments.contract import is_triton
from local_oci.services.deployments.models import ModelDeployment
from local_oci.services.invocation.forwarding import (
    forward,
    forward_stream,
    read_invocation,
    unavailable,
)
from local_oci.services.invocation.routing import (
    configured_path,
    custom_path,
    uses_hyphenated_headers,
)
from local_oci.services.logs.store import Category

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_log = logging.getLogger("local_oci.invocation")


async def predict(request: Request) -> Response:
    """Call the deployment's predict path, or a path that it opens, and get the whole answer."""
    return await _invoke(request, streaming=False)


async def predict_with_response_stream(request: Request) -> Response:
    """The same, with the answer as it comes."""
    return await _invoke(request, streaming=True)


async def _invoke(request: Request, *, streaming: bool) -> Response:
    cloud = cloud_of(request)
    deployment = cloud.deployments.get(request.path_params["deployment_id"])
    if deployment is None or not deployment.serving:
        raise not_found()
    started = time.monotonic()
    status = 500
    try:
        response = await _answer(request, cloud, deployment, streaming=streaming)
        status = response.status_code
        return response
    except ServiceError as error:
        status = error.status
        raise
    finally:
        _log_access(request, cloud, deployment, status, time.monotonic() - started)


async def _answer(
    request: Request, cloud: Cloud, deployment: ModelDeployment, *, streaming: bool
) -> Response:
    cloud.throttle.check()
    path = _path(request, deployment)
    running = cloud.fleet.get(deployment.id)
    if running is None or not running.answering:
        raise unavailable()
    invocation = await read_invocation(request, path, streaming)
    carry = forward_stream if streaming else forward
    return await carry(invocation, running, request.receive)


def _path(request: Request, deployment: ModelDeployment) -> str:
    suffix = request.path_params.get("suffix")
    if suffix:
        return custom_path(deployment.container, suffix, request.method)
    if is_triton(deployment.container.environment_variables) and uses_hyphenated_headers(
        request.headers
    ):
        _log.warning(
            "%s: the caller names its model in model-name and model-version; Oracle's samples "
            "use model_name and model_version",
            deployment.id,
        )
    return configured_path(deployment.container, request.headers)


def _log_access(
    request: Request, cloud: Cloud, deployment: ModelDeployment, status: int, seconds: float
) -> None:
    """The fields are those of an entry in oracle/accelerated-data-science, test_oci_logging.py."""
    path = request.url.path.removeprefix(f"/{deployment.id}")
    cloud.logs.write_deployment(
        deployment,
        Category.ACCESS,
        [f"{request.method} {path} {request.scope['http_version']}"],
        modelLatency=round(seconds * 1000, 2),
        opcRequestId=request.scope["opc_request_id"],
        status=status,
    )


ROUTES = [
    Route("/{deployment_id}/predict", predict, methods=["POST"]),
    Route("/{deployment_id}/predict/{suffix:path}", predict, methods=_METHODS),
    Route(
        "/{deployment_id}/predictWithResponseStream",
        predict_with_response_stream,
        methods=["POST"],
    ),
    Route(
        "/{deployment_id}/predictWithResponseStream/{suffix:path}",
        predict_with_response_stream,
        methods=_METHODS,
    ),
]
