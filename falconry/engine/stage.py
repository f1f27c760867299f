"""The engine stage: from checkpoint and recipe to a stored engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from falconry.engine.builder import EngineJob
from falconry.engine.manifest import MANIFEST, Manifest
from falconry.engine.store import EngineMirror, EngineStore, FileFinalizer
from falconry.errors import CloudError
from falconry.pipeline import Output, Report, Stage, Workspace, changed_inputs
from falconry.progress import human_size
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.engine.tensorrt_llm.runner import BuildRunner


class EngineStage(Stage):
    """Builds an engine, or finds it in the store or its mirror.

    `mirror` connects to the mirror; it is called only when an engine is missing here. `runner` runs
    GPU builds, this machine when left out.
    """

    name = "engine"
    version = 2

    def __init__(
        self,
        settings: Settings,
        workspace: Workspace,
        mirror: Callable[[], EngineMirror] | None = None,
        runner: BuildRunner | None = None,
    ) -> None:
        self._workspace = workspace
        self._job = _job(settings, workspace, runner)
        self._mirror = mirror
        self._directory = settings.engine.store
        self._store = EngineStore(self._directory, workspace.digests)

    @override
    def inputs(self) -> Mapping[str, str]:
        return self._job.inputs()

    @override
    def find(self, key: str) -> Output | None:
        manifest = self._store.find(key)
        return self._output(key, manifest) if manifest else None

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        newest = self._store.newest()
        comparable = newest is not None and newest.builder == self._job.builder
        return changed_inputs(newest.ingredients if newest and comparable else None, inputs)

    @override
    def details(self, key: str) -> Sequence[str]:
        return self._job.plan(key)

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        def build(output: Path) -> Manifest:
            with FileFinalizer(output, self._workspace.digests) as finished:
                built = self._job.build(key, output, report, finished.add)
                report("flushing to disk", 0.98)
                files = finished.describe()
            return Manifest(
                key=key,
                builder=self._job.builder,
                toolchain=built.toolchain,
                ingredients=inputs,
                description=built.description,
                files=files,
                gpu=built.gpu,
            )

        store = EngineStore(self._directory, self._workspace.digests, self._open_mirror(report))
        manifest = store.add(
            key, build, lambda holder: report(f"waiting for {holder}", None), report
        )
        return self._output(key, manifest)

    def _open_mirror(self, report: Report) -> EngineMirror | None:
        """The mirror, if it answers; a build continues without."""
        try:
            return self._mirror() if self._mirror else None
        except CloudError as error:
            report(f"continuing without the mirror: {error}", None)
            return None

    def _output(self, key: str, manifest: Manifest) -> Output:
        entry = self._store.entry(key)
        size = human_size(sum(file.size for file in manifest.files.values()))
        return Output(
            path=entry,
            digest=self._workspace.digests.file(entry / MANIFEST),
            summary=" · ".join(
                (self._job.checkpoint_name, manifest.description, size, *_not_compared(manifest))
            ),
        )


def _not_compared(manifest: Manifest) -> list[str]:
    """A note on an engine that entered the store without a comparison."""
    if manifest.gpu is None:
        return []
    from falconry.engine.tensorrt_llm.answers import not_compared

    said = not_compared(manifest.gpu.verified)
    return [said] if said else []


def _job(settings: Settings, workspace: Workspace, runner: BuildRunner | None) -> EngineJob:
    """The job of the profile's builder; only that builder is imported."""
    if settings.engine.builder == "tensorrt_llm":
        from falconry.engine.tensorrt_llm.job import TensorRtLlmJob

        return TensorRtLlmJob(settings, workspace.build, workspace.digests, runner)
    from falconry.engine.openvino.builder import OpenVinoJob

    return OpenVinoJob(settings, workspace.digests)
