"""What each make target does, for one project directory and one profile."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.cloud import emulator
from falconry.data_files import require_usable_path, split_words
from falconry.documents import DocumentError, parse_json
from falconry.errors import EndpointError, FalconryError
from falconry.files import remove, require_open_files, user_path
from falconry.pipeline import (
    Output,
    PlannedStage,
    Receipt,
    Stage,
    Step,
    Workspace,
    plan,
    read_receipt,
    run_stages,
    steps_to,
)
from falconry.progress import Progress
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.artifact.stage import ArtifactOutput
    from falconry.cloud.session import Session
    from falconry.cloud.work_requests import Watch
    from falconry.deployment.catalog import PrunedModel
    from falconry.deployment.deployments import Deployments
    from falconry.deployment.status import DeploymentStatus
    from falconry.endpoint.endpoint import Endpoint
    from falconry.engine.manifest import GpuEngine
    from falconry.engine.store import EngineMirror, EngineStore, StoredEngine
    from falconry.findings import Finding
    from falconry.image.registry import RegistryProvider
    from falconry.image.stage import PrunedImage
    from falconry.shapes import Advice

# What a target needs is imported where it is used: none needs all of it.
MODELS = Path("model_repository")
# A deletion that the local cloud does not finish in that time is cut short by the cloud's end.
_LOCAL_DELETION_S = 60.0


class Project:
    """A project directory with one profile.

    Args:
        settings: the profile with the command line's values; relative paths start at the working
            directory, which is the project's.
        progress: where to report what is being done.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        require_usable_path(Path.cwd())
        self._settings = settings
        self._progress = progress
        self._workspace = Workspace.open(settings.build_directory, progress)

    def run_until(self, stage: str, *, rollback: bool = False) -> Output:
        """Runs every outdated stage up to this one.

        Args:
            stage: the last one.
            rollback: whether a deployment that fails returns to what answered before.

        Raises:
            FalconryError: a stage failed; the outputs of earlier stages are kept.
        """
        require_open_files()
        return run_stages(steps_to(stage, self._steps(rollback=rollback)), self._workspace)

    def plan(self) -> list[PlannedStage]:
        """Reports which stages would run and why; runs none."""
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
            image: the profile's if empty.
            artifact: likewise.
            command: replaces the image's command, in shell words, unless empty.
            health: path of the health check; the profile's if empty.
            timeout_s: until it must be healthy.
            as_json: whether the report is JSON.

        Returns:
            Whether the contract is kept.
        """
        from falconry.cloud.emulator import ContainerCheck, run_contract_check
        from falconry.deployment.target import environment
        from falconry.image.output import image_of

        serving = self._settings.serving
        words = split_words(command, "CMD")
        variables = {"MODEL_DEPLOY_HEALTH_ENDPOINT": health} if health else environment(serving)
        reference = image or image_of({"image": self.run_until("image")}).reference
        with contextlib.ExitStack() as stack:
            package = user_path(artifact) if artifact else stack.enter_context(self._unpacked())
            check = ContainerCheck(*(reference, package, words, variables, serving.port, timeout_s))
            return run_contract_check(check, as_json=as_json)

    def write_artifact(self, path: Path) -> ArtifactOutput:
        """Makes the artifact if needed and writes it to a file, atomically."""
        from falconry.artifact.stage import as_artifact

        output = as_artifact(self.run_until("artifact"))

        def report(step: str, fraction: float | None) -> None:
            self._progress.running("artifact", step, fraction)

        output.view().write(path, report)
        self._progress.done("artifact", "written", str(path))
        return output

    def diagnose(self) -> list[Finding]:
        """Checks what this machine and account have and lack for the profile."""
        from falconry.doctor.examine import examine
        from falconry.doctor.subject import subject_of

        return examine(subject_of(self._settings, self._registry()))

    def engines(self) -> list[StoredEngine]:
        """Lists the engines in the store, the newest first."""
        return self._store().entries()

    def prune(self, keep: int) -> list[StoredEngine]:
        """Removes all engines but the newest ones and those in a repository.

        Returns:
            The removed engines.
        """
        return self._store().prune(keep, self._engines_in_use())

    def prune_images(self, keep: int) -> list[PrunedImage]:
        """Removes local images but the newest ones and those in use.

        Returns:
            The removed images; none if no engine is running.
        """
        from falconry.image.output import engine_listens
        from falconry.image.stage import prune_images

        if not engine_listens(os.environ):
            return []
        receipts = self._receipts("image-*")
        return prune_images(keep, {receipt.key for receipt in receipts})

    def shapes(self, concurrency: int, prices: Path | None) -> Advice:
        """Ranks the shapes that hold the profile's engine, built or not.

        Args:
            concurrency: longest requests to answer at a time.
            prices: a price table.
        """
        from falconry.shapes import advise, read_prices

        table = read_prices(prices) if prices else None
        return advise(self._settings, concurrency, table, self._built_for_gpus())

    def query(
        self, prompt: str | None, body: str | None, max_tokens: int, *, stream: bool = False
    ) -> None:
        """Sends a request to the deployment and prints the answer's text.

        Args:
            prompt: the question.
            body: a request in JSON, sent instead.
            max_tokens: the most that the answer to a prompt may have.
            stream: whether to print the text as it comes.

        Raises:
            EndpointError: there is neither prompt nor body, or the endpoint refuses.
            CloudError: nothing is deployed, or it is stopped.
        """
        if body is None and prompt is None:
            raise EndpointError(
                "there is nothing to ask",
                remedy='give PROMPT="..." or BODY=\'{"text_input": ...}\'',
            )
        endpoint = self._endpoint()
        request = endpoint.body(str(prompt), max_tokens) if body is None else _json_object(body)
        if stream:
            self._progress.text(endpoint.stream(request))
        else:
            self._progress.text([endpoint.text_of(endpoint.predict(request))])

    def status(self) -> DeploymentStatus:
        """Describes what is deployed, in any state."""
        from falconry.deployment.status import DeploymentStatus, status_of

        name = self._settings.deployment.name
        if emulator.is_stopped(self._settings.cloud.emulator):
            return DeploymentStatus(name, error="the local cloud is not running; run: make deploy")
        return status_of(self._session(), name)

    def logs(self, lines: int, *, follow: bool) -> None:
        """Prints the newest lines of the deployment's logs.

        Args:
            lines: how many.
            follow: whether to continue with each new line until the user interrupts.
        """
        from falconry.deployment.logs import Logs

        deployment = self._deployments().find(self._settings.deployment.name)
        source = deployment.id if deployment else None
        logs = Logs(self._session())
        with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
            for line in logs.follow(lines, source) if follow else logs.read(lines, source):
                self._progress.note(line)

    def activate(self) -> None:
        """Starts the deployment that was deactivated, and verifies that it answers."""
        from falconry.deployment.stage import endpoint_of

        with self._workspace.lock("deployment"):
            active = self._deployments().activate(self._settings.deployment.name, self._watch())
        endpoint_of(active, self._session()).smoke()
        self._progress.done("deployment", active.lifecycle_state, active.model_deployment_url)

    def deactivate(self) -> None:
        """Stops the deployment; its URL and its configuration stay."""
        with self._workspace.lock("deployment"):
            stopped = self._deployments().deactivate(self._settings.deployment.name, self._watch())
        self._progress.done("deployment", stopped.lifecycle_state, "make activate starts it again")

    def prune_models(self, keep: int, *, delete: bool) -> list[PrunedModel]:
        """Deactivates the deployment's models but the newest and those in use.

        Args:
            keep: how many of the newest stay.
            delete: whether to delete the others instead.

        Returns:
            Every model, the newest first.
        """
        from falconry.deployment.catalog import prune_models

        name = self._settings.deployment.name
        return prune_models(self._session(), name, keep, delete=delete)

    def down(self) -> None:
        """Deletes the deployment, and ends the local cloud where there is one.

        The local cloud ends also if it does not answer, or refuses this client.
        """
        local = self._settings.cloud.emulator
        if local is None:
            self._delete_deployment(self._watch())
            return
        if not emulator.is_stopped(local):
            try:
                self._delete_deployment(replace(self._watch(), timeout_s=_LOCAL_DELETION_S))
            except FalconryError as error:
                self._progress.note(f"warning: the deployment is not deleted: {error}")
        ended = emulator.stop(local)
        self._progress.done("local cloud", "stopped" if ended else "not running")

    def _delete_deployment(self, watch: Watch) -> None:
        with self._workspace.lock("deployment"):
            deleted = self._deployments().remove(self._settings.deployment.name, watch)
            self._progress.done("deployment", "deleted" if deleted else "none")

    def clean(self, *, everything: bool) -> None:
        """Removes this profile's outputs, after `down`; with `everything` the engine store too."""
        self.down()
        build = self._settings.build_directory
        remove(build.parent if everything else build)
        if everything:
            remove(self._settings.engine.store)
        self._progress.done("clean", "removed", str(build.parent if everything else build))

    def _built_for_gpus(self) -> GpuEngine | None:
        """Returns what the profile's engine for GPUs was built for."""
        if self._settings.engine.builder != "tensorrt_llm":
            return None
        from falconry.engine.manifest import read_manifest
        from falconry.engine.stage import EngineStage

        stage = EngineStage(self._settings, self._workspace)
        found = stage.find(stage.key(stage.inputs()))
        return read_manifest(found.path).gpu if found else None

    def _store(self) -> EngineStore:
        from falconry.engine.store import EngineStore

        return EngineStore(self._settings.engine.store, self._workspace.digests)

    def _engines_in_use(self) -> set[str]:
        """Returns the keys of the engines in the repositories of all profiles."""
        from falconry.engine.manifest import MANIFEST

        used = {receipt.ingredients.get("engine") for receipt in self._receipts("repository")}
        store, digests = self._settings.engine.store, self._workspace.digests
        return {
            path.parent.name for path in store.glob(f"*/{MANIFEST}") if digests.file(path) in used
        }

    def _receipts(self, stage: str) -> list[Receipt]:
        """Reads all profiles' receipts of stages that match a pattern."""
        paths = self._settings.build_directory.parent.glob(f"*/receipts/{stage}.json")
        return [receipt for path in paths if (receipt := read_receipt(path))]

    def _steps(self, *, rollback: bool = False) -> list[Step]:
        """Returns all stages, each after those that it needs."""
        from falconry.artifact.stage import ArtifactStage, artifact_of
        from falconry.engine.stage import EngineStage
        from falconry.image.output import image_of
        from falconry.image.select import image_stage
        from falconry.repository.stage import RepositoryStage

        settings, workspace = self._settings, self._workspace
        mirror = self._mirror if settings.engine.mirror else None

        def deployment_stage(made: Mapping[str, Output]) -> Stage:
            # Imports the oci SDK, which takes half a second.
            from falconry.deployment.stage import DeploymentStage

            artifact, image = artifact_of(made), image_of(made)
            return DeploymentStage(
                settings,
                made["engine"],
                artifact,
                image,
                rollback=rollback,
                note=workspace.progress.note,
            )

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
            Step("image", lambda _: image_stage(settings, workspace, self._registry())),
            Step("deployment", deployment_stage, needs=("engine", "artifact", "image")),
        ]

    @contextlib.contextmanager
    def _unpacked(self) -> Iterator[Path]:
        """Gives a directory with a link to what the artifact holds."""
        from falconry.artifact.contents import ROOT
        from falconry.artifact.stage import as_artifact

        repository = as_artifact(self.run_until("artifact")).repository
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / ROOT).symlink_to(repository.absolute())
            yield Path(directory)

    def _mirror(self) -> EngineMirror:
        from falconry.engine.mirror import ObjectStorageMirror

        if self._settings.engine.mirror is None:
            raise ValueError("no mirror is set")
        return ObjectStorageMirror(self._session(), self._settings.engine.mirror)

    def _registry(self) -> RegistryProvider:
        """Returns the provider of the profile's or its cloud's registry."""
        registry = self._settings.image.registry
        if registry.host:
            from falconry.image.registry import HostRegistry

            return HostRegistry(registry)
        from falconry.image.ocir import OcirProvider

        namespaces = self._workspace.build.parent / "namespaces.json"
        return OcirProvider(self._settings.cloud, registry, namespaces)

    def _session(self) -> Session:
        from falconry.cloud.session import session_of

        return session_of(self._settings.cloud)

    def _deployments(self) -> Deployments:
        from falconry.deployment.deployments import Deployments

        return Deployments(self._session())

    def _watch(self) -> Watch:
        """Returns how to wait for the cloud outside of the pipeline."""
        from falconry.cloud.work_requests import Watch

        def report(step: str, fraction: float | None) -> None:
            self._progress.running("deployment", step, fraction)

        return Watch(self._settings.deployment.timeout_minutes * 60, report)

    def _endpoint(self) -> Endpoint:
        from falconry.deployment.stage import endpoint_of

        deployment = self._deployments().in_use(self._settings.deployment.name)
        return endpoint_of(deployment, self._session())


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except DocumentError as error:
        raise EndpointError(str(error), where="BODY") from None
    if not isinstance(value, dict):
        raise EndpointError("is not a JSON object", where="BODY")
    return value
