"""Streams from the bare engine loop, without Triton, and prints what that takes.

Run by the benchmark as `python -m scripts.bench.stream_from_engine ENGINE`: the engine of
model_repository in this process, asked for the tokens of the same prompts as the front model.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scripts.bench.served_engine import generation_request, served
from scripts.bench.stream_prompts import (
    FIRST_TOKEN_REQUESTS,
    NEW_TOKENS,
    REPEATS,
    STREAMS,
    texts,
)

text = importlib.import_module("1.text")


class Stream:
    """Takes the tokens of one request, as Triton's response sender would."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._finished = threading.Event()
        self.first_token = 0.0

    def wait(self) -> float:
        """Seconds from the beginning to the first token, when all tokens are there."""
        self._finished.wait()
        return self.first_token

    def cancelled(self) -> bool:
        """Nobody leaves."""
        return False

    def send(self, tokens: Sequence[Any], cumulative: float, final: bool) -> None:
        """Takes tokens."""
        self.first_token = self.first_token or time.perf_counter() - self._started
        if final:
            self._finished.set()

    def fail(self, reason: str) -> None:
        """A benchmark has no use for a failing engine."""
        raise RuntimeError(reason)


def main(directory: str) -> None:
    """Measures the engine in this directory."""
    place = Path(directory)
    engine = served.Engine(place, text.read_token_bytes(place / "tokenizer.json"))
    tokenizer = served.Tokenizer.from_file(str(place / "tokenizer.json"))

    def start(prompt: str, new_tokens: int) -> Stream:
        stream = Stream()
        ids = tokenizer.encode(prompt).ids
        engine.submit(generation_request(ids, new_tokens, streaming=True), stream)
        return stream

    def seconds(prompts: list[str], new_tokens: int) -> float:
        started = time.perf_counter()
        for stream in [start(prompt, new_tokens) for prompt in prompts]:
            stream.wait()
        return time.perf_counter() - started

    seconds(texts(STREAMS, "warm"), 4)
    measured = {
        "tokens_per_second": STREAMS * NEW_TOKENS / seconds(texts(STREAMS, "bare"), NEW_TOKENS),
        "first_token": median(
            median([stream.wait() for stream in [start(prompt, 4) for prompt in eight]])
            for eight in (texts(FIRST_TOKEN_REQUESTS, f"first {n}") for n in range(REPEATS))
        ),
    }
    print(json.dumps(measured))
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
