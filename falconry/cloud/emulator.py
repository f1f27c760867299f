"""Starts, stops and queries local_oci, the emulation of OCI."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from falconry import files
from falconry.data_files import CODE_DIRECTORY
from falconry.errors import CloudError, MachineError
from falconry.settings import EmulatorSettings

_ENDPOINT = "endpoint"
_LOCK = "lock"
_TOKEN = "local-token"
_REGISTRY_HOST = "registry-host"
_ISOLATION = "isolation"
_HEALTH = "/_local/health"
_STOPPED = "stopped"  # what its command `stop` prints, unless nothing ran
_CONNECT_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 8.0
_COMMAND_TIMEOUT_S = 150  # longer than the command's own limits
_LOOK_S = 1.0
_ANSWER_HOLDS_S = 5.0
_RESTART_S = 30  # a start takes seconds, also on a busy machine
_LONGEST_PAUSE_S = 30.0  # more than between two attempts of one request
_answered: dict[str, tuple[float, Mapping[str, Any]]] = {}  # by URL: when, and what
# By directory: when it was first and last found not to run.
_absences: dict[Path, tuple[float, float]] = {}


def endpoint(emulator: EmulatorSettings) -> str | None:
    """Returns the URL that the emulator last wrote, if any."""
    return _read(emulator.directory / _ENDPOINT)


def is_stopped(emulator: EmulatorSettings | None) -> bool:
    """Whether a profile has an emulator that does not run; connects, without a request."""
    if emulator is None:
        return False
    url = urlsplit(endpoint(emulator) or "")
    if url.hostname is None or url.port is None:
        return True
    try:
        socket.create_connection((url.hostname, url.port), timeout=_CONNECT_TIMEOUT_S).close()
    except TimeoutError:  # so many wait for it already
        return False
    except OSError:
        return True
    return False


def answers(emulator: EmulatorSettings) -> bool:
    """Whether the emulator runs, by one request.

    Raises:
        CloudError: it runs and does not answer.
    """
    return not is_stopped(emulator) and _health(emulator) is not None


def require_return(emulator: EmulatorSettings) -> None:
    """Returns while the emulator answers, or may be about to be started again.

    Raises:
        CloudError: it runs and does not answer, or it has not run for a while.
    """
    _answered.clear()
    if answers(emulator):
        return
    now = time.monotonic()
    first, last = _absences.get(emulator.directory, (now, now))
    if now - last > _LONGEST_PAUSE_S:  # it was there between
        first = now
    _absences[emulator.directory] = first, now
    if now - first > _RESTART_S:
        raise CloudError(
            f"the local cloud has ended, and has not been started again for {_RESTART_S} s",
            where=emulator.directory,
            remedy="run: make deploy",
        )


def why_start(emulator: EmulatorSettings | None) -> str | None:
    """Says why a profile's emulator has to be started; None if it need not be.

    Raises:
        CloudError: it runs and does not answer.
    """
    if emulator is None:
        return None
    health = None if is_stopped(emulator) else _health(emulator)
    if health is None:
        return "the local cloud is not running"
    return "the local cloud runs older code" if health.get("outdated") else None


def _health(emulator: EmulatorSettings) -> Mapping[str, Any] | None:
    """What the emulator says of itself, or said a moment ago; None if it does not run."""
    url = endpoint(emulator) or ""
    if url in _answered and time.monotonic() < _answered[url][0] + _ANSWER_HOLDS_S:
        return _answered[url][1]
    address = urlsplit(url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=_ANSWER_TIMEOUT_S
    )
    try:
        token = _read(emulator.directory / _TOKEN) or ""
        connection.request("GET", _HEALTH, headers={"authorization": f"Bearer {token}"})
        said = json.loads(connection.getresponse().read())
    except TimeoutError:
        raise CloudError(
            f"the local cloud{_holder(emulator)} does not answer within {_ANSWER_TIMEOUT_S:g} s",
            where=emulator.directory,
            remedy="end it and start it again: make down, make deploy",
        ) from None
    except (OSError, http.client.HTTPException):
        return None
    except ValueError:
        said = None
    finally:
        connection.close()
    health = said if isinstance(said, dict) else {}
    _answered[url] = time.monotonic(), health
    return health


def _holder(emulator: EmulatorSettings) -> str:
    """The emulator's process, for messages."""
    process = _read(emulator.directory / _LOCK)
    return f" (process {process})" if process else ""


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
    _answered.clear()
    return _run(
        "start",
        *("--directory", str(emulator.directory.absolute())),
        *("--port", str(emulator.port)),
        *("--isolation", emulator.isolation),
        *(f"--image={name}={path.absolute()}" for name, path in images.items()),
        *(["--registry"] if registry else []),
    )


def stop(emulator: EmulatorSettings) -> bool:
    """Ends the emulator and all of its deployments, by force if need be.

    Its processes are found also where its directory was deleted. Returns whether anything ran.
    """
    _answered.clear()
    return _run("stop", "--directory", str(emulator.directory.absolute())) == _STOPPED


def require_endpoint(emulator: EmulatorSettings) -> str:
    """Returns the running emulator's URL.

    Raises:
        CloudError: it is not running, or does not answer.
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
    process = subprocess.Popen(
        [sys.executable, "-m", "local_oci", *arguments],
        cwd=CODE_DIRECTORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            output, errors = _outcome(process, arguments[0])
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = (errors.strip() or output.strip()).splitlines()
        reason = (said or [f"status {process.returncode}"])[-1].removeprefix("local_oci: ")
        raise MachineError(f"the local cloud did not {arguments[0]} cleanly: {reason}")
    return output.strip()


def _outcome(process: subprocess.Popen[str], command: str) -> tuple[str, str]:
    """Waits for a command, unless a signal has stopped it; gives what it printed."""
    deadline = time.monotonic() + _COMMAND_TIMEOUT_S
    while True:
        try:
            return process.communicate(timeout=_LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        if files.is_stopped(process.pid):
            raise MachineError(
                f"the local cloud did not {command}: process {process.pid} is stopped",
                remedy="run the same again",
            )
        if time.monotonic() > deadline:
            raise MachineError(
                f"the local cloud did not {command} within {_COMMAND_TIMEOUT_S} s",
                remedy="run the same again",
            )


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
