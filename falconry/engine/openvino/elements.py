"""Element types of weights, between three spellings: safetensors', NumPy's and OpenVINO's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]


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
    """Rounds float32 to the nearest value of another float type, ties to even.

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
