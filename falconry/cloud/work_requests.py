"""Waits for the cloud's long operations and reports their steps and errors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from falconry.cloud.retries import all_records, is_transient, retry_after
from falconry.cloud.session import translate_cloud_errors
from falconry.errors import CloudError, DetachedOperation
from falconry.pipeline import Report

# Short at first: a copy within the cloud may be done at once. The pauses grow to a tenth of the
# time waited so far, so that no wait is much longer than its operation.
_POLL_S = (0.05, 5.0)
_POLL_GROWTH = 1.1

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})
"""The statuses of a work request that do not change any more."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A work request, named for messages: `creation of the deployment`."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Watch:
    """How to wait for operations.

    Attributes:
        timeout_s: for each of them; an operation continues in the cloud after that.
        report: called with the step's text and the fraction done.
    """

    timeout_s: float
    report: Report


class OperationError(CloudError):
    """An operation that the cloud did not finish.

    Args:
        operation: which.
        status: how it ended.
        step: its last step.
        errors: of the work request, as `code: message`; further lines of a message become details.
    """

    def __init__(
        self, operation: Operation, status: str, step: str, errors: tuple[str, ...]
    ) -> None:
        first = [error.partition("\n")[0] for error in errors]
        super().__init__(
            f"the {operation.name} {status.lower()} at '{step.partition(chr(10))[0]}': "
            + ("; ".join(first) or "no error was given"),
            where=operation.id,
            details=[line for error in errors for line in error.splitlines()[1:]],
        )
        self.reasons = (*errors, step)


def wait_for(client: Any, operation: Operation, watch: Watch) -> None:
    """Waits until a work request has succeeded.

    The wait continues while the cloud does not answer, until the timeout.

    Raises:
        OperationError: it failed.
        CloudError: the timeout is over, or the cloud refuses to answer.
        DetachedOperation: the user interrupted the wait; the operation continues.
    """
    deadline = time.monotonic() + watch.timeout_s
    pause, step = _POLL_S[0], "accepted"
    try:
        while True:
            request, newest = _look(client, operation, deadline)
            step = newest or step
            watch.report(step, (request.percent_complete or 0) / 100)
            if request.status in ENDED:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise _late(operation, watch, step)
            time.sleep(min(pause, left))
            pause = min(pause * _POLL_GROWTH, _POLL_S[1])
    except KeyboardInterrupt:
        raise DetachedOperation(
            f"the {operation.name} continues in the cloud ({operation.id}): follow it with make"
            " status and make logs, or run the same again"
        ) from None
    if request.status != "SUCCEEDED":
        raise OperationError(operation, request.status, step, request_errors(client, operation.id))


def running_request(client: Any, compartment_id: str, resource_id: str) -> str | None:
    """Finds the work request that is running on a resource."""
    with translate_cloud_errors("looking for the running operation"):
        requests = client.list_work_requests(
            compartment_id, resource_id=resource_id, sort_by="timeAccepted", sort_order="DESC"
        ).data
    running = (each.id for each in requests if each.status not in ENDED)
    return next(running, None)


def _look(client: Any, operation: Operation, deadline: float) -> tuple[Any, str | None]:
    """Reads a work request and its newest step; retries transient errors."""
    while True:
        try:
            with translate_cloud_errors(f"following the {operation.name}"):
                request = client.get_work_request(operation.id).data
                return request, _last_step(client, operation.id)
        except CloudError as error:
            cause = error.__cause__
            pause = (retry_after(cause) if cause else None) or _POLL_S[1]
            lasting = cause is None or not is_transient(cause)
            if lasting or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)


def _late(operation: Operation, watch: Watch, step: str) -> CloudError:
    return CloudError(
        f"the {operation.name} is still at '{step}' after {watch.timeout_s / 60:.0f} minutes",
        where=operation.id,
        remedy="it continues in the cloud: follow it with make status and make logs",
    )


def _last_step(client: Any, work_request_id: str) -> str | None:
    entries = all_records(client.list_work_request_logs, work_request_id)
    newest = max(entries, key=lambda entry: entry.timestamp, default=None)
    return newest.message if newest else None


def request_errors(client: Any, work_request_id: str) -> tuple[str, ...]:
    """Reads the errors of a work request, as `code: message`."""
    with translate_cloud_errors("reading the errors of the work request"):
        errors = all_records(client.list_work_request_errors, work_request_id)
    return tuple(f"{error.code}: {error.message}" for error in errors)
