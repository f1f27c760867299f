"""Model configurations as Triton's own protobuf, read and written as text format.

The message is `inference.ModelConfig` of triton-inference-server/common, as shipped by
tritonclient; parsing is strict, so an unknown field is an error and not a silent hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from falconry.errors import RepositoryError

CONFIG_FILE = "config.pbtxt"

ModelConfig = Any
"""`inference.ModelConfig`; its generated class has no type annotations."""


def read_config(path: Path) -> ModelConfig:
    """A model's configuration.

    Raises:
        RepositoryError: it is missing, is not a ModelConfig (with the line), or still has a
            `${placeholder}` in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RepositoryError(f"cannot be read ({error.strerror})", where=path) from None
    if "${" in text:
        line = text[: text.index("${")].count("\n") + 1
        raise RepositoryError(f"line {line} holds an unfilled placeholder", where=path)
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"is not a Triton model configuration: {error}", where=path) from None


def write_config(path: Path, config: ModelConfig) -> None:
    """Writes a configuration in text format, the same bytes for the same message."""
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def type_name(config_tensor: Any) -> str:
    """A tensor's data type as it stands in a configuration: `TYPE_INT32`."""
    return str(model_config_pb2.DataType.Name(config_tensor.data_type))


def set_parameters(config: ModelConfig, parameters: Mapping[str, object]) -> None:
    """Sets string parameters, which the model's code reads at its start."""
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)
