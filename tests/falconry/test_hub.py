"""Checkpoints of the hub, fetched from a stand-in for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from falconry.checkpoint import source as hub_module
from falconry.checkpoint.hub_names import HubCheckpoint, parse_hub
from falconry.checkpoint.source import CheckpointSource, fetch, fetched
from falconry.errors import CheckpointError, MachineError
from tests.hub_stand_in import REPOSITORY, REVISION, HubStandIn

TOKEN = "hf_secret"
HUB = HubCheckpoint(REPOSITORY, REVISION)
FILES = {
    "config.json": b'{"model_type": "falcon"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "model.safetensors": os.urandom(300_000),
}
NOT_WANTED = {
    "pytorch_model.bin": b"pickled",
    "README.md": b"# Falcon",
    "handler.py": b"raise SystemExit",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    directory = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(directory))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return directory


@pytest.fixture
def hub(monkeypatch):
    with HubStandIn(FILES | NOT_WANTED) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def silent(step, fraction):
    pass


# --- names ------------------------------------------------------------------------------------


def test_a_commit_of_a_repository_is_read():
    assert parse_hub(f"hub:tiiuae/falcon-7b@{REVISION}") == HubCheckpoint(
        "tiiuae/falcon-7b", REVISION
    )
    assert parse_hub("checkpoints/tiny-falcon") is None


@pytest.mark.parametrize("revision", ["", "@", "@main", "@v1.0", "@0123abc", f"@{REVISION}0"])
def test_only_a_whole_commit_will_do(revision):
    with pytest.raises(CheckpointError, match=r"huggingface\.co/tiiuae/falcon-7b/commits/main"):
        parse_hub(f"hub:tiiuae/falcon-7b{revision}")


@pytest.mark.parametrize("name", ["", "falcon", "a/b/c", "../x", "a/b c"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(CheckpointError, match="no repository of the hub"):
        parse_hub(f"hub:{name}@{REVISION}")


@pytest.mark.parametrize(
    "text",
    [
        "{0}",
        "{0}@main",
        "https://huggingface.co/{0}",
        "https://huggingface.co/{0}/tree/main",
        "huggingface.co/{0}/",
        "https://hf.co/{0}.git",
        "hf://{0}",
    ],
)
def test_another_way_to_name_the_hub_is_answered_with_the_right_one(text):
    with pytest.raises(CheckpointError) as refused:
        CheckpointSource.parse(text.format("tiiuae/falcon-7b"))
    commits = "https://huggingface.co/tiiuae/falcon-7b/commits/main"
    assert refused.value.remedy == (
        f"write hub:tiiuae/falcon-7b@<commit>, with the 40 digits from {commits}"
    )


def test_a_commit_in_a_page_s_address_is_taken_over():
    with pytest.raises(CheckpointError) as refused:
        CheckpointSource.parse(f"https://huggingface.co/tiiuae/falcon-7b/tree/{REVISION}")
    assert refused.value.remedy == f"write hub:tiiuae/falcon-7b@{REVISION}"


@pytest.mark.parametrize("text", ["/data/tiiuae", "./tiiuae/falcon-7b", "falcon", "a/b/c"])
def test_a_path_that_no_repository_can_be_called_is_a_path(text):
    assert CheckpointSource.parse(text).path == Path(text)


def test_a_directory_of_a_repository_s_name_is_a_directory(tmp_path, monkeypatch):
    (tmp_path / "tiiuae" / "falcon-7b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert CheckpointSource.parse("tiiuae/falcon-7b").path == Path("tiiuae/falcon-7b")


def test_repository_and_commit_decide_the_digest():
    others = [HubCheckpoint("tiny/other", REVISION), HubCheckpoint(REPOSITORY, "f" * 40)]
    assert len({HUB.digest, *(other.digest for other in others)}) == 3
    assert HUB.digest == HubCheckpoint(REPOSITORY, REVISION).digest


# --- fetching ---------------------------------------------------------------------------------


def test_a_checkpoint_is_fetched_and_only_what_is_needed(hub):
    assert fetched(HUB) is None
    fractions = []
    path = fetch(HUB, lambda step, fraction: fractions.append((step, fraction)))
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == FILES
    assert ("fetching the checkpoint", 1.0) in fractions
    assert fractions[-1] == ("verifying the checkpoint", 1.0)
    assert path.name == REVISION


def test_what_was_fetched_needs_no_network(hub):
    path = fetch(HUB, silent)
    asked = len(hub.requests)
    assert fetched(HUB) == fetch(HUB, silent) == path
    assert len(hub.requests) == asked


def test_a_snapshot_that_lost_a_file_is_fetched_again(hub):
    path = fetch(HUB, silent)
    (path / "tokenizer.json").unlink()
    assert fetched(HUB) is None
    assert (fetch(HUB, silent) / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def test_shards_are_fetched_with_their_index(hub):
    del hub.files["model.safetensors"]
    shards = {f"model-0000{n}-of-00002.safetensors": os.urandom(1000) for n in (1, 2)}
    index = {"weight_map": {str(n): name for n, name in enumerate(shards)}}
    hub.files |= shards | {"model.safetensors.index.json": json.dumps(index).encode()}
    path = fetch(HUB, silent)
    assert all((path / name).read_bytes() == content for name, content in shards.items())


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(hub):
    del hub.files["model.safetensors"]
    with pytest.raises(CheckpointError, match="no safetensors"):
        fetch(HUB, silent)
    assert not any("/resolve/" in path for _, path, _ in hub.requests)


def test_a_repository_of_gguf_files_is_refused_with_what_to_use(hub):
    hub.files["falcon3-7b-instruct-q4_k_m.gguf"] = hub.files.pop("model.safetensors")
    with pytest.raises(CheckpointError, match=r"has only GGUF files; use the repository without"):
        fetch(HUB, silent)
    assert not any("/resolve/" in path for _, path, _ in hub.requests)


def test_a_model_that_is_not_built_is_refused_before_its_weights_are_fetched(hub):
    config = {"model_type": "llama", "quantization_config": {"quant_method": "bitnet"}}
    hub.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(CheckpointError, match=r"the repository without -1\.58bit"):
        fetch(HUB, silent)
    assert not any(path.endswith("model.safetensors") for _, path, _ in hub.requests)
    assert fetched(HUB) is None


def test_a_cut_connection_is_resumed_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.cut_after["model.safetensors"] = 100_000
    path = fetch(HUB, silent)
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    first, second = hub.asked("GET", "model.safetensors")
    assert "Range" not in first
    # What had arrived is not sent again.
    assert second["Range"] == "bytes=100000-"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_corrupt_file_is_noticed_and_fetched_anew(hub, name):
    hub.corrupt[name] = bytes(len(FILES[name]))
    with pytest.raises(CheckpointError, match=f"{name} arrived with another digest"):
        fetch(HUB, silent)
    assert fetched(HUB) is None
    hub.corrupt.clear()
    assert (fetch(HUB, silent) / name).read_bytes() == FILES[name]


def test_a_run_that_ends_before_the_files_are_verified_leaves_nothing_trusted(hub, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(hub_module, "_verify", killed)
        fetch(HUB, silent)
    assert fetched(HUB) is None
    assert fetch(HUB, silent) == fetched(HUB)


def test_what_another_program_fetched_is_taken(hub, cache):
    path = fetch(HUB, silent)
    (path.parents[1] / f".falconry-{REVISION}.json").unlink()
    assert fetched(HUB) == path


# --- the token --------------------------------------------------------------------------------


def test_the_environments_token_is_sent_as_authorization_only(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch(HUB, silent)
    for _, path, headers in hub.requests:
        assert headers.pop("authorization", headers.pop("Authorization", "")) == f"Bearer {TOKEN}"
        assert TOKEN not in path
        assert TOKEN not in str(headers)


def test_a_token_that_is_stored_on_the_machine_is_not_sent(hub, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    fetch(HUB, silent)
    assert TOKEN not in str(hub.requests)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", ["/api/", f"/{REPOSITORY}/resolve/"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_gated_repository_says_what_to_do(hub, monkeypatch, status, path, token):
    hub.refusal, hub.refused_path = (status, "GatedRepo"), path
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=r"accept its terms at .*HF_TOKEN") as failure:
        fetch(HUB, silent)
    assert TOKEN not in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ((404, "RepoNotFound"), CheckpointError, "is not on the hub"),
        ((401, None), CheckpointError, "HF_TOKEN is not set"),
        ((404, "RevisionNotFound"), CheckpointError, "has no such commit"),
        ((500, None), MachineError, "the hub answered 500"),
    ],
)
def test_other_refusals_are_one_line(hub, refusal, error, words):
    hub.refusal = refusal
    with pytest.raises(error, match=words) as failure:
        fetch(HUB, silent)
    assert "\n" not in str(failure.value)


def test_no_network_is_one_line(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="cannot be reached") as failure:
        fetch(HUB, silent)
    assert "\n" not in str(failure.value)


def test_a_disk_too_small_is_told_before_anything_is_fetched(hub, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(MachineError, match="free some disk space"):
        fetch(HUB, silent)
    assert not any("/resolve/" in path for _, path, _ in hub.requests)


# --- cost -------------------------------------------------------------------------------------


def test_a_directory_does_not_load_the_hubs_library():
    code = (
        "import sys; from falconry.checkpoint.hub_names import parse_hub;"
        "assert parse_hub('checkpoints/tiny-falcon') is None;"
        "assert 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
