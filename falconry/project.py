"""What each make target does, for one project directory and one profile."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.data_files import require_usable_path, split_words
from falconry.files import remove, require_open_files, user_path
from falconry.operations import Operations, expiry_tag_of
from falconry.pipeline import (
    Output,
    PlannedStage,
    Receipt,
    Stage,
    Step,
    plan,
    read_receipt,
    run_stages,
    steps_to,
)
from falconry.progress import Progress
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.artifact.stage import ArtifactOutput
    from falconry.deployment.policies import Scope
    from falconry.engine.manifest import GpuEngine
    from falconry.engine.store import EngineMirror, EngineStore, StoredEngine
    from falconry.engine.tensorrt_llm.runner import BuildRunner
    from falconry.findings import Finding
    from falconry.image.registry import RegistryProvider
    from falconry.image.stage import PrunedImage
    from falconry.shapes import Advice

# What a target needs is imported where it is used: none needs all of it.
MODELS = Path("model_repository")


class Project(Operations):
    """A project directory with one profile.

    Args:
        settings: the profile with the command line's values; relative paths start at the working
            directory, which is the project's.
        progress: where to report what is being done.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        require_usable_path(Path.cwd())
        super().__init__(settings, progress)

    def run_until(self, stage: str, *, rollback: bool = False, expires: str = "") -> Output:
        """Runs every outdated stage up to this one.

        Args:
            stage: the last one.
            rollback: whether a deployment that fails returns to what answered before.
            expires: when `make reap` may stop the deployment, such as `4h` from now, or `never`.

        Raises:
            FalconryError: a stage failed; the outputs of earlier stages are kept.
        """
        require_open_files()
        tag = expiry_tag_of(expires)
        steps = self._steps(rollback=rollback, expiry=tag)
        output = run_stages(steps_to(stage, steps), self._workspace)
        self._write_expiry(tag)
        return output

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

        words, port = split_words(command, "CMD"), self._settings.serving.port
        own = environment(self._settings.deployment.environment)
        variables = {"MODEL_DEPLOY_HEALTH_ENDPOINT": health} if health else own
        reference = image or image_of({"image": self.run_until("image")}).reference
        with contextlib.ExitStack() as stack:
            package = user_path(artifact) if artifact else stack.enter_context(self._unpacked())
            check = ContainerCheck(*(reference, package, words, variables, port, timeout_s))
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

    def cancel_builds(self) -> list[str]:
        """Cancels the job runs that are building the profile's engine; returns their OCIDs."""
        from falconry.engine.stage import EngineStage
        from falconry.jobs.runs import BuildJobs

        stage = EngineStage(self._settings, self._workspace)
        jobs = BuildJobs(self._session())
        running = [str(run.id) for run in jobs.running(stage.key(stage.inputs()))]
        for run in running:
            jobs.cancel(run)
        return running

    def policies(self) -> Scope:
        """Returns what the profile's policies are for; nothing is read from the cloud."""
        from falconry.cloud.identity import identity_of
        from falconry.deployment.policies import scope_of

        identity = identity_of(self._settings.cloud)
        return scope_of(self._settings, identity.tenancy, identity.region)

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

    def clean(self, *, everything: bool) -> dict[str, Any]:
        """Removes this profile's outputs, after `down`; with `everything` the engine store too.

        Returns:
            What `down` returns, and the removed directories.
        """
        ended = self.down()
        build = self._settings.build_directory
        removed = [build.parent, self._settings.engine.store] if everything else [build]
        for directory in removed:
            remove(directory)
        self._progress.done("clean", "removed", str(removed[0]))
        return {**ended, "removed": [str(directory) for directory in removed]}

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

    def _steps(self, *, rollback: bool = False, expiry: str | None = None) -> list[Step]:
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
                expiry=expiry,
                note=workspace.progress.note,
            )

        def deployment_outlook() -> list[str]:
            from falconry.deployment.variables import outlook

            return outlook(settings)

        return [
            Step("engine", lambda _: EngineStage(settings, workspace, mirror, self._runner())),
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
            Step(
                "deployment",
                deployment_stage,
                needs=("engine", "artifact", "image"),
                outlook=deployment_outlook,
            ),
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

    def _runner(self) -> BuildRunner | None:
        """Returns what runs GPU builds; None for this machine."""
        if self._settings.engine.run == "host":
            return None
        from falconry.jobs.runner import JobRunner

        workspace = self._workspace
        return JobRunner(self._settings, workspace.build, workspace.digests, self._registry())

    def _registry(self) -> RegistryProvider:
        """Returns the provider of the profile's or its cloud's registry."""
        registry = self._settings.image.registry
        if registry.host:
            from falconry.image.registry import HostRegistry

            return HostRegistry(registry)
        from falconry.image.ocir import OcirProvider

        namespaces = self._workspace.build.parent / "namespaces.json"
        return OcirProvider(self._settings.cloud, registry, namespaces)
