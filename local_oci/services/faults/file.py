"""`faults.json` of a cloud's directory: faults for programs that cannot ask `/_local/faults`."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from local_oci.services.faults.models import FAULTS, Fault

_log = logging.getLogger("local_oci.faults")


class FaultFileError(Exception):
    """A file that is no list of faults; the text says why."""


class FaultFile:
    """The file, read again whenever it changes.

    Args:
        path: where it is; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def take_new(self) -> list[Fault] | None:
        """The file's faults, once for each change of the file; a wrong file is a warning."""
        try:
            return self.read_new()
        except FaultFileError as error:
            _log.warning("%s", error)
            return None

    def read_new(self) -> list[Fault] | None:
        """The file's faults, once for each change of the file.

        Raises:
            FaultFileError: it is no list of faults.
        """
        version = self._version()
        if version == self._seen:
            return None
        self._seen = version
        try:
            return [] if version is None else FAULTS.validate_json(self._path.read_bytes())
        except OSError as error:
            raise FaultFileError(f"{self._path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise FaultFileError(f"{self._path}: {place}: {first['msg']}") from error

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
