"""Model configurations as Triton's own protobuf: read, written as text format, verified.

The message is `inference.ModelConfig` of triton-inference-server/common, as shipped by
tritonclient; parsing is strict, so an unknown field is an error and not a silent hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from falconry.documents import DocumentError, read_document_text
from falconry.errors import RepositoryError

CONFIG_FILE = "config.pbtxt"
_MOST_BYTES = 1 << 20  # the longest of NVIDIA's backend has 20 kB

ModelConfig = Any
"""`inference.ModelConfig`; its generated class has no type annotations."""


def read_config(path: Path) -> ModelConfig:
    """A model's configuration.

    Raises:
        RepositoryError: it is missing, is not a ModelConfig (with the line), or still has a
            `${placeholder}` in it.
    """
    try:
        text = read_document_text(path, _MOST_BYTES)
    except DocumentError as error:
        raise RepositoryError(str(error), where=path) from None
    if "${" in text:
        line = text[: text.index("${")].count("\n") + 1
        raise RepositoryError(f"line {line} holds an unfilled placeholder", where=path)
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    # A text that is no UTF-8 is a ValueError.
    except (text_format.ParseError, ValueError) as error:
        raise RepositoryError(f"is not a Triton model configuration: {error}", where=path) from None
    except RecursionError:
        raise RepositoryError("is nested too deeply to be read", where=path) from None


def write_config(path: Path, config: ModelConfig) -> None:
    """Writes a configuration as text, the same for the same message."""
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def type_name(config_tensor: Any) -> str:
    """A tensor's data type as configurations spell it: `TYPE_INT32`; the number of an unknown."""
    known = model_config_pb2.DataType.values()
    number = config_tensor.data_type
    return str(model_config_pb2.DataType.Name(number) if number in known else number)


def set_parameters(config: ModelConfig, parameters: Mapping[str, object]) -> None:
    """Sets string parameters, which the model's code reads at its start."""
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)


def verify_repository(directory: Path) -> Mapping[str, ModelConfig]:
    """Checks every configuration and every edge of every ensemble.

    Raises:
        RepositoryError: the first thing that Triton would refuse.
    """
    models = {
        path.name: read_config(path / CONFIG_FILE)
        for path in sorted(directory.iterdir())
        if path.is_dir()
    }
    if not models:
        raise RepositoryError("holds no model", where=directory)
    for name, config in models.items():
        _verify_model(directory / name, config)
    for name, config in models.items():
        if config.platform == "ensemble":
            _verify_ensemble(directory / name / CONFIG_FILE, config, models)
    return models


def _verify_model(directory: Path, config: ModelConfig) -> None:
    path = directory / CONFIG_FILE
    if config.name != directory.name:
        raise RepositoryError(f"names its model '{config.name}'", where=path)
    versions = [each for each in directory.iterdir() if each.is_dir() and each.name.isdecimal()]
    if not versions:
        raise RepositoryError("has no version directory", where=directory)
    for tensors in (config.input, config.output):
        times = Counter(tensor.name for tensor in tensors)
        if twice := [name for name, count in times.items() if count > 1]:
            raise RepositoryError(f"declares a tensor twice: {', '.join(twice)}", where=path)
    if config.backend == "python":
        for version in versions:
            if not (version / "model.py").is_file():
                raise RepositoryError("has no model.py", where=version)


def _verify_ensemble(path: Path, ensemble: ModelConfig, models: Mapping[str, Any]) -> None:
    """Checks every tensor of the steps: made once, and of one type."""
    types = {tensor.name: type_name(tensor) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        if step.model_name not in models:
            raise RepositoryError(f"has a step of unknown model '{step.model_name}'", where=path)
        for name, made in _outputs(path, step, models[step.model_name]):
            if name in types:
                raise RepositoryError(f"tensor '{name}' is made twice", where=path)
            types[name] = made
    for step in ensemble.ensemble_scheduling.step:
        _verify_inputs(path, step, models[step.model_name], types)
        if models[step.model_name].max_batch_size < ensemble.max_batch_size:
            raise RepositoryError(
                f"its max_batch_size is larger than that of its step '{step.model_name}'",
                where=path,
            )
    for tensor in ensemble.output:
        _same_type(path, tensor.name, types.get(tensor.name), type_name(tensor), "the output")


def _outputs(path: Path, step: Any, model: ModelConfig) -> list[tuple[str, str]]:
    """The ensemble tensors that a step makes, with their types."""
    own = {tensor.name: type_name(tensor) for tensor in model.output}
    for key in step.output_map:
        if key not in own:
            raise RepositoryError(f"'{step.model_name}' has no output '{key}'", where=path)
    return [(name, own[key]) for key, name in step.output_map.items()]


def _verify_inputs(path: Path, step: Any, model: ModelConfig, types: Mapping[str, str]) -> None:
    own = {tensor.name: tensor for tensor in model.input}
    for key, name in step.input_map.items():
        if key not in own:
            raise RepositoryError(f"'{step.model_name}' has no input '{key}'", where=path)
        reader = f"input '{key}' of '{step.model_name}'"
        _same_type(path, name, types.get(name), type_name(own[key]), reader)
    for key, tensor in own.items():
        if not tensor.optional and key not in step.input_map:
            raise RepositoryError(
                f"input '{key}' of '{step.model_name}' is required and not mapped", where=path
            )


def _same_type(path: Path, name: str, made: str | None, wanted: str, reader: str) -> None:
    if made is None:
        raise RepositoryError(f"nothing makes tensor '{name}'", where=path)
    if made != wanted:
        raise RepositoryError(f"tensor '{name}' is {made}, but {reader} is {wanted}", where=path)
