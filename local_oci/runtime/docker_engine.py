"""The door to the Docker engine: a client of it, and its errors in one sentence.

The SDK is imported by the functions that need it, since importing it takes time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker.client import DockerClient

_TIMEOUT_SECONDS = 60.0
_NO_ENGINE = "no Docker engine answers{}; start Docker, or name its engine in DOCKER_HOST"


class EngineError(Exception):
    """An engine that does not answer; the text says so."""


def engine_host() -> str:
    """What DOCKER_HOST says; empty where the SDK finds the engine by itself."""
    return os.environ.get("DOCKER_HOST", "")


def connect(host: str = "", timeout: float = _TIMEOUT_SECONDS) -> DockerClient:
    """A client of an engine; whoever asks for it closes it. Blocks.

    Args:
        host: a DOCKER_HOST; the engine that the environment names if it is empty.
        timeout: seconds that the engine may be silent.

    Raises:
        EngineError: none answers.
    """
    from docker.client import DockerClient, from_env

    with engine_errors_told(host or engine_host()):
        client: DockerClient = (
            DockerClient(base_url=host, timeout=timeout) if host else from_env(timeout=timeout)
        )
        client.ping()
        return client


@contextmanager
def engine_errors_told(host: str = "") -> Iterator[None]:
    """Turn the SDK's errors, except refusals by the engine, into an `EngineError` that names it."""
    from docker.errors import APIError, DockerException
    from requests import RequestException

    try:
        yield
    except APIError:
        raise
    except (DockerException, RequestException, OSError) as error:
        if "Permission denied" in str(error):
            raise EngineError("this user may not use the Docker engine") from error
        raise EngineError(_NO_ENGINE.format(f" at {host}" if host else "")) from error
