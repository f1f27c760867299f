"""Requests made to keep a real server busy: each is refused, and nobody else notices."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.model_repository.contract import CLOUD, Server

NEARLY_ALL = 10 * (1 << 20) - 1000  # of what a body may have
LONG = "ab " * (NEARLY_ALL // 3)
PROMPT = {"text_input": CLOUD, "max_tokens": 5}
IDS = {"input_ids": [1, 2], "input_lengths": 2, "request_output_len": 2}
FLAT = [*range(1, 20_001), *range(1, 20_001)]


@pytest.fixture(scope="module")
def server(triton):
    return Server(triton, "cpu")


def infer_body(**texts):
    """An `infer` body of preprocessing's inputs."""
    inputs = [
        {"name": name, "shape": [1, len(values)], "datatype": "BYTES", "data": values}
        for name, values in texts.items()
    ]
    length = {"name": "REQUEST_OUTPUT_LEN", "shape": [1, 1], "datatype": "INT32", "data": [2]}
    return {"inputs": [*inputs, length]}


def messages(content):
    return json.dumps([{"role": "user", "content": content}])


ATTACKS = {
    "prompt": ("tensorrt_llm_bls/generate", {**PROMPT, "text_input": LONG}),
    "streamed prompt": ("tensorrt_llm_bls/generate_stream", {**PROMPT, "text_input": LONG}),
    "prompt of the ensemble": ("ensemble/generate", {**PROMPT, "text_input": LONG}),
    "prompt of preprocessing": ("preprocessing/infer", infer_body(QUERY=[LONG])),
    "messages": (
        "tensorrt_llm_bls/generate",
        {"messages": messages(LONG[: NEARLY_ALL // 2]), "max_tokens": 5},
    ),
    "messages of many": ("tensorrt_llm_bls/generate", {"messages": "[" + "[]," * 10**6 + "1]"}),
    "stop words": ("tensorrt_llm_bls/generate", {**PROMPT, "stop_words": ["w"] * 10_000}),
    "bad words": (
        "ensemble/generate",
        {**PROMPT, "bad_words": [f"word {number}" for number in range(10_000)]},
    ),
    "long words": ("tensorrt_llm_bls/generate", {**PROMPT, "stop_words": ["w" * 10_000] * 20}),
    "words of preprocessing": (
        "preprocessing/infer",
        infer_body(QUERY=["a"], STOP_WORDS_DICT=[f"w{number}" for number in range(50_000)]),
    ),
    "words as ids": ("tensorrt_llm/generate", {**IDS, "stop_words_list": FLAT}),
    "bad words as ids": ("tensorrt_llm/generate", {**IDS, "bad_words_list": FLAT}),
    "ids": (
        "tensorrt_llm/generate",
        {**IDS, "input_ids": [1] * 150_000, "input_lengths": 150_000},
    ),
    "values": ("ensemble/generate", {**PROMPT, "stop_words": [[]] * 2_000_000}),
    "unknown fields": ("ensemble/generate", {**PROMPT, **{f"f{n}": 1 for n in range(50_000)}}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused_and_the_next_request_is_answered(server, attack):
    path, body = ATTACKS[attack]
    model, verb = path.split("/")
    refused = server.post(json.dumps(body).encode(), verb, model)
    assert refused.status_code == 400, refused.text[:300]
    assert len(refused.content) < 2000
    assert server.post(PROMPT).status_code == 200


def test_while_all_of_it_comes_at_once_the_others_are_answered(server, sentences):
    """Twice each attack, beside good requests: the server itself survives it too."""
    with ThreadPoolExecutor(8) as attackers, ThreadPoolExecutor(2) as others:
        attacks = [
            attackers.submit(server.post, json.dumps(body).encode(), *reversed(path.split("/")))
            for path, body in [*ATTACKS.values()] * 2
        ]
        answers = list(others.map(lambda _: server.text(), range(20)))
        statuses = {attack.result().status_code for attack in attacks}
    assert answers == [sentences[CLOUD]] * 20
    assert statuses <= {400, 503}  # 503 where so many large bodies came at once


@pytest.mark.parametrize(
    "prompt",
    [LONG, [LONG[: NEARLY_ALL // 210]] * 200, ["x"] * 257, [[]] * 150_000],
    ids=["one", "many", "more than run at once", "values"],
)
def test_openais_prompts_are_measured_too(server, prompt):
    body = {"model": "tensorrt_llm_bls", "prompt": prompt, "max_tokens": 2}
    refused = requests.post(f"{server.url}/v1/completions", json=body, timeout=60)
    assert refused.status_code == 400, refused.text[:300]
    assert server.post(PROMPT).status_code == 200
