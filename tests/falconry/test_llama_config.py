"""Our LlamaConfig reads every configuration as transformers' own class does."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub.errors import StrictDataclassError

from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.llama_config import LlamaConfig
from falconry.errors import CheckpointError, format_error

CHECKPOINTS = Path(__file__).parents[1] / "data" / "checkpoints"
ATTRIBUTES = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
]
WRONG_TYPES = ["12", 1.5, [], {}]
# What a random configuration may say of each key; None is JSON's null.
RANDOM_VALUES: dict[str, list[Any]] = {
    "vocab_size": [1, 131072],
    "hidden_size": [64, 3072],
    "intermediate_size": [32, 23040],
    "num_hidden_layers": [1, 40],
    "num_attention_heads": [1, 4, 8],
    "num_key_value_heads": [None, 1, 4],
    "head_dim": [None, 16, 256],
    "hidden_act": ["silu", "gelu"],
    "max_position_embeddings": [1, 32768],
    "rms_norm_eps": [1e-6, 0.1],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "eos_token_id": [None, 0, 11, [11, 12], []],
    "pad_token_id": [None, 0, 2023],
    "tie_word_embeddings": [True, False],
    "rope_theta": [10000, 1000042, 1000042.0],
    "rope_scaling": [None, {}, {"rope_theta": 5e5}, {"type": "linear", "factor": 2.0}],
    "rope_parameters": [None, {}, {"rope_type": "default"}, {"rope_theta": 7, "type": "default"}],
}


def expected(values: dict[str, Any]) -> dict[str, Any]:
    """What transformers reads, by attribute."""
    config = transformers.LlamaConfig.from_dict(copy.deepcopy(values))
    rope = {name: config.rope_parameters[name] for name in ("rope_theta", "rope_type")}
    return {name: getattr(config, name) for name in ATTRIBUTES} | rope


def ours(values: dict[str, Any]) -> dict[str, Any]:
    config = LlamaConfig.model_validate(values)
    rope = {name: getattr(config.rope_parameters, name) for name in ("rope_theta", "rope_type")}
    return {name: getattr(config, name) for name in ATTRIBUTES} | rope


@pytest.mark.parametrize("name", ["falcon3", "falcon3-wide", "falcon3-tied"])
def test_each_falcon3s_configuration_is_read_alike(name: str) -> None:
    values = json.loads((CHECKPOINTS / name / "config.json").read_text())

    assert ours(values) == expected(values)


def test_an_empty_configuration_has_the_same_defaults() -> None:
    assert ours({}) == expected({})


@pytest.mark.parametrize("mistakes", [0, 1])
def test_random_configurations_are_read_alike_or_refused_alike(
    mistakes: int, tmp_path: Path
) -> None:
    numbers = random.Random(mistakes)
    refused = 0
    for _ in range(200):
        keys = numbers.sample(sorted(RANDOM_VALUES), numbers.randint(0, len(RANDOM_VALUES)))
        values = {key: numbers.choice(RANDOM_VALUES[key]) for key in keys}
        for key in numbers.sample(ATTRIBUTES, mistakes):
            values[key] = numbers.choice(WRONG_TYPES)
        values["model_type"] = "llama"
        try:
            theirs = expected(values)
        except (StrictDataclassError, ArithmeticError):
            refused += 1
            (tmp_path / "config.json").write_text(json.dumps(values))
            with pytest.raises(CheckpointError):
                read_configuration(tmp_path)
        else:
            assert ours(values) == theirs, values

    assert (refused > 0) == (mistakes > 0)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "RoPE scaling ('llama3')"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "RoPE scaling ('yarn')"),
        ({"hidden_act": "gelu"}, "asks for the activation 'gelu'; only 'silu' is supported"),
        ({"num_key_value_heads": 5}, "is not a multiple of num_key_value_heads 5"),
        ({"num_attention_heads": 5}, "hidden_size 192 is not a multiple of num_attention_heads 5"),
        ({"head_dim": 15}, "the head size 15 is odd"),
        ({"head_dim": 0}, "head_dim is not a positive number"),
        ({"head_dim": 2**63}, "head_dim is above"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is not a positive number"),
        ({"intermediate_size": "256"}, "is not accepted by transformers"),
        ({"attention_bias": True}, "sets attention_bias, which is not supported"),
        ({"mlp_bias": True}, "sets mlp_bias, which is not supported"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "which does not generate text"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_llama_that_cannot_be_built_is_refused(
    values: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    config = json.loads((CHECKPOINTS / "falcon3" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))

    with pytest.raises(CheckpointError) as raised:
        read_configuration(tmp_path)

    assert problem in format_error(raised.value)


# What transformers or the makers write into config.json, and what the user is told instead.
BITNET = {"quantization_config": {"quant_method": "bitnet"}, "auto_map": {"AutoConfig": "x.y"}}
UNSUPPORTED = {
    "bitnet": (BITNET, "in BitNet's 1.58 bits", "the repository without -1.58bit"),
    "bitnet flag": ({"is_bitnet_config": True}, "in BitNet's 1.58 bits", "or bitnet.cpp"),
    "gptq": (
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "already quantised (gptq)",
        "the repository without -GPTQ-Int4 or -GPTQ-Int8",
    ),
    "awq": (
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        "already quantised (awq)",
        "the repository without -AWQ",
    ),
    "another method": (
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        "already quantised (compressed-tensors)",
        "use the unquantised checkpoint",
    ),
    "mamba": (
        {"model_type": "falcon_mamba", "architectures": ["FalconMambaForCausalLM"]},
        "'falcon_mamba', which is a pure state space model",
        "vLLM or llama.cpp, or use Falcon3-7B",
    ),
    "mamba class": (
        {"architectures": ["FalconMambaForCausalLM"]},
        "'falcon_mamba', which is a pure state space model",
        "or use Falcon3-7B",
    ),
    "h1": (
        {"model_type": "falcon_h1", "architectures": ["FalconH1ForCausalLM"]},
        "'falcon_h1', which mixes attention with Mamba-2",
        "vLLM from 0.9",
    ),
    "mixtral": (
        {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
        "'mixtral', which is a mixture of experts",
        "vLLM",
    ),
    "vlm": (
        {"model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"]},
        "'llava_next', which reads images too",
        "use falcon-11B",
    ),
    "unknown": (
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        "'gpt2', which is neither a Falcon nor a Llama",
        "Falcon2-11B or Falcon3",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_built_is_refused_with_what_to_use_instead(name: str, tmp_path: Path) -> None:
    values, problem, remedy = UNSUPPORTED[name]
    config = json.loads((CHECKPOINTS / "falcon3" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))

    with pytest.raises(CheckpointError) as raised:
        read_configuration(tmp_path)

    text = format_error(raised.value)
    assert problem in text
    assert remedy in text
    assert "\n" not in text
