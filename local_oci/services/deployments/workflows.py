"""What the work requests of model deployments do."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from local_oci.runtime.runner import Stream
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.fleet import LaunchRequest, RunningContainer, Step
from local_oci.services.deployments.models import Configuration, DeploymentState, ModelDeployment
from local_oci.services.deployments.updates import (
    NEEDS_NEW_CONTAINER,
    DeploymentSpec,
    changed_groups,
)
from local_oci.services.logs.store import Category
from local_oci.services.work_requests.engine import Work, WorkError, Workflow
from local_oci.services.work_requests.models import Operation
from local_oci.storage.records import now

_ACTIVE_TEXT = "Model Deployment is Active."  # Oracle's words
# Before a container that failed is replaced, so that an immediate failure again costs little. After
# each attempt that fails the pause doubles.
_REPLACEMENT_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_DELETED_TEXT = "Model Deployment with all associated resources has been deleted"  # Oracle's words

_LOST_TEXT = "The operation on it was lost when local_oci ended."
_NEVER_REPLACED = {"restarts": 0, "last_failure": None}
_SERVING = frozenset({DeploymentState.ACTIVE, DeploymentState.NEEDS_ATTENTION})
_MOVING = frozenset({DeploymentState.CREATING, DeploymentState.UPDATING, DeploymentState.DELETING})

_log = logging.getLogger("local_oci.deployments")


class DeploymentWorkflows:
    """The workflows, and the restoring of what ran when the cloud was stopped."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._restoring: dict[str, asyncio.Task[None]] = {}
        self._watching: set[asyncio.Task[None]] = set()

    def by_operation(self) -> dict[Operation, Workflow]:
        """Each operation's workflow."""
        runs = {
            Operation.CREATE_DEPLOYMENT: self.start,
            Operation.UPDATE_DEPLOYMENT: self.update,
            Operation.ACTIVATE_DEPLOYMENT: self.start,
            Operation.DEACTIVATE_DEPLOYMENT: self.deactivate,
            Operation.DELETE_DEPLOYMENT: self.delete,
        }
        return {operation: Workflow(run, self.give_up) for operation, run in runs.items()}

    # --- work requests ------------------------------------------------------------------------

    async def start(self, work: Work) -> None:
        """CREATING or UPDATING to ACTIVE."""
        deployment = self._deployment(work)
        configuration = deployment.model_deployment_configuration_details
        running = await self._launch(deployment.id, configuration, work)
        await self._install(deployment.id, running)
        self._change(deployment.id, DeploymentState.ACTIVE, None, serving=True, **_NEVER_REPLACED)
        work.step(_ACTIVE_TEXT, 100)

    async def update(self, work: Work) -> None:
        """UPDATING to ACTIVE (or INACTIVE, as before)."""
        deployment = self._deployment(work)
        target = DeploymentSpec.model_validate(json.loads(work.record.parameters))
        await self._finish_restoring(deployment.id)
        if deployment.serving and self._needs_container(deployment, target):
            configuration = target.model_deployment_configuration_details
            running = await self._launch(deployment.id, configuration, work)
            work.step("Switching to the new container", 80)
            await self._install(deployment.id, running)
        state = DeploymentState.ACTIVE if deployment.serving else DeploymentState.INACTIVE
        self._change(deployment.id, state, None, **target.fields(), **_NEVER_REPLACED)
        work.step("Model Deployment is updated", 100)

    async def deactivate(self, work: Work) -> None:
        """UPDATING to INACTIVE."""
        deployment = self._deployment(work)
        work.step("Stopping container", 20)
        await self._take_down(deployment.id)
        self._change(deployment.id, DeploymentState.INACTIVE, None, serving=False)
        work.step("Model Deployment is Inactive.", 100)

    async def delete(self, work: Work) -> None:
        """DELETING to DELETED."""
        deployment = self._deployment(work)
        work.step("Stopping container", 20)
        await self._take_down(deployment.id)
        self._cloud.fleet.output_file(deployment.id).unlink(missing_ok=True)
        self._change(deployment.id, DeploymentState.DELETED, None, serving=False)
        work.step(_DELETED_TEXT, 100)

    def give_up(self, deployment_id: str, failure: str) -> None:
        """Bring a deployment into a final state after an operation that failed.

        What served before an update or a stop that failed still does; a deployment that was not to
        serve has no container left.
        """
        deployment = self._cloud.deployments.get(deployment_id)
        if deployment is None or deployment.lifecycle_state not in _MOVING:
            return
        if deployment.lifecycle_state is not DeploymentState.UPDATING:
            state = DeploymentState.FAILED
        elif deployment.serving:
            state = DeploymentState.NEEDS_ATTENTION
        else:
            state = DeploymentState.INACTIVE
        serves = state is DeploymentState.NEEDS_ATTENTION
        self._change(deployment_id, state, failure, serving=serves)
        if not serves:
            self._watch_over(asyncio.create_task(self._take_down(deployment_id)))

    # --- restart ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Give up what no operation is running on: its operation was lost."""
        busy = self._cloud.work_requests.subjects()
        for deployment in list(self._cloud.deployments.scan()):
            if deployment.id not in busy:
                self.give_up(deployment.id, _LOST_TEXT)

    def restore(self) -> None:
        """Start the containers of all deployments that should be serving."""
        for deployment in list(self._cloud.deployments.scan()):
            if deployment.serving:
                task = asyncio.create_task(self._restore(deployment))
                self._restoring[deployment.id] = task

    async def shutdown(self) -> None:
        """Give up restoring."""
        tasks = [*self._restoring.values(), *self._watching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _restore(self, deployment: ModelDeployment, failures: int = 0) -> None:
        """Start a container for a deployment that has none; after a failure try again later.

        Args:
            deployment: which one.
            failures: how many attempts in a row have failed.
        """

        def step(message: str, _percent: float) -> None:
            _log.info("restoring %s: %s", deployment.id, message)

        configuration = deployment.model_deployment_configuration_details
        try:
            running = await self._cloud.fleet.launch(
                self._launch_request(deployment.id, configuration), step
            )
        except Exception as failure:  # WorkError, or too few open files, a full disk
            _log.warning("restoring %s: %s", deployment.id, failure)
            current = self._cloud.deployments.get(deployment.id)
            if current is not None and current.lifecycle_state is DeploymentState.ACTIVE:
                self._change(deployment.id, DeploymentState.NEEDS_ATTENTION, str(failure))
            self._watch_over(asyncio.create_task(self._replace(deployment.id, failures + 1)))
        else:
            await self._install(deployment.id, running)
            current = self._cloud.deployments.get(deployment.id)
            if current is not None and current.lifecycle_state in _SERVING:
                self._change(deployment.id, DeploymentState.ACTIVE, current.active_details)
                if failures or current.restarts:
                    self._report(current, "A new container is healthy.")

    async def _finish_restoring(self, deployment_id: str) -> None:
        if task := self._restoring.pop(deployment_id, None):
            await asyncio.gather(task, return_exceptions=True)

    # --- parts --------------------------------------------------------------------------------

    async def _launch(
        self, deployment_id: str, configuration: Configuration, work: Work
    ) -> RunningContainer:
        work.step("Creating compute resource configuration", 5)
        faults = self._cloud.faults.take_start_fault(work.record.operation_type)
        step: Step = work.step
        request = self._launch_request(deployment_id, configuration)
        running = await self._cloud.fleet.launch(
            replace(request, unhealthy_seconds=faults.unhealthy_seconds), step
        )
        if faults.healthy_seconds is not None:
            self._watch_over(
                asyncio.create_task(self._crash_later(running, faults.healthy_seconds))
            )
        return running

    async def _crash_later(self, running: RunningContainer, seconds: float) -> None:
        """End a container after a while, for an injected fault."""
        await asyncio.sleep(seconds)
        if not running.stopping:
            await running.crash()

    def _watch_over(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _launch_request(self, deployment_id: str, configuration: Configuration) -> LaunchRequest:
        model_id = configuration.model_configuration_details.model_id
        artifact = self._cloud.catalog.artifacts.get(model_id)
        if artifact is None:
            raise WorkError("InvalidArtifact", f"Model {model_id} has no artifact any more.")

        def output(_stream: Stream, lines: list[str]) -> None:
            deployment = self._cloud.deployments.get(deployment_id)
            if deployment is not None:
                self._cloud.logs.write_deployment(deployment, Category.PREDICT, lines)

        return LaunchRequest(
            deployment_id=deployment_id,
            tenancy=self._cloud.identity.tenancy,
            container=configuration.environment_configuration_details,
            artifact=self._cloud.blobs.path(artifact.blob),
            output=output,
        )

    def _needs_container(self, deployment: ModelDeployment, target: DeploymentSpec) -> bool:
        """Whether an update changes what runs, or finds nothing running."""
        running = self._cloud.fleet.get(deployment.id)
        if running is None or not running.answering:
            return True
        return bool(changed_groups(deployment, target) & NEEDS_NEW_CONTAINER)

    async def _install(self, deployment_id: str, running: RunningContainer) -> None:
        self._watch_over(asyncio.create_task(self._watch(deployment_id, running)))
        await self._cloud.fleet.install(deployment_id, running)

    async def _watch(self, deployment_id: str, running: RunningContainer) -> None:
        """Replace a container that fails, or ends without being stopped."""
        how = await running.wait_for_failure()
        deployment = self._cloud.deployments.get(deployment_id)
        replaced = self._cloud.fleet.get(deployment_id) is not running
        if running.stopping or replaced or deployment is None:
            return
        text = f"The container {how}; predictions answer 503 until a new one is healthy."
        self._report(deployment, text)
        self._cloud.deployments.change(
            deployment,
            lifecycle_details=text,
            restarts=deployment.restarts + 1,
            last_failure=f"{how}, at {now():%Y-%m-%dT%H:%M:%SZ}",
        )
        await self._replace(deployment_id, failures=0)

    async def _replace(self, deployment_id: str, failures: int) -> None:
        """Start a container for a deployment that has none, after a pause."""
        pause = min(_REPLACEMENT_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS)
        while True:
            await asyncio.sleep(pause)
            current = self._cloud.deployments.get(deployment_id)
            running = self._cloud.fleet.get(deployment_id)
            if current is None or not current.serving or (running and running.answering):
                return
            # An update that is under way starts a container of its own.
            if current.lifecycle_state in _SERVING:
                restoring = self._restore(current, failures)
                self._restoring[deployment_id] = asyncio.create_task(restoring)
                return

    def _report(self, deployment: ModelDeployment, text: str) -> None:
        """Write what became of a deployment's container to this log and to the deployment's."""
        _log.warning("%s: %s", deployment.id, text)
        self._cloud.fleet.add_output(deployment.id, [f"local_oci: {text}"])
        self._cloud.logs.write_deployment(deployment, Category.PREDICT, [f"local_oci: {text}"])

    async def _take_down(self, deployment_id: str) -> None:
        if task := self._restoring.pop(deployment_id, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._cloud.fleet.remove(deployment_id)

    def _deployment(self, work: Work) -> ModelDeployment:
        deployment = self._cloud.deployments.get(work.record.subject)
        if deployment is None:
            raise WorkError("InternalServerError", "The deployment's record is gone.")
        return deployment

    def _change(
        self, deployment_id: str, state: DeploymentState, details: str | None, **fields: object
    ) -> None:
        deployment = self._cloud.deployments.get(deployment_id)
        if deployment is not None:
            self._cloud.deployments.change(
                deployment, lifecycle_state=state, lifecycle_details=details, **fields
            )
