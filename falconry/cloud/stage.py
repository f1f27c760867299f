"""The deployment stage: an artifact becomes a catalog model and an ACTIVE deployment.

The cloud is its own record: the deployment carries the stage's key as a tag, so a runner with an
empty build directory finds what is deployed and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from falconry.artifact.stage import ArtifactOutput
from falconry.cloud import emulator
from falconry.image.output import ImageOutput
from falconry.pipeline import Output, Report, Stage
from falconry.settings import EmulatorSettings, Settings

# The modules that import the oci SDK are imported where a request is made: it costs a third of a
# second, which a run that stops before the cloud need not pay.


class DeploymentStage(Stage):
    """Brings the profile's deployment about.

    Args:
        settings: the profile.
        artifact: the artifact stage's output.
        image: the image stage's.
    """

    name = "deployment"
    version = 2

    def __init__(self, settings: Settings, artifact: ArtifactOutput, image: ImageOutput) -> None:
        self._settings = settings
        self._artifact = artifact
        self._image = image

    @override
    def ingredients(self) -> Mapping[str, str]:
        return {
            "artifact": self._artifact.digest,
            "image": self._image.pinned,
            "deployment": self._settings.deployment.model_dump_json(),
            "serving": self._settings.serving.model_dump_json(),
        }

    @override
    def find(self, key: str) -> Output | None:
        from falconry.cloud.deployments import KEY_TAG

        standing = self._standing()
        if standing is None or standing.lifecycle_state != "ACTIVE":
            return None
        return _output(standing) if standing.freeform_tags.get(KEY_TAG) == key else None

    @override
    def reason(self, ingredients: Mapping[str, str]) -> str:
        from falconry.cloud.catalog import ARTIFACT_TAG
        from falconry.cloud.deployments import IMAGE_TAG

        if self._emulator_rests():
            return "the local cloud is not running"
        standing = self._standing()
        if standing is None:
            return "nothing deployed yet"
        if standing.lifecycle_state != "ACTIVE":
            return f"the deployment is {standing.lifecycle_state}"
        tags = standing.freeform_tags
        if tags.get(ARTIFACT_TAG) != ingredients["artifact"]:
            return "artifact changed"
        same_image = tags.get(IMAGE_TAG) == self._image.digest
        return "settings changed" if same_image else "image changed"

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> Output:
        from falconry.cloud.catalog import ARTIFACT_TAG, Catalog
        from falconry.cloud.deployments import IMAGE_TAG, KEY_TAG, Deployments, Wanted
        from falconry.cloud.logs import Logs
        from falconry.cloud.session import Session
        from falconry.endpoint import Endpoint

        settings = self._settings
        if settings.cloud.emulator:
            report("starting the local cloud", None)
            self._start(settings.cloud.emulator)
        session = Session(settings.cloud)
        catalog = Catalog(session)
        model_id = catalog.find(self._artifact.digest)
        if model_id is None:
            model_id = catalog.add(self._artifact.view(), settings.deployment.name, report)
        wanted = Wanted(
            settings=settings.deployment,
            serving=settings.serving,
            image=self._image,
            model_id=model_id,
            project_id=catalog.project(),
            log=Logs(session).ensure(),
            tags={
                KEY_TAG: key,
                ARTIFACT_TAG: self._artifact.digest,
                IMAGE_TAG: self._image.digest,
            },
        )
        active = Deployments(session).bring_about(wanted, report)
        report("asking it a first question", None)
        Endpoint(active.model_deployment_url, session.signer(), settings.serving.route).smoke()
        return _output(active)

    def _start(self, local: EmulatorSettings) -> None:
        """Starts the emulator with what it needs to run the image."""
        if self._image.kind == "process":
            emulator.start(local, process_images={self._image.reference: self._image.path})
        else:
            emulator.start(local, registry=True)

    def _standing(self) -> Any | None:
        from falconry.cloud.deployments import Deployments
        from falconry.cloud.session import Session

        if self._emulator_rests():
            return None
        session = Session(self._settings.cloud)
        return Deployments(session).find(self._settings.deployment.name)

    def _emulator_rests(self) -> bool:
        local = self._settings.cloud.emulator
        return local is not None and not emulator.answers(local)


def _output(deployment: Any) -> Output:
    url = deployment.model_deployment_url
    return Output(path=Path(), digest=deployment.id, summary=f"ACTIVE  {url}")
