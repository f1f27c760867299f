"""Requests over plain HTTP: Triton's `generate` and `generate_stream`, as curl would send them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from scripts.soak.exchange import (
    FRONT_MODEL,
    LONG_TOKENS,
    NO_END,
    Clients,
    Exchange,
    WrongError,
    require_equal,
)

_MODEL = f"/v2/models/{FRONT_MODEL}"
_GENERATE, _STREAM = f"{_MODEL}/generate", f"{_MODEL}/generate_stream"
_ENOUGH_TOKENS = 200
_EVENT_DATA = b"data:"


async def post(clients: Clients, path: str, body: Mapping[str, Any] | bytes) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with clients.http.post(f"{clients.url}{path}", data=content) as response:
        # Triton refuses a stream with an event.
        return response.status, json.loads((await response.read()).removeprefix(_EVENT_DATA))


@asynccontextmanager
async def events(
    clients: Clients, path: str, body: Mapping[str, Any]
) -> AsyncIterator[AsyncIterator[Any]]:
    """The events of a stream; the connection is closed on leaving."""
    response = await clients.http.post(f"{clients.url}{path}", json=body)
    try:
        if response.status != 200:
            raise WrongError(f"{path} answered {response.status}: {await response.text()}")
        yield _events(response)
    finally:
        response.close()


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in response.content:
        data = line.strip().removeprefix(_EVENT_DATA).strip()
        if data and data != b"[DONE]":
            yield json.loads(data)


async def refused(
    clients: Clients, path: str, body: Mapping[str, Any] | bytes, status: int, said: str
) -> None:
    """Sends what must be refused with a status and a reason."""
    found, answer = await post(clients, path, body)
    require_equal(f"the status of {body!r} ({answer})", found, status)
    if said not in json.dumps(answer, ensure_ascii=False):
        raise WrongError(f"{body!r} was refused without {said!r}: {answer}")


def _long(prompt: str) -> dict[str, Any]:
    return {"text_input": prompt, "max_tokens": LONG_TOKENS, "end_id": NO_END}


async def _whole(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    status, answer = await post(
        clients, _GENERATE, {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS}
    )
    require_equal(f"the status of a whole answer ({answer})", status, 200)
    clients.references.require(prompt, answer["text_output"])
    require_equal("finish_reason", answer["finish_reason"], "stop")
    require_equal("tokens", answer["completion_tokens"], clients.references.tokens(prompt))


async def _short(clients: Clients) -> None:
    prompt, tokens = clients.references.prompt(clients.chance), clients.chance.randint(1, 6)
    status, answer = await post(clients, _GENERATE, {"text_input": prompt, "max_tokens": tokens})
    require_equal(f"the status of a short answer ({answer})", status, 200)
    clients.references.require(prompt, answer["text_output"], tokens)
    require_equal("finish_reason", answer["finish_reason"], "length")


async def _streamed(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    body = {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS, "stream": True}
    async with events(clients, _STREAM, body) as stream:
        received = [event async for event in stream]
    clients.references.require(prompt, "".join(event["text_output"] for event in received))
    require_equal("finish_reason", received[-1].get("finish_reason"), "stop")


async def _stopped(clients: Clients) -> None:
    prompt, request_id = clients.references.prompt(clients.chance), uuid.uuid4().hex
    body, text = {**_long(prompt), "id": request_id, "stream": True}, ""
    async with events(clients, _STREAM, body) as stream:
        async for event in stream:
            if not text:
                status, _ = await post(clients, _GENERATE, {"id": request_id, "stop": True})
                require_equal("the status of a stop", status, 200)
            text += event["text_output"]
    clients.references.require_begun(prompt, text)
    require_equal("finish_reason", event["finish_reason"], "cancelled")


async def _left_stream(clients: Clients) -> None:
    prompt, wanted = clients.references.prompt(clients.chance), clients.chance.randint(1, 30)
    text = ""
    async with events(clients, _STREAM, {**_long(prompt), "stream": True}) as stream:
        async for event in stream:
            text += event["text_output"]
            wanted -= 1
            if wanted == 0:
                break
    clients.references.require_begun(prompt, text)


async def _left_while_it_waits(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    try:
        async with asyncio.timeout(clients.chance.uniform(0.02, 1.0)):
            status, answer = await post(clients, _GENERATE, _long(prompt))
    except TimeoutError:
        return
    require_equal(f"the status of a long answer ({answer})", status, 200)
    clients.references.require_begun(prompt, answer["text_output"])


async def _half_sent(clients: Clients) -> None:
    """Leaves in the middle of its body."""
    host, _, port = clients.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {_GENERATE} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b'{"text_input": ')
    await writer.drain()
    writer.close()


_GOOD: dict[str, Any] = {"text_input": "Why is the sky blue?", "max_tokens": 5}
_MALFORMED: list[tuple[dict[str, Any] | bytes, str]] = [
    (b'{"text_input": ', "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"text_input": "a\xff", "max_tokens": 5}', "not valid UTF-8"),
    ({**_GOOD, "text_input": ""}, "text_input is empty"),
    ({**_GOOD, "text_input": 5}, "text_input must be text, not 5"),
    ({**_GOOD, "text_input": "word " * 2000}, "this engine takes"),
    ({**_GOOD, "max_tokens": 0}, "max_tokens is 0"),
    ({**_GOOD, "max_tokens": 100_000}, "max_tokens is 100000"),
    ({**_GOOD, "max_tokens": 2**32 + 5}, "max_tokens is 4294967301"),
    ({"text_input": "A"}, "max_tokens is missing"),
    ({**_GOOD, "max_token": 5}, "unknown field: max_token"),
    ({**_GOOD, "top_p": 7.0}, "top_p is 7"),
    ({**_GOOD, "end_id": 10**6}, "end_id is 1000000"),
    ({**_GOOD, "beam_width": 4}, "beam_width can only be 1"),
    ({"stop": True}, "give the id"),
]


async def _malformed(clients: Clients) -> None:
    body, said = clients.chance.choice(_MALFORMED)
    await refused(clients, clients.chance.choice([_GENERATE, _STREAM]), body, 400, said)


async def _stream_of_one_piece(clients: Clients) -> None:
    await refused(clients, _GENERATE, {**_GOOD, "stream": True}, 400, "stream")


EXCHANGES = (
    Exchange("generate", "answered", _whole, share=3),
    Exchange("generate, a few tokens", "answered", _short, share=4),
    Exchange("generate_stream", "answered", _streamed, share=4, streams=True),
    Exchange("generate_stream, stopped by its id", "answered", _stopped, share=2, streams=True),
    Exchange("generate_stream, left", "left", _left_stream, share=3, streams=True),
    Exchange("generate, left", "left", _left_while_it_waits, share=2),
    Exchange("a body that breaks off", "left", _half_sent),
    Exchange("generate, malformed", "refused", _malformed, share=4, streams=True),
    Exchange("generate, a stream of what has none", "refused", _stream_of_one_piece, streams=False),
)
