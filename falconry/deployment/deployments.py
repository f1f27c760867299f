"""The model deployment: found by its name, made, changed step by step, started, stopped, deleted.

Each step follows from how the deployment stands, which is looked at anew before it. So a run goes
on where another one ended, and two runs that want the same do it once.
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

from falconry.cloud.retries import create_idempotent
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.cloud.work_requests import (
    Operation,
    OperationError,
    Watch,
    running_request,
    wait_for,
)
from falconry.deployment import deployment_list
from falconry.deployment.changes import (
    MAY_NEED_STOP,
    Group,
    differences,
    irreversible_changes,
    must_change_together,
    update_of,
)
from falconry.deployment.deployment_list import GONE
from falconry.deployment.failures import explain_failure
from falconry.deployment.target import KEY_TAG, MODEL_TAG, REFERENCE_TAG, DeploymentSpec
from falconry.errors import CloudError

_MOVING = frozenset({"CREATING", "UPDATING", "DELETING"})
_SERVING = frozenset({"ACTIVE", "NEEDS_ATTENTION"})
# Refusals for the state (IncorrectState, Conflict), and for the version.
_CONFLICTS = frozenset({409, 412})
_NOT_FOUND = 404
# More than all groups of options, a stop and a start.
_MOST_STEPS = 20
_MOST_CONFLICTS = 6
_CONFLICT_PAUSE_S = 0.5
_SETTLE_PAUSE_S = 1.0
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
        deployment_id: its OCID.
        send: sends it.
        starts: whether a container is started by it: its log may say why it failed.
    """

    action: str
    operation: str
    deployment_id: str
    send: Callable[[], Any]
    starts: bool = False


class Deployments:
    """The deployments of one profile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)

    def find(self, name: str) -> Any | None:
        """The newest deployment of this name that is not deleted, if any."""
        return deployment_list.current(self._session, name)

    def named(self, name: str) -> list[Any]:
        """All deployments of this name that the cloud remembers."""
        return deployment_list.named(self._session, name)

    def get(self, name: str) -> Any | None:
        """The newest deployment of this name that is not deleted, in full, if any."""
        found = self.find(name)
        return None if found is None else self.read(found.id)

    def in_use(self, name: str, selection: str = "") -> Any:
        """The deployment that a client is to ask, in full.

        Args:
            name: of the deployment.
            selection: words that choose it on make's command line, for messages.

        Raises:
            CloudError: there is none, or it is stopped.
        """
        deployment = self.get(name)
        if deployment is None:
            raise _nothing_deployed(name, selection)
        if deployment.lifecycle_state == "INACTIVE":
            remedy = f"run: make activate {selection}".rstrip()
            raise CloudError("the deployment is INACTIVE", where=name, remedy=remedy)
        return deployment

    def read(self, deployment_id: str) -> Any:
        """A deployment in full."""
        with translate_cloud_errors("reading the deployment"):
            return self._client.get_model_deployment(deployment_id).data

    def apply(self, target: DeploymentSpec, watch: Watch) -> Any:
        """Makes or changes the deployment until it is ACTIVE and as wanted.

        A running operation is waited for first; a failed deployment is deleted and made anew. The
        tags that say what it is are written by `confirm`, once it has answered.

        Returns:
            The deployment in full.

        Raises:
            CloudError: the cloud refused or failed; what was serving before still is.
            DetachedOperation: the user interrupted a wait; the cloud goes on.
        """
        standing = self.settled(target.name, watch)
        if standing is not None and standing.lifecycle_state == "FAILED":
            self.delete(standing, watch)
            standing = None
        if standing is None:
            return self.reconcile(self._create(target, watch), target, watch)
        if kept := irreversible_changes(standing, target):
            raise CloudError(
                f"OCI does not take back {' and '.join(kept)} of a deployment",
                where=target.name,
                remedy="set it again, or run make down and make deploy",
            )
        return self.reconcile(standing.id, target, watch)

    def reconcile(self, deployment_id: str, target: DeploymentSpec, watch: Watch) -> Any:
        """Changes a deployment one option group at a time, as OCI demands while it serves.

        Raises:
            CloudError: the cloud refused or failed, or a change needs a stop that is not allowed.
        """
        conflicts, nudged = 0, False
        for _ in range(_MOST_STEPS):
            standing, etag = self._settled(deployment_id, watch)
            groups = differences(standing, target)
            if standing.lifecycle_state == "ACTIVE" and not groups:
                return standing
            if standing.lifecycle_state == "NEEDS_ATTENTION" and not groups:
                # An update makes the service look again [inferred]; one that changes nothing will.
                if nudged:
                    raise _unusable(standing)
                nudged = True
            request = self._next(standing, etag, target, groups, refused=conflicts > 1)
            conflicts = 0 if self._begin(request, watch) else conflicts + 1
            if conflicts > _MOST_CONFLICTS:
                break
            time.sleep(conflicts * _CONFLICT_PAUSE_S)
        raise CloudError(
            "the deployment is being changed by somebody else as well",
            where=target.name,
            remedy="let one run end, then run again",
        )

    def confirm(self, deployment_id: str, target: DeploymentSpec, watch: Watch) -> None:
        """Writes the tags that say what a deployment is, now that it has answered as such.

        Raises:
            CloudError: it is something else by now.
        """
        for attempt in range(_MOST_CONFLICTS):
            standing, etag = self._settled(deployment_id, watch)
            if differences(standing, target):
                break
            tags = {**(standing.freeform_tags or {}), **target.tags}
            if tags == standing.freeform_tags:
                return
            details = oci_models.UpdateModelDeploymentDetails(freeform_tags=tags)
            if self._begin(self._update_request(deployment_id, etag, details, "tags"), watch):
                return
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise CloudError(
            "the deployment was changed by somebody else meanwhile",
            where=target.name,
            remedy="let one run end, then run again",
        )

    def settled(self, name: str, watch: Watch) -> Any | None:
        """The deployment once no operation is running on it; None if there is none."""
        found = self.find(name)
        return None if found is None else self._settled(found.id, watch)[0]

    def activate(self, name: str, watch: Watch) -> Any:
        """Starts an inactive deployment; gives it in full."""
        return self._into(name, watch, _SERVING, {"INACTIVE"}, self._activation)

    def deactivate(self, name: str, watch: Watch) -> Any:
        """Stops a deployment, which keeps its URL and costs nothing; gives it in full."""
        return self._into(name, watch, {"INACTIVE"}, _SERVING, self._deactivation)

    def remove(self, name: str, watch: Watch) -> bool:
        """Deletes the deployment of this name; whether there was one.

        A deletion that an earlier run began, and did not see the end of, is waited for.
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
            # Another run may be deleting it, or a cut request have begun to.
            standing, _ = self._settled(deployment.id, watch)
            if standing.lifecycle_state in GONE:
                return
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise CloudError("somebody else is at work on it", where=deployment.id, remedy="run again")

    def _create(self, target: DeploymentSpec, watch: Watch) -> str:
        """Makes the deployment, or finds the one that another run makes; gives its OCID."""
        compartment = self._session.compartment_id
        details = _creation(target, compartment)
        # The cloud lists deleted deployments too [inferred]: the newest tells one life of a name
        # from the next.
        last = max(self.named(target.name), key=lambda each: each.time_created, default=None)
        if last and last.lifecycle_state not in {*GONE, "FAILED"}:
            return str(last.id)  # another run made it since this one looked
        answers: dict[str, Any] = {}

        def create(token: str) -> str:
            answer = self._client.create_model_deployment(details, opc_retry_token=token)
            answers[answer.data.id] = answer
            return str(answer.data.id)

        def exists(deployment_id: str) -> bool:
            state = self._client.get_model_deployment(deployment_id).data.lifecycle_state
            return state not in GONE and deployment_id != getattr(last, "id", None)

        def find() -> str | None:
            found = self.find(target.name)
            return str(found.id) if found and found.lifecycle_state != "FAILED" else None

        parts = ("deployment", compartment, target.name, getattr(last, "id", ""))
        started = datetime.now(UTC)
        with translate_cloud_errors("creating the deployment"):
            made = str(create_idempotent(parts, create, exists, find))
        if made in answers:
            name = "creation of the deployment"
            self._wait(answers[made], name, watch, started, made)
        return made

    def _next(
        self,
        standing: Any,
        etag: str | None,
        target: DeploymentSpec,
        groups: list[Group],
        *,
        refused: bool,
    ) -> _Request:
        """The request that brings a deployment a step nearer to its target.

        Args:
            standing: the deployment, with no operation running on it.
            etag: its version.
            target: what it shall be.
            groups: what differs, in order.
            refused: whether the cloud has refused the first of them, though nobody was at work.

        Raises:
            CloudError: there is none.
        """
        state = standing.lifecycle_state
        if state == "INACTIVE" and not groups:
            return self._activation(standing)
        if state not in _SERVING | {"INACTIVE"}:
            raise _unusable(standing)
        now = groups if state == "INACTIVE" else groups[:1]
        must_stop = must_change_together(standing, target)
        must_stop |= refused and not MAY_NEED_STOP.isdisjoint(now)
        if state in _SERVING and must_stop:
            if target.downtime:
                return self._deactivation(standing)
            raise CloudError(
                f"the deployment would have to be stopped to change its {' and '.join(groups)}",
                where=target.name,
                remedy=_STOP_REMEDY,
            )
        details = update_of(standing, target, now)
        return self._update_request(standing.id, etag, details, " and ".join(now))

    def _update_request(
        self, deployment_id: str, etag: str | None, details: Any, what: str
    ) -> _Request:
        return _Request(
            "updating the deployment",
            f"update of the {what}" if what else "update",
            deployment_id,
            lambda: self._client.update_model_deployment(deployment_id, details, if_match=etag),
            starts=True,
        )

    def _activation(self, standing: Any) -> _Request:
        return _Request(
            "activating the deployment",
            "activation of the deployment",
            standing.id,
            lambda: self._client.activate_model_deployment(standing.id),
            starts=True,
        )

    def _deactivation(self, standing: Any) -> _Request:
        return _Request(
            "deactivating the deployment",
            "deactivation of the deployment",
            standing.id,
            lambda: self._client.deactivate_model_deployment(standing.id),
        )

    def _into(
        self,
        name: str,
        watch: Watch,
        wanted: Collection[str],
        source: Collection[str],
        request: Callable[[Any], _Request],
    ) -> Any:
        """Brings a deployment from one state into another; one that is there is left alone."""
        for attempt in range(_MOST_CONFLICTS):
            standing = self.settled(name, watch)
            if standing is None:
                raise _nothing_deployed(name)
            if standing.lifecycle_state in wanted:
                return standing
            if standing.lifecycle_state not in source:
                raise _unusable(standing)
            self._begin(request(standing), watch)
            time.sleep(attempt * _CONFLICT_PAUSE_S)
        raise CloudError("somebody else is at work on it", where=name, remedy="run again")

    def _begin(self, request: _Request, watch: Watch) -> bool:
        """Begins an operation and waits for its end.

        Returns:
            False where the deployment is not in the state or the version that the request was
            meant for: somebody else is at work on it, or a cut request has begun already.
        """
        started = datetime.now(UTC)
        with translate_cloud_errors(request.action):
            try:
                answer = request.send()
            except oci.exceptions.ServiceError as error:
                if error.status in _CONFLICTS or self._has_gone(request, error):
                    return False
                raise
        starts = request.deployment_id if request.starts else None
        self._wait(answer, request.operation, watch, started, starts)
        return True

    def _has_gone(self, request: _Request, error: Any) -> bool:
        """Whether a refusal is for a deployment that was deleted, and not for a missing policy.

        OCI answers 404 NotAuthorizedOrNotFound to both.
        """
        if error.status != _NOT_FOUND:
            return False
        standing = self._client.get_model_deployment(request.deployment_id).data
        return standing.lifecycle_state in GONE

    def _wait(
        self, answer: Any, name: str, watch: Watch, started: datetime, starts: str | None
    ) -> None:
        """Waits for the operation that an answer names.

        Raises:
            CloudError: it failed, with everything that the cloud and the container say of it.
        """
        work_request = answer.headers.get("opc-work-request-id")
        if work_request is None:
            return
        try:
            wait_for(self._client, Operation(work_request, name), watch)
        except OperationError as failure:
            raise self._explained(failure, started, starts) from failure

    def _settled(self, deployment_id: str, watch: Watch) -> tuple[Any, str | None]:
        """A deployment on which no operation is running, and its version.

        How an operation ends that somebody else began is seen by the deployment.
        """
        deadline = time.monotonic() + watch.timeout_s
        while True:
            with translate_cloud_errors("reading the deployment"):
                answer = self._client.get_model_deployment(deployment_id)
            standing = answer.data
            if standing.lifecycle_state not in _MOVING:
                return standing, answer.headers.get("etag")
            if time.monotonic() > deadline:
                raise CloudError(
                    f"the deployment has been {standing.lifecycle_state} for too long",
                    where=standing.display_name,
                    remedy="see make status, and run again",
                )
            request = running_request(self._client, self._session.compartment_id, deployment_id)
            if request is None:
                watch.report(f"waiting while it is {standing.lifecycle_state}", None)
                time.sleep(_SETTLE_PAUSE_S)
                continue
            with contextlib.suppress(OperationError):
                wait_for(self._client, Operation(request, "operation begun before"), watch)

    def _explained(
        self, failure: OperationError, since: datetime, starts: str | None
    ) -> CloudError:
        """A failure with the deployment's own words, the end of its container's log, and advice."""
        # The clients of the Logging service cost a twentieth of a second to import.
        from falconry.deployment.logs import Logs

        details, lines = "", []
        with contextlib.suppress(CloudError):
            if starts:
                details = self.read(starts).lifecycle_details or ""
                lines = Logs(self._session).container_lines(_LOG_LINES, starts, since - _CLOCK_SKEW)
        said = [*failure.reasons, details, *lines]
        told = {line for reason in failure.reasons for line in reason.splitlines()}
        extra = [line for line in (*details.splitlines(), *lines) if line not in told]
        known = any(details.partition("\n")[0] in reason for reason in failure.reasons)
        return CloudError(
            failure.problem if known or not details else f"{failure.problem} ({details})",
            where=failure.where,
            remedy=explain_failure(said),
            details=[*failure.details, *extra],
        )


def _creation(target: DeploymentSpec, compartment: str) -> Any:
    """What creates a deployment; it claims nothing before it has answered."""
    claims = {KEY_TAG, MODEL_TAG, REFERENCE_TAG}
    return oci_models.CreateModelDeploymentDetails(
        display_name=target.name,
        description=target.description,
        project_id=target.project_id,
        compartment_id=compartment,
        model_deployment_configuration_details=target.configuration,
        category_log_details=target.logs,
        freeform_tags={name: value for name, value in target.tags.items() if name not in claims},
    )


def _nothing_deployed(name: str, selection: str = "") -> CloudError:
    remedy = f"run: make deploy {selection}".rstrip()
    return CloudError("nothing is deployed", where=name, remedy=remedy)


def _unusable(standing: Any) -> CloudError:
    """What to say of a deployment in a state that nothing can be done from."""
    details = standing.lifecycle_details or "no details given"
    return CloudError(
        f"the deployment is {standing.lifecycle_state}: {details.partition(chr(10))[0]}",
        where=standing.display_name,
        remedy=explain_failure([details]),
        details=details.splitlines()[1:],
    )
