"""A client of the Docker engine, its errors in one sentence, and containers left there.

The SDK is imported by the functions that need it, since importing it takes time. A file in the
cloud's directory names the engines that may hold left containers, so that no engine is queried
without need, and the right one is, whatever DOCKER_HOST says by then.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from local_oci.home import Home, write_secret

if TYPE_CHECKING:
    from docker.client import DockerClient

_TIMEOUT_SECONDS = 60.0
_FIRST_ANSWER_SECONDS = 8.0
_NO_ENGINE = "no Docker engine answers{}; start Docker, or name its engine in DOCKER_HOST"
_NO_TIMELY_ANSWER = (
    "the Docker engine{} does not answer in time; restart it, or name another in DOCKER_HOST"
)
_HOME_LABEL = "local_oci.home"
_PROCESS_LABEL = "local_oci.process"


class EngineError(Exception):
    """An engine that does not answer; the text says so."""


def engine_host() -> str:
    """What DOCKER_HOST says; empty where the SDK finds the engine on its own."""
    return os.environ.get("DOCKER_HOST", "")


def connect(host: str = "", timeout: float = _TIMEOUT_SECONDS) -> DockerClient:
    """A client of an engine; the caller closes it. Blocks.

    Args:
        host: a DOCKER_HOST; the engine that the environment names if it is empty.
        timeout: seconds that the engine may be silent, less for its first answer.

    Raises:
        EngineError: none answers.
    """
    from docker.client import DockerClient, from_env

    first = min(timeout, _FIRST_ANSWER_SECONDS)
    with translate_engine_errors(host or engine_host()):
        client: DockerClient = (
            DockerClient(base_url=host, timeout=first) if host else from_env(timeout=first)
        )
        client.ping()
        client.api.timeout = timeout
        return client


@contextmanager
def translate_engine_errors(host: str = "") -> Iterator[None]:
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
        if "timed out" in str(error):
            raise EngineError(_NO_TIMELY_ANSWER.format(f" at {host}" if host else "")) from error
        raise EngineError(_NO_ENGINE.format(f" at {host}" if host else "")) from error


# --- containers that a killed cloud left ------------------------------------------------------


def labels_of(home: Home) -> dict[str, str]:
    """The labels of this process's containers."""
    return {_HOME_LABEL: str(home.root), _PROCESS_LABEL: str(os.getpid())}


def remember_engine(home: Home) -> None:
    """To be called before a container is made in the engine that DOCKER_HOST names."""
    known = _known_engines(home)
    if engine_host() not in known:
        write_secret(home.docker_engines, json.dumps([*known, engine_host()]).encode())


def remove_left_containers(home: Home) -> int:
    """Remove all containers of a cloud without a server; return how many there were. Blocks.

    Raises:
        EngineError: an engine that may hold some does not answer.
    """
    removed = sum(_remove_from(host, home) for host in _known_engines(home))
    home.docker_engines.unlink(missing_ok=True)
    return removed


def remove_containers_of_deleted(home: Home) -> int:
    """Remove the containers of a cloud whose directory was deleted; return how many. Blocks.

    Which engines they are in is not known any more: they are removed from the engine that
    DOCKER_HOST names, if there is one.
    """
    with contextlib.suppress(EngineError):
        return _remove_from(engine_host(), home)
    return 0


def _known_engines(home: Home) -> list[str]:
    if not home.docker_engines.exists():
        return []
    try:
        return [str(host) for host in json.loads(home.docker_engines.read_text())]
    except (ValueError, TypeError) as error:
        raise EngineError(
            f"{home.docker_engines}, which names the engines, is damaged; remove it"
        ) from error


def _remove_from(host: str, home: Home) -> int:
    from docker.errors import APIError, NotFound

    with contextlib.closing(connect(host)) as client, translate_engine_errors():
        # Sparse: a container that is removed meanwhile must not be an error.
        containers = client.containers.list(
            all=True, sparse=True, filters={"label": f"{_HOME_LABEL}={home.root}"}
        )
        for container in containers:
            try:
                container.remove(force=True, v=True)
            except NotFound:
                continue
            except APIError as error:
                raise EngineError(
                    f"container {container.short_id} cannot be removed: {error.explanation}"
                ) from error
    return len(containers)
