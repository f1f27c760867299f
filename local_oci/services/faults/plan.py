"""The faults that are still to happen, also those of `faults.json` in the cloud's directory.

The file is for programs that cannot ask `/_local/faults`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from local_oci.http.messages import refusal_of
from local_oci.services.faults.models import FAULTS, WORKFLOW_KINDS, Fault, Kind
from local_oci.services.work_requests.engine import WorkError
from local_oci.services.work_requests.models import Operation

_log = logging.getLogger("local_oci.faults")
# The SDK's name of the operation behind a work request.
_SDK_NAMES = {
    Operation.CREATE_DEPLOYMENT: "create_model_deployment",
    Operation.UPDATE_DEPLOYMENT: "update_model_deployment",
    Operation.ACTIVATE_DEPLOYMENT: "activate_model_deployment",
}
_JOB_RUN = "create_job_run"
_BOOTSTRAP = "Errors occurred while bootstrapping the Model Deployment"
# Oracle's words, as users quote them; the codes are inferred.
_FAILURES = {
    Kind.NO_CAPACITY: (
        "OutOfCapacity",
        "There is currently no capacity for the specified shape. "
        "Choose a different shape or region",
    ),
    Kind.BOOTSTRAP: ("BootstrapFailure", _BOOTSTRAP),
    Kind.IMAGE_PULL: ("ImagePullFailed", f"{_BOOTSTRAP}: the image could not be pulled."),
}


class FaultFileError(Exception):
    """A file that is no list of faults; the text says why."""


class FaultFile:
    """The file, read again whenever it changes."""

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
            raise FaultFileError(f"{self._path}: {refusal_of(error).message}") from error

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


@dataclass(frozen=True, slots=True)
class StartFault:
    """What happens to a deployment's new container.

    Args:
        unhealthy_seconds: after how long it is given up as never healthy; None if it is not.
        healthy_seconds: how long after becoming healthy it ends; None if it does not.
    """

    unhealthy_seconds: float | None = None
    healthy_seconds: float | None = None


class FaultSource(Protocol):
    """Where faults come from besides `add`."""

    def take_new(self) -> list[Fault] | None:
        """The faults that it holds now; None where it holds what it held before."""


class FaultPlan:
    """Faults in the order in which they were added."""

    def __init__(self, source: FaultSource) -> None:
        self._source = source
        self._faults: list[Fault] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Let faults happen."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Let none happen any more."""
        self._faults.clear()

    def pending(self) -> list[Fault]:
        """What is still to happen. New faults of the source replace all others."""
        new = self._source.take_new()
        if new is not None:
            self._faults = new
        return list(self._faults)

    def take(self, operation: str | None, path: str, kinds: Set[Kind]) -> list[Fault]:
        """The faults of some kinds that happen to a request now."""
        happening = []
        for fault in self.pending():
            if fault.kind not in kinds or not _matches(fault, operation, path):
                continue
            if fault.skip:
                self._replace(fault, fault.model_copy(update={"skip": fault.skip - 1}))
                continue
            happening.append(fault)
            left = fault.times - 1
            self._replace(fault, fault.model_copy(update={"times": left}) if left else None)
        return happening

    def take_start_fault(self, operation: Operation) -> StartFault:
        """What happens to a deployment that is brought up now.

        Raises:
            WorkError: it fails at once, in Oracle's words.
        """
        seconds: dict[Kind, float] = {}
        for fault in self.take(_SDK_NAMES[operation], "", WORKFLOW_KINDS):
            if fault.kind in _FAILURES:
                raise WorkError(*_FAILURES[fault.kind])
            seconds[fault.kind] = fault.seconds
        return StartFault(seconds.get(Kind.NEVER_HEALTHY), seconds.get(Kind.DIES_LATER))

    def take_job_fault(self) -> None:
        """Fail a job run that begins now, if one of its faults happens.

        Raises:
            WorkError: in Oracle's words, as far as they are known.
        """
        for fault in self.take(_JOB_RUN, "", WORKFLOW_KINDS):
            if fault.kind in _FAILURES:
                code, message = _FAILURES[fault.kind]
                raise WorkError(code, message.replace("Model Deployment", "Job Run"))

    def _replace(self, fault: Fault, successor: Fault | None) -> None:
        position = next(index for index, known in enumerate(self._faults) if known is fault)
        self._faults[position : position + 1] = [] if successor is None else [successor]


def _matches(fault: Fault, operation: str | None, path: str) -> bool:
    if fault.operation is not None and fault.operation != operation:
        return False
    return fault.path is None or fnmatchcase(path, fault.path)
