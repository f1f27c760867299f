"""The checks that run an image: throwaway containers, locked up as far as Docker can.

Their entrypoint is replaced, so the server does not start. The engine removes a container when it
ends, even if nobody is left to ask for it. One that a killed run had not started yet is removed by
the next run.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from falconry.docker_engine import containers
from falconry.docker_engine.owners import owner_labels, remove_abandoned
from falconry.image.image_checks import is_root
from falconry.image.preflight.findings import Finding

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

LABEL = "io.falconry.preflight"

_TMPFS = {"/tmp": "rw,nosuid,nodev,mode=1777"}
_MOST_PROCESSES = 64
_MOST_TOLD = 200
_REMOVAL_S = 10


def running_findings(client: DockerClient, image_id: str) -> Iterator[Finding]:
    """Runs an image as its own user: no network, no capabilities, read-only but for /tmp.

    Args:
        client: of the engine.
        image_id: `sha256:...`.

    Raises:
        MachineError: the engine does not answer.
    """
    remove_abandoned(client, LABEL)
    yield _curl(_said(client, image_id, ["curl", "--version"]))
    yield _user(_said(client, image_id, ["id", "-u"]))


def _curl(said: str) -> Finding:
    if said.startswith("curl "):
        return Finding("curl", " ".join(said.split()[:2]))
    return Finding(
        "curl",
        "none",
        f"curl does not run in it, and OCI's health check needs it ({_told(said)})",
        "install curl in the Dockerfile, where its USER can run it",
    )


def _user(said: str) -> Finding:
    if said.strip().isdecimal() and not is_root(said):
        return Finding("running user", said.strip())
    problem = "it runs as root" if is_root(said) else f"its user is not known ({_told(said)})"
    remedy = "add USER with a number other than 0 to the end of the Dockerfile"
    return Finding("running user", said.strip() or "unknown", problem, remedy)


def _said(client: DockerClient, image_id: str, command: list[str]) -> str:
    """What a command says in the image, both streams together; or why it did not start."""
    container = None
    try:
        container = containers.create(
            client,
            image_id,
            entrypoint=command,
            command=[],
            name=f"falconry-preflight-{secrets.token_hex(4)}",
            labels={LABEL: image_id, **owner_labels()},
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs=_TMPFS,
            pids_limit=_MOST_PROCESSES,
            log_config={"Type": "none"},
            healthcheck={"test": ["NONE"]},
            mounts=[],
            gpus=None,
            auto_remove=True,
        )
        return b"".join(containers.output_of(container)).decode("utf-8", "replace")
    except containers.RefusalError as refusal:
        return refusal.problem
    finally:
        if container:
            containers.discard(container)
            _wait_until_gone(container)


def _wait_until_gone(container: Container) -> None:
    """Waits for a removal that the engine began by itself and that `discard` so could not."""
    from docker.errors import DockerException
    from requests import RequestException

    with contextlib.suppress(DockerException, RequestException):
        container.wait(condition="removed", timeout=_REMOVAL_S)


def _told(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= _MOST_TOLD else f"{line[:_MOST_TOLD]}..."
