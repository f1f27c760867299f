"""The deployment stage: an artifact becomes a catalog model and an ACTIVE deployment that answers.

The cloud is its own record: the deployment carries the stage's key as a tag from its first answer
on, so a runner with an empty build directory finds what is deployed and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from falconry.artifact.stage import ArtifactOutput
from falconry.cloud import emulator
from falconry.cloud.tags import ARTIFACT_TAG, ENGINE_TAG, IMAGE_TAG, KEY_TAG
from falconry.engine.manifest import Manifest, read_manifest
from falconry.image.output import ImageOutput
from falconry.pipeline import Output, Report, Stage
from falconry.settings import EmulatorSettings, Settings

if TYPE_CHECKING:
    from falconry.cloud.deployment_target import Target
    from falconry.cloud.session import Session

# The modules that import the oci SDK are imported where a request is made: it costs nearly half a
# second, which a run that stops before the cloud need not pay.

# What decides how a run waits, and nothing of the deployment.
_OF_THE_RUN = {"timeout_minutes", "downtime"}


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
    def ingredients(self) -> Mapping[str, str]:
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
    def reason(self, ingredients: Mapping[str, str]) -> str:
        if self._emulator_rests():
            return "the local cloud is not running"
        current = self._current()
        if current is None:
            return "nothing deployed yet"
        if current.lifecycle_state != "ACTIVE":
            return f"the deployment is {current.lifecycle_state}"
        tags = current.freeform_tags or {}
        if tags.get(ARTIFACT_TAG) != ingredients["artifact"]:
            return "artifact changed"
        if tags.get(IMAGE_TAG) != self._image.digest:
            return "image changed"
        return "settings changed" if KEY_TAG in tags else "it has not answered yet"

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> Output:
        from falconry.cloud.deployments import Deployments
        from falconry.cloud.rollback import bring_about_verified
        from falconry.cloud.session import session_of
        from falconry.cloud.work_requests import Watch

        settings = self._settings
        if settings.cloud.emulator:
            report("starting the local cloud", None)
            self._start(settings.cloud.emulator)
        session = session_of(settings.cloud)
        target = self._target(session, key, report)

        def ask(active: Any) -> None:
            from falconry.cloud.deployment_endpoint import endpoint_of

            endpoint_of(active, session).smoke()

        watch = Watch(target.timeout_s, report)
        return _output(
            bring_about_verified(Deployments(session), target, ask, watch, rollback=self._rollback)
        )

    def _target(self, session: Session, key: str, report: Report) -> Target:
        """What shall be deployed, once its model is in the catalog and its logs are there."""
        from falconry.cloud.catalog import Catalog
        from falconry.cloud.deployment_target import Wanted, target_of
        from falconry.cloud.logs import Logs

        settings = self._settings
        engine = read_manifest(self._engine.path)
        catalog = Catalog(session)
        wanted = Wanted(
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
        from falconry.cloud.allowances import read_account
        from falconry.cloud.preflight import subject_of
        from falconry.engine.toolchain import load_toolchains
        from falconry.preflight import Artifact, Image, check_deployment

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
        from falconry.cloud.model_entry import entry_of

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
        from falconry.cloud.deployment_list import current
        from falconry.cloud.session import session_of

        return current(session_of(self._settings.cloud), self._settings.deployment.name)

    def _emulator_rests(self) -> bool:
        local = self._settings.cloud.emulator
        return local is not None and not emulator.answers(local)


def _output(deployment: Any) -> Output:
    url = deployment.model_deployment_url
    return Output(path=Path(), digest=deployment.id, summary=f"ACTIVE  {url}")
