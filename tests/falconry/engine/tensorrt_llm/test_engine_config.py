"""An engine's config.json, written here as NVIDIA's tools would, against what was asked for.

Stand-ins: no GPU built them. The keys are those of engines published on the hub
(sumo43/llama-7b-1-A40) and of tensorrt_llm/models/falcon/config.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from falconry.checkpoint.architecture import LlamaArchitecture
from falconry.checkpoint.config import read_configuration
from falconry.engine.tensorrt_llm.engine_config import EngineConfig, check_engine
from falconry.engine.tensorrt_llm.recipe import GpuRecipe, load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import load_toolchains
from falconry.errors import EngineError
from falconry.oci_facts import gpu_shape
from tests.falconry.engine.tensorrt_llm import specs

DATA = Path(__file__).parents[3] / "data"
# From a real GPU; the file says how.
QUANTISED = json.loads((DATA / "quantised_configs.json").read_text())["configs"]
PUBLISHED = Path(__file__).parents[4] / "engine" / "published"


# The Llama of the quantised configurations.
QUANTISED_LLAMA = LlamaArchitecture(
    vocab_size=440,
    hidden_size=192,
    num_layers=2,
    num_heads=12,
    num_kv_heads=4,
    head_size=32,
    ffn_hidden_size=512,
    max_positions=256,
    rope_theta=1000042.0,
    norm_epsilon=1e-6,
    tied_embeddings=False,
)


def spec(directory: Path, **changes: Any) -> GpuEngineSpec:
    """Falcon-7B by its recipe, whose tables `changes` are laid over."""
    text = (PUBLISHED / "falcon-7b.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text, encoding="utf-8")
    values = load_gpu_recipe("falcon-7b").model_dump(exclude_none=True)
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change} if isinstance(change, dict) else change
    row = load_toolchains().row("25.10")
    return GpuEngineSpec(
        architecture=read_configuration(directory).architecture,
        num_parameters=1,
        checkpoint_bytes=2,
        end_ids=(11,),
        pad_id=11,
        recipe=GpuRecipe.model_validate(values),
        toolchain=row,
        image=row.image,
        image_replaced=False,
        shape=gpu_shape("VM.GPU.A10.1"),
    )


def config() -> dict[str, Any]:
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
            "intermediate_size": 18176,
            "norm_epsilon": 1e-05,
            "position_embedding_type": "rope_gpt_neox",
            "rotary_base": 10000.0,
            "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1, "cp_size": 1},
            "quantization": {"quant_algo": None, "kv_cache_quant_algo": None, "group_size": 128},
            "bias": False,
            "parallel_attention": True,
            "new_decoder_architecture": False,
            "num_ln_in_parallel_attn": None,
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
                "context_fmha": True,
                "tokens_per_block": 64,
                "use_paged_context_fmha": True,
            },
        },
    }


def engine(directory: Path, document: dict[str, Any]) -> Path:
    place = directory / "engine"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (place / "rank0.engine").write_bytes(b"an engine")
    return place


def test_an_engine_that_is_what_was_asked_for_passes(tmp_path: Path) -> None:
    check_engine(engine(tmp_path, config()), spec(tmp_path))


def test_all_differences_are_named_together(tmp_path: Path) -> None:
    document = config()
    document["pretrained_config"]["dtype"] = "float16"
    document["pretrained_config"]["mapping"]["tp_size"] = 2
    document["pretrained_config"]["quantization"]["quant_algo"] = "W8A16"
    document["build_config"]["max_batch_size"] = 2048

    with pytest.raises(EngineError) as caught:
        check_engine(engine(tmp_path, document), spec(tmp_path))

    told = caught.value.problem
    assert "pretrained_config.dtype is float16 instead of bfloat16" in told
    assert "pretrained_config.mapping.tp_size is 2 instead of 1" in told
    assert "pretrained_config.quantization.quant_algo is W8A16 instead of None" in told
    assert "build_config.max_batch_size is 2048 instead of 32" in told


@pytest.mark.parametrize("name", QUANTISED)
def test_what_the_real_quantiser_wrote_is_expected(tmp_path: Path, name: str) -> None:
    family, _, quantization = name.rpartition("-")
    built = spec(
        tmp_path,
        dtype="float16",
        quantization=quantization,
        calibration={"dataset": "cnn_dailymail", "size": 16, "awq_block_size": 16},
    )
    if family == "llama":
        built = replace(built, architecture=QUANTISED_LLAMA)
        cache = QUANTISED[name]["quantization"]["kv_cache_quant_algo"]
        kv_cache = built.recipe.kv_cache.model_copy(update={"dtype": "fp8" if cache else "auto"})
        built = replace(built, recipe=built.recipe.model_copy(update={"kv_cache": kv_cache}))
    else:
        checkpoint = DATA / "checkpoints" / family
        built = replace(built, architecture=read_configuration(checkpoint).architecture)

    check_engine(engine(tmp_path, {**config(), "pretrained_config": QUANTISED[name]}), built)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "FalconForCausalLM"),
        ("rotary_base", 10000.0),
        ("rotary_scaling", {"type": "linear", "factor": 2.0}),
        ("head_size", 16),
        ("num_key_value_heads", 12),
        ("norm_epsilon", 1e-05),
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("attn_bias", True),
        ("residual_mlp", True),
        ("qk_layernorm", True),
        ("moe", {"num_experts": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_llama_than_asked_for_is_refused_with_the_field(
    tmp_path: Path, key: str, value: object
) -> None:
    built = spec(
        tmp_path,
        dtype="float16",
        quantization="int4_awq",
        calibration={"dataset": "cnn_dailymail", "size": 16, "awq_block_size": 16},
    )
    built = replace(built, architecture=QUANTISED_LLAMA)
    document = {**config(), "pretrained_config": {**QUANTISED["llama-int4_awq"], key: value}}

    with pytest.raises(EngineError, match=rf"pretrained_config\.{key}\S* is .* instead of"):
        check_engine(engine(tmp_path, document), built)


def test_a_vocabulary_that_the_quantiser_pads_is_expected(tmp_path: Path) -> None:
    calibration = {"dataset": "cnn_dailymail", "size": 512, "awq_block_size": 64}
    built = spec(tmp_path, quantization="int4_awq", calibration=calibration)
    built = replace(built, architecture=replace(built.architecture, vocab_size=65027))
    document = config()
    document["pretrained_config"]["quantization"]["quant_algo"] = "W4A16_AWQ"
    document["pretrained_config"]["vocab_size"] = 65088

    check_engine(engine(tmp_path, document), built)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 65025),
        ("hidden_size", 4096),
        ("intermediate_size", 16384),
        ("num_hidden_layers", 60),
        ("num_attention_heads", 64),
        ("num_key_value_heads", 71),
        ("head_size", 128),
        ("norm_epsilon", 1e-06),
        ("position_embedding_type", "alibi_with_scale"),
        ("max_position_embeddings", 8192),
        ("rotary_base", 500042.0),
        ("bias", True),
        ("parallel_attention", False),
        ("new_decoder_architecture", True),
    ],
)
def test_an_engine_of_another_architecture_is_refused_with_the_field(
    tmp_path: Path, key: str, value: object
) -> None:
    document = config()
    document["pretrained_config"][key] = value

    with pytest.raises(EngineError, match=rf"pretrained_config\.{key} is {value} instead of"):
        check_engine(engine(tmp_path, document), spec(tmp_path))


@pytest.mark.parametrize(
    ("model", "given", "differs"),
    [
        # models/falcon/model.py: None is 2 with the new decoder architecture.
        ("falcon-40b", None, False),
        ("falcon-40b", 2, False),
        ("falcon-40b", 1, True),
        ("falcon2-11b", 1, False),
        ("falcon2-11b", None, True),
        ("falcon-7b", None, False),
    ],
)
def test_the_number_of_norms_counts_where_the_model_has_a_choice(
    tmp_path: Path, model: str, given: int | None, differs: bool
) -> None:
    document = config()
    document["pretrained_config"]["num_ln_in_parallel_attn"] = given
    found = EngineConfig.read(engine(tmp_path, document)).differences(specs.spec(model))

    assert any("num_ln_in_parallel_attn" in difference for difference in found) == differs


def test_a_rotary_base_means_nothing_where_positions_are_slopes(tmp_path: Path) -> None:
    found = EngineConfig.read(engine(tmp_path, config())).differences(specs.spec("falcon-rw-1b"))

    assert "pretrained_config.position_embedding_type" in " ".join(found)
    assert "rotary_base" not in " ".join(found)


def test_an_engine_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    document = config()
    document["pretrained_config"]["mapping"] = {"world_size": 2, "tp_size": 1, "pp_size": 2}
    place = engine(tmp_path, document)
    wanted = spec(tmp_path, parallelism={"pipeline": 2})

    with pytest.raises(EngineError, match=r"no rank1\.engine;"):
        check_engine(place, wanted)
    (place / "rank1.engine").touch()
    with pytest.raises(EngineError, match=r"no rank1\.engine;"):
        check_engine(place, wanted)


def test_a_config_of_the_first_releases_is_refused(tmp_path: Path) -> None:
    place = engine(tmp_path, {"builder_config": {}, "plugin_config": {}})

    with pytest.raises(EngineError, match=r"not the config\.json of an engine \(version: "):
        EngineConfig.read(place)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_config_that_was_half_written_is_an_error_and_no_crash(tmp_path: Path, text: str) -> None:
    place = engine(tmp_path, {})
    (place / "config.json").write_text(text, encoding="utf-8")

    with pytest.raises(EngineError, match=r"config\.json"):
        check_engine(place, spec(tmp_path))


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
    wanted = spec(tmp_path, **changes)
    document = config()
    document["build_config"]["max_num_tokens"] = recorded
    document["build_config"]["max_batch_size"] = wanted.recipe.limits.max_batch_size
    padding = wanted.recipe.plugins.remove_input_padding
    document["build_config"]["plugin_config"]["remove_input_padding"] = padding
    fused = wanted.recipe.plugins.context_fmha
    document["build_config"]["plugin_config"]["context_fmha"] = fused

    check_engine(engine(tmp_path, document), wanted)
