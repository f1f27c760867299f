"""Finds and removes containers that a killed cloud left in a Docker engine.

A file in the cloud's directory names the engines that may hold some, so that nobody asks an engine
without need, and the right one is asked whatever DOCKER_HOST says by then.
"""

from __future__ import annotations

import contextlib
import json
import os

from local_oci.home import Home
from local_oci.runtime.docker_engine import EngineError, connect, engine_errors_told, engine_host

_HOME_LABEL = "local_oci.home"
_PROCESS_LABEL = "local_oci.process"


def labels_of(home: Home) -> dict[str, str]:
    """The labels of this process's containers."""
    return {_HOME_LABEL: str(home.root), _PROCESS_LABEL: str(os.getpid())}


def remember_engine(home: Home) -> None:
    """To be called before a container is made in the engine that DOCKER_HOST names."""
    known = _known_engines(home)
    if engine_host() not in known:
        unfinished = home.docker_engines.with_suffix(".new")
        unfinished.write_text(json.dumps([*known, engine_host()]))
        unfinished.replace(home.docker_engines)


def remove_left_containers(home: Home) -> int:
    """Remove all containers of a cloud that nobody serves; return how many there were. Blocks.

    Raises:
        EngineError: an engine that may hold some does not answer.
    """
    removed = sum(_remove_from(host, home) for host in _known_engines(home))
    home.docker_engines.unlink(missing_ok=True)
    return removed


def _known_engines(home: Home) -> list[str]:
    if not home.docker_engines.exists():
        return []
    hosts: list[str] = json.loads(home.docker_engines.read_text())
    return hosts


def _remove_from(host: str, home: Home) -> int:
    from docker.errors import APIError, NotFound

    with contextlib.closing(connect(host)) as client, engine_errors_told():
        # Sparse: one that is removed meanwhile must not be an error.
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
