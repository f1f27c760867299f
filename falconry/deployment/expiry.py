"""Deployments with an end: a tag says when, and `reap` deactivates those whose time is over."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
from oci.data_science import DataScienceClient
from oci.data_science import models as oci_models

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.cloud.work_requests import Operation, Watch, wait_for
from falconry.deployment.deployments import Deployments
from falconry.deployment.failures import nothing_deployed
from falconry.errors import CloudError, SettingsError, printable_line

EXPIRES_TAG = "falconry-expires"
"""When a deployment may be deactivated, in ISO 8601 and UTC."""

NEVER = "never"
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,4})m)?")
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_STOPPABLE = frozenset({"ACTIVE", "NEEDS_ATTENTION"})
# They cost nothing more, or cannot be stopped.
_NOT_RUNNING = frozenset({"INACTIVE", "FAILED", "DELETING", "DELETED"})
_CONFLICTS = frozenset({409, 412})
_MOST_CONFLICTS = 6
_CONFLICT_PAUSE_S = 0.5


def expiry_tag(text: str, now: datetime) -> str:
    """Returns the tag's value for `4h`, `90m`, `1d12h` from now on, or "" for `never`.

    Raises:
        SettingsError: it is no such duration.
    """
    if text == NEVER:
        return ""
    found = _DURATION.fullmatch(text)
    amounts = [int(each or 0) for each in found.groups()] if found else []
    if not any(amounts):
        raise SettingsError(
            f"{text!r} is not a duration",
            where="EXPIRES",
            remedy=f"give one such as 4h, 90m or 1d12h, or {NEVER}",
        )
    duration = timedelta(**dict(zip(_UNITS.values(), amounts, strict=True)))
    return (now + duration).strftime(_FORMAT)


def expiry_of(tags: dict[str, str] | None) -> datetime | None:
    """Returns when a deployment with these tags expires, None if never.

    Raises:
        ValueError: the tag is no such time.
    """
    text = (tags or {}).get(EXPIRES_TAG)
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC) if text else None


def expiry_warning(deployment: Any, now: datetime) -> str | None:
    """Returns a warning if a deployment is in use after its end."""
    try:
        expires = expiry_of(deployment.freeform_tags)
    except ValueError:
        return None
    if expires is None or expires > now:
        return None
    return (
        f"warning: {deployment.display_name} expired at {expires.strftime(_FORMAT)}, and make reap"
        " deactivates it; extend it with EXPIRES=4h, or EXPIRES=never"
    )


def tag_expiry(session: Session, name: str, value: str, watch: Watch) -> None:
    """Writes the tag of a deployment, or removes it if the value is empty."""
    client: Any = session.client(DataScienceClient)
    for attempt in range(_MOST_CONFLICTS):
        current = Deployments(session).settled(name, watch)
        if current is None:
            raise nothing_deployed(name)
        with translate_cloud_errors("reading the deployment"):
            answer = client.get_model_deployment(current.id)
        tags = dict(answer.data.freeform_tags or {})
        if tags.get(EXPIRES_TAG, "") == value:
            return
        tags[EXPIRES_TAG] = value
        if not value:
            del tags[EXPIRES_TAG]
        details = oci_models.UpdateModelDeploymentDetails(freeform_tags=tags)
        try:
            with translate_cloud_errors("tagging the deployment"):
                updated = client.update_model_deployment(
                    current.id, details, if_match=answer.headers.get("etag")
                )
        except CloudError as error:
            if not _is_conflict(error):
                raise
            time.sleep(attempt * _CONFLICT_PAUSE_S)
            continue
        _wait(client, updated, "update of the tags", watch)
        return
    raise CloudError("another run is changing it", where=name, remedy="run again")


@dataclass(frozen=True, slots=True)
class Reaped:
    """A deployment with an end, and what was done.

    Attributes:
        outcome: "deactivated", "not yet", "not running", or why it was not deactivated.
        failed: whether it still runs though its time is over, or cannot be read.
    """

    deployment: str
    id: str
    state: str
    expires: str
    outcome: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.deployment}  expires {self.expires}  {self.state}  {self.outcome}"

    def facts(self) -> dict[str, Any]:
        """Returns the facts for a program."""
        return asdict(self)


def reap(session: Session, now: datetime, watch: Watch) -> list[Reaped]:
    """Deactivates the compartment's deployments whose time is over, none without the tag.

    Returns:
        Every deployment with the tag that is not deleted.
    """
    client: Any = session.client(DataScienceClient)
    with translate_cloud_errors("looking for deployments"):
        found = all_records(client.list_model_deployments, session.compartment_id)
    tagged = [
        each
        for each in found
        if EXPIRES_TAG in (each.freeform_tags or {}) and each.lifecycle_state != "DELETED"
    ]
    return [_reap(client, each, now, watch) for each in tagged]


def _reap(client: Any, summary: Any, now: datetime, watch: Watch) -> Reaped:
    def outcome(text: str, state: str, tag: str, *, failed: bool = False) -> Reaped:
        return Reaped(summary.display_name, summary.id, state, tag, text, failed)

    tag, state = summary.freeform_tags[EXPIRES_TAG], summary.lifecycle_state
    try:
        # The list may be older than a tag that has just been changed.
        with translate_cloud_errors("reading the deployment"):
            answer = client.get_model_deployment(summary.id)
        tags, state = answer.data.freeform_tags or {}, answer.data.lifecycle_state
        tag = tags.get(EXPIRES_TAG, "")
        expires = expiry_of(tags)
        if state in _NOT_RUNNING:
            return outcome("not running", state, tag)
        if expires is None or expires > now:
            return outcome("not yet", state, tag)
        if state not in _STOPPABLE:
            return outcome(f"is {state}; run again later", state, tag, failed=True)
        with translate_cloud_errors("deactivating the deployment"):
            stopped = client.deactivate_model_deployment(
                summary.id, if_match=answer.headers.get("etag")
            )
        _wait(client, stopped, f"deactivation of {summary.display_name}", watch)
    except ValueError:
        said = f"the tag {EXPIRES_TAG} is not a time such as 2030-01-31T12:00:00Z"
        return outcome(said, state, printable_line(tag), failed=True)
    except CloudError as error:
        return outcome(str(error), state, tag, failed=True)
    return outcome("deactivated", "INACTIVE", tag)


def _wait(client: Any, answer: Any, name: str, watch: Watch) -> None:
    if work_request := answer.headers.get("opc-work-request-id"):
        wait_for(client, Operation(work_request, name), watch)


def _is_conflict(error: CloudError) -> bool:
    cause = error.__cause__
    return isinstance(cause, oci.exceptions.ServiceError) and cause.status in _CONFLICTS
