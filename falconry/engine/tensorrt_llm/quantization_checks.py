"""What of a spec keeps an engine from being built: types of numbers, and quantisation."""

from __future__ import annotations

from collections.abc import Sequence

from falconry.engine.tensorrt_llm.checks import (
    Check,
    SpecCheck,
    either,
    listed,
    shape_remedy,
    verdict,
    ways,
)
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec

# Source: TensorRT-LLM's support matrix (docs/source/legacy/reference/support-matrix.md): FP8 from
# Ada on, bfloat16 from Ampere on.
_SM_OF_FP8 = 89
_SM_OF_BFLOAT16 = 80

_CALIBRATED = ("fp8", "int4_awq")

# The block sizes of TensorRT-LLM's int4 kernels (fpA_intB_gemm: group sizes 64 and 128).
_AWQ_BLOCKS = (128, 64)


def calibrated(spec: GpuEngineSpec) -> bool:
    """Whether something is quantised whose scales have to be measured."""
    return spec.recipe.quantization in _CALIBRATED or spec.recipe.kv_cache.dtype != "auto"


def _dtype(spec: GpuEngineSpec) -> Check:
    return verdict(
        "dtype",
        spec.recipe.dtype != "bfloat16" or spec.shape.sm >= _SM_OF_BFLOAT16,
        f"{spec.recipe.dtype} on SM {spec.shape.sm}",
        f"bfloat16 needs SM {_SM_OF_BFLOAT16} or later, and {spec.shape.gpu} is SM {spec.shape.sm}",
        ways('set dtype = "float16"', shape_remedy(lambda other: other.sm >= _SM_OF_BFLOAT16)),
    )


def _fp8(spec: GpuEngineSpec) -> Check:
    recipe, shape = spec.recipe, spec.shape
    used = "fp8" in (recipe.quantization, recipe.kv_cache.dtype, recipe.plugins.gemm)
    return verdict(
        "FP8",
        not used or shape.sm >= _SM_OF_FP8,
        f"on SM {shape.sm}" if used else "not used",
        f"FP8 needs SM {_SM_OF_FP8} or later, and {shape.gpu} is SM {shape.sm}",
        ways(
            'set quantization = "int8_weight_only" and kv_cache.dtype = "auto"',
            shape_remedy(lambda other: other.sm >= _SM_OF_FP8),
        ),
    )


def _calibration(spec: GpuEngineSpec) -> Check:
    recipe, given = spec.recipe, spec.recipe.calibration is not None
    return verdict(
        "calibration",
        calibrated(spec) == given,
        "given" if given else "not needed",
        f"[calibration] {'has nothing to do' if given else 'is missing'} with quantization ="
        f' "{recipe.quantization}" and kv_cache.dtype = "{recipe.kv_cache.dtype}"',
        "remove it from the recipe" if given else "add it with dataset, size and awq_block_size",
    )


def _awq_blocks(spec: GpuEngineSpec) -> Check:
    architecture, tensor = spec.architecture, spec.recipe.parallelism.tensor
    calibration = spec.recipe.calibration
    if spec.recipe.quantization != "int4_awq" or calibration is None:
        return Check("AWQ block", True, "not used")
    # The columns of a rank's matrices: whole where rows are split, and split where columns are.
    columns = (
        architecture.hidden_size,
        architecture.num_heads * architecture.head_size // tensor,
        architecture.ffn_hidden_size // tensor,
    )
    block = calibration.awq_block_size
    fitting = [size for size in _AWQ_BLOCKS if all(count % size == 0 for count in columns)]
    odd = next((count for count in columns if count % block), 0)
    return verdict(
        "AWQ block",
        not odd,
        f"{block} weights a scale, {listed(columns)} columns",
        f"calibration.awq_block_size {block} does not divide the {odd} columns of a rank's matrix",
        ways(
            f"set calibration.awq_block_size to {either(fitting)}" if fitting else None,
            'set quantization = "int4_weight_only"',
        ),
    )


QUANTIZATION_CHECKS: Sequence[SpecCheck] = (
    _dtype,
    _fp8,
    _calibration,
    _awq_blocks,
)
