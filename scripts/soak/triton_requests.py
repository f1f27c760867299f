"""Requests by NVIDIA's own client library, over gRPC and over HTTP.

Over HTTP it has no `generate`: it calls `infer`, of the front model and of `preprocessing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException

from scripts.soak.exchange import (
    FRONT_MODEL,
    LONG_TOKENS,
    NO_END,
    Clients,
    Exchange,
    WrongError,
    require_equal,
)

_ENOUGH_TOKENS = 200
_TYPES: dict[type, tuple[str, Any]] = {
    str: ("BYTES", np.object_),
    int: ("INT32", np.int32),
    bool: ("BOOL", np.bool_),
}


def _inputs(library: Any, values: dict[str, Any]) -> list[Any]:
    inputs = []
    for name, value in values.items():
        kind, numpy_kind = _TYPES[type(value)]
        inputs.append(library.InferInput(name, [1, 1], kind))
        content = value.encode() if isinstance(value, str) else value
        inputs[-1].set_data_from_numpy(np.array([[content]], numpy_kind))
    return inputs


def _stream(clients: Clients, values: dict[str, Any]) -> Any:
    """A cancellable iterator of pairs of a result and an error."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": FRONT_MODEL, "inputs": _inputs(grpc, values)}

    return clients.triton_grpc.stream_infer(requests())


def _text(result: Any) -> str:
    return str(result.as_numpy("text_output")[0].decode())


async def _streamed(clients: Clients) -> None:
    await _grpc_answer(clients, stream=True)


async def _in_one_response(clients: Clients) -> None:
    await _grpc_answer(clients, stream=False)


async def _grpc_answer(clients: Clients, *, stream: bool) -> None:
    prompt = clients.references.prompt(clients.chance)
    values = {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS, "stream": stream}
    results = []
    async for result, error in _stream(clients, values):
        if error is not None:
            raise WrongError(f"{prompt!r} over gRPC: {error}")
        results.append(result)
    clients.references.require(prompt, "".join(map(_text, results)))
    require_equal("finish_reason", results[-1].as_numpy("finish_reason").tolist(), [[b"stop"]])


async def _cancelled(clients: Clients) -> None:
    prompt, wanted = clients.references.prompt(clients.chance), clients.chance.randint(1, 30)
    values = {"text_input": prompt, "max_tokens": LONG_TOKENS, "end_id": NO_END, "stream": True}
    responses, text = _stream(clients, values), ""
    async for result, error in responses:
        if error is not None:
            raise WrongError(f"{prompt!r} over gRPC: {error}")
        text += _text(result)
        wanted -= 1
        if wanted == 0:
            responses.cancel()
            break
    clients.references.require_begun(prompt, text)


async def _malformed_stream(clients: Clients) -> None:
    values, said = clients.chance.choice(_MALFORMED)
    async for _, error in _stream(clients, {**values, "stream": True}):
        if error is None:
            raise WrongError(f"{values} was answered over gRPC")
        _require_said(values, error, said)


_MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"text_input": "", "max_tokens": 5}, "text_input is empty"),
    ({"text_input": "A", "max_tokens": 0}, "max_tokens is 0"),
    ({"text_input": "word " * 2000, "max_tokens": 5}, "this engine takes"),
    ({"text_input": "A", "max_tokens": 5, "surprise": 1}, "unexpected inference input 'surprise'"),
    ({"text_input": "A", "max_tokens": True}, "data-type"),
]


def _require_said(sent: Any, error: InferenceServerException, said: str) -> None:
    if said not in str(error):
        raise WrongError(f"{sent} was refused without {said!r}: {error}")


async def _malformed_infer(clients: Clients) -> None:
    values, said = clients.chance.choice(_MALFORMED_INFER)
    try:
        await clients.triton_http.infer(FRONT_MODEL, _inputs(http, values))
    except InferenceServerException as error:
        if error.status() != "400":
            raise WrongError(f"an infer was refused with {error.status()}: {error}") from None
        _require_said(values, error, said)
    else:
        raise WrongError(f"an infer was answered that had to be refused with {said!r}")


# The front's own words, where it sees what is wrong before Triton.
_MALFORMED_INFER = [
    *_MALFORMED[:-2],
    ({"text_input": "A", "max_tokens": 5, "surprise": 1}, "unexpected input 'surprise'"),
    ({"text_input": "A", "max_tokens": True}, "max_tokens is INT32, not BOOL"),
]


async def _preprocessed(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    inputs = _inputs(http, {"QUERY": prompt, "REQUEST_OUTPUT_LEN": 5})
    result = await clients.triton_http.infer("preprocessing", inputs)
    require_equal(
        "INPUT_ID", result.as_numpy("INPUT_ID")[0].tolist(), clients.references.ids(prompt)
    )


async def _inferred(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    inputs = _inputs(http, {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS})
    result = await clients.triton_http.infer(FRONT_MODEL, inputs)
    clients.references.require(prompt, _text(result))


EXCHANGES = (
    Exchange("gRPC stream", "answered", _streamed, share=4),
    Exchange("gRPC stream, one response", "answered", _in_one_response, share=2),
    Exchange("gRPC stream, cancelled", "left", _cancelled, share=3),
    Exchange("gRPC stream, malformed", "refused", _malformed_stream, share=3),
    Exchange("tritonclient HTTP, preprocessing", "answered", _preprocessed),
    Exchange("tritonclient HTTP", "answered", _inferred, share=4),
    Exchange("tritonclient, malformed", "refused", _malformed_infer, share=3),
)
