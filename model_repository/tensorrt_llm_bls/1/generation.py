"""One request from its tokens to its final response, and all that are under way.

Knows nothing of Triton: a client is who can be sent an answer, the inner model who gives tokens.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .answer import Answer
from .inner import InnerError

_INTERNAL_ERROR = 500
# To ask whether a client has gone is a round trip to Triton; at most so often for each.
_GONE_PERIOD_S = 0.005


class Client(Protocol):
    """Who asked. Called from the event loop's thread, `gone` from any."""

    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def send(self, answer: Answer, *, final: bool) -> None:
        """Takes what the answer has grown by, and its end."""

    def fail(self, status: int, reason: str) -> None:
        """Takes the reason why there will be no answer, with HTTP's status for it."""


class Inner(Protocol):
    """The engine's model."""

    def generate(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """Gives the responses as they come."""

    async def stop(self, request_id: str) -> None:
        """Ends a running request."""


class Record(Protocol):
    """What is told of a conversation, for metrics and the log."""

    def first_token(self, seconds: float) -> None:
        """Its first token has come."""

    def tokens(self, count: int) -> None:
        """Tokens have come."""


@dataclass(eq=False, slots=True)
class Conversation:
    """One request under way.

    Attributes:
        request_id: what the client calls it; may be empty, and others may have the same.
        connection: what docker/server/front.py calls the client's connection, if it says.
        body: the request to the inner model, whose id no other has.
        answer: what has come of the answer.
        client: who asked.
        stream: whether the client wants text as it comes.
        arrived: when the request came, of `time.perf_counter`.
        first_token: how many seconds later the first token came; None where all come together.
        failure: why there is no answer.
    """

    request_id: str
    connection: str | None
    body: Mapping[str, Any]
    answer: Answer
    client: Client
    stream: bool
    arrived: float
    first_token: float | None = None
    failure: InnerError | None = None
    _task: "asyncio.Task[None] | None" = field(default=None, init=False)
    _ending: bool = field(default=False, init=False)
    _inner_ended: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)
    _next_look: float = field(default=0.0, init=False)

    @property
    def outcome(self) -> str:
        """The finish reason, or `error`."""
        return "error" if self.failure else str(self.answer.finish_reason)

    @property
    def summary(self) -> str:
        """What there is to tell of it when it has ended, without any of its text."""
        first_token = "-" if self.first_token is None else f"{self.first_token:.3f}"
        return (
            f"{self.body['id']}: {f'error, {self.failure}' if self.failure else self.outcome}, "
            f"completion_tokens {self.answer.completion_tokens}, first_token_s {first_token}, "
            f"total_s {time.perf_counter() - self.arrived:.3f}"
        )

    def left(self) -> bool:
        """Whether the client has gone; of a named connection somebody else will say so."""
        return not self.connection and self.client.gone()

    def cancel(self) -> None:
        """Ends the conversation; to be called in the event loop's thread."""
        self._cancelled = True
        if self._task and not self._ending:
            self._task.cancel()

    async def hold(self, inner: Inner, record: Record) -> None:
        """Carries the conversation to its final response, and ends the inner request by then."""
        # Nobody else holds it: a task that waits for a stream of asyncio's is held by that stream
        # alone, and the stream by the task, so that both would be taken for garbage.
        self._task = asyncio.current_task()
        try:
            if not self._cancelled:
                await self._follow(inner, record)
        except asyncio.CancelledError:
            pass  # nobody but `cancel` cancels the task
        except InnerError as error:
            self.failure = error
        except Exception as error:
            # Whatever it is: the client must not wait for ever.
            self.failure = InnerError(_INTERNAL_ERROR, f"the front model failed: {error!r}")
        self._ending = True
        self.answer.cancel()  # has no effect on an answer that has its end
        if self.failure:
            self.client.fail(self.failure.status, str(self.failure))
        else:
            self.client.send(self.answer, final=True)
        if not self._inner_ended:
            with contextlib.suppress(InnerError):
                await inner.stop(self.body["id"])

    async def _follow(self, inner: Inner, record: Record) -> None:
        generated = 0
        async with contextlib.aclosing(inner.generate(self.body)) as arrivals:
            async for responses in arrivals:
                before = self.answer.completion_tokens
                for response in responses:
                    ids, log_probs = _tokens(response, generated)
                    generated += len(ids)
                    self.answer.add(ids, log_probs)
                self._count(self.answer.completion_tokens - before, record)
                if self.answer.finish_reason:
                    return
                if self.stream and self.answer.has_text:
                    self.client.send(self.answer, final=False)
                if self._client_gone():
                    return
        self._inner_ended = True
        self.answer.end()

    def _client_gone(self) -> bool:
        now = time.perf_counter()
        if now < self._next_look:
            return False
        self._next_look = now + _GONE_PERIOD_S
        return self.left()

    def _count(self, new: int, record: Record) -> None:
        if new and self.body["streaming"] and self.first_token is None:
            self.first_token = time.perf_counter() - self.arrived
            record.first_token(self.first_token)
        record.tokens(new)


class Conversations:
    """All conversations under way; used from any thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._under_way: set[Conversation] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._under_way)

    def __iter__(self) -> Iterator[Conversation]:
        with self._lock:
            return iter(list(self._under_way))

    def inner_id(self) -> str:
        """An id for a request to the inner model that no other has."""
        return f"front-{next(self._numbers)}"

    def named(self, request_id: str, connection: str | None) -> list[Conversation]:
        """Those that their clients call so, or that are of this connection if one is given."""
        if connection:
            return [each for each in self if each.connection == connection]
        return [each for each in self if each.request_id == request_id]

    def add(self, conversation: Conversation) -> None:
        """Takes note of a conversation that begins."""
        with self._lock:
            self._under_way.add(conversation)

    def remove(self, conversation: Conversation) -> None:
        """Forgets a conversation that has ended."""
        with self._lock:
            self._under_way.discard(conversation)


def every(seconds: float, call: Callable[[], None], end: threading.Event) -> threading.Thread:
    """Starts a thread that calls until `end`, taking at most a fifth of the time for it."""

    def run() -> None:
        pause = seconds
        while not end.wait(pause):
            started = time.perf_counter()
            call()
            pause = max(seconds, 4 * (time.perf_counter() - started))

    thread = threading.Thread(target=run, name=call.__name__, daemon=True)
    thread.start()
    return thread


def _tokens(response: Mapping[str, Any], before: int) -> tuple[list[int], list[float]]:
    """The new tokens of a response, and their log-probabilities where there are some.

    Triton writes a tensor of one element as that element, and others flat.

    Args:
        response: NVIDIA's backend gives in each the log-probabilities of all tokens so far, perhaps
            one more for the token that ended the answer (TensorRT-LLM at 119c6e60,
            batch_manager/llmRequest.cpp); the CPU engine gives those of the new tokens.
        before: how many tokens the responses before this one had.
    """
    ids = _flat(response.get("output_ids", []))
    length = _flat(response.get("sequence_length", len(ids)))
    ids = ids[: length[0]]
    log_probs = _flat(response.get("output_log_probs", []))
    start = before if len(log_probs) >= before + len(ids) else 0
    return ids, log_probs[start : start + len(ids)]


def _flat(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
