"""The readers of Triton configurations, engines, records of earlier runs, and archives."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from falconry.artifact.contents import Contents
from falconry.digests import DigestCache
from falconry.endpoint.endpoint import Endpoint
from falconry.endpoint.errors import RefusedError, StreamFailureError, json_object
from falconry.endpoint.events import BadStreamError, events_of, text_of
from falconry.engine.manifest import EngineLimits, read_manifest
from falconry.engine.tensorrt_llm.build_log import BuildLog
from falconry.engine.tensorrt_llm.engine_config import EngineConfig
from falconry.pipeline import changed_inputs, read_receipt
from falconry.repository.config import verify_repository
from local_oci.runtime.artifact import ArtifactError, unpack
from scripts.fuzz.mutations import damaged_bytes, damaged_json, damaged_text
from scripts.fuzz.surfaces import ROOT, TINY_FALCON, Surface, read_or_refuse

_MODELS = sorted(path.parent.name for path in ROOT.glob("model_repository/*/config.pbtxt"))


@st.composite
def _damaged_model(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(_MODELS))
    content = (ROOT / "model_repository" / name / "config.pbtxt").read_bytes()
    return name, draw(damaged_text([content]))


def _repository(work: Path, damage: tuple[str, bytes]) -> None:
    """An ensemble with its models; any other model alone."""
    name, content = damage
    repository, models = work / name, [name] if name != "ensemble" else _MODELS
    if not repository.exists():
        for model in models:
            shutil.copytree(ROOT / "model_repository" / model, repository / model)
    (repository / name / "config.pbtxt").write_bytes(content)
    read_or_refuse(lambda: verify_repository(repository))


_ENGINE_FILES = {
    "manifest.json": {
        "format": 1,
        "key": "a" * 64,
        "builder": "openvino",
        "description": "an engine",
        "toolchain": {"openvino": "2026.4"},
        "ingredients": {"recipe": "sha256:0"},
        "files": {"engine.json": {"size": 2, "sha256": "sha256:0"}},
        "gpu": None,
    },
    "build.json": {"built_at": "2026-01-01T00:00:00+00:00", "seconds": 1.5, "host": "here"},
    "engine.json": {
        "max_batch_size": 8,
        "max_input_len": 100,
        "max_seq_len": 128,
        "end_id": 1,
        "pad_id": 0,
    },
    "config.json": {
        "version": "1.0.0",
        "pretrained_config": {
            "architecture": "FalconForCausalLM",
            "dtype": "bfloat16",
            "vocab_size": 65024,
            "hidden_size": 4544,
            "intermediate_size": 18176,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_key_value_heads": 1,
            "head_size": 64,
            "norm_epsilon": 1e-5,
            "position_embedding_type": "rope_gpt_neox",
            "bias": False,
            "max_position_embeddings": 2048,
            "rotary_base": 10000.0,
            "parallel_attention": True,
            "new_decoder_architecture": False,
            "mapping": {"world_size": 1, "tp_size": 1},
            "quantization": {"quant_algo": None},
        },
        "build_config": {
            "max_batch_size": 8,
            "max_input_len": 1024,
            "max_seq_len": 2048,
            "max_num_tokens": 4096,
            "max_beam_width": 1,
            "plugin_config": {"remove_input_padding": True, "context_fmha": True},
        },
    },
    "receipt.json": {
        "stage": "engine",
        "key": "a" * 64,
        "output": "x",
        "ingredients": {"recipe": "b"},
        "files": {"engine.json": "sha256:0"},
    },
    "contents.json": {"format": 1, "files": [{"name": "a", "size": 1, "sha256": "x", "crc32": 0}]},
    "digests.json": {"1:2": [1, 2, 3, "sha256:0"]},
}


@st.composite
def _damaged_record(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(_ENGINE_FILES)))
    return name, draw(damaged_json(_ENGINE_FILES[name]))


def _record(work: Path, damage: tuple[str, bytes]) -> None:
    """An engine's files, and the records that runs leave for the next."""
    name, content = damage
    path = work / name
    path.write_bytes(content)
    if name == "manifest.json":
        read_or_refuse(lambda: read_manifest(work))
    elif name == "engine.json":
        read_or_refuse(lambda: EngineLimits.read(work))
    elif name == "config.json":
        config = read_or_refuse(lambda: EngineConfig.read(work))
        assert config is None or config.longest_prompt(True) is not None
    elif name == "receipt.json":
        receipt = read_receipt(path)
        changed_inputs(receipt.ingredients if receipt else None, {"recipe": "c"})
    elif name == "contents.json":
        found = read_or_refuse(lambda: Contents.read(path))
        assert found is None or found.digest
    else:
        digests = DigestCache(path)
        digests.file(TINY_FALCON / "config.json")
        digests.save()


_LOG_LINES = (
    b'::falconry::{"phase": "build", "step": "building", "fraction": 0.5}\n',
    b'::falconry::{"status": 1, "error": "trtllm-build failed"}\n',
    b"Traceback (most recent call last)\n  File x\nValueError: no\n",
    b"[E] CUDA error: out of memory\nbuild.py: error: argument --x: invalid choice: 'y'\n",
)


def _build_log(work: Path, content: bytes) -> None:
    log = BuildLog()
    for step in log.read(content):
        assert 0 <= step.fraction <= 1
    problem, remedy = log.cause(1, False)
    assert problem and remedy


_EVENTS = (
    b'data: {"text_output": "a", "model_name": "x"}\n\n',
    b'event: error\r\ndata: {"error": "no"}\r\n\r\n',
    b"\xef\xbb\xbfdata: [DONE]\n\n",
    b'{"code": "TooManyRequests", "message": "request-rate"}',
    b'{"outputs": [{"name": "text_output", "data": ["a"]}]}',
    b'{"ErrorCode": "RequestTimeout", "ErrorMessage": "silent"}',
    b"[" * 100_000,
)


def _answer(work: Path, content: bytes) -> None:
    """What a deployment answers: streams, refusals, failures and texts."""
    with contextlib.suppress(BadStreamError):
        list(events_of([content[:9], content[9:]]))
    for charset in ("utf-8", "utf-16", "idna"):
        with contextlib.suppress(BadStreamError):
            list(text_of([content[:9], content[9:]], charset))
    text = content.decode("utf-8", "replace")
    for error in (
        RefusedError("http://127.0.0.1/predict", 500, "Error", None, text),
        StreamFailureError("http://127.0.0.1/predict", text),
    ):
        read_or_refuse(functools.partial(_raise, error))
    read_or_refuse(lambda: _endpoint().text_of(json_object(content) or {}))


def _raise(error: Exception) -> None:
    raise error


@functools.cache
def _endpoint() -> Endpoint:
    return Endpoint("http://127.0.0.1", lambda request: request)


_NAMES = (
    *(
        "model_repository/a/1/x",
        "a",
        "a/b",
        "a/",
        "../x",
        "/etc/x",
        "a/../../x",
        "..",
        ".",
        "",
        "//",
    ),
    *("a\\b", "C:\\x", "a\x00b", "x" * 300, "ä", "\x1b[2J", "d/" * 100 + "x", "a/./b", "./a"),
)


@st.composite
def _archive(draw: st.DrawFn) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        for name in draw(st.lists(st.sampled_from(_NAMES) | st.text(max_size=8), max_size=4)):
            member = zipfile.ZipInfo("x")
            member.filename = name
            member.external_attr = draw(st.sampled_from((0o644, 0o100755, 0o120777, 0o10644))) << 16
            member.compress_type = draw(
                st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
            )
            with contextlib.suppress(UnicodeEncodeError), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
                package.writestr(member, draw(st.binary(max_size=20)))
    complete = content.getvalue()
    return draw(damaged_bytes(complete)) if draw(st.integers(0, 3)) else complete


def _unpack(work: Path, content: bytes) -> None:
    archive, target = work / "artifact.zip", work / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    archive.write_bytes(content)
    try:
        unpack(archive, target)
    except ArtifactError as error:
        assert str(error), "no reason"
        assert not target.exists(), "what was unpacked stays after a failure"
    else:
        assert all(not path.is_symlink() for path in target.rglob("*")), "a link"
    assert {path.name for path in work.iterdir()} <= {archive.name, target.name}, "outside"


def surfaces() -> Iterator[Surface]:
    """Every reader of this module."""
    yield Surface("config.pbtxt", _damaged_model(), _repository)
    yield Surface("engines and records", _damaged_record(), _record)
    yield Surface("a build's log", damaged_bytes(*_LOG_LINES, b"".join(_LOG_LINES)), _build_log)
    yield Surface("answers of a deployment", damaged_bytes(*_EVENTS), _answer)
    yield Surface("archives", _archive(), _unpack)
