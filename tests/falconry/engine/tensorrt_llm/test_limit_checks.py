"""What limits and plugins are refused, and that each refusal says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from tests.falconry.engine.tensorrt_llm.checking import check_refusal, failures
from tests.falconry.engine.tensorrt_llm.specs import spec

# Changes to a spec that passes; what the check finds; what it says to change.
REFUSALS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "falcon-7b",
        {"limits": {"max_seq_len": 4096}},
        "sequence length",
        "limits.max_seq_len 4096 exceeds the checkpoint's 2048 positions",
        "set limits.max_seq_len to 2048 or less",
    ),
    (
        "falcon-7b",
        {"limits": {"max_input_len": 2048}},
        "prompt length",
        "limits.max_input_len 2048 leaves no room for an answer",
        "set limits.max_input_len to 2047 or less",
    ),
    (
        "falcon-7b",
        {"limits": {"max_num_tokens": 32, "max_batch_size": 64}},
        "tokens of a step",
        "limits.max_num_tokens 32 is less than a token of every request (64)",
        "set limits.max_num_tokens to 64 or more",
    ),
    (
        "falcon-7b",
        {"limits": {"max_num_tokens": 512}, "plugins": {"paged_context_fmha": False}},
        "tokens of a step",
        "limits.max_num_tokens 512 is less than a longest prompt (1024)",
        "set limits.max_num_tokens to 1024 or more",
    ),
    (
        "falcon-7b",
        {"kv_cache": {"type": "continuous"}, "plugins": {"remove_input_padding": False}}
        | {"limits": {"max_batch_size": 2}},
        "in-flight batching",
        'needs kv_cache.type = "paged" and plugins.remove_input_padding = true',
        "set so in the recipe",
    ),
    (
        "falcon-7b",
        {"kv_cache": {"tokens_per_block": 48}},
        "cache blocks",
        "kv_cache.tokens_per_block 48 is not a power of two",
        "set kv_cache.tokens_per_block to 32",
    ),
    (
        "falcon-rw-1b",
        {"dtype": "float32"},
        "fused attention",
        "computes in float16 and bfloat16 only, and dtype is float32",
        "set plugins.context_fmha = false and plugins.paged_context_fmha = false",
    ),
    (
        "falcon-rw-1b",
        {"plugins": {"context_fmha": False}},
        "fused attention",
        "plugins.paged_context_fmha needs plugins.context_fmha",
        "set both",
    ),
    (
        "falcon-7b",
        {"plugins": {"gemm": "bfloat16", "gpt_attention": "bfloat16"}},
        "plugins",
        'plugins.gpt_attention = "bfloat16" and plugins.gemm = "bfloat16" does not suit',
        'set it to "auto"',
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
        ("falcon-7b", {"limits": {"max_num_tokens": 512}}),  # prompts in chunks
        ("falcon-7b", {"plugins": {"gemm": "disable"}}),
    ],
)
def test_what_can_be_built_is_accepted(model: str, changes: dict[str, Any]) -> None:
    assert not failures(spec_checks(spec(model, **changes)))
