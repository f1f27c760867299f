"""The login at a registry: kept in memory, handed to the Docker engine's API, written nowhere.

No Docker configuration is needed or changed: the engine takes the login with each push and pull.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or what stands for them at a registry with tokens.

    Attributes:
        bearer: whether the password is a token that the registry itself may take as it is.
    """

    username: str
    password: str = field(repr=False)
    bearer: bool = False

    def auth_config(self) -> dict[str, str]:
        """As the Docker SDK takes it for one push or pull."""
        return {"username": self.username, "password": self.password}


def docker_login(registry: str) -> Credentials | None:
    """What `docker login` left for a registry in the user's Docker configuration, if anything."""
    from docker.auth import load_config
    from docker.errors import DockerException

    try:
        found = load_config().resolve_authconfig(registry)
    except (DockerException, OSError, ValueError):
        return None
    if not found or not found.get("username"):
        return None
    return Credentials(found["username"], found.get("password", ""))
