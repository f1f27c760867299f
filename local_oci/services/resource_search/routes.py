"""HTTP of Resource Search.

Of the search language, the part that finds resources of one type by their attributes is known:

    query <type> resources [where <attribute> = '<value>' [&& ...]]

The language: docs.oracle.com/en-us/iaas/Content/Search/Concepts/querysyntax.htm. What is outside
this part is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import ServiceError, invalid_parameter
from local_oci.http.messages import json_response, next_page_header, read_details
from local_oci.http.pages import Page, page_response
from local_oci.http.queries import quoted, split_at, split_words
from local_oci.limits import MAX_QUERY_CHARACTERS
from local_oci.services.cloud import cloud_of
from local_oci.services.deployments.models import DEPLOYMENT_TYPE, ModelDeployment
from local_oci.storage.records import Record, Tagged, WireModel

# ADS asks for ModelId; the other names are those of ResourceSummary (oci 2.189.0).
_ATTRIBUTES: Mapping[str, Callable[[ModelDeployment], str]] = {
    "modelid": lambda deployment: deployment.model_id,
    "identifier": lambda deployment: deployment.id,
    "displayname": lambda deployment: deployment.display_name,
    "compartmentid": lambda deployment: deployment.compartment_id,
    "lifecyclestate": lambda deployment: deployment.lifecycle_state,
}


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    Args:
        type: of the resources, in small letters.
        equal: what each attribute, in small letters, has to be.
    """

    type: str
    equal: tuple[tuple[str, str], ...]


def parse(text: str) -> Query:
    """Parse a query. That capitals matter in values alone is inferred.

    Raises:
        ServiceError: 400 InvalidParameter, with the part that is not understood.
    """
    try:
        words = split_words(text)
    except ValueError as error:
        raise _not_understood(str(error)) from error
    small = [word.lower() for word in words]
    if len(words) < 3 or (small[0], small[2]) != ("query", "resources"):
        raise _not_understood(text)
    if small[3:] and (small[3] != "where" or not small[4:]):
        raise _not_understood(text)
    parts = split_at(words[4:], "&&") if small[4:] else []
    return Query(small[1], tuple(_equation(part) for part in parts))


def _equation(words: list[str]) -> tuple[str, str]:
    match words:
        case [name, "=", text] if (value := quoted(text, "'")) is not None:
            return name.lower(), value
        case _:
            raise _not_understood(" ".join(words))


def _not_understood(text: str) -> ServiceError:
    return invalid_parameter(
        f"query: '{text.strip()[:200]}' is not understood (local_oci knows: query <type> resources "
        "where <attribute> = '<value>' && ...)."
    )


class StructuredSearchDetails(WireModel):
    """Body of search_resources; free text is not searched for here."""

    type: Literal["Structured"]
    query: str = Field(max_length=MAX_QUERY_CHARACTERS)


class ResourceSummary(Record, Tagged):
    """What is shown of a resource (oci 2.189.0, resource_search.models)."""

    resource_type: str
    identifier: str
    compartment_id: str
    display_name: str
    time_created: datetime
    lifecycle_state: str


async def search_resources(request: Request) -> Response:
    """Find model deployments, deleted ones too, which the service forgets later [inferred]."""
    details = await read_details(request, StructuredSearchDetails)
    query = parse(details.query)
    if query.type != DEPLOYMENT_TYPE:
        raise invalid_parameter(
            f"query: '{query.type}' is not a type of resource (local_oci knows {DEPLOYMENT_TYPE})."
        )
    _check_attributes(query)
    found = [
        _summary(deployment)
        for deployment in cloud_of(request).deployments.scan()
        if all(_ATTRIBUTES[name](deployment) == value for name, value in query.equal)
    ]
    return page_response(
        request, found, key=lambda resource: (resource.identifier, ""), respond=_as_items
    )


def _check_attributes(query: Query) -> None:
    if unknown := sorted({name for name, _ in query.equal} - _ATTRIBUTES.keys()):
        raise invalid_parameter(
            f"query: {', '.join(unknown)}: no attribute (local_oci knows {', '.join(_ATTRIBUTES)})."
        )


def _summary(deployment: ModelDeployment) -> ResourceSummary:
    return ResourceSummary(
        resource_type="DataScienceModelDeployment",  # these capitals are inferred
        identifier=deployment.id,
        compartment_id=deployment.compartment_id,
        display_name=deployment.display_name,
        time_created=deployment.time_created,
        lifecycle_state=deployment.lifecycle_state,
        freeform_tags=deployment.freeform_tags,
        defined_tags=deployment.defined_tags,
    )


def _as_items(page: Page[ResourceSummary]) -> Response:
    items = [resource.wire() for resource in page.records]
    return json_response({"items": items}, headers=next_page_header(page.token))


ROUTES = [Route("/20180409/resources", search_resources, methods=["POST"])]
