"""Chat templates render what transformers' apply_chat_template renders, and fail where it fails."""

import json
import shutil

import pytest
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from falconry.checkpoint.tokenizer import find_chat, read_chat
from falconry.errors import CheckpointError, format_error
from tests.conftest import ROOT
from tests.model_repository.preprocessing import served

TINY = ROOT / "checkpoints/tiny-falcon"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER, ANSWER = {"role": "user", "content": "Was ist ein Falke?\n🦅"}, "  Ein <Vogel> & mehr. "
ASSISTANT = {"role": "assistant", "content": ANSWER}
CONVERSATIONS = [
    [USER],
    [{"role": "system", "content": "Be brief."}, USER],
    [USER, {**ASSISTANT, "reasoning": "It flies.", "name": None}, USER],
    [USER, USER],
]

TEMPLATES = {
    "chatml": """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "roles alternate": """{{ bos_token }}{% for message in messages %}
{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if message.role == 'user' %}{{ '[INST] ' + message.content.strip() + ' [/INST]' }}
{% else %}{{ ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "tools and documents": """{% if tools is none %}no tools,{% endif %}
{% if not tools %} none{% endif %}{% if documents is none %} no documents{% endif %}
{% if tools is defined and documents is defined %} both defined{% endif %}
{{ messages[-1].content }}""",
    "tojson": """{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|
{{- messages[0] | tojson(sort_keys=true, separators=(',', ':')) }}|
{{- messages[0].content | tojson(ensure_ascii=True) }}""",
    "generation tags": """{% for m in messages %}{% if m.role == 'assistant' %}
    {% generation %}{% set x = 1 %}{{ m.content }}{{ eos_token }}{% endgeneration %}{{ x }}
{% else %}{{ m.content }}{% endif %}{% endfor %}""",
    "loop controls": """{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}
{{ m.content }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}""",
    "namespaces": """{% set ns = namespace(system='', self=3) %}
{% for m in messages if m.role == 'system' %}{% set ns.system = m.content %}{% endfor %}
{{ ns.system }}{{ ns['self'] }}{% set d = dict(a=1, b=[2]) %}{{ d.items() | list }}
{{ dict.fromkeys(['x']) }}""",
    "underscores": "{% set ns = namespace(_hidden=1) %}{{ ns }}",
    "reasoning": """{% for m in messages %}{{ m.reasoning_content }}/{{ m.thinking }}/{{ m.name }}/
{{ m.name is defined }}{% endfor %}""",
    "whitespace": "  {% if true %}\r\n  a\r\n    {%- endif %}\n\n{{ messages[0].content }}\n\n",
    "undefined": "{{ nothing }}{{ messages[0].nothing }}{{ custom_token }}{{ image_token }}",
    "of undefined": "{{ messages[0].nothing.more }}",
    "forbidden": "{{ messages.append(1) }}",
    "out of the sandbox": "{{ ''.__class__.__mro__ }}",
    "date": "{{ strftime_now('%Y') }}{{ messages | length }}",
    "macro": """{% macro turn(m) %}<{{ m.role }}>{{ m.content | trim | upper }}{% endmacro %}
{% for m in messages %}{{ turn(m) }}{% endfor %}{{ messages | map(attribute='role') | join }}""",
}


def checkpoint(directory, **settings):
    """A tokenizer with a configuration."""
    shutil.copyfile(TINY / "tokenizer.json", directory / "tokenizer.json")
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.fixture
def ours(tmp_path):
    """The prompts of a checkpoint's template, None where it does not take the messages."""
    opened = []

    def prompts(directory):
        path = tmp_path / "chat.json"
        path.write_text(json.dumps(find_chat(directory)))
        opened.append(served("chat").ChatTemplate.read(path))
        return [rendered(opened[-1].render, messages) for messages in CONVERSATIONS]

    yield prompts
    for each in opened:
        each.close()


def rendered(render, messages):
    try:
        return render(messages)
    except (served("refusal").RefusedError, TemplateError, TypeError):
        return None


def theirs(directory):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    options = {"tokenize": False, "add_generation_prompt": True}
    return [
        rendered(lambda messages: tokenizer.apply_chat_template(messages, **options), each)
        for each in CONVERSATIONS
    ]


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_of_transformers(tmp_path, ours, name):
    directory = checkpoint(tmp_path, **TOKENS, chat_template=TEMPLATES[name])
    assert ours(directory) == theirs(directory)


ADDED = {"__type": "AddedToken", "content": "<added>", "lstrip": False, "special": True}
ADDED |= {"normalized": False, "rstrip": False, "single_word": False}
IN_MAP = {"content": "<map>", "lstrip": False, "normalized": False, "rstrip": False}
SETTINGS = {
    "texts": ({**TOKENS, "pad_token": None}, None),
    "objects": ({"bos_token": ADDED}, None),
    "the map alone": ({}, {"bos_token": "<map>", "eos_token": {**IN_MAP, "single_word": False}}),
    "the map wins": (TOKENS, {"bos_token": "<map>", "unk_token": "<unk>"}),
    "a newer configuration wins": ({**TOKENS, "added_tokens_decoder": {}}, {"bos_token": "<map>"}),
    "tokens of its own": ({**TOKENS, "image_token": "<image>", "add_bos_token": True}, None),
    "named extra tokens": ({**TOKENS, "extra_special_tokens": {"custom": "<custom>"}}, None),
    "a list of extra tokens": ({**TOKENS, "additional_special_tokens": ["<a>"]}, None),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_special_tokens_are_those_of_transformers(tmp_path, name):
    settings, older = SETTINGS[name]
    directory = checkpoint(tmp_path, **settings, chat_template="{{ messages }}")
    if older is not None:
        (directory / "special_tokens_map.json").write_text(json.dumps(older))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    assert find_chat(directory)["special_tokens"] == tokenizer.special_tokens_map


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages }}",
        [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}],
    ],
    ids=["a text", "named"],
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_template_is_the_one_that_transformers_takes(tmp_path, template, in_a_file):
    directory = checkpoint(tmp_path, chat_template=template)
    if in_a_file:
        (directory / "chat_template.jinja").write_text("{{ bos_token }}\r\nä")
    expected = PreTrainedTokenizerFast.from_pretrained(directory).get_chat_template()
    assert find_chat(directory)["template"].replace("\r\n", "\n") == expected


def refusal(directory):
    with pytest.raises(CheckpointError) as refused:
        read_chat(directory)
    text = format_error(refused.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a\n{{ messages[0].x.y }}", "fails at a conversation: line 2: 'dict object' has no"),
        (
            "\n\n{{ 1 + messages[0].content }}",
            "fails at a conversation: line 3: unsupported operand",
        ),
        ("{{ raise_exception('Never!') }}", "refuses every conversation: Never!"),
        (
            "{% for m in messages %}{% if loop.index > 1 %}{{ m.x.y }}{% endif %}{% endfor %}",
            "fails at a conversation: line 1: 'dict object' has no attribute 'x'",
        ),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "too much",
        ),
    ],
    ids=["undefined", "types", "refuses", "second turn", "endless"],
)
def test_a_template_that_renders_no_conversation_ends_the_build(tmp_path, template, said):
    assert said in refusal(checkpoint(tmp_path, chat_template=template))


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}x",
        "{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}x",
        "{{ {'user': 'U', 'assistant': 'A'}[messages[0].role] + 'x' }}",
    ],
    ids=["a system message first", "one message", "no system message"],
)
def test_a_template_may_refuse_some_conversations(tmp_path, template):
    assert read_chat(checkpoint(tmp_path, chat_template=template)) is not None


@pytest.mark.parametrize(
    "value",
    [
        5,
        True,
        ["a"],
        {"default": 5},
        [{"name": [], "template": "x"}],
        [{"name": {}, "template": "x"}, {"name": "default", "template": "x"}],
        [{"template": "x"}],
    ],
    ids=str,
)
def test_a_template_of_another_type_is_named(tmp_path, value):
    assert "has a chat_template that is neither a text nor named texts: " in refusal(
        checkpoint(tmp_path, chat_template=value)
    )


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_template_in_another_encoding_is_named(tmp_path, encoding):
    directory = checkpoint(tmp_path)
    (directory / "chat_template.jinja").write_bytes("Grüße {{ messages }}".encode(encoding))
    assert "chat_template.jinja: is not UTF-8 (byte " in refusal(directory)
