"""The CPU engine of a profile: a checkpoint and a recipe, built by OpenVinoBuilder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from falconry.checkpoint.source import CheckpointSource
from falconry.digests import DigestCache, value_digest
from falconry.engine.builder import BuiltEngine, Finished, Report
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.recipe import load_recipe
from falconry.errors import SettingsError
from falconry.progress import human_count
from falconry.settings import Settings


class OpenVinoJob:
    """An EngineJob.

    Args:
        settings: the profile.
        digests: remembers the checkpoint's digests.

    Raises:
        SettingsError: there is no such recipe, it is not valid, or no checkpoint is named.
    """

    builder = OpenVinoBuilder.name

    def __init__(self, settings: Settings, digests: DigestCache) -> None:
        if settings.checkpoint is None:
            raise SettingsError("no checkpoint is named", remedy="give CHECKPOINT=/path/to/falcon")
        self._source = CheckpointSource.parse(settings.checkpoint)
        self._digests = digests
        self._recipe = load_recipe(settings.recipe)
        self._openvino = OpenVinoBuilder()

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's name for people."""
        return self._source.name

    def ingredients(self) -> Mapping[str, str]:
        """Checkpoint, recipe and package versions; see EngineJob."""
        toolchain = self._openvino.toolchain()
        return {
            "checkpoint": self._source.digest(self._digests),
            "recipe": value_digest(self._recipe.model_dump(mode="json", exclude={"description"})),
            "builder": self.builder,
            "toolchain": ", ".join(f"{name} {toolchain[name]}" for name in sorted(toolchain)),
        }

    def plan(self, key: str) -> Sequence[str]:
        """Nothing beside the key: the build runs in this process."""
        return [f"key      {key}"]

    def build(self, key: str, output: Path, report: Report, finished: Finished) -> BuiltEngine:
        """Builds it in this process; see EngineJob."""
        from falconry.checkpoint.reader import read_checkpoint
        from falconry.engine.spec import engine_spec

        report("reading the checkpoint", 0.0)
        checkpoint = read_checkpoint(self._source.fetch(report))
        spec = engine_spec(checkpoint, self._recipe)
        self._openvino.check(spec)
        self._openvino.build(spec, checkpoint, output, report, finished)
        recipe = spec.recipe
        weights = "int8" if recipe.quantization == "int8_weight_only" else recipe.dtype
        parameters = f"{human_count(checkpoint.num_parameters)} parameters"
        return BuiltEngine(
            description=" · ".join((self.builder, weights, parameters)),
            toolchain=self._openvino.toolchain(),
        )
