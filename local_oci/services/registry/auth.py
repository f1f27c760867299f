"""The tokens that the registry trusts, and the key that signs them.

Docker distribution 2.8 (registry/auth/token) takes JWTs whose header carries the certificate of
their key (`x5c`), if it finds that certificate in its own bundle.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from local_oci.limits import REGISTRY_TOKEN_LIFETIME
from local_oci.services.registry.scopes import Action, Scope
from local_oci.storage.ids import now

ISSUER = "local_oci"

_ALGORITHM = "RS256"
_KEY_BITS = 2048
_CERTIFICATE_LIFETIME = timedelta(days=36500)  # as long as the home lasts
_LOGIN = "login"  # a claim of our own, which the registry ignores


class InvalidTokenError(Exception):
    """A token that does not log anybody in."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the self-signed certificate by which the registry knows it."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def load_or_create_key(key_file: Path, certificate_file: Path) -> SigningKey:
    """Read the key of a directory's registry; on first use make one."""
    if not certificate_file.exists():
        _create(key_file, certificate_file)
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{key_file} is not an RSA key")
    return SigningKey(key, x509.load_pem_x509_certificate(certificate_file.read_bytes()))


def _create(key_file: Path, certificate_file: Path) -> None:
    """Write the key, then the certificate: the certificate's presence means that both are whole."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + _CERTIFICATE_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with open(key_file, "wb", opener=_owner_only) as file:
        file.write(pem)
    unfinished = certificate_file.with_suffix(".new")
    unfinished.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    unfinished.replace(certificate_file)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class TokenIssuer:
    """Issues tokens for one registry.

    Args:
        signing: signs them.
        service: the registry's host and port.
    """

    def __init__(self, signing: SigningKey, service: str) -> None:
        self._signing = signing
        self._service = service
        der = signing.certificate.public_bytes(serialization.Encoding.DER)
        self._header = {"x5c": [base64.b64encode(der).decode()]}

    def issue(self, subject: str, access: Iterable[Scope], login: Set[Action] = frozenset()) -> str:
        """A token.

        Args:
            subject: OCID of the user, empty for nobody.
            access: what it allows.
            login: what tokens may allow that are got with this one as a password.
        """
        issued = now()
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": subject,
            "aud": self._service,
            "iat": issued,
            "nbf": issued,
            "exp": issued + REGISTRY_TOKEN_LIFETIME,
            "jti": secrets.token_hex(16),
            "access": [scope.claim() for scope in access],
        }
        if login:
            claims[_LOGIN] = sorted(login)
        return jwt.encode(claims, self._signing.key, _ALGORITHM, headers=self._header)

    def login(self, token: str) -> frozenset[Action]:
        """What a token, used as a password, lets other tokens allow.

        Raises:
            InvalidTokenError: it is not ours, it has expired, or it is no token to log in with.
        """
        try:
            claims = jwt.decode(
                token,
                self._signing.key.public_key(),
                [_ALGORITHM],
                audience=self._service,
                issuer=ISSUER,
            )
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError(str(error)) from error
        if _LOGIN not in claims:
            raise InvalidTokenError("the token was not got by a signed request")
        return frozenset(Action(action) for action in claims[_LOGIN])
