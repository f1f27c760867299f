"""What a token is asked to allow: `repository:<namespace>/<name>:pull,push`. Pure.

The form is that of Docker distribution's token authentication (docs/spec/auth/scope.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What can be done to a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one repository.

    Args:
        path: its name in the registry, namespace included.
        actions: what is asked for or allowed.
    """

    path: str
    actions: Set[Action]

    def claim(self) -> dict[str, object]:
        """An entry of a token's claim `access`."""
        return {"type": "repository", "name": self.path, "actions": sorted(self.actions)}


def parse_scopes(parameters: Iterable[str]) -> list[Scope]:
    """The repositories in `scope` parameters, each of which may hold several, space-separated.

    Other kinds of resources (the catalog, plugins) and other actions are left out: nobody here is
    allowed any of them.
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
