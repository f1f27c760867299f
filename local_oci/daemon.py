"""A detached server, from outside: options to serve, start, stop, status.

A server runs if its lock is held, or if a process has its directory in its command line: the
directory, with the lock in it, can be deleted while the server runs.
"""

from __future__ import annotations

import json
import os
import resource
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
from local_oci import processes
from local_oci.home import Home, HomeError, Lock, is_locked
from local_oci.limits import STOP_GRACE_SECONDS
from local_oci.processes import Process
from local_oci.runtime.docker_engine import (
    EngineError,
    remove_containers_of_deleted,
    remove_left_containers,
)
from local_oci.version import running_code

ALREADY_SERVED = 3  # exit status of `serve` when another process has the directory

_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 2 * STOP_GRACE_SECONDS + 10.0
_ANSWER_TIMEOUT_SECONDS = 8.0
_LOCK_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.02
# All that a server gets of the environment that starts it: how Python and its programs are found,
# and which Docker engine runs containers. No tokens and passwords.
_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("DOCKER_API_VERSION", "XDG_RUNTIME_DIR"),
)
# A cloud with a few deployments and clients has some dozens open, and what it runs needs more.
_LEAST_OPEN_FILES = 256
_ENOUGH_OPEN_FILES = 8192


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

    A server of other code is replaced.

    Raises:
        DaemonError: it did not start, and nothing is left running; or a server runs and is silent.
    """
    try:
        allow_open_files()
        home.prepare()
    except (HomeError, ServeError) as error:
        raise DaemonError(str(error)) from error
    server: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if running := _running_server(home):
            if running.code == running_code().digest:
                return running.endpoint
            stop(home)
            deadline = time.monotonic() + _START_TIMEOUT_SECONDS
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


def allow_open_files() -> None:
    """Let this process and those it starts open as many files as they need, if that is allowed.

    Raises:
        ServeError: too few are allowed.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if most != unlimited and most < _LEAST_OPEN_FILES:
        raise ServeError(
            f"a process may open {most} files here, and a cloud needs {_LEAST_OPEN_FILES}; allow "
            f"more: ulimit -n {4 * _LEAST_OPEN_FILES}"
        )
    enough = _ENOUGH_OPEN_FILES if most == unlimited else min(most, _ENOUGH_OPEN_FILES)
    if allowed != unlimited and allowed < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))


def stop(home: Home) -> bool:
    """End the server and all its processes and containers, by force if need be.

    Returns:
        Whether there was one of them.

    Raises:
        DaemonError: a process does not end even by SIGKILL, or containers may be left.
    """
    servers = processes.servers_of(home.root)
    _refuse_stuck(home, processes.end(servers, _STOP_TIMEOUT_SECONDS))
    if not home.lock.exists():  # never served, or the directory was deleted
        left = _end_helpers(home)
        removed = 0 if home.root.exists() else remove_containers_of_deleted(home)
        return bool(servers or left or removed)
    with _held(home):
        # Under the lock: a new server must lose neither its processes nor its containers.
        left = _end_helpers(home)
        removed = _remove_containers(home)
    return bool(servers or left or removed)


def _end_helpers(home: Home) -> list[Process]:
    """Kill what a server left, which ends with it unless it is stopped or the kernel is slow."""
    found = processes.helpers_of(home.root)
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while left := processes.helpers_of(home.root):  # a killed process may have started others
        _refuse_stuck(home, processes.kill(left))
        if time.monotonic() > deadline:
            raise DaemonError(f"{home.root}: its processes do not end; run the same again")
    return found


def _refuse_stuck(home: Home, left: Sequence[Process]) -> None:
    if left:
        raise DaemonError(f"{home.root}: process {left[0].id} does not end, even by SIGKILL")


def _remove_containers(home: Home) -> int:
    try:
        return remove_left_containers(home)
    except EngineError as error:
        raise DaemonError(
            f"nothing runs any more, but containers of {home.root} may be left: {error}; if "
            f"that engine is gone for good, remove {home.docker_engines}"
        ) from error


def running_endpoint(home: Home) -> str | None:
    """The endpoint of the server that runs, if there is one.

    Raises:
        DaemonError: it does not answer.
    """
    server = _running_server(home)
    return None if server is None else server.endpoint


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that answers.

    Args:
        code: digest of its files; empty where they have changed since, or it is too old to say.
    """

    endpoint: str
    code: str


def _running_server(home: Home) -> _Server | None:
    """The server that runs and answers, if there is one.

    Raises:
        DaemonError: one runs and does not answer.
    """
    if not is_locked(home.lock) or not home.endpoint.exists():
        return None
    endpoint = home.endpoint.read_text()
    try:
        with _open(home, f"{endpoint}/_local/health", _ANSWER_TIMEOUT_SECONDS) as response:
            health = json.load(response)
    except urllib.error.HTTPError as error:  # of a version with other requests
        error.close()
        return _Server(endpoint, "")
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise _silent(home) from error
        return None
    if not isinstance(health, dict) or health.get("directory") != str(home.root):
        return None
    return _Server(endpoint, "" if health.get("outdated", True) else health.get("code", ""))


def _silent(home: Home) -> DaemonError:
    servers = processes.servers_of(home.root)
    which = f"process {servers[0].id} serves it" if servers else "its server runs"
    how = " and is stopped" if any(server.is_stopped for server in servers) else ""
    return DaemonError(
        f"{home.root}: {which}{how}, but does not answer within {_ANSWER_TIMEOUT_SECONDS:g} s; "
        f"end it: {sys.executable} -m local_oci stop --directory {home.root}"
    )


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
def _held(home: Home) -> Iterator[None]:
    lock = Lock(home.lock)
    if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
        raise DaemonError(f"{home.root} is being served again; run the same again")
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


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"the server ended without a word; see {log}"


def _open(home: Home, url: str, timeout: float, method: str = "GET") -> HTTPResponse:
    """Ask without a proxy, whatever the environment says: it is this machine."""
    request = urllib.request.Request(url, headers=home.local_headers(), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response
