"""A cloud's directory: what lies where, who may read it, and who holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# A Unix socket's path holds 107 bytes (unix(7)); the longest below the directory of sockets is
# "/<8 characters>/server.sock".
_MAX_RUN_PATH_BYTES = 107 - len("/01234567/server.sock")

_WAIT_STEP_SECONDS = 0.02
_TOKEN_BYTES = 32


class HomeError(Exception):
    """A directory that cannot serve as a cloud's home; the text says why."""


class DiskFullError(Exception):
    """There is no space left to write in a directory; the text says so, and what to do."""


class StateError(Exception):
    """A damaged file of a directory; the text names it, and what to do."""


def damaged(path: Path, problem: object) -> StateError:
    """The error of a file that cannot be read as what it was written."""
    return StateError(
        f"{path} is damaged ({problem}); put a copy of it back, or move {path.parent} away and "
        "start again with an empty cloud"
    )


def disk_full(path: Path) -> DiskFullError:
    """The error of a file that the disk has no space for."""
    return DiskFullError(
        f"{path} cannot be written, the disk is full or over its quota; free some space and repeat "
        "the request"
    )


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed for want of space."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one local cloud, all below `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """SDK config file with the DEFAULT profile."""
        return self.root / "config"

    @property
    def api_key(self) -> Path:
        """Private API key of the one user."""
        return self.root / "api_key.pem"

    @property
    def endpoint(self) -> Path:
        """Holds the base URL while the cloud runs."""
        return self.root / "endpoint"

    @property
    def port(self) -> Path:
        """Holds the port of the last run, so that deployment URLs outlive a restart."""
        return self.root / "port"

    @property
    def local_token(self) -> Path:
        """Holds what callers of `/_local/` must show; another one at every start."""
        return self.root / "local-token"

    @property
    def log(self) -> Path:
        """Output of a server that `start` detached."""
        return self.root / "log"

    @property
    def lock(self) -> Path:
        """Locked by the serving process, which writes its process id into it."""
        return self.root / "lock"

    @property
    def database(self) -> Path:
        """SQLite database with all state."""
        return self.root / "state.sqlite3"

    @property
    def images(self) -> Path:
        """Process images by reference, as JSON."""
        return self.root / "images.json"

    @property
    def uploads(self) -> Path:
        """Bodies that are still arriving; emptied at every start."""
        return self.root / "uploads"

    @property
    def blobs(self) -> Path:
        """Contents of objects, parts and model artifacts."""
        return self.root / "blobs"

    @property
    def deployments(self) -> Path:
        """Directories of running deployments; emptied at every start."""
        return self.root / "deployments"

    @property
    def outputs(self) -> Path:
        """What the containers of each deployment wrote, a file a deployment, for people to read."""
        return self.root / "outputs"

    @property
    def faults(self) -> Path:
        """Pending faults, as JSON; written by tests of clients."""
        return self.root / "faults.json"

    @property
    def sessions(self) -> Path:
        """Tokens and keys of sessions and principals, a directory each."""
        return self.root / "sessions"

    @property
    def registry(self) -> Path:
        """What the container registry keeps; there only if the cloud has one."""
        return self.root / "registry"

    @property
    def registry_host(self) -> Path:
        """Holds the container registry's host and port while it runs."""
        return self.root / "registry-host"

    @property
    def run(self) -> Path:
        """Sockets and links of running deployments, by a short path that no shell has to quote.

        It is elsewhere if the path would be too long here, or would need quotes: a server of a
        process image may start its parts by a shell, as Triton's Python backend does.
        """
        run = self.root / "run"
        if len(os.fsencode(run)) <= _MAX_RUN_PATH_BYTES and _is_plain(run):
            return run
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        temporary = Path(tempfile.gettempdir())
        directory = temporary if _is_plain(temporary) else Path("/tmp")
        return directory / f"local_oci-{os.getuid()}-{name}"

    @property
    def isolation(self) -> Path:
        """Says how far the deployments of the last run are set apart: an `Isolation`."""
        return self.root / "isolation"

    @property
    def processes(self) -> Path:
        """Locked, shared, by the keeper of every deployment process."""
        return self.root / "processes.lock"

    @property
    def docker_engines(self) -> Path:
        """Docker engines that may hold containers of deployments, as JSON; see `docker_leftovers`.

        Absent where there never was one, or where all that were left have been removed.
        """
        return self.root / "docker_engines.json"

    def local_headers(self) -> dict[str, str]:
        """The headers of a request to `/_local/` of the cloud that runs."""
        try:
            return {"authorization": f"Bearer {self.local_token.read_text()}"}
        except OSError:
            return {}

    def renew_local_token(self) -> None:
        """Let callers of `/_local/` need another token from now on."""
        write_secret(self.local_token, secrets.token_urlsafe(_TOKEN_BYTES).encode())

    def prepare(self) -> None:
        """Make the directory and its parts; all of it is for the owner alone.

        Raises:
            HomeError: the path cannot be a directory, or belongs to another user.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for part in (self.uploads, self.blobs, self.deployments, self.outputs, self.run):
                part.mkdir(mode=0o700, exist_ok=True)
            for part in self.root.iterdir():
                # An earlier version made some readable by others; a running cloud removes some.
                with contextlib.suppress(FileNotFoundError):
                    if not part.is_symlink():
                        part.chmod(0o700 if part.is_dir() else 0o600)
            owner = self.run.stat().st_uid
        except OSError as error:
            raise HomeError(f"{self.root}: {error.strerror}; choose another --directory") from error
        if owner != os.getuid():
            raise HomeError(f"{self.run} belongs to another user; choose another --directory")


def _is_plain(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)


class Lock:
    """An flock on a file: gone with the process that holds it, so never stale."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self._path = path
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._descriptor: int | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock, waiting up to `timeout` seconds; say whether it was got."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, self._kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(_WAIT_STEP_SECONDS)
            else:
                self._descriptor = descriptor
                return True

    def write(self, text: str) -> None:
        """Replace the content of the locked file."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    @property
    def is_current(self) -> bool:
        """Whether the locked file is still the one at its path."""
        try:
            present = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(present, os.fstat(self.descriptor))

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self.descriptor)
        self._descriptor = None

    @property
    def descriptor(self) -> int:
        """The locked file's descriptor, for a child that shall hold the lock as well."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        return self._descriptor


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on `path`."""
    if not path.exists():
        return False
    lock = Lock(path)
    if lock.acquire():
        lock.release()
        return False
    return True
