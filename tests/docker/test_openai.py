"""OpenAI's API by the official client: what goes to the model and what comes back.

Before a stand-in for Triton, which can be looked into; test_openai_serving.py has the real one. The
client checks nothing by itself, so expectations about fields are from its types (openai 3.54.0).
"""

import json
import subprocess

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.docker.front_support import running_front, wait_until_ready
from tests.docker.stand_in_triton import LOG_PROB, SEQUENCE

MODEL = "tiny-falcon"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    settings = {"model_name": MODEL, "max_in_flight": 8}
    with running_front(tmp_path_factory.mktemp("front"), **settings) as front:
        wait_until_ready(front)
        yield front


@pytest.fixture
def client(front):
    front.triton.seen.clear()
    front.triton.token_s = 0.0
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def complete(client):
    return lambda **fields: client.completions.create(
        **{"model": MODEL, "prompt": "a b c", "max_tokens": 3, **fields}
    )


@pytest.fixture
def chat(client):
    return lambda **fields: client.chat.completions.create(
        **{"model": MODEL, "messages": HELLO, "max_tokens": 3, **fields}
    )


@pytest.fixture
def sent(front):
    """The inputs of the last generation."""
    return lambda: front.triton.last["body"]


def refused(call, status, **fields):
    with pytest.raises(openai.APIStatusError) as error:
        call(**fields)
    assert error.value.status_code == status
    return error.value


def test_a_completion_has_what_its_type_says(complete):
    answer = complete()
    Completion.model_validate(answer.model_dump())  # the client builds without checking
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == MODEL
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.index) == ("w0 w1 w2 ", "length", 0)
    assert choice.logprobs is None
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 3, 6)


def test_a_chat_completion_has_what_its_type_says(chat):
    answer = chat()
    ChatCompletion.model_validate(answer.model_dump())
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    message = answer.choices[0].message
    assert (message.role, message.content, message.refusal) == ("assistant", "w0 w1 w2 ", None)
    assert answer.choices[0].finish_reason == "length"


def test_ids_differ_and_the_models_requests_have_them(complete, sent):
    first, second = complete().id, complete().id
    assert first != second
    assert sent()["id"].startswith(second)


def test_a_streamed_completion_comes_in_chunks_of_one_id(complete):
    chunks = list(complete(stream=True))
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].text for chunk in chunks] == ["w0 ", "w1 ", "w2 ", ""]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None, None, None, "length"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streamed_chat_begins_with_the_role_and_ends_with_the_reason(chat):
    chunks = list(chat(stream=True))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert [delta.content for delta in deltas[1:]] == ["w0 ", "w1 ", "w2 ", None]
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("kind", ["complete", "chat"])
def test_the_usage_of_a_stream_comes_last_when_asked_for(request, kind):
    call = request.getfixturevalue(kind)
    *chunks, last = call(stream=True, stream_options={"include_usage": True})
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert (last.usage.completion_tokens, last.usage.total_tokens) == (
        3,
        3 + last.usage.prompt_tokens,
    )


def test_a_stream_is_server_sent_events_that_end_with_done(front, client):
    body = {"model": MODEL, "prompt": "x", "max_tokens": 2, "stream": True}
    command = ["curl", "--silent", "--no-buffer", "--include", "--json", json.dumps(body)]
    output = subprocess.run(
        [*command, f"{front.url}/v1/completions"], capture_output=True, check=True
    ).stdout.decode()
    head, _, events = output.partition("\r\n\r\n")
    assert "content-type: text/event-stream" in head.lower()
    *chunks, done, after = events.split("\n\n")
    assert (done, after) == ("data: [DONE]", "")
    assert all(json.loads(chunk.removeprefix("data: "))["choices"] for chunk in chunks)


def test_text_is_sent_as_utf_8_and_as_it_is(front, chat):
    messages = [{"role": "user", "content": "日本 é 👩‍👩‍👧 \u0000 \u2028"}]
    chat(messages=messages)
    assert json.loads(front.triton.last["body"]["messages"]) == messages


def test_several_prompts_have_a_choice_each_in_their_order(front, complete):
    answer = complete(prompt=["a", "b c"])
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 6)
    front.triton.token_s = 0.01
    texts = ["", ""]
    for chunk in complete(prompt=["a", "b c"], stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["w0 w1 w2 "] * 2


def test_one_refused_prompt_refuses_the_request_and_ends_the_others(front, complete):
    front.triton.token_s = 0.02
    prompts = ["a", "refuse 400 too long"]
    for stream in (False, True):
        front.triton.seen.clear()
        error = refused(complete, 400, prompt=prompts, max_tokens=500, stream=stream)
        assert error.body["message"] == "too long"
        assert front.metric("falconry_front_generations_in_flight") == 0


def test_defaults_are_openais(complete, chat, sent):
    complete(max_tokens=openai.omit)
    body = sent()
    assert body["max_tokens"] == 16  # its reference
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1.0, 1.0, 0)
    seeds = {body["seed"]}
    complete()
    assert sent()["seed"] not in seeds
    assert body["fit_max_tokens"] is False


def test_a_chat_that_does_not_say_may_be_as_long_as_the_engine_can(chat, sent):
    answer = chat(max_tokens=openai.omit)
    assert sent()["fit_max_tokens"] is True
    assert answer.usage.completion_tokens == SEQUENCE
    chat(max_tokens=5)
    assert sent()["fit_max_tokens"] is False


def test_a_setting_bounds_a_chat_that_does_not_say(tmp_path):
    with running_front(tmp_path, model_name=MODEL, default_max_tokens=7) as front:
        wait_until_ready(front)
        front.post("/v1/chat/completions", {"model": MODEL, "messages": HELLO})
        assert front.triton.last["tokens"] == 7


def test_log_probabilities_have_the_form_of_their_types(complete, chat, sent):
    whole = complete(logprobs=1, temperature=0)
    assert sent()["return_log_probs"] is True
    Completion.model_validate(whole.model_dump())
    found = whole.choices[0].logprobs
    assert found.tokens == ["w0 ", "w1 ", "w2 "]
    assert found.token_logprobs == [LOG_PROB] * 3
    assert found.text_offset == [0, 3, 6]
    assert found.top_logprobs == [{token: LOG_PROB} for token in found.tokens]
    assert complete(logprobs=0).choices[0].logprobs.top_logprobs is None
    answer = chat(logprobs=True)
    ChatCompletion.model_validate(answer.model_dump())
    content = answer.choices[0].logprobs.content
    assert [each.token for each in content] == found.tokens
    assert bytes(content[0].bytes) == b"w0 "
    assert content[0].top_logprobs == []
    complete()
    assert "return_log_probs" not in sent()


def test_log_probabilities_come_with_their_text(complete, chat):
    for chunks, field in (
        (complete(logprobs=0, stream=True), "tokens"),
        (chat(logprobs=True, stream=True), "content"),
    ):
        choices = [chunk.choices[0] for chunk in chunks]
        told = [getattr(each.logprobs, field) for each in choices if each.logprobs]
        assert [len(each) for each in told] == [1, 1, 1]
        assert choices[-1].logprobs is None


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"top_p": 0}])
def test_no_randomness_is_greedy(complete, sent, fields):
    complete(**fields)
    body = sent()
    assert body["top_k"] == 1
    assert not {"temperature", "top_p", "seed"} & set(body)


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": 2**63 - 1}),
        ({"stop": "end"}, {"stop_words": ["end"]}),
        ({"stop": ["a", "", "b"]}, {"stop_words": ["a", "b"]}),
        ({"presence_penalty": 0.5}, {"presence_penalty": 0.5}),
        ({"frequency_penalty": -0.5}, {"frequency_penalty": -0.5}),
        ({"extra_body": {"top_k": 5}}, {"top_k": 5}),
        ({"extra_body": {"repetition_penalty": 1.5}}, {"repetition_penalty": 1.5}),
        ({"extra_body": {"min_tokens": 2}}, {"min_tokens": 2}),
        ({"extra_body": {"top_k": -1}}, {"top_k": 0}),
        ({"stop": [f"word {each}" for each in range(128)]}, {}),
        ({"extra_body": {"ignore_eos": True}}, {"end_id": -1}),
        ({"extra_body": {"stop_token_ids": [5, 6]}}, {"stop_token_ids": [5, 6]}),
        ({"extra_body": {"bad_words": ["x", ""]}}, {"bad_words": ["x"]}),
        ({"extra_body": {"truncate_prompt_tokens": -1}}, {"truncate_prompt_tokens": -1}),
        (
            {"extra_body": {"include_stop_str_in_output": True}},
            {"include_stop_str_in_output": True},
        ),
        (
            {"extra_body": {"response_format": {"type": "json_object"}}},
            {
                "guided_decoding_guide_type": "json_schema",
                "guided_decoding_guide": '{"type": "object"}',
            },
        ),
        (
            {"extra_body": {"guided_json": '{"enum": [1]}'}},
            {"guided_decoding_guide": '{"enum": [1]}'},
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["complete", "chat"])
def test_what_is_asked_for_reaches_the_model(request, sent, kind, fields, inputs):
    request.getfixturevalue(kind)(**fields)
    assert inputs.items() <= sent().items()


def test_neutral_values_are_not_sent(complete, sent):
    complete(presence_penalty=0, frequency_penalty=0, n=1, best_of=1, logit_bias={}, suffix="")
    assert not {"presence_penalty", "frequency_penalty", "stop_words"} & set(sent())


# vLLM's and TensorRT-LLM's names at the values that change nothing (their defaults).
HARMLESS = {
    "min_p": 0,
    "top_k": -1,
    "top_p_min": 0.0,
    "length_penalty": 1,
    "early_stopping": False,
    "use_beam_search": False,
    "detokenize": True,
    "priority": 0,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
    "ignore_eos": False,
    "stop_token_ids": [],
    "bad_words": [],
    "truncation_side": "left",
    "prompt_logprobs": None,
    "allowed_token_ids": None,
    "logit_bias": {},
    "return_token_ids": False,
    "return_tokens_as_token_ids": False,
    "return_context_logits": False,
    "response_format": {"type": "text"},
    "structured_outputs": {},
    "vllm_xargs": {},
    "request_id": "mine",
    "cache_salt": "salt",
    "stream_interval": 1,
    "thinking_token_budget": -1,
    "repetition_penalty": 1.0,
}
HARMLESS_CHAT = {
    "echo": False,
    "add_generation_prompt": True,
    "continue_final_message": False,
    "chat_template_kwargs": {},
    "add_special_tokens": False,
    "documents": [],
    "chat_template": None,
    "mm_processor_kwargs": {},
    "include_reasoning": True,
    "reasoning_effort": "none",
}


def test_other_servers_fields_are_accepted_at_the_value_that_changes_nothing(front, client, sent):
    for path, fields, prompt in (
        ("completions", {**HARMLESS, "best_of": 1, "add_special_tokens": True}, {"prompt": "a"}),
        ("chat/completions", {**HARMLESS, **HARMLESS_CHAT}, {"messages": HELLO}),
    ):
        plain = {"model": MODEL, "seed": 1, "max_tokens": 2, **prompt}
        assert front.post(f"/v1/{path}", plain).status_code == 200
        expected = {**sent(), "repetition_penalty": 1.0, "id": None, "connection": None}
        answer = front.post(f"/v1/{path}", {**plain, **fields})
        assert answer.status_code == 200, answer.text
        assert {**sent(), "id": None, "connection": None} == expected
    stream = {"stream": True, "stream_options": {"continuous_usage_stats": False}}
    assert front.post("/v1/chat/completions", {**plain, **stream}).status_code == 200


def test_a_prompt_may_be_tokens(complete, sent):
    complete(prompt=[5, 6])
    assert sent()["input_ids"] == [5, 6]
    assert "text_input" not in sent()
    answer = complete(prompt=[[5], [6, 7]])
    assert len(answer.choices) == 2
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_to_a_prompt_are_as_many_generations(front, complete, stream):
    fields = {"stream_options": {"include_usage": True}} if stream else {}
    answer = complete(prompt=["a", "b c"], n=3, seed=5, stream=stream, **fields)
    usage = answer.usage if not stream else list(answer)[-1].usage
    bodies = [each["body"] for each in front.triton.seen]
    assert sorted((body["text_input"], body["seed"]) for body in bodies) == [
        *(("a", seed) for seed in (5, 6, 7)),
        *(("b c", seed) for seed in (5, 6, 7)),
    ]
    # A prompt counts once, as in OpenAI's API.
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 18)


def test_token_ids_are_given_when_asked_for(front, complete, chat):
    ids = {"extra_body": {"return_token_ids": True}}
    (choice,) = complete(**ids).choices
    assert (choice.token_ids, choice.prompt_token_ids) == ([100, 101, 102], [7, 8])
    answer = chat(**ids)
    assert (answer.choices[0].token_ids, answer.prompt_token_ids) == ([100, 101, 102], [7, 8])
    *_, last = complete(stream=True, **ids)
    assert last.choices[0].prompt_token_ids == [7, 8]


def test_what_continues_a_message_is_told_to_the_template(chat, sent):
    chat(extra_body={"continue_final_message": True})
    assert json.loads(sent()["chat_options"]) == {"continue_final_message": True}
    chat(extra_body={"add_generation_prompt": False, "chat_template_kwargs": {"a": 1}})
    assert json.loads(sent()["chat_options"]) == {"add_generation_prompt": False, "a": 1}


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
CALL = (
    "Let me see.\n<tool_call>\n"
    '[{"name": "weather", "arguments": {"city": "Ü </tool_call>"}}]\n</tool_call>\n'
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_in_the_answer_becomes_openais(front, chat, sent, stream):
    front.triton.texts = [CALL]
    answer = chat(tools=[WEATHER], stream=stream)
    assert json.loads(sent()["chat_options"]) == {"tools": [WEATHER]}
    if stream:
        choices = [chunk.choices[0] for chunk in answer]
        text = "".join(each.delta.content or "" for each in choices)
        calls = [call for each in choices for call in each.delta.tool_calls or []]
        assert [call.index for call in calls] == [0]
    else:
        choices = answer.choices
        ChatCompletion.model_validate(answer.model_dump())
        text, calls = choices[0].message.content, choices[0].message.tool_calls
    assert text.strip() == "Let me see."
    (call,) = calls
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Ü </tool_call>"}
    assert choices[-1].finish_reason == "tool_calls"


def test_a_required_call_is_guided(chat, sent):
    chat(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}})
    assert sent()["guided_decoding_guide_type"] == "tool_calls"
    guide = json.loads(sent()["guided_decoding_guide"])
    assert [each["name"] for each in guide["tools"]] == ["weather"]
    assert guide["parallel"] is False


def test_tools_are_left_out_where_none_is_to_be_called(chat, sent):
    chat(tools=[WEATHER], tool_choice="none")
    assert "chat_options" not in sent()


def test_a_model_without_a_template_is_asked_by_completions(tmp_path):
    with running_front(tmp_path, {"has_chat": False}, model_name=MODEL) as front:
        wait_until_ready(front)
        answer = front.post("/v1/chat/completions", {"model": MODEL, "messages": HELLO})
        assert answer.status_code == 400
        assert "/v1/completions" in answer.json()["error"]["message"]


def test_the_prompt_is_echoed_when_asked_for(complete, sent):
    complete(echo=True)
    assert sent()["exclude_input_in_output"] is False
    complete()
    assert sent()["exclude_input_in_output"] is True


def test_what_changes_no_answer_is_accepted(chat):
    chat(
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        safety_identifier="x",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        modalities=["text"],
        tools=[],
        tool_choice="auto",
        logprobs=False,
        top_logprobs=0,
        extra_body={"temperature": None},
    )


def test_max_completion_tokens_counts_before_max_tokens(chat, sent):
    chat(max_completion_tokens=2, max_tokens=5)
    assert sent()["max_tokens"] == 2


def test_parts_of_text_become_lines_and_developer_becomes_system(chat, sent):
    chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "name": "x",
            },
        ]
    )
    assert json.loads(sent()["messages"]) == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "a\nb"},
    ]


WRONG = [
    # fields, parameter, code
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 9}, "n", "invalid_value"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 2**31}, "max_tokens", "invalid_value"),
    ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
    ({"max_tokens": 2.5}, "max_tokens", "invalid_type"),
    ({"max_tokens": True}, "max_tokens", "invalid_type"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": 1.1}, "top_p", "invalid_value"),
    ({"presence_penalty": 2.1}, "presence_penalty", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_type"),
    ({"stop": ["a"] * 129}, "stop", "invalid_value"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": 5}, "stream_options", "invalid_type"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
    ({"extra_body": {"temprature": 1}}, "temprature", "unknown_parameter"),
    ({"extra_body": {"top_k": -2}}, "top_k", "invalid_value"),
    ({"extra_body": {"min_p": 0.1}}, "min_p", "unsupported_parameter"),
    ({"extra_body": {"stop_token_ids": ["a"]}}, "stop_token_ids", "invalid_type"),
    ({"extra_body": {"bad_words": [5]}}, "bad_words[0]", "invalid_type"),
    ({"extra_body": {"truncate_prompt_tokens": 0}}, "truncate_prompt_tokens", "invalid_value"),
    (
        {"extra_body": {"response_format": {"type": "regex"}}},
        "response_format.type",
        "unsupported_parameter",
    ),
    (
        {"extra_body": {"response_format": {"type": "json_schema"}}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    (
        {"extra_body": {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    (
        {"extra_body": {"structured_outputs": {"regex": "a"}}},
        "structured_outputs.regex",
        "unsupported_parameter",
    ),
    ({"model": 5}, "model", "invalid_type"),
    ({"model": None}, "model", "missing_required_parameter"),
]
WRONG_COMPLETION = [
    ({"prompt": [1, -2]}, "prompt", "invalid_value"),
    ({"prompt": [[1, "a"]]}, "prompt[0]", "invalid_type"),
    ({"prompt": [[1], []]}, "prompt[1]", "invalid_value"),
    ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
    ({"prompt": []}, "prompt", "invalid_value"),
    ({"prompt": ["a"] * 9}, "prompt", "invalid_value"),
    ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
    ({"prompt": None}, "prompt", "missing_required_parameter"),
    ({"best_of": 2}, "best_of", "unsupported_parameter"),
    ({"suffix": "x"}, "suffix", "unsupported_parameter"),
    # The likeliest token is known only where it is the one that was chosen.
    ({"logprobs": 1}, "logprobs", "unsupported_parameter"),
    ({"logprobs": 2, "temperature": 0}, "logprobs", "unsupported_parameter"),
    ({"logprobs": 0, "echo": True}, "logprobs", "unsupported_parameter"),
    ({"logprobs": 6}, "logprobs", "invalid_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"echo": 1}, "echo", "invalid_type"),
    ({"extra_body": {"messages": HELLO}}, "messages", "unknown_parameter"),
]
WRONG_CHAT = [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hello"}, "messages", "invalid_type"),
    ({"messages": ["hello"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "tool"}]}, "messages[0].content", "invalid_type"),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "5"}}],
                }
            ]
        },
        "messages[0].tool_calls[0].function.arguments",
        "invalid_value",
    ),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0]",
        "unsupported_parameter",
    ),
    ({"logprobs": 1}, "logprobs", "invalid_type"),
    ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    (
        {"tools": [{"type": "function", "function": {"name": 5}}]},
        "tools[0].function.name",
        "invalid_type",
    ),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        {
            "tools": [{"type": "function", "function": {"name": "a"}}],
            "tool_choice": {"type": "function", "function": {"name": "b"}},
        },
        "tool_choice.function.name",
        "invalid_value",
    ),
    (
        {"extra_body": {"continue_final_message": True, "add_generation_prompt": True}},
        "continue_final_message",
        "invalid_value",
    ),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    ({"extra_body": {"prompt": "x"}}, "prompt", "unknown_parameter"),
]


@pytest.mark.parametrize(
    ("kind", "fields", "parameter", "code"),
    [
        *(("complete", *wrong) for wrong in WRONG + WRONG_COMPLETION),
        *(("chat", *wrong) for wrong in WRONG + WRONG_CHAT),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(request, front, kind, fields, parameter, code):
    error = refused(request.getfixturevalue(kind), 400, **fields)
    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.code, error.type) == (parameter, code, "invalid_request_error")
    assert parameter.split(".")[0].split("[")[0] in error.body["message"]
    assert front.triton.seen == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": NaN}', b'{"model": "\xff"}'])
def test_what_is_no_json_object_is_refused(front, client, body):
    answer = front.post("/v1/completions", None, data=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == "invalid_body"


def test_half_of_a_character_is_refused(front, client):
    answer = front.post("/v1/completions", {"model": MODEL, "prompt": "\ud83d"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("kind", ["complete", "chat"])
def test_another_model_does_not_exist(request, kind):
    error = refused(request.getfixturevalue(kind), 404, model="gpt-4o")
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "'tiny-falcon'" in error.body["message"]


def test_the_model_is_listed_and_shown(front, client):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "falconry")
    assert (model.root, model.max_model_len) == (MODEL, SEQUENCE)
    assert client.models.retrieve(MODEL) == model
    assert front.get("/v1/models/").json()["data"][0]["id"] == MODEL
    refused(client.models.retrieve, 404, model="gpt/4o")


def test_probes_of_other_servers_find_their_paths(front, client):
    for path in ("/health", "/health/ready", "/ping"):
        assert front.get(path).status_code == 200
    assert front.get("/version").json() == {"version": "2.51.0"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/", 404),
    ],
)
def test_a_path_that_is_not_there_is_refused_in_openais_form(front, method, path, status):
    answer = getattr(front, method.lower())(path, *([{}] if method == "POST" else []))
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert path in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (503, openai.InternalServerError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_refuses_is_refused_in_its_words(complete, status, kind, stream):
    error = refused(complete, status, prompt=f"refuse {status} for a reason", stream=stream)
    assert isinstance(error, kind)
    assert error.body["message"] == "for a reason"
    assert ("retry-after" in error.response.headers) == (status == 503)


# As the models refuse (preprocessing/1/prompts.py, tensorrt_llm/1/request.py).
REFUSALS = [
    (
        "text_input has 600 tokens and this engine takes 511",
        ("prompt", "context_length_exceeded", "This model's maximum context length is 512 tokens."),
    ),
    (
        "max_tokens is 600, but with a prompt of 3 tokens this engine can add 509",
        ("max_tokens", "invalid_value", "max_tokens is 600"),
    ),
    ("stop_words holds a word", ("stop", "invalid_value", "stop holds a word")),
    ("runtime_top_k is 5", ("top_k", "invalid_value", "top_k is 5")),
    (
        "guided_decoding_guide.properties.a.pattern is not supported; leave it out",
        (
            "response_format.json_schema.schema.properties.a.pattern",
            "invalid_value",
            "response_format.json_schema.schema.properties.a.pattern is not supported",
        ),
    ),
    ("of something else", (None, "invalid_value", "of something else")),
]


@pytest.mark.parametrize(("refusal", "expected"), REFUSALS, ids=lambda each: str(each)[:20])
def test_what_the_model_refuses_names_the_clients_field(complete, refusal, expected):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    error = refused(
        complete, 400, prompt=f"refuse 400 {refusal}", extra_body={"response_format": form}
    )
    parameter, code, begin = expected
    assert (error.param, error.code) == (parameter, code)
    assert error.body["message"].startswith(begin)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("break off", "the server has broken off"), ("fail", "the engine has failed")],
)
def test_a_stream_that_fails_midway_raises_in_the_client(complete, prompt, said):
    texts = []
    with pytest.raises(openai.APIError, match=said):
        for chunk in complete(prompt=prompt, max_tokens=9, stream=True):
            texts.append(chunk.choices[0].text)
    assert texts == ["w0 ", "w1 "]


def test_the_client_has_the_requests_id(complete):
    answer = complete(extra_headers={"x-request-id": "mine-1"})
    assert answer._request_id == "mine-1"


def test_a_client_that_closes_its_stream_ends_the_generation(front, complete):
    front.triton.token_s = 0.05
    stream = complete(max_tokens=1000, stream=True)
    next(iter(stream))
    stream.close()
    left = front.triton.last["tokens"]
    complete(max_tokens=6)  # 0.3 s
    assert front.triton.seen[0]["tokens"] <= left + 2
