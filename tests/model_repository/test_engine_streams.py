"""How the CPU engine's tokens go to those who stream: soon, and together where many run."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.model_repository.conftest import load

# As many as may run at a time without tokens going together, and as the recipe lets run.
FEW, MANY = 4, 16
# Longer than any token waits for others.
SLOW_STEP_S = 0.35


class Reader:
    """Takes the tokens of one request; `counts` has how many came each time."""

    def __init__(self):
        self.counts: list[int] = []
        self.ended = threading.Event()

    def cancelled(self):
        return False

    def send(self, tokens: Sequence[Any], cumulative: float, final: bool):
        self.counts.append(len(tokens))
        if final:
            self.ended.set()

    def fail(self, reason: str):
        raise AssertionError(reason)


class SlowPipeline:
    """OpenVINO's pipeline with steps as long as a large model's once it has begun to answer."""

    def __init__(self, pipeline):
        self._pipeline = pipeline
        self.slow = False

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def step(self):
        if self.slow:
            time.sleep(SLOW_STEP_S)
        self._pipeline.step()


@pytest.fixture(scope="module")
def pipelines():
    return []


@pytest.fixture(scope="module")
def engine(make_repository, text_module, pipelines):
    directory = make_repository() / "tensorrt_llm" / "1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CI", "true")  # the module sets it for good, which other tests would inherit
        module = load("tensorrt_llm", "engine")
        make = module.genai.ContinuousBatchingPipeline

        def slow(*arguments):
            pipelines.append(SlowPipeline(make(*arguments)))
            return pipelines[-1]

        patch.setattr(module.genai, "ContinuousBatchingPipeline", slow)
        engine = module.Engine(
            directory, text_module.read_token_bytes(directory / "tokenizer.json")
        )
    yield engine
    engine.close()


@pytest.fixture
def stream(engine, request_module):
    """Streams some tokens for so many at a time; gives how many came each time, by reader."""

    def run(requests, new_tokens):
        readers = [Reader() for _ in range(requests)]
        for number, reader in enumerate(readers):
            request = request_module.GenerationRequest(
                input_ids=[number + 20, number + 21],
                max_tokens=new_tokens,
                end_ids=frozenset(),
                stop_words=(),
                grammar=None,
                sampling=request_module.Sampling(),
                return_log_probs=False,
                exclude_input=True,
                streaming=True,
                all_tokens=True,
            )
            engine.submit(request, reader)
        assert all(reader.ended.wait(60) for reader in readers)
        return [reader.counts for reader in readers]

    return run


def test_each_token_goes_alone_where_few_stream(stream):
    for counts in stream(FEW, 40):
        assert [count for count in counts if count] == [1] * 40


def test_tokens_go_together_where_many_stream_but_the_first_goes_alone(stream):
    for counts in stream(MANY, 40):
        assert sum(counts) == 40
        assert counts[0] == 1
        assert len(counts) <= 20


def test_no_token_waits_long_however_many_stream(stream, pipelines):
    pipelines[-1].slow = True
    try:
        for counts in stream(MANY, 4):
            assert [count for count in counts if count] == [1] * 4
    finally:
        pipelines[-1].slow = False
