"""The front model behind a real Triton, asked over HTTP and gRPC as any client would."""

import contextlib
import json
import queue
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from scripts.real_triton import running_with_all_ports
from tests.model_repository.front_client import (
    CLOUD,
    LONG,
    events,
    eventually,
    generate,
    grpc_inputs,
    metric,
    post,
    stream,
    tokens_when_it_left,
)

# The engine goes on while word of the client's end travels; steps of the tiny model take 2 to 3 ms
# (test_slots.py has longer ones).
TOKENS_ON_THE_WAY = 25


@pytest.fixture(scope="module")
def front(make_repository, tmp_path_factory):
    """A Triton with all its ports."""
    directory = tmp_path_factory.mktemp("front")
    with running_with_all_ports(make_repository(), directory) as server:
        yield server


@pytest.fixture
def busy(front):
    """Other streams, beside which the tiny model takes its time for an answer."""
    running = [events(front, LONG) for _ in range(12)]
    for each in running:
        next(each)
    yield
    for each in running:
        each.close()


def test_every_sentence_is_answered_as_transformers_answers_it(front, sentences):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda prompt: generate(front, prompt), sentences))
    assert [answer["text_output"] for answer in answers] == list(sentences.values())
    assert {answer["finish_reason"] for answer in answers} == {"stop"}


def test_a_stream_adds_up_to_the_whole_answer(front, sentences):
    for prompt, answer in sentences.items():
        chunks, last = stream(front, prompt)
        whole = generate(front, prompt)
        assert len(chunks) > 2  # on a busy machine some tokens arrive together
        assert "".join(chunks) == whole["text_output"] == answer
        for name in ("finish_reason", "prompt_tokens", "completion_tokens"):
            assert last[name] == whole[name]


def test_a_stop_word_is_cut_exactly_wherever_its_tokens_end(front, sentences):
    answer = sentences[CLOUD]
    for begin in range(20, 40, 3):
        for length in (1, 2, 5, 11):
            word = answer[begin : begin + length]
            expected = answer[: answer.index(word)]
            whole = generate(front, stop_words=["never there", word])
            assert (whole["text_output"], whole["finish_reason"]) == (expected, "stop")
    chunks, last = stream(front, stop_words=[word])
    assert ("".join(chunks), last["finish_reason"]) == (expected, "stop")
    assert last["completion_tokens"] == whole["completion_tokens"]


def test_an_end_token_by_its_name_is_a_stop_word(front, sentences):
    answer = generate(front, end_id=3, stop_words=["<|endoftext|>"])
    assert (answer["text_output"], answer["finish_reason"]) == (sentences[CLOUD], "stop")


def test_an_answer_ends_at_the_tokens_asked_for(front, sentences):
    answer = generate(front, max_tokens=5)
    assert (answer["finish_reason"], answer["completion_tokens"]) == ("length", 5)
    chunks, last = stream(front, max_tokens=5)
    assert "".join(chunks) == answer["text_output"]
    assert (last["finish_reason"], last["completion_tokens"]) == ("length", 5)
    # Six tokens: what the tokenizer of the checkpoint makes of these words.
    assert answer["prompt_tokens"] == generate(front, max_tokens=1)["prompt_tokens"] > 5


def test_log_probabilities_come_when_they_are_asked_for(front):
    answer = generate(front, max_tokens=5, return_log_probs=True)
    assert len(answer["output_log_probs"]) == 5
    assert answer["cum_log_probs"] == pytest.approx(sum(answer["output_log_probs"]), abs=1e-4)
    tokens = [bytes.fromhex(each) for each in answer["output_tokens"]]
    assert b"".join(tokens).decode() == answer["text_output"]
    streamed = list(events(front, {**LONG, "max_tokens": 5, "return_log_probs": True}))
    values = np.hstack([event["output_log_probs"] for event in streamed])
    assert values == pytest.approx(answer["output_log_probs"])
    without = generate(front, max_tokens=5)
    assert not {"cum_log_probs", "output_log_probs", "output_tokens"} & set(without)


def test_max_tokens_beyond_the_engines_sequence_becomes_less_with_a_warning(front):
    whole = {"max_tokens": 100_000, "end_id": -1}
    answer = generate(front, **whole)
    assert answer["finish_reason"] == "length"
    # The checkpoint's 512 positions.
    assert answer["prompt_tokens"] + answer["completion_tokens"] == 512
    becomes = f"max_tokens is 100000 and becomes {answer['completion_tokens']}"
    eventually(lambda: becomes in front.log.read_text())
    refused = post(front.url, {"text_input": CLOUD, "fit_max_tokens": False, **whole})
    assert (refused.status_code, "max_tokens is 100000" in refused.text) == (400, True)


def test_the_prompt_is_echoed_only_when_asked_for(front, sentences):
    whole = CLOUD + sentences[CLOUD]
    assert generate(front, exclude_input_in_output=False)["text_output"] == whole
    assert "".join(stream(front, exclude_input_in_output=False)[0]) == whole


def test_sampling_inputs_reach_the_engine(front, sentences):
    hot = {"top_k": 0, "top_p": 1.0, "temperature": 5.0, "max_tokens": 40}
    first = generate(front, seed=2**64 - 1, **hot)["text_output"]
    assert generate(front, seed=2**64 - 1, **hot)["text_output"] == first
    assert generate(front, seed=1, **hot)["text_output"] != first
    banned = sentences[CLOUD].split()[1:3]
    answer = generate(front, bad_words=banned)["text_output"]
    assert not any(word in answer for word in banned)


def test_a_short_request_does_not_wait_for_a_long_one(front):
    long = events(front, LONG)
    next(long)
    assert generate(front, max_tokens=2)["finish_reason"] == "length"
    assert "finish_reason" not in next(long)
    long.close()


def test_a_stop_request_ends_a_stream_with_what_it_has(front):
    running = events(front, {**LONG, "id": "to-stop"})
    first = next(running)
    texts = [first["text_output"], *(next(running)["text_output"] for _ in range(4))]
    stopped = post(front.url, {"id": "my stop", "stop_token": first["stop_token"], "stop": True})
    assert stopped.json()["id"] == "my stop"
    assert (stopped.status_code, stopped.json()["finish_reason"]) == (200, "cancelled")
    rest = list(running)
    texts += [event["text_output"] for event in rest]
    assert rest[-1]["finish_reason"] == "cancelled"
    whole = post(front.url, LONG).json()["text_output"]
    assert whole.startswith("".join(texts))
    left = tokens_when_it_left(front, "to-stop")
    assert left <= rest[-1]["completion_tokens"] + TOKENS_ON_THE_WAY


def test_a_stop_request_ends_an_answer_in_one_piece(front, busy):
    with ThreadPoolExecutor(1) as pool:
        body = {**LONG, "id": "in-one-piece", "stop_token": "the client's own choice"}
        answer = pool.submit(post, front.url, body)
        time.sleep(0.3)
        post(front.url, {"stop_token": body["stop_token"], "stop": True})
        assert answer.result().json()["finish_reason"] == "cancelled"
        assert answer.result().json()["id"] == "in-one-piece"
        assert answer.result().headers["Falconry-Stop-Token"] == body["stop_token"]
    assert tokens_when_it_left(front, "in-one-piece") < LONG["max_tokens"]


def test_a_stop_request_without_a_token_is_refused_and_one_for_nobody_is_no_fault(front):
    assert post(front.url, {"stop": True, "id": "somebody"}).status_code == 400
    assert post(front.url, {"stop": True, "stop_token": "nobody's token"}).status_code == 200


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_a_client_that_hangs_up_frees_its_slot(front, busy, path):
    request_id = f"hung-up-{path}"
    body = {**LONG, "id": request_id, "stream": path == "generate_stream"}
    url = f"{front.url}/v2/models/tensorrt_llm_bls/{path}"
    seen = 0
    if path == "generate":
        with pytest.raises(requests.ReadTimeout):
            requests.post(url, json=body, timeout=0.3)
    else:
        with requests.post(url, json=body, stream=True, timeout=60) as response:
            for line in response.iter_lines():
                seen += bool(line)
                if seen == 5:
                    break
    left = tokens_when_it_left(front, request_id)
    assert left < LONG["max_tokens"]
    if seen:
        assert left <= seen + TOKENS_ON_THE_WAY


def test_a_grpc_client_that_cancels_frees_its_slot(front):
    received = queue.Queue()
    with grpc.InferenceServerClient(front.grpc) as client:
        client.start_stream(lambda result, error: received.put((result, error)))
        client.async_stream_infer(
            "tensorrt_llm_bls", grpc_inputs(CLOUD, 480), request_id="grpc-cancelled"
        )
        for _ in range(5):
            result, error = received.get(timeout=30)
            assert error is None
            assert result.as_numpy("text_output").shape == (1,)
        client.stop_stream(cancel_requests=True)
    assert tokens_when_it_left(front, "grpc-cancelled") <= 5 + TOKENS_ON_THE_WAY


@pytest.fixture
def grpc_stream(front):
    """Opens streams; each sends a request and gives its next result, None for a final one."""
    with contextlib.ExitStack() as opened:

        def open_stream():
            received = queue.Queue()
            client = opened.enter_context(grpc.InferenceServerClient(front.grpc))
            client.start_stream(lambda result, error: received.put((result, error)))
            opened.callback(client.stop_stream, cancel_requests=True)
            return client, received

        yield open_stream


def grpc_stop():
    stop = grpc.InferInput("stop", [1, 1], "BOOL")
    stop.set_data_from_numpy(np.array([[True]], np.bool_))
    return [stop]


def finish_reason(received):
    """How a request on a stream ended."""
    while True:
        result, error = received.get(timeout=30)
        assert error is None
        reason = result.as_numpy("finish_reason")
        if reason is not None and result.as_numpy("completion_tokens") is not None:
            return reason.item().decode()


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_a_text_has_one_dimension_as_nvidias_clients_read_it(grpc_stream, model):
    client, received = grpc_stream()
    client.async_stream_infer(model, grpc_inputs(CLOUD, 3), request_id="text")
    result, error = received.get(timeout=60)
    assert error is None
    assert result.as_numpy("text_output").shape == (1,)
    assert isinstance(result.as_numpy("text_output")[0], bytes)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_engines_model_repeats_the_prompt_except_in_streams(front, grpc_stream, streaming):
    prompt = [40, 41, 42]
    values = {
        "input_ids": np.array([prompt], np.int32),
        "input_lengths": np.array([[3]], np.int32),
        "request_output_len": np.array([[1]], np.int32),
        "decoder_input_ids": np.array([[11]], np.int32),
        "streaming": np.array([[streaming]]),
    }
    inputs = [
        grpc.InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
        for name, value in values.items()
    ]
    for each, value in zip(inputs, values.values(), strict=True):
        each.set_data_from_numpy(value)
    client, received = grpc_stream()
    client.async_stream_infer("tensorrt_llm", inputs)
    result, error = received.get(timeout=60)
    assert error is None
    ids = result.as_numpy("output_ids")
    assert ids.shape == (1, 1, 1 if streaming else 4)
    assert result.as_numpy("sequence_length").tolist() == [[ids.size]]
    assert (ids[0, 0, :3].tolist() == prompt) is not streaming


def test_on_one_grpc_stream_a_stop_needs_no_token(grpc_stream):
    client, received = grpc_stream()
    client.async_stream_infer("tensorrt_llm_bls", grpc_inputs(CLOUD, 480), request_id="own")
    received.get(timeout=30)
    client.async_stream_infer("tensorrt_llm_bls", grpc_stop(), request_id="own")
    assert finish_reason(received) == "cancelled"


def test_a_grpc_stop_ends_no_http_request_and_none_with_a_token_of_its_own(front, grpc_stream):
    over_http = events(front, {**LONG, "id": "shared"})
    next(over_http)
    client, received = grpc_stream()
    client.async_stream_infer(
        "tensorrt_llm_bls",
        grpc_inputs(CLOUD, 200),
        request_id="shared",
        parameters={"stop_token": "the client's own choice"},
    )
    received.get(timeout=30)
    other, stopped = grpc_stream()
    for parameters in (None, {"stop_token": "a guess of another's"}):
        other.async_stream_infer(
            "tensorrt_llm_bls", grpc_stop(), request_id="shared", parameters=parameters
        )
        assert stopped.get(timeout=30)[1] is None
    assert finish_reason(received) == "length"
    assert list(over_http)[-1]["finish_reason"] == "length"


def test_calls_for_operators_are_closed_over_grpc_as_well(front):
    with grpc.InferenceServerClient(front.grpc) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "triton"
        assert client.get_model_metadata("tensorrt_llm_bls").name == "tensorrt_llm_bls"
        assert client.get_model_config("tensorrt_llm_bls").config.name == "tensorrt_llm_bls"
        assert client.get_inference_statistics().model_stats
        closed = [
            client.get_system_shared_memory_status,
            lambda: client.register_system_shared_memory("mine", "/mine", 8),
            client.unregister_system_shared_memory,
            client.get_cuda_shared_memory_status,
            lambda: client.register_cuda_shared_memory("mine", b"mine", 0, 8),
            client.unregister_cuda_shared_memory,
            client.get_model_repository_index,
            lambda: client.load_model("tensorrt_llm_bls"),
            lambda: client.unload_model("tensorrt_llm_bls"),
            client.get_trace_settings,
            lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
            client.get_log_settings,
            lambda: client.update_log_settings({"log_info": False}),
        ]
        for call in closed:
            with pytest.raises(InferenceServerException, match="restricted"):
                call()


def test_calls_for_operators_are_closed_on_the_front_and_on_tritons_own_port(front):
    own = re.search(r"Started HTTPService at (127\.0\.0\.1:\d+)", front.log.read_text())[1]
    for method, path in (
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/mine/register"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/tensorrt_llm_bls/unload"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/tensorrt_llm_bls/trace/setting"),
        ("POST", "/v2/logging"),
    ):
        for url in (front.url, f"http://{own}"):
            answer = requests.request(method, f"{url}{path}", json={}, timeout=10)
            assert answer.status_code == 403, (url, path, answer.text)
    assert generate(front, max_tokens=2)["finish_reason"] == "length"


def preprocessing_inputs():
    text = triton_http.InferInput("QUERY", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[CLOUD.encode()]], np.object_))
    count = triton_http.InferInput("REQUEST_OUTPUT_LEN", [1, 1], "INT32")
    count.set_data_from_numpy(np.array([[5]], np.int32))
    return [text, count]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_nvidias_client_gets_its_answer_and_its_id_with_raw_tensors(front, compression):
    with triton_http.InferenceServerClient(front.url.removeprefix("http://")) as client:
        result = client.infer(
            "preprocessing",
            preprocessing_inputs(),
            request_id='my "id"',
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
    assert result.get_response()["id"] == 'my "id"'
    assert result.as_numpy("INPUT_ID").size > 3


def test_a_region_of_shared_memory_is_refused_to_nvidias_client(front):
    with triton_http.InferenceServerClient(front.url.removeprefix("http://")) as client:
        inputs = preprocessing_inputs()
        inputs[0].set_shared_memory("secret", 8)
        output = triton_http.InferRequestedOutput("INPUT_ID")
        output.set_shared_memory("secret", 8)
        for sent in ({"inputs": inputs}, {"inputs": preprocessing_inputs(), "outputs": [output]}):
            with pytest.raises(InferenceServerException, match="shared memory is closed") as error:
                client.infer("preprocessing", **sent)
            assert "secret" not in str(error.value)


@pytest.mark.parametrize("size", [21_000_000, 30_000_000])
def test_a_prompt_of_many_bytes_is_refused_over_grpc_too(front, size):
    """Encoding 21 MB killed Triton: it thinks that a model that does not answer has ended."""
    arrived = queue.Queue()
    with grpc.InferenceServerClient(front.grpc) as client:
        client.start_stream(lambda result, error: arrived.put(error))
        client.async_stream_infer("tensorrt_llm_bls", grpc_inputs("ab " * (size // 3), 5))
        assert f"text_input has {size} bytes" in str(arrived.get(timeout=60))
        client.stop_stream()
        texts = [grpc.InferInput("QUERY", [1, 1], "BYTES")]
        texts[0].set_data_from_numpy(np.array([["ab " * (size // 3)]], np.object_))
        texts.append(grpc.InferInput("REQUEST_OUTPUT_LEN", [1, 1], "INT32"))
        texts[1].set_data_from_numpy(np.array([[5]], np.int32))
        with pytest.raises(grpc.InferenceServerException, match=f"text_input has {size} bytes"):
            client.infer("preprocessing", texts)
    assert generate(front, CLOUD, max_tokens=5)["completion_tokens"] == 5


def test_a_grpc_stream_adds_up_and_says_when_it_ends(front):
    received = queue.Queue()
    texts, final = [], False
    with grpc.InferenceServerClient(front.grpc) as client:
        client.start_stream(lambda result, error: received.put((result, error)))
        client.async_stream_infer("tensorrt_llm_bls", grpc_inputs(CLOUD, 40))
        while not final:
            result, error = received.get(timeout=30)
            assert error is None
            texts.append(result.as_numpy("text_output")[0])
            final = result.get_response().parameters["triton_final_response"].bool_param
        client.stop_stream()
    assert result.as_numpy("finish_reason").tolist() == [[b"length"]]
    assert result.as_numpy("completion_tokens").tolist() == [[40]]
    whole = generate(front, max_tokens=40, end_id=-1)["text_output"]
    assert b"".join(texts).decode() == whole


def test_256_streams_at_a_time_are_all_answered_right(front, sentences):
    prompts = list(sentences) * (256 // len(sentences) + 1)
    with ThreadPoolExecutor(256) as pool:
        answers = list(pool.map(lambda prompt: stream(front, prompt), prompts[:256]))
    for prompt, (chunks, last) in zip(prompts, answers, strict=False):
        assert "".join(chunks) == sentences[prompt]
        assert last["finish_reason"] == "stop"
    eventually(lambda: metric(front, "falconry_requests_in_flight") == 0)
    assert metric(front, "falconry_requests_waiting") == 0


def test_tokens_and_times_are_counted(front):
    names = ("falconry_prompt_tokens_total", "falconry_generated_tokens_total")
    before = [metric(front, name) for name in names]
    first_tokens = metric(front, "falconry_time_to_first_token_seconds_count")
    _, last = stream(front, max_tokens=7)
    expected = [last["prompt_tokens"], 7]
    eventually(
        lambda: (
            [metric(front, name) for name in names]
            == [count + new for count, new in zip(before, expected, strict=True)]
        )
    )
    assert metric(front, "falconry_time_to_first_token_seconds_count") == first_tokens + 1


def test_the_log_has_a_line_a_request_without_its_text(front, sentences):
    prompt = next(reversed(sentences))
    generate(front, prompt, id="in\nthe log", max_tokens=9)
    log = eventually(
        lambda: [line for line in front.log.read_text().splitlines() if "in_the_log" in line]
    )
    assert len(log) == 1
    assert "length" in log[0]
    assert "completion_tokens 9" in log[0]
    assert prompt not in front.log.read_text()
    assert sentences[prompt][:20] not in front.log.read_text()


GOOD = {"text_input": CLOUD, "max_tokens": 5}
SECRET_WORD = "Quetzalcoatl"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": SECRET_WORD, "content": "x"}], "max_tokens": 5},
        {"messages": [{"role": "user", "content": {SECRET_WORD: 1}}], "max_tokens": 5},
        {"messages": f"[{SECRET_WORD}", "max_tokens": 5},
        {**GOOD, SECRET_WORD: 1},
        {**GOOD, "max_tokens": SECRET_WORD},
        {**GOOD, "stop_words": [SECRET_WORD * 40]},
        {**GOOD, "bad_words": [f"{SECRET_WORD}\0"]},
        {**GOOD, "text_input": SECRET_WORD * 400},
    ],
    ids=["role", "content", "messages", "field", "number", "long word", "NUL", "long prompt"],
)
def test_the_log_has_no_word_of_a_refused_request(front, body):
    if not isinstance(body.get("messages", ""), str):
        body = {**body, "messages": json.dumps(body["messages"])}
    answer = post(front.url, body)
    assert answer.status_code == 400, answer.text
    assert SECRET_WORD not in front.log.read_text()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "text_input": ""}, "text_input is empty"),
        ({**GOOD, "text_input": "word " * 1000}, "tokens and this engine takes 511"),
        # Too many bytes for so many tokens, whatever they are: it is not tokenized.
        ({**GOOD, "text_input": "word " * 2000}, "10000 bytes and this engine takes at most 8176"),
        ({**GOOD, "text_input": ["a", "b"]}, "batch size"),
        ({**GOOD, "max_tokens": 0}, "max_tokens is 0"),
        ({"text_input": CLOUD}, "max_tokens is missing"),
        ({"max_tokens": 5}, "give text_input or messages"),
        ({**GOOD, "max_token": 5}, "unknown field: max_token"),
        ({**GOOD, "beam_width": 4}, "beam_width can only be 1"),
        ({**GOOD, "return_context_logits": True}, "return_context_logits can only be False"),
        # What only the engine's model knows comes with its own words.
        ({**GOOD, "top_p": 7.0}, "top_p is 7; it must be from 0 to 1"),
        ({**GOOD, "end_id": 10**6}, "end_id is 1000000; the vocabulary ends"),
        ({**GOOD, "presence_penalty": 0.5}, "presence_penalty 0.5 cannot be honoured"),
        (b'{"text_input": "a\xff", "max_tokens": 5}', "not valid UTF-8"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_a_bad_request_is_refused_with_the_reason_and_others_are_served(
    front, sentences, path, body, said
):
    with ThreadPoolExecutor(1) as pool:
        good = pool.submit(generate, front)
        response = post(front.url, body, path)
        assert 400 <= response.status_code < 500, response.text
        assert said in response.text
        assert good.result()["text_output"] == sentences[CLOUD]


def test_more_requests_than_may_be_under_way_are_told_to_come_again(
    make_repository, tmp_path_factory, tmp_path
):
    repository = tmp_path / "models"
    shutil.copytree(make_repository(), repository)
    config = repository / "tensorrt_llm_bls/config.pbtxt"
    limit = config.read_text()
    assert '"1024"' in limit
    config.write_text(limit.replace('"1024"', '"2"'))
    with running_with_all_ports(repository, tmp_path_factory.mktemp("full")) as server:
        running = [events(server, LONG) for _ in range(2)]
        for each in running:
            next(each)
        refused = post(server.url, GOOD)
        # UNAVAILABLE: Triton 2.51 makes 400 of every error that a model gives on `generate`.
        assert (refused.status_code, "try again later" in refused.text) == (400, True)
        for each in running:
            each.close()
        eventually(lambda: post(server.url, GOOD).status_code == 200)


HOSTILE = """{% set said = messages[0].content %}
{% if said == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}
{% endfor %}{% endfor %}{% elif said == 'grow' %}{{ said * 10**9 }}
{% elif said == 'fail' %}{{ messages.__class__.x }}
{% endif %}{{ said }}"""


def test_a_hostile_chat_template_disturbs_nobody(make_repository, tmp_path, sentences):
    repository = tmp_path / "models"
    shutil.copytree(make_repository(), repository)
    for model in ("preprocessing", "tensorrt_llm_bls"):
        chat = repository / model / "1/chat.json"
        content = json.dumps({**json.loads(chat.read_text()), "template": HOSTILE})
        chat.unlink()  # it is a link to the engine's
        chat.write_text(content)
    with running_with_all_ports(repository, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        for said in ("loop", "grow", "fail"):
            messages = json.dumps([{"role": "user", "content": said}])
            attack = pool.submit(post, server.url, {"messages": messages, "max_tokens": 5})
            assert generate(server)["text_output"] == sentences[CLOUD]
            assert attack.result().status_code == 400
            assert (
                attack.result()
                .json()["error"]
                .startswith("messages: the checkpoint's chat template ")
            )
        messages = json.dumps([{"role": "user", "content": CLOUD}])
        answer = post(server.url, {"messages": messages, "max_tokens": 128}).json()
        assert answer["text_output"] == sentences[CLOUD]
