"""NVIDIA's own tensor tables, as recorded in tests/data/tensorrtllm_backend."""

from dataclasses import dataclass
from pathlib import Path

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


def _row(kind: str, dims: str, *words: str) -> Row:
    sizes = [int(size) for size in dims.strip("[]").split(",")]
    return Row(kind, sizes, "scalar" in words, "optional" in words, "ragged" in words)
