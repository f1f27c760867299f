"""Each way in which a checkpoint can be wrong, and the one sentence that it becomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from falconry.checkpoint.files import checkpoint_files
from falconry.checkpoint.reader import read_checkpoint
from falconry.errors import CheckpointError, format_error

FAMILIES = Path(__file__).parents[1] / "data" / "checkpoints"


@pytest.fixture
def falcon(tmp_path: Path) -> Path:
    """A good checkpoint in one float32 file, to be spoilt."""
    return shutil.copytree(FAMILIES / "falcon-7b", tmp_path / "falcon")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A good checkpoint in two shards, to be spoilt."""
    return shutil.copytree(FAMILIES / "falcon-40b", tmp_path / "sharded")


def set_config(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def set_tensors(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(directory)
    text = format_error(raised.value)
    assert "\n" not in text
    return text


def test_a_missing_directory(tmp_path: Path) -> None:
    for read in (read_checkpoint, checkpoint_files):
        with pytest.raises(CheckpointError, match="nowhere: is not a directory; name a"):
            read(tmp_path / "nowhere")


def test_an_empty_directory(tmp_path: Path) -> None:
    for read in (read_checkpoint, checkpoint_files):
        with pytest.raises(CheckpointError, match=r"has no config\.json"):
            read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_config_that_is_no_json_object(falcon: Path, text: str) -> None:
    (falcon / "config.json").write_text(text, encoding="latin-1")

    assert "config.json: is not" in refusal(falcon)


def test_another_kind_of_model(falcon: Path) -> None:
    set_config(falcon, model_type="gpt2", architectures=["GPT2LMHeadModel"])

    assert "of type 'gpt2', which is neither a Falcon nor a Llama; use" in refusal(falcon)


def test_a_falcon_that_does_not_generate_text(falcon: Path) -> None:
    set_config(falcon, architectures=["FalconForSequenceClassification"])

    assert "FalconForSequenceClassification, which does not generate text" in refusal(falcon)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
def test_a_quantised_checkpoint(falcon: Path, method: str) -> None:
    set_config(falcon, quantization_config={"quant_method": method, "bits": 4})

    assert f"already quantised ({method}); use the unquantised" in refusal(falcon)


def test_a_quantised_tensor_without_a_word_in_the_config(falcon: Path) -> None:
    name = "transformer.h.0.mlp.dense_h_to_4h.weight"
    set_tensors(falcon, lambda tensors: tensors.update({name: tensors[name].astype(np.int8)}))

    assert f"stores {name} as I8; only F32, BF16, F16 are read" in refusal(falcon)


def test_an_adapter_without_its_base_model(falcon: Path) -> None:
    (falcon / "config.json").rename(falcon / "adapter_config.json")

    assert "holds only a PEFT adapter; merge it" in refusal(falcon)


@pytest.mark.parametrize("with_config", [True, False], ids=["config", "no config"])
def test_gguf_files_alone(falcon: Path, with_config: bool) -> None:
    (falcon / "model.safetensors").rename(falcon / "falcon3-7b-instruct-q4_k_m.gguf")
    if not with_config:
        (falcon / "config.json").unlink()

    text = refusal(falcon)
    assert "has only GGUF files" in text
    assert "use the repository without -GGUF, or serve it with llama.cpp" in text


def test_pickled_weights(falcon: Path) -> None:
    (falcon / "model.safetensors").rename(falcon / "pytorch_model.bin")

    assert "has only pickled weights, which are not loaded" in refusal(falcon)


def test_no_weights_at_all(falcon: Path) -> None:
    (falcon / "model.safetensors").unlink()

    assert "has no weights: neither model.safetensors nor" in refusal(falcon)


def test_a_truncated_file(falcon: Path) -> None:
    path = falcon / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])

    assert "model.safetensors: is truncated: its header says" in refusal(falcon)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00",
        (10**9).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a":[1]}',
        (4).to_bytes(8, "little") + b"{{{{",
    ],
    ids=["empty", "too short", "huge header", "a list", "no tensor", "no JSON"],
)
def test_a_corrupt_header(falcon: Path, content: bytes) -> None:
    (falcon / "model.safetensors").write_bytes(content)

    assert "has a corrupt safetensors header" in refusal(falcon)


def test_a_header_whose_offsets_do_not_fit_its_shapes(falcon: Path) -> None:
    path = falcon / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["transformer.ln_f.bias"]["shape"] = [1]
    spoilt = json.dumps(header).encode()
    path.write_bytes(len(spoilt).to_bytes(8, "little") + spoilt + content[8 + length :])

    assert "has a corrupt safetensors header" in refusal(falcon)


def test_an_absent_shard(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()

    assert "names the shard model-00002-of-00002.safetensors, which is absent" in refusal(sharded)


def test_an_index_that_reaches_outside_the_checkpoint(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../elsewhere")}))

    assert "names '../elsewhere', which is not a safetensors file of" in refusal(sharded)


def test_an_index_without_a_map(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text("{}")

    assert "has no weight_map" in refusal(sharded)


def test_an_index_that_names_the_wrong_shard(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    names["transformer.ln_f.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": names}))

    assert "holds transformer.ln_f.weight, which it does not" in refusal(sharded)


def shard(falcon: Path, *unnamed: str, **further: Any) -> None:
    """Splits the weights into two shards; `further` tensors are in the second."""
    tensors = load_file(falcon / "model.safetensors")
    (falcon / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {
        "model-00001-of-00002.safetensors": {name: tensors[name] for name in names[::2]},
        "model-00002-of-00002.safetensors": {name: tensors[name] for name in names[1::2]} | further,
    }
    for file, content in shards.items():
        save_file(content, falcon / file)
    weight_map = {name: file for file, content in shards.items() for name in content}
    named = {name: file for name, file in weight_map.items() if name not in unnamed}
    (falcon / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))


def test_a_tensor_of_a_shard_that_the_index_does_not_name_is_used(falcon: Path) -> None:
    embedding = load_file(falcon / "model.safetensors")["transformer.word_embeddings.weight"]
    shard(falcon, "lm_head.weight", **{"lm_head.weight": embedding * 2})

    checkpoint = read_checkpoint(falcon)

    assert not checkpoint.architecture.tied_embeddings
    assert checkpoint.tensors["lm_head.weight"].path.name == "model-00002-of-00002.safetensors"


def test_a_superfluous_tensor_that_the_index_does_not_name(falcon: Path) -> None:
    shard(falcon, "adapter.weight", **{"adapter.weight": np.zeros(4, np.float32)})

    assert "holds the tensor adapter.weight, which config.json does not call for" in refusal(falcon)


def test_a_tensor_in_two_shards(falcon: Path) -> None:
    name = "transformer.h.0.input_layernorm.bias"
    shard(falcon, **{name: np.zeros(4, np.float32)})

    assert (
        f"model-00002-of-00002.safetensors: holds {name}, which model-00001-of-00002.safetensors "
        "holds as well; fetch the index and its shards from one revision"
    ) in refusal(falcon)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ],
)
def test_what_git_lfs_leaves_in_a_file_s_place(falcon: Path, name: str) -> None:
    if name.startswith("model") and name != "model.safetensors":
        shard(falcon)
    digest = "0" * 64
    (falcon / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 14434532352\n"
    )

    for read in (read_checkpoint, checkpoint_files):
        if read is read_checkpoint and name in ("tokenizer_config.json", "chat_template.jinja"):
            continue  # the engine stage reads them, and lists the files before
        with pytest.raises(CheckpointError, match=f"{name}: is a Git LFS pointer, .*git lfs pull"):
            read(falcon)


def test_a_text_where_a_list_belongs_is_quoted_whole(falcon: Path) -> None:
    set_config(falcon, architectures="FalconForCausalLM")

    assert "architectures is not a list of names, but 'FalconForCausalLM'" in refusal(falcon)


def test_an_end_token_that_is_a_text_is_quoted_whole(falcon: Path) -> None:
    (falcon / "generation_config.json").write_text('{"eos_token_id": "11"}')

    assert "generation_config.json: eos_token_id '11' is not a number below" in refusal(falcon)


def test_a_missing_tensor(falcon: Path) -> None:
    set_tensors(falcon, lambda tensors: tensors.pop("transformer.ln_f.weight"))

    assert "lacks the tensor transformer.ln_f.weight, which config.json" in refusal(falcon)


def test_more_layers_than_the_config_has_a_place_for(falcon: Path) -> None:
    set_config(falcon, num_hidden_layers=1)

    assert "holds the tensor transformer.h.1." in refusal(falcon)


def test_a_tensor_of_another_shape(falcon: Path) -> None:
    set_config(falcon, ffn_hidden_size=64)

    assert "mlp.dense_h_to_4h.weight has the shape (" in refusal(falcon)


def test_a_vocabulary_that_is_not_the_embeddings(falcon: Path) -> None:
    rows = json.loads((falcon / "config.json").read_text())["vocab_size"]
    set_config(falcon, vocab_size=rows + 8)

    assert f"has {rows} rows, but config.json's vocab_size is {rows + 8}" in refusal(falcon)


def test_a_missing_tokenizer(falcon: Path) -> None:
    (falcon / "tokenizer.json").unlink()

    assert "has no tokenizer.json; write it with AutoTokenizer" in refusal(falcon)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        checkpoint_files(falcon)


def test_a_damaged_tokenizer(falcon: Path) -> None:
    (falcon / "tokenizer.json").write_text('{"version": "1.0"}')

    assert "tokenizer.json: is not accepted by transformers" in refusal(falcon)


def test_a_tokenizer_with_more_tokens_than_the_embedding(falcon: Path) -> None:
    tokenizer = json.loads((falcon / "tokenizer.json").read_text())
    token = tokenizer["added_tokens"][-1] | {"id": 100_000, "content": "<far>"}
    tokenizer["added_tokens"].append(token)
    vocabulary = json.loads((falcon / "config.json").read_text())["vocab_size"]
    tokenizer["model"]["vocab"].update({f"word{i}": 10_000 + i for i in range(vocabulary)})
    (falcon / "tokenizer.json").write_text(json.dumps(tokenizer))

    assert f"but the model's vocab_size is {vocabulary}; use the tokenizer" in refusal(falcon)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "RoPE scaling ('dynamic')"),
        ({"activation": "relu"}, "asks for the activation 'relu'; only 'gelu' is supported"),
        ({"num_attention_heads": 3}, "is not a multiple of num_attention_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is not a positive number"),
        ({"num_hidden_layers": "2"}, "is not accepted by transformers"),
        ({"num_attention_heads": 0}, "is not accepted by transformers"),
        (
            {"num_ln_in_parallel_attn": 2},
            "num_ln_in_parallel_attn 2 does not fit this architecture",
        ),
        ({"multi_query": False, "num_kv_heads": 1}, "num_kv_heads 1 needs"),
        ({"apply_residual_connection_post_layernorm": True}, "Falconry does not support"),
        (
            {"new_decoder_architecture": True, "parallel_attn": False, "num_kv_heads": 1},
            "which transformers cannot run",
        ),
        (
            {"new_decoder_architecture": True, "num_kv_heads": 3},
            "is not a multiple of num_kv_heads 3",
        ),
    ],
)
def test_a_configuration_that_cannot_be_built(
    falcon: Path, values: dict[str, Any], problem: str
) -> None:
    set_config(falcon, **values)

    assert problem in refusal(falcon)


@pytest.mark.parametrize("key", ["eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", [70_000, -1, "eleven"])
def test_a_token_id_that_is_none(falcon: Path, key: str, value: object) -> None:
    (falcon / "generation_config.json").write_text(json.dumps({key: value}))

    assert f"generation_config.json: {key} {value!r} is not a number below" in refusal(falcon)
