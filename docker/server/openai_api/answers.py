"""Objects of OpenAI's answers: completions and chat completions, whole and in chunks.

Names and fields are those of openai-python 3.54.0 (types/completion.py, types/chat/
chat_completion.py, types/chat/chat_completion_chunk.py).
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from generation import FinishReason, Piece, Usage
from typing_extensions import override

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
    """One answer to one request, which may have several choices."""

    prefix: str
    whole_name: str
    chunk_name: str

    def __init__(self, envelope: Envelope) -> None:
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self._common = {
            "id": self.id,
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": envelope.fingerprint,
        }

    def whole(self, pieces: Iterable[Piece], usage: Usage) -> dict[str, Any]:
        """The answer in one object."""
        choices = [
            {"index": index, **self._choice(piece.text), **_end(piece.finish_reason)}
            for index, piece in enumerate(pieces)
        ]
        return {
            **self._common,
            "object": self.whole_name,
            "choices": choices,
            "usage": _usage(usage),
        }

    def opening(self, index: int) -> list[dict[str, Any]]:
        """The choices that come before any text."""
        return []

    def choices(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """What a piece adds to a choice, as the choices of chunks of their own."""
        found = []
        if piece.text:
            found.append({"index": index, **self._delta(piece.text), **_end(None)})
        if piece.finish_reason:
            found.append({"index": index, **self._delta(""), **_end(piece.finish_reason)})
        return found

    def chunk(self, choice: dict[str, Any], with_usage: bool) -> dict[str, Any]:
        """A chunk of one choice; where the stream tells its usage each but the last has none."""
        chunk = {**self._common, "object": self.chunk_name, "choices": [choice]}
        return {**chunk, "usage": None} if with_usage else chunk

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The last chunk of a stream that tells its usage."""
        return {
            **self._common,
            "object": self.chunk_name,
            "choices": [],
            "usage": _usage(usage),
        }

    @abstractmethod
    def _choice(self, text: str) -> dict[str, Any]:
        """What holds the text of a whole choice."""

    @abstractmethod
    def _delta(self, text: str) -> dict[str, Any]:
        """What holds the text that a chunk adds."""


class CompletionAnswer(Answer):
    """An answer of /v1/completions."""

    prefix = "cmpl"
    whole_name = chunk_name = "text_completion"

    @override
    def _choice(self, text: str) -> dict[str, Any]:
        return {"text": text}

    _delta = _choice


class ChatAnswer(Answer):
    """An answer of /v1/chat/completions."""

    prefix = "chatcmpl"
    whole_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    @override
    def opening(self, index: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, **_end(None)}]

    @override
    def _choice(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    @override
    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


def event(value: dict[str, Any]) -> bytes:
    """An object as a server-sent event."""
    return f"data: {to_json(value)}\n\n".encode()


def _end(reason: FinishReason | None) -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": reason}


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
