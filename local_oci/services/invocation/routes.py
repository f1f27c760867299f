"""HTTP of the gateway, whose base path is empty, and which path of the container a call reaches.

Both `/predict` and `/predictWithResponseStream` reach the one path of the environment
[inferred from samples that set MODEL_DEPLOY_PREDICT_ENDPOINT=/v1/completions and stream by a field
of the body]. A server whose streaming has a path of its own, such as Triton's `generate_stream`,
is reached by a custom endpoint: `/predictWithResponseStream/v2/models/<name>/generate_stream`.
"""

from __future__ import annotations

import logging
import time
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.home import DiskFullError
from local_oci.http.errors import (
    ServiceError,
    invalid_parameter,
    method_not_allowed,
    missing_parameter,
    not_found,
)
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.deployments.models import (
    ContainerConfiguration,
    CustomEndpoint,
    ModelDeployment,
)
from local_oci.services.deployments.rules import is_triton, predict_path
from local_oci.services.invocation.forwarding import (
    forward,
    forward_stream,
    read_invocation,
    unavailable,
)
from local_oci.services.logs.store import Category

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_log = logging.getLogger("local_oci.invocation")
_OPENAI_FILE = "openai.toml"
_WILDCARD = "{}"
_NOT_A_NAME = frozenset({".", ".."})


async def predict(request: Request) -> Response:
    """Call the deployment's predict path, or a path that it opens, and get the complete answer."""
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
    streaming = streaming or _streams(request, deployment)
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
    if route := request.headers.get("route"):
        return routed_path(deployment.container, route, request.method)
    if is_triton(deployment.container.environment_variables) and uses_hyphenated_headers(
        request.headers
    ):
        _log.warning(
            "%s: the caller names its model in model-name and model-version; Oracle's samples "
            "use model_name and model_version",
            deployment.id,
        )
    return configured_path(deployment.container, request.headers)


def _streams(request: Request, deployment: ModelDeployment) -> bool:
    """Whether `/predict` streams its answer, as clients of AQUA ask it to [inferred].

    They send `enable-streaming: true` (ADS 2.16.1, ads/aqua/client/openai_client.py), and AQUA's
    deployments have the variable MODEL_DEPLOY_ENABLE_STREAMING.
    """
    variables = deployment.container.environment_variables
    enabled = variables.get("MODEL_DEPLOY_ENABLE_STREAMING", "").lower() == "true"
    return enabled and request.headers.get("enable-streaming", "").lower() == "true"


def _log_access(
    request: Request, cloud: Cloud, deployment: ModelDeployment, status: int, seconds: float
) -> None:
    """The fields are those of an entry in oracle/accelerated-data-science, test_oci_logging.py."""
    path = request.scope["path"].removeprefix(f"/{deployment.id}")
    try:
        cloud.logs.write_deployment(
            deployment,
            Category.ACCESS,
            [f"{request.method} {path} {request.scope['http_version']}"],
            modelLatency=round(seconds * 1000, 2),
            opcRequestId=request.scope["opc_request_id"],
            status=status,
        )
    except DiskFullError as error:  # a prediction needs no disk
        _log.warning("%s: a line of the access log is lost: %s", deployment.id, error)


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


# --- paths of the container -------------------------------------------------------------------


def configured_path(container: ContainerConfiguration, headers: Mapping[str, str]) -> str:
    """Where a call without a suffix goes.

    Raises:
        ServiceError: 400 if Triton's model headers are needed and absent.
    """
    path = predict_path(container.environment_variables)
    if path is not None:
        return path
    name = _model_header(headers, "model_name")
    version = _model_header(headers, "model_version")
    if _NOT_A_NAME & {name, version} or "/" in name or "/" in version:
        raise invalid_parameter("header model_name or model_version: not a name.")
    return f"/v2/models/{name}/versions/{version}/infer"


def uses_hyphenated_headers(headers: Mapping[str, str]) -> bool:
    """Whether a caller names its model as ADS does, which the samples do not show."""
    return "model-name" in headers or "model-version" in headers


def custom_path(container: ContainerConfiguration, suffix: str, method: str) -> str:
    """Where a call with a suffix goes: to that path, if the deployment opens it.

    Raises:
        ServiceError: 404 if it does not, 405 if not for this method.
    """
    parts = suffix.strip("/").split("/")
    if not all(parts) or _NOT_A_NAME & set(parts):  # the container would take another path for it
        raise not_found()
    path = f"/{'/'.join(parts)}"
    matching = [
        endpoint
        for endpoint in _endpoints(container)
        if _matches(endpoint.endpoint_uri_suffix, path)
    ]
    if not matching:
        raise not_found()
    if not any(method in endpoint.http_methods for endpoint in matching):
        raise method_not_allowed()
    return path


def routed_path(container: ContainerConfiguration, route: str, method: str) -> str:
    """Where a call with the header `route` goes, as clients of AQUA send it.

    ADS 2.16.1 (ads/aqua/client/client.py) sends `/v1/completions` or `/v1/chat/completions` so, to
    deployments that open no custom endpoints: OpenAI's paths are open to it [inferred].

    Raises:
        ServiceError: 404 for another path that the deployment does not open.
    """
    path = f"/{route.strip('/')}"
    openai = (
        each
        for each in _openai_endpoints()
        if method in each.http_methods and _matches(each.endpoint_uri_suffix, path)
    )
    if any(openai):
        return path
    return custom_path(container, route, method)


def _model_header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name) or headers.get(name.replace("_", "-"))
    if not value:
        raise _missing_header(name)
    return value


def _missing_header(name: str) -> ServiceError:
    return missing_parameter(f"header {name}")


def _endpoints(container: ContainerConfiguration) -> Iterable[CustomEndpoint]:
    yield from container.custom_http_endpoints
    if container.predict_api_specification is not None:
        yield from _openai_endpoints()


@cache
def _openai_endpoints() -> tuple[CustomEndpoint, ...]:
    content = tomllib.loads(files(__package__).joinpath(_OPENAI_FILE).read_text())
    methods = tuple(content["methods"])
    return tuple(
        CustomEndpoint(endpoint_uri_suffix=path, http_methods=methods) for path in content["paths"]
    )


def _matches(pattern: str, path: str) -> bool:
    expected, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    return len(expected) == len(given) and all(
        part in (_WILDCARD, actual) and actual != ""
        for part, actual in zip(expected, given, strict=True)
    )
