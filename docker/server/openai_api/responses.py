"""Objects of OpenAI's answers: completions and chat completions, complete and in chunks.

Names and fields are those of openai-python 3.54.0 (types/completion.py, types/chat/
chat_completion.py, types/chat/chat_completion_chunk.py).
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from front_model import Chunk, Usage
from typing_extensions import override

from .logprobs import ShownToken, ShownTokens, chat_log_probs, completion_log_probs
from .requests import CompletionRequest
from .tool_calls import ToolCall, ToolCallText

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
        request: the request.
    """

    prefix: str
    object_name: str
    chunk_name: str

    def __init__(self, envelope: Envelope, request: CompletionRequest) -> None:
        self._top_log_probs = request.top_log_probs
        self._token_ids = request.token_ids
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
        chunks = list(chunks)
        choices = [
            {"index": index, **self._choice(index, chunk, self._end(index, chunk))}
            for index, chunk in enumerate(chunks)
        ]
        return {
            **self._common,
            "object": self.object_name,
            "choices": choices,
            "usage": _usage(usage),
            **self._prompt(chunks),
        }

    def opening(self, index: int) -> list[dict[str, Any]]:
        """The choices that come before any text."""
        return []

    def choices(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Converts a chunk of the model into choices of OpenAI's chunks."""
        end = self._end(index, chunk)
        deltas = self._deltas(index, chunk)
        ids: dict[str, Any] = {"token_ids": list(chunk.token_ids)} if self._token_ids else {}
        if chunk.token_ids and not deltas:  # of a text that is not known yet
            deltas = [self._delta("")]
        found = []
        for delta in deltas:
            found.append(
                {"index": index, **delta, "logprobs": end["logprobs"], "finish_reason": None, **ids}
            )
            ids = {}
        if chunk.finish_reason:
            reason = self._reason(index, chunk.finish_reason)
            last = {**self._delta(""), "logprobs": None, "finish_reason": reason}
            found.append({"index": index, **last, **self._prompt_ids(chunk)})
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
        ids = {"token_ids": list(chunk.token_ids)} if self._token_ids else {}
        if self._top_log_probs is None:
            return {"logprobs": None, "finish_reason": chunk.finish_reason, **ids}
        shown = self._shown[index].take(chunk.text, chunk.tokens)
        return {"logprobs": self._log_probs(shown), "finish_reason": chunk.finish_reason, **ids}

    def _deltas(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """The fields of the choices that hold what a chunk adds."""
        return [self._delta(chunk.text)] if chunk.text else []

    def _reason(self, index: int, reason: str | None) -> str | None:
        """Why a choice ended, in OpenAI's words."""
        return reason

    def _prompt(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """The fields of a complete answer that hold the prompt's tokens."""
        return {}

    def _prompt_ids(self, chunk: Chunk) -> dict[str, Any]:
        ids = list(chunk.prompt_token_ids)
        return {"prompt_token_ids": ids} if self._token_ids else {}

    @abstractmethod
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        """The log-probabilities of tokens."""

    @abstractmethod
    def _choice(self, index: int, chunk: Chunk, end: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a complete choice, among them those at its end."""

    @abstractmethod
    def _delta(self, text: str) -> dict[str, Any]:
        """The fields that hold the text that a chunk adds."""


class CompletionAnswer(Answer):
    """An answer of /v1/completions."""

    prefix = "cmpl"
    object_name = chunk_name = "text_completion"

    @override
    def _choice(self, index: int, chunk: Chunk, end: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": chunk.text, **end, **self._prompt_ids(chunk)}

    @override
    def _delta(self, text: str) -> dict[str, Any]:
        return {"text": text}

    @override
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        return completion_log_probs(shown, self._top_log_probs or 0)


class ChatAnswer(Answer):
    """An answer of /v1/chat/completions."""

    prefix = "chatcmpl"
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def __init__(self, envelope: Envelope, request: CompletionRequest) -> None:
        super().__init__(envelope, request)
        self._parallel = request.tools.parallel
        # The parts of each choice's text, where it may have calls of tools.
        self._parsed: dict[int, ToolCallText] | None = {} if request.tools.given else None

    @override
    def opening(self, index: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]

    @override
    def _choice(self, index: int, chunk: Chunk, end: Mapping[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": chunk.text, "refusal": None}
        if self._parsed is not None:
            parts = self._parts(index, chunk)
            calls = [part for part in parts if isinstance(part, ToolCall)]
            text = "".join(part for part in parts if isinstance(part, str))
            if calls:
                message["content"] = text or None
                message["tool_calls"] = [_tool_call(call) for call in calls]
        return {
            "message": message,
            **end,
            "finish_reason": self._reason(index, end["finish_reason"]),
        }

    @override
    def _deltas(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        if self._parsed is None:
            return super()._deltas(index, chunk)
        before = self._parsed[index].calls if index in self._parsed else 0
        deltas = []
        for part in self._parts(index, chunk):
            if isinstance(part, str):
                deltas.append(self._delta(part))
            else:
                call = {"index": before, **_tool_call(part)}
                deltas.append({"delta": {"tool_calls": [call]}})
                before += 1
        return deltas

    def _parts(self, index: int, chunk: Chunk) -> list[str | ToolCall]:
        assert self._parsed is not None
        parsed = self._parsed.setdefault(index, ToolCallText(parallel=self._parallel))
        parts = parsed.add(chunk.text)
        return parts + parsed.finish() if chunk.finish_reason else parts

    @override
    def _reason(self, index: int, reason: str | None) -> str | None:
        called = self._parsed and index in self._parsed and self._parsed[index].calls
        return "tool_calls" if called and reason == "stop" else reason

    @override
    def _prompt(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        return self._prompt_ids(chunks[0])

    @override
    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    @override
    def _log_probs(self, shown: Sequence[ShownToken]) -> dict[str, Any]:
        return chat_log_probs(shown)


def event(value: dict[str, Any]) -> bytes:
    """An object as a server-sent event."""
    return f"data: {to_json(value)}\n\n".encode()


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
