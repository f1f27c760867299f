"""Requests over plain HTTP: Triton's `generate`, and OpenAI's API.

OpenAI's official client is left out: its own work would slow the load.
"""

from __future__ import annotations

import asyncio
import json
import time
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
_COMPLETIONS, _CHAT = "/v1/completions", "/v1/chat/completions"
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
    """The events of a stream; leaving the context closes the connection."""
    started = time.perf_counter()
    response = await clients.http.post(f"{clients.url}{path}", json=body)
    try:
        if response.status != 200:
            raise WrongError(f"{path} answered {response.status}: {await response.text()}")
        yield _events(clients, response, started)
    finally:
        response.close()


async def _events(
    clients: Clients, response: aiohttp.ClientResponse, started: float
) -> AsyncIterator[Any]:
    first = True
    async for line in response.content:
        data = line.strip().removeprefix(_EVENT_DATA).strip()
        if data and data != b"[DONE]":
            event = json.loads(data)
            if first and _has_text(event):
                clients.first_token_s.append(time.perf_counter() - started)
                first = False
            yield event


def _has_text(event: Any) -> bool:
    """Whether an event has text: Triton's, a completion's or a chat's."""
    for choice in event.get("choices", [event]):
        text = choice.get("text_output") or choice.get("text")
        if text or choice.get("delta", {}).get("content"):
            return True
    return False


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


async def _generate(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    status, answer = await post(
        clients, _GENERATE, {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS}
    )
    require_equal(f"the status of a complete answer ({answer})", status, 200)
    clients.references.require(prompt, answer["text_output"])
    require_equal("finish_reason", answer["finish_reason"], "stop")
    require_equal("tokens", answer["completion_tokens"], clients.references.tokens(prompt))


async def _generate_briefly(clients: Clients) -> None:
    prompt, tokens = clients.references.prompt(clients.chance), clients.chance.randint(1, 6)
    status, answer = await post(clients, _GENERATE, {"text_input": prompt, "max_tokens": tokens})
    require_equal(f"the status of a short answer ({answer})", status, 200)
    clients.references.require(prompt, answer["text_output"], tokens)
    require_equal("finish_reason", answer["finish_reason"], "length")


async def _generate_streamed(clients: Clients) -> None:
    prompt = clients.references.prompt(clients.chance)
    body = {"text_input": prompt, "max_tokens": _ENOUGH_TOKENS, "stream": True}
    async with events(clients, _STREAM, body) as stream:
        received = [event async for event in stream]
    clients.references.require(prompt, "".join(event["text_output"] for event in received))
    require_equal("finish_reason", received[-1].get("finish_reason"), "stop")


async def _stopped(clients: Clients) -> None:
    # All have one id, by which none of them can be stopped.
    prompt, text = clients.references.prompt(clients.chance), ""
    body = {**_long(prompt), "id": "everybody's", "stream": True}
    async with events(clients, _STREAM, body) as stream:
        async for event in stream:
            if "stop_token" in event:  # the first one
                stop = {"id": "everybody's", "stop": True, "stop_token": event["stop_token"]}
                status, _ = await post(clients, _GENERATE, stop)
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


_GOOD_GENERATE: dict[str, Any] = {"text_input": "Why is the sky blue?", "max_tokens": 5}
_MALFORMED_GENERATE: list[tuple[dict[str, Any] | bytes, str]] = [
    (b'{"text_input": ', "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"text_input": "a\xff", "max_tokens": 5}', "not valid UTF-8"),
    ({**_GOOD_GENERATE, "text_input": ""}, "text_input is empty"),
    ({**_GOOD_GENERATE, "text_input": 5}, "text_input must be text, not 5"),
    ({**_GOOD_GENERATE, "text_input": "word " * 2000}, "this engine takes"),
    ({**_GOOD_GENERATE, "max_tokens": 0}, "max_tokens is 0"),
    ({**_GOOD_GENERATE, "max_tokens": 2**32 + 5}, "max_tokens is 4294967301"),
    ({"text_input": "A"}, "max_tokens is missing"),
    ({**_GOOD_GENERATE, "max_token": 5}, "unknown field: max_token"),
    ({**_GOOD_GENERATE, "top_p": 7.0}, "top_p is 7"),
    ({**_GOOD_GENERATE, "end_id": 10**6}, "end_id is 1000000"),
    ({**_GOOD_GENERATE, "beam_width": 4}, "beam_width can only be 1"),
    ({"id": "everybody's", "stop": True}, "give the stop_token"),
]


async def _malformed_generate(clients: Clients) -> None:
    body, said = clients.chance.choice(_MALFORMED_GENERATE)
    await refused(clients, clients.chance.choice([_GENERATE, _STREAM]), body, 400, said)


async def _stream_of_one_piece(clients: Clients) -> None:
    await refused(clients, _GENERATE, {**_GOOD_GENERATE, "stream": True}, 400, "stream")


_GREEDY: dict[str, Any] = {"model": FRONT_MODEL, "max_tokens": 200, "temperature": 0}


def _prompt(clients: Clients) -> str:
    return clients.references.prompt(clients.chance)


async def _complete(clients: Clients) -> None:
    prompts = [_prompt(clients) for _ in range(clients.chance.randint(1, 3))]
    status, answer = await post(clients, _COMPLETIONS, {**_GREEDY, "prompt": prompts})
    require_equal(f"the status of a completion ({answer})", status, 200)
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        clients.references.require(prompt, choice["text"])
        require_equal("finish_reason", choice["finish_reason"], "stop")
    tokens = sum(map(clients.references.tokens, prompts))
    require_equal("completion_tokens", answer["usage"]["completion_tokens"], tokens)


async def _complete_briefly(clients: Clients) -> None:
    prompt, tokens = _prompt(clients), clients.chance.randint(1, 6)
    body = {**_GREEDY, "prompt": prompt, "max_tokens": tokens, "logprobs": 1}
    status, answer = await post(clients, _COMPLETIONS, body)
    require_equal(f"the status of a short completion ({answer})", status, 200)
    (choice,) = answer["choices"]
    clients.references.require(prompt, choice["text"], tokens)
    text, _, _ = "".join(choice["logprobs"]["tokens"]).partition("bytes:")
    require_equal("the tokens' text", text, choice["text"][: len(text)])


async def _complete_streamed(clients: Clients) -> None:
    prompt = _prompt(clients)
    body = {**_GREEDY, "prompt": prompt, "stream": True}
    async with events(clients, _COMPLETIONS, body) as stream:
        choices = [chunk["choices"][0] async for chunk in stream]
    clients.references.require(prompt, "".join(choice["text"] for choice in choices))
    require_equal("finish_reason", choices[-1]["finish_reason"], "stop")


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


async def _chat(clients: Clients) -> None:
    prompt = _prompt(clients)
    status, answer = await post(clients, _CHAT, {**_GREEDY, "messages": _messages(prompt)})
    require_equal(f"the status of a chat ({answer})", status, 200)
    # The template ends where the answer begins, with the space before it.
    clients.references.require(prompt, answer["choices"][0]["message"]["content"].strip())


async def _chat_streamed(clients: Clients) -> None:
    prompt = _prompt(clients)
    # Without max_tokens an answer may reach the end of the sequence.
    body = {"model": FRONT_MODEL, "temperature": 0, "messages": _messages(prompt), "stream": True}
    async with events(clients, _CHAT, body) as stream:
        deltas = [chunk["choices"][0]["delta"] async for chunk in stream]
    clients.references.require(prompt, "".join(d.get("content") or "" for d in deltas).strip())


async def _leave_completion(clients: Clients) -> None:
    prompt, wanted = _prompt(clients), clients.chance.randint(1, 20)
    # It has its end token, so the answer may end first.
    body = {**_GREEDY, "prompt": [prompt, prompt], "max_tokens": LONG_TOKENS, "stream": True}
    texts = ["", ""]
    async with events(clients, _COMPLETIONS, body) as stream:
        async for chunk in stream:
            choice = chunk["choices"][0]
            texts[choice["index"]] += choice["text"]
            wanted -= 1
            if wanted == 0:
                break
    for text in texts:
        clients.references.require_begun(prompt, text)


_GOOD_COMPLETION: dict[str, Any] = {**_GREEDY, "prompt": "A", "max_tokens": 5}
_MALFORMED_OPENAI: list[tuple[str, dict[str, Any] | bytes, int, str]] = [
    (_COMPLETIONS, b"{", 400, "not JSON"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "model": "other"}, 404, "does not exist"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "prompt": ""}, 400, "is empty"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "prompt": [-1]}, 400, "is not a token id"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "prompt": "word " * 2000}, 400, "maximum context length"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "n": 0}, 400, "'n'"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "max_tokens": 4000}, 400, "max_tokens is 4000"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "surprise": 1}, 400, "Unknown parameter"),
    (_COMPLETIONS, {**_GOOD_COMPLETION, "temperature": "hot"}, 400, "temperature"),
    (_CHAT, {**_GREEDY, "messages": []}, 400, "messages"),
    (_CHAT, {**_GREEDY, "messages": [{"role": "tool", "content": "a"}]}, 400, "are known"),
    ("/v1/nothing", {}, 404, "Invalid URL"),
]


async def _malformed_openai(clients: Clients) -> None:
    path, body, status, said = clients.chance.choice(_MALFORMED_OPENAI)
    await refused(clients, path, body, status, said)


EXCHANGES = (
    Exchange("generate", "answered", _generate, share=3),
    Exchange("generate, a few tokens", "answered", _generate_briefly, share=4),
    Exchange("generate_stream", "answered", _generate_streamed, share=4),
    Exchange("generate_stream, stopped by its token", "answered", _stopped, share=2),
    Exchange("generate_stream, left", "left", _left_stream, share=3),
    Exchange("generate, left", "left", _left_while_it_waits, share=2),
    Exchange("a body that breaks off", "left", _half_sent),
    Exchange("generate, malformed", "refused", _malformed_generate, share=4),
    Exchange("generate, a stream of what has none", "refused", _stream_of_one_piece),
    Exchange("completions", "answered", _complete, share=2),
    Exchange("completions, a few tokens", "answered", _complete_briefly, share=3),
    Exchange("completions, streamed", "answered", _complete_streamed, share=3),
    Exchange("chat", "answered", _chat, share=2),
    Exchange("chat, streamed", "answered", _chat_streamed, share=2),
    Exchange("completions, streamed and left", "left", _leave_completion, share=2),
    Exchange("OpenAI's API, malformed", "refused", _malformed_openai, share=3),
)
