"""Process images: directories in place of container images.

`<directory>/bin` holds the programs that a deployment's cmd and entrypoint name. Which reference
means which directory is kept in a file of the cloud's own directory, so that `start --image`
reaches a server that runs already, and a later start needs no option.

`<directory>/mounts` names the files of this machine that the programs need, an absolute path a
line. In namespaces they see the system's programs and libraries, the directory and these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from local_oci.home import Lock, StateError, write_secret

_LOCK_TIMEOUT_SECONDS = 10.0
_MOUNTS = "mounts"


class ProcessImages:
    """The process images of one cloud."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def register(self, images: Mapping[str, Path]) -> None:
        """Add images, or give known references other directories."""
        if not images:
            self._read()  # so that a damaged file is reported at once
            return
        lock = Lock(self._path.with_suffix(".lock"))
        if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
            raise TimeoutError(f"{self._path} is locked by another process")
        try:
            known = self._read() | {reference: str(path) for reference, path in images.items()}
            text = json.dumps(known, indent=2, sort_keys=True) + "\n"
            write_secret(self._path, text.encode())
        finally:
            lock.release()

    def find(self, reference: str) -> Path | None:
        """The directory of an image, if the reference is known and the directory is there."""
        directory = self._read().get(reference)
        if directory is None or not Path(directory, "bin").is_dir():
            return None
        return Path(directory)

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        try:
            known = json.loads(self._path.read_bytes())
        except (ValueError, RecursionError):
            known = None
        # By hand: `start` and `stop` would wait longer for pydantic than for all the rest.
        if isinstance(known, dict) and all(isinstance(each, str) for each in known.values()):
            return known
        raise StateError(
            f"{self._path} is damaged; remove it, and name the process images again at the "
            "next start (--image REF=DIR)"
        )


def shown_files(image: Path) -> list[Path]:
    """What a process image needs of this machine: its directory, and what it names."""
    mounts = image / _MOUNTS
    named = mounts.read_text().splitlines() if mounts.is_file() else []
    return [image, *(Path(line) for line in named if line.startswith("/"))]
