"""OpenAI's API before a real Triton with the tiny Falcon, straight and through local_oci."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import httpx2
import openai
import pydantic
import pytest
import requests
from tokenizers import Tokenizer

from falconry.image.process_image import prepare_process_image
from tests.conftest import running_triton
from tests.local_oci.support import LocalCloud, Sdk, zipped_repository

TOKENIZER = Path(__file__).parents[2] / "checkpoints/tiny-falcon/tokenizer.json"
MODEL = "tensorrt_llm_bls"
IMAGE = "local/triton:1"
DEPLOYED = "/opt/ds/model/deployed_model/model_repository"
QUESTION = "Explain Cloud Computing to a school kid"
GREEDY = {"model": MODEL, "max_tokens": 200, "temperature": 0}


@pytest.fixture(scope="module")
def client(triton):
    with openai.OpenAI(base_url=f"{triton}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def complete(client):
    return lambda prompt, **fields: client.completions.create(
        **{**GREEDY, "prompt": prompt, **fields}
    )


def streamed(chunks):
    """A stream's text, and its last chunk with a choice."""
    chunks = [chunk for chunk in chunks if chunk.choices]
    return "".join(chunk.choices[0].text for chunk in chunks), chunks[-1]


def tokens(text):
    """How many tokens a text has, by the tokenizers library."""
    return len(Tokenizer.from_file(str(TOKENIZER)).encode(text).ids)


def test_every_sentence_is_answered_as_transformers_answers_it(complete, sentences):
    answer = complete(list(sentences))
    assert [choice.text for choice in answer.choices] == list(sentences.values())
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}


def test_a_stream_adds_up_to_the_whole_answer(complete, sentences):
    for prompt, answer in list(sentences.items())[:12]:
        text, last = streamed(complete(prompt, stream=True))
        assert text == answer
        assert last.choices[0].finish_reason == "stop"


def test_usage_counts_the_tokenizers_tokens(complete, sentences):
    for prompt, answer in list(sentences.items())[:3]:
        usage = complete(prompt).usage
        assert usage.prompt_tokens == tokens(prompt)
        assert usage.completion_tokens == tokens(answer)
        *_, last = complete(prompt, stream=True, stream_options={"include_usage": True})
        assert last.usage == usage


def test_the_length_ends_an_answer_with_that_reason(complete, sentences):
    prompt, answer = next(iter(sentences.items()))
    short = complete(prompt, max_tokens=4)
    assert short.choices[0].finish_reason == "length"
    assert answer.startswith(short.choices[0].text)
    assert short.usage.completion_tokens == 4


def test_a_stop_word_ends_the_text_before_it(complete, sentences):
    prompt, answer = next(iter(sentences.items()))
    word = answer[10:14]  # anywhere, across the borders of tokens
    expected = answer.partition(word)[0]
    stopped = complete(prompt, stop=word)
    assert stopped.choices[0].text == expected
    assert stopped.choices[0].finish_reason == "stop"
    assert streamed(complete(prompt, stop=["never there", word], stream=True))[0] == expected


def test_a_seed_decides_what_is_sampled_and_without_one_answers_differ(complete):
    sampled = {"temperature": 1.5, "max_tokens": 12}
    assert complete("A", seed=7, **sampled).choices == complete("A", seed=7, **sampled).choices
    texts = {complete("A", **sampled).choices[0].text for _ in range(5)}
    assert len(texts) > 1


def test_the_prompt_is_echoed_when_asked_for(complete, sentences):
    prompt, answer = next(iter(sentences.items()))
    assert complete(prompt, echo=True).choices[0].text == prompt + answer


def test_a_chat_is_answered_by_the_checkpoints_template(client, complete, sentences):
    # The template of checkpoints/tiny-falcon makes this prompt of it.
    answer = complete(f"User: {QUESTION}\nFalcon:").choices[0].text
    assert answer.strip() == sentences[QUESTION]
    # And takes the system's message, with which most examples begin.
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": QUESTION}]
    instructed = client.chat.completions.create(**GREEDY, messages=messages).choices[0].message
    expected = complete(f"System: Be kind.\nUser: {QUESTION}\nFalcon:").choices[0].text
    assert instructed.content == expected
    fields = {**GREEDY, "messages": [{"role": "user", "content": QUESTION}]}
    whole = client.chat.completions.create(**fields)
    assert whole.choices[0].message.content == answer
    chunks = list(client.chat.completions.create(**fields, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_log_probabilities_are_of_the_tokenizers_tokens(triton, complete, sentences):
    """The tokens by the tokenizers library, the values as Triton's own API has them."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    for prompt, answer in sentences.items():
        ids = tokenizer.encode(answer, add_special_tokens=False).ids
        found = complete(prompt, logprobs=1).choices[0].logprobs
        names = [tokenizer.decode([each]) for each in ids]
        assert len(found.tokens) == len(names)
        for name, token, offset in zip(names, found.tokens, found.text_offset, strict=True):
            if token.startswith("bytes:"):  # a part of a character
                assert "\ufffd" in name
                assert not answer[offset : offset + len(name)].isascii()
            else:
                assert token == name
                assert answer[offset:].startswith(token)
        body = {"text_input": prompt, "max_tokens": 200, "return_log_probs": True}
        url = f"{triton}/v2/models/{MODEL}/generate"
        values = requests.post(url, json=body, timeout=60).json()["output_log_probs"]
        assert found.token_logprobs == pytest.approx(values, abs=1e-4)


def test_a_streams_log_probabilities_add_up_to_the_whole_answers(complete, sentences):
    for prompt in sentences:
        whole = complete(prompt, logprobs=0).choices[0].logprobs
        chunks = [chunk.choices[0] for chunk in complete(prompt, logprobs=0, stream=True)]
        told = [chunk.logprobs for chunk in chunks if chunk.logprobs]
        assert [each for part in told for each in part.tokens] == whole.tokens
        assert [each for part in told for each in part.text_offset] == whole.text_offset


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_of_a_stop_word_are_not_told(complete, sentences, stream):
    prompt, answer = next(iter(sentences.items()))
    words = answer.split(" ")
    answered = complete(prompt, stop=f" {words[3]} {words[4]}", logprobs=0, stream=stream)
    choices = [chunk.choices[0] for chunk in answered] if stream else answered.choices
    tokens = [token for each in choices if each.logprobs for token in each.logprobs.tokens]
    assert "".join(tokens) == " ".join(words[:3])


def test_a_chats_log_probabilities_have_the_bytes_of_its_text(client):
    fields = {
        **GREEDY,
        "messages": [{"role": "user", "content": "What is Japan called in Japanese?"}],
    }
    whole = client.chat.completions.create(**fields, logprobs=True).choices[0]
    data = b"".join(bytes(each.bytes) for each in whole.logprobs.content)
    assert data.decode() == whole.message.content
    chunks = client.chat.completions.create(**fields, logprobs=True, stream=True)
    told = [chunk.choices[0].logprobs for chunk in chunks]
    assert [each for part in told if part for each in part.content] == whole.logprobs.content


def test_a_chat_that_does_not_say_ends_with_the_engines_sequence(client):
    messages = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    # The end token is kept from it as long as there is room: the checkpoint has 512 positions.
    room = {"min_tokens": 512 - answer.usage.prompt_tokens}
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, extra_body=room
    )
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens) == ("length", 512)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"presence_penalty": 1}, "presence_penalty 1.0 cannot be honoured by the CPU engine"),
        ({"max_tokens": 4000}, "max_tokens is 4000"),
        ({"prompt": ""}, "prompt is empty"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_cannot_do_is_refused_in_its_words(complete, fields, said, stream):
    with pytest.raises(openai.BadRequestError, match=said):
        complete(**{"prompt": "x", **fields}, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_an_overlong_prompt_is_known_by_openais_code(complete, stream):
    with pytest.raises(openai.BadRequestError) as refused:
        complete([5] * 600, stream=stream)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompt")
    expected = "This model's maximum context length is 512 tokens."
    assert refused.value.body["message"].startswith(expected)


def test_a_prompt_as_tokens_is_answered_as_its_text(complete, sentences):
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    prompts = list(sentences)[:3]
    answers = complete([tokenizer.encode(each).ids for each in prompts], echo=True).choices
    assert [each.text for each in answers] == [each + sentences[each] for each in prompts]


def test_tokens_are_those_of_the_tokenizer(complete, sentences):
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    prompt, answer = next(iter(sentences.items()))
    ids = tokenizer.encode(answer).ids
    whole = complete(prompt, extra_body={"return_token_ids": True}).choices[0]
    assert whole.token_ids == ids
    assert whole.prompt_token_ids == tokenizer.encode(prompt).ids
    chunks = list(complete(prompt, stream=True, extra_body={"return_token_ids": True}))
    streamed_ids = [each for chunk in chunks for each in getattr(chunk.choices[0], "token_ids", [])]
    assert streamed_ids == ids
    assert chunks[-1].choices[0].prompt_token_ids == whole.prompt_token_ids


def test_a_stop_token_ends_an_answer_as_vllms_does(complete, sentences):
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    prompt, answer = next(iter(sentences.items()))
    ids = tokenizer.encode(answer).ids
    end = ids.index(ids[7])
    stop = {"stop_token_ids": [ids[7]]}
    stopped = complete(prompt, extra_body=stop).choices[0]
    assert (stopped.text, stopped.finish_reason) == (tokenizer.decode(ids[:end]), "stop")
    shown = complete(prompt, extra_body={**stop, "include_stop_str_in_output": True})
    assert shown.choices[0].text == tokenizer.decode(ids[: end + 1])
    word = answer[10:14]
    shown = complete(prompt, stop=word, extra_body={"include_stop_str_in_output": True})
    assert shown.choices[0].text == answer[: answer.index(word) + 4]


def test_an_answer_goes_on_where_the_end_is_ignored(complete, sentences):
    prompt = next(iter(sentences))
    for fields in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
        found = complete(prompt, max_tokens=150, extra_body={"ignore_eos": True}, **fields)
        usage = list(found)[-1].usage if fields else found.usage
        assert usage.completion_tokens == 150


def test_a_truncated_prompt_keeps_its_end(complete, sentences):
    prompt, answer = next(iter(sentences.items()))
    kept = tokens(prompt)
    truncated = complete("x y z " + prompt, extra_body={"truncate_prompt_tokens": kept})
    assert (truncated.choices[0].text, truncated.usage.prompt_tokens) == (answer, kept)
    longest = complete([5] * 900, max_tokens=1, extra_body={"truncate_prompt_tokens": -1})
    assert longest.usage.prompt_tokens == 511


def test_a_message_is_continued(client, complete):
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Cloud computing "},
    ]
    answer = client.chat.completions.create(
        **GREEDY, messages=messages, extra_body={"continue_final_message": True}
    )
    expected = complete(f"User: {QUESTION}\nFalcon: Cloud computing ").choices[0].text
    assert answer.choices[0].message.content == expected


def test_bad_words_are_not_written(complete, sentences):
    prompt, answer = next(iter(sentences.items()))
    word = answer.split()[2]
    assert word not in complete(prompt, extra_body={"bad_words": [word]}).choices[0].text


class Person(pydantic.BaseModel):
    """What structured answers are read into, as the official client does."""

    name: str
    age: Annotated[int, pydantic.Field(ge=0, le=120)]
    kind: Literal["spider", "bird"] | None = None


@pytest.mark.parametrize("max_tokens", [100, None])
def test_a_structured_answer_is_of_its_schema(client, max_tokens):
    fields = {"model": MODEL, "temperature": 0, "max_tokens": max_tokens}
    messages = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.parse(**fields, messages=messages, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)
    with client.chat.completions.stream(
        **fields, messages=messages, response_format=Person
    ) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Person)


def test_a_json_object_is_one(client):
    answer = client.chat.completions.create(
        **GREEDY,
        messages=[{"role": "user", "content": QUESTION}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_a_schema_that_cannot_be_followed_is_refused_and_harms_nobody(client, complete, sentences):
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    prompt, answer = next(iter(sentences.items()))
    with complete(prompt, stream=True) as stream:
        with pytest.raises(openai.BadRequestError) as refused:
            complete("A", extra_body={"response_format": form})
        assert streamed(stream)[0] == answer
    assert refused.value.param == "response_format.json_schema.schema.properties.a.pattern"


def test_a_required_call_comes_of_any_model(client):
    function = {"name": "look_up", "parameters": Person.model_json_schema()}
    fields = {
        **GREEDY,
        "messages": [{"role": "user", "content": QUESTION}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    }
    choice = client.chat.completions.create(**fields).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert call.function.name == "look_up"
    Person.model_validate_json(call.function.arguments)
    with pytest.raises(openai.BadRequestError, match="template takes none") as refused:
        client.chat.completions.create(**{**fields, "tool_choice": "auto"})
    assert refused.value.param == "tools"


def test_curl_sees_whole_characters_in_every_event(triton, sentences):
    body = {**GREEDY, "prompt": list(sentences)[-1], "stream": True}
    output = subprocess.run(
        ["curl", "-sN", f"{triton}/v1/completions", "--json", json.dumps(body)],
        capture_output=True,
        check=True,
    ).stdout
    *events, done, after = output.split(b"\n\n")
    assert (done, after) == (b"data: [DONE]", b"")
    texts = [
        json.loads(event.removeprefix(b"data: ").decode())["choices"][0]["text"] for event in events
    ]
    assert "".join(texts) == list(sentences.values())[-1]
    assert not any("\ufffd" in text for text in texts)


def test_two_hundred_mixed_requests_at_once_are_answered_right(triton, complete, sentences):
    kinds = [
        lambda prompt: complete(prompt).choices[0].text,
        lambda prompt: streamed(complete(prompt, stream=True))[0],
        lambda prompt: _generated(triton, prompt),
        lambda prompt: _refused(complete, prompt),
        lambda prompt: _left(complete, prompt),
    ]
    asked = [(kinds[number % 5], list(sentences)[number % len(sentences)]) for number in range(200)]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda each: each[0](each[1]), asked))
    expected = [
        sentences[prompt] if number % 5 < 3 else "refused" if number % 5 == 3 else "left"
        for number, (_, prompt) in enumerate(asked)
    ]
    assert answers == expected
    lines = requests.get(f"{triton}/metrics", timeout=5).text.splitlines()
    assert "falconry_front_generations_in_flight 0.0" in lines
    assert "falconry_front_generations_queued 0.0" in lines


def _generated(triton, prompt):
    body = {"text_input": prompt, "max_tokens": 200}
    answer = requests.post(f"{triton}/v2/models/{MODEL}/generate", json=body, timeout=60)
    return answer.json()["text_output"]


def _refused(complete, prompt):
    with pytest.raises(openai.BadRequestError):
        complete(prompt, best_of=2)
    return "refused"


def _left(complete, prompt):
    with complete(prompt, stream=True) as stream:
        next(iter(stream))
    return "left"


def test_tritons_metrics_and_the_fronts_are_on_one_page(triton, complete):
    complete("x")
    text = requests.get(f"{triton}/metrics", timeout=5).text
    for name in (
        'nv_inference_request_success{model="tensorrt_llm_bls"',  # Triton's own
        "falconry_time_to_first_token_seconds_count",  # the front model's
        "falconry_time_per_output_token_seconds_count",
        # the engine's, as dashboards read them of NVIDIA's
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 16',
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm"',
        'nv_trt_llm_general_metrics{general_type="iteration_counter",model="tensorrt_llm"',
        'nv_trt_llm_inflight_batcher_metrics{inflight_batcher_specific_metric="generation_requests"',
        'falconry_front_requests_total{route="completions",status="200"}',
    ):
        assert any(line.startswith(name) for line in text.splitlines()), name


def test_a_running_stream_ends_well_when_the_server_is_stopped(make_repository, tmp_path):
    body = {"text_input": "x", "max_tokens": 400, "end_id": -1, "stream": True}
    with running_triton(make_repository(), tmp_path) as url:
        stream = requests.post(
            f"{url}/v2/models/{MODEL}/generate_stream", json=body, stream=True, timeout=60
        )
        lines = stream.iter_lines()
        next(lines)
    *_, last = filter(None, lines)
    assert json.loads(last.removeprefix(b"data: "))["completion_tokens"] == 400


class Signed(httpx2.Auth):
    """OCI's signature on a request of the official client."""

    requires_request_body = True

    def __init__(self, signer):
        self._signer = signer

    def auth_flow(self, request):
        prepared = requests.Request(
            request.method,
            str(request.url),
            headers={"content-type": request.headers.get("content-type", "application/json")},
            data=request.content or None,
        ).prepare()
        request.headers.update(self._signer(prepared).headers)
        yield request


@pytest.fixture(scope="module")
def deployment(make_repository, tmp_path_factory):
    """A deployment with OpenAI's paths in a local cloud: its URL, and a signer for it."""
    directory = tmp_path_factory.mktemp("oci")
    image = prepare_process_image(directory / "image")
    cloud = LocalCloud(directory / "cloud", f"--image={IMAGE}={image}").start()
    try:
        sdk = Sdk(cloud)
        deployed = sdk.deploy(
            sdk.model(zipped_repository(make_repository())),
            variables={
                "FALCONRY_MODEL_NAME": "tiny-falcon",
                "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
            },
            image=IMAGE,
            cmd=["tritonserver", f"--model-repository={DEPLOYED}"],
            predict_api_specification="openai",
        )
        yield deployed.model_deployment_url, sdk.signer
    finally:
        cloud.stop()


@pytest.mark.parametrize("route", ["predict", "predictWithResponseStream"])
def test_the_official_client_speaks_through_ocis_gateway(deployment, sentences, route):
    url, signer = deployment
    with (
        httpx2.Client(auth=Signed(signer), trust_env=False, timeout=60) as http,
        openai.OpenAI(
            base_url=f"{url}/{route}/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        prompt, answer = next(iter(sentences.items()))
        fields = {**GREEDY, "model": "tiny-falcon", "prompt": prompt}
        if route == "predict":
            assert client.models.list().data[0].id == "tiny-falcon"
            assert client.completions.create(**fields).choices[0].text == answer
            with pytest.raises(openai.NotFoundError, match="'other' does not exist"):
                client.completions.create(**{**fields, "model": "other"})
        text, last = streamed(client.completions.create(**fields, stream=True))
        assert (text, last.choices[0].finish_reason) == (answer, "stop")


def test_without_a_signature_the_gateway_refuses(deployment):
    url, _ = deployment
    answer = requests.get(f"{url}/predict/v1/models", timeout=10)
    assert answer.status_code == 401
