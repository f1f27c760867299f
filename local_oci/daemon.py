"""A detached server, from outside: options to serve, start, stop, status.

A server runs if its lock is held. The process id in the lock's file counts only while the lock is
held, and then it is the holder's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import local_oci
from local_oci.home import Home, HomeError, Lock, is_locked
from local_oci.limits import STOP_GRACE_SECONDS
from local_oci.runtime.docker_engine import EngineError, remove_left_containers

ALREADY_SERVED = 3  # exit status of `serve` when another process has the directory

_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 2 * STOP_GRACE_SECONDS + 10.0
_ANSWER_TIMEOUT_SECONDS = 5.0
_HOLDER_TIMEOUT_SECONDS = 1.0
_POLL_SECONDS = 0.02
# All that a server gets of the environment that starts it: how Python and its programs are found,
# and which Docker engine runs containers. Nobody's tokens and passwords.
_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("DOCKER_API_VERSION", "XDG_RUNTIME_DIR"),
)


class ServeError(Exception):
    """Why a cloud cannot be served; one sentence."""


class AlreadyServedError(ServeError):
    """Another process serves the directory."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve a cloud.

    Args:
        port: port to listen on; 0 for that of the last run, or any free one.
        isolation: "auto", "namespaces" or "plain".
        start_timeout: seconds that a container has to become healthy.
        stop_grace: seconds between SIGTERM and SIGKILL when a container is stopped.
        registry: whether to serve a container registry as well; a home that had one has one.
    """

    home: Home
    host: str
    port: int
    images: Mapping[str, Path]
    isolation: str
    start_timeout: float
    stop_grace: int
    registry: bool


class DaemonError(Exception):
    """Why a server could not be started or stopped; one sentence."""


def start(home: Home, serve_arguments: Sequence[str]) -> str:
    """Start `serve` in a session of its own, or find the server that runs; return its endpoint.

    Raises:
        DaemonError: it did not start, and nothing is left running; or another version serves.
    """
    try:
        home.prepare()
    except HomeError as error:
        raise DaemonError(str(error)) from error
    server: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if running := _running_server(home):
            endpoint, generation = running
            if generation != local_oci.GENERATION:
                raise DaemonError(
                    f"{home.root} is served by another version of local_oci; stop it, and start it "
                    f"again: {sys.executable} -m local_oci stop --directory {home.root}"
                )
            return endpoint
        if server is None or server.poll() == ALREADY_SERVED:
            if not is_locked(home.lock):
                server = _spawn(home, serve_arguments)
        elif server.poll() is not None:
            raise DaemonError(_last_line(home.log))
        time.sleep(_POLL_SECONDS)
    if server is not None:
        server.terminate()
        server.wait()
    raise DaemonError(f"{home.root}: no answer within {_START_TIMEOUT_SECONDS:g} s; see {home.log}")


def stop(home: Home) -> bool:
    """Stop the server and wait until it and all its processes and containers are gone.

    Returns:
        Whether there was a server, or a container that a killed one left.

    Raises:
        DaemonError: it does not end, or containers may be left.
    """
    was_running = is_locked(home.lock)
    if was_running and (process := _holder(home)):
        os.kill(process, signal.SIGTERM)
    if not home.lock.exists():
        return False
    with _held(home, home.lock), _held(home, home.processes):
        # Under the lock: a new server must not lose its containers.
        try:
            removed = remove_left_containers(home)
        except EngineError as error:
            raise DaemonError(
                f"nothing runs any more, but containers of {home.root} may be left: {error}; if "
                f"that engine is gone for good, remove {home.docker_engines}"
            ) from error
    return was_running or removed > 0


def running_endpoint(home: Home) -> str | None:
    """The endpoint of the server that runs and answers, if there is one."""
    server = _running_server(home)
    return None if server is None else server[0]


def _running_server(home: Home) -> tuple[str, int | None] | None:
    """Endpoint and generation of the server that runs and answers, if there is one."""
    if not is_locked(home.lock) or not home.endpoint.exists():
        return None
    endpoint = home.endpoint.read_text()
    try:
        with _open(home, f"{endpoint}/_local/health") as response:
            health = json.load(response)
    except (OSError, ValueError):
        return None
    return (endpoint, health.get("generation")) if health["directory"] == str(home.root) else None


def require_registry(home: Home, endpoint: str) -> None:
    """Have a server start its container registry, unless that runs.

    Raises:
        DaemonError: it cannot; the server runs on without.
    """
    url = f"{endpoint}/_local/registry"
    try:
        _open(home, url, _START_TIMEOUT_SECONDS, method="POST").close()
    except urllib.error.HTTPError as error:
        with error:
            raise DaemonError(json.load(error)["message"]) from error
    except OSError as error:
        raise DaemonError(f"{endpoint} does not answer: {error}") from error


@contextmanager
def _held(home: Home, path: Path) -> Iterator[None]:
    lock = Lock(path)
    if not lock.acquire(_STOP_TIMEOUT_SECONDS):
        raise DaemonError(f"{home.root}: the server does not end; see {home.log}")
    try:
        yield
    finally:
        lock.release()


def _spawn(home: Home, serve_arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    with open(home.log, "ab", opener=_owner_only) as log:
        return subprocess.Popen(
            [sys.executable, "-m", "local_oci", "serve", *serve_arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(local_oci.__file__).parents[1],
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,
        )


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _holder(home: Home) -> int | None:
    """The process that holds the lock.

    It writes its id right after it has the lock. Until then the file holds its predecessor's, so
    a process counts only if it has the file open.
    """
    deadline = time.monotonic() + _HOLDER_TIMEOUT_SECONDS
    while is_locked(home.lock) and time.monotonic() < deadline:
        text = home.lock.read_text()
        if text and _has_open(int(text), home.lock):
            return int(text)
        time.sleep(_POLL_SECONDS)
    return None


def _has_open(process: int, path: Path) -> bool:
    try:
        return any(link.readlink() == path for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"the server ended without a word; see {log}"


def _open(
    home: Home, url: str, timeout: float = _ANSWER_TIMEOUT_SECONDS, method: str = "GET"
) -> HTTPResponse:
    """Ask without a proxy, whatever the environment says: it is this machine."""
    request = urllib.request.Request(url, headers=home.local_headers(), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response
