"""Verification of Oracle's request signatures. Pure: no clock, no network, no body is read here.

The scheme (draft-cavage-http-signatures, "rsa-sha256", version 1) is what the Python SDK
implements in `oci/signer.py` (2.189.0).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local_oci.http.errors import ServiceError, not_authenticated
from local_oci.identity import KEY_ID_PREFIX, Identity, session_key
from local_oci.limits import MAX_CLOCK_SKEW

# RFC 9110, section 5.6.7, as every SDK of Oracle's writes it.
_DATE = "%a, %d %b %Y %H:%M:%S GMT"
_ALWAYS_SIGNED = frozenset({"(request-target)", "host"})
_BODY_HEADERS = frozenset({"content-length", "content-type", "x-content-sha256"})


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that a signature covers.

    Args:
        method: HTTP method.
        target: raw path and query, exactly as on the request line.
        headers: header values by lower-case name.
        body_is_signed: whether the body's length, type and hash must be covered as well.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body_is_signed: bool


def verify(request: SignedRequest, identity: Identity, now: datetime) -> None:
    """Check who sent a request and that its head is as it was signed."""
    required = _ALWAYS_SIGNED | (_BODY_HEADERS if request.body_is_signed else frozenset())
    verify_with(request, _key(key_id_of(request), identity, now), now, required)


def verify_with(
    request: SignedRequest, key: rsa.RSAPublicKey, now: datetime, required: Set[str]
) -> None:
    """Check that a request's head is as the holder of a key signed it.

    Args:
        request: what arrived.
        key: verifies the signature.
        now: the server's clock, with a time zone.
        required: what the signature must cover besides the date.
    """
    parameters = _authorization(request.headers)
    if parameters.get("algorithm") != "rsa-sha256" or parameters.get("version", "1") != "1":
        raise not_authenticated("the signature must be rsa-sha256, version 1")
    names = parameters.get("headers", "").lower().split()
    absent = sorted(required - set(names))
    if absent:
        raise not_authenticated(f"the signature does not cover {', '.join(absent)}")
    _check_clock(request.headers, names, now)
    _check_signature(parameters.get("signature", ""), _signing_string(names, request), key)


def key_id_of(request: SignedRequest) -> str | None:
    """The keyId of a request's signature."""
    return _authorization(request.headers).get("keyId")


def _key(key_id: str | None, identity: Identity, now: datetime) -> rsa.RSAPublicKey:
    """The key that a keyId means: the user's API key, or that of a session."""
    if key_id == identity.key_id:
        return identity.public_key
    if key_id is not None and key_id.startswith(KEY_ID_PREFIX):
        return session_key(key_id.removeprefix(KEY_ID_PREFIX), identity.public_key, now)
    raise not_authenticated("the keyId is not the key in this directory's config file")


def check_body(body: bytes, headers: Mapping[str, str]) -> None:
    """Compare a body with the hash that its signature covers."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    if headers.get("x-content-sha256") != digest:
        raise not_authenticated("the body does not have the signed x-content-sha256")


def _authorization(headers: Mapping[str, str]) -> dict[str, str]:
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "signature":
        raise not_authenticated("there is no Signature in the authorization header")
    return _parameters(rest)


def _parameters(text: str) -> dict[str, str]:
    """The `name="value"` pairs of a header, in one pass however long it is."""
    *pairs, _ = text.split('"')
    names = [name.strip(" ,").removesuffix("=") for name in pairs[::2]]
    return dict(zip(names, pairs[1::2], strict=False))


def _check_clock(headers: Mapping[str, str], names: list[str], now: datetime) -> None:
    name = next((name for name in ("x-date", "date") if name in names), None)
    if name is None:
        raise not_authenticated("the signature does not cover the date")
    try:
        sent = datetime.strptime(headers[name], _DATE).replace(tzinfo=UTC)
    except (KeyError, ValueError) as error:
        raise not_authenticated(f"the {name} header is not a date") from error
    if abs(now - sent) > MAX_CLOCK_SKEW:
        raise not_authenticated(f"the {name} header is more than {MAX_CLOCK_SKEW} off the clock")


def _signing_string(names: list[str], request: SignedRequest) -> bytes:
    lines = []
    for name in names:
        if name == "(request-target)":
            value = f"{request.method.lower()} {request.target}"
        elif name in request.headers:
            value = request.headers[name]
        else:
            raise not_authenticated(f"the signed header {name} is not in the request")
        lines.append(f"{name}: {value}")
    return "\n".join(lines).encode("latin-1", "replace")


def _check_signature(signature: str, message: bytes, key: rsa.RSAPublicKey) -> None:
    refused: ServiceError = not_authenticated("the signature does not fit the request")
    try:
        raw = base64.b64decode(signature, validate=True)
        key.verify(raw, message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:  # ValueError: not base64, or not ASCII
        raise refused from error
