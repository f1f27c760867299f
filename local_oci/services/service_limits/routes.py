"""HTTP of the Limits service."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import not_found
from local_oci.http.messages import json_response, required_query
from local_oci.http.pages import page_response
from local_oci.services.cloud import cloud_of
from local_oci.services.service_limits.usage import (
    SERVICE,
    LimitDefinition,
    LimitValue,
    ResourceAvailability,
    ServiceSummary,
    all_limits,
    used,
)

_SERVICES = [ServiceSummary(name=SERVICE, description="Data Science")]


async def list_services(request: Request) -> Response:
    """The services that have limits; here it is one."""
    required_query(request, "compartmentId")
    return page_response(request, _SERVICES, key=lambda service: (service.name, ""))


async def list_limit_definitions(request: Request) -> Response:
    """What is limited."""
    required_query(request, "compartmentId")
    found = list(_limits(request))
    return page_response(request, found, key=lambda limit: (limit.name, ""))


async def list_limit_values(request: Request) -> Response:
    """How much of it there may be."""
    required_query(request, "compartmentId")
    required_query(request, "serviceName")
    found = [LimitValue(name=limit.name, value=limit.value) for limit in _limits(request)]
    return page_response(request, found, key=lambda value: (value.name, ""))


async def get_resource_availability(request: Request) -> Response:
    """How much of one limit is used."""
    required_query(request, "compartmentId")
    path = request.path_params
    named = [limit for limit in all_limits() if limit.name == path["limit_name"]]
    if path["service_name"] != SERVICE or not named:
        raise not_found()
    limit = named[0]
    in_use = used(limit, cloud_of(request).deployments.scan())
    share = in_use / limit.value if limit.value else 0.0
    availability = ResourceAvailability(
        used=in_use,
        available=max(limit.value - in_use, 0),
        fractional_usage=share,
        fractional_availability=1 - share if limit.value else 0.0,
    )
    return json_response(availability.model_dump(by_alias=True))


def _limits(request: Request) -> Iterable[LimitDefinition]:
    query = request.query_params
    return (
        limit
        for limit in all_limits()
        if query.get("serviceName", limit.service_name) == limit.service_name
        and query.get("name", limit.name) == limit.name
    )


_BASE = "/20190729"
ROUTES = [
    Route(f"{_BASE}/services", list_services, methods=["GET"]),
    Route(f"{_BASE}/limitDefinitions", list_limit_definitions, methods=["GET"]),
    Route(f"{_BASE}/limitValues", list_limit_values, methods=["GET"]),
    Route(
        f"{_BASE}/services/{{service_name}}/limits/{{limit_name}}/resourceAvailability",
        get_resource_availability,
        methods=["GET"],
    ),
]
