"""The continuous-batching pipeline, alone in one thread: requests join and leave between steps.

OpenVINO GenAI holds Python's lock during a step, and reading an empty handle would hold it for
ever. So only this thread uses the pipeline, and it checks each handle before it reads it.
"""

import itertools
import json
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

# Importing openvino reports its use to its makers over the network, and may delay the exit by
# three seconds if there is no network; not in a CI job (openvino-telemetry 2025.2).
os.environ.setdefault("CI", "true")

import numpy as np
import openvino as ov
import openvino_genai as genai
from tokenizers import Tokenizer

from .request import GenerationRequest, Sampling
from .tokens import GeneratedTokens, SentTokens, Token, VisibleTokens

_RUNNING = genai.GenerationStatus.RUNNING
_IGNORED = genai.GenerationStatus.IGNORED
# A response holds up the next step for about 0.3 ms and costs a millisecond of CPU on its way to a
# client, and a step of many requests brings as many tokens. So the more requests run, the more
# tokens go together: one up to 4 requests, two up to 9, four with 16 (TensorRT-LLM has the like,
# `stream_interval`). A first token goes alone, and none waits longer than a reader would notice.
_REQUESTS_A_TOKEN = 5
_LONGEST_WAIT_S = 0.3
# How often the pipeline is asked for its metrics, for Triton's page.
_STATISTICS_PERIOD_S = 0.25
_RESTARTED = "the engine failed at another request and was started again; send this one again"


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """What the engine does at a moment.

    Attributes:
        running: requests in the pipeline.
        context: those of them without a first token.
        context_tokens: how many tokens their prompts have.
        waiting: requests that are not in the pipeline yet.
        steps: how many steps there have been.
        used_blocks: of the cache.
        cache_bytes: what the cache takes of memory.
    """

    running: int = 0
    context: int = 0
    context_tokens: int = 0
    waiting: int = 0
    steps: int = 0
    used_blocks: int = 0
    cache_bytes: int = 0


class Sink(Protocol):
    """The receiver of an answer. Called from the engine's thread only."""

    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted."""

    def send(self, tokens: Sequence[Token], cumulative: float, final: bool) -> None:
        """Takes tokens, and the sum of all log-probabilities so far."""

    def fail(self, reason: str) -> None:
        """Takes the reason why there will be no answer."""

    def cancel(self, generated: int) -> None:
        """Notes that a cancelled request left the pipeline after so many tokens."""


@dataclass(slots=True)
class _Running:
    """A request in the pipeline.

    Attributes:
        unsent: tokens to be sent that the sink has not got yet.
        next_send: when they go however few they are, of `time.monotonic`.
    """

    request: GenerationRequest
    sink: Sink
    handle: Any
    tokens: SentTokens
    unsent: list[Token] = field(default_factory=list)
    cumulative: float = 0.0
    generated: int = 0
    next_send: float = 0.0


class Engine:
    """Generates for many requests at a time.

    Args:
        directory: holds the engine's files.
        token_bytes: the bytes of each token.
    """

    def __init__(self, directory: Path, token_bytes: Sequence[bytes]) -> None:
        self._directory = directory
        self._settings = json.loads((directory / "engine.json").read_text(encoding="utf-8"))
        self._token_bytes = token_bytes
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._ids = itertools.count(1)
        self._pipeline = self._open()
        self._arrived: deque[tuple[GenerationRequest, Sink]] = deque()
        self._running: list[_Running] = []
        self._steps = 0
        self._next_statistics = 0.0
        self._statistics = EngineStatistics()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def max_requests(self) -> int:
        """How many requests the pipeline has at most."""
        return int(self._settings["max_batch_size"])

    @property
    def cache_blocks(self) -> int:
        """How many blocks the cache has."""
        return int(self._settings["scheduler"]["num_kv_blocks"])

    @property
    def block_tokens(self) -> int:
        """How many tokens a block of the cache has."""
        return int(self._settings["kv_block_tokens"])

    def statistics(self) -> EngineStatistics:
        """What the engine does, of a moment ago."""
        return replace(self._statistics, waiting=len(self._arrived))

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Takes a checked request; the engine's thread sends tokens to `sink`."""
        with self._wake:
            self._arrived.append((request, sink))
            self._wake.notify()

    def close(self) -> None:
        """Ends the thread after its current step."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _open(self) -> Any:
        """Opens the pipeline and answers a first request.

        OpenVINO repacks the weights at the first request, which takes seconds with a large
        model. No client's request should wait for that.
        """
        scheduler = genai.SchedulerConfig()
        for name, value in self._settings["scheduler"].items():
            setattr(scheduler, name, value)
        pipeline = genai.ContinuousBatchingPipeline(
            str(self._directory),
            scheduler,
            self._settings["device"],
            self._settings["device_properties"],
        )
        config = genai.GenerationConfig(max_new_tokens=2, ignore_eos=True)
        handle = pipeline.add_request(next(self._ids), _tensor([0]), config)
        while handle.get_status() == _RUNNING:
            pipeline.step()
        return pipeline

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._arrived or self._running)
                if self._closing:
                    return
            self._admit()
            try:
                self._pipeline.step()
            except RuntimeError as error:
                self._start_again(error)
            else:
                self._running = [running for running in self._running if self._follow(running)]
            self._steps += 1
            self._note_statistics()

    def _note_statistics(self) -> None:
        now = time.monotonic()
        if self._running and now < self._next_statistics:
            return
        self._next_statistics = now + _STATISTICS_PERIOD_S
        metrics = self._pipeline.get_metrics()
        first = [running for running in self._running if not running.generated]
        # What stays in the cache for later prompts is not in use.
        used = metrics.cache_usage / 100 * self.cache_blocks if self._running else 0
        self._statistics = EngineStatistics(
            running=len(self._running),
            context=len(first),
            context_tokens=sum(len(running.request.input_ids) for running in first),
            steps=self._steps,
            used_blocks=round(used),
            cache_bytes=metrics.cache_size_in_bytes,
        )

    def _admit(self) -> None:
        """Admits waiting requests, as many as the engine was built for."""
        while self._arrived and len(self._running) < self._settings["max_batch_size"]:
            request, sink = self._arrived.popleft()
            if sink.cancelled():
                sink.cancel(0)
                continue
            try:
                handle = self._pipeline.add_request(
                    next(self._ids), _tensor(request.input_ids), _generation_config(request)
                )
            except RuntimeError as error:
                sink.fail(f"the engine refused the request: {_first_line(error)}")
                continue
            self._running.append(_Running(request, sink, handle, self._tokens(request)))

    def _tokens(self, request: GenerationRequest) -> SentTokens:
        if request.all_tokens:
            return GeneratedTokens(self._token_bytes, request.stop_words)
        return VisibleTokens(self._token_bytes, request.stop_words, self._encode)

    def _follow(self, running: _Running) -> bool:
        """Takes one request's new tokens; returns whether it stays in the pipeline."""
        if running.sink.cancelled():
            running.handle.cancel()
            running.sink.cancel(running.generated)
            return False
        while running.handle.can_read() and not running.tokens.stopped:
            for output in running.handle.read().values():
                self._take(running, output.generated_ids, output.generated_log_probs)
        status = running.handle.get_status()
        if running.tokens.stopped:
            running.handle.stop()
        elif status == _IGNORED:
            running.sink.fail("the engine has no room in its cache for this request")
            return False
        elif status == _RUNNING:
            if running.request.streaming and self._enough(running):
                self._send(running, final=False)
            return True
        else:
            running.unsent += running.tokens.finish()
        self._send(running, final=True)
        return False

    def _enough(self, running: _Running) -> bool:
        """Whether enough tokens have come, or some have waited long enough."""
        together = 1 + len(self._running) // _REQUESTS_A_TOKEN
        late = time.monotonic() >= running.next_send
        return len(running.unsent) >= (1 if late else together)

    def _take(self, running: _Running, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        for token_id, log_prob in zip(ids, log_probs, strict=True):
            if token_id in running.request.end_ids:
                return
            running.generated += 1
            running.cumulative += log_prob
            running.unsent += running.tokens.add(Token(token_id, log_prob))
            if running.tokens.stopped:
                return

    def _send(self, running: _Running, final: bool) -> None:
        running.sink.send(running.unsent, running.cumulative, final)
        running.unsent = []
        running.next_send = time.monotonic() + _LONGEST_WAIT_S

    def _start_again(self, error: RuntimeError) -> None:
        """Opens a new pipeline: after a failed step, every later step fails too."""
        print(f"the engine failed in a step and starts again: {_first_line(error)}", flush=True)
        for running in self._running:
            running.sink.fail(_RESTARTED)
        self._running = []
        self._pipeline = self._open()

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def _tensor(input_ids: Sequence[int]) -> ov.Tensor:
    return ov.Tensor(np.array([input_ids], np.int64))


def _generation_config(request: GenerationRequest) -> genai.GenerationConfig:
    config = genai.GenerationConfig(
        max_new_tokens=request.max_tokens,
        logprobs=1 if request.return_log_probs else 0,
        apply_chat_template=False,
        **_sampling_options(request.sampling),
    )
    if request.end_ids:
        config.set_eos_token_id(min(request.end_ids))
        config.stop_token_ids = set(request.end_ids)
    else:
        config.ignore_eos = True
    if request.grammar is not None:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=request.grammar)
    return config


def _sampling_options(sampling: Sampling) -> dict[str, Any]:
    options = {
        "repetition_penalty": sampling.repetition_penalty,
        "min_new_tokens": sampling.min_tokens,
        "do_sample": not sampling.greedy,
    }
    if not sampling.greedy:
        options |= {
            "top_p": sampling.top_p,
            "temperature": sampling.temperature,
            "rng_seed": sampling.seed,
        }
        if sampling.top_k:
            options["top_k"] = sampling.top_k
    return options


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
