"""The deployment stage: an artifact becomes a catalog model and an ACTIVE deployment.

The cloud is its own record: the deployment has the stage's key as a tag from its first answer on,
so a runner with an empty build directory finds what is deployed and does nothing. What does not
answer is followed by what answered before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from falconry.artifact.stage import ArtifactOutput
from falconry.cloud import emulator
from falconry.cloud.session import Session
from falconry.cloud.work_requests import Watch
from falconry.deployment.deployments import Deployments
from falconry.deployment.target import (
    ARTIFACT_TAG,
    ENGINE_TAG,
    IMAGE_TAG,
    KEY_TAG,
    DeploymentSpec,
    previous_target,
    route_of,
)
from falconry.endpoint import Endpoint
from falconry.engine.manifest import Manifest, read_manifest
from falconry.errors import CloudError, FalconryError
from falconry.image.output import ImageOutput
from falconry.pipeline import Output, Report, Stage
from falconry.settings import EmulatorSettings, Settings

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.deployment.target import DeploymentSpec

Verify = Callable[[Any], None]
# The modules that import the oci SDK are imported where a request is made: it costs nearly half a
# second, which a run that stops before the cloud need not pay.

# What decides how a run waits, and nothing of the deployment.
_OF_THE_RUN = {"timeout_minutes", "downtime"}


# --- endpoint ---------------------------------------------------------------------------------


def endpoint_of(deployment: Any, session: Session) -> Endpoint:
    """The endpoint of a deployment, asked as the session's user.

    Args:
        deployment: oci's ModelDeployment.
        session: whose requests are signed.
    """
    return Endpoint(deployment.model_deployment_url, session.signer(), route_of(deployment))


# --- rollback ---------------------------------------------------------------------------------


def apply_with_rollback(
    deployments: Deployments,
    target: DeploymentSpec,
    verify: Verify,
    watch: Watch,
    *,
    rollback: bool,
) -> Any:
    """Brings a deployment about; it is reported only once it has answered.

    Args:
        deployments: those of the profile.
        target: what it shall be.
        verify: asks an ACTIVE deployment, and raises a FalconryError where it does not answer.
        watch: how operations are waited for.
        rollback: whether a failure is followed by a return to what last answered.

    Returns:
        The deployment in full.

    Raises:
        FalconryError: of the failure. After a rollback it says what stands now.
    """
    before = deployments.get(target.name) if rollback else None
    previous = previous_target(before, target) if before else None
    try:
        return _verified(deployments.apply(target, watch), target, deployments, verify, watch)
    except FalconryError as failure:
        if not rollback:
            raise
        raise _returned(failure, before, previous, deployments, verify, watch) from failure


def _verified(
    active: Any, target: DeploymentSpec, deployments: Deployments, verify: Verify, watch: Watch
) -> Any:
    watch.report("asking it a first question", None)
    verify(active)
    deployments.confirm(active.id, target, watch)
    return active


def _returned(
    failure: FalconryError,
    before: Any | None,
    previous: DeploymentSpec | None,
    deployments: Deployments,
    verify: Verify,
    watch: Watch,
) -> CloudError:
    """Goes back, and says so together with the reason.

    Raises:
        DetachedOperation: the user interrupted it.
    """
    if before is None or previous is None:
        return _told(failure, "there is nothing to return to: no deployment has answered before")
    watch.report("returning to the previous model and image", None)
    what = f"model {previous.model_id} and image {previous.image}"
    try:
        active = deployments.reconcile(before.id, previous, watch)
        _verified(active, previous, deployments, verify, watch)
    except FalconryError as second:
        return _told(failure, f"the return to {what} failed as well: {second}", second.details)
    return _told(failure, f"returned to {what}, which answers")


def _told(failure: FalconryError, outcome: str, more: tuple[str, ...] = ()) -> CloudError:
    return CloudError(
        f"{failure.problem}; {outcome}",
        where=failure.where,
        remedy=failure.remedy,
        details=[*failure.details, *more],
    )


# --- stage ------------------------------------------------------------------------------------


class DeploymentStage(Stage):
    """Brings the profile's deployment about.

    Args:
        settings: the profile.
        engine: the engine stage's output.
        artifact: the artifact stage's.
        image: the image stage's.
        rollback: whether a deployment that fails is followed by a return to what answered before.
    """

    name = "deployment"
    version = 3

    def __init__(
        self,
        settings: Settings,
        engine: Output,
        artifact: ArtifactOutput,
        image: ImageOutput,
        *,
        rollback: bool = False,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._artifact = artifact
        self._image = image
        self._rollback = rollback

    @override
    def inputs(self) -> Mapping[str, str]:
        return {
            "artifact": self._artifact.digest,
            "image": self._image.pinned,
            "deployment": self._settings.deployment.model_dump_json(exclude=_OF_THE_RUN),
            "serving": self._settings.serving.model_dump_json(),
        }

    @override
    def find(self, key: str) -> Output | None:
        current = self._current()
        if current is None or current.lifecycle_state != "ACTIVE":
            return None
        tags = current.freeform_tags or {}
        return _output(current) if tags.get(KEY_TAG) == key else None

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        if self._emulator_rests():
            return "the local cloud is not running"
        current = self._current()
        if current is None:
            return "nothing deployed yet"
        if current.lifecycle_state != "ACTIVE":
            return f"the deployment is {current.lifecycle_state}"
        tags = current.freeform_tags or {}
        if tags.get(ARTIFACT_TAG) != inputs["artifact"]:
            return "artifact changed"
        if tags.get(IMAGE_TAG) != self._image.digest:
            return "image changed"
        return "settings changed" if KEY_TAG in tags else "it has not answered yet"

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        from falconry.cloud.session import session_of
        from falconry.cloud.work_requests import Watch
        from falconry.deployment.deployments import Deployments
        from falconry.deployment.stage import apply_with_rollback

        settings = self._settings
        if settings.cloud.emulator:
            report("starting the local cloud", None)
            self._start(settings.cloud.emulator)
        session = session_of(settings.cloud)
        target = self._target(session, key, report)

        def ask(active: Any) -> None:
            from falconry.deployment.stage import endpoint_of

            endpoint_of(active, session).smoke()

        watch = Watch(target.timeout_s, report)
        return _output(
            apply_with_rollback(Deployments(session), target, ask, watch, rollback=self._rollback)
        )

    def _target(self, session: Session, key: str, report: Report) -> DeploymentSpec:
        """What shall be deployed, once its model is in the catalog and its logs are there."""
        from falconry.deployment.catalog import Catalog
        from falconry.deployment.logs import Logs
        from falconry.deployment.target import DeploymentRequest, target_of

        settings = self._settings
        engine = read_manifest(self._engine.path)
        catalog = Catalog(session)
        wanted = DeploymentRequest(
            settings=settings.deployment,
            serving=settings.serving,
            image=self._image,
            model_id="",
            project_id=catalog.project(),
            log=Logs(session).ensure(),
            tags={
                KEY_TAG: key,
                ARTIFACT_TAG: self._artifact.digest,
                IMAGE_TAG: self._image.digest,
                ENGINE_TAG: engine.key,
            },
            engine_bound=engine.gpu is not None,
        )
        self._check(session, target_of(wanted).configuration, engine, report)
        return target_of(replace(wanted, model_id=self._model(catalog, engine, report)))

    def _check(
        self, session: Session, configuration: Any, engine: Manifest, report: Report
    ) -> None:
        """Refuses what the cloud would refuse or fail after a long upload."""
        from falconry.deployment.account import read_account, subject_of
        from falconry.deployment.preflight import Artifact, Image, check_deployment
        from falconry.engine.toolchain import load_toolchains

        report("checking limits and sizes", None)
        settings, image, layout = self._settings, self._image, self._artifact.contents().layout()
        release = engine.gpu.release if engine.gpu else None
        subject = subject_of(
            settings.deployment.name,
            configuration,
            Artifact([entry.name for entry in layout.entries], layout.size),
            Image(image.reference, image.compressed_bytes, image.labels),
            engine=engine,
            toolchain=load_toolchains().row(release) if release else None,
            account=read_account(session, settings.deployment.shape),
        )
        check_deployment(subject).refuse_problems()

    def _model(self, catalog: Any, engine: Manifest, report: Report) -> str:
        from falconry.deployment.provenance import entry_of

        digest = self._artifact.digest
        entry = entry_of(self._settings, digest, engine, self._image.pinned)
        return str(catalog.ensure(entry, self._artifact.view(), report))

    def _start(self, local: EmulatorSettings) -> None:
        """Starts the emulator with what it needs to run the image."""
        if self._image.kind == "process":
            emulator.start(local, process_images={self._image.reference: self._image.path})
        else:
            emulator.start(local, registry=True)

    def _current(self) -> Any | None:
        if self._emulator_rests():
            return None
        from falconry.cloud.session import session_of
        from falconry.deployment.deployment_list import current

        return current(session_of(self._settings.cloud), self._settings.deployment.name)

    def _emulator_rests(self) -> bool:
        local = self._settings.cloud.emulator
        return local is not None and not emulator.answers(local)


def _output(deployment: Any) -> Output:
    url = deployment.model_deployment_url
    return Output(path=Path(), digest=deployment.id, summary=f"ACTIVE  {url}")
