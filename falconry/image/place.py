"""What the image stage needs of a registry, whichever it is."""

from __future__ import annotations

from typing import Protocol

from falconry.image.credentials import Credentials


class Place(Protocol):
    """A registry and our names in it."""

    @property
    def host(self) -> str:
        """The registry's host, with a port where it has one."""

    def repository(self, name: str) -> str:
        """The path of a repository in the registry for an image of this name."""

    def credentials(self, repository: str) -> Credentials | None:
        """The login for a repository, newly asked for where it is a token; None without one.

        Raises:
            FalconryError: there is none to be had.
        """

    def prepare(self, repository: str) -> None:
        """Makes a repository if the registry has to be told of it before a push.

        Raises:
            FalconryError: the registry refuses.
        """


class Door(Protocol):
    """The way to a place that may not be running yet."""

    def is_open(self) -> bool:
        """Whether it can be asked as it is, with nothing started."""

    def open(self) -> Place:
        """The place, started if that is ours to do.

        Raises:
            FalconryError: it cannot be had.
        """
