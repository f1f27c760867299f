"""Starts, stops and queries local_oci, the emulation of OCI."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from falconry.data_files import CODE_DIRECTORY
from falconry.errors import CloudError, MachineError
from falconry.settings import EmulatorSettings

_ENDPOINT = "endpoint"
_REGISTRY_HOST = "registry-host"
_ISOLATION = "isolation"


def endpoint(emulator: EmulatorSettings) -> str | None:
    """Returns the URL that the emulator last wrote, if any."""
    return _read(emulator.directory / _ENDPOINT)


def answers(emulator: EmulatorSettings) -> bool:
    """Whether the emulator runs: connects to its port, without a request."""
    url = urlsplit(endpoint(emulator) or "")
    if url.hostname is None or url.port is None:
        return False
    try:
        socket.create_connection((url.hostname, url.port), timeout=2).close()
    except OSError:
        return False
    return True


def is_stopped(emulator: EmulatorSettings | None) -> bool:
    """Whether a profile has an emulator that does not run."""
    return emulator is not None and not answers(emulator)


def registry_host(emulator: EmulatorSettings) -> str | None:
    """Returns the host of the emulator's container registry, if any."""
    return _read(emulator.directory / _REGISTRY_HOST)


def shows_this_machine(emulator: EmulatorSettings) -> bool:
    """Whether deployments that run as processes see this machine's files."""
    return _read(emulator.directory / _ISOLATION) == "plain"


def start(
    emulator: EmulatorSettings,
    *,
    process_images: Mapping[str, Path] | None = None,
    registry: bool = False,
) -> str:
    """Starts the emulator unless it runs, and returns its URL.

    Args:
        emulator: where it keeps its state, and its port.
        process_images: directories to run instead of the images of these names.
        registry: whether it has a container registry.

    Raises:
        MachineError: the emulator does not start, for instance because its port is taken.
    """
    images = process_images or {}
    return _run(
        "start",
        *("--directory", str(emulator.directory.absolute())),
        *("--port", str(emulator.port)),
        *("--isolation", emulator.isolation),
        *(f"--image={name}={path.absolute()}" for name, path in images.items()),
        *(["--registry"] if registry else []),
    )


def stop(emulator: EmulatorSettings) -> None:
    """Stops the emulator, if it runs, and all of its deployments."""
    _run("stop", "--directory", str(emulator.directory.absolute()))


def require_endpoint(emulator: EmulatorSettings) -> str:
    """Returns the running emulator's URL.

    Raises:
        CloudError: it is not running.
    """
    url = endpoint(emulator)
    if url is None or not answers(emulator):
        raise CloudError("the local cloud is not running", remedy="run: make deploy")
    return url


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _run(*arguments: str) -> str:
    """Runs local_oci's command line and returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", "local_oci", *arguments],
        cwd=CODE_DIRECTORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        reason = (result.stderr.strip() or result.stdout.strip()).removeprefix("local_oci: ")
        raise MachineError(f"the local cloud did not {arguments[0]} cleanly: {reason}")
    return result.stdout.strip()


# --- its check of the container contract ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContainerCheck:
    """What to run under the container contract.

    Attributes:
        artifact: a zip, or a directory with what would be in one.
        command: replaces the image's unless empty.
        environment: of the deployment; no secrets, since it is on a command line.
        port: of the server and the health check.
        timeout_s: until it must be healthy; None for the cloud's limit.
    """

    image: str
    artifact: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    timeout_s: int | None = None


def run_contract_check(check: ContainerCheck, *, as_json: bool) -> bool:
    """Runs a check, which prints findings; returns whether it passed."""
    words = [f"--image={check.image}", f"--artifact={check.artifact.absolute()}"]
    words += [f"--port={check.port}"]
    words += [f"--cmd={word}" for word in check.command]
    words += [f"--env={name}={value}" for name, value in check.environment.items()]
    words += [f"--timeout={check.timeout_s}"] if check.timeout_s else []
    words += ["--json"] if as_json else []
    command = [sys.executable, "-m", "local_oci", "check-image", *words]
    return subprocess.run(command, cwd=CODE_DIRECTORY, check=False).returncode == 0
