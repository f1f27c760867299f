"""Who asks for a registry token: the one user, by signature or by password, or nobody."""

from __future__ import annotations

import base64
from collections.abc import Set
from dataclasses import dataclass

from local_oci.http.errors import not_authenticated
from local_oci.http.signatures import SignedRequest, verify
from local_oci.identity import Identity
from local_oci.services.object_storage.models import NAMESPACE
from local_oci.services.registry.auth import InvalidTokenError, TokenIssuer
from local_oci.services.registry.scopes import Action
from local_oci.services.users.models import USER_NAME
from local_oci.services.users.store import AuthTokens
from local_oci.storage.ids import now

BEARER_TOKEN = "BEARER_TOKEN"
ALL_RIGHTS = frozenset({Action.PULL, Action.PUSH})

_FEDERATION = "oracleidentitycloudservice"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        user: OCID of the user, empty for nobody.
        rights: what the caller may do to the tenancy's repositories.
        login: what tokens may allow that the caller gets with the answer as a password.
    """

    user: str
    rights: Set[Action]
    login: Set[Action] = frozenset()


NOBODY = Caller("", frozenset())


class Credentials:
    """Tells who a request comes from.

    Args:
        identity: the one user.
        auth_tokens: the user's passwords.
        issuer: knows the tokens that are passwords as well.
    """

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
                return NOBODY
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
            raise not_authenticated("the password is no auth token of the user")
        return Caller(self._user, ALL_RIGHTS)

    def _is_user(self, name: str) -> bool:
        namespace, _, user = name.partition("/")
        user = user.removeprefix(f"{_FEDERATION}/")
        return namespace == NAMESPACE and user in (USER_NAME, self._user)
