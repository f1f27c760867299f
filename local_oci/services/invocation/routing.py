"""Which path of the container an invocation reaches. Pure.

Both `/predict` and `/predictWithResponseStream` reach the one path of the environment
[inferred from samples that set MODEL_DEPLOY_PREDICT_ENDPOINT=/v1/completions and stream by a field
of the body]. A server whose streaming has a path of its own, such as Triton's `generate_stream`,
is reached by a custom endpoint: `/predictWithResponseStream/v2/models/<name>/generate_stream`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from local_oci.http.errors import ServiceError, method_not_allowed, missing_parameter, not_found
from local_oci.services.deployments.contract import predict_path
from local_oci.services.deployments.models import ContainerConfiguration, CustomEndpoint

_OPENAI_FILE = "openai.toml"
_WILDCARD = "{}"


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
    return f"/v2/models/{name}/versions/{version}/infer"


def uses_hyphenated_headers(headers: Mapping[str, str]) -> bool:
    """Whether a caller names its model as ADS does, which the samples do not show."""
    return "model-name" in headers or "model-version" in headers


def custom_path(container: ContainerConfiguration, suffix: str, method: str) -> str:
    """Where a call with a suffix goes: to that path, if the deployment opens it.

    Raises:
        ServiceError: 404 if it does not, 405 if not for this method.
    """
    path = f"/{suffix}"
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
