"""What only TensorRT-LLM's surface has, by the stand-in for NVIDIA's backend, in one release."""

import threading
import time

import numpy as np
import pytest

from falconry.repository.config import read_config
from tests.conftest import running_triton
from tests.model_repository.contract import CLOUD, Server
from tests.model_repository.streams import stream_events
from tests.stand_in_backend.engine import LIMITS, stand_in_engine
from tests.stand_in_backend.repository import gpu_repository, stand_in_for_backend

RELEASE = "25.10"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stand-in")
    engine = stand_in_engine(directory / "engine", RELEASE, beams=2)
    # Slow enough that a stop comes before the last of 500 tokens on a busy machine too.
    repository = stand_in_for_backend(gpu_repository(engine, RELEASE, directory / "build"), 8)
    with running_triton(repository, directory) as url:
        yield Server(url, RELEASE)


def core_body(tokens, max_tokens, **more):
    return {
        "input_ids": tokens,
        "input_lengths": len(tokens),
        "request_output_len": max_tokens,
        **more,
    }


def core_stream(server, **body):
    """The events of a stream of the core model, whose tensors are NVIDIA's."""
    return stream_events(server.url, "tensorrt_llm", {"streaming": True, **body})


def test_a_stream_has_one_response_a_token_and_never_the_prompt(server):
    events = list(core_stream(server, **core_body([65, 66, 67], 5)))
    assert [event["sequence_length"] for event in events] == [1, 1, 1, 1, 1]
    assert [event["output_ids"] for event in events[:3]] == [65, 66, 67]


def test_log_probabilities_come_only_when_they_are_asked_for(server):
    assert "cum_log_probs" not in server.generate(max_tokens=3)
    assert len(server.generate(max_tokens=3, return_log_probs=True)["output_log_probs"]) == 3


def test_each_response_has_the_log_probabilities_of_all_tokens_so_far(server):
    events = list(core_stream(server, **core_body([65, 66], 3, return_log_probs=True, end_id=-1)))
    assert [event["sequence_length"] for event in events] == [1, 1, 1]
    assert [np.size(event["output_log_probs"]) for event in events] == [1, 2, 3]


def test_the_token_that_ends_an_answer_has_a_log_probability_too(server):
    events = list(core_stream(server, **core_body([65, 66], 5, return_log_probs=True, end_id=66)))
    assert [event["sequence_length"] for event in events] == [1, 0]
    assert [np.size(event["output_log_probs"]) for event in events] == [1, 2]


def test_each_beam_has_its_text_without_the_padding_of_the_shorter_one(server, sentences):
    texts = server.text(beam_width=2)
    assert texts[0] == sentences[CLOUD]
    assert texts[1]
    assert sentences[CLOUD].startswith(texts[1])


def test_more_beams_than_the_engine_was_built_for_are_refused(server):
    response = server.post({"text_input": CLOUD, "max_tokens": 5, "beam_width": 3})
    assert response.status_code >= 400
    assert "beam width 3" in response.text


def test_a_stop_with_its_token_ends_a_request(server):
    body = core_body([65, 66, 67], 500, id="one", end_id=-1)
    stream = core_stream(server, **body)
    stop = {**body, "stop": True, "stop_token": next(stream)["stop_token"]}
    assert server.post(stop, model="tensorrt_llm").status_code == 200
    assert len(list(stream)) < 400


def test_a_stop_without_a_token_is_refused_and_ends_no_request_of_its_id(server):
    body = core_body([65, 66, 67], 50, id="one", end_id=-1)
    stream = core_stream(server, **body)
    next(stream)
    response = server.post({**body, "stop": True}, model="tensorrt_llm")
    assert response.status_code == 400
    assert "give the stop_token" in response.text
    assert len(list(stream)) == 49


def test_a_client_that_goes_frees_its_slot(server):
    streams = [
        core_stream(server, **core_body([65, 66], 500, end_id=-1))
        for _ in range(LIMITS["max_batch_size"])
    ]
    for stream in streams:
        next(stream)
    for stream in streams:
        stream.close()
    begun = time.monotonic()
    assert server.text(max_tokens=2)
    # The eight would have taken a second more.
    assert time.monotonic() - begun < 0.5


def test_the_queue_is_in_flight_and_not_in_batches(server):
    """A ninth request starts when the first of eight ends, not when all of them have."""
    ended = []

    def ask(max_tokens):
        server.text(end_id=-1, max_tokens=max_tokens)
        ended.append(max_tokens)

    lengths = [20, *[400] * (LIMITS["max_batch_size"] - 1), 21]
    threads = [threading.Thread(target=ask, args=(length,)) for length in lengths]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert ended[:2] == [20, 21]


def test_the_stand_in_is_nowhere_but_in_tests(tmp_path):
    engine = stand_in_engine(tmp_path / "engine", RELEASE)
    config = read_config(gpu_repository(engine, RELEASE, tmp_path) / "tensorrt_llm/config.pbtxt")
    assert config.backend == "tensorrtllm"
