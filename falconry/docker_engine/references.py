"""Image references as Docker reads them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Docker's own default, and the marks by which it takes the first part for a host
# (distribution/reference, normalize.go).
_DOCKER_HUB = "docker.io"
_LOCALHOST = "localhost"
# The Docker engine takes plain HTTP for these and for no others (moby, registry/config.go).
_LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost)(:\d+)?")


def is_loopback(host: str) -> bool:
    """Whether a host, with a port or without, is this machine: no TLS there, and no proxy."""
    return _LOOPBACK.fullmatch(host) is not None


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`[<registry>/]<repository>[:<tag>][@<digest>]`.

    Attributes:
        registry: host with port, empty where the reference names none.
        repository: the path in the registry.
        tag: None where there is none.
        digest: `sha256:<64 hex digits>`, None where there is none.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Takes a reference apart; it is not checked for characters that are not allowed."""
        name, _, digest = text.partition("@")
        path, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:  # the colon of a registry's port
            path, tag = name, ""
        first, slash, rest = path.partition("/")
        if slash and ("." in first or ":" in first or first == _LOCALHOST):
            return cls(first, rest, tag or None, digest or None)
        return cls("", path, tag or None, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def version(self) -> str:
        """What Docker pulls by: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def host(self) -> str:
        """The registry that is asked; Docker Hub where the reference names none."""
        return self.registry or _DOCKER_HUB

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"
