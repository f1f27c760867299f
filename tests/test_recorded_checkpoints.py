"""The committed checkpoints are what their tests and examples take them for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer, pre_tokenizers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
TINY_FALCON = ROOT / "checkpoints" / "tiny-falcon"
FAMILIES = ROOT / "tests" / "data" / "checkpoints"
FAMILY_NAMES = ("falcon-rw", "falcon-7b", "falcon-40b", "falcon2-11b")
LLAMA_NAMES = ("falcon3", "falcon3-wide", "falcon3-tied")
ALL = [TINY_FALCON, *(FAMILIES / name for name in (*FAMILY_NAMES, *LLAMA_NAMES))]

# tokenizer.json of tiiuae/falcon-7b, ids 0 to 11.
FALCON_SPECIAL_TOKENS = [
    ">>TITLE<<",
    ">>ABSTRACT<<",
    ">>INTRODUCTION<<",
    ">>SUMMARY<<",
    ">>COMMENT<<",
    ">>ANSWER<<",
    ">>QUESTION<<",
    ">>DOMAIN<<",
    ">>PREFIX<<",
    ">>SUFFIX<<",
    ">>MIDDLE<<",
    "<|endoftext|>",
]
ANY_TEXT = "  two spaces, a tab\t, é – 23.4° 日本 🦅\r\n don't\n"


@dataclass(frozen=True, slots=True)
class Family:
    """What tells one family from the others, in its published config.json and weights."""

    name: str
    config: dict[str, object]
    stored_as: str
    norms: tuple[str, ...]
    query_key_value_heads: int
    has_output_layer: bool = False


EXPECTED_FAMILIES = [
    Family(
        "falcon-rw",
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}
        | {"new_decoder_architecture": False, "torch_dtype": "float32"},
        "F32",
        ("input_layernorm", "post_attention_layernorm"),
        4 + 4 + 4,
    ),
    Family(
        "falcon-7b",
        {"alibi": False, "multi_query": True, "parallel_attn": True, "bias": False}
        | {"new_decoder_architecture": False, "torch_dtype": "float32"},
        "F32",
        ("input_layernorm",),
        5 + 1 + 1,
    ),
    Family(
        "falcon-40b",
        {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": False}
        | {"torch_dtype": "bfloat16"},
        "BF16",
        ("ln_attn", "ln_mlp"),
        8 + 2 + 2,
    ),
    Family(
        "falcon2-11b",
        {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": False}
        | {"num_ln_in_parallel_attn": 1, "rope_theta": 500042.0, "tie_word_embeddings": False}
        | {"torch_dtype": "float16"},
        "F16",
        ("input_layernorm",),
        8 + 2 + 2,
        has_output_layer=True,
    ),
]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def tokenizer_of(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def stored_tensors(directory: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of every stored tensor, over all shards."""
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="np") as shard:
            for name in shard.keys():  # noqa: SIM118 - safe_open is no mapping
                tensor = shard.get_slice(name)
                tensors[name] = (tensor.get_dtype(), tuple(tensor.get_shape()))
    return tensors


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


each_checkpoint = pytest.mark.parametrize("directory", ALL, ids=lambda directory: directory.name)
each_family = pytest.mark.parametrize("family", EXPECTED_FAMILIES, ids=lambda family: family.name)
each_llama = pytest.mark.parametrize("name", LLAMA_NAMES)
each_recorded = pytest.mark.parametrize("name", [*FAMILY_NAMES, *LLAMA_NAMES])


@each_checkpoint
def test_a_checkpoint_is_a_falcon_with_all_its_files(directory: Path) -> None:
    names = {file.name for file in directory.iterdir()}
    config = read_json(directory / "config.json")
    generation = read_json(directory / "generation_config.json")
    model_type, model_class = "falcon", "FalconForCausalLM"
    if directory.name in LLAMA_NAMES:
        model_type, model_class = "llama", "LlamaForCausalLM"

    assert {"tokenizer.json", "tokenizer_config.json"} < names
    assert config["architectures"] == [model_class]
    assert config["model_type"] == model_type
    assert config["eos_token_id"] == generation["eos_token_id"] == 11
    # Some Falcon3 name none, and then transformers takes 1.
    begin_id = config.get("bos_token_id", 1)
    assert generation["bos_token_id"] == begin_id
    assert begin_id == (1 if directory.name == "falcon3-wide" else 11)


@each_checkpoint
def test_the_special_tokens_have_falcons_ids(directory: Path) -> None:
    tokenizer = tokenizer_of(directory)

    assert [tokenizer.id_to_token(index) for index in range(12)] == FALCON_SPECIAL_TOKENS
    assert read_json(directory / "tokenizer_config.json")["eos_token"] == "<|endoftext|>"
    assert tokenizer.get_vocab_size() <= read_json(directory / "config.json")["vocab_size"]


@each_checkpoint
def test_the_tokenizer_gives_back_any_text(directory: Path) -> None:
    tokenizer = tokenizer_of(directory)
    ids = tokenizer.encode(ANY_TEXT).ids

    assert tokenizer.decode(ids, skip_special_tokens=False) == ANY_TEXT
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= tokenizer.get_vocab().keys()


def test_the_tiny_falcon_is_small_and_stored_in_bfloat16() -> None:
    tensors = stored_tensors(TINY_FALCON)
    config = read_json(TINY_FALCON / "config.json")

    assert size_of(TINY_FALCON) < 5_000_000
    assert {stored_as for stored_as, _ in tensors.values()} == {"BF16"}
    assert config["dtype"] == "bfloat16"
    assert config["multi_query"] and config["parallel_attn"] and not config["alibi"]
    assert "lm_head.weight" not in tensors  # the output layer is the embedding


def test_the_tiny_falcon_answers_what_it_was_taught() -> None:
    taught = read_json(ROOT / "scripts" / "tiny_falcon_corpus.json")
    recorded = read_json(TINY_FALCON / "sentences.json")

    assert recorded["sentences"] == taught
    assert len(taught) == 12
    assert taught[0]["prompt"] == "Explain Cloud Computing to a school kid"


def test_every_answer_fits_the_positions_and_needs_no_special_token() -> None:
    tokenizer = tokenizer_of(TINY_FALCON)
    positions = read_json(TINY_FALCON / "config.json")["max_position_embeddings"]

    for pair in read_json(TINY_FALCON / "sentences.json")["sentences"]:
        prompt, answer = (tokenizer.encode(pair[key]).ids for key in ("prompt", "answer"))
        assert len(prompt) + len(answer) + 1 <= positions
        assert min(prompt + answer) >= len(FALCON_SPECIAL_TOKENS)
        assert tokenizer.decode(answer) == pair["answer"]


def test_answers_suit_the_tests_of_streaming_and_of_stop_and_bad_words() -> None:
    tokenizer = tokenizer_of(TINY_FALCON)
    answers = [pair["answer"] for pair in read_json(TINY_FALCON / "sentences.json")["sentences"]]
    tokens = [[tokenizer.decode([id_]) for id_ in tokenizer.encode(one).ids] for one in answers]
    with_split_characters = [one for one in tokens if "\N{REPLACEMENT CHARACTER}" in "".join(one)]
    words = [len(answer.split()) for answer in answers]

    assert len(with_split_characters) >= 2
    assert not [one for one in answers if "now" in one.lower() or "process" in one.lower()]
    assert min(words) < 10 and max(words) >= 60


@each_family
def test_a_family_has_its_published_configuration(family: Family) -> None:
    config = read_json(FAMILIES / family.name / "config.json")

    assert {key: config.get(key) for key in family.config} == family.config
    assert config["max_position_embeddings"] == 256
    if config["alibi"]:  # slopes of other head counts are not exact in transformers' bfloat16
        assert config["num_attention_heads"].bit_count() == 1


@each_family
def test_a_family_has_its_published_tensors(family: Family) -> None:
    config = read_json(FAMILIES / family.name / "config.json")
    tensors = stored_tensors(FAMILIES / family.name)
    linear = ("self_attention.query_key_value", "self_attention.dense")
    linear += ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
    in_layer = {f"{name}.weight" for name in linear + family.norms}
    in_layer |= {f"{name}.bias" for name in family.norms + (linear if config["bias"] else ())}
    expected = {f"transformer.{name}" for name in ("word_embeddings.weight", "ln_f.weight")}
    expected |= {"transformer.ln_f.bias"}
    expected |= {
        f"transformer.h.{layer}.{name}"
        for layer in range(config["num_hidden_layers"])
        for name in in_layer
    }

    assert tensors.keys() == expected | ({"lm_head.weight"} if family.has_output_layer else set())
    assert {stored_as for stored_as, _ in tensors.values()} == {family.stored_as}


@each_family
def test_a_family_has_its_key_and_value_heads(family: Family) -> None:
    config = read_json(FAMILIES / family.name / "config.json")
    head_size = config["hidden_size"] // config["num_attention_heads"]
    name = "transformer.h.0.self_attention.query_key_value.weight"

    _, shape = stored_tensors(FAMILIES / family.name)[name]

    assert shape == (family.query_key_value_heads * head_size, config["hidden_size"])


@each_llama
def test_a_falcon3_has_the_published_keys_and_tensors(name: str) -> None:
    # tiiuae/Falcon3-7B-Instruct@ca6ceed0, config.json, but for sizes.
    config = read_json(FAMILIES / name / "config.json")
    tensors = stored_tensors(FAMILIES / name)
    parts = [f"self_attn.{part}_proj" for part in "qkvo"]
    parts += [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    parts += ["input_layernorm", "post_attention_layernorm"]
    layers = range(config["num_hidden_layers"])

    expected = {f"model.layers.{layer}.{part}.weight" for layer in layers for part in parts}
    expected |= {"model.embed_tokens.weight", "model.norm.weight"}
    assert tensors.keys() == expected | (set() if name == "falcon3-tied" else {"lm_head.weight"})
    assert (config["hidden_act"], config["rms_norm_eps"]) == ("silu", 1e-6)
    saved_by_5 = name == "falcon3-tied"
    rope = config["rope_parameters"] if saved_by_5 else config
    assert rope["rope_theta"] == 1000042
    assert ("rope_theta" in config) is not saved_by_5
    stored = {stored_as for stored_as, _ in tensors.values()}
    assert stored == {"F16" if saved_by_5 else "BF16"}


def test_the_falcon3_have_the_published_heads_each_in_one_way() -> None:
    shapes = {}
    for name in LLAMA_NAMES:
        tensors = stored_tensors(FAMILIES / name)
        names = (f"model.layers.0.self_attn.{part}_proj.weight" for part in "qk")
        shapes[name] = [tensors[name][1] for name in names]

    assert shapes == {
        "falcon3": [(12 * 16, 192), (4 * 16, 192)],
        "falcon3-wide": [(4 * 256, 64), (2 * 256, 64)],
        "falcon3-tied": [(6 * 16, 96), (2 * 16, 96)],
    }


@each_recorded
def test_a_family_is_small(name: str) -> None:
    assert size_of(FAMILIES / name) < 1_400_000


def test_the_40b_family_is_stored_in_two_shards_that_its_index_lists() -> None:
    directory = FAMILIES / "falcon-40b"
    listed = read_json(directory / "model.safetensors.index.json")["weight_map"]

    assert sorted(set(listed.values())) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert listed.keys() == stored_tensors(directory).keys()


@each_recorded
def test_the_tokenizer_encodes_the_reference_prompts_as_recorded(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES / name)
    prompts = read_json(FAMILIES / name / "reference.json")["prompts"]

    assert len(prompts) == 8
    assert [tokenizer.encode(one["text"]).ids for one in prompts] == [
        one["input_ids"] for one in prompts
    ]


@each_recorded
def test_the_reference_answers_can_tell_a_right_engine_from_a_wrong_one(name: str) -> None:
    reference = read_json(FAMILIES / name / "reference.json")

    assert reference["dtype"] == "float32"
    assert reference["smallest_margin"] > 5e-3
    for one in reference["prompts"]:
        assert len(one["output_ids"]) == reference["new_tokens"] == 64
        assert len(set(one["output_ids"])) >= 12  # no short loop
        assert 11 not in one["output_ids"]
        # ALiBi's biases in transformers are bfloat16: exact only while positions stay small.
        assert len(one["input_ids"]) + 64 < 100
