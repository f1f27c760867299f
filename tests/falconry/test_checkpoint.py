"""What is read from a good checkpoint, held against the published models' configurations."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from safetensors import safe_open

from falconry.checkpoint.architecture import FalconArchitecture, LlamaArchitecture, family_note
from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.files import checkpoint_files
from falconry.checkpoint.reader import read_checkpoint

ROOT = Path(__file__).parents[2]
TINY_FALCON = ROOT / "checkpoints" / "tiny-falcon"
FAMILIES = ROOT / "tests" / "data" / "checkpoints"

FALCON3 = ["falcon3", "falcon3-wide", "falcon3-tied"]

each_family = pytest.mark.parametrize(
    "name", ["falcon-rw", "falcon-7b", "falcon-40b", "falcon2-11b", *FALCON3]
)


@pytest.mark.parametrize(
    ("name", "alibi", "kv_heads", "parallel", "norms", "bias", "tied", "theta", "stored"),
    [
        ("falcon-rw", True, 4, False, 2, True, True, 10000.0, "F32"),
        ("falcon-7b", False, 1, True, 1, False, True, 10000.0, "F32"),
        ("falcon-40b", False, 2, True, 2, False, True, 10000.0, "BF16"),
        ("falcon2-11b", False, 2, True, 1, False, False, 500042.0, "F16"),
    ],
)
def test_each_family_is_read_as_published(
    name: str,
    alibi: bool,
    kv_heads: int,
    parallel: bool,
    norms: int,
    bias: bool,
    tied: bool,
    theta: float,
    stored: str,
) -> None:
    checkpoint = read_checkpoint(FAMILIES / name)
    architecture = checkpoint.architecture

    assert isinstance(architecture, FalconArchitecture)
    assert architecture.family == name
    assert architecture.alibi is alibi
    assert architecture.num_kv_heads == kv_heads
    assert architecture.parallel_attention is parallel
    assert architecture.separate_mlp_norm is (norms == 2)
    assert architecture.bias is bias
    assert architecture.tied_embeddings is tied
    assert architecture.rope_theta == theta
    assert architecture.max_positions == 256
    assert checkpoint.dtypes == (stored,)
    assert (checkpoint.end_ids, checkpoint.pad_id) == ((11,), 11)
    assert checkpoint.tokenizer.vocab_size <= architecture.vocab_size


@pytest.mark.parametrize(
    ("name", "heads", "kv_heads", "head_size", "tied", "stored"),
    [
        ("falcon3", 12, 4, 16, False, "BF16"),
        ("falcon3-wide", 4, 2, 256, False, "BF16"),
        ("falcon3-tied", 6, 2, 16, True, "F16"),
    ],
)
def test_each_falcon3_is_read_as_a_llama(
    name: str, heads: int, kv_heads: int, head_size: int, tied: bool, stored: str
) -> None:
    checkpoint = read_checkpoint(FAMILIES / name)
    architecture = checkpoint.architecture

    assert isinstance(architecture, LlamaArchitecture)
    assert architecture.family == "falcon3"
    assert family_note(architecture) is None
    assert (architecture.num_heads, architecture.num_kv_heads) == (heads, kv_heads)
    assert architecture.head_size == head_size
    assert architecture.tied_embeddings is tied
    assert architecture.rope_theta == 1000042.0  # in both spellings
    assert architecture.norm_epsilon == 1e-6
    assert checkpoint.dtypes == (stored,)
    assert (checkpoint.end_ids, checkpoint.pad_id) == ((11,), 11)


def test_another_llama_is_read_with_a_note_that_it_is_no_falcon(tmp_path: Path) -> None:
    directory = shutil.copytree(FAMILIES / "falcon3", tmp_path / "llama")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"rope_theta": 500000.0}))
    architecture = read_checkpoint(directory).architecture

    assert architecture.family == "llama"
    note = str(family_note(architecture))
    assert note.startswith("a Llama that is no Falcon3 (its rope_theta is 500000, theirs 1000042)")
    lost = family_note(replace(architecture, rope_theta=10000.0))
    assert str(lost).endswith("its base was lost: set rope_theta in config.json")


@each_family
def test_every_tensor_is_where_the_safetensors_library_finds_it(name: str) -> None:
    checkpoint = read_checkpoint(FAMILIES / name)
    elements = 0
    for path in sorted((FAMILIES / name).glob("*.safetensors")):
        with safe_open(path, framework="np") as shard:
            for key in shard.keys():  # noqa: SIM118 - safe_open is no mapping
                theirs = shard.get_slice(key)
                ours = checkpoint.tensors[key]
                assert (ours.path, list(ours.shape)) == (path, theirs.get_shape())
                elements += ours.num_elements
                if ours.dtype == "F32":
                    with path.open("rb") as file:
                        file.seek(ours.offset)
                        raw = file.read(4 * ours.num_elements)
                    assert raw == shard.get_tensor(key).tobytes()

    assert checkpoint.num_parameters == elements


def test_the_files_that_decide_an_engine_are_listed_and_no_others(tmp_path: Path) -> None:
    directory = shutil.copytree(FAMILIES / "falcon-40b", tmp_path / "copy")
    (directory / "README.md").write_text("not part of it")

    assert [path.name for path in checkpoint_files(directory)] == [
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_listing_the_files_of_a_checkpoint_imports_no_heavy_library() -> None:
    program = (
        "import sys, pathlib; from falconry.checkpoint.files import checkpoint_files;"
        f"checkpoint_files(pathlib.Path({str(TINY_FALCON)!r}));"
        "print({'transformers', 'numpy', 'openvino'} & set(sys.modules))"
    )
    done = run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.strip() == "set()", done.stderr


def test_reading_a_checkpoint_does_without_transformers() -> None:
    program = (
        "import sys, pathlib; from falconry.checkpoint.reader import read_checkpoint;"
        f"read_checkpoint(pathlib.Path({str(TINY_FALCON)!r}));"
        "print({'transformers', 'openvino'} & set(sys.modules))"
    )
    done = run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("name", "model_type", "removed"),
    [
        ("falcon-rw", "RefinedWebModel", ("num_kv_heads", "new_decoder_architecture")),
        ("falcon-7b", "RefinedWebModel", ("num_kv_heads", "new_decoder_architecture")),
        ("falcon-40b", "RefinedWeb", ("new_decoder_architecture", "multi_query")),
    ],
)
def test_a_configuration_of_before_transformers_means_the_same(
    name: str, model_type: str, removed: tuple[str, ...], tmp_path: Path
) -> None:
    directory = shutil.copytree(FAMILIES / name, tmp_path / name)
    modern = json.loads((directory / "config.json").read_text())
    legacy = {key: value for key, value in modern.items() if key not in removed}
    legacy |= {
        "model_type": model_type,
        "architectures": ["RWForCausalLM"],
        "n_layer": legacy.pop("num_hidden_layers"),
        "n_head": legacy.pop("num_attention_heads"),
        "apply_residual_connection_post_layernorm": False,
    }
    if "num_kv_heads" in legacy:
        legacy["n_head_kv"] = legacy.pop("num_kv_heads")
    (directory / "config.json").write_text(json.dumps(legacy))

    old, new = read_checkpoint(directory), read_checkpoint(FAMILIES / name)

    assert old.architecture == new.architecture
    assert (old.end_ids, old.pad_id) == (new.end_ids, new.pad_id)


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {"eos_token_id": None, "pad_token_id": 3},
        {"eos_token_id": 11},
        {"eos_token_id": [0, 11], "pad_token_id": 5},
        {"eos_token_id": []},
        {"text_config": {"eos_token_id": [5, 6], "pad_token_id": 7}},
        {"decoder": {"eos_token_id": 7}, "text_config": {"eos_token_id": 5}},
        {"eos_token_id": 1, "generator": {"eos_token_id": 7, "pad_token_id": 8}},
        {"eos_token_id": None, "text_config": {"eos_token_id": 5}},
    ],
    ids=lambda ids: " ".join(ids) or "none",
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_answers_end_at_the_tokens_that_transformers_finds(
    tmp_path: Path, file: str, ids: dict[str, Any]
) -> None:
    from transformers import GenerationConfig

    config = json.loads((TINY_FALCON / "config.json").read_text())
    kept = {key: value for key, value in config.items() if not key.endswith("_token_id")}
    of_model = file == "config.json"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(kept | ids if of_model else config))
    if not of_model:
        (tmp_path / file).write_text(json.dumps(ids))

    read = read_configuration(tmp_path)

    expected = GenerationConfig.from_pretrained(
        tmp_path, config_file_name=file, _from_model_config=of_model
    )
    end = expected.eos_token_id
    assert list(read.end_ids) == (end if isinstance(end, list) else [] if end is None else [end])
    first = read.end_ids[0] if read.end_ids else 0  # as generate() pads without a token for it
    assert read.pad_id == (first if expected.pad_token_id is None else expected.pad_token_id)


def test_an_end_token_that_is_named_twice_is_one(tmp_path: Path) -> None:
    directory = shutil.copytree(TINY_FALCON, tmp_path / "copy")
    (directory / "generation_config.json").write_text('{"eos_token_id": [12, 11, 12]}')

    assert read_checkpoint(directory).end_ids == (12, 11)
