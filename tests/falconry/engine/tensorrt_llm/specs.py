"""Specs to test with: the published Falcons, each with a recipe that suits it.

Sizes: the config.json files of tiiuae/falcon-rw-1b, -7b, -40b, -180B, -11B and of Falcon3. The
toolchain and the shapes are like the real rows, and written out here so that a test does not
change with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from falconry.checkpoint.architecture import Architecture, FalconArchitecture, LlamaArchitecture
from falconry.engine.tensorrt_llm.recipe import GpuRecipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import Composable, Converters, Toolchain
from falconry.oci_facts import GpuShape

A10 = GpuShape(
    name="VM.GPU.A10.1",
    gpu="NVIDIA A10",
    sm=86,
    gpus=1,
    gpu_memory_gib=24.0,
    usable_gib=22.07,
    source="test",
)
A100 = GpuShape(
    name="BM.GPU.A100-v2.8",
    gpu="NVIDIA A100-SXM4-80GB",
    sm=80,
    gpus=8,
    gpu_memory_gib=80.0,
    source="test",
)
H100 = GpuShape(
    name="BM.GPU.H100.8",
    gpu="NVIDIA H100 80GB HBM3",
    sm=90,
    gpus=8,
    gpu_memory_gib=80.0,
    source="test",
)

TOOLCHAIN = Toolchain(
    release="25.10",
    image="nvcr.io/nvidia/tritonserver:25.10-trtllm-python-py3",
    tensorrt_llm="1.0.0",
    tensorrt="10.11.0.33",
    cuda="12.9.1",
    python="3.12",
    driver="575",
    data_center_drivers=("470.57", "525.85", "535.86", "545.23"),
    sm=(80, 86, 89, 90),
    converter=Converters(
        falcon=("/app/examples/models/contrib/falcon/convert_checkpoint.py",),
        llama=("/app/examples/models/core/llama/convert_checkpoint.py",),
    ),
    quantizer="/app/examples/quantization/quantize.py",
    tensor_names="seed",
    listed_gb=16.21,
    compose=Composable(
        full="full", minimum="minimum", backends=(), repoagents=(), caches=(), source="test"
    ),
    source="test",
)

# Model: parameters, GPUs, and where it runs.
_MODELS: dict[str, tuple[Architecture, int, int, GpuShape]] = {}


def _falcon3(name: str, parameters: float, tensor: int, shape: GpuShape, **sizes: Any) -> None:
    usual = {
        "vocab_size": 131072,
        "head_size": 256,
        "num_kv_heads": 4,
        "max_positions": 32768,
        "rope_theta": 1000042.0,
        "norm_epsilon": 1e-6,
        "tied_embeddings": False,
    }
    _MODELS[name] = LlamaArchitecture(**{**usual, **sizes}), int(parameters), tensor, shape


def _model(name: str, parameters: float, tensor: int, shape: GpuShape, **sizes: Any) -> None:
    usual = {
        "vocab_size": 65024,
        "head_size": 64,
        "ffn_hidden_size": 4 * sizes["hidden_size"],
        "max_positions": 2048,
        "alibi": False,
        "rope_theta": 10000.0,
        "new_decoder_architecture": True,
        "parallel_attention": True,
        "separate_mlp_norm": True,
        "bias": False,
        "norm_epsilon": 1e-5,
        "tied_embeddings": True,
    }
    architecture = FalconArchitecture(**{**usual, **sizes})
    _MODELS[name] = architecture, int(parameters), tensor, shape


_model(
    "falcon-rw-1b",
    1.3e9,
    1,
    A10,
    hidden_size=2048,
    num_layers=24,
    num_heads=32,
    num_kv_heads=32,
    vocab_size=50304,
    alibi=True,
    bias=True,
    new_decoder_architecture=False,
    parallel_attention=False,
)
_model(
    "falcon-7b",
    6.92e9,
    1,
    A10,
    hidden_size=4544,
    num_layers=32,
    num_heads=71,
    num_kv_heads=1,
    new_decoder_architecture=False,
    separate_mlp_norm=False,
)
_model(
    "falcon-40b", 41.8e9, 2, A100, hidden_size=8192, num_layers=60, num_heads=128, num_kv_heads=8
)
_model(
    "falcon-180b", 179.5e9, 8, H100, hidden_size=14848, num_layers=80, num_heads=232, num_kv_heads=8
)
_model(
    "falcon2-11b",
    11.1e9,
    1,
    A100,
    hidden_size=4096,
    num_layers=60,
    num_heads=32,
    num_kv_heads=8,
    head_size=128,
    max_positions=8192,
    rope_theta=500042.0,
    separate_mlp_norm=False,
    tied_embeddings=False,
)

_falcon3(
    "falcon3-1b",
    1.669e9,
    1,
    A10,
    hidden_size=2048,
    num_layers=18,
    num_heads=8,
    ffn_hidden_size=8192,
    max_positions=8192,
)
_falcon3(
    "falcon3-7b",
    7.456e9,
    1,
    A10,
    hidden_size=3072,
    num_layers=28,
    num_heads=12,
    ffn_hidden_size=23040,
)
_falcon3(
    "falcon3-10b",
    10.306e9,
    2,
    A100,
    hidden_size=3072,
    num_layers=40,
    num_heads=12,
    ffn_hidden_size=23040,
)

MODELS = tuple(_MODELS)


def spec(model: str = "falcon-7b", **changes: Any) -> GpuEngineSpec:
    """A spec that every check accepts, with changes.

    Args:
        model: a published Falcon.
        changes: `shape` in place of the model's, `toolchain` and `architecture` as dictionaries of
            changed values, fields of GpuEngineSpec, and anything else a recipe's key or table.
    """
    architecture, parameters, tensor, shape = _MODELS[model]
    toolchain = TOOLCHAIN.model_copy(update=changes.pop("toolchain", {}))
    values: dict[str, Any] = {
        "architecture": replace(architecture, **changes.pop("architecture", {})),
        "num_parameters": parameters,
        "checkpoint_bytes": 2 * parameters,
        "end_ids": (11,),
        "pad_id": 11,
        "toolchain": toolchain,
        "image": toolchain.image,
        "image_replaced": False,
        "shape": shape,
    }
    values |= {name: changes.pop(name) for name in list(changes) if name in values}
    return GpuEngineSpec(recipe=recipe(tensor, **changes), **values)


def recipe(tensor: int = 1, **changes: Any) -> GpuRecipe:
    """A recipe with changed keys, and tables of which the values named are changed."""
    values: dict[str, Any] = {
        "builder": "tensorrt_llm",
        "description": "test",
        "model": {},
        "dtype": "float16",
        "quantization": "none",
        "load_by_shard": False,
        "parallelism": {"tensor": tensor, "pipeline": 1},
        "limits": {
            "max_batch_size": 16,
            "max_input_len": 1024,
            "max_seq_len": 2048,
            "max_num_tokens": 4096,
            "max_beam_width": 1,
        },
        "kv_cache": {"type": "paged", "dtype": "auto", "tokens_per_block": 32},
        "plugins": {
            "gemm": "auto",
            "gpt_attention": "auto",
            "remove_input_padding": True,
            "context_fmha": True,
            "paged_context_fmha": True,
        },
    }
    for name, change in changes.items():
        table = values.get(name)
        values[name] = {**table, **change} if isinstance(table, dict) else change
    return GpuRecipe.model_validate(values)
