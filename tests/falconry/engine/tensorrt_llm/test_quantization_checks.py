"""What types and quantisation are refused, and that each refusal says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from tests.falconry.engine.tensorrt_llm.checking import CALIBRATION, check_refusal, failures
from tests.falconry.engine.tensorrt_llm.specs import A10, H100, spec

V100 = A10.model_copy(update={"gpu": "Tesla V100-SXM2-16GB", "sm": 70, "name": "VM.GPU3.1"})

# Changes to a spec that passes; what the check finds; what it says to change.
REFUSALS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "falcon-7b",
        {"quantization": "fp8", "calibration": CALIBRATION},
        "FP8",
        "FP8 needs SM 89 or later, and NVIDIA A10 is SM 86",
        'quantization = "int8_weight_only"',
    ),
    (
        "falcon-7b",
        {"kv_cache": {"dtype": "fp8"}, "calibration": CALIBRATION},
        "FP8",
        "FP8 needs SM 89 or later",
        'kv_cache.dtype = "auto"',
    ),
    (
        "falcon-7b",
        {"dtype": "bfloat16", "shape": V100, "toolchain": {"sm": (70, 80)}, "quantization": "none"},
        "dtype",
        "bfloat16 needs SM 80 or later, and Tesla V100-SXM2-16GB is SM 70",
        'set dtype = "float16"',
    ),
    (
        "falcon-7b",
        {"quantization": "int4_awq"},
        "calibration",
        '[calibration] is missing with quantization = "int4_awq"',
        "add it with dataset, size and awq_block_size",
    ),
    (
        "falcon-7b",
        {"calibration": CALIBRATION},
        "calibration",
        '[calibration] has nothing to do with quantization = "none"',
        "remove it",
    ),
    (
        "falcon-7b",
        {"quantization": "int4_awq", "calibration": {**CALIBRATION, "awq_block_size": 128}},
        "AWQ block",
        "awq_block_size 128 does not divide the 4544 columns",  # 4544 = 71 * 64
        "set calibration.awq_block_size to 64",
    ),
    (
        "falcon-40b",
        {
            "architecture": {"ffn_hidden_size": 32896},  # 257 * 128, a rank has 257 * 64
            "quantization": "int4_awq",
            "calibration": {**CALIBRATION, "awq_block_size": 128},
        },
        "AWQ block",
        "does not divide the 16448 columns of a rank's matrix",
        "set calibration.awq_block_size to 64",
    ),
]


@pytest.mark.parametrize(
    ("model", "changes", "name", "problem", "remedy"),
    REFUSALS,
    ids=[f"{name}: {problem[:40]}" for _, _, name, problem, _ in REFUSALS],
)
def test_what_cannot_be_built_is_refused_with_what_to_change(
    model: str, changes: dict[str, Any], name: str, problem: str, remedy: str
) -> None:
    check_refusal(spec(model, **changes), name, problem, remedy)


# The same demands where they can be met.
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("falcon-7b", {"quantization": "fp8", "calibration": CALIBRATION, "shape": H100}),
        ("falcon-7b", {"quantization": "int4_awq", "calibration": CALIBRATION}),
        ("falcon-7b", {"kv_cache": {"dtype": "int8"}, "calibration": CALIBRATION}),
        ("falcon-7b", {"quantization": "int8_weight_only"}),
        ("falcon-7b", {"dtype": "bfloat16"}),
    ],
)
def test_what_can_be_built_is_accepted(model: str, changes: dict[str, Any]) -> None:
    assert not failures(spec_checks(spec(model, **changes)))
