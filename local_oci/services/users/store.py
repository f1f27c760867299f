"""The one user and its auth tokens as they travel and are stored (oci 2.189.0, identity.models)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from local_oci.http.errors import limit_exceeded, not_found
from local_oci.limits import MAX_AUTH_TOKENS
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, Record, WireModel, new_ocid, now

AUTH_TOKEN_TYPE = "credential"
USER_NAME = "local_oci"
_TOKEN_BYTES = 15  # 20 characters, as many as Oracle's have


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


class AuthTokens:
    """Passwords for clients that cannot sign, such as Docker."""

    def __init__(self, database: Database) -> None:
        self._records = Collection(database, "auth_token", AuthToken, lambda record: record.id)

    def all(self) -> list[AuthToken]:
        """All auth tokens."""
        return list(self._records.scan())

    def create(self, user_id: str, description: str) -> tuple[AuthToken, str]:
        """Make an auth token; the second value is the only copy of the token itself.

        Raises:
            ServiceError: 400 if the user has as many as a user can have.
        """
        if self._records.count() >= MAX_AUTH_TOKENS:
            raise limit_exceeded(f"A user can have {MAX_AUTH_TOKENS} auth tokens at a time.")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        record = AuthToken(
            id=new_ocid(AUTH_TOKEN_TYPE),
            user_id=user_id,
            description=description,
            hash=_hash(token),
        )
        return self._records.put(record), token

    def get(self, token_id: str) -> AuthToken:
        """An auth token named in a path; 404 if there is none."""
        record = self._records.get(token_id)
        if record is None:
            raise not_found()
        return record

    def delete(self, token_id: str) -> None:
        """Forget an auth token; it is not a password any more."""
        self._records.delete(token_id)

    def accept(self, token: str) -> bool:
        """Whether this is one of the auth tokens."""
        return any(hmac.compare_digest(record.hash, _hash(token)) for record in self.all())


def _hash(token: str) -> str:
    # A token has 120 random bits, so a fast hash does not give it away either.
    return hashlib.sha256(token.encode()).hexdigest()
