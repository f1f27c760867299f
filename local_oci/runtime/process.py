"""The runner without a container engine: process trees in place of containers."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import local_oci
from local_oci.home import Home, Lock
from local_oci.limits import DEPLOYED_MODEL_PATH
from local_oci.runtime.artifact import make_read_only
from local_oci.runtime.images import ProcessImages, shown_files
from local_oci.runtime.isolation import Isolation
from local_oci.runtime.keeper import Task
from local_oci.runtime.runner import (
    Address,
    FoundImage,
    Launch,
    LineReader,
    PullReport,
    StartError,
    Stream,
    describe_exit,
)

# What Docker gives a container whose image sets no PATH.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOME = "home"
_STAGING = "staging"
_IMAGE = "image"
_MODEL = "model"
_NAME_SERVERS = Path("/etc/resolv.conf")
_KEPT_LINES = 20
_LOCK_TIMEOUT_SECONDS = 5.0
# The keeper ends within the grace period; so much later it is killed.
_KEEPER_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _View:
    """What a container sees, which differs between the kinds of isolation.

    Args:
        run: holds its sockets, and links to what it is called by: the path is short, and plain
            enough for programs that quote no path.
    """

    command: list[str]
    environment: dict[str, str]
    relays: dict[str, int]
    server: Address
    health: Address
    run: Path


class ProcessContainer:
    """A process tree below one keeper; see `runner.Container`."""

    def __init__(
        self, keeper: asyncio.subprocess.Process, view: _View, launch: Launch, stop_grace: float
    ) -> None:
        self.server = view.server
        self.health = view.health
        self._keeper = keeper
        self._view = view
        self._stop_grace = stop_grace
        self._stderr = LineReader(Stream.STDERR, launch.output, _KEPT_LINES)
        stdout = LineReader(Stream.STDOUT, launch.output, 0)
        self._readers = [
            asyncio.create_task(stdout.read(_pipe(keeper.stdout))),
            asyncio.create_task(self._stderr.read(_pipe(keeper.stderr))),
        ]

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._keeper.returncode is None

    @property
    def last_stderr(self) -> list[str]:
        """The last lines that the container wrote to its standard error."""
        return list(self._stderr.last)

    @property
    def status(self) -> int | None:
        """The exit status, 128 + n for signal n."""
        code = self._keeper.returncode
        return 128 - code if code is not None and code < 0 else code

    async def wait(self) -> str:
        """Wait for the end of the command and of its output; say how it ended."""
        status = await self._keeper.wait()
        await asyncio.wait(self._readers)
        return describe_exit(status)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period."""
        await self._end(signal.SIGTERM, self._stop_grace + _KEEPER_PATIENCE_SECONDS)
        _remove_run(self._view.run)

    async def kill(self) -> None:
        """SIGKILL at once."""
        await self._end(signal.SIGHUP, _KEEPER_PATIENCE_SECONDS)

    async def _end(self, how: signal.Signals, patience_seconds: float) -> None:
        if self.running:
            self._keeper.send_signal(how)
            self._keeper.send_signal(signal.SIGCONT)  # a keeper that is stopped takes no signal
        try:
            await asyncio.wait_for(self.wait(), patience_seconds)
        except TimeoutError:
            self._keeper.kill()
            await self.wait()


class ProcessRunner:
    """Runs process images; see `runner.Runner`."""

    def __init__(
        self, home: Home, images: ProcessImages, isolation: Isolation, stop_grace: float
    ) -> None:
        self._home = home
        self._images = images
        self._isolation = isolation
        self._stop_grace = stop_grace

    async def find_image(self, reference: str) -> FoundImage | None:
        """The process image, if the reference is known and its directory is there."""
        return None if self._images.find(reference) is None else FoundImage(digest=None)

    async def pull(self, reference: str, digest: str | None, report: PullReport) -> str:
        """Nothing to do: a process image is a directory of this machine."""
        return reference

    async def start(self, launch: Launch) -> ProcessContainer:
        """Start a container; see `runner.Runner.start`."""
        image = self._images.find(launch.image)
        if image is None:
            raise StartError(f"the process image of {launch.image} is gone")
        if not _command(launch):
            raise StartError("a process image has no command of its own; set cmd or entrypoint")
        run = self._home.run / secrets.token_hex(4)
        run.mkdir()
        try:
            (run / _IMAGE).symlink_to(image)
            if self._isolation is Isolation.NAMESPACES:
                view = _view_apart(launch, run)
            else:
                if launch.model is not None:
                    await asyncio.to_thread(make_read_only, launch.model)
                view = _view_plain(launch, run)
            keeper = await self._start_keeper(view, launch)
        except BaseException:
            _remove_run(run)
            raise
        return ProcessContainer(keeper, view, launch, self._stop_grace)

    async def _start_keeper(self, view: _View, launch: Launch) -> asyncio.subprocess.Process:
        """Start a keeper and wait until the command runs."""
        for part in (_HOME, _STAGING):
            (launch.directory / part).mkdir()
        lock = Lock(self._home.processes, shared=True)
        if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
            raise StartError(f"{self._home.processes} is locked by another process")
        read_end, write_end = os.pipe()
        task = self._task(view, launch, write_end, lock.descriptor)
        task_file = launch.directory / "task.json"
        task_file.write_text(task.to_json())
        try:
            keeper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-m", "local_oci.runtime.keeper", str(task_file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": str(Path(local_oci.__file__).parents[1])},
                pass_fds=(write_end, lock.descriptor),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
            lock.release()
        try:
            problem = await _read_to_end(read_end)
        except asyncio.CancelledError:
            keeper.send_signal(signal.SIGHUP)
            try:
                await asyncio.wait_for(keeper.communicate(), _KEEPER_PATIENCE_SECONDS)
            except TimeoutError:  # SIGHUP came before the keeper took it
                keeper.kill()
                await keeper.communicate()
            raise
        if problem:
            await keeper.communicate()
            raise StartError(problem)
        return keeper

    def _task(self, view: _View, launch: Launch, status: int, lock: int) -> Task:
        home = launch.directory / _HOME
        path = f"{view.run / _IMAGE / 'bin'}:{view.environment.get('PATH', _DEFAULT_PATH)}"
        return Task(
            parent=os.getpid(),
            isolation=self._isolation,
            command=view.command,
            environment={"HOME": str(home), **view.environment, "PATH": path},
            directory=str(home),
            model=None if launch.model is None else str(launch.model),
            mount_point=DEPLOYED_MODEL_PATH,
            staging=str(launch.directory / _STAGING),
            shown=[str(path) for path in _shown(view.run / _IMAGE, launch)],
            shm_size=launch.shm_size,
            relays=view.relays,
            network=not launch.serves,
            grace_seconds=self._stop_grace,
            status_descriptor=status,
            lock_descriptor=lock,
        )


def _shown(image: Path, launch: Launch) -> list[Path]:
    files = shown_files(image)
    return files if launch.serves else [*files, *filter(Path.exists, (_NAME_SERVERS,))]


def _command(launch: Launch) -> list[str]:
    return [*launch.entrypoint, *launch.cmd]


def _view_apart(launch: Launch, run: Path) -> _View:
    server, health = run / "server.sock", run / "health.sock"
    relays = {str(server): launch.server_port, str(health): launch.health_port}
    return _View(
        command=_command(launch),
        environment=launch.environment,
        relays=relays if launch.serves else {},
        server=Address(launch.server_port, server),
        health=Address(launch.health_port, health),
        run=run,
    )


def _view_plain(launch: Launch, run: Path) -> _View:
    """No namespaces: other paths and other ports, which variables name to the launcher."""
    if launch.model is None:
        nowhere = Address(0)
        return _View(_command(launch), launch.environment, {}, nowhere, nowhere, run)
    model = run / _MODEL
    model.symlink_to(launch.model)

    def translate(text: str) -> str:
        return text.replace(DEPLOYED_MODEL_PATH, str(model))

    server = _free_port()
    health = server if launch.health_port == launch.server_port else _free_port()
    return _View(
        command=[translate(word) for word in _command(launch)],
        environment={name: translate(value) for name, value in launch.environment.items()}
        | {"LOCAL_OCI_SERVER_PORT": str(server), "LOCAL_OCI_HEALTH_CHECK_PORT": str(health)},
        relays={},
        server=Address(server),
        health=Address(health),
        run=run,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _remove_run(run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)  # the directory may have been deleted


async def _read_to_end(descriptor: int) -> str:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb") as pipe:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            return (await reader.read()).decode(errors="replace")
        finally:
            transport.close()


def _pipe(reader: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if reader is None:
        raise RuntimeError("the keeper was started without pipes")
    return reader
