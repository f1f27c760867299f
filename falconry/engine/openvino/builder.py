"""Builds an engine directory for OpenVINO GenAI's continuous batching on a CPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.checkpoint.source import CheckpointSource
from falconry.digests import DigestCache, value_digest
from falconry.engine.builder import BuildResult, Finished
from falconry.engine.spec import load_recipe
from falconry.errors import MachineError, SettingsError
from falconry.files import translate_disk_errors
from falconry.pipeline import Report
from falconry.progress import human_count
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.checkpoint.reader import Checkpoint
    from falconry.engine.spec import EngineSpec

# What builds is imported where it is used: deciding whether to build needs none of it.

MODEL = "openvino_model.xml"
WEIGHTS = "openvino_model.bin"

# Raised whenever the same inputs would give other bytes.
_VERSION = "3"
_PACKAGES = ("openvino", "openvino-tokenizers", "transformers", "tokenizers", "numpy")


class OpenVinoBuilder:
    """The EngineBuilder for OpenVINO; needs neither PyTorch nor a container."""

    name = "openvino"

    def toolchain(self) -> Mapping[str, str]:
        """Versions that decide the engine's bytes, by package."""
        try:
            versions = {package: metadata.version(package) for package in _PACKAGES}
        except metadata.PackageNotFoundError as error:
            raise MachineError(
                f"the package {error.name} is not installed", remedy="install requirements.lock"
            ) from error
        return {"builder": _VERSION, **versions}

    def check(self, spec: EngineSpec) -> None:
        """Refuses a spec that cannot be built or served on a CPU.

        Raises:
            EngineError: it names every problem there is.
        """
        from falconry.engine.openvino.serving import serving_problems
        from falconry.engine.spec import check

        check(spec, serving_problems(spec))

    def build(
        self,
        spec: EngineSpec,
        checkpoint: Checkpoint,
        output: Path,
        report: Report,
        finished: Finished,
    ) -> None:
        """Writes model, tokenizers and serving settings into an empty directory.

        Raises:
            EngineError: a weight or the tokenizer cannot be converted, or the model would not be
                served as the architecture says.
            MachineError: the disk is full or cannot be written.
        """
        from falconry.checkpoint.tokenizer import require_embeddings, write_chat
        from falconry.engine.openvino.serving import serving_of, write_serving
        from falconry.engine.openvino.tokenizer import tokenizer_conversion

        try:
            with (
                translate_disk_errors(output),
                tokenizer_conversion(checkpoint.directory, output) as converted_tokenizer,
            ):
                shutil.copyfile(checkpoint.tokenizer.path, output / checkpoint.tokenizer.path.name)
                write_chat(checkpoint.directory, output)
                write_serving(serving_of(spec), output)
                _write_model(spec, checkpoint, output, report)
                finished(output / WEIGHTS)
                report("converting the tokenizer", 0.97)
                tokenizer = replace(checkpoint.tokenizer, vocab_size=converted_tokenizer())
                require_embeddings(tokenizer, spec.architecture.vocab_size)
        except OSError as error:
            raise MachineError(
                f"the engine could not be built ({error.strerror})", where=error.filename or output
            ) from error


def _write_model(spec: EngineSpec, checkpoint: Checkpoint, output: Path, report: Report) -> None:
    from falconry.engine.openvino import import_openvino_silently

    # OpenVINO alone takes a fifth of a second.
    import_openvino_silently()
    from falconry.engine.openvino.graph import check_model, decoder_model
    from falconry.engine.openvino.model_file import write_model
    from falconry.engine.openvino.weights import prepare_weights

    weights = prepare_weights(
        checkpoint, spec.recipe, output, lambda done: report("converting weights", 0.5 * done)
    )
    model = decoder_model(spec.architecture, weights)
    report("writing the model", 0.5)
    write_model(model, output / MODEL)
    report("checking the model", 0.95)
    check_model(output / MODEL, spec.architecture)


class OpenVinoJob:
    """An EngineJob."""

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

    def inputs(self) -> Mapping[str, str]:
        """Checkpoint, recipe and package versions; see EngineJob."""
        toolchain = self._openvino.toolchain()
        return {
            "checkpoint": self._source.digest(self._digests),
            "recipe": value_digest(self._recipe.model_dump(mode="json", exclude={"description"})),
            "builder": self.builder,
            "toolchain": ", ".join(f"{name} {toolchain[name]}" for name in sorted(toolchain)),
        }

    def plan(self, key: str) -> Sequence[str]:
        """Only the key: the build runs in this process."""
        return [f"key      {key}"]

    def build(self, key: str, output: Path, report: Report, finished: Finished) -> BuildResult:
        """Builds it in this process; see EngineJob."""
        from falconry.checkpoint.architecture import family_note
        from falconry.checkpoint.reader import read_checkpoint
        from falconry.engine.spec import engine_spec

        report("reading the checkpoint", 0.0)
        checkpoint = read_checkpoint(self._source.fetch(report))
        spec = engine_spec(checkpoint, self._recipe)
        self._openvino.check(spec)
        if note := family_note(spec.architecture):
            report(f"warning: {note}", None)
        self._openvino.build(spec, checkpoint, output, report, finished)
        recipe = spec.recipe
        weights = "int8" if recipe.quantization == "int8_weight_only" else recipe.dtype
        family = spec.architecture.family
        parameters = f"{human_count(checkpoint.num_parameters)} parameters"
        return BuildResult(
            description=" · ".join((self.builder, family, weights, parameters)),
            toolchain=self._openvino.toolchain(),
        )
