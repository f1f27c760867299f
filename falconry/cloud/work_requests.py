"""Waiting for the cloud's long operations, telling their steps and the whole of their failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import oci

from falconry.cloud.session import cloud_errors_told
from falconry.errors import CloudError

_POLL_S = (0.2, 5.0)
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})


def wait_for(
    client: Any,
    work_request_id: str,
    operation: str,
    timeout_s: float,
    report: Callable[[str, float | None], None],
) -> None:
    """Waits until a work request has succeeded.

    Args:
        client: a Data Science client.
        work_request_id: its OCID.
        operation: what it does, as a noun for messages: `creation of the deployment`.
        timeout_s: how long to wait, in seconds; the operation itself goes on after that.
        report: called with the step's text and the fraction done.

    Raises:
        CloudError: it failed (with all of its errors and its last step) or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    pause, step = _POLL_S[0], "accepted"
    while True:
        with cloud_errors_told(f"following the {operation}"):
            request = client.get_work_request(work_request_id).data
            step = _last_step(client, work_request_id) or step
        report(step, (request.percent_complete or 0) / 100)
        if request.status in _ENDED:
            break
        if time.monotonic() > deadline:
            raise CloudError(
                f"the {operation} is still at '{step}' after {timeout_s / 60:.0f} minutes",
                where=work_request_id,
                remedy="it goes on in the cloud: follow it with make status and make logs",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_S[1])
    if request.status != "SUCCEEDED":
        raise CloudError(
            f"the {operation} {request.status.lower()} at '{step}': "
            f"{_errors(client, work_request_id)}",
            where=work_request_id,
            remedy="see make logs for what the server said",
        )


def _last_step(client: Any, work_request_id: str) -> str | None:
    entries = client.list_work_request_logs(work_request_id).data
    newest = max(entries, key=lambda entry: entry.timestamp, default=None)
    return newest.message if newest else None


def _errors(client: Any, work_request_id: str) -> str:
    with cloud_errors_told("reading the errors of the work request"):
        errors = oci.pagination.list_call_get_all_results(
            client.list_work_request_errors, work_request_id
        ).data
    return "; ".join(f"{error.code}: {error.message}" for error in errors) or "no error was given"
