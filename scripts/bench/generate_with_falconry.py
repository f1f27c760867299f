"""Prints the served engine's tokens a second for each batch size.

Run by the benchmark as `python -m scripts.bench.generate_with_falconry ENGINE`. It runs the engine
of model_repository with the settings of the engine's engine.json; only Triton is left out.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench.prompts import VOCAB_SIZE, speeds

# Triton too imports a model's directory as a package named by its version.
sys.path.insert(0, str(Path(__file__).parents[2] / "model_repository" / "tensorrt_llm"))
_engine = importlib.import_module("1.engine")
_request = importlib.import_module("1.request")


class Answer:
    """Waits for the last token of one request, in place of Triton's response sender."""

    def __init__(self) -> None:
        self._finished = threading.Event()
        self._count = 0
        self._problem: str | None = None

    def wait(self) -> int:
        """The number of tokens, when all are there.

        Raises:
            RuntimeError: the engine failed the request.
        """
        self._finished.wait()
        if self._problem:
            raise RuntimeError(self._problem)
        return self._count

    def cancelled(self) -> bool:
        """No request is cancelled."""
        return False

    def send(self, tokens: Sequence[Any], cumulative: float, final: bool) -> None:
        """Counts tokens."""
        self._count += len(tokens)
        if final:
            self._finished.set()

    def fail(self, reason: str) -> None:
        """Keeps the reason why there is no answer."""
        self._problem = reason
        self._finished.set()


def _generate(engine: Any, prompts: list[list[int]], new_tokens: int) -> None:
    """Answers requests that arrive together."""
    answers = [Answer() for _ in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        engine.submit(_greedy_request(prompt, new_tokens), answer)
    if any(answer.wait() != new_tokens for answer in answers):
        raise RuntimeError(f"an answer has not {new_tokens} tokens")


def _greedy_request(prompt: list[int], new_tokens: int) -> Any:
    """A request that nothing but its length ends; all its tokens come together."""
    return _request.GenerationRequest(
        input_ids=prompt,
        max_tokens=new_tokens,
        end_ids=frozenset(),
        stop_words=(),
        bad_words=(),
        sampling=_request.Sampling(),
        return_log_probs=False,
        exclude_input=True,
        streaming=False,
        all_tokens=False,
    )


def main(directory: str) -> None:
    """Measures the engine in this directory."""
    # A letter for each token: a random model may stop within a character, which is not sent.
    engine = _engine.Engine(Path(directory), [b"a"] * VOCAB_SIZE)
    print(json.dumps(speeds(partial(_generate, engine))))
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
