"""Symmetric 8-bit quantisation of weight matrices, one scale a row (output channel)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from falconry.engine.openvino.elements import Float32Array

_LARGEST = 127


def quantize_rows(rows: Float32Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Quantises each row so that its largest magnitude becomes 127.

    The rows are divided by the scale as it is stored, so that rounding the scale to float16 adds
    no error of its own.

    Args:
        rows: [n, columns].

    Returns:
        The quantised rows [n, columns] and their scales [n, 1].

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
