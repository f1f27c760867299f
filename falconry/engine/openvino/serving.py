"""`engine.json` of an OpenVINO engine, and the memory that serving it needs.

Weights and cache follow from the architecture. Activations and what the server's processes take
are estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from falconry.checkpoint.tensors import expected_tensors
from falconry.data_files import Table
from falconry.engine.manifest import SERVING_FILE
from falconry.engine.spec import GIB, EngineSpec

_FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT32 = _FLOAT_BYTES["float32"]
_SCALE = 2  # float16, one a row

# tritonserver, its three Python models and the front, with the operating system beside them. An
# assumption: measured with the tiny Falcon they take 0.23 GiB together (proportional set size).
_RUNTIME = GIB

# OpenVINO reuses a block's tensors in the next one; what is alive at one time. An estimate.
_TENSORS_AT_ONCE = 2
# Tokens in a block of the paged cache on a CPU
# (openvino.genai 2026.4, src/cpp/src/continuous_batching/cache/kv_cache_manager.hpp).
BLOCK_TOKENS = 32

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "uint8": "u8"}
# A scale and a zero point, each float32.
_QUANTIZATION_BYTES = 8


@dataclass(frozen=True, slots=True)
class CpuMemoryEstimate:
    """Bytes of a machine's memory.

    Attributes:
        kv_cache_request: the cache of one longest request.
        kv_cache_granted: what the recipe grants all requests together; taken when it is used.
        activations: of a largest step.
        runtime: the server's processes and the operating system.
    """

    weights: int
    kv_cache_request: int
    kv_cache_granted: int
    activations: int
    runtime: int

    def needed(self, requests: int) -> int:
        """What a number of longest requests at a time need."""
        cache = min(self.kv_cache_granted, requests * self.kv_cache_request)
        return self.weights + self.activations + self.runtime + cache

    @property
    def longest_requests(self) -> int:
        """How many longest requests the granted cache holds."""
        return self.kv_cache_granted // self.kv_cache_request


def estimate(spec: EngineSpec) -> CpuMemoryEstimate:
    """What the engine of a spec needs."""
    blocks = math.ceil(spec.limits.max_seq_len / BLOCK_TOKENS)
    return CpuMemoryEstimate(
        weights=_weights(spec),
        kv_cache_request=blocks * block_bytes(spec),
        kv_cache_granted=spec.kv_cache_bytes,
        activations=_activations(spec),
        runtime=_RUNTIME,
    )


def _weights(spec: EngineSpec) -> int:
    """Matrices as the recipe wants them, and vectors as float32."""
    quantised = spec.recipe.quantization == "int8_weight_only"
    element = 1 if quantised else _FLOAT_BYTES[spec.recipe.dtype]
    total = 0
    for shape in expected_tensors(spec.architecture).values():
        if len(shape) == 1:
            total += shape[0] * _FLOAT32
        else:
            total += math.prod(shape) * element + (shape[0] * _SCALE if quantised else 0)
    return total


def _activations(spec: EngineSpec) -> int:
    architecture, limits = spec.architecture, spec.limits
    elements = 3 * architecture.hidden_size + architecture.qkv_size
    elements += architecture.attention_size + architecture.mlp_width
    step = _TENSORS_AT_ONCE * limits.max_num_tokens * elements * _FLOAT32
    return step + limits.max_batch_size * architecture.vocab_size * _FLOAT32


class Scheduler(Table):
    """The fields of openvino_genai.SchedulerConfig that are set, by their names."""

    num_kv_blocks: int
    max_num_batched_tokens: int
    max_num_seqs: int
    dynamic_split_fuse: bool = True
    enable_prefix_caching: bool = True


class OpenVinoServing(Table):
    """The content of `engine.json`.

    Attributes:
        format: raised when a server for the earlier format could not read it.
        vocab_size: token ids of a request are below it.
        max_batch_size: requests to be answered at the same time. The scheduler does not hold to
            it while it splits prompts, so the server has to.
        max_input_len: tokens of a prompt; the runtime does not hold to it either.
        max_seq_len: tokens of prompt and answer together, likewise.
        end_ids: tokens that end an answer unless the request names another.
        device_properties: of the pipeline's constructor.
    """

    format: int = 2
    kind: str = "openvino"
    vocab_size: int
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    end_ids: tuple[int, ...]
    pad_id: int
    device: str = "CPU"
    device_properties: Mapping[str, str]
    scheduler: Scheduler
    kv_block_tokens: int = BLOCK_TOKENS
    kv_block_bytes: int


def serving_of(spec: EngineSpec) -> OpenVinoServing:
    """How an engine of this spec is to be opened."""
    recipe, limits = spec.recipe, spec.limits
    return OpenVinoServing(
        vocab_size=spec.architecture.vocab_size,
        max_batch_size=limits.max_batch_size,
        max_input_len=limits.max_input_len,
        max_seq_len=limits.max_seq_len,
        end_ids=spec.end_ids,
        pad_id=spec.pad_id,
        device_properties={
            "INFERENCE_PRECISION_HINT": _PRECISIONS[recipe.dtype],
            "KV_CACHE_PRECISION": _PRECISIONS[recipe.kv_cache.dtype],
        },
        scheduler=Scheduler(
            num_kv_blocks=spec.kv_cache_bytes // block_bytes(spec),
            max_num_batched_tokens=limits.max_num_tokens,
            max_num_seqs=limits.max_batch_size,
        ),
        kv_block_bytes=block_bytes(spec),
    )


def write_serving(serving: OpenVinoServing, engine: Path) -> None:
    """Writes `engine.json`, the same bytes for the same values."""
    text = serving.model_dump_json(indent=2) + "\n"
    (engine / SERVING_FILE).write_text(text, encoding="utf-8")


def block_bytes(spec: EngineSpec) -> int:
    """Bytes of a cache block: BLOCK_TOKENS tokens' keys and values, all layers.

    An 8-bit cache quantises keys by channel and values by token, which is seen in the shapes of
    the compiled model's cache inputs (openvino 2026.4, CPU).
    """
    architecture, dtype = spec.architecture, spec.recipe.kv_cache.dtype
    elements = BLOCK_TOKENS * architecture.head_size
    if dtype == "uint8":
        keys = elements + architecture.head_size * _QUANTIZATION_BYTES
        values = elements + BLOCK_TOKENS * _QUANTIZATION_BYTES
    else:
        keys = values = elements * _FLOAT_BYTES[dtype]
    return architecture.num_layers * architecture.num_kv_heads * (keys + values)


def serving_problems(spec: EngineSpec) -> list[str]:
    """Why OpenVINO GenAI could not serve this spec within its limits."""
    dtype, cache = spec.recipe.dtype, spec.recipe.kv_cache
    problems = []
    if dtype == "float16":
        # Seen with openvino 2026.4.1: rotary positions above 2,048 are rounded to multiples of 2
        # and more, and sums overflow to NaN.
        problems.append("dtype float16 is not exact enough on a CPU; use bfloat16 or float32")
    # The CPU's attention kernels keep these caches only in the arithmetic's own type
    # (openvino 2026.4, intel_cpu, executor_pa.cpp: "expect kvcache type ...").
    if cache.dtype in ("float32", "bfloat16") and cache.dtype != dtype:
        problems.append(f"kv_cache.dtype {cache.dtype} needs dtype {cache.dtype}, not {dtype}")
    tokens = spec.kv_cache_bytes // block_bytes(spec) * BLOCK_TOKENS
    if tokens < spec.limits.max_seq_len:
        problems.append(
            f"a request of max_seq_len {spec.limits.max_seq_len} can never fit: "
            f"kv_cache.memory_gib {cache.memory_gib:g} holds {tokens} tokens"
        )
    return problems
