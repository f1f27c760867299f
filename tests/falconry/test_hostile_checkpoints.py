"""Checkpoints made to harm: links to other files, numbers to count up to, headers that lie."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors

from falconry.checkpoint.files import checkpoint_files, find_weights, licence_of
from falconry.checkpoint.reader import read_checkpoint
from falconry.checkpoint.source import CheckpointSource
from falconry.checkpoint.tensors import locate_tensors
from falconry.checkpoint.tokenizer import TokenizerFacts, require_embeddings, write_chat
from falconry.digests import DigestCache
from falconry.engine.tensorrt_llm.container_view import container_view
from falconry.errors import CheckpointError, format_error

FAMILIES = Path(__file__).parents[1] / "data" / "checkpoints"
READ = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "README.md", "LICENSE"),
)


@pytest.fixture
def falcon(tmp_path: Path) -> Path:
    """A good checkpoint, to be spoilt."""
    return shutil.copytree(FAMILIES / "falcon-7b", tmp_path / "falcon")


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(directory)
    text = format_error(raised.value)
    assert "\n" not in text and len(text) < 3_000
    return text


# --- links ------------------------------------------------------------------------------------


def linked_out(directory: Path, name: str) -> Path:
    """Makes a file of the checkpoint a link to one of the user's."""
    target = directory.parent / "secrets" / name
    target.parent.mkdir(exist_ok=True)
    if (directory / name).exists():
        shutil.move(directory / name, target)
    else:
        target.write_text("{}")
    (directory / name).symlink_to(target)
    return target


@pytest.mark.parametrize("name", READ)
def test_a_link_out_of_the_checkpoint_is_refused_by_its_name_by_all_that_read_it(falcon, name):
    target = linked_out(falcon, name)
    for read in (
        checkpoint_files,
        container_view,
        lambda directory: CheckpointSource(None, directory).digest(DigestCache(falcon / "digests")),
    ):
        with pytest.raises(CheckpointError) as raised:
            read(falcon)
        assert raised.value.where == str(falcon / name)
        assert f"is a link to {target}, outside of the checkpoint" in str(raised.value)


def test_a_link_to_a_directory_in_between_leads_out_as_well(falcon, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.move(falcon / "config.json", tmp_path / "elsewhere" / "config.json")
    (falcon / "inside").symlink_to(tmp_path / "elsewhere")
    (falcon / "config.json").symlink_to("inside/config.json")
    assert "config.json: is a link to" in refusal(falcon)


def test_a_shard_that_is_a_link_out_is_refused(tmp_path):
    sharded = shutil.copytree(FAMILIES / "falcon-40b", tmp_path / "sharded")
    linked_out(sharded, "model-00002-of-00002.safetensors")
    assert "model-00002-of-00002.safetensors: is a link to" in refusal(sharded)


def test_a_licence_that_is_a_link_out_is_not_quoted(falcon):
    linked_out(falcon, "LICENSE")
    with pytest.raises(CheckpointError, match="LICENSE: is a link to"):
        licence_of(falcon)


def test_a_link_within_the_checkpoint_is_one_of_its_files(falcon):
    (falcon / "weights").mkdir()
    shutil.move(falcon / "model.safetensors", falcon / "weights" / "model")
    (falcon / "model.safetensors").symlink_to("weights/model")
    assert read_checkpoint(falcon).tensors


def test_a_checkpoint_may_be_named_by_a_link(falcon, tmp_path):
    (tmp_path / "current").symlink_to("falcon")
    assert read_checkpoint(tmp_path / "current").tensors


def hub_cache(root: Path, repository: str = "models--tiiuae--falcon-7b") -> Path:
    """A checkpoint as the hub's cache has it: links to blobs."""
    snapshot = root / repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (root / repository / "blobs").mkdir()
    for number, path in enumerate(sorted((FAMILIES / "falcon-7b").iterdir())):
        shutil.copyfile(path, root / repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_snapshot_of_the_hub_s_cache_has_its_files_among_the_blobs(tmp_path):
    snapshot = hub_cache(tmp_path)
    assert read_checkpoint(snapshot).tensors
    blobs = {file.content for file in container_view(snapshot) if isinstance(file.content, Path)}
    assert {path.parent for path in blobs} == {tmp_path / "models--tiiuae--falcon-7b" / "blobs"}


def test_a_snapshot_has_no_blobs_of_another_repository(tmp_path):
    snapshot = hub_cache(tmp_path)
    hub_cache(tmp_path, "models--someone--else")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../models--someone--else/blobs/0")
    assert "config.json: is a link to" in refusal(snapshot)


def test_blobs_that_are_a_link_themselves_are_not_the_repository_s(tmp_path):
    snapshot = hub_cache(tmp_path)
    blobs = snapshot.parents[1] / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert "config.json: is a link to" in refusal(snapshot)


def test_a_directory_called_snapshots_makes_no_hub_cache(tmp_path):
    snapshot = hub_cache(tmp_path, "unpacked")
    assert "config.json: is a link to" in refusal(snapshot)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_what_is_no_regular_file_is_neither_read_nor_waited_for(falcon, name):
    (falcon / name).unlink(missing_ok=True)
    os.mkfifo(falcon / name)
    if name == "README.md":
        assert licence_of(falcon) is None
    else:
        assert "has no" in refusal(falcon)


def test_an_index_with_a_name_that_no_file_can_have(falcon):
    (falcon / "model.safetensors").unlink()
    weight_map = {"a": "x" * 5_000 + ".safetensors"}
    (falcon / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "cannot be read (File name too long)" in refusal(falcon)


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"vocab_size": 2**60, "eos_token_id": 1}, "vocab_size is above"),
        ({"num_hidden_layers": 2**60}, "num_hidden_layers is above 1000"),
        ({"num_hidden_layers": 10**4_000}, "num_hidden_layers is above 1000"),
        ({"hidden_size": 10**4_000}, "hidden_size is above"),
        ({"n_embed": 10**4_000}, "hidden_size is above"),
        ({"num_attention_heads": 10**4_000}, "num_attention_heads is above"),
        ({"ffn_hidden_size": 2**63}, "ffn_hidden_size is above"),
        ({"max_position_embeddings": 2**63}, "max_position_embeddings is above"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"vocab_size": True}, "vocab_size"),
        ({"vocab_size": 64.0}, "vocab_size"),
        ({"architectures": 5}, "architectures is not a list"),
        ({"architectures": [{"a": 1}]}, "which does not generate text"),
        ({"model_type": ["falcon"]}, "describes a model of type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sizes_and_types_are_checked_before_anything_is_counted(falcon, values, problem):
    path = falcon / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    assert problem in refusal(falcon)


@pytest.mark.parametrize("literal", ["Infinity", "-Infinity", "NaN", "1e999"])
@pytest.mark.parametrize("key", ["layer_norm_epsilon", "rope_theta", "unknown"])
def test_numbers_that_are_none_are_refused(falcon, key, literal):
    path = falcon / "config.json"
    text = path.read_text().rstrip().removesuffix("}")
    path.write_text(f'{text}, "{key}x": {literal}}}')
    assert "config.json: holds" in refusal(falcon)


@pytest.mark.parametrize("value", ["x", True, 1.0, 2**60, -1, [["x"]], {}], ids=str)
@pytest.mark.parametrize("key", ["eos_token_id", "pad_token_id"])
def test_a_token_id_is_a_number_of_the_vocabulary(falcon, key, value):
    (falcon / "generation_config.json").write_text(json.dumps({key: value}))
    assert f"generation_config.json: {key} " in refusal(falcon)


def test_a_tokenizer_s_largest_id_is_not_counted_up_to(tmp_path):
    with pytest.raises(CheckpointError, match="token ids up to"):
        require_embeddings(TokenizerFacts(tmp_path, 2**60), 65024)


# --- headers of safetensors -------------------------------------------------------------------

A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]}
GOOD = {"a": A, "b": B}


def file_of(header: Any, data: bytes = bytes(12)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_(name: str, **values: Any) -> dict[str, Any]:
    return {**GOOD, name: {**GOOD[name], **values}}


TAKEN = {
    "two tensors": file_of(GOOD),
    "in another order": file_of({"b": B, "a": A}),
    "padded": file_of(json.dumps(GOOD).encode() + b"   "),
    "texts as metadata": file_of({**GOOD, "__metadata__": {"format": "pt"}}),
    "no metadata": file_of({**GOOD, "__metadata__": None}),
    "an empty tensor": file_of({**GOOD, "c": {**A, "shape": [0, 3], "data_offsets": [12, 12]}}),
    "a scalar": file_of({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, bytes(4)),
    "a further key": file_of(with_("a", further=1)),
    "nothing": file_of({}, b""),
}
REFUSED = {
    "an overlap": file_of(with_("b", data_offsets=[4, 8]), bytes(8)),
    "the same bytes twice": file_of({"a": A, "b": {**A}}, bytes(8)),
    "a hole": file_of(with_("b", data_offsets=[9, 13]), bytes(13)),
    "a hole at the beginning": file_of({"a": {**A, "data_offsets": [4, 12]}}),
    "more data": file_of(GOOD, bytes(13)),
    "less data": file_of(GOOD, bytes(11)),
    "offsets backwards": file_of(with_("a", data_offsets=[8, 0])),
    "one offset": file_of(with_("a", data_offsets=[8])),
    "three offsets": file_of(with_("a", data_offsets=[0, 8, 8])),
    "negative offsets": file_of(with_("a", data_offsets=[-8, 0])),
    "float offsets": file_of(with_("a", data_offsets=[0.0, 8.0])),
    "bool for int in offsets": file_of(with_("a", data_offsets=[False, 8])),
    "bool for int in a shape": file_of(with_("a", shape=[True, 2])),
    "a float in a shape": file_of(with_("a", shape=[2.0])),
    "a negative shape": file_of(with_("a", shape=[-2])),
    "two negative dimensions": file_of(with_("a", shape=[-1, -2])),
    "a text as shape": file_of(with_("a", shape="2")),
    "no shape": file_of(with_("a", shape=None)),
    "another size": file_of(with_("a", shape=[3])),
    "a shape of 4,000 digits": file_of(with_("a", shape=[10**4_000])),
    "many large dimensions": file_of(with_("a", shape=[2**62] * 1_000)),
    "an overflow to the right size": file_of(with_("a", shape=[2**62 + 2])),
    "dtype no text": file_of(with_("a", dtype=4)),
    "a list as entry": file_of({**GOOD, "c": []}),
    "Infinity": file_of(json.dumps(with_("a", shape=[float("inf")])).encode()),
    "NaN in metadata": file_of(b'{"__metadata__": {"a": NaN}}', b""),
    "numbers in metadata": file_of({**GOOD, "__metadata__": {"step": 1}}),
    "a tensor as metadata": file_of({"a": A, "__metadata__": B}),
    "a list as metadata": file_of({**GOOD, "__metadata__": []}),
    "half a character": file_of(
        b'{"\\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'
    ),
    "not UTF-8": file_of(b'{"\xff": {}}', b""),
    "a byte order mark": file_of(b"\xef\xbb\xbf{}", b""),
    "deep": file_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "a longer header than the file": (2**63).to_bytes(8, "little") + b"{}",
    "a list": file_of([], b""),
}


def located(directory: Path, content: bytes) -> dict[str, Any]:
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(content)
    return dict(locate_tensors(find_weights(directory)))


@pytest.mark.parametrize("content", TAKEN.values(), ids=TAKEN)
def test_tensors_are_where_the_library_finds_them(tmp_path, content):
    ours = {
        name: (list(each.shape), content[each.offset : each.end])
        for name, each in located(tmp_path, content).items()
    }
    theirs = dict(safetensors.deserialize(content))
    assert ours == {name: (each["shape"], bytes(each["data"])) for name, each in theirs.items()}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_the_library_refuses_is_refused(tmp_path, content):
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(content)
    with pytest.raises(CheckpointError) as raised:
        located(tmp_path, content)
    assert len(format_error(raised.value)) < 3_000


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
        b' "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"a": "1"}, "__metadata__": {"a": "2"}}',
        b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}',
    ],
    ids=["a tensor", "metadata", "a dtype"],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, header):
    with pytest.raises(CheckpointError, match=r"names the key '.*' twice"):
        located(tmp_path, file_of(header, bytes(8)))


def test_a_header_of_a_hundred_megabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    path.write_bytes((10**8).to_bytes(8, "little"))
    os.truncate(path, 1 << 30)
    with pytest.raises(CheckpointError, match="the header has more than 16,777,216 bytes"):
        locate_tensors(find_weights(tmp_path))


# --- licences ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    [
        "---\n" + "\n" * 60_000,
        "---\nlicense:" + " " * 60_000 + "\n",
        "---\nlicense: '" + "a " * 30_000,
        "---\n" + "license: \n" * 6_000 + "---",
        "---" * 20_000,
        "",
    ],
    ids=["empty lines", "spaces", "no end", "many", "dashes", "empty"],
)
def test_a_model_card_without_an_end_takes_no_time(tmp_path, card):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) is None


def test_a_licence_is_short_and_printable(tmp_path):
    (tmp_path / "README.md").write_text(
        f"---\nlicense: '\x1b[2J{'a' * 5_000}' # {'b' * 100}\n---\n"
    )
    licence = licence_of(tmp_path)
    assert licence.startswith(r"\u001b[2Jaaa")
    assert licence.isprintable() and len(licence) < 150


# --- tokenizers -------------------------------------------------------------------------------


def test_a_tokenizer_that_makes_its_library_panic_is_refused_without_its_trace(falcon, capfd):
    path = falcon / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["continuing_subword_prefix"] = "longer than any token" * 10
    path.write_text(json.dumps(tokenizer))
    assert "tokenizer.json: is not accepted by transformers (range end index" in refusal(falcon)
    assert capfd.readouterr().err == ""


def test_a_text_of_the_chat_s_is_as_long_as_a_template_may_be(falcon, tmp_path):
    (falcon / "chat_template.jinja").write_text("x" * ((1 << 20) + 1))
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: has 1,048,577 bytes"):
        write_chat(falcon, tmp_path)
