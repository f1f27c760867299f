"""Checks of a spec that hold on every build machine."""

from __future__ import annotations

from collections.abc import Sequence

from falconry.checkpoint.architecture import FalconArchitecture, family_note
from falconry.engine.tensorrt_llm.checks import (
    SpecCheck,
    either,
    gpu_words,
    listed,
    shape_remedy,
    toolchain_remedy,
    ways,
)
from falconry.engine.tensorrt_llm.memory import estimate, sum_line, usable_bytes
from falconry.engine.tensorrt_llm.quantization_checks import QUANTIZATION_CHECKS
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding, verdict
from falconry.oci_facts import load_limits

# No machine of OCI's has more GPUs.
_MOST_GPUS = 8


def spec_checks(spec: GpuEngineSpec) -> list[Finding]:
    """All findings about a spec."""
    return [check(spec) for check in _SPEC_CHECKS]


def _family(spec: GpuEngineSpec) -> Finding:
    note = family_note(spec.architecture)
    return Finding("model", "warning" if note else "ok", note or spec.architecture.family)


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


def _heads(spec: GpuEngineSpec) -> Finding:
    heads, tensor = spec.architecture.num_heads, spec.recipe.parallelism.tensor
    splits = _tensor_splits(spec)
    prime = " (a prime number)" if len(_divisors(heads, heads)) == 2 else ""
    split = f"{heads} attention heads{prime}"
    if heads % tensor == 0:
        split = f"{spec.architecture.ffn_hidden_size} rows of the MLP"
    return verdict(
        "heads",
        heads % tensor == 0 and spec.architecture.ffn_hidden_size % tensor == 0,
        f"{heads} attention heads over parallelism.tensor = {tensor}",
        f"{split} cannot be split evenly over parallelism.tensor = {tensor}",
        f"set parallelism.tensor to {either(splits)}"
        + (" and split by parallelism.pipeline instead" if splits == [1] else ""),
    )


def _kv_heads(spec: GpuEngineSpec) -> Finding:
    heads, tensor = spec.architecture.num_kv_heads, spec.recipe.parallelism.tensor
    return verdict(
        "key/value heads",
        _kv_splits(heads, tensor),
        f"{heads} key/value heads over parallelism.tensor = {tensor}",
        f"{heads} key/value heads are neither a multiple nor a divisor of parallelism.tensor ="
        f" {tensor}",
        f"set parallelism.tensor to {either(_tensor_splits(spec))}",
    )


def _vocabulary(spec: GpuEngineSpec) -> Finding:
    # The converter splits the output projection as it is, and the engine needs it padded.
    vocabulary, tensor = spec.architecture.vocab_size, spec.recipe.parallelism.tensor
    return verdict(
        "vocabulary",
        vocabulary % tensor == 0,
        f"{vocabulary} tokens over parallelism.tensor = {tensor}",
        f"a vocabulary of {vocabulary} tokens cannot be split evenly over parallelism.tensor ="
        f" {tensor}",
        f"set parallelism.tensor to {either(_tensor_splits(spec))}",
    )


def _layers(spec: GpuEngineSpec) -> Finding:
    # Later releases give layers that are left over to the first stages, earlier ones silently
    # drop them (TensorRT-LLM, tensorrt_llm/mapping.py: pp_layers).
    layers, pipeline = spec.architecture.num_layers, spec.recipe.parallelism.pipeline
    return verdict(
        "layers",
        layers % pipeline == 0,
        f"{layers} layers over parallelism.pipeline = {pipeline}",
        f"{layers} layers cannot be split evenly over parallelism.pipeline = {pipeline}",
        f"set parallelism.pipeline to {either(_divisors(layers, _MOST_GPUS))}",
    )


def _gpu_count(spec: GpuEngineSpec) -> Finding:
    parallelism, shape = spec.recipe.parallelism, spec.shape
    ranks = parallelism.world_size
    found = f"{gpu_words(ranks)} of the {shape.gpus} of {shape.name}"
    return verdict(
        "GPUs of the shape",
        ranks <= shape.gpus,
        found,
        f"parallelism.tensor {parallelism.tensor} times parallelism.pipeline {parallelism.pipeline}"
        f" takes {gpu_words(ranks)}, and {shape.name} has {shape.gpus}",
        ways("split less", shape_remedy(lambda other: other.gpus >= ranks)),
    )


def _kv_splits(heads: int, tensor: int) -> bool:
    """TensorRT-LLM's rule: a rank has complete heads, or ranks share one."""
    return heads % tensor == 0 or tensor % heads == 0


def _tensor_splits(spec: GpuEngineSpec) -> list[int]:
    architecture = spec.architecture
    return [
        tensor
        for tensor in _divisors(architecture.num_heads, _MOST_GPUS)
        if _kv_splits(architecture.num_kv_heads, tensor)
        and architecture.ffn_hidden_size % tensor == 0
        and architecture.vocab_size % tensor == 0
    ]


def _divisors(number: int, most: int) -> list[int]:
    return [divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0]


def may_load_by_shard(spec: GpuEngineSpec) -> bool:
    """Whether loading shard by shard takes less memory and loses nothing.

    Falcon's converter then takes the output projection from the embedding, whatever the checkpoint
    has (NVIDIA/TensorRT-LLM, models/falcon/convert.py at 7ed07f0691df,
    load_weights_from_hf_by_shard). Llama's always reads tensor by tensor, whatever the flag says
    (models/llama/model.py, 0.16).
    """
    return isinstance(spec.architecture, FalconArchitecture) and spec.architecture.tied_embeddings


def _load_by_shard(spec: GpuEngineSpec) -> Finding:
    falcon = isinstance(spec.architecture, FalconArchitecture)
    used = spec.recipe.load_by_shard
    return verdict(
        "loading by shard",
        not falcon or may_load_by_shard(spec) or not used,
        ("used" if falcon else "means nothing for a Llama") if used else "not used",
        "load_by_shard loses the checkpoint's own output projection: the engine would write bad"
        " text",
        "set load_by_shard = false",
    )


def _architecture(spec: GpuEngineSpec) -> Finding:
    row, shape = spec.toolchain, spec.shape
    return verdict(
        "GPU architecture",
        shape.sm in row.sm,
        f"SM {shape.sm} ({shape.gpu}) with TensorRT-LLM {row.tensorrt_llm}",
        f"TensorRT-LLM {row.tensorrt_llm} does not support SM {shape.sm} ({shape.gpu})",
        ways(
            toolchain_remedy(lambda other: shape.sm in other.sm),
            shape_remedy(lambda other: other.sm in row.sm),
        ),
    )


def _image_size(spec: GpuEngineSpec) -> Finding:
    size, limit = spec.toolchain.listed_gb, load_limits().image.compressed_bytes / 1e9
    if spec.image_replaced:
        text = f"an image of your own; Oracle pulls {limit:g} GB at most"
        return Finding("image size", "ok", text)
    if size <= limit:
        text = f"{size:g} GB are listed; Oracle pulls {limit:g} GB at most"
        return Finding("image size", "ok", text)
    return Finding(
        "image size",
        "warning",
        f"{size:g} GB are listed and Oracle names {limit:g} GB as the most it pulls, without saying"
        " how they are measured: the deployment may be refused",
        toolchain_remedy(lambda row: row.listed_gb <= limit) or "",
    )


def _gpu_memory(spec: GpuEngineSpec) -> Finding:
    memory, shape = estimate(spec), spec.shape
    room = usable_bytes(shape)
    line = sum_line(memory, room)
    batch = spec.recipe.limits.max_batch_size
    at_once = min(batch, memory.longest_requests(room))
    ranks = spec.recipe.parallelism.world_size
    return verdict(
        "GPU memory",
        memory.needed <= room,
        f"{line}; cache for {at_once} of {batch} longest requests at a time",
        f"the engine does not fit into {shape.name}'s GPUs: {line}",
        ways(
            "quantise the weights",
            "split over more GPUs",
            "lower limits.max_num_tokens or limits.max_batch_size",
            shape_remedy(
                lambda other: usable_bytes(other) >= memory.needed and other.gpus >= ranks
            ),
        ),
    )


_SPEC_CHECKS: Sequence[SpecCheck] = (
    _family,
    _architecture,
    _heads,
    _kv_heads,
    _vocabulary,
    _layers,
    _gpu_count,
    _load_by_shard,
    *QUANTIZATION_CHECKS,
    _positions,
    _prompts,
    _step,
    _inflight_batching,
    _cache_blocks,
    _attention,
    _plugin_types,
    _gpu_memory,
    _image_size,
)
