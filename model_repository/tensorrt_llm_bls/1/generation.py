"""Generations under way, from the engine's tokens to the final response.

Independent of Triton: `Client` receives the answer, `Engine` gives the tokens.
"""

import asyncio
import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .answer import Answer
from .engine_client import EngineError

_INTERNAL_ERROR = 500
# Checking whether a client has disconnected is a round trip to Triton: the least time between two.
_DISCONNECTED_PERIOD_S = 0.005


class Client(Protocol):
    """Receives the answer. Called from the event loop's thread, `disconnected` from any."""

    def disconnected(self) -> bool:
        """Whether the client has disconnected before its answer was complete."""

    def send(self, answer: Answer, *, final: bool) -> None:
        """Sends what was added to the answer since the last call."""

    def fail(self, status: int, reason: str) -> None:
        """Ends the request with an error and its HTTP status."""


class Engine(Protocol):
    """The engine's model."""

    def generate(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """Yields the responses as they arrive."""

    async def stop(self, request_id: str) -> None:
        """Ends a running request."""


class Record(Protocol):
    """Counts the tokens of a generation, for metrics."""

    def first_token(self, seconds: float) -> None:
        """Counts the time to the first token."""

    def tokens(self, count: int) -> None:
        """Counts new tokens."""

    def time_per_token(self, seconds: float) -> None:
        """Counts how long each token took after the first, on average of an answer."""


@dataclass(eq=False, slots=True)
class Generation:
    """One request under way.

    Attributes:
        request_id: what the client calls it; may be empty, and others may have the same.
        connection: the name that docker/server gives the client's connection, if any.
        stop_token: what a client without docker/server wants to be named by whoever stops it.
        body: the request to the engine's model, whose id no other has.
        answer: the answer so far.
        client: receives the answer.
        stream: whether the client wants text as it is generated.
        arrived: when the request came, of `time.perf_counter`.
        first_token: how many seconds later the first token came; None where all come together.
        failure: why there is no answer.
    """

    request_id: str
    connection: str | None
    stop_token: str | None
    body: Mapping[str, Any]
    answer: Answer
    client: Client
    stream: bool
    arrived: float
    first_token: float | None = None
    failure: EngineError | None = None
    _task: "asyncio.Task[None] | None" = field(default=None, init=False)
    _ending: bool = field(default=False, init=False)
    _engine_ended: bool = field(default=False, init=False)
    _cancel_requested: bool = field(default=False, init=False)
    _next_check: float = field(default=0.0, init=False)
    _first_tokens: int = field(default=0, init=False)
    _last_token: float = field(default=0.0, init=False)

    @property
    def outcome(self) -> str:
        """The finish reason, or `error`."""
        return "error" if self.failure else str(self.answer.finish_reason)

    @property
    def summary(self) -> str:
        """The log line's text after its end, without any of its content."""
        first_token = "-" if self.first_token is None else f"{self.first_token:.3f}"
        return (
            f"{self.body['id']}: {f'error, {self.failure}' if self.failure else self.outcome}, "
            f"completion_tokens {self.answer.completion_tokens}, first_token_s {first_token}, "
            f"total_s {time.perf_counter() - self.arrived:.3f}"
        )

    def cancelled(self) -> bool:
        """Whether the client has disconnected; docker/server reports that of named connections."""
        return not self.connection and self.client.disconnected()

    def cancel(self) -> None:
        """Ends the generation; call it in the event loop's thread."""
        self._cancel_requested = True
        if self._task and not self._ending:
            self._task.cancel()

    async def run(self, engine: Engine, record: Record) -> None:
        """Runs to the final response; the engine's request has ended by then."""
        # A task that waits for an asyncio stream is referenced by that stream alone, and the stream
        # by the task: without this reference both would be garbage.
        self._task = asyncio.current_task()
        try:
            if not self._cancel_requested:
                await self._follow(engine, record)
        except asyncio.CancelledError:
            pass  # only `cancel` cancels the task
        except EngineError as error:
            self.failure = error
        except Exception as error:
            # Whatever it is: the client must not wait for ever.
            self.failure = EngineError(_INTERNAL_ERROR, f"the front model failed: {error!r}")
        self._count_time(record)
        self._ending = True
        self.answer.cancel()  # no effect on an answer that is complete
        if self.failure:
            self.client.fail(self.failure.status, str(self.failure))
        else:
            self.client.send(self.answer, final=True)
        if not self._engine_ended:
            with contextlib.suppress(EngineError):
                await engine.stop(self.body["id"])

    async def _follow(self, engine: Engine, record: Record) -> None:
        generated = 0
        async with contextlib.aclosing(engine.generate(self.body)) as arrivals:
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
                if self._has_disconnected():
                    return
        self._engine_ended = True
        self.answer.end()

    def _has_disconnected(self) -> bool:
        now = time.perf_counter()
        if now < self._next_check:
            return False
        self._next_check = now + _DISCONNECTED_PERIOD_S
        return self.cancelled()

    def _count(self, new: int, record: Record) -> None:
        if new and self.body["streaming"]:
            self._last_token = time.perf_counter() - self.arrived
            if self.first_token is None:
                self.first_token, self._first_tokens = self._last_token, new
                record.first_token(self.first_token)
        record.tokens(new)

    def _count_time(self, record: Record) -> None:
        """Counts the time of the tokens after those that came first."""
        later = self.answer.completion_tokens - self._first_tokens
        if self.first_token is not None and later:
            record.time_per_token((self._last_token - self.first_token) / later)


class Generations:
    """All generations under way; may be used from any thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._under_way: set[Generation] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._under_way)

    def __iter__(self) -> Iterator[Generation]:
        with self._lock:
            return iter(list(self._under_way))

    def new_id(self) -> str:
        """A new id for a request to the engine's model; it cannot be guessed."""
        return f"front-{next(self._numbers)}-{secrets.token_hex(8)}"

    def named(
        self, request_id: str, connection: str | None, stop_token: str | None
    ) -> list[Generation]:
        """The generations of a connection, or else those of an id and token that have none."""
        if connection:
            return [each for each in self if each.connection == connection]
        wanted = (request_id, None, stop_token)
        return [
            each for each in self if (each.request_id, each.connection, each.stop_token) == wanted
        ]

    def add(self, generation: Generation) -> None:
        """Adds a generation that begins."""
        with self._lock:
            self._under_way.add(generation)

    def remove(self, generation: Generation) -> None:
        """Removes a generation that has ended."""
        with self._lock:
            self._under_way.discard(generation)


def every(seconds: float, call: Callable[[], None], end: threading.Event) -> threading.Thread:
    """Starts a thread that calls until `end`, at most a fifth of the time."""

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
