"""Streams from the bare engine loop, without Triton, and says what that takes.

Run by the benchmark as `python -m scripts.bench.stream_from_engine ENGINE`: the engine of
model_repository in this process. Each line of standard input is the JSON of a
`stream_prompts.Task`, for which a line of standard output is that of a `Streamed`.
"""

from __future__ import annotations

import dataclasses
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
from scripts.bench.stream_prompts import Streamed, Task

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
    """Does each task with the engine in this directory."""
    place = Path(directory)
    engine = served.Engine(place, text.read_token_bytes(place / "tokenizer.json"))
    tokenizer = served.Tokenizer.from_file(str(place / "tokenizer.json"))

    def start(prompt: str, new_tokens: int) -> Stream:
        stream = Stream()
        ids = tokenizer.encode(prompt).ids
        engine.submit(generation_request(ids, new_tokens, streaming=True), stream)
        return stream

    def do(task: Task) -> Streamed:
        started = time.perf_counter()
        streams = [start(prompt, task.new_tokens) for prompt in task.prompts]
        first_token = median([stream.wait() for stream in streams])
        return Streamed(time.perf_counter() - started, first_token)

    for line in sys.stdin:
        print(json.dumps(dataclasses.asdict(do(Task(**json.loads(line))))), flush=True)
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
