"""Tools in chats: parsed however a text is split, end to end over an engine that replays texts."""

import json
import shutil

import openai
import pytest
from transformers import PreTrainedTokenizerFast

from tests.conftest import ROOT, running_triton
from tests.docker.front_support import front_module

MODEL = "tensorrt_llm_bls"
TEMPLATE = ROOT / "tests/data/chat_templates/falcon3-instruct.jinja"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
PARIS, ROME = {"city": "Paris", "days": 2}, {"city": "Rom 🦅 </tool_call>"}
# As Falcon3's template asks a model to write calls, and as others write them.
TEXTS = {
    "one": [
        '<tool_call>\n[{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]\n'
        "</tool_call>",
        "Sunny, 23.4° in Paris.",
    ],
    "two": [
        'I ask for both.\n<tool_call>\n[\n  {"name": "get_weather", "arguments": {"city": "Paris", '
        '"days": 2}},\n  {"name": "get_weather", "arguments": {"city": "Rom 🦅 </tool_call>"}}\n]\n'
        "</tool_call>\n",
    ],
    "tags": [
        '\n<tool_call>{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}'
        '</tool_call>\n<tool_call>{"name": "get_weather", '
        '"arguments": {"city": "Rom 🦅 </tool_call>"}}</tool_call>',
    ],
    "unclosed": ['<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]'],
    "none": ["There is <b>no</b> need, 1 < 2."],
    "broken": ['<tool_call>\n{"name": oops}\n</tool_call> and so on'],
    "turn": ["It is sunny.<|user|>\nAnd now?"],
}
EXPECTED = {
    # the text, the calls' arguments
    "one": (None, [PARIS]),
    "two": ("I ask for both.\n", [PARIS, ROME]),
    "tags": (None, [PARIS, ROME]),
    "unclosed": (None, [PARIS]),
    "none": (TEXTS["none"][0], []),
    "broken": (TEXTS["broken"][0], []),
}


def parted(text, size, parallel=True):
    """The text and the calls of an answer that comes in pieces of a size."""
    parser = front_module("openai_api.tool_calls").ToolCallText(parallel=parallel)
    parts = []
    for begin in range(0, len(text), size):
        parts += parser.add(text[begin : begin + size])
    parts += parser.finish()
    return (
        "".join(part for part in parts if isinstance(part, str)) or None,
        [json.loads(part.arguments) for part in parts if not isinstance(part, str)],
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_calls_are_the_same_however_a_text_is_split(name):
    text = TEXTS[name][0]
    for size in (*range(1, 40), len(text)):
        assert parted(text, size) == EXPECTED[name], size


def test_one_call_is_taken_where_several_are_not_wanted():
    assert parted(TEXTS["two"][0], 3, parallel=False) == ("I ask for both.\n", [PARIS])


def test_text_that_is_no_call_is_not_held_back():
    parser = front_module("openai_api.tool_calls").ToolCallText(parallel=True)
    assert parser.add("1 < 2") == ["1 < 2"]
    assert parser.add(" <tool") == [" "]
    assert parser.add("box>") == ["<toolbox>"]


@pytest.fixture(scope="module")
def client(make_repository, tmp_path_factory):
    """The official client of a server whose engine replays texts, with Falcon3's chat template."""
    directory = tmp_path_factory.mktemp("scripted")
    repository = directory / "repository"
    shutil.copytree(make_repository("generate"), repository)
    engine = repository / "tensorrt_llm/1"
    shutil.copy(ROOT / "tests/model_repository/scripted_engine/model.py", engine / "model.py")
    (engine / "texts.json").write_text(json.dumps(TEXTS))
    chat = {"template": TEMPLATE.read_text(), "special_tokens": {"eos_token": "<|endoftext|>"}}
    for model in ("preprocessing", MODEL):
        path = repository / model / "1/chat.json"
        path.unlink()  # it is linked to the engine's
        path.write_text(json.dumps(chat))
    config = repository / MODEL / "config.pbtxt"
    longer = config.read_text().replace('"511"', '"4000"').replace('"512"', '"4096"')
    config.write_text(longer)
    with (
        running_triton(repository, directory) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def ask(client):
    def run(name, messages=(), **fields):
        messages = [{"role": "user", "content": f"replay {name}"}, *messages]
        return client.chat.completions.create(
            **{"model": MODEL, "messages": messages, "tools": [WEATHER], **fields}
        )

    return run


@pytest.mark.parametrize("name", EXPECTED)
def test_the_official_client_gets_the_calls_of_an_answer(ask, name):
    text, calls = EXPECTED[name]
    choice = ask(name).choices[0]
    assert choice.message.content == text
    found = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in found] == calls
    assert len({call.id for call in found}) == len(calls)
    assert choice.finish_reason == ("tool_calls" if calls else "stop")


@pytest.mark.parametrize("name", EXPECTED)
def test_the_official_clients_stream_adds_up_to_them(client, name):
    text, calls = EXPECTED[name]
    messages = [{"role": "user", "content": f"replay {name}"}]
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=[WEATHER]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert (choice.message.content or None) == text
    found = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in found] == calls
    assert choice.finish_reason == ("tool_calls" if calls else "stop")


def test_the_result_of_a_call_goes_back_to_the_model(ask):
    message = ask("one").choices[0].message
    result = {
        "role": "tool",
        "tool_call_id": message.tool_calls[0].id,
        "content": '{"temperature": 23.4}',
    }
    answer = ask("one", [message.model_dump(exclude_none=True), result]).choices[0]
    assert (answer.message.content, answer.finish_reason) == (TEXTS["one"][1], "stop")
    assert answer.message.tool_calls is None


def test_the_prompt_of_a_chat_with_tools_is_transformers(ask):
    """Counted in tokens, by transformers' apply_chat_template with the same tokenizer."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(ROOT / "checkpoints/tiny-falcon/tokenizer.json"),
        eos_token="<|endoftext|>",
        chat_template=TEMPLATE.read_text(),
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather"}}
    messages = [
        {"role": "user", "content": "replay one"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "23.4°"},
    ]
    call["function"]["arguments"] = PARIS
    expected = tokenizer.apply_chat_template(
        messages, tools=[WEATHER], add_generation_prompt=True, return_dict=False
    )
    call["function"]["arguments"] = json.dumps(PARIS)
    answer = ask("one", messages[1:], extra_body={"return_token_ids": True})
    assert answer.prompt_token_ids == expected


def test_instructors_tool_mode_gets_its_call(ask):
    """The request of instructor 1.11 in the mode TOOLS: one tool, which has to be called."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = ask("one", tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", PARIS)


def test_the_users_next_message_ends_an_answer(ask):
    answer = ask("turn", tools=openai.omit).choices[0]
    assert (answer.message.content, answer.finish_reason) == ("It is sunny.", "stop")
