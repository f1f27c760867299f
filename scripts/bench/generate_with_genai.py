"""Prints what the bare OpenVINO GenAI pipeline reaches for each number of streams.

Run by the benchmark as `python -m scripts.bench.generate_with_genai MODEL [PRECISION]`, where MODEL
is optimum-cli's export or an engine, and PRECISION that of the arithmetic. Names, units and
definitions are aiperf's, so both sides can be compared.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import openvino_genai as genai

from scripts.bench.prompts import BATCHES, NEW_TOKENS, Load


@dataclass(slots=True)
class Stream:
    """One request under way, and when its tokens came.

    Attributes:
        handle: GenAI's.
        started: when it was added.
        first: when its first token came.
        last: when its latest one came.
        tokens: how many have come.
    """

    handle: Any
    started: float
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0

    def read(self, now: float) -> None:
        """Takes the tokens of the last step, if there are any."""
        while self.handle.can_read():
            for output in self.handle.read().values():
                self.tokens += len(output.generated_ids)
                self.first, self.last = self.first or now, now

    @property
    def running(self) -> bool:
        """Whether more tokens come."""
        return bool(self.handle.get_status() == genai.GenerationStatus.RUNNING)


def generate(pipeline: Any, prompts: list[str], streams: int, new_tokens: int) -> list[Stream]:
    """Answers all prompts; the end of an answer starts the next request.

    Raises:
        RuntimeError: an answer has another length.
    """
    config = genai.GenerationConfig(
        max_new_tokens=new_tokens, ignore_eos=True, do_sample=False, apply_chat_template=False
    )
    waiting = list(reversed(prompts))
    running: list[Stream] = []
    ended: list[Stream] = []
    while waiting or running:
        while waiting and len(running) < streams:
            number = len(prompts) - len(waiting)
            started = time.perf_counter()
            handle = pipeline.add_request(number, waiting.pop(), config)
            running.append(Stream(handle, started))
        pipeline.step()
        now = time.perf_counter()
        for stream in running:
            stream.read(now)
        ended += [stream for stream in running if not stream.running]
        running = [stream for stream in running if stream.running]
    if any(stream.tokens != new_tokens for stream in ended):
        raise RuntimeError(f"an answer has not {new_tokens} tokens")
    return ended


def measure(pipeline: Any, load: Load, new_tokens: int = NEW_TOKENS) -> dict[str, float]:
    """The figures of one load, after its warm-up."""
    generate(pipeline, load.warm_up, load.streams, new_tokens)
    streams = generate(pipeline, load.prompts, load.streams, new_tokens)
    seconds = max(each.last for each in streams) - min(each.started for each in streams)
    between = [(each.last - each.first) / (each.tokens - 1) for each in streams]
    return {
        "output_token_throughput": sum(each.tokens for each in streams) / seconds,
        "time_to_first_token": 1000 * median(each.first - each.started for each in streams),
        "inter_token_latency": 1000 * median(between),
    }


def main(directory: str, precision: str | None = None) -> None:
    """Measures the model in this directory."""
    properties = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    scheduler = genai.SchedulerConfig()
    pipeline = genai.ContinuousBatchingPipeline(directory, scheduler, "CPU", properties)
    print(json.dumps({streams: measure(pipeline, Load(streams)) for streams in BATCHES}))


if __name__ == "__main__":
    main(*sys.argv[1:])
