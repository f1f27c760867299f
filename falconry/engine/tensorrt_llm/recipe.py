"""A GPU recipe: the choices that make TensorRT-LLM engines of a Falcon.

Recipes are TOML files in engine/recipes with `builder = "tensorrt_llm"`; this is their schema.
A toolchain's row, not the recipe, says which values a release understands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from falconry.data_files import Table
from falconry.engine.spec import read_recipe

FloatType = Literal["bfloat16", "float16", "float32"]
Quantization = Literal["none", "int8_weight_only", "int4_weight_only", "fp8", "int4_awq"]


class PublishedModel(Table):
    """The published checkpoint that is built unless the user names another.

    Attributes:
        hub: its name on the Hugging Face hub; `engine/published/<last part>.json` is its
            config.json.
        revision: the commit that is fetched; left out where none could be confirmed: then the user
            has to name a commit.
        path: a checkpoint directory of this project instead.
    """

    hub: str | None = None
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    path: Path | None = Field(default=None, strict=False)


class Parallelism(Table):
    """GPUs an engine runs on: `tensor` times `pipeline`.

    Attributes:
        tensor: GPUs that share each layer.
        pipeline: groups of GPUs that have some of the layers each.
    """

    tensor: PositiveInt
    pipeline: PositiveInt

    @property
    def world_size(self) -> int:
        """Ranks, each with a GPU of its own."""
        return self.tensor * self.pipeline


class GpuLimits(Table):
    """Every size that trtllm-build would otherwise choose for itself; lengths in tokens.

    Attributes:
        max_batch_size: requests answered at the same time.
        max_input_len: tokens of a prompt, where attention is not fused; where it is, prompts may
            fill `max_seq_len` but for one token.
        max_seq_len: tokens of prompt and answer together.
        max_num_tokens: tokens of all requests that one step computes.
        max_beam_width: beams of a request; 1 for sampling and greedy answers.
    """

    max_batch_size: PositiveInt
    max_input_len: PositiveInt
    max_seq_len: PositiveInt
    max_num_tokens: PositiveInt
    max_beam_width: PositiveInt


class GpuKvCache(Table):
    """The key/value cache.

    Attributes:
        type: paged is what in-flight batching needs.
        dtype: element type; `auto` is the engine's own.
        tokens_per_block: tokens whose keys and values share a block.
    """

    type: Literal["paged", "continuous"]
    dtype: Literal["auto", "int8", "fp8"]
    tokens_per_block: PositiveInt


class Plugins(Table):
    """TensorRT-LLM's plugins; `auto` takes the engine's dtype.

    Attributes:
        gemm: `disable` leaves matrix products to TensorRT.
        gpt_attention: rotary embeddings need it.
        remove_input_padding: packs requests of different lengths; in-flight batching needs it.
        context_fmha: fused attention for prompts.
        paged_context_fmha: the same over the paged cache; reuse and chunked prompts need it.
    """

    gemm: Literal["auto", "bfloat16", "float16", "float32", "fp8", "disable"]
    gpt_attention: Literal["auto", "bfloat16", "float16", "float32"]
    remove_input_padding: bool
    context_fmha: bool
    paged_context_fmha: bool


class Calibration(Table):
    """What quantisation to fp8 or int4-AWQ measures activations on.

    Attributes:
        dataset: a name that NVIDIA's quantiser knows, fetched by the container, or the absolute
            path of a directory with texts in a column `text`, mounted read-only.
        size: how many texts.
        awq_block_size: weights that share a scale with int4-AWQ; divides the hidden size.
    """

    dataset: str
    size: PositiveInt
    awq_block_size: PositiveInt


class GpuRecipe(Table):
    """How TensorRT-LLM engines are made.

    Attributes:
        builder: that the recipe is for.
        description: shown where recipes are listed.
        dtype: type of the weights, unless quantised, and of the arithmetic.
        quantization: of the weights.
        load_by_shard: the converter reads one shard at a time, which takes less host memory.
        calibration: only for fp8 and int4_awq.
    """

    builder: Literal["tensorrt_llm"]
    description: str
    model: PublishedModel
    dtype: FloatType
    quantization: Quantization
    load_by_shard: bool
    parallelism: Parallelism
    limits: GpuLimits
    kv_cache: GpuKvCache
    plugins: Plugins
    calibration: Calibration | None = None


def load_gpu_recipe(name: str, directory: Path | None = None) -> GpuRecipe:
    """Loads a GPU recipe by its name."""
    return read_recipe(name, GpuRecipe, "tensorrt_llm", directory)
