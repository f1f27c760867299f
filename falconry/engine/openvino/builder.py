"""Builds an engine directory for OpenVINO GenAI's continuous batching on a CPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.engine.builder import Finished, Report
from falconry.errors import MachineError
from falconry.files import disk_errors_told

if TYPE_CHECKING:
    from falconry.checkpoint.reader import Checkpoint
    from falconry.engine.spec import EngineSpec

# What builds is imported where it is used: to know whether to build needs none of it.

MODEL = "openvino_model.xml"
WEIGHTS = "openvino_model.bin"

# Raised whenever the same inputs would give other bytes.
_VERSION = "2"
_PACKAGES = ("openvino", "openvino-tokenizers", "transformers", "tokenizers", "numpy")


class OpenVinoBuilder:
    """The EngineBuilder for OpenVINO; needs neither PyTorch nor a container."""

    name = "openvino"

    def toolchain(self) -> Mapping[str, str]:
        """Versions that decide the engine's bytes, by package.

        Raises:
            MachineError: a package is not installed.
        """
        try:
            versions = {package: metadata.version(package) for package in _PACKAGES}
        except metadata.PackageNotFoundError as error:
            raise MachineError(
                f"the package {error.name} is not installed", remedy="install requirements.lock"
            ) from error
        return {"builder": _VERSION, **versions}

    def check(self, spec: EngineSpec) -> None:
        """Refuses a spec that cannot be built, or not be served by OpenVINO GenAI on a CPU.

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
        """Writes the model, the tokenizers and what the server needs into an empty directory.

        Raises:
            CheckpointError: the tokenizer is damaged or does not fit the model.
            EngineError: a weight or the tokenizer cannot be converted, or the model would not be
                served as the architecture says.
            MachineError: the disk is full or cannot be written.
        """
        from falconry.checkpoint.chat import write_chat
        from falconry.checkpoint.tokenizer import require_embeddings
        from falconry.engine.openvino.serving import serving_of, write_serving
        from falconry.engine.openvino.tokenizer_process import tokenizer_conversion

        try:
            with (
                disk_errors_told(output),
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
    from falconry.engine.openvino.telemetry import import_openvino_silently

    # OpenVINO alone takes a fifth of a second.
    import_openvino_silently()
    from falconry.engine.openvino.graph import decoder_model
    from falconry.engine.openvino.model_file import write_model
    from falconry.engine.openvino.self_check import check_model
    from falconry.engine.openvino.weights import prepare_weights

    weights = prepare_weights(
        checkpoint, spec.recipe, output, lambda done: report("converting weights", 0.5 * done)
    )
    model = decoder_model(spec.architecture, weights)
    report("writing the model", 0.5)
    write_model(model, output / MODEL)
    report("checking the model", 0.95)
    check_model(output / MODEL, spec.architecture)
