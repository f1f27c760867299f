"""The process of Debian's docker-registry (Docker distribution 2.8): configured, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

import local_oci
from local_oci.home import Home, Lock
from local_oci.runtime.runner import PLAIN_HTTP
from local_oci.services.registry.auth import ISSUER

ADDRESS = "127.0.0.1"
TOKEN_PATH = "/20180419/docker/token"

_PROGRAM = "docker-registry"
_PORT = re.compile(r"[0-9]{1,5}")
_START_TIMEOUT_SECONDS = 15.0
_STOP_TIMEOUT_SECONDS = 5.0
_LOCK_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.02
_CHECK_SECONDS = 5.0
_ANSWER_TIMEOUT_SECONDS = 5.0
_MOST_SILENCES = 2
_RESTART_PAUSE_SECONDS = 1.0

_log = logging.getLogger("local_oci.registry")


@dataclass(frozen=True, slots=True)
class RegistryFiles:
    """The paths of one registry, all below `directory`."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """docker-registry's configuration, written at every start."""
        return self.directory / "config.yml"

    @property
    def key(self) -> Path:
        """Private key that signs the tokens."""
        return self.directory / "key.pem"

    @property
    def certificate(self) -> Path:
        """Certificate of that key, which docker-registry trusts."""
        return self.directory / "certificate.pem"

    @property
    def storage(self) -> Path:
        """Manifests and blobs, as docker-registry lays them out."""
        return self.directory / "storage"

    @property
    def log(self) -> Path:
        """What docker-registry has to say: errors, no requests."""
        return self.directory / "log"

    @property
    def port(self) -> Path:
        """Holds the port of the last run, so that image references outlive a restart."""
        return self.directory / "port"

    def choose_host(self) -> str:
        """Where to listen: at the port of the last run if it is free, else at any that is."""
        wanted = self.port.read_text(errors="replace") if self.port.exists() else ""
        port = self._free_port(int(wanted) if _PORT.fullmatch(wanted) else 0)
        self.port.write_text(str(port))
        return f"{ADDRESS}:{port}"

    def _free_port(self, wanted: int) -> int:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, wanted))
            except (OSError, OverflowError):
                return self._free_port(0)
            port: int = probe.getsockname()[1]
            return port


class RegistryError(Exception):
    """Why there is no container registry; one sentence."""


def find_program() -> str:
    """The path of docker-registry.

    Raises:
        RegistryError: it is not installed.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise RegistryError(
            f"the container registry needs the program {_PROGRAM}; "
            f"install it: apt-get install {_PROGRAM}"
        )
    return program


class RegistryProcess:
    """A docker-registry that runs until it is stopped, and no longer than this process."""

    def __init__(self, home: Home, program: str, host: str, endpoint: str) -> None:
        self._home = home
        self._files = RegistryFiles(home.registry)
        self._program = program
        self._host = host
        self._endpoint = endpoint
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RegistryError: it does not; nothing is left running.
        """
        content = _configuration(self._files, self._host, self._endpoint)
        with open(self._files.configuration, "w", opener=_owner_only) as file:
            json.dump(content, file, indent=2)  # JSON is YAML
        child = await self._launch()
        self._watch = asyncio.create_task(self._watch_over(child))

    async def stop(self) -> None:
        """End it."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})

    async def _watch_over(self, child: asyncio.subprocess.Process) -> None:
        """Start it again whenever it ends or is silent; end it when this task is cancelled."""
        try:
            while True:
                what = await self._lost(child)
                self._withdraw_host()
                _log.error("%s %s and is started again; see %s", _PROGRAM, what, self._files.log)
                await asyncio.sleep(_RESTART_PAUSE_SECONDS)
                with contextlib.suppress(RegistryError, OSError):  # the loop says so once more
                    child = await self._launch()
        finally:
            self._withdraw_host()
            await _end(child)

    async def _lost(self, child: asyncio.subprocess.Process) -> str:
        """Wait until it has ended, or end it once it is silent; say which."""
        silences = 0
        while silences < _MOST_SILENCES:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), _CHECK_SECONDS)
                return f"ended with status {child.returncode}"
            silences = 0 if await self._answers(_ANSWER_TIMEOUT_SECONDS) else silences + 1
        await _end(child)
        return "did not answer"

    async def _answers(self, timeout: float) -> bool:
        """Whether it is this registry that answers at its address."""
        async with httpx.AsyncClient(
            base_url=f"http://{self._host}", trust_env=False, verify=PLAIN_HTTP, timeout=timeout
        ) as client:
            try:
                challenge = (await client.get("/v2/")).headers.get("www-authenticate", "")
            except httpx.TransportError:
                return False
        return f'service="{self._host}"' in challenge

    async def _launch(self) -> asyncio.subprocess.Process:
        """Start a child and wait until it answers; end it if it does not."""
        child = await self._spawn()
        try:
            await self._wait_until_it_answers(child)
        except BaseException:
            await _end(child)
            raise
        self._home.registry_host.write_text(self._host)
        _log.info("container registry at %s", self._host)
        return child

    def _withdraw_host(self) -> None:
        """Remove the file with the host, unless it is that of another cloud.

        A directory that was deleted may have been made again.
        """
        with contextlib.suppress(FileNotFoundError):
            if self._home.registry_host.read_text() == self._host:
                self._home.registry_host.unlink()

    async def _spawn(self) -> asyncio.subprocess.Process:
        lock = Lock(self._home.processes, shared=True)
        if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
            raise RegistryError(f"{self._home.processes} is locked by another process")
        try:
            with self._files.log.open("ab") as log:
                return await asyncio.create_subprocess_exec(
                    *(sys.executable, "-S", "-m", "local_oci.services.registry.child"),
                    *(str(os.getpid()), self._program, str(self._files.configuration)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PYTHONPATH": str(Path(local_oci.__file__).parents[1])},
                    pass_fds=(lock.descriptor,),
                    start_new_session=True,
                )
        finally:
            lock.release()

    async def _wait_until_it_answers(self, child: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while child.returncode is None and time.monotonic() < deadline:
            if await self._answers(_ANSWER_TIMEOUT_SECONDS):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise RegistryError(
            f"{_PROGRAM} does not answer at {self._host}; see the end of {self._files.log}"
        )


def _configuration(files: RegistryFiles, host: str, endpoint: str) -> dict[str, object]:
    """docker-registry's configuration (docs/configuration.md of Docker distribution 2.8)."""
    return {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(files.storage)},
            "delete": {"enabled": True},
        },
        "http": {"addr": host, "secret": secrets.token_hex(32)},
        "auth": {
            "token": {
                "realm": f"{endpoint}{TOKEN_PATH}",
                "service": host,
                "issuer": ISSUER,
                "rootcertbundle": str(files.certificate),
            }
        },
    }


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _end(child: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL if it does not end."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _STOP_TIMEOUT_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
