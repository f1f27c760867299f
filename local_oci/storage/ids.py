"""Identifiers in Oracle's forms."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from datetime import UTC, datetime

_UNIQUE_BYTES = 35  # 56 characters of base32: "aaaa" and these make the usual 60


def new_ocid(resource_type: str) -> str:
    """A fresh OCID: `ocid1.<type>.<realm>.<region>.<unique>`, with no region, as for a user.

    The form is that of docs.oracle.com/iaas/Content/General/Concepts/identifiers.htm.
    """
    return _ocid(resource_type, secrets.token_bytes(_UNIQUE_BYTES))


def derived_ocid(resource_type: str, origin: str) -> str:
    """The one OCID of what is not stored but found anew each time, by what makes it unique."""
    return _ocid(resource_type, hashlib.sha512(origin.encode()).digest()[:_UNIQUE_BYTES])


def _ocid(resource_type: str, unique: bytes) -> str:
    return f"ocid1.{resource_type}.oc1..aaaa{base64.b32encode(unique).decode().lower()}"


def new_etag() -> str:
    """A fresh version tag of a resource."""
    return str(uuid.uuid4())


def new_request_id() -> str:
    """32 upper-case hexadecimal digits, as the SDK makes them."""
    return uuid.uuid4().hex.upper()


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
