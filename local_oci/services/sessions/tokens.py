"""Session tokens: JWTs that name a principal and hold the public key of its session. Pure.

A request of a session is signed with the session's private key, and its keyId is "ST$<token>"
(`oci/auth/signers/security_token_signer.py`, 2.189.0). The claims are those that the SDK reads
(`exp`, `res_tenant`, `res_compartment`); that the key is in `jwk`, and the other names, are
[inferred] from tokens that users have shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from local_oci.http.errors import not_authenticated

KEY_ID_PREFIX = "ST$"

_ALGORITHM = "RS256"
_ISSUER = "authService.local_oci"


def issue(
    authority: rsa.RSAPrivateKey,
    session: rsa.RSAPublicKey,
    claims: Mapping[str, str],
    now: datetime,
    lifetime: timedelta,
) -> str:
    """Make a token.

    Args:
        authority: the key that this cloud trusts.
        session: verifies the signatures of the session's requests.
        claims: who the principal is.
        now: the present.
        lifetime: how long the token is good; nothing or less for one that is over.
    """
    payload = {
        **claims,
        "iss": _ISSUER,
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
        "jwk": RSAAlgorithm.to_jwk(session),
    }
    return jwt.encode(payload, authority, _ALGORITHM)


def session_key(token: str, authority: rsa.RSAPublicKey, now: datetime) -> rsa.RSAPublicKey:
    """The key of a token's session.

    Raises:
        ServiceError: 401, the token is not of this cloud, or it is over.
    """
    try:
        claims = jwt.decode(
            token,
            authority,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={"verify_exp": False, "require": ["exp", "jwk"]},
        )
        key = RSAAlgorithm.from_jwk(json.loads(claims["jwk"]))
    except (jwt.InvalidTokenError, ValueError) as error:
        raise not_authenticated(f"the session token is not of this cloud: {error}") from error
    if now.timestamp() >= claims["exp"]:
        raise not_authenticated("the session token expired")
    if not isinstance(key, rsa.RSAPublicKey):
        raise not_authenticated("the session token holds no public key")
    return key
