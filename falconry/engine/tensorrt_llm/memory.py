"""Memory that an engine needs to serve and to be built.

Weights and cache follow from the architecture. Activations, the runtime's own memory and what a
build takes are estimates, each with what it was derived from or compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from falconry.checkpoint.architecture import Architecture, FalconArchitecture
from falconry.engine.tensorrt_llm.recipe import GpuRecipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import Toolchain
from falconry.oci_facts import GpuShape

MIB, GIB = 1 << 20, 1 << 30

_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT32 = 4

# CUDA context, cuBLAS, NCCL, small buffers. Source: TensorRT-LLM's docs/source/reference/memory.md
# logs a rank of two that takes 8.62 GiB before its cache: 6,678 MiB of weights, 1,134 MiB of
# execution context, and 1,015 MiB that are neither.
_RUNTIME = GIB

# What a GPU gives of the memory in its name. GDDR6 keeps the rest for error correction, HBM less:
# an A10 of 24 GiB has 23,028 MiB, an A100 or H100 of 80 GiB gives 79.10 GiB (the same log).
_USABLE = 0.937

# TensorRT reuses a block's tensors in the next one, yet holds about twice what is alive at one
# time. Estimated from the execution context of the same log: 1,134 MiB for two ranks of a model of
# LLaMA-7B's cache size, with the default of 8,192 tokens a step.
_TENSORS_AT_ONCE = 2

# Float32 logits of every sequence: the engine's output, and the sampling's own. An estimate.
_LOGIT_COPIES = 4

# The share of the memory left that the cache is given unless the server's configuration says
# otherwise (kv_cache_free_gpu_mem_fraction; in the same log 63.44 of 70.48 GiB).
_CACHE_SHARE = 0.9

# A rank's weights in a build's host memory: as read, as TensorRT's constants, as the finished
# engine. An estimate.
_BUILD_COPIES = 3
_BUILD_PROGRAMS = 4 * GIB

# transformers wrote shards of 10 GB at most when the Falcons were published
# (save_pretrained, max_shard_size).
_SHARD = 10_000_000_000

# The registry lists compressed sizes for later images and unpacked ones for earlier: 34 GB were
# listed and 18.46 GB pulled for 24.04. So this is enough for either.
_UNPACKED = 2.0


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes; the first five of the GPU that needs most.

    Attributes:
        kv_cache_request: the cache of one longest request.
        kv_cache_full: the caches of as many longest requests as the engine answers at a time.
        activations: of a largest step.
        runtime: CUDA, TensorRT and NCCL.
        build_host_bytes: host memory of a build.
        build_disk_bytes: converted checkpoint and engine.
        image_disk_bytes: the image, when it has to be pulled.
    """

    weights: int
    kv_cache_request: int
    kv_cache_full: int
    activations: int
    runtime: int
    build_host_bytes: int
    build_disk_bytes: int
    image_disk_bytes: int

    @property
    def without_cache(self) -> int:
        """What a GPU needs before the first request."""
        return self.weights + self.activations + self.runtime

    @property
    def needed(self) -> int:
        """The least that a GPU needs: with one longest request's cache."""
        return self.without_cache + self.kv_cache_request

    def bytes_for(self, requests: int) -> int:
        """A GPU's need when its cache share holds so many longest requests."""
        return self.without_cache + math.ceil(requests * self.kv_cache_request / _CACHE_SHARE)

    def longest_requests(self, gpu_memory_bytes: int) -> int:
        """How many longest requests are answered at a time."""
        cache = max(0, gpu_memory_bytes - self.without_cache) * _CACHE_SHARE
        return int(min(cache, self.kv_cache_full) // self.kv_cache_request)


def estimate(spec: GpuEngineSpec) -> MemoryEstimate:
    """What a spec's engine needs, even if no builder accepts the spec."""
    rank = _RankMemory(spec.architecture, spec.recipe)
    request = rank.kv_cache_request
    return MemoryEstimate(
        weights=rank.weights,
        kv_cache_request=request,
        kv_cache_full=request * spec.recipe.limits.max_batch_size,
        activations=rank.activations,
        runtime=_RUNTIME,
        build_host_bytes=_build_host_bytes(spec, rank),
        build_disk_bytes=2 * rank.all_weights,
        image_disk_bytes=unpacked_image_bytes(spec.toolchain),
    )


def engine_bytes(spec: GpuEngineSpec) -> int:
    """What an engine's files take on disk, about: the weights of all ranks."""
    return _RankMemory(spec.architecture, spec.recipe).all_weights


def unquantised_bytes(spec: GpuEngineSpec) -> int:
    """The GPU memory that transformers needs to answer a short prompt."""
    weights = spec.num_parameters * _ELEMENT[spec.recipe.dtype]
    return weights + spec.recipe.parallelism.world_size * _RUNTIME


def unpacked_image_bytes(toolchain: Toolchain) -> int:
    """What a release's image takes at most where Docker keeps images."""
    return int(toolchain.listed_gb * 1e9 * _UNPACKED)


def usable_bytes(shape: GpuShape) -> int:
    """What programs get of a GPU's memory, at least."""
    return int((shape.usable_gib or shape.gpu_memory_gib * _USABLE) * GIB)


def sum_line(estimate: MemoryEstimate, gpu_memory_bytes: int) -> str:
    """The sum: `13.4 weights + ... = 16.3 of 24.0 GiB`."""
    parts = (
        (estimate.weights, "weights"),
        (estimate.activations, "activations"),
        (estimate.runtime, "runtime"),
        (estimate.kv_cache_request, "cache of one longest request"),
    )
    terms = " + ".join(f"{size / GIB:.2f} {name}" for size, name in parts)
    return f"{terms} = {estimate.needed / GIB:.2f} of {gpu_memory_bytes / GIB:.2f} GiB a GPU"


def _build_host_bytes(spec: GpuEngineSpec, rank: _RankMemory) -> int:
    """The larger of converting (one rank) and building (all ranks)."""
    checkpoint = spec.num_parameters * _ELEMENT[spec.recipe.dtype]
    held = min(checkpoint, _SHARD) if spec.recipe.load_by_shard else checkpoint
    building = _BUILD_COPIES * rank.weights * spec.recipe.parallelism.world_size
    return _BUILD_PROGRAMS + max(held + rank.weights, building)


class _RankMemory:
    """The rank with the most weights, in the first pipeline stage.

    Source of what is split: TensorRT-LLM's models/falcon/model.py and models/llama/model.py (which
    puts query, key and value into one matrix, as Falcon has it). Column-parallel matrices are
    split by rows, row-parallel ones by columns; norms and the embedding are complete on every rank
    (use_parallel_embedding is off by default); the output projection is split by rows, and is a
    matrix of its own even where the checkpoint ties it; a rank has at least one key/value head.
    """

    def __init__(self, architecture: Architecture, recipe: GpuRecipe) -> None:
        self._architecture = architecture
        self._recipe = recipe
        self._element = _ELEMENT[recipe.dtype]
        tensor = recipe.parallelism.tensor
        self._heads = math.ceil(architecture.num_heads / tensor)
        self._kv_heads = math.ceil(architecture.num_kv_heads / tensor)
        self._ffn = math.ceil(architecture.ffn_hidden_size / tensor)
        self._mlp_width = math.ceil(architecture.mlp_width / tensor)
        self._layers = math.ceil(architecture.num_layers / recipe.parallelism.pipeline)

    @property
    def weights(self) -> int:
        ends = (self._embedding, self._output)
        one_stage = self._recipe.parallelism.pipeline == 1
        return self._layers * self._layer + (sum(ends) if one_stage else max(ends))

    @property
    def all_weights(self) -> int:
        """Of all ranks together."""
        parallelism = self._recipe.parallelism
        layers = parallelism.pipeline * self._layers * self._layer
        return parallelism.tensor * (layers + self._embedding + self._output)

    @property
    def kv_cache_request(self) -> int:
        """Keys and values of `max_seq_len` tokens in full blocks, for every beam."""
        limits, cache = self._recipe.limits, self._recipe.kv_cache
        element = self._element if cache.dtype == "auto" else 1
        token = 2 * self._kv_heads * self._architecture.head_size * element * self._layers
        block = cache.tokens_per_block if cache.type == "paged" else 1
        tokens = math.ceil(limits.max_seq_len / block) * block
        return token * tokens * limits.max_beam_width

    @property
    def activations(self) -> int:
        """A block's tensors for all tokens of a step, and all logits."""
        limits, architecture = self._recipe.limits, self._architecture
        sequences = limits.max_batch_size * limits.max_beam_width
        packed = self._recipe.plugins.remove_input_padding
        tokens = limits.max_num_tokens if packed else sequences * limits.max_input_len
        elements = 3 * architecture.hidden_size + self._qkv + self._attention + self._mlp_width
        block = _TENSORS_AT_ONCE * tokens * elements * self._element
        logits = _LOGIT_COPIES * sequences * architecture.vocab_size * _FLOAT32
        return block + logits + self._unfused_scores(tokens)

    @property
    def _qkv(self) -> int:
        return (self._heads + 2 * self._kv_heads) * self._architecture.head_size

    @property
    def _attention(self) -> int:
        return self._heads * self._architecture.head_size

    @property
    def _layer(self) -> int:
        matrices = self._matrices
        vectors = self._layer_vectors(sum(rows for rows, _ in matrices)) * self._element
        return sum(self._matrix(*matrix) for matrix in matrices) + vectors

    @property
    def _matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of a layer's matrices."""
        hidden = self._architecture.hidden_size
        into_mlp = 1 if isinstance(self._architecture, FalconArchitecture) else 2  # gate and up
        return [
            (self._qkv, hidden),
            (hidden, self._attention),
            *[(self._ffn, hidden)] * into_mlp,
            (hidden, self._ffn),
        ]

    def _layer_vectors(self, rows: int) -> int:
        """Elements of a layer's norms, and of its biases, one a row."""
        architecture = self._architecture
        hidden = architecture.hidden_size
        if not isinstance(architecture, FalconArchitecture):
            return 2 * hidden
        norms = 2 if architecture.separate_mlp_norm else 1
        return norms * 2 * hidden + (rows if architecture.bias else 0)

    @property
    def _embedding(self) -> int:
        return self._architecture.vocab_size * self._architecture.hidden_size * self._element

    @property
    def _output(self) -> int:
        architecture = self._architecture
        rows = math.ceil(architecture.vocab_size / self._recipe.parallelism.tensor)
        norm = 2 if isinstance(architecture, FalconArchitecture) else 1  # with a bias, or without
        return (rows + norm) * architecture.hidden_size * self._element

    def _matrix(self, rows: int, columns: int) -> int:
        """A quantised matrix, with its scales in the engine's dtype."""
        weights, scale = rows * columns, self._element
        match self._recipe.quantization:
            case "none":
                return weights * self._element
            case "int8_weight_only":
                return weights + rows * scale
            case "int4_weight_only":
                return weights // 2 + rows * scale
            case "fp8":
                return weights + 2 * _FLOAT32
            case "int4_awq":
                calibration = self._recipe.calibration
                block = calibration.awq_block_size if calibration else columns
                return weights // 2 + (rows * math.ceil(columns / block) + columns) * scale

    def _unfused_scores(self, tokens: int) -> int:
        """Attention scores of all prompts, which fused attention never stores (memory.md)."""
        if self._recipe.plugins.context_fmha:
            return 0
        length = self._recipe.limits.max_input_len
        prompts = max(1, tokens // length)
        return prompts * self._heads * length**2 * (self._element + _FLOAT32)
