"""What a CPU engine needs of a machine's memory to serve.

Weights and cache follow from the architecture. Activations and what the server's processes take
are estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from falconry.checkpoint.layout import expected_tensors
from falconry.engine.openvino.serving import BLOCK_TOKENS, block_bytes
from falconry.engine.spec import GIB, EngineSpec

_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT32 = 4
_SCALE = 2  # float16, one a row

# tritonserver, its three Python models and the front, with the operating system beside them. An
# assumption: measured with the tiny Falcon they take 0.23 GiB together (proportional set size).
_RUNTIME = GIB

# OpenVINO reuses a block's tensors in the next one; what is alive at one time. An estimate.
_TENSORS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class CpuMemoryEstimate:
    """Bytes of a machine's memory.

    Attributes:
        weights: of the whole model.
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
    element = 1 if quantised else _ELEMENT[spec.recipe.dtype]
    total = 0
    for shape in expected_tensors(spec.architecture).values():
        if len(shape) == 1:
            total += shape[0] * _FLOAT32
        else:
            total += math.prod(shape) * element + (shape[0] * _SCALE if quantised else 0)
    return total


def _activations(spec: EngineSpec) -> int:
    architecture, limits = spec.architecture, spec.limits
    attention = architecture.num_heads * architecture.head_size
    elements = 3 * architecture.hidden_size + architecture.qkv_size + attention
    elements += 2 * architecture.ffn_hidden_size
    step = _TENSORS_AT_ONCE * limits.max_num_tokens * elements * _FLOAT32
    return step + limits.max_batch_size * architecture.vocab_size * _FLOAT32
