"""The engine stage: a checkpoint and a recipe become an engine in the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.checkpoint import checkpoint_files, read_checkpoint
from falconry.digests import value_digest
from falconry.engine.builder import EngineBuilder
from falconry.engine.finishing import FinishedFiles
from falconry.engine.manifest import MANIFEST, Manifest
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.recipe import Recipe, load_recipe
from falconry.engine.spec import engine_spec
from falconry.engine.store import EngineStore
from falconry.pipeline import Output, Report, Stage, Workspace, what_changed
from falconry.progress import human_count, human_size
from falconry.settings import Settings


class EngineStage(Stage):
    """Builds an engine, or finds it in the store.

    Args:
        settings: the profile.
        workspace: where to work.

    Raises:
        SettingsError: there is no such recipe, or it is not valid.
    """

    name = "engine"
    version = 1

    def __init__(self, settings: Settings, workspace: Workspace) -> None:
        self._checkpoint = settings.checkpoint.expanduser()
        self._workspace = workspace
        self._recipe = load_recipe(settings.recipe)
        self._builder: EngineBuilder = OpenVinoBuilder()
        self._store = EngineStore(settings.engine.store, workspace.digests)

    @override
    def ingredients(self) -> Mapping[str, str]:
        digests = self._workspace.digests
        toolchain = self._builder.toolchain()
        return {
            "checkpoint": value_digest(
                {path.name: digests.file(path) for path in checkpoint_files(self._checkpoint)}
            ),
            "recipe": value_digest(self._recipe.model_dump(mode="json", exclude={"description"})),
            "builder": self._builder.name,
            "toolchain": ", ".join(f"{name} {toolchain[name]}" for name in sorted(toolchain)),
        }

    @override
    def find(self, key: str) -> Output | None:
        manifest = self._store.find(key)
        return self._output(key, manifest) if manifest else None

    @override
    def reason(self, ingredients: Mapping[str, str]) -> str:
        newest = self._store.newest()
        return what_changed(newest.ingredients if newest else None, ingredients)

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> Output:
        report("reading the checkpoint", 0.0)
        checkpoint = read_checkpoint(self._checkpoint)
        spec = engine_spec(checkpoint, self._recipe)
        self._builder.check(spec)

        def build(output: Path) -> Manifest:
            with FinishedFiles(output, self._workspace.digests) as finished:
                self._builder.build(spec, checkpoint, output, report, finished.add)
                report("flushing to disk", 0.98)
                files = finished.describe()
            return Manifest(
                key=key,
                builder=self._builder.name,
                toolchain=self._builder.toolchain(),
                ingredients=ingredients,
                description=" · ".join(
                    (
                        self._builder.name,
                        _weights(self._recipe),
                        f"{human_count(checkpoint.num_parameters)} parameters",
                    )
                ),
                files=files,
            )

        manifest = self._store.add(key, build, lambda holder: report(f"waiting for {holder}", None))
        return self._output(key, manifest)

    def _output(self, key: str, manifest: Manifest) -> Output:
        entry = self._store.entry(key)
        size = human_size(sum(file.size for file in manifest.files.values()))
        return Output(
            path=entry,
            digest=self._workspace.digests.file(entry / MANIFEST),
            summary=f"{self._checkpoint.name} · {manifest.description} · {size}",
        )


def _weights(recipe: Recipe) -> str:
    return "int8" if recipe.quantization == "int8_weight_only" else recipe.dtype
