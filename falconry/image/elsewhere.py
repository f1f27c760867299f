"""A registry that is nobody's cloud: named by its host, logged in to as `docker login` left it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from falconry.image.credentials import Credentials, docker_login
from falconry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class AnyRegistry:
    """A registry by its host, which makes repositories with the first push.

    It is door and place in one, since it runs or does not without our doing.
    """

    settings: RegistrySettings

    @property
    def host(self) -> str:
        """As the profile has it."""
        return self.settings.host or ""

    def is_open(self) -> bool:
        """Always: it is not ours to start."""
        return True

    def open(self) -> AnyRegistry:
        """Itself."""
        return self

    def repository(self, name: str) -> str:
        """`<namespace>/<prefix>/<name>`, or without namespace where none is set."""
        parts = (self.settings.namespace, self.settings.prefix, name)
        return "/".join(part for part in parts if part)

    def credentials(self, repository: str) -> Credentials | None:
        """The token of the environment, or what `docker login` left."""
        token = os.environ.get("OCIR_AUTH_TOKEN")
        user = os.environ.get("OCIR_USERNAME") or self.settings.username
        return Credentials(user, token) if token and user else docker_login(self.host)

    def prepare(self, repository: str) -> None:
        """Nothing: the first push makes it."""
