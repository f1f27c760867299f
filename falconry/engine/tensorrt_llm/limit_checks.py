"""What of a spec keeps an engine from being built: limits, the cache's form, and plugins."""

from __future__ import annotations

from collections.abc import Sequence

from falconry.engine.tensorrt_llm.checks import SpecCheck, listed
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding, verdict


def _positions(spec: GpuEngineSpec) -> Finding:
    wanted, most = spec.recipe.limits.max_seq_len, spec.architecture.max_positions
    return verdict(
        "sequence length",
        wanted <= most,
        f"{wanted} of {most} positions",
        f"limits.max_seq_len {wanted} exceeds the checkpoint's {most} positions",
        f"set limits.max_seq_len to {most} or less",
    )


def _prompts(spec: GpuEngineSpec) -> Finding:
    limits, plugins = spec.recipe.limits, spec.recipe.plugins
    found = f"{limits.max_input_len} of {limits.max_seq_len} tokens"
    if plugins.context_fmha and plugins.remove_input_padding:  # see EngineConfig.longest_prompt
        most = limits.max_seq_len - 1
        most = most if _chunks(spec) else min(most, limits.max_num_tokens)
        found = (
            f"{most} of {limits.max_seq_len} tokens; max_input_len {limits.max_input_len} means"
            " nothing with fused attention"
        )
    return verdict(
        "prompt length",
        limits.max_input_len < limits.max_seq_len,
        found,
        f"limits.max_input_len {limits.max_input_len} leaves no room for an answer within"
        f" limits.max_seq_len {limits.max_seq_len}",
        f"set limits.max_input_len to {limits.max_seq_len - 1} or less",
    )


def _step(spec: GpuEngineSpec) -> Finding:
    limits = spec.recipe.limits
    sequences = limits.max_batch_size * limits.max_beam_width
    least = sequences if _chunks(spec) else max(sequences, limits.max_input_len)
    reason = "a longest prompt" if least > sequences else "a token of every request"
    return verdict(
        "tokens of a step",
        limits.max_num_tokens >= least,
        f"{limits.max_num_tokens} tokens, at least {least}",
        f"limits.max_num_tokens {limits.max_num_tokens} is less than {reason} ({least})",
        f"set limits.max_num_tokens to {least} or more",
    )


def _chunks(spec: GpuEngineSpec) -> bool:
    """Whether a prompt may be computed in several steps."""
    return spec.recipe.plugins.context_fmha and spec.recipe.plugins.paged_context_fmha


def _inflight_batching(spec: GpuEngineSpec) -> Finding:
    paged = spec.recipe.kv_cache.type == "paged"
    missing = [
        setting
        for setting, there in (
            ('kv_cache.type = "paged"', paged),
            ("plugins.remove_input_padding = true", spec.recipe.plugins.remove_input_padding),
        )
        if not there
    ]
    return verdict(
        "in-flight batching",
        not missing,
        "paged cache, packed prompts",
        f"the server's in-flight batching needs {listed(missing)}",
        "set so in the recipe",
    )


def _cache_blocks(spec: GpuEngineSpec) -> Finding:
    # Source: TensorRT-LLM's own build scripts refuse others (examples/*/build.py until 0.7).
    tokens = spec.recipe.kv_cache.tokens_per_block
    return verdict(
        "cache blocks",
        tokens.bit_count() == 1,
        f"{tokens} tokens each",
        f"kv_cache.tokens_per_block {tokens} is not a power of two",
        f"set kv_cache.tokens_per_block to {1 << (tokens.bit_length() - 1)}",
    )


def _attention(spec: GpuEngineSpec) -> Finding:
    plugins, dtype = spec.recipe.plugins, spec.recipe.dtype
    if dtype == "float32" and (plugins.context_fmha or plugins.paged_context_fmha):
        # Source: TensorRT-LLM, attentionOp.cpp: with other types it falls back, with a warning.
        problem = "fused attention computes in float16 and bfloat16 only, and dtype is float32"
        remedy = "set plugins.context_fmha = false and plugins.paged_context_fmha = false"
        return Finding("fused attention", "failed", problem, remedy)
    return verdict(
        "fused attention",
        plugins.context_fmha or not plugins.paged_context_fmha,
        f"context_fmha {plugins.context_fmha}, paged_context_fmha {plugins.paged_context_fmha}",
        "plugins.paged_context_fmha needs plugins.context_fmha",
        "set both to true or both to false",
    )


def _plugin_types(spec: GpuEngineSpec) -> Finding:
    plugins, dtype = spec.recipe.plugins, spec.recipe.dtype
    wrong = []
    if plugins.gpt_attention not in ("auto", dtype):
        wrong.append(f'plugins.gpt_attention = "{plugins.gpt_attention}"')
    fitting = ["auto", "disable", dtype, *(["fp8"] if spec.recipe.quantization == "fp8" else [])]
    if plugins.gemm not in fitting:
        wrong.append(f'plugins.gemm = "{plugins.gemm}"')
    return verdict(
        "plugins",
        not wrong,
        f"gemm {plugins.gemm}, gpt_attention {plugins.gpt_attention}",
        f'{listed(wrong)} does not suit dtype = "{dtype}" with quantization ='
        f' "{spec.recipe.quantization}"',
        'set it to "auto"',
    )


LIMIT_CHECKS: Sequence[SpecCheck] = (
    _positions,
    _prompts,
    _step,
    _inflight_batching,
    _cache_blocks,
    _attention,
    _plugin_types,
)
