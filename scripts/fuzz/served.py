"""Malformed requests for a served model: OpenAI's API, Triton's, and HTTP itself.

Whatever comes is answered or refused as the client's fault: no status of the server's own, no
traceback, no hang. Afterwards the server answers as before, and its log has no traceback and no
failure of the engine, which would be one for all requests under way.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import load_settings
from scripts.fuzz.exploring import Failure, Outcome, explore, total
from scripts.real_triton import assembled_repository, running_as_deployed

_ROOT = Path(__file__).resolve().parents[2]
_MODEL = "tensorrt_llm_bls"
_TRACEBACK = b"Traceback (most recent call last)"
# A request that does this ends all others.
_ENGINE_FAILED = b"the engine failed in a step"
_ANSWER_S = 8.0
_PAUSE_S = 0.05
_SERVER_ERROR = 500
# Python writes no number beyond float as JSON, so this text is replaced by one.
_BEYOND_FLOAT = "beyond float"

_PROMPT = {"text_input": "Hello", "max_tokens": 2}
_MESSAGE = {"role": "user", "content": "Hello"}
_OPENAI: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": _MODEL, "prompt": "Hello", "max_tokens": 2},
    "/v1/chat/completions": {"model": _MODEL, "messages": [_MESSAGE], "max_tokens": 2},
}
_OPENAI_FIELDS = (
    *("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "top_k", "stop", "seed", "stream", "stream_options", "logprobs", "echo", "n"),
    *("presence_penalty", "repetition_penalty", "min_tokens", "logit_bias", "tools", "user"),
)
_GENERATE: dict[str, dict[str, Any]] = {
    _MODEL: _PROMPT,
    "ensemble": _PROMPT,
    "tensorrt_llm": {"input_ids": [1, 2], "input_lengths": 2, "request_output_len": 2},
    "preprocessing": {"QUERY": "Hello", "REQUEST_OUTPUT_LEN": 2},
    "postprocessing": {"TOKENS_BATCH": [1, 2], "SEQUENCE_LENGTH": [2]},
}
_GENERATE_FIELDS = (
    *("id", "text_input", "messages", "max_tokens", "bad_words", "stop_words", "end_id", "pad_id"),
    *("top_k", "top_p", "temperature", "seed", "stream", "stop", "return_log_probs", "beam_width"),
    *("input_ids", "input_lengths", "request_output_len", "stop_words_list", "bad_words_list"),
    *("runtime_top_k", "runtime_top_p", "QUERY", "MESSAGES", "BAD_WORDS_DICT", "END_ID"),
    *("TOKENS_BATCH", "SEQUENCE_LENGTH", "parameters", "connection", "sequence_id", "priority"),
)
_DATATYPES = ("BYTES", "INT32", "UINT64", "FP32", "FP16", "BOOL", "STRING", "INT4", "")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes over a connection.

    Attributes:
        content: all of its bytes.
        complete: whether the server surely knows where it ends; if not, the client ends its side
            once no more of an answer comes.
    """

    content: bytes
    complete: bool = True


def run(seed: int, examples: int) -> Outcome:
    """Serves the tiny Falcon with a real Triton, and fuzzes it."""
    with tempfile.TemporaryDirectory() as name:
        settings = load_settings(_ROOT, recipe="cpu")
        workspace = Workspace.open(_ROOT / "build" / "fuzz" / "local", Progress())
        repository = assembled_repository(settings, workspace)
        with running_as_deployed(repository, Path(name)) as (url, log):
            return against(url, log, seed, examples)


def against(url: str, log: Path, seed: int, examples: int) -> Outcome:
    """Fuzzes a server that runs already.

    Args:
        url: its HTTP.
        log: its output.
        seed: decides the requests.
        examples: how many each of the three surfaces gets.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    address = (host, int(port))

    def check(request: Request) -> None:
        _check(address, request)

    outcome = total(
        explore("served: OpenAI's API", _openai_requests(), check, seed, examples),
        explore("served: Triton's API", _triton_requests(), check, seed, examples),
        explore("served: HTTP", _http_requests(), check, seed, examples),
    )
    return total(outcome, Outcome(failures=tuple(_afterwards(address, log))))


def _check(address: tuple[str, int], request: Request) -> None:
    answer = _exchange(address, request)
    if not answer and not request.complete:
        return
    status = int(answer.split(maxsplit=2)[1])
    assert status < _SERVER_ERROR, f"the server blames itself: {answer[:300]!r}"
    # aiohttp shows a request line that is none.
    assert _TRACEBACK not in answer or _TRACEBACK in request.content, "the answer has a traceback"


def _exchange(address: tuple[str, int], request: Request) -> bytes:
    """Sends a request; gives the answer, up to the end of the connection."""
    answer = bytearray()
    with socket.create_connection(address, timeout=_ANSWER_S) as connection:
        try:
            connection.sendall(request.content)
            if not request.complete:
                with contextlib.suppress(TimeoutError):
                    connection.settimeout(_PAUSE_S)
                    _receive(connection, answer)
                connection.settimeout(_ANSWER_S)
                connection.shutdown(socket.SHUT_WR)
            _receive(connection, answer)
        except ConnectionError:
            # A server may end a connection whose request it does not want to read to its end.
            assert answer or not request.complete, "the server ended the connection"
    return bytes(answer)


def _receive(connection: socket.socket, answer: bytearray) -> None:
    while part := connection.recv(1 << 16):
        answer += part


def _afterwards(address: tuple[str, int], log: Path) -> list[Failure]:
    failures = []
    answer = _exchange(address, _post("/v1/completions", _OPENAI["/v1/completions"]))
    if b" 200 " not in answer[:20]:
        failures.append(Failure("served: afterwards", "a good request fails", repr(answer[:300])))
    logged = log.read_bytes()
    for trouble in (_TRACEBACK, _ENGINE_FAILED):
        if trouble in logged:
            found = logged.partition(trouble)[2]
            failures.append(Failure("served: its log", trouble.decode(), repr(found[:1000])))
    return failures


@cache
def _numbers() -> SearchStrategy[Any]:
    edges = (2**31 - 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**400), 0, -1)
    return st.one_of(
        st.sampled_from(edges),
        st.integers(),
        st.floats(),
        st.sampled_from([_BEYOND_FLOAT, float("nan"), float("inf"), 1e39, 1e-320]),
    )


@cache
def _texts() -> SearchStrategy[str]:
    return st.one_of(
        st.text(st.characters(), max_size=40),
        st.sampled_from(["", "\ud800", "\udc00x", "\0", "<|endoftext|>", "é" * 200, "a " * 5000]),
    )


@cache
def _values() -> SearchStrategy[Any]:
    leaf = st.one_of(st.none(), st.booleans(), _numbers(), _texts())
    nested = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5), st.dictionaries(_texts(), inner, max_size=3)
        ),
        max_leaves=8,
    )
    return st.one_of(leaf, nested, _messages(), st.integers(1, 300).map(_deep), _many())


@cache
def _many() -> SearchStrategy[list[Any]]:
    return st.tuples(st.sampled_from(["w", "", 1, None, []]), st.sampled_from([33, 129, 3000])).map(
        lambda pair: [pair[0]] * pair[1]
    )


@cache
def _messages() -> SearchStrategy[Any]:
    leaf = st.one_of(st.none(), _texts(), _numbers(), st.lists(_texts(), max_size=2))
    part = st.fixed_dictionaries({}, optional={"type": st.just("text"), "text": leaf})
    role = st.one_of(st.sampled_from(["user", "system", "assistant", "developer", "tool"]), leaf)
    content = st.one_of(leaf, st.lists(part, max_size=3))
    message = st.fixed_dictionaries({}, optional={"role": role, "content": content})
    messages = st.lists(message, max_size=4)
    return st.one_of(messages, messages.map(lambda value: json.dumps(value)))


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def _changed(base: Mapping[str, Any], names: tuple[str, ...]) -> SearchStrategy[dict[str, Any]]:
    """A right body with some fields of other values, some missing, some unknown."""
    name = st.one_of(st.sampled_from(names), _texts())
    changes = st.dictionaries(name, _values(), max_size=3)
    missing = st.sets(st.sampled_from(sorted(base)), max_size=1)
    return st.builds(
        lambda changes, missing: {
            name: value for name, value in {**base, **changes}.items() if name not in missing
        },
        changes,
        missing,
    )


@cache
def _tensors() -> SearchStrategy[Any]:
    shape = st.one_of(
        st.sampled_from([[1, 1], [1], [], [1, -1], [2**62, 4], [1, 10**7]]), _values()
    )
    data = st.one_of(st.sampled_from([["Hello"], [1], [1, 2], [[1]], []]), _values())
    fields = {
        "name": st.one_of(st.sampled_from(sorted(_GENERATE_FIELDS)), _values()),
        "shape": shape,
        "datatype": st.one_of(st.sampled_from(_DATATYPES), _values()),
        "data": data,
        "parameters": st.one_of(st.just({"binary_data_size": 4}), _values()),
    }
    return st.one_of(st.fixed_dictionaries({}, optional=fields), _values())


@cache
def _infer_bodies() -> SearchStrategy[dict[str, Any]]:
    right = [
        {"name": "QUERY", "shape": [1, 1], "datatype": "BYTES", "data": ["Hello"]},
        {"name": "REQUEST_OUTPUT_LEN", "shape": [1, 1], "datatype": "INT32", "data": [2]},
    ]
    added = st.lists(_tensors(), max_size=2).map(lambda tensors: [*right, *tensors])
    other = st.fixed_dictionaries(
        {"inputs": st.one_of(added, st.lists(_tensors(), max_size=3), _values())},
        optional={"id": _values(), "parameters": _values(), "outputs": st.lists(_tensors())},
    )
    return st.one_of(other, _changed({"inputs": right}, ("id", "parameters", "outputs")))


def _openai_requests() -> SearchStrategy[Request]:
    return st.one_of(
        [_posts(path, _changed(body, _OPENAI_FIELDS).map(_json)) for path, body in _OPENAI.items()]
    )


def _triton_requests() -> SearchStrategy[Request]:
    infer = _infer_bodies().map(_json)
    posts = [_posts(f"/v2/models/{model}/infer", infer) for model in _GENERATE]
    for model, body in _GENERATE.items():
        changed = _changed(body, _GENERATE_FIELDS).map(_json)
        for verb in ("generate", "generate_stream"):
            posts.append(_posts(f"/v2/models/{model}/{verb}", changed))
    return st.one_of(posts)


def _posts(path: str, bodies: SearchStrategy[bytes]) -> SearchStrategy[Request]:
    """Requests with these bodies; some are compressed, and some of those are no gzip."""
    headers: SearchStrategy[dict[str, str]] = st.one_of(
        st.just({}),
        st.sampled_from(
            [
                {"Content-Encoding": "gzip"},
                {"Content-Encoding": "junk"},
                {"Inference-Header-Content-Length": "20"},
                {"Inference-Header-Content-Length": "-1"},
                {"Content-Type": "text/plain"},
            ]
        ),
    )
    return st.builds(
        lambda body, headers, compressed: _framed(
            path, gzip.compress(body) if compressed else body, headers
        ),
        bodies,
        headers,
        st.booleans() if path == "/v1/completions" else st.just(False),
    )


def _http_requests() -> SearchStrategy[Request]:
    """Wrong methods, targets, headers, framing; bodies that are no JSON."""
    paths = st.sampled_from([*_OPENAI, "/v2/models/ensemble/generate", "/v2", "/metrics", "/v1/x"])
    targets = st.one_of(
        paths,
        paths.map(lambda path: f"http://elsewhere{path}"),
        st.sampled_from(["*", "elsewhere:80", "/%", "/v2/models/%00/infer", "//v2", "/v2/../v1"]),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40),
    )
    methods = st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "X"])
    names = st.sampled_from(
        [
            *("Transfer-Encoding", "Content-Encoding", "Content-Length", "Expect", "Connection"),
            *("Host", "Upgrade", "Accept-Encoding", "X-Request-Id", "Content-Type", "X-Other"),
        ]
    )
    values = st.one_of(
        st.sampled_from(
            ["chunked", "gzip", "-1", "100-continue", "upgrade", "close", "9" * 30, ""]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30),
    )
    head = st.builds(
        lambda method, target, headers: (
            f"{method} {target} HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers)
            + "\r\n"
        ).encode("latin-1"),
        methods,
        targets,
        st.lists(st.tuples(names, values), max_size=4),
    )
    bodies = st.one_of(
        st.binary(max_size=60), st.sampled_from([b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n"])
    )
    pieces = st.tuples(st.one_of(head, st.binary(max_size=60)), bodies).map(b"".join)
    no_json = st.one_of(
        st.binary(max_size=60),
        st.sampled_from(
            [b"[" * 200_000, b'{"a":' * 5_000, b"[],", b"null", b'"', b"\xef\xbb\xbf{}"]
        ),
    )
    return st.one_of(
        pieces.map(lambda content: Request(content, complete=False)),
        st.builds(lambda path, body: _framed(path, body, {}), paths, no_json),
    )


def _post(path: str, body: Mapping[str, Any]) -> Request:
    return _framed(path, _json(body), {})


def _framed(path: str, body: bytes, headers: Mapping[str, str]) -> Request:
    own = {"Host": "x", "Connection": "close", "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**own, **headers}.items())
    return Request(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)


def _json(value: Any) -> bytes:
    text = json.dumps(value).replace(f'"{_BEYOND_FLOAT}"', "1e400")
    return text.encode("ascii")
