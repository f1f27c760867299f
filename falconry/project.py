"""What each make target does, for one project directory and one profile."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.artifact import ArtifactStage
from falconry.cloud import emulator
from falconry.cloud.container_registry import OcirDoor
from falconry.cloud.stage import DeploymentStage
from falconry.engine.manifest import MANIFEST
from falconry.engine.stage import EngineStage
from falconry.engine.store import EngineMirror, EngineStore, StoredEngine
from falconry.errors import CloudError, EndpointError
from falconry.files import remove
from falconry.image.elsewhere import AnyRegistry
from falconry.image.output import image_of
from falconry.image.place import Door
from falconry.image.select import image_stage
from falconry.pipeline import (
    Output,
    PlannedStage,
    Step,
    Workspace,
    bring_up_to_date,
    plan,
    read_receipt,
    steps_to,
)
from falconry.progress import Progress
from falconry.repository.stage import RepositoryStage
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.doctor.finding import Finding

MODELS = Path("model_repository")


class Project:
    """A project directory seen through one profile.

    Args:
        settings: the profile with the command line's values; paths in it are relative to the
            working directory, which is the project's.
        progress: where to say what goes on.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._workspace = Workspace.open(settings.build_directory, progress)

    def bring_up_to(self, stage: str) -> Output:
        """Runs every stage up to this one that is out of date.

        Raises:
            FalconryError: a stage failed; what was made before it stands.
        """
        return bring_up_to_date(steps_to(stage, self._steps()), self._workspace)

    def plan(self) -> list[PlannedStage]:
        """Says which stages would run and why, and runs none."""
        stages = plan(self._steps(), self._workspace)
        for stage in stages:
            self._progress.planned(stage.name, stage.runs, stage.why, stage.details)
        return stages

    def check_image(
        self,
        image: str,
        artifact: str,
        command: str,
        health: str,
        timeout_s: int | None,
        *,
        as_json: bool,
    ) -> bool:
        """Runs an image and an artifact under the cloud's container contract.

        Args:
            image: the profile's own when empty.
            artifact: likewise.
            command: the words in place of the image's own, as for a shell; may be empty.
            health: path of the health check; the profile's when empty.
            timeout_s: how long it may take to become healthy.
            as_json: whether the report is JSON.

        Returns:
            Whether the contract is kept.
        """
        from falconry.cloud.deployments import environment
        from falconry.image.contract import Trial, keeps_contract

        serving = self._settings.serving
        variables = {"MODEL_DEPLOY_HEALTH_ENDPOINT": health} if health else environment(serving)
        reference = image or image_of({"image": self.bring_up_to("image")}).reference
        package = Path(artifact).expanduser() if artifact else self.bring_up_to("artifact").path
        trial = Trial(reference, package, shlex.split(command), variables, serving.port, timeout_s)
        return keeps_contract(trial, as_json=as_json)

    def diagnose(self) -> list[Finding]:
        """What this machine and account have and lack for the profile."""
        from falconry.doctor.examine import examine
        from falconry.doctor.subject import subject_of

        return examine(subject_of(self._settings, self._door()))

    def engines(self) -> list[StoredEngine]:
        """The engines in the store, the newest first."""
        return self._store().entries()

    def prune(self, keep: int) -> list[StoredEngine]:
        """Removes all engines but the newest ones and the one that the repository holds.

        Args:
            keep: how many stay.

        Returns:
            The engines that are gone.
        """
        return self._store().prune(keep, self._engines_in_use())

    def query(self, prompt: str | None, body: str | None, max_tokens: int) -> None:
        """Asks the deployment and prints its text, or for a body of the user's the whole answer.

        Raises:
            EndpointError: there is neither prompt nor body, or the endpoint refuses.
            CloudError: nothing is deployed.
        """
        from falconry.cloud.deployments import route_of
        from falconry.endpoint import Endpoint

        if body is None and prompt is None:
            raise EndpointError(
                "there is nothing to ask",
                remedy='give PROMPT="..." or BODY=\'{"text_input": ...}\'',
            )
        deployment, signer = self._deployment()
        endpoint = Endpoint(deployment.model_deployment_url, signer, route_of(deployment))
        if body is None:
            self._progress.note(endpoint.answer(str(prompt), max_tokens))
        else:
            self._progress.note(endpoint.text_of(endpoint.predict(_json_object(body))))

    def status(self) -> None:
        """Prints what is deployed."""
        deployment, _ = self._deployment()
        configuration = deployment.model_deployment_configuration_details
        model = configuration.model_configuration_details
        rows = {
            "deployment": deployment.display_name,
            "state": deployment.lifecycle_state,
            "since": f"{deployment.time_created:%Y-%m-%d %H:%M:%S %Z}",
            "url": deployment.model_deployment_url,
            "image": configuration.environment_configuration_details.image,
            "shape": model.instance_configuration.instance_shape_name,
            "model": model.model_id,
            "details": deployment.lifecycle_details or "",
        }
        for name, value in rows.items():
            self._progress.note(f"{name:<12}{value}".rstrip())

    def logs(self, lines: int) -> None:
        """Prints the newest lines of the deployment's log."""
        from falconry.cloud.logs import Logs
        from falconry.cloud.session import Session

        for line in Logs(Session(self._settings.cloud)).read(lines):
            self._progress.note(line)

    def down(self) -> None:
        """Deletes the deployment, and stops the local cloud where there is one."""
        local = self._settings.cloud.emulator
        if local is None or emulator.answers(local):
            with self._workspace.lock("deployment"):
                self._delete_deployment()
        if local is not None:
            emulator.stop(local)
            self._progress.done("local cloud", "stopped")

    def clean(self, *, everything: bool) -> None:
        """Removes this profile's outputs, after `down`; with `everything` the engine store too."""
        self.down()
        build = self._settings.build_directory
        remove(build.parent if everything else build)
        if everything:
            remove(self._settings.engine.store)
        self._progress.done("clean", "removed", str(build.parent if everything else build))

    def _store(self) -> EngineStore:
        return EngineStore(self._settings.engine.store, self._workspace.digests)

    def _engines_in_use(self) -> set[str]:
        """Keys of the engines that the repositories of all profiles were made from."""
        receipts = self._settings.build_directory.parent.glob("*/receipts/repository.json")
        found = [receipt for path in receipts if (receipt := read_receipt(path))]
        used = {receipt.ingredients.get("engine") for receipt in found}
        store, digests = self._settings.engine.store, self._workspace.digests
        return {
            path.parent.name for path in store.glob(f"*/{MANIFEST}") if digests.file(path) in used
        }

    def _steps(self) -> list[Step]:
        """All stages, each after those that it needs."""
        settings, workspace = self._settings, self._workspace
        mirror = self._mirror if settings.engine.mirror else None
        return [
            Step("engine", lambda _: EngineStage(settings, workspace, mirror)),
            Step(
                "repository",
                lambda made: RepositoryStage(MODELS, made["engine"], settings, workspace),
                needs=("engine",),
            ),
            Step(
                "artifact",
                lambda made: ArtifactStage(made["repository"], workspace),
                needs=("repository",),
            ),
            Step("image", lambda _: image_stage(settings, workspace, self._door())),
            Step(
                "deployment",
                lambda made: DeploymentStage(settings, made["artifact"], image_of(made)),
                needs=("artifact", "image"),
            ),
        ]

    def _mirror(self) -> EngineMirror:
        from falconry.cloud.engine_mirror import ObjectStorageMirror
        from falconry.cloud.session import Session

        if self._settings.engine.mirror is None:
            raise ValueError("no mirror is set")
        return ObjectStorageMirror(Session(self._settings.cloud), self._settings.engine.mirror)

    def _door(self) -> Door:
        """The way to the registry: the profile's own, or that of its cloud."""
        registry = self._settings.image.registry
        if registry.host:
            return AnyRegistry(registry)
        namespaces = self._workspace.build.parent / "namespaces.json"
        return OcirDoor(self._settings.cloud, registry, namespaces)

    def _deployment(self) -> tuple[Any, Any]:
        """The deployment and a signer for requests to it.

        Raises:
            CloudError: nothing is deployed.
        """
        from falconry.cloud.deployments import Deployments
        from falconry.cloud.session import Session

        session = Session(self._settings.cloud)
        name = self._settings.deployment.name
        deployment = Deployments(session).get(name)
        if deployment is None:
            raise CloudError("nothing is deployed", where=name, remedy="run: make deploy")
        return deployment, session.signer()

    def _delete_deployment(self) -> None:
        from falconry.cloud.deployments import Deployments
        from falconry.cloud.session import Session

        def report(step: str, fraction: float | None) -> None:
            self._progress.running("deployment", step, fraction)

        wanted = self._settings.deployment
        deployments = Deployments(Session(self._settings.cloud))
        standing = deployments.settled(wanted.name, wanted, report)
        if standing is None:
            self._progress.done("deployment", "none")
            return
        deployments.delete(standing, wanted, report)
        self._progress.done("deployment", "deleted")


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise EndpointError(f"is not JSON: {error}", where="BODY") from None
    if not isinstance(value, dict):
        raise EndpointError("is not a JSON object", where="BODY")
    return value
