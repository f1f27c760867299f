"""Engine directories in both layouts, written here as NVIDIA's tools would.

Stand-ins: no GPU built them. The keys of `builder_config` are those that examples/falcon/build.py
of 0.5 gives its builder; those of `pretrained_config` and `build_config` are of engines published
on the hub (sumo43/llama-7b-1-A40) and of tensorrt_llm/models/falcon/config.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from falconry.checkpoint.configuration import read_configuration
from falconry.engine.shapes import gpu_shape
from falconry.engine.tensorrt_llm.layout import check_layout
from falconry.engine.tensorrt_llm.recipe import GpuRecipe, load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import load_toolchains
from falconry.errors import EngineError

PUBLISHED = Path(__file__).parents[4] / "engine" / "published"


def spec(directory: Path, release: str, **changes: Any) -> GpuEngineSpec:
    """Falcon-7B by its recipe, whose tables `changes` are laid over."""
    text = (PUBLISHED / "falcon-7b.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text, encoding="utf-8")
    values = load_gpu_recipe("falcon-7b").model_dump(exclude_none=True)
    for key, change in changes.items():
        values[key] = {**values[key], **change} if isinstance(change, dict) else change
    row = load_toolchains().row(release)
    return GpuEngineSpec(
        architecture=read_configuration(directory).architecture,
        num_parameters=1,
        checkpoint_bytes=2,
        end_id=11,
        pad_id=11,
        recipe=GpuRecipe.model_validate(values),
        toolchain=row,
        image=row.image,
        image_replaced=False,
        shape=gpu_shape("VM.GPU.A10.1"),
    )


def pretrained_layout() -> dict[str, Any]:
    return {
        "version": "1.0.0",
        "pretrained_config": {
            "architecture": "FalconForCausalLM",
            "dtype": "bfloat16",
            "logits_dtype": "float32",
            "vocab_size": 65024,
            "max_position_embeddings": 2048,
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_key_value_heads": 1,
            "head_size": 64,
            "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1, "cp_size": 1},
            "quantization": {"quant_algo": None, "kv_cache_quant_algo": None, "group_size": 128},
            "bias": False,
            "parallel_attention": True,
        },
        "build_config": {
            "max_input_len": 1024,
            "max_seq_len": 2048,
            "max_batch_size": 32,
            "max_beam_width": 1,
            "max_num_tokens": 4096,
            "opt_num_tokens": 32,
            "kv_cache_type": "PAGED",
            "plugin_config": {
                "dtype": "bfloat16",
                "remove_input_padding": True,
                "tokens_per_block": 64,
                "use_paged_context_fmha": True,
            },
        },
    }


def builder_layout() -> dict[str, Any]:
    return {
        "builder_config": {
            "name": "falcon",
            "precision": "bfloat16",
            "tensor_parallel": 1,
            "pipeline_parallel": 1,
            "num_layers": 32,
            "num_heads": 71,
            "num_kv_heads": 1,
            "hidden_size": 4544,
            "vocab_size": 65024,
            "alibi": False,
            "parallel_build": False,
            "max_batch_size": 32,
            "max_input_len": 1024,
            "max_output_len": 1024,
            "max_num_tokens": 4096,
            "fp8": False,
        },
        "plugin_config": {
            "gpt_attention_plugin": "bfloat16",
            "remove_input_padding": True,
            "paged_kv_cache": True,
            "tokens_per_block": 64,
        },
    }


def engine(directory: Path, document: dict[str, Any], name: str = "rank0.engine") -> Path:
    place = directory / "engine"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (place / name).write_bytes(b"an engine")
    return place


def test_an_engine_of_trtllm_build_that_is_what_was_asked_for_passes(tmp_path: Path) -> None:
    check_layout(engine(tmp_path, pretrained_layout()), spec(tmp_path, "25.10"))


def test_an_engine_of_the_first_release_that_is_what_was_asked_for_passes(tmp_path: Path) -> None:
    place = engine(tmp_path, builder_layout(), "falcon_bfloat16_tp1_rank0.engine")

    check_layout(place, spec(tmp_path, "23.10"))


def test_all_differences_are_named_together(tmp_path: Path) -> None:
    document = pretrained_layout()
    document["pretrained_config"]["dtype"] = "float16"
    document["pretrained_config"]["mapping"]["tp_size"] = 2
    document["pretrained_config"]["quantization"]["quant_algo"] = "W8A16"
    document["build_config"]["max_batch_size"] = 2048

    with pytest.raises(EngineError) as caught:
        check_layout(engine(tmp_path, document), spec(tmp_path, "25.10"))

    told = caught.value.problem
    assert "pretrained_config.dtype is float16 instead of bfloat16" in told
    assert "pretrained_config.mapping.tp_size is 2 instead of 1" in told
    assert "pretrained_config.quantization.quant_algo is W8A16 instead of None" in told
    assert "build_config.max_batch_size is 2048 instead of 32" in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_layers", 60),
        ("num_kv_heads", 71),
        ("precision", "float16"),
        ("max_output_len", 1),
        ("fp8", True),
    ],
)
def test_a_difference_in_the_first_releases_layout_is_named(
    tmp_path: Path, key: str, value: object
) -> None:
    document = builder_layout()
    document["builder_config"][key] = value
    place = engine(tmp_path, document, "falcon_bfloat16_tp1_rank0.engine")

    with pytest.raises(EngineError, match=rf"builder_config\.{key} is {value} instead of"):
        check_layout(place, spec(tmp_path, "23.10"))


def test_an_engine_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    document = pretrained_layout()
    document["pretrained_config"]["mapping"] = {"world_size": 2, "tp_size": 1, "pp_size": 2}
    place = engine(tmp_path, document)
    wanted = spec(tmp_path, "25.10", parallelism={"pipeline": 2})

    with pytest.raises(EngineError, match=r"no rank1\.engine;"):
        check_layout(place, wanted)
    (place / "rank1.engine").touch()
    with pytest.raises(EngineError, match=r"no rank1\.engine;"):
        check_layout(place, wanted)


def test_the_other_releases_layout_is_told_apart(tmp_path: Path) -> None:
    place = engine(tmp_path, builder_layout())

    with pytest.raises(
        EngineError, match=r"not of the layout pretrained_config \(pretrained_config"
    ):
        check_layout(place, spec(tmp_path, "25.10"))


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_config_that_was_half_written_is_an_error_and_no_crash(tmp_path: Path, text: str) -> None:
    place = engine(tmp_path, {})
    (place / "config.json").write_text(text, encoding="utf-8")

    with pytest.raises(EngineError, match=r"config\.json"):
        check_layout(place, spec(tmp_path, "25.10"))


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({"limits": {"max_batch_size": 1}}, 2048),
        ({"plugins": {"remove_input_padding": False}}, 32 * 2048),
        ({"limits": {"max_num_tokens": 1}}, 64),
        ({"limits": {"max_num_tokens": 1}, "plugins": {"context_fmha": False}}, 1024),
    ],
)
def test_a_token_limit_that_trtllm_build_corrects_is_no_difference(
    tmp_path: Path, changes: dict[str, Any], recorded: int
) -> None:
    # tensorrt_llm/builder.py, check_max_num_tokens.
    wanted = spec(tmp_path, "25.10", **changes)
    document = pretrained_layout()
    document["build_config"]["max_num_tokens"] = recorded
    document["build_config"]["max_batch_size"] = wanted.recipe.limits.max_batch_size
    padding = wanted.recipe.plugins.remove_input_padding
    document["build_config"]["plugin_config"]["remove_input_padding"] = padding

    check_layout(engine(tmp_path, document), wanted)
