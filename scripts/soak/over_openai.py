"""Requests to OpenAI's API as bare JSON; the official client's own work would slow the load."""

from __future__ import annotations

from typing import Any

from scripts.soak.exchange import (
    FRONT_MODEL,
    LONG_TOKENS,
    Clients,
    Exchange,
    require_equal,
)
from scripts.soak.http_requests import events, post, refused

_COMPLETIONS, _CHAT = "/v1/completions", "/v1/chat/completions"
_GREEDY: dict[str, Any] = {"model": FRONT_MODEL, "max_tokens": 200, "temperature": 0}


def _prompt(clients: Clients) -> str:
    return clients.references.prompt(clients.chance)


async def _completion(clients: Clients) -> None:
    prompts = [_prompt(clients) for _ in range(clients.chance.randint(1, 3))]
    status, answer = await post(clients, _COMPLETIONS, {**_GREEDY, "prompt": prompts})
    require_equal(f"the status of a completion ({answer})", status, 200)
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        clients.references.require(prompt, choice["text"])
        require_equal("finish_reason", choice["finish_reason"], "stop")
    tokens = sum(map(clients.references.tokens, prompts))
    require_equal("completion_tokens", answer["usage"]["completion_tokens"], tokens)


async def _short(clients: Clients) -> None:
    prompt, tokens = _prompt(clients), clients.chance.randint(1, 6)
    body = {**_GREEDY, "prompt": prompt, "max_tokens": tokens, "logprobs": 1}
    status, answer = await post(clients, _COMPLETIONS, body)
    require_equal(f"the status of a short completion ({answer})", status, 200)
    (choice,) = answer["choices"]
    clients.references.require(prompt, choice["text"], tokens)
    told, _, _ = "".join(choice["logprobs"]["tokens"]).partition("bytes:")
    require_equal("the tokens' text", told, choice["text"][: len(told)])


async def _streamed(clients: Clients) -> None:
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
    # It says no max_tokens, which lets it go on to the end of the sequence.
    body = {"model": FRONT_MODEL, "temperature": 0, "messages": _messages(prompt), "stream": True}
    async with events(clients, _CHAT, body) as stream:
        deltas = [chunk["choices"][0]["delta"] async for chunk in stream]
    clients.references.require(prompt, "".join(d.get("content") or "" for d in deltas).strip())


async def _left(clients: Clients) -> None:
    prompt, wanted = _prompt(clients), clients.chance.randint(1, 20)
    # It has its end token, so the answer may be over first.
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


_GOOD: dict[str, Any] = {**_GREEDY, "prompt": "A", "max_tokens": 5}
_REFUSED: list[tuple[str, dict[str, Any] | bytes, int, str]] = [
    (_COMPLETIONS, b"{", 400, "not JSON"),
    (_COMPLETIONS, {**_GOOD, "model": "other"}, 404, "does not exist"),
    (_COMPLETIONS, {**_GOOD, "prompt": ""}, 400, "text_input is empty"),
    (_COMPLETIONS, {**_GOOD, "prompt": [1, 2]}, 400, "token ids"),
    (_COMPLETIONS, {**_GOOD, "prompt": "word " * 2000}, 400, "this engine takes"),
    (_COMPLETIONS, {**_GOOD, "n": 2}, 400, "'n'"),
    (_COMPLETIONS, {**_GOOD, "max_tokens": 4000}, 400, "max_tokens is 4000"),
    (_COMPLETIONS, {**_GOOD, "surprise": 1}, 400, "Unknown parameter"),
    (_COMPLETIONS, {**_GOOD, "temperature": "hot"}, 400, "temperature"),
    (_CHAT, {**_GREEDY, "messages": []}, 400, "messages"),
    (_CHAT, {**_GREEDY, "messages": [{"role": "tool", "content": "a"}]}, 400, "role"),
    ("/v1/nothing", {}, 404, "Invalid URL"),
]


async def _malformed(clients: Clients) -> None:
    path, body, status, said = clients.chance.choice(_REFUSED)
    await refused(clients, path, body, status, said)


EXCHANGES = (
    Exchange("completions", "answered", _completion, share=2),
    Exchange("completions, a few tokens", "answered", _short, share=3),
    Exchange("completions, streamed", "answered", _streamed, share=3, streams=True),
    Exchange("chat", "answered", _chat, share=2),
    Exchange("chat, streamed", "answered", _chat_streamed, share=2, streams=True),
    Exchange("completions, streamed and left", "left", _left, share=2, streams=True),
    Exchange("OpenAI's API, malformed", "refused", _malformed, share=3),
)
