"""Finds, creates, changes, starts, stops and deletes model deployments.

The deployment is read again before each step, and its state decides the step. So a run resumes
where another one ended, and two runs with the same target do the work once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
from oci.data_science import DataScienceClient
from oci.data_science import models as oci_models

from falconry.cloud.retries import all_records, create_idempotent
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.cloud.work_requests import (
    Operation,
    OperationError,
    Watch,
    running_request,
    wait_for,
)
from falconry.deployment import failures
from falconry.deployment.changes import (
    MAY_NEED_STOP,
    Group,
    differences,
    differing_fields,
    irreversible_changes,
    must_change_together,
    update_of,
)
from falconry.deployment.target import DeploymentSpec, creation_of
from falconry.errors import CloudError

_GONE = frozenset({"DELETING", "DELETED"})
_CHANGING = frozenset({"CREATING", "UPDATING", "DELETING"})
_SERVING = frozenset({"ACTIVE", "NEEDS_ATTENTION"})
# Refused because of the state (IncorrectState, Conflict) or the version.
_CONFLICTS = frozenset({409, 412})
_NOT_FOUND = 404
# More than all groups of options, a stop and a start.
_MOST_STEPS = 20
_MOST_CONFLICTS = 6
_CONFLICT_PAUSE_S = 0.5
_SETTLE_PAUSE_S = 1.0
# An operation may begin a little later than its deployment changes its state.
_MOST_IDLE_S = 20.0
_LOG_LINES = 15
_CLOCK_SKEW = timedelta(minutes=1)
_STOP_REMEDY = (
    'allow it to be stopped for the change: SET="deployment.downtime=true", or run make down'
    " and make deploy"
)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that begins an operation on a deployment.

    Attributes:
        action: a clause for messages, as for `translate_cloud_errors`.
        operation: a noun for messages.
        starts: whether it starts a container, whose log may then say why it failed.
        groups: that it changes.
    """

    action: str
    operation: str
    deployment_id: str
    send: Callable[[], Any]
    starts: bool = False
    groups: Collection[Group] = ()


class Deployments:
    """The deployments of one profile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)

    def named(self, name: str) -> list[Any]:
        """Lists summaries of the deployments of this name, deleted ones too."""
        with translate_cloud_errors(f"looking for the deployment '{name}'"):
            return all_records(
                self._client.list_model_deployments, self._session.compartment_id, display_name=name
            )

    def find(self, name: str) -> Any | None:
        """Finds the newest deployment of this name that is not deleted."""
        existing = [each for each in self.named(name) if each.lifecycle_state not in _GONE]
        return max(existing, key=lambda each: each.time_created, default=None)

    def get(self, name: str) -> Any | None:
        """Reads the newest deployment of this name that is not deleted."""
        found = self.find(name)
        return None if found is None else self.read(found.id)

    def in_use(self, name: str, selection: str = "") -> Any:
        """Reads the deployment that clients send requests to.

        The selection is the options of make that select it, for messages.

        Raises:
            CloudError: there is none, or it is stopped.
        """
        deployment = self.get(name)
        if deployment is None:
            raise failures.nothing_deployed(name, selection)
        if deployment.lifecycle_state == "INACTIVE":
            remedy = f"run: make activate {selection}".rstrip()
            raise CloudError("the deployment is INACTIVE", where=name, remedy=remedy)
        return deployment

    def read(self, deployment_id: str) -> Any:
        """Reads a deployment."""
        with translate_cloud_errors("reading the deployment"):
            return self._client.get_model_deployment(deployment_id).data

    def apply(self, target: DeploymentSpec, watch: Watch) -> Any:
        """Creates or changes the deployment until it matches its target.

        Waits for a running operation first; deletes a failed deployment and creates a new one.
        `confirm` writes the tags that identify it, once it has answered.

        Raises:
            CloudError: the cloud refused or failed; what was serving before still is.
            DetachedOperation: the user interrupted a wait; the operation continues.
        """
        current = self.settled(target.name, watch)
        if current is not None and current.lifecycle_state == "FAILED":
            self.delete(current, watch)
            current = None
        if current is None:
            return self.reconcile(self._create(target, watch), target, watch)
        if kept := irreversible_changes(current, target):
            raise CloudError(
                f"OCI does not take back {' and '.join(kept)} of a deployment",
                where=target.name,
                remedy="set it again, or run make down and make deploy",
            )
        return self.reconcile(current.id, target, watch)

    def reconcile(self, deployment_id: str, target: DeploymentSpec, watch: Watch) -> Any:
        """Changes a deployment by one group of options at a time, each group at most once.

        Raises:
            CloudError: refused or failed; a stop that is not allowed; an update without effect.
        """
        conflicts, nudged = 0, False
        updated: set[Group] = set()
        for _ in range(_MOST_STEPS):
            current, etag = self._settled(deployment_id, watch)
            groups = differences(current, target)
            if current.lifecycle_state == "ACTIVE" and not groups:
                return current
            if current.lifecycle_state == "NEEDS_ATTENTION" and not groups:
                # An update makes the service look again [inferred]; so does one without changes.
                if nudged:
                    raise failures.unusable(current)
                nudged = True
            if kept := updated.intersection(groups):
                raise failures.not_kept(target.name, differing_fields(current, target, kept))
            request = self._next(current, etag, target, groups, refused=conflicts > 1)
            begun = self._begin(request, watch)
            conflicts = 0 if begun else conflicts + 1
            updated.update(request.groups if begun else ())
            if conflicts > _MOST_CONFLICTS:
                break
            time.sleep(conflicts * _CONFLICT_PAUSE_S)
        raise failures.changed_elsewhere(target.name)

    def confirm(self, deployment_id: str, target: DeploymentSpec, watch: Watch) -> None:
        """Writes the tags that identify a deployment, now that it has answered.

        Raises:
            CloudError: it has been changed since.
        """
        for attempt in range(_MOST_CONFLICTS):
            current, etag = self._settled(deployment_id, watch)
            if differences(current, target):
                break
            tags = {**(current.freeform_tags or {}), **target.tags}
            if tags == current.freeform_tags:
                return
            details = oci_models.UpdateModelDeploymentDetails(freeform_tags=tags)
            if self._begin(self._update_request(deployment_id, etag, details), watch):
                return
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise failures.changed_elsewhere(target.name)

    def settled(self, name: str, watch: Watch) -> Any | None:
        """Reads the deployment, if any, once no operation is running on it."""
        found = self.find(name)
        return None if found is None else self._settled(found.id, watch)[0]

    def activate(self, name: str, watch: Watch) -> Any:
        """Starts an inactive deployment and returns it."""
        return self._into(name, watch, _SERVING, {"INACTIVE"}, self._activation)

    def deactivate(self, name: str, watch: Watch) -> Any:
        """Stops a deployment, which keeps its URL, and returns it."""
        return self._into(name, watch, {"INACTIVE"}, _SERVING, self._deactivation)

    def remove(self, name: str, watch: Watch) -> bool:
        """Deletes the deployment of this name and returns whether there was one.

        Waits for a deletion that an earlier run began.
        """
        if current := self.settled(name, watch):
            self.delete(current, watch)
            return True
        leaving = [each for each in self.named(name) if each.lifecycle_state == "DELETING"]
        for each in leaving:
            self._settled(each.id, watch)
        return bool(leaving)

    def delete(self, deployment: Any, watch: Watch) -> None:
        """Deletes a deployment and waits until it is gone."""
        request = _Request(
            "deleting the deployment",
            "deletion of the deployment",
            deployment.id,
            lambda: self._client.delete_model_deployment(deployment.id),
        )
        for attempt in range(_MOST_CONFLICTS):
            if self._begin(request, watch):
                return
            # Another run may be deleting it, or a request without an answer may have begun to.
            current, _ = self._settled(deployment.id, watch)
            if current.lifecycle_state in _GONE:
                return
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise CloudError("another run is changing it", where=deployment.id, remedy="run again")

    def _create(self, target: DeploymentSpec, watch: Watch) -> str:
        """Creates the deployment, unless another run does, and returns its OCID."""
        compartment = self._session.compartment_id
        details = creation_of(target, compartment)
        # The cloud lists deleted deployments too [inferred]. Their newest OCID goes into the retry
        # token, which tells this creation from earlier ones of the same name.
        last = max(self.named(target.name), key=lambda each: each.time_created, default=None)
        if last and last.lifecycle_state not in {*_GONE, "FAILED"}:
            return str(last.id)  # another run created it since this one looked
        answers: dict[str, Any] = {}

        def create(token: str) -> str:
            answer = self._client.create_model_deployment(details, opc_retry_token=token)
            answers[answer.data.id] = answer
            return str(answer.data.id)

        def exists(deployment_id: str) -> bool:
            state = self._client.get_model_deployment(deployment_id).data.lifecycle_state
            return state not in _GONE and deployment_id != getattr(last, "id", None)

        def find() -> str | None:
            found = self.find(target.name)
            return str(found.id) if found and found.lifecycle_state != "FAILED" else None

        parts = ("deployment", compartment, target.name, getattr(last, "id", ""))
        started = datetime.now(UTC)
        with translate_cloud_errors("creating the deployment"):
            created = str(create_idempotent(parts, create, exists, find))
        if created in answers:
            name = "creation of the deployment"
            self._wait(answers[created], name, watch, started, created)
        return created

    def _next(
        self,
        current: Any,
        etag: str | None,
        target: DeploymentSpec,
        groups: list[Group],
        *,
        refused: bool,
    ) -> _Request:
        """Chooses the next request on the way to the target.

        `refused` says that the cloud refused the first group while no operation was running.

        Raises:
            CloudError: no request leads there.
        """
        state = current.lifecycle_state
        if state == "INACTIVE" and not groups:
            return self._activation(current)
        if state not in _SERVING | {"INACTIVE"}:
            raise failures.unusable(current)
        now = groups if state == "INACTIVE" else groups[:1]
        must_stop = must_change_together(current, target)
        must_stop |= refused and not MAY_NEED_STOP.isdisjoint(now)
        if state in _SERVING and must_stop:
            if target.downtime:
                return self._deactivation(current)
            raise CloudError(
                f"the deployment would have to be stopped to change its {' and '.join(groups)}",
                where=target.name,
                remedy=_STOP_REMEDY,
            )
        details = update_of(current, target, now)
        return self._update_request(current.id, etag, details, now)

    def _update_request(
        self, deployment_id: str, etag: str | None, details: Any, groups: Collection[Group] = ()
    ) -> _Request:
        return _Request(
            "updating the deployment",
            f"update of the {' and '.join(groups) or 'tags'}",
            deployment_id,
            lambda: self._client.update_model_deployment(deployment_id, details, if_match=etag),
            starts=True,
            groups=groups,
        )

    def _activation(self, current: Any) -> _Request:
        return _Request(
            "activating the deployment",
            "activation of the deployment",
            current.id,
            lambda: self._client.activate_model_deployment(current.id),
            starts=True,
        )

    def _deactivation(self, current: Any) -> _Request:
        return _Request(
            "deactivating the deployment",
            "deactivation of the deployment",
            current.id,
            lambda: self._client.deactivate_model_deployment(current.id),
        )

    def _into(
        self,
        name: str,
        watch: Watch,
        wanted: Collection[str],
        source: Collection[str],
        request: Callable[[Any], _Request],
    ) -> Any:
        """Brings a deployment into a state, unless it is there already."""
        for attempt in range(_MOST_CONFLICTS):
            current = self.settled(name, watch)
            if current is None:
                raise failures.nothing_deployed(name)
            if current.lifecycle_state in wanted:
                return current
            if current.lifecycle_state not in source:
                raise failures.unusable(current)
            self._begin(request(current), watch)
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise CloudError("another run is changing it", where=name, remedy="run again")

    def _begin(self, request: _Request, watch: Watch) -> bool:
        """Begins an operation and waits for its end.

        Returns:
            False if the deployment does not have the state or the version that the request needs:
            another run is changing it, or an earlier request without an answer took effect.
        """
        started = datetime.now(UTC)
        with translate_cloud_errors(request.action):
            try:
                answer = request.send()
            except oci.exceptions.ServiceError as error:
                if error.status in _CONFLICTS or self._is_gone(request, error):
                    return False
                raise
        starts = request.deployment_id if request.starts else None
        self._wait(answer, request.operation, watch, started, starts)
        return True

    def _is_gone(self, request: _Request, error: Any) -> bool:
        """Whether a request was refused because the deployment is deleted.

        OCI answers 404 NotAuthorizedOrNotFound to that and to a missing policy.
        """
        if error.status != _NOT_FOUND:
            return False
        current = self._client.get_model_deployment(request.deployment_id).data
        return bool(current.lifecycle_state in _GONE)

    def _wait(
        self, answer: Any, name: str, watch: Watch, started: datetime, starts: str | None
    ) -> None:
        """Waits for the operation that an answer names.

        Raises:
            CloudError: it failed, with what the cloud and the container say about it.
        """
        work_request = answer.headers.get("opc-work-request-id")
        if work_request is None:
            return
        try:
            wait_for(self._client, Operation(work_request, name), watch)
        except OperationError as failure:
            raise self._explained(failure, started, starts) from failure

    def _settled(self, deployment_id: str, watch: Watch) -> tuple[Any, str | None]:
        """Waits until no operation is running; returns the deployment and its version.

        How an operation ended that another run began shows in the deployment's state.

        Raises:
            CloudError: it is still changing at the timeout, or has stopped to without an end.
        """
        deadline, idle_from = time.monotonic() + watch.timeout_s, None
        while True:
            with translate_cloud_errors("reading the deployment"):
                answer = self._client.get_model_deployment(deployment_id)
            current = answer.data
            if current.lifecycle_state not in _CHANGING:
                return current, answer.headers.get("etag")
            if time.monotonic() > deadline:
                raise CloudError(
                    f"the deployment has been {current.lifecycle_state} for too long",
                    where=current.display_name,
                    remedy="see make status, and run again",
                )
            request = running_request(self._client, self._session.compartment_id, deployment_id)
            if request is None:
                idle_from = idle_from or time.monotonic()
                if time.monotonic() > idle_from + _MOST_IDLE_S:
                    raise failures.abandoned(current)
                watch.report(f"waiting while it is {current.lifecycle_state}", None)
                time.sleep(_SETTLE_PAUSE_S)
                continue
            idle_from = None
            with contextlib.suppress(OperationError):
                wait_for(self._client, Operation(request, "operation begun before"), watch)

    def _explained(
        self, failure: OperationError, since: datetime, starts: str | None
    ) -> CloudError:
        # The clients of the Logging service take 0.05 s to import.
        from falconry.deployment.logs import Logs

        details, lines = "", []
        with contextlib.suppress(CloudError):
            if starts:
                details = self.read(starts).lifecycle_details or ""
                lines = Logs(self._session).container_lines(_LOG_LINES, starts, since - _CLOCK_SKEW)
        return failures.describe_failure(failure, details, lines)
