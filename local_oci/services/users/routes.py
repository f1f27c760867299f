"""HTTP of the Identity service: the user, its auth tokens, tenancy, compartment, region, policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import not_found
from local_oci.http.messages import (
    check_if_match,
    empty_response,
    json_response,
    read_details,
    record_response,
    records_response,
    required_query,
)
from local_oci.http.pages import page_response
from local_oci.identity import REGION
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.users.store import CreateAuthTokenDetails, User
from local_oci.storage.records import Record, Tagged, derived_ocid

_NAME = "local_oci"
_REGION_KEY = "LOC"


async def get_user(request: Request) -> Response:
    """The user."""
    _cloud(request)
    return record_response(_user(request))


async def list_users(request: Request) -> Response:
    """The one user."""
    required_query(request, "compartmentId")
    return records_response([_user(request)], None)


async def list_groups(request: Request) -> Response:
    """Groups of users: there are none."""
    required_query(request, "compartmentId")
    return records_response([], None)


def _user(request: Request) -> User:
    identity = cloud_of(request).identity
    return User(
        id=identity.user,
        compartment_id=identity.tenancy,
        time_created=_made(request),
        etag=identity.user,
    )


async def create_auth_token(request: Request) -> Response:
    """Make an auth token, and say what it is, which no other answer does.

    A retry token is not honoured: for that the answer would have to be stored.
    """
    cloud = _cloud(request)
    details = await read_details(request, CreateAuthTokenDetails)
    record, token = cloud.auth_tokens.create(cloud.identity.user, details.description)
    return json_response({**record.wire(), "token": token}, headers={"etag": record.etag})


async def list_auth_tokens(request: Request) -> Response:
    """The user's auth tokens, without the tokens themselves."""
    return records_response(_cloud(request).auth_tokens.all(), None)


async def delete_auth_token(request: Request) -> Response:
    """Delete an auth token."""
    auth_tokens = _cloud(request).auth_tokens
    record = auth_tokens.get(request.path_params["auth_token_id"])
    check_if_match(request, record)
    auth_tokens.delete(record.id)
    return empty_response()


def _cloud(request: Request) -> Cloud:
    """The cloud, if the user named in the path is its user."""
    cloud = cloud_of(request)
    if request.path_params["user_id"] != cloud.identity.user:
        raise not_found()
    return cloud


# --- the tenancy ------------------------------------------------------------------------------


class Tenancy(Record, Tagged):
    """Tenancy."""

    id: str
    name: str = _NAME
    description: str = "The one tenancy of this cloud"
    home_region_key: str = _REGION_KEY


class Compartment(Record, Tagged):
    """Compartment: the root, which is the tenancy."""

    id: str
    name: str = _NAME
    description: str = "The root compartment"
    time_created: datetime
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    is_accessible: bool = True


class Region(Record):
    """Region."""

    key: str = _REGION_KEY
    name: str = REGION


class RegionSubscription(Record):
    """RegionSubscription."""

    region_key: str = _REGION_KEY
    region_name: str = REGION
    status: Literal["READY"] = "READY"
    is_home_region: bool = True


class AvailabilityDomain(Record):
    """AvailabilityDomain."""

    id: str
    compartment_id: str
    name: str = f"{_NAME}:LOCAL-AD-1"


class Policy(Record, Tagged):
    """Policy: the truth about this cloud, which has none."""

    id: str
    compartment_id: str
    name: str = "everything"
    description: str = "local_oci has no policies: its one user may do everything."
    statements: tuple[str, ...] = (
        "Allow any-user to manage all-resources in tenancy",
        f"Allow service datascience, objectstorage-{REGION} to manage object-family in tenancy",
    )
    time_created: datetime
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"


async def get_tenancy(request: Request) -> Response:
    """The tenancy."""
    return record_response(Tenancy(id=_tenancy(request, "tenancy_id")))


async def get_compartment(request: Request) -> Response:
    """The root compartment."""
    root = Compartment(id=_tenancy(request, "compartment_id"), time_created=_made(request))
    return record_response(root)


async def list_compartments(request: Request) -> Response:
    """The compartments in another: there are none."""
    required_query(request, "compartmentId")
    none: list[Compartment] = []
    return page_response(request, none, key=lambda compartment: (compartment.name, ""))


async def list_regions(_request: Request) -> Response:
    """The one region."""
    return records_response([Region()], None)


async def list_region_subscriptions(request: Request) -> Response:
    """The one region, as the tenancy's."""
    _tenancy(request, "tenancy_id")
    return records_response([RegionSubscription()], None)


async def list_availability_domains(request: Request) -> Response:
    """The one availability domain."""
    compartment = required_query(request, "compartmentId")
    identifier = derived_ocid("availabilitydomain", _NAME)
    return records_response([AvailabilityDomain(id=identifier, compartment_id=compartment)], None)


async def list_policies(request: Request) -> Response:
    """The one policy, as if it were written in the root compartment."""
    compartment = required_query(request, "compartmentId")
    tenancy = cloud_of(request).identity.tenancy
    policy = Policy(
        id=derived_ocid("policy", tenancy), compartment_id=tenancy, time_created=_made(request)
    )
    found = [policy] if compartment == tenancy else []
    return page_response(request, found, key=lambda policy: (policy.name, ""))


async def list_dynamic_groups(request: Request) -> Response:
    """The dynamic groups: there are none, and none is needed."""
    required_query(request, "compartmentId")
    return records_response([], None)


def _tenancy(request: Request, name: str) -> str:
    """The tenancy's OCID, if the path names it."""
    tenancy = cloud_of(request).identity.tenancy
    if request.path_params[name] != tenancy:
        raise not_found()
    return tenancy


def _made(request: Request) -> datetime:
    return datetime.fromtimestamp(cloud_of(request).home.api_key.stat().st_mtime, UTC)


_BASE = "/20160918"
_USER = f"{_BASE}/users/{{user_id}}"
_TENANCY = f"{_BASE}/tenancies/{{tenancy_id}}"
ROUTES = [
    Route(f"{_BASE}/users", list_users, methods=["GET"]),
    Route(f"{_BASE}/groups", list_groups, methods=["GET"]),
    Route(_USER, get_user, methods=["GET"]),
    Route(f"{_USER}/authTokens", create_auth_token, methods=["POST"]),
    Route(f"{_USER}/authTokens", list_auth_tokens, methods=["GET"]),
    Route(f"{_USER}/authTokens/{{auth_token_id}}", delete_auth_token, methods=["DELETE"]),
    Route(_TENANCY, get_tenancy, methods=["GET"]),
    Route(f"{_TENANCY}/regionSubscriptions", list_region_subscriptions, methods=["GET"]),
    Route(f"{_BASE}/compartments", list_compartments, methods=["GET"]),
    Route(f"{_BASE}/compartments/{{compartment_id}}", get_compartment, methods=["GET"]),
    Route(f"{_BASE}/regions", list_regions, methods=["GET"]),
    Route(f"{_BASE}/availabilityDomains", list_availability_domains, methods=["GET"]),
    Route(f"{_BASE}/policies", list_policies, methods=["GET"]),
    Route(f"{_BASE}/dynamicGroups", list_dynamic_groups, methods=["GET"]),
]
