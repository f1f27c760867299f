"""Secrets as they travel and as they are stored (oci 2.189.0, vault.models and secrets.models)."""

from __future__ import annotations

import base64
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from local_oci.storage.records import Resource, Tagged, WireModel, now

SECRET_TYPE = "vaultsecret"


def _base64(text: str) -> str:
    """Refuse what is no Base64, with a ValueError."""
    base64.b64decode(text, validate=True)
    return text


class SecretState(StrEnum):
    """Values of Secret.lifecycleState that this cloud uses."""

    ACTIVE = "ACTIVE"
    PENDING_DELETION = "PENDING_DELETION"


class SecretContent(WireModel):
    """Base64SecretContentDetails."""

    content_type: Literal["BASE64"]
    content: Annotated[str, AfterValidator(_base64)]
    name: str | None = None


class CreateSecretDetails(Tagged):
    """Body of create_secret."""

    compartment_id: str
    secret_name: str
    vault_id: str
    key_id: str | None = None
    description: str | None = None
    secret_content: SecretContent


class Secret(Resource, Tagged):
    """A secret with one version; its content leaves by its bundle only."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "secret_content"})

    secret_name: str
    vault_id: str
    key_id: str | None = None
    description: str | None = None
    secret_content: SecretContent
    current_version_number: int = 1
    lifecycle_state: SecretState = SecretState.ACTIVE
    time_created: datetime = Field(default_factory=now)
    time_of_deletion: datetime | None = None


class ScheduleDeletionDetails(WireModel):
    """Body of schedule_secret_deletion."""

    time_of_deletion: datetime | None = None
