"""The one tenancy, user and API key of a local cloud, its SDK config file, and session tokens.

A request of a session is signed with the session's private key, and its keyId is "ST$<token>"
(`oci/auth/signers/security_token_signer.py`, 2.189.0). A token is a JWT that names a principal and
holds the public key of its session. Its claims are those that the SDK reads (`exp`, `res_tenant`,
`res_compartment`); that the key is in `jwk`, and the other names, are [inferred] from tokens that
users have shown.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from local_oci.home import Home, damaged, write_secret
from local_oci.http.errors import not_authenticated
from local_oci.storage.records import new_ocid

# The SDK takes any region name and builds host names from it. An underscore is not allowed in
# one (RFC 1123), so a client that forgets `service_endpoint` reaches no host of Oracle's.
REGION = "local_oci"

_KEY_BITS = 2048
KEY_ID_PREFIX = "ST$"

_ALGORITHM = "RS256"
_ISSUER = "authService.local_oci"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who may speak to this cloud.

    Args:
        tenancy: OCID of the tenancy, which is also the root compartment.
        user: OCID of the user.
        fingerprint: MD5 of the public key, colon-separated.
        public_key: verifies the user's signatures.
    """

    tenancy: str
    user: str
    fingerprint: str
    public_key: rsa.RSAPublicKey

    @property
    def key_id(self) -> str:
        """The keyId of a signature made with the user's API key."""
        return f"{self.tenancy}/{self.user}/{self.fingerprint}"


def load_or_create(home: Home) -> Identity:
    """Read the identity of a directory; on first use make one and write its SDK config file."""
    if not home.config.exists():
        _create(home)
    profile = configparser.ConfigParser(interpolation=None)
    try:
        profile.read(home.config)
        section = profile["DEFAULT"]
        return Identity(
            tenancy=section["tenancy"],
            user=section["user"],
            fingerprint=section["fingerprint"],
            public_key=private_key(home).public_key(),
        )
    except (configparser.Error, UnicodeDecodeError, KeyError) as error:
        raise damaged(home.config, str(error).partition("\n")[0]) from error


def _create(home: Home) -> None:
    """Write the key, then the config file: the config's presence means that both are complete."""
    key = new_key()
    write_secret(home.api_key, to_pem(key))
    add_profile(
        home,
        "DEFAULT",
        {
            "user": new_ocid("user"),
            "tenancy": new_ocid("tenancy"),
            "fingerprint": fingerprint_of(key.public_key()),
            "key_file": str(home.api_key),
            "region": REGION,
        },
    )


def add_profile(home: Home, name: str, values: Mapping[str, str]) -> None:
    """Write a profile into the SDK config file, over one of the same name."""
    profiles = configparser.ConfigParser(interpolation=None)
    profiles.read(home.config)
    profiles[name] = values
    text = io.StringIO()
    profiles.write(text)
    write_secret(home.config, text.getvalue().encode())


def new_key() -> rsa.RSAPrivateKey:
    """A fresh key for signatures."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def to_pem(key: rsa.RSAPrivateKey) -> bytes:
    """A private key as the SDK reads it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def private_key(home: Home) -> rsa.RSAPrivateKey:
    """The user's key, with which the cloud signs session tokens as well."""
    return _read_key(home.api_key)


def fingerprint_of(key: rsa.RSAPublicKey) -> str:
    """MD5 of a public key, as config files and keyIds have it."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.md5(der, usedforsecurity=False).digest().hex(":")


def _read_key(path: Path) -> rsa.RSAPrivateKey:
    # Without the check of the numbers, which takes longer than the rest of a start: it is our key.
    try:
        key = serialization.load_pem_private_key(
            path.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise damaged(path, "it is not a private key") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise damaged(path, "it is not an RSA key")
    return key


# --- session tokens ---------------------------------------------------------------------------


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
        lifetime: how long the token is valid; zero or less makes an expired token.
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
    # RecursionError: its header is JSON that is nested too deep.
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise not_authenticated(f"the session token is not of this cloud: {error}") from error
    if now.timestamp() >= claims["exp"]:
        raise not_authenticated("the session token expired")
    if not isinstance(key, rsa.RSAPublicKey):
        raise not_authenticated("the session token holds no public key")
    return key
