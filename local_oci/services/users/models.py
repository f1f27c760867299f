"""The user and its auth tokens as they travel and are stored (oci 2.189.0, identity.models)."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from local_oci.storage.ids import now
from local_oci.storage.records import Record, WireModel

AUTH_TOKEN_TYPE = "credential"
USER_NAME = "local_oci"


class User(Record):
    """User. It comes with the cloud and is never stored."""

    id: str
    compartment_id: str
    name: str = USER_NAME
    description: str = "The one user of this cloud"
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_created: datetime
    is_mfa_activated: bool = False


class CreateAuthTokenDetails(WireModel):
    """Body of create_auth_token."""

    description: str


class AuthToken(Record):
    """AuthToken. It never expires; of the token itself only a hash is kept.

    (OCI CLI reference, iam auth-token: "Auth tokens never expire".)
    """

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "hash"})

    id: str
    user_id: str
    description: str
    hash: str
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_created: datetime = Field(default_factory=now)
