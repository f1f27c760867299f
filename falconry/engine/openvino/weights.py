"""Brings the checkpoint's weights into the form in which the engine stores them.

A matrix that is already in its form stays where it is, mapped from the checkpoint. One that is
converted, quantised or reordered goes, a few rows at a time, into a scratch file that is mapped
in its turn. So memory that the kernel cannot take back stays small, whatever the model's size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.reader import Checkpoint
from falconry.engine.openvino.elements import (
    FLOAT32,
    INT8,
    OF_RECIPE,
    OF_SAFETENSORS,
    Array,
    ElementType,
    from_float32,
    to_float32,
)
from falconry.engine.openvino.mapped import MappedFile, ScratchFile
from falconry.engine.openvino.quantization import quantize_rows
from falconry.engine.recipe import Recipe
from falconry.errors import EngineError

# Elements converted at a time: a float32 array of them fits a core's cache, which is fastest.
_CHUNK_ELEMENTS = 1 << 18

RowOrder = npt.NDArray[np.intp]
Scales = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as the engine stores it.

    Attributes:
        values: the elements; a matrix is [out, in] in row-major order.
        element: what they are.
        scales: float16 [out, 1] of a quantised matrix; None otherwise.
    """

    values: Array
    element: ElementType
    scales: Scales | None = None


def prepare_weights(
    checkpoint: Checkpoint, recipe: Recipe, scratch: Path, report: Callable[[float], None]
) -> dict[str, Weight]:
    """Every tensor of the checkpoint in the engine's form, by its name in the checkpoint.

    The rows of the fused query/key/value projections come out as all queries, all keys, all
    values. Vectors (norms, biases) come out as float32.

    Args:
        checkpoint: where the tensors are.
        recipe: decides the element type of the matrices.
        scratch: a directory for a file without a name, which is gone when its arrays are.
        report: told of the fraction done.

    Raises:
        EngineError: a weight does not fit its type.
        OSError: a file cannot be read, or the disk is full.
    """
    weights: dict[str, Weight] = {}
    moved: dict[str, _Moved] = {}
    done = 0
    with tempfile.TemporaryFile(dir=scratch) as nameless:
        file = ScratchFile(nameless)
        for name, source in _sources(checkpoint):
            element = _engine_element(source.element, recipe)
            if source.values.ndim == 1:
                weights[name] = Weight(source.vector(), FLOAT32)
            elif source.stays(element):
                weights[name] = Weight(source.values, element)
            else:
                moved[name] = _move(name, source, element, file)
            done += source.values.size
            report(done / checkpoint.num_parameters)
        if moved:
            mapped = file.mapped()
            weights.update((name, move.weight(mapped)) for name, move in moved.items())
    return weights


def _engine_element(stored: ElementType, recipe: Recipe) -> ElementType:
    if recipe.quantization == "int8_weight_only":
        return INT8
    wanted = OF_RECIPE[recipe.dtype]
    # float32 holds every stored value exactly, so storing more bits would add none.
    return stored if wanted is FLOAT32 else wanted


def qkv_row_order(architecture: FalconArchitecture) -> RowOrder | None:
    """The stored row that each row of [queries; keys; values] comes from; None if the same.

    A checkpoint stores one group of rows a key/value head: the queries that share it, its key,
    its value (transformers 5.23, FalconAttention._split_heads, all three variants).
    """
    groups = architecture.num_kv_heads
    if groups == 1:
        return None
    heads = architecture.num_heads // groups + 2
    rows = np.arange(architecture.qkv_size).reshape(groups, heads, architecture.head_size)
    parts = (rows[:, :-2], rows[:, -2], rows[:, -1])
    order: RowOrder = np.concatenate([part.ravel() for part in parts])
    return order


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor as the checkpoint stores it, with the order in which its rows are wanted."""

    values: Array
    element: ElementType
    order: RowOrder | None

    def stays(self, element: ElementType) -> bool:
        """Whether the mapped bytes are already what is wanted."""
        aligned = bool(self.values.flags.aligned)
        return element is self.element and self.order is None and aligned

    def vector(self) -> Array:
        """A whole vector as float32, in memory of its own."""
        values = self.values if self.order is None else self.values[self.order]
        return np.array(to_float32(values, self.element))

    def chunks(self) -> Iterator[Array]:
        """The rows in order, some at a time."""
        step = max(1, _CHUNK_ELEMENTS // self.values.shape[1])
        for start in range(0, len(self.values), step):
            part = slice(start, start + step)
            yield self.values[part if self.order is None else self.order[part]]


def _sources(checkpoint: Checkpoint) -> Iterator[tuple[str, _Source]]:
    order = qkv_row_order(checkpoint.architecture)
    files = {tensor.path for tensor in checkpoint.tensors.values()}
    mapped = {path: MappedFile.open(path) for path in files}
    for name, tensor in checkpoint.tensors.items():
        element = OF_SAFETENSORS[tensor.dtype]
        values = mapped[tensor.path].array(tensor.offset, tensor.shape, element)
        yield name, _Source(values, element, order if "query_key_value" in name else None)


@dataclass(frozen=True, slots=True)
class _Moved:
    """A matrix in the scratch file."""

    offset: int
    shape: tuple[int, ...]
    element: ElementType
    scales: Scales | None

    def weight(self, file: MappedFile) -> Weight:
        values = file.array(self.offset, self.shape, self.element)
        return Weight(values, self.element, self.scales)


def _move(name: str, source: _Source, element: ElementType, file: ScratchFile) -> _Moved:
    """Converts a matrix and appends it to the scratch file."""
    scales: list[Scales] = []

    def converted() -> Iterator[Array]:
        for chunk in source.chunks():
            if element is source.element:
                yield chunk
            elif element is INT8:
                rows, row_scales = quantize_rows(to_float32(chunk, source.element))
                scales.append(row_scales)
                yield rows
            else:
                yield from_float32(to_float32(chunk, source.element), element)

    try:
        offset = file.append(converted())
    except ArithmeticError as error:
        raise EngineError(
            f"{name} cannot be stored as the recipe wants ({error})",
            remedy="choose a recipe with a wider dtype, or repair the checkpoint",
        ) from error
    return _Moved(offset, source.values.shape, element, np.concatenate(scales) if scales else None)
