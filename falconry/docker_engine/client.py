"""A client of the Docker engine, and what it means when the engine does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from falconry.errors import MachineError

if TYPE_CHECKING:
    from docker.client import DockerClient

_INSTALL = "install Docker and start it, or name its engine in DOCKER_HOST"


def connect() -> DockerClient:
    """A client of the engine that DOCKER_HOST, DOCKER_CONTEXT or the current context names.

    Raises:
        MachineError: no engine answers there, or this user may not ask it.
    """
    from docker.client import from_env
    from docker.errors import DockerException

    try:
        return from_env()
    except (DockerException, OSError, ValueError) as error:
        if "Permission denied" in str(error):
            raise MachineError(
                "this user may not use the Docker engine",
                remedy="add the user to the group docker and log in again",
            ) from None
        raise MachineError("no Docker engine answers", remedy=_INSTALL) from None


@contextlib.contextmanager
def engine_errors_told() -> Iterator[None]:
    """Turns a lost connection, and a refusal that nobody expected, into a `MachineError`."""
    from docker.errors import APIError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:  # a RequestException too
        raise MachineError(f"the Docker engine refuses ({error.explanation or error})") from None
    except (RequestException, HTTPError, ConnectionError):
        raise MachineError(
            "the Docker engine stopped answering", remedy="see that it runs and run again"
        ) from None
