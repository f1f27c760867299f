"""HTTP of the Identity service: the one user and its auth tokens."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import not_found
from local_oci.http.messages import check_if_match, read_details
from local_oci.http.responses import (
    empty_response,
    json_response,
    record_response,
    records_response,
)
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.users.models import CreateAuthTokenDetails, User


async def get_user(request: Request) -> Response:
    """The user."""
    cloud = _cloud(request)
    made = datetime.fromtimestamp(cloud.home.api_key.stat().st_mtime, UTC)
    user = User(
        id=cloud.identity.user,
        compartment_id=cloud.identity.tenancy,
        time_created=made,
        etag=cloud.identity.user,
    )
    return record_response(user)


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


_USER = "/20160918/users/{user_id}"
ROUTES = [
    Route(_USER, get_user, methods=["GET"]),
    Route(f"{_USER}/authTokens", create_auth_token, methods=["POST"]),
    Route(f"{_USER}/authTokens", list_auth_tokens, methods=["GET"]),
    Route(f"{_USER}/authTokens/{{auth_token_id}}", delete_auth_token, methods=["DELETE"]),
]
