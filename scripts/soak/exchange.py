"""The requests of the soak: how they are sent, and their expected outcome."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import aiohttp
from tokenizers import Tokenizer

FRONT_MODEL = "tensorrt_llm_bls"
# Long enough to disconnect in the middle; no end token ends it.
LONG_TOKENS = 400
# What TensorRT-LLM takes for no end token.
NO_END = -1

Outcome = Literal["answered", "left", "refused"]


class WrongError(Exception):
    """A request ended otherwise than it must; the message says how."""


class References:
    """The greedy answers of transformers, complete and cut after some tokens.

    Args:
        checkpoint: has `sentences.json`, the answers, and `tokenizer.json`.
    """

    def __init__(self, checkpoint: Path) -> None:
        recorded = json.loads((checkpoint / "sentences.json").read_text(encoding="utf-8"))
        self._answers: dict[str, str] = {
            each["prompt"]: each["answer"] for each in recorded["sentences"]
        }
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self._tokens = {prompt: self.ids(answer) for prompt, answer in self._answers.items()}

    def prompt(self, chance: Random) -> str:
        """One of the prompts."""
        return chance.choice(list(self._answers))

    def ids(self, text: str) -> list[int]:
        """A text's tokens, by the tokenizers library."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def tokens(self, prompt: str) -> int:
        """How many tokens the complete answer has."""
        return len(self._tokens[prompt])

    def answer(self, prompt: str, tokens: int | None = None) -> str:
        """The answer, or its first tokens, without an unfinished character."""
        if tokens is None or tokens >= self.tokens(prompt):
            return self._answers[prompt]
        return str(self._tokenizer.decode(self._tokens[prompt][:tokens])).rstrip("\ufffd")

    def require(self, prompt: str, text: str, tokens: int | None = None) -> None:
        """Checks an answer's text.

        Raises:
            WrongError: it is another one.
        """
        if text != (expected := self.answer(prompt, tokens)):
            raise WrongError(f"{prompt!r} was answered {text!r} instead of {expected!r}")

    def require_begun(self, prompt: str, text: str) -> None:
        """Checks the text so far of an answer that has no end token.

        Raises:
            WrongError: it is the beginning of another one.
        """
        answer = self.answer(prompt)
        if not (text.startswith(answer) or answer.startswith(text)):
            raise WrongError(f"{prompt!r} was answered {text!r}, which does not begin {answer!r}")


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients that send requests.

    Attributes:
        url: the server's HTTP, which is the front's.
        http: for plain HTTP.
        triton_http: `tritonclient.http.aio`.
        triton_grpc: `tritonclient.grpc.aio`.
        references: the right answers.
        chance: draws the next request.
        first_token_s: takes the seconds from a stream's request to its first text.
    """

    url: str
    http: aiohttp.ClientSession
    triton_http: Any
    triton_grpc: Any
    references: References
    chance: Random
    first_token_s: list[float]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A kind of request.

    Attributes:
        name: for the report.
        outcome: the expected outcome.
        send: sends one request, and raises WrongError after another outcome.
        share: how often it is sent, compared with the others.
    """

    name: str
    outcome: Outcome
    send: Callable[[Clients], Awaitable[None]]
    share: int = 1


def require_equal(what: str, found: object, expected: object) -> None:
    """Checks a value.

    Raises:
        WrongError: it is another one.
    """
    if found != expected:
        raise WrongError(f"{what} is {found!r} instead of {expected!r}")
