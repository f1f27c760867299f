"""Objects of OpenAI's answers: completions and chat completions, complete and in chunks.

Names and fields are those of openai-python 3.54.0 (types/completion.py, types/chat/
chat_completion.py, types/chat/chat_completion_chunk.py).
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from front_model import Chunk, Usage
from typing_extensions import override

from .logprobs import ShownToken, ShownTokens, chat_log_probs, completion_log_probs

DONE = b"data: [DONE]\n\n"

# A value as JSON on one line, with text as it is.
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is the same in all chunks of an answer.

    Attributes:
        created: seconds of Unix time.
        model: the model's name.
        fingerprint: OpenAI's `system_fingerprint`.
    """

    created: int
    model: str
    fingerprint: str


class Answer(ABC):
    """One answer to one request, which may have several choices.

    Args:
        envelope: what is the same in all of it.
        top_log_probs: as in `requests.CompletionRequest`.
    """

    prefix: str
    object_name: str
    chunk_name: str

    def __init__(self, envelope: Envelope, top_log_probs: int | None) -> None:
        self._top_log_probs = top_log_probs
        self._shown: defaultdict[int, ShownTokens] = defaultdict(ShownTokens)
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self._common = {
            "id": self.id,
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": envelope.fingerprint,
        }

    def complete(self, chunks: Iterable[Chunk], usage: Usage) -> dict[str, Any]:
        """The complete answer as one object."""
        choices = [
            {"index": index, **self._choice(chunk.text), **self._end(index, chunk)}
            for index, chunk in enumerate(chunks)
        ]
        return {
            **self._common,
            "object": self.object_name,
            "choices": choices,
            "usage": _usage(usage),
        }

    def opening(self, index: int) -> list[dict[str, Any]]:
        """The choices that come before any text."""
        return []

    def choices(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Converts a chunk of the model into choices of OpenAI's chunks."""
        found = []
        end = self._end(index, chunk)
        if chunk.text:
            text = {**self._delta(chunk.text), "logprobs": end["logprobs"], "finish_reason": None}
            found.append({"index": index, **text})
        if chunk.finish_reason:
            found.append({"index": index, **self._delta(""), **end, "logprobs": None})
        return found

    def chunk_object(self, choice: dict[str, Any], with_usage: bool) -> dict[str, Any]:
        """Wraps a choice as OpenAI's chunk; its usage is null."""
        chunk = {**self._common, "object": self.chunk_name, "choices": [choice]}
        return {**chunk, "usage": None} if with_usage else chunk

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The last chunk of a stream with usage."""
        return {
            **self._common,
            "object": self.chunk_name,
            "choices": [],
            "usage": _usage(usage),
        }

    def _end(self, index: int, chunk: Chunk) -> dict[str, Any]:
        """The fields of a choice besides its text."""
        if self._top_log_probs is None:
            return {"logprobs": None, "finish_reason": chunk.finish_reason}
        shown = self._shown[index].take(chunk.text, chunk.tokens)
        return {"logprobs": self._log_probs(shown), "finish_reason": chunk.finish_reason}

    @abstractmethod
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        """The log-probabilities of tokens."""

    @abstractmethod
    def _choice(self, text: str) -> dict[str, Any]:
        """The fields that hold the text of a complete choice."""

    @abstractmethod
    def _delta(self, text: str) -> dict[str, Any]:
        """The fields that hold the text that a chunk adds."""


class CompletionAnswer(Answer):
    """An answer of /v1/completions."""

    prefix = "cmpl"
    object_name = chunk_name = "text_completion"

    @override
    def _choice(self, text: str) -> dict[str, Any]:
        return {"text": text}

    _delta = _choice

    @override
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        return completion_log_probs(shown, self._top_log_probs or 0)


class ChatAnswer(Answer):
    """An answer of /v1/chat/completions."""

    prefix = "chatcmpl"
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    @override
    def opening(self, index: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]

    @override
    def _choice(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    @override
    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    @override
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        return chat_log_probs(shown)


def event(value: dict[str, Any]) -> bytes:
    """An object as a server-sent event."""
    return f"data: {to_json(value)}\n\n".encode()


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
