"""The assembled repository behind a real Triton, asked over HTTP as any client would."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

CLOUD = "Explain Cloud Computing to a school kid"
# The request of the user's document, as it stands there.
DOCUMENT = {
    "text_input": CLOUD,
    "max_tokens": 30,
    "bad_words": ["now", "process"],
    "stop_words": [""],
    "top_k": 20,
    "top_p": 1,
    "end_id": 3,
    "pad_id": 2,
}


def post(url, body, path="generate"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"{url}/v2/models/ensemble/{path}", data=data, timeout=60)


def generate(url, prompt=CLOUD, max_tokens=128, **options):
    response = post(url, {"text_input": prompt, "max_tokens": max_tokens, **options})
    assert response.status_code == 200, response.text
    return response.json()


def text(url, prompt=CLOUD, max_tokens=128, **options):
    return generate(url, prompt, max_tokens, **options)["text_output"]


def stream(url, **body):
    response = requests.post(
        f"{url}/v2/models/ensemble/generate_stream",
        json={"stream": True, **body},
        stream=True,
        timeout=60,
    )
    assert response.status_code == 200
    events = [line[len(b"data: ") :] for line in response.iter_lines() if line]
    return [json.loads(event)["text_output"] for event in events]


def test_every_sentence_is_answered_as_transformers_answers_it(triton, sentences):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda prompt: text(triton, prompt), sentences))
    assert answers == list(sentences.values())


def test_the_documents_request_works_as_it_stands(triton, sentences):
    response = post(triton, DOCUMENT, "generate")
    assert response.status_code == 200
    answer = response.json()["text_output"]
    assert answer
    assert "now" not in answer
    assert "process" not in answer


def test_a_stream_adds_up_to_the_whole_answer_without_broken_characters(triton, sentences):
    for prompt, answer in sentences.items():
        chunks = stream(triton, text_input=prompt, max_tokens=128)
        assert len(chunks) > 5
        assert "".join(chunks) == answer
        assert not any("\ufffd" in chunk for chunk in chunks)


def test_a_stop_word_ends_the_text_before_it(triton, sentences):
    answer = sentences[CLOUD]
    stop = answer[30:34]
    expected = answer[: answer.index(stop)]
    assert text(triton, stop_words=[stop]) == expected
    chunks = stream(triton, text_input=CLOUD, max_tokens=128, stop_words=["xyz", stop])
    assert "".join(chunks) == expected


def test_an_end_token_by_its_name_is_a_stop_word(triton, sentences):
    assert text(triton, end_id=3, stop_words=["<|endoftext|>"]) == sentences[CLOUD]


def test_another_end_id_does_not_stop_at_the_end_token(triton, sentences):
    longer = text(triton, end_id=3)
    assert longer.startswith(sentences[CLOUD])
    assert len(longer) > len(sentences[CLOUD])


def test_bad_words_never_come(triton, sentences):
    banned = sentences[CLOUD].split()[1:3]
    for seed in range(5):
        answer = text(triton, bad_words=banned, top_k=50, temperature=2.0, seed=seed)
        assert not any(word in answer for word in banned)


def test_a_seed_decides_what_is_sampled(triton):
    hot = {"top_k": 0, "top_p": 1.0, "temperature": 5.0, "max_tokens": 40}
    first = text(triton, seed=1, **hot)
    assert text(triton, seed=1, **hot) == first
    assert text(triton, seed=2, **hot) != first


def test_top_k_one_and_a_tiny_top_p_are_greedy(triton, sentences):
    assert text(triton, top_k=1, temperature=5.0, seed=3) == sentences[CLOUD]
    assert text(triton, top_p=1e-6, temperature=1.0, seed=3) == sentences[CLOUD]


def test_a_repetition_penalty_changes_what_is_repeated(triton):
    repeated = text(triton, end_id=-1, max_tokens=100)
    assert text(triton, end_id=-1, max_tokens=100, repetition_penalty=1.5) != repeated


def test_max_tokens_is_kept(triton):
    answer = generate(triton, max_tokens=5, return_log_probs=True)
    log_probs = answer["output_log_probs"]
    assert len(log_probs) == 5
    assert answer["cum_log_probs"] == pytest.approx(sum(log_probs), abs=1e-4)
    assert all(value < 0 for value in log_probs)


def test_the_prompt_is_echoed_only_when_asked_for(triton, sentences):
    assert text(triton, exclude_input_in_output=False) == CLOUD + sentences[CLOUD]


def test_a_short_request_does_not_wait_for_a_long_one(triton):
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(text, triton, end_id=-1, max_tokens=480)
        chunks = stream(triton, text_input=CLOUD, max_tokens=2)
        assert chunks
        assert text(triton, max_tokens=2)
        assert not long.done()
        assert long.result()


def test_the_infer_route_answers_infer_and_generate(unary_triton, sentences):
    body = {
        "inputs": [
            {"name": "text_input", "shape": [1, 1], "datatype": "BYTES", "data": [CLOUD]},
            {"name": "max_tokens", "shape": [1, 1], "datatype": "INT32", "data": [128]},
        ]
    }
    response = post(unary_triton, body, "infer")
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert outputs["text_output"] == [sentences[CLOUD]]
    assert text(unary_triton) == sentences[CLOUD]


def test_without_decoupling_too_a_short_request_does_not_wait(unary_triton):
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(text, unary_triton, end_id=-1, max_tokens=480)
        time.sleep(0.3)  # the long one is at work by then
        assert text(unary_triton, max_tokens=2)
        assert not long.done()
        assert long.result()


def test_a_stream_from_the_infer_route_is_refused(unary_triton):
    response = post(unary_triton, {"text_input": CLOUD, "max_tokens": 5, "stream": True})
    assert response.status_code == 400
    assert "stream" in response.json()["error"]


GOOD = {"text_input": CLOUD, "max_tokens": 5}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "text_input": ""}, "text_input is empty"),
        ({**GOOD, "text_input": "word " * 2000}, "this engine takes 511"),
        ({**GOOD, "text_input": ["a", "b"]}, "batch size"),
        ({**GOOD, "max_tokens": 0}, "max_tokens is 0"),
        ({**GOOD, "max_tokens": -3}, "max_tokens is -3"),
        ({**GOOD, "max_tokens": 100_000}, "max_tokens is 100000"),
        ({"text_input": CLOUD}, "max_tokens"),
        ({**GOOD, "max_token": 5}, "unknown field: max_token"),
        ({**GOOD, "beam_width": 4}, "beam_width 4"),
        ({**GOOD, "lora_task_id": 1}, "lora_task_id"),
        ({**GOOD, "top_p": 7.0}, "top_p is 7"),
        ({**GOOD, "end_id": 10**6}, "end_id is 1000000"),
        ({**GOOD, "max_tokens": 2**32 + 5}, "max_tokens is 4294967301"),
        ({**GOOD, "max_tokens": "5"}, "max_tokens must be a whole number, not text"),
        ({**GOOD, "text_input": 5}, "text_input must be text, not 5"),
        ({**GOOD, "temperature": None}, "temperature must be a number, not null"),
        (b'{"text_input": "a\xff", "max_tokens": 5}', "not valid UTF-8"),
        (b'{"text_input": ', "not JSON"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_a_bad_request_is_refused_with_the_reason_and_others_are_served(
    triton, sentences, path, body, said
):
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(text, triton) for _ in range(3)]
        response = post(triton, body, path)
        assert 400 <= response.status_code < 500, response.text
        assert said in response.text
        assert [each.result() for each in good] == [sentences[CLOUD]] * 3
