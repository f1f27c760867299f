"""Our FalconConfig reads every configuration as transformers' own class does."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError

from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.falcon_config import FalconConfig
from falconry.errors import CheckpointError

ROOT = Path(__file__).parents[2]
CONFIGS = [
    ROOT / "checkpoints" / "tiny-falcon" / "config.json",
    *sorted((ROOT / "tests" / "data" / "checkpoints").glob("falcon[-2]*/config.json")),
]
ATTRIBUTES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_kv_heads",
    "num_ln_in_parallel_attn",
    "layer_norm_epsilon",
    "alibi",
    "new_decoder_architecture",
    "multi_query",
    "parallel_attn",
    "bias",
    "max_position_embeddings",
    "ffn_hidden_size",
    "activation",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
]

WRONG_TYPES = ["12", 1.5, True, [], {}]
# What a random configuration may say of each key; None is JSON's null.
RANDOM_VALUES: dict[str, list[Any]] = {
    "vocab_size": [1, 65024, 131072],
    "hidden_size": [24, 40, 64, 4544],
    "n_embed": [None, 48, 96],
    "num_hidden_layers": [1, 60],
    "num_attention_heads": [1, 2, 4, 8],
    "num_kv_heads": [None, 1, 2, 8],
    "ffn_hidden_size": [None, 32, 512],
    "num_ln_in_parallel_attn": [None, 1, 2],
    "layer_norm_epsilon": [1e-6, 0.1],
    "alibi": [True, False, None],
    "new_decoder_architecture": [True, False, None],
    "multi_query": [True, False, None],
    "parallel_attn": [True, False, None],
    "bias": [True, False, None],
    "max_position_embeddings": [1, 2048],
    "activation": ["gelu", "relu", None],
    "eos_token_id": [None, 0, 11, [11, 12], []],
    "pad_token_id": [None, 0, 11],
    "tie_word_embeddings": [True, False],
    "rope_theta": [10000, 10000.0, 500042.0],
    "rope_scaling": [None, {}, {"rope_theta": 5e5}, {"type": "linear", "factor": 2.0}],
    "rope_parameters": [None, {}, {"rope_type": "default"}, {"rope_theta": 7, "type": "default"}],
}


def expected(values: dict[str, Any]) -> dict[str, Any]:
    """What transformers reads, by attribute."""
    config = transformers.FalconConfig.from_dict(copy.deepcopy(values))
    rope = {name: config.rope_parameters[name] for name in ("rope_theta", "rope_type")}
    return {name: getattr(config, name) for name in ATTRIBUTES} | rope


def ours(values: dict[str, Any]) -> dict[str, Any]:
    config = FalconConfig.model_validate(values)
    rope = {name: getattr(config.rope_parameters, name) for name in ("rope_theta", "rope_type")}
    return {name: getattr(config, name) for name in ATTRIBUTES} | rope


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_each_familys_configuration_is_read_alike(path: Path) -> None:
    values = json.loads(path.read_text())

    assert ours(values) == expected(values)


def test_an_empty_configuration_has_the_same_defaults() -> None:
    assert ours({}) == expected({})


@pytest.mark.parametrize(
    "values",
    [
        {"rope_theta": 500042.0},
        {"rope_theta": 500042},
        {"rope_theta": 1e6, "rope_scaling": None},
        {"rope_theta": 1e6, "rope_scaling": {}, "rope_parameters": {"rope_theta": 2e6}},
        {"rope_theta": 1e6, "rope_parameters": {"rope_theta": 2e6, "rope_type": "default"}},
        {"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_theta": 3e6}, "rope_parameters": {"rope_theta": 2e6}},
        {"n_embed": 1136},
        {"n_embed": 1136, "hidden_size": 2272},
        {"n_embed": None, "hidden_size": 2272},
        {"num_kv_heads": None, "num_attention_heads": 142},
        {"ffn_hidden_size": None, "hidden_size": 2272},
    ],
    ids=json.dumps,
)
def test_other_spellings_mean_the_same(values: dict[str, Any]) -> None:
    assert ours(values) == expected(values)


def some_configuration(numbers: random.Random, mistakes: int) -> dict[str, Any]:
    keys = numbers.sample(sorted(RANDOM_VALUES), numbers.randint(0, len(RANDOM_VALUES)))
    values = {key: numbers.choice(RANDOM_VALUES[key]) for key in keys}
    for key in numbers.sample(ATTRIBUTES, mistakes):
        values[key] = numbers.choice(WRONG_TYPES)
    return {"model_type": "falcon", **values}


@pytest.mark.parametrize("mistakes", [0, 1])
def test_random_configurations_are_read_alike_or_refused_alike(
    mistakes: int, tmp_path: Path
) -> None:
    numbers = random.Random(mistakes)
    refused = 0
    for _ in range(300):
        values = some_configuration(numbers, mistakes)
        try:
            theirs = expected(values)
        except (StrictDataclassError, ArithmeticError):
            refused += 1
            (tmp_path / "config.json").write_text(json.dumps(values))
            with pytest.raises(CheckpointError):
                read_configuration(tmp_path)
        else:
            assert ours(values) == theirs, values

    assert 0 < refused < 300


@pytest.mark.parametrize(
    "values", [{"rope_theta": None}, {"rope_theta": "10000"}, {"layer_norm_epsilon": None}]
)
def test_values_that_transformers_only_stumbles_over_later_are_refused(
    values: dict[str, Any],
) -> None:
    expected(values)

    with pytest.raises(ValidationError):
        FalconConfig.model_validate(values)
