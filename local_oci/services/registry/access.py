"""Who may do what to which repository."""

from __future__ import annotations

from collections.abc import Iterable, Set

from local_oci.identity import Identity
from local_oci.services.registry.credentials import NOBODY, Caller
from local_oci.services.registry.models import REPOSITORY_TYPE, Repository
from local_oci.services.registry.names import parse_image_name
from local_oci.services.registry.scopes import Action, Scope
from local_oci.services.registry.store import Repositories
from local_oci.storage.ids import new_ocid


class AnonymousError(Exception):
    """Nobody asks for what only a user may do."""


class Access:
    """Decides what tokens allow.

    Args:
        identity: whose repositories they are.
        repositories: the tenancy's repositories; a push may add to them.
    """

    def __init__(self, identity: Identity, repositories: Repositories) -> None:
        self._identity = identity
        self._repositories = repositories

    def grant(self, caller: Caller, scopes: Iterable[Scope]) -> list[Scope]:
        """What the caller gets of what it asks for; a scope of which nothing is left is dropped.

        Raises:
            AnonymousError: the caller is nobody, and asks for more than to pull what is public.
        """
        granted = [Scope(scope.path, self._allowed(caller, scope)) for scope in scopes]
        return [scope for scope in granted if scope.actions]

    def _allowed(self, caller: Caller, scope: Scope) -> Set[Action]:
        image = parse_image_name(scope.path)
        if image is None or image.tag is not None or image.digest is not None:
            return frozenset()
        repository = self._repositories.named(image.repository)
        if caller == NOBODY:
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
