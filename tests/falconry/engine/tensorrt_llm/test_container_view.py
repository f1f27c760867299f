"""What the build container sees of a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest

from falconry.digests import DigestCache
from falconry.engine.tensorrt_llm.container_view import container_view, view_digest
from falconry.errors import CheckpointError

CHECKPOINTS = Path(__file__).parents[3] / "data" / "checkpoints"
FALCON3 = ("falcon3", "falcon3-wide", "falcon3-tied")
FAMILIES = ("falcon-rw", "falcon-7b", "falcon-40b", "falcon2-11b", *FALCON3)


@pytest.fixture
def checkpoint(tmp_path):
    """Copies a recorded checkpoint, changes its config.json, and gives its directory."""

    def copy(family="falcon-7b", leave_out=(), **changes):
        directory = tmp_path / "checkpoint"
        shutil.copytree(CHECKPOINTS / family, directory, dirs_exist_ok=True)
        config = json.loads((directory / "config.json").read_text()) | changes
        kept = {key: value for key, value in config.items() if key not in leave_out}
        (directory / "config.json").write_text(json.dumps(kept))
        return directory

    return copy


@pytest.fixture
def digests(tmp_path):
    return DigestCache(tmp_path / "digests.json")


def seen(directory):
    return {file.path.name: file.content for file in container_view(directory)}


def config_in(directory):
    return json.loads(seen(directory)["config.json"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_view_has_the_checkpoints_files_and_nothing_else(checkpoint, family):
    directory = checkpoint(family)
    (directory / "configuration_falcon.py").write_text("raise SystemExit('run')")
    (directory / "README.md").write_text("about it")
    weights = {path.name for path in directory.glob("*.safetensors*")}
    assert set(seen(directory)) == weights | {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_neither_configuration_names_code(checkpoint):
    named = {"AutoConfig": "configuration_falcon.FalconConfig"}
    directory = checkpoint(auto_map=named)
    settings = directory / "tokenizer_config.json"
    before = json.loads(settings.read_text())
    settings.write_text(json.dumps(before | {"auto_map": {"AutoTokenizer": ["a.B", None]}}))
    assert "auto_map" not in config_in(directory)
    assert json.loads(seen(directory)["tokenizer_config.json"]) == before


def test_an_index_that_names_code_as_weights_is_refused(checkpoint):
    directory = checkpoint("falcon-40b")
    (directory / "model-00001-of-00002.safetensors").rename(directory / "weights.py")
    index = directory / "model.safetensors.index.json"
    text = index.read_text().replace("model-00001-of-00002.safetensors", "weights.py")
    index.write_text(text)
    with pytest.raises(CheckpointError, match=r"weights\.py.*not a safetensors file"):
        container_view(directory)


@pytest.mark.parametrize(
    ("rope", "theta"),
    [
        ({"rope_theta": 500042}, 500042.0),
        ({"rope_parameters": {"rope_theta": 500042.0, "rope_type": "default"}}, 500042.0),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 500042.0}}, 500042.0),
        ({}, 10000.0),
    ],
)
def test_the_base_of_rope_is_at_the_top_level(checkpoint, rope, theta):
    directory = checkpoint("falcon2-11b", leave_out=("rope_theta",))
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | rope))
    config = config_in(directory)
    assert config["rope_theta"] == theta
    assert "rope_parameters" not in config


@pytest.mark.parametrize("family", FAMILIES)
def test_the_element_type_is_there_by_its_older_name(checkpoint, family):
    config = json.loads((CHECKPOINTS / family / "config.json").read_text())
    given = config.get("torch_dtype") or config["dtype"]
    assert config_in(checkpoint(family))["torch_dtype"] == given
    without = checkpoint(family, leave_out=("torch_dtype",))
    assert config_in(without)["torch_dtype"] == given
    assert config_in(checkpoint(family, leave_out=("torch_dtype",), dtype=given)) == config_in(
        without
    )


def test_a_legacy_configuration_gets_the_names_that_transformers_knows(checkpoint):
    directory = checkpoint(
        leave_out=("num_hidden_layers", "num_attention_heads"),
        model_type="RefinedWebModel",
        architectures=["RWForCausalLM"],
        n_layer=3,
        n_head=5,
    )
    legacy = config_in(directory)
    shutil.rmtree(directory)
    assert legacy == config_in(checkpoint())


def test_an_output_projection_in_the_weights_is_not_tied_away(checkpoint):
    directory = checkpoint("falcon2-11b", tie_word_embeddings=True)
    assert config_in(directory)["tie_word_embeddings"] is False
    assert config_in(checkpoint("falcon-7b"))["tie_word_embeddings"] is True


@pytest.mark.parametrize("family", FALCON3)
def test_a_falcon3_has_the_spelling_that_transformers_4_reads(checkpoint, family):
    directory = checkpoint(family, auto_map={"AutoConfig": "configuration_llama.LlamaConfig"})
    seen_config = config_in(directory)
    own = json.loads((directory / "config.json").read_text())
    assert (seen_config["model_type"], seen_config["architectures"]) == (
        "llama",
        ["LlamaForCausalLM"],
    )
    assert seen_config["rope_theta"] == 1000042.0
    assert seen_config["head_dim"] == own.get("head_dim", 16)
    assert seen_config["num_key_value_heads"] == own["num_key_value_heads"]
    assert seen_config["torch_dtype"] == ("float16" if family == "falcon3-tied" else "bfloat16")
    assert seen_config["bos_token_id"] == own.get("bos_token_id")  # None is not 1, a real token
    assert not {"rope_parameters", "rope_scaling", "auto_map", "dtype"} & seen_config.keys()


def test_links_are_resolved(checkpoint):
    directory = checkpoint()
    blob = directory / "blob"
    (directory / "model.safetensors").rename(blob)
    (directory / "model.safetensors").symlink_to("blob")
    assert seen(directory)["model.safetensors"] == blob


def test_code_and_the_spelling_of_rope_do_not_change_the_digest(checkpoint, digests):
    plain = view_digest(checkpoint("falcon2-11b"), digests)
    named = checkpoint("falcon2-11b", auto_map={"AutoConfig": "configuration_falcon.FalconConfig"})
    assert view_digest(named, digests) == plain
    (named / "configuration_falcon.py").write_text("raise SystemExit")
    assert view_digest(named, digests) == plain
    newer = {"rope_parameters": {"rope_theta": 500042, "rope_type": "default"}, "dtype": "float16"}
    saved = checkpoint("falcon2-11b", leave_out=("rope_theta", "torch_dtype", "auto_map"), **newer)
    assert view_digest(saved, digests) == plain


@pytest.mark.parametrize("changes", [{"rope_theta": 10000.0}, {"layer_norm_epsilon": 1e-6}])
def test_another_model_has_another_digest(checkpoint, digests, changes):
    plain = view_digest(checkpoint("falcon2-11b"), digests)
    assert view_digest(checkpoint("falcon2-11b", **changes), digests) != plain


def test_other_weights_have_another_digest(checkpoint, digests):
    directory = checkpoint()
    plain = view_digest(directory, digests)
    weights = directory / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert view_digest(directory, digests) != plain
