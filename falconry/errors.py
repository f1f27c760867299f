"""What can go wrong that a user can act on, and the one sentence that each failure becomes.

Every stage raises a subclass of `FalconryError` with the facts of the failure; only `format_error`
turns them into text, and only `tasks.py` prints it. Anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class FalconryError(Exception):
    """A failure with its place and its remedy.

    Args:
        problem: what is wrong, as a clause without a full stop.
        where: the file, tensor, key or resource that is wrong.
        remedy: what to do about it, as an imperative clause.
        details: lines that others wrote about it, such as the end of a log; not in the sentence.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        remedy: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = str(where) if where is not None else None
        self.remedy = remedy
        self.details = tuple(details)

    def __str__(self) -> str:
        return format_error(self)


class SettingsError(FalconryError):
    """A profile, recipe or override that cannot be used."""


class CheckpointError(FalconryError):
    """A checkpoint that is missing, damaged or not a Falcon."""


class EngineError(FalconryError):
    """An engine that cannot be built, or that is not what its manifest says."""


class ImageError(FalconryError):
    """An image that cannot be built, pushed or run under the contract."""


class RepositoryError(FalconryError):
    """A model repository that Triton would not serve."""


class ServerError(FalconryError):
    """The machine lacks something that the local Triton server needs."""


class CloudError(FalconryError):
    """The cloud, real or emulated, refused or failed an operation."""


class PreflightError(FalconryError):
    """A deployment that the cloud would refuse, or that could not serve."""


class EndpointError(FalconryError):
    """A request to a deployed endpoint that got no usable answer."""


class MachineError(FalconryError):
    """The machine stopped the work: disk full, no permission, port taken."""


class DetachedOperation(KeyboardInterrupt):
    """The user ended a wait for something that goes on elsewhere; its text says how to follow it.

    An interrupt and no `FalconryError`: nothing failed, and nothing may catch it as a failure.
    """


class OutputClosedError(Exception):
    """Whoever read the output has had enough of it, as `head` has.

    No `FalconryError`: there is nothing to say, and nobody to say it to.
    """


def format_error(error: FalconryError) -> str:
    """One line: the place, what is wrong there, and what to do."""
    place = f"{error.where}: " if error.where else ""
    remedy = f"; {error.remedy}" if error.remedy else ""
    return f"{place}{error.problem}{remedy}"


def format_error_with_details(error: FalconryError) -> str:
    """The sentence, and below it the details, a line each."""
    return "\n    ".join([format_error(error), *error.details])
