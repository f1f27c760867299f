"""NVIDIA's own tensor tables, as recorded in tests/data/tensorrtllm_backend."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

TABLES = Path(__file__).parents[1] / "data/tensorrtllm_backend"


@dataclass(frozen=True)
class Row:
    """A tensor: type without `TYPE_`, dims, and whether it is scalar, optional and ragged."""

    type: str
    dims: list[int]
    scalar: bool
    optional: bool
    ragged: bool


def nvidia_table(surface: str) -> dict[str, dict[str, Row]]:
    """Inputs, outputs and parameters of a surface, by kind and name."""
    found: dict[str, dict[str, Row]] = {"input": {}, "output": {}, "parameter": {}}
    for line in (TABLES / f"{surface}.txt").read_text().splitlines():
        if not line.startswith("#"):
            kind, name, *rest = line.split()
            found[kind][name] = _row(*rest) if rest else Row("STRING", [], False, False, False)
    return found


def nvidia_models(surface: str) -> dict[str, dict[str, dict[str, Row]]]:
    """Inputs and outputs of a surface's models, by model, kind and name."""
    models = {"tensorrt_llm": nvidia_table(surface)}
    for line in (TABLES / f"models_{surface}.txt").read_text().splitlines():
        if not line.startswith("#"):
            model, kind, name, *rest = line.split()
            kinds = models.setdefault(model, {"input": {}, "output": {}, "parameter": {}})
            kinds[kind][name] = _row(*rest)
    return models


def row_of(tensor: Any) -> Row:
    """A tensor of a model's configuration in the tables' terms."""
    return Row(
        model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_"),
        list(tensor.dims),
        tensor.HasField("reshape") and not tensor.reshape.shape,
        getattr(tensor, "optional", False),
        getattr(tensor, "allow_ragged_batch", False),
    )


def _row(kind: str, dims: str, *words: str) -> Row:
    sizes = [int(size) for size in dims.strip("[]").split(",")]
    return Row(kind, sizes, "scalar" in words, "optional" in words, "ragged" in words)
