"""Who may do what to which repository: callers, their scopes, and the tokens that say so.

Docker distribution 2.8 (registry/auth/token) takes JWTs whose header carries the certificate of
their key (`x5c`), if it finds that certificate in its own bundle. The form of a scope is
`repository:<namespace>/<name>:pull,push` (docs/spec/auth/scope.md there).
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from local_oci.http.errors import not_authenticated
from local_oci.http.signatures import SignedRequest, verify
from local_oci.identity import Identity
from local_oci.limits import REGISTRY_TOKEN_LIFETIME
from local_oci.services.object_storage.models import NAMESPACE
from local_oci.services.registry.contents import Repositories
from local_oci.services.registry.models import REPOSITORY_TYPE, Repository, parse_image_name
from local_oci.services.users.store import USER_NAME, AuthTokens
from local_oci.storage.records import new_ocid, now

ISSUER = "local_oci"

_ALGORITHM = "RS256"
_KEY_BITS = 2048
_CERTIFICATE_LIFETIME = timedelta(days=36500)  # as long as the home lasts
_LOGIN = "login"  # a claim of our own, which the registry ignores
BEARER_TOKEN = "BEARER_TOKEN"

_FEDERATION = "oracleidentitycloudservice"


class Action(StrEnum):
    """What can be done to a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


ALL_RIGHTS = frozenset({Action.PULL, Action.PUSH})


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one repository."""

    path: str
    actions: Set[Action]

    def claim(self) -> dict[str, object]:
        """An entry of a token's claim `access`."""
        return {"type": "repository", "name": self.path, "actions": sorted(self.actions)}


def parse_scopes(parameters: Iterable[str]) -> list[Scope]:
    """The repositories in `scope` parameters, each of which may hold several, space-separated.

    Other kinds of resources (the catalog, plugins) and other actions are left out: they are
    allowed to no caller.
    """
    texts = [text for parameter in parameters for text in parameter.split()]
    return [scope for scope in map(_parse, texts) if scope is not None]


def _parse(text: str) -> Scope | None:
    kind, _, rest = text.partition(":")
    path, separator, actions = rest.rpartition(":")
    if kind != "repository" or not separator:
        return None
    known = frozenset(Action) & set(actions.split(","))
    return Scope(path, frozenset(Action(action) for action in known))


# --- tokens -----------------------------------------------------------------------------------


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
    """Write the key, then the certificate: a certificate means that both are complete."""
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
    """Issues tokens for one registry."""

    def __init__(self, signing: SigningKey, service: str) -> None:
        self._signing = signing
        self._service = service
        der = signing.certificate.public_bytes(serialization.Encoding.DER)
        self._header = {"x5c": [base64.b64encode(der).decode()]}

    def issue(self, subject: str, access: Iterable[Scope], login: Set[Action] = frozenset()) -> str:
        """A token.

        Args:
            subject: OCID of the user, empty for an anonymous caller.
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
        # RecursionError: its header is JSON that is nested too deep.
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise InvalidTokenError(str(error)) from error
        if _LOGIN not in claims:
            raise InvalidTokenError("the token was not got by a signed request")
        return frozenset(Action(action) for action in claims[_LOGIN])


# --- callers: the one user, by signature or password, or anonymous ----------------------------


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        user: OCID of the user, empty for an anonymous caller.
        rights: what the caller may do to the tenancy's repositories.
        login: what tokens may allow that the caller gets with the answer as a password.
    """

    user: str
    rights: Set[Action]
    login: Set[Action] = frozenset()


ANONYMOUS = Caller("", frozenset())


class Credentials:
    """Finds out who sent a request."""

    def __init__(self, identity: Identity, auth_tokens: AuthTokens, issuer: TokenIssuer) -> None:
        self._user = identity.user
        self._identity = identity
        self._auth_tokens = auth_tokens
        self._issuer = issuer

    def caller(self, request: SignedRequest) -> Caller:
        """Who sent a request.

        Raises:
            ServiceError: 401 NotAuthenticated.
        """
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "":
                return ANONYMOUS
            case "basic":
                return self._by_password(value)
            case _:
                verify(request, self._identity, now())
                return Caller(self._user, ALL_RIGHTS, login=ALL_RIGHTS)

    def _by_password(self, value: str) -> Caller:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError as error:
            raise not_authenticated("the Basic credentials are not text in base64") from error
        if name == BEARER_TOKEN:
            try:
                return Caller(self._user, self._issuer.login(password))
            except InvalidTokenError as error:
                raise not_authenticated(f"the bearer token does not log in: {error}") from error
        if not self._is_user(name):
            raise not_authenticated("the user name is not <namespace>/<user> of this cloud")
        if not self._auth_tokens.accept(password):
            raise not_authenticated("the password is not an auth token of the user")
        return Caller(self._user, ALL_RIGHTS)

    def _is_user(self, name: str) -> bool:
        namespace, _, user = name.partition("/")
        user = user.removeprefix(f"{_FEDERATION}/")
        return namespace == NAMESPACE and user in (USER_NAME, self._user)


class AnonymousError(Exception):
    """An anonymous caller requests what only a user may do."""


class Access:
    """Decides what tokens allow."""

    def __init__(self, identity: Identity, repositories: Repositories) -> None:
        self._identity = identity
        self._repositories = repositories

    def grant(self, caller: Caller, scopes: Iterable[Scope]) -> list[Scope]:
        """What the caller gets of what it asks for; a scope of which nothing is left is dropped.

        Raises:
            AnonymousError: an anonymous caller may only pull what is public.
        """
        granted = [Scope(scope.path, self._allowed(caller, scope)) for scope in scopes]
        return [scope for scope in granted if scope.actions]

    def _allowed(self, caller: Caller, scope: Scope) -> Set[Action]:
        image = parse_image_name(scope.path)
        if image is None or image.tag is not None or image.digest is not None:
            return frozenset()
        repository = self._repositories.named(image.repository)
        if caller == ANONYMOUS:
            if repository is None or not repository.is_public or scope.actions != {Action.PULL}:
                raise AnonymousError
            return scope.actions
        wanted = scope.actions & caller.rights
        if repository is None and not (Action.PUSH in wanted and self._add(image.repository)):
            return frozenset()
        return wanted

    def _add(self, name: str) -> bool:
        """Make the repository of a first push, if that may be; say if it was made."""
        configuration = self._repositories.configuration
        if not configuration.is_repository_created_on_first_push or self._repositories.full:
            return False
        self._repositories.add(
            Repository(
                id=new_ocid(REPOSITORY_TYPE),
                compartment_id=self._identity.tenancy,
                display_name=name,
                created_by=self._identity.user,
                is_public=False,
                is_immutable=False,
            )
        )
        return True
