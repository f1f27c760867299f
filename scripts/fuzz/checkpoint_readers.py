"""The readers of checkpoints: each of their files, and all of them together."""

from __future__ import annotations

import functools
import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
from hypothesis import strategies as st

from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.files import find_weights, licence_of
from falconry.checkpoint.reader import read_checkpoint
from falconry.checkpoint.source import CheckpointSource
from falconry.checkpoint.tensors import locate_tensors
from falconry.checkpoint.tokenizer import find_chat, read_tokenizer
from falconry.digests import DigestCache
from falconry.engine.spec import Recipe, check, engine_spec, read_recipe
from falconry.engine.tensorrt_llm.container_view import container_view
from scripts.fuzz.mutations import damaged_bytes, damaged_json, damaged_text
from scripts.fuzz.surfaces import ROOT, TINY_FALCON, Surface, read_or_refuse, texts

_CHECKPOINTS = (TINY_FALCON, *sorted((ROOT / "tests/data/checkpoints").glob("falcon*")))
_JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")


def _tiny(name: str) -> Any:
    return json.loads((TINY_FALCON / name).read_text(encoding="utf-8"))


def _base(name: str) -> list[Any]:
    paths = [checkpoint / name for checkpoint in _CHECKPOINTS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _configuration(work: Path, files: tuple[bytes, bytes]) -> None:
    for name, content in zip(_JSON_FILES, files, strict=False):
        (work / name).write_bytes(content)
    found = read_or_refuse(lambda: read_configuration(work))
    if found:
        ids = (found.pad_id, *found.end_ids)
        assert all(0 <= each < found.architecture.vocab_size for each in ids)


_TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
_HEADER = {
    "a": _TENSOR,
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    "c": {"dtype": "F16", "shape": [0, 4], "data_offsets": [22, 22]},
    "__metadata__": {"format": "pt"},
}
_DATA = bytes(range(22))


@st.composite
def _safetensors(draw: st.DrawFn) -> bytes:
    header = draw(damaged_json(_HEADER))
    data = draw(st.sampled_from((_DATA, _DATA, _DATA, _DATA[:-1], _DATA + b"\0", b"")))
    length = draw(st.sampled_from((0, 0, 0, 0, 0, 1, -1, 2**62, 10**8)))
    content = ((len(header) + length) % 2**64).to_bytes(8, "little") + header + data
    return draw(damaged_bytes(content)) if draw(st.integers(0, 9)) == 0 else content


def _tensors(work: Path, content: bytes) -> None:
    """Compares with the library; ours takes fewer element types, and no key twice."""
    path = work / "model.safetensors"
    path.write_bytes(content)
    (work / "config.json").write_bytes(b"{}")
    found = read_or_refuse(lambda: locate_tensors(find_weights(work)))
    try:
        theirs = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        assert found is None, f"the library refuses it: {error}"
        return
    if found is None:
        known = all(each["dtype"] in ("F32", "F16", "BF16") for each in theirs.values())
        assert not known or _is_strict(content), "the library takes it"
        return
    ours = {
        name: (list(each.shape), content[each.offset : each.end]) for name, each in found.items()
    }
    assert ours == {name: (each["shape"], bytes(each["data"])) for name, each in theirs.items()}


def _is_strict(content: bytes) -> bool:
    """Whether a header holds what only we refuse: keys twice, numbers that are no double."""
    seen = []
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    json.loads(header, object_pairs_hook=lambda pairs: seen.append(len(pairs) > len(dict(pairs))))
    return any(seen)


def _index(work: Path, content: bytes) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        header = json.dumps({name[0]: _TENSOR}).encode()
        (work / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    (work / "config.json").write_bytes(b"{}")
    (work / "model.safetensors.index.json").write_bytes(content)
    read_or_refuse(lambda: locate_tensors(find_weights(work)))


def _small_tokenizer() -> dict[str, Any]:
    document: dict[str, Any] = _tiny("tokenizer.json")
    document["model"]["merges"] = document["model"]["merges"][:3]
    return document


def _tokenizer(work: Path, content: bytes) -> None:
    (work / "tokenizer.json").write_bytes(content)
    read_or_refuse(lambda: read_tokenizer(work, 1_024))


_CHAT_SETTINGS = {
    "chat_template": [{"name": "default", "template": "{{ 1 }}"}, {"name": "x", "template": ""}],
    "eos_token": {"content": "<|endoftext|>"},
    "bos_token": "x",
}


def _chat(work: Path, files: tuple[bytes, bytes | None]) -> None:
    settings, template = files
    (work / "tokenizer_config.json").write_bytes(settings)
    own = work / "chat_template.jinja"
    own.unlink(missing_ok=True)
    if template is not None:
        own.write_bytes(template)
    chat = read_or_refuse(lambda: find_chat(work))
    if chat:
        tokens = chat["special_tokens"].values()
        assert all(isinstance(each, str) for each in (chat["template"], *tokens))


def _licence(work: Path, content: bytes) -> None:
    (work / "README.md").write_bytes(content)
    licence = read_or_refuse(lambda: licence_of(work))
    assert licence is None or len(licence) < 1_000
    assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in licence or "")


@functools.cache
def _digests(work: Path) -> DigestCache:
    """Knows the files that are links to the same ones for each input."""
    return DigestCache(work / "digests")


@st.composite
def _damaged_checkpoint(draw: st.DrawFn) -> tuple[str, str, bytes]:
    name = draw(st.sampled_from((*_JSON_FILES, "tokenizer.json", "model.safetensors")))
    how = draw(st.sampled_from(("content", "content", "absent", "directory", "loop", "outside")))
    if how != "content":
        return name, how, b""
    if name == "model.safetensors":
        return name, how, draw(damaged_bytes((TINY_FALCON / name).read_bytes()[:6_000]))
    return (
        name,
        how,
        draw(damaged_json(_tiny(name))),
    )


def _checkpoint(work: Path, damage: tuple[str, str, bytes]) -> None:
    """All readers of one checkpoint in which one file is damaged."""
    damaged, how, content = damage
    directory, outside = work / "checkpoint", work / "outside"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for path in TINY_FALCON.iterdir():
        if path.name != damaged:
            (directory / path.name).hardlink_to(path)
    path = directory / damaged
    if how == "content":
        path.write_bytes(content)
    elif how == "directory":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    elif how == "outside":
        shutil.copyfile(TINY_FALCON / damaged, outside)
        path.symlink_to(outside)
    checkpoint = read_or_refuse(lambda: read_checkpoint(directory))
    view = read_or_refuse(lambda: container_view(directory))
    read_or_refuse(lambda: CheckpointSource(None, directory).digest(_digests(work)))
    if how == "outside":
        assert view is None, "a link out of the checkpoint is in the container's view"
    if checkpoint:
        read_or_refuse(
            lambda: check(engine_spec(checkpoint, read_recipe("cpu", Recipe, "openvino")))
        )


def surfaces() -> Iterator[Surface]:
    """Every reader of this module."""
    configs, generation = damaged_json(*_base("config.json")), _base("generation_config.json")
    both = st.tuples(configs, st.just(b"{}") | damaged_json(*generation))
    yield Surface("config.json, generation_config.json", both, _configuration)
    yield Surface("model.safetensors", _safetensors(), _tensors)
    index = {"metadata": {}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    yield Surface("model.safetensors.index.json", damaged_json(index), _index)
    yield Surface("tokenizer.json", damaged_json(_small_tokenizer()), _tokenizer)
    chat = damaged_json(_CHAT_SETTINGS, {"chat_template": "{{ 1 }}"}), st.none() | st.binary()
    yield Surface("chat templates", st.tuples(*chat), _chat)
    yield Surface("licence in README.md", damaged_text(texts("checkpoints/*/README.md")), _licence)
    yield Surface("a checkpoint", _damaged_checkpoint(), _checkpoint)
