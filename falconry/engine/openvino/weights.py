"""Converts a checkpoint's weights into the form the engine stores.

A matrix that already has this form stays mapped from the checkpoint. Others are converted,
quantised or reordered a few rows at a time into a scratch file, which is mapped in turn. So memory
that the kernel cannot reclaim stays small, whatever the model's size.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from falconry.checkpoint.architecture import Architecture, FalconArchitecture
from falconry.checkpoint.reader import Checkpoint
from falconry.engine.spec import Recipe
from falconry.errors import EngineError

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
# Where an array may start in a scratch file; any element's alignment divides it.
_ALIGNMENT = 64
_LARGEST = 127
# Elements converted at a time: a float32 array of them fits a core's cache, which is fastest.
_CHUNK_ELEMENTS = 1 << 18

RowOrder = npt.NDArray[np.intp]
Scales = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class ElementType:
    """How one weight element is stored.

    Attributes:
        openvino: OpenVINO's name of the type.
        storage: NumPy's type of the same size; bfloat16, which NumPy lacks, as its bits.
    """

    openvino: str
    storage: np.dtype[Any]


FLOAT32 = ElementType("f32", np.dtype(np.float32))
BFLOAT16 = ElementType("bf16", np.dtype(np.uint16))
FLOAT16 = ElementType("f16", np.dtype(np.float16))
INT8 = ElementType("i8", np.dtype(np.int8))

OF_SAFETENSORS: Mapping[str, ElementType] = {"F32": FLOAT32, "BF16": BFLOAT16, "F16": FLOAT16}
OF_RECIPE: Mapping[str, ElementType] = {
    "float32": FLOAT32,
    "bfloat16": BFLOAT16,
    "float16": FLOAT16,
}


def to_float32(values: Array, element: ElementType) -> Float32Array:
    """Floats of any type as float32, which holds all of them exactly."""
    if element is BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def from_float32(values: Float32Array, element: ElementType) -> Array:
    """Rounds float32 to another float type's nearest value, ties to even.

    Raises:
        OverflowError: a finite value is too large for the type.
    """
    if element is BFLOAT16:
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        rounded: Array = values.astype(element.storage)
    if np.isinf(rounded).any() and np.isfinite(values).all():
        raise OverflowError(f"a value is too large for {element.openvino}")
    return rounded


class MappedFile:
    """An open file as arrays; it may be closed afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        # Copy-on-write, because OpenVINO shares only memory that could be written; nothing does.
        self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    @classmethod
    def open(cls, path: Path) -> MappedFile:
        """Maps a file that is not empty."""
        with path.open("rb") as file:
            return cls(file)

    def array(self, offset: int, shape: tuple[int, ...], element: ElementType) -> Array:
        """A row-major array that starts `offset` bytes into the file."""
        count = math.prod(shape)
        return np.frombuffer(self._mapping, element.storage, count, offset).reshape(shape)


class ScratchFile:
    """An open file for arrays made piece by piece, and then mapped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, pieces: Iterable[Array]) -> int:
        """Writes an array's pieces in sequence and returns the array's offset."""
        offset = self._file.seek(-self._file.tell() % _ALIGNMENT, os.SEEK_CUR)
        for piece in pieces:
            self._file.write(np.ascontiguousarray(piece).data)
        return offset

    def mapped(self) -> MappedFile:
        """Everything written so far, which must be something."""
        self._file.flush()
        return MappedFile(self._file)


def quantize_rows(rows: Float32Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Quantises rows [n, columns] to int8; gives scales [n, 1].

    Each row's largest magnitude becomes 127. The rows are divided by the scale as it is stored, so
    that rounding the scale to float16 adds no error of its own.

    Raises:
        FloatingPointError: a weight is not finite, or too large for a float16 scale.
    """
    largest = np.maximum(rows.max(axis=1, keepdims=True), -rows.min(axis=1, keepdims=True))
    with np.errstate(over="ignore"):
        scales = (largest / _LARGEST).astype(np.float16)
    if not np.isfinite(scales).all():
        raise FloatingPointError("a weight is not finite or exceeds what int8 scales can hold")
    # A row of zeros, or of values below float16's least scale, becomes a row of zeros.
    scales[scales == 0] = 1
    levels = rows / scales.astype(np.float32)
    np.rint(levels, out=levels)
    np.clip(levels, -_LARGEST, _LARGEST, out=levels)
    return levels.astype(np.int8), scales


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as the engine stores it.

    Attributes:
        values: the elements; a matrix is [out, in] in row-major order.
        scales: float16 [out, 1] of a quantised matrix; None otherwise.
    """

    values: Array
    element: ElementType
    scales: Scales | None = None


def prepare_weights(
    checkpoint: Checkpoint, recipe: Recipe, scratch: Path, report: Callable[[float], None]
) -> dict[str, Weight]:
    """Every tensor in the engine's form, by its name in the checkpoint.

    The rows of Falcon's fused query/key/value projections come out as all queries, all keys, all
    values. Vectors (norms, biases) come out as float32. The directory `scratch` gets a file
    without a name, which is gone when its arrays are.
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


def qkv_row_order(architecture: Architecture) -> RowOrder | None:
    """The stored row of each [queries; keys; values] row; None if equal.

    A Falcon stores one group of rows a key/value head: the queries that share it, its key, its
    value (transformers 5.23, FalconAttention._split_heads, all three variants). A Llama stores
    queries, keys and values in matrices of their own.
    """
    groups = architecture.num_kv_heads
    if groups == 1 or not isinstance(architecture, FalconArchitecture):
        return None
    heads = architecture.num_heads // groups + 2
    rows = np.arange(architecture.qkv_size).reshape(groups, heads, architecture.head_size)
    parts = (rows[:, :-2], rows[:, -2], rows[:, -1])
    order: RowOrder = np.concatenate([part.ravel() for part in parts])
    return order


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor as the checkpoint stores it, and its rows' final order."""

    values: Array
    element: ElementType
    order: RowOrder | None

    def stays(self, element: ElementType) -> bool:
        """Whether the mapped bytes are already in the engine's form."""
        aligned = bool(self.values.flags.aligned)
        return element is self.element and self.order is None and aligned

    def vector(self) -> Array:
        """A vector as float32, in memory of its own."""
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
            f"{name} cannot be stored as the recipe says ({error})",
            remedy="choose a recipe with a wider dtype, or repair the checkpoint",
        ) from error
    return _Moved(offset, source.values.shape, element, np.concatenate(scales) if scales else None)
