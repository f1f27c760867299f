"""The serving process: one lock, one socket, one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Iterator

import uvicorn

from local_oci import processes
from local_oci.app import build_app
from local_oci.daemon import AlreadyServedError, ServeError, ServeOptions, allow_open_files
from local_oci.home import Home, HomeError, Lock
from local_oci.http.protocol import GatewayProtocol
from local_oci.identity import load_or_create
from local_oci.runtime.artifact import remove_tree
from local_oci.runtime.docker_engine import EngineError, remove_left_containers
from local_oci.runtime.images import ProcessImages
from local_oci.runtime.isolation import Isolation, IsolationError, choose_isolation
from local_oci.runtime.process import ProcessRunner
from local_oci.services.cloud import Cloud, build_cloud
from local_oci.services.faults.plan import FaultFile, FaultFileError
from local_oci.services.registry.process import RegistryError
from local_oci.version import running_code

# Another command may hold the lock for an instant, to see whether it is held.
_LOCK_TIMEOUT_SECONDS = 1.0
# What an earlier process left behind is being killed by the kernel; it takes milliseconds.
_ORPHANS_TIMEOUT_SECONDS = 10.0
_DIRECTORY_CHECK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75
_GRACEFUL_SECONDS = 1
# Of a request line and its headers. h11's own 16 KiB hold for a head that comes in pieces only, so
# that the same request would be refused on a busy machine and not on an idle one.
_MAX_HEAD_BYTES = 64 << 10
_OWNER_ONLY = 0o077  # the umask of all that the cloud writes

_log = logging.getLogger("local_oci")


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM, SIGINT or the directory's end, then stop every deployment.

    Raises:
        ServeError: the directory is in use or unusable, the port is taken, too few open files are
            allowed, or there can be no container registry.
    """
    running_code()  # as it is now
    allow_open_files()
    home = options.home
    os.umask(_OWNER_ONLY)
    try:
        home.prepare()
    except HomeError as error:
        raise ServeError(str(error)) from error
    lock = Lock(home.lock)
    if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
        raise AlreadyServedError(f"{home.root} is served by another process already")
    lock.write(str(os.getpid()))  # never released: the lock shall last as long as the process
    home.endpoint.unlink(missing_ok=True)  # of a killed server
    _remove_orphans(home)
    listener = _listen(options)
    try:
        isolation = choose_isolation(home, options.isolation)
    except IsolationError as error:
        raise ServeError(str(error)) from error
    home.isolation.write_text(isolation)
    home.renew_local_token()
    asyncio.run(_serve(options, isolation, listener, lock))


def _remove_orphans(home: Home) -> None:
    """End what a killed server left: containers, processes, and their files."""
    try:
        remove_left_containers(home)
    except EngineError as error:
        _log.warning("containers of an earlier run may be left: %s", error)
    left_over = Lock(home.processes)
    processes.kill(processes.helpers_of(home.root))  # a stopped one would stay
    if not left_over.acquire(_ORPHANS_TIMEOUT_SECONDS):
        raise ServeError(f"{home.root}: processes of an earlier run are still there")
    left_over.release()
    for directory in (home.deployments, home.run):
        remove_tree(directory)
        directory.mkdir(mode=0o700)


def _listen(options: ServeOptions) -> socket.socket:
    """The socket; port 0 means the last run's port if it is free, so that URLs stay valid."""
    home, port = options.home, options.port
    if port == 0 and home.port.exists():
        with contextlib.suppress(OSError, ValueError, OverflowError):
            return _bind(options.host, int(home.port.read_text()))
    try:
        listener = _bind(options.host, port)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {options.host} port {port} ({error.strerror}); choose another "
            "--port, or 0 for any that is free"
        ) from error
    home.port.write_text(str(listener.getsockname()[1]))
    return listener


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _announced(home: Home, endpoint: str) -> Iterator[None]:
    """Keep the endpoint in its file while the cloud runs."""
    home.endpoint.write_text(endpoint)
    try:
        yield
    finally:
        # A directory that was deleted may have been made again, with a cloud of its own.
        with contextlib.suppress(FileNotFoundError):
            if home.endpoint.read_text() == endpoint:
                home.endpoint.unlink()


def _check_faults(home: Home) -> None:
    """Refuse a file of faults that holds none, before anybody waits for them to happen."""
    try:
        FaultFile(home.faults).read_new()
    except FaultFileError as error:
        raise ServeError(str(error)) from error


def _check_state(cloud: Cloud) -> None:
    """Read the records that the start needs, so that a damaged one is reported at once.

    Raises:
        StateError: a record, or the database, is damaged.
    """
    cloud.database.check()
    for records in (
        cloud.catalog.blob_names(),
        cloud.objects.blob_names(),
        cloud.uploads.blob_names(),
        cloud.deployments.scan(),
        cloud.work_requests.records.scan(),
    ):
        deque(records, maxlen=0)


async def _serve(
    options: ServeOptions,
    isolation: Isolation,
    listener: socket.socket,
    lock: Lock,
) -> None:
    home = options.home
    host, port = listener.getsockname()
    endpoint = f"http://{host}:{port}"
    _check_faults(home)
    images = ProcessImages(home.images)
    images.register(options.images)
    processes = ProcessRunner(home, images, isolation, options.stop_grace)
    identity = load_or_create(home)
    cloud = build_cloud(
        home, identity, endpoint, processes, options.start_timeout, options.stop_grace
    )
    _check_state(cloud)
    if options.registry or cloud.registry_lifecycle.existed:
        try:
            await cloud.registry_lifecycle.start()
        except RegistryError as error:
            raise ServeError(str(error)) from error
    config = uvicorn.Config(
        build_app(cloud),
        http=GatewayProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # X-Forwarded-For is a claim of the client
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    _log.info("serving %s at %s, isolation %s", home.root, endpoint, isolation)
    with _announced(home, endpoint):
        await _Server(config, lock).serve([listener])
    _log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn's server, which also ends with its directory.

    It ends by return and not by raising the signal again.
    """

    def __init__(self, config: uvicorn.Config, lock: Lock) -> None:
        super().__init__(config)
        self._lock = lock

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes or the directory is gone."""
        watch = asyncio.create_task(self._end_with_directory())
        try:
            await super().serve(sockets)
        finally:
            watch.cancel()

    async def _end_with_directory(self) -> None:
        while self._lock.is_current:
            await asyncio.sleep(_DIRECTORY_CHECK_SECONDS)
        _log.error("the directory was deleted, so this cloud ends")
        self._stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True
