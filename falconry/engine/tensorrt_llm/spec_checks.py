"""What of a spec keeps an engine from being built or served, whatever machine builds it."""

from __future__ import annotations

from collections.abc import Sequence

from falconry.engine.tensorrt_llm.checks import (
    SpecCheck,
    either,
    gpu_words,
    shape_remedy,
    toolchain_remedy,
    ways,
)
from falconry.engine.tensorrt_llm.limit_checks import LIMIT_CHECKS
from falconry.engine.tensorrt_llm.memory import estimate, sum_line, usable_bytes
from falconry.engine.tensorrt_llm.quantization_checks import QUANTIZATION_CHECKS
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding, verdict

# GB. Source: Oracle, "Troubleshooting model deployments: bring your own container". It does not
# say how the size is measured.
_OCI_IMAGE_GB = 16

# No machine of OCI's has more GPUs.
_MOST_GPUS = 8


def spec_checks(spec: GpuEngineSpec) -> list[Finding]:
    """Everything that can be said without asking a machine."""
    return [check(spec) for check in _SPEC_CHECKS]


# The split over GPUs


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
    # The converter splits the output projection as it is, and the engine wants it padded.
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
    """The rule of TensorRT-LLM's attention: a rank has whole heads, or several share one."""
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
    """Whether the converter can read shard by shard.

    Then it takes the output projection from the embedding, whatever the checkpoint has
    (NVIDIA/TensorRT-LLM, models/falcon/convert.py at 7ed07f0691df, load_weights_from_hf_by_shard).
    """
    return spec.architecture.tied_embeddings


def _load_by_shard(spec: GpuEngineSpec) -> Finding:
    return verdict(
        "loading by shard",
        may_load_by_shard(spec) or not spec.recipe.load_by_shard,
        "used" if spec.recipe.load_by_shard else "not used",
        "load_by_shard loses the checkpoint's own output projection: the engine would write bad"
        " text",
        "set load_by_shard = false",
    )


# The release


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
    size, limit = spec.toolchain.listed_gb, _OCI_IMAGE_GB
    if spec.image_replaced:
        return Finding("image size", "ok", f"an image of your own; Oracle pulls {limit} GB at most")
    if size <= limit:
        return Finding(
            "image size", "ok", f"{size:g} GB are listed; Oracle pulls {limit} GB at most"
        )
    return Finding(
        "image size",
        "warning",
        f"{size:g} GB are listed and Oracle names {limit} GB as the most it pulls, without saying"
        " how they are measured: the deployment may be refused",
        toolchain_remedy(lambda row: row.listed_gb <= limit) or "",
    )


# Memory of the GPUs that serve


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
    _architecture,
    _heads,
    _kv_heads,
    _vocabulary,
    _layers,
    _gpu_count,
    _load_by_shard,
    *QUANTIZATION_CHECKS,
    *LIMIT_CHECKS,
    _gpu_memory,
    _image_size,
)
