"""Prompts, messages and words on their way to tokens; the whole of it test_contract.py asks."""

import json
import os
import random
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from falconry.checkpoint.tokenizer import find_chat, read_chat
from falconry.errors import CheckpointError
from tests.model_repository.preprocessing import served

TINY = Path(__file__).parents[2] / "checkpoints/tiny-falcon"


@pytest.fixture(scope="module")
def encode():
    """What the checkpoint's tokenizer makes of a text, by transformers."""
    return AutoTokenizer.from_pretrained(TINY).encode


def words(flat):
    """The sequences of a flat list, as utils::convertWordList of NVIDIA's backend reads them."""
    ids, ends = flat.tolist()
    found, start = [], 0
    for end in ends:
        if end == -1:
            break
        assert start < end <= len(ids)
        found.append(ids[start:end])
        start = end
    return found


def forms(*texts, spaced=True):
    return served("words").word_forms(texts, spaced=spaced)


def flat(*sequences):
    return served("words").flat_word_list(sequences)


def test_a_word_is_looked_for_at_the_beginning_and_after_a_space():
    assert forms("now", "process") == ("now", " now", "process", " process")


def test_a_word_that_begins_with_a_space_is_only_looked_for_with_it():
    # Without it " cat" would stop at "concatenate".
    assert forms(" cat", "\n\n", "\tx") == (" cat", "\n\n", "\tx")


def test_an_engine_that_compares_text_gets_the_words_as_they_are():
    assert forms("now", " cat", spaced=False) == ("now", " cat")


def test_empty_words_and_repeated_ones_are_left_out():
    assert forms("", "now", " now", "now") == ("now", " now")
    assert forms("") == ()


def test_both_forms_are_different_tokens(encode):
    begins, spaced = encode("powerful"), encode(" powerful")
    assert begins != spaced[-len(begins) :]
    assert sorted(words(flat(begins, spaced))) == sorted([begins, spaced])


def test_a_sequence_that_ends_with_another_one_is_left_out():
    # The other is found at the same token: a space and then an end token, say.
    assert words(flat([5, 11], [11], [7, 8], [11])) == [[11], [7, 8]]


def test_which_sequences_are_left_out_is_the_plain_definitions_answer():
    draw = random.Random(5)
    for _ in range(1000):
        given = [draw.choices(range(3), k=draw.randint(0, 4)) for _ in range(draw.randint(0, 6))]
        distinct = [list(each) for each in {tuple(each) for each in given if each}]
        expected = [
            each
            for each in distinct
            if not any(other != each and each[-len(other) :] == other for other in distinct)
        ]
        assert sorted(words(flat(*given))) == sorted(expected)


def test_no_words_are_an_empty_list_as_nvidias_own_preprocessing_gives():
    assert flat().shape == (2, 0)
    assert flat().dtype == np.int32


@pytest.fixture
def chat(tmp_path):
    """Reads the chat template of a checkpoint with these settings, whatever it would render."""
    read_templates = []

    def read(template, file=None, **tokens):
        checkpoint, engine = tmp_path / "checkpoint", tmp_path / "engine"
        checkpoint.mkdir(exist_ok=True)
        engine.mkdir(exist_ok=True)
        settings = {"chat_template": template, **tokens}
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
        if file is not None:
            (checkpoint / "chat_template.jinja").write_text(file)
        found = find_chat(checkpoint)
        if found is None:
            return None
        path = engine / "chat.json"
        path.write_text(json.dumps(found))
        read_templates.append(served("chat").ChatTemplate.read(path))
        return read_templates[-1]

    yield read
    for each in read_templates:
        each.close()


MESSAGES = [
    {"role": "user", "content": 'Grüße <b>& "so"</b> 👋'},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "again"},
]
# Of public checkpoints' constructs: namespaces, loop controls, filters, tests, blocks trimmed.
TEMPLATES = [
    "{% for m in messages %}{{ bos_token + m['role'] + ': ' + m['content'] | trim }}\n{% endfor %}",
    "{%- set ns = namespace(n=0) -%}\n{% for m in messages %}\n  {% if loop.first %}\n"
    "{% continue %}\n  {% endif %}\n{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m | tojson }}\n"
    "{% endfor %}",
    "{{ messages | tojson(indent=2) }}{% if add_generation_prompt is defined %}{{ eos_token }}"
    "{% endif %}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_gives_what_it_gives_in_transformers(chat, template):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    expected = tokenizer.apply_chat_template(
        MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    end = "<|endoftext|>"
    read = chat(template, bos_token={"content": end, "lstrip": False}, eos_token=end)
    assert read.render(MESSAGES) == expected


def test_a_template_in_a_file_of_its_own_wins(chat):
    assert chat("old", file="new").render(MESSAGES) == "new"


def test_of_named_templates_the_default_is_taken(chat):
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert chat(named).render(MESSAGES) == "d"


def test_a_checkpoint_without_a_template_leaves_none(chat):
    assert chat(None) is None


def test_a_template_that_is_no_text_is_refused(chat):
    with pytest.raises(CheckpointError, match="chat_template"):
        chat(5)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{% set _ = messages.append(1) %}",
        "{{ raise_exception('no') }}",
        "{{ messages[9].content.x }}",
        "{{ 1 // 0 }}",
    ],
)
def test_a_template_cannot_reach_out_and_its_failure_is_a_refusal(chat, template):
    with pytest.raises(served("refusal").RefusedError, match="messages: "):
        chat(template).render(MESSAGES)


BOUNDED = (
    "messages: the checkpoint's chat template does not take them",
    "messages: the checkpoint's chat template takes too much time or memory for them",
)
ATTACKS = {
    "an endless range": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "a long text": "{{ c * 10**9 }}",
    "a text that doubles": "{% set ns = namespace(t=c) %}{% for i in range(99) %}"
    "{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "a long output": "{% for i in range(99999) %}{{ c * 9999 }}{% endfor %}",
    "a power": "{% set n = 9 %}{{ (n ** (n ** n)) > 1 }}",
    "a power as text": "{% set n = 9 %}{{ n ** (n ** 5) }}",
    "a padding": "{{ '%999999999d' % 1 }}",
    "a format": "{{ '{:>{n}}'.format(c, n=10**9) }}",
    "a filter": "{{ c | center(10**9) }}",
    "a recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a recursion that branches": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(99) }}",
    "a deep value": "{% set ns = namespace(v=[]) %}{% for i in range(99999) %}"
    "{% set ns.v = [ns.v] %}{% endfor %}{{ ns.v | tojson }}",
    "a list": "{{ ([c] * 10**9) | length }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_template_that_asks_for_too_much_is_refused_and_the_next_chat_is_answered(chat, attack):
    template = chat(
        "{% set c = messages[0].content %}{% if c == '!' %}" + attack + "{% endif %}{{ c }}"
    )
    with pytest.raises(served("refusal").RefusedError) as refused:
        template.render([{"role": "user", "content": "!"}])
    assert str(refused.value) in BOUNDED
    assert template.render([{"role": "user", "content": "hello"}]) == "hello"


def test_of_a_failure_only_the_templates_own_words_reach_the_client(chat):
    said = "{{ raise_exception('roles\n\x1b[2J must ' ~ 'alternate ' * 99) }}"
    with pytest.raises(served("refusal").RefusedError) as refused:
        chat(said).render(MESSAGES)
    assert str(refused.value).startswith("messages: roles [2J must alternate alternate")
    assert len(str(refused.value)) < 250
    for failing in (
        "{{ messages.__class__.x }}",
        "{{ 1 // 0 }}",
        "{{ none.x.y }}",
        "{{ 'a' + 1 }}",
    ):
        with pytest.raises(served("refusal").RefusedError) as refused:
            chat(failing).render(MESSAGES)
        assert str(refused.value) == BOUNDED[0]


def test_a_templates_process_that_somebody_killed_is_replaced(chat):
    template = chat("{{ messages[0].content }}")
    hello = [{"role": "user", "content": "hello"}]
    for signal_number in (signal.SIGKILL, signal.SIGTERM):
        for pid in children():
            os.kill(pid, signal_number)
        assert wait_for(lambda: not children())
        assert template.render(hello) == "hello"


@pytest.mark.slow
def test_a_templates_process_that_is_stopped_is_replaced(chat, monkeypatch):
    monkeypatch.setattr(served("chat"), "_LONGEST_WAIT_S", 3.0)
    template = chat("{{ messages[0].content }}")
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    assert template.render([{"role": "user", "content": "hello"}]) == "hello"
    assert pid not in children()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def children():
    """The running children of this process that render templates."""
    pids = Path("/proc/thread-self/children").read_text().split()
    return [
        int(pid) for pid in pids if b"chat_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("one\n{% for m in messages %}\n{% endif %}", "line 3: "),
        ("{{ messages | nosuch }}", "line 1: No filter named 'nosuch'"),
        ("{{ 9 ** (9 ** 9) }}", "takes too much time or memory"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "RecursionError"),
        ("{% if a %}" * 150 + "{% endif %}" * 150, "too many levels of indentation"),
    ],
    ids=["syntax", "filter", "power", "brackets", "blocks"],
)
@pytest.mark.parametrize("in_a_file", [True, False])
def test_a_template_that_does_not_compile_ends_the_build_with_its_line(
    tmp_path, template, said, in_a_file
):
    settings = {} if in_a_file else {"chat_template": template}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if in_a_file:
        (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=r"chat template that .*compile") as refused:
        read_chat(tmp_path)
    assert said in refused.value.problem
    where = "chat_template.jinja" if in_a_file else "tokenizer_config.json"
    assert refused.value.where == str(tmp_path / where)


@pytest.fixture
def adding_tokenizer(tmp_path):
    """A tokenizer that begins every prompt with a special token, which no Falcon's does."""
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 11)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_special_tokens_are_added_to_prompts_as_the_tokenizer_says_and_to_nothing_else(
    adding_tokenizer, encode
):
    encoding = served("encoding")
    prompt = "one two three four five six"
    texts = [encoding.Text("word"), encoding.Text(prompt, special=True), encoding.Text("x")]
    found = list(encoding.Encoder(adding_tokenizer).encode(texts))
    assert found == [encode("word"), [11, *encode(prompt)], encode("x")]


class Request:
    """A request as Triton's Python backend hands it over."""

    def __init__(self, **tensors):
        self.tensors = {name: np.array([[value]]) for name, value in tensors.items()}

    def parameters(self):
        return "{}"


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The served model in this process, with Triton's own module left out."""
    backend = types.SimpleNamespace(
        Tensor=lambda name, values: (name, values),
        InferenceResponse=lambda tensors=(), error=None: error or dict(tensors),
        TritonError=lambda reason, code: reason,
        get_input_tensor_by_name=lambda request, name: (
            types.SimpleNamespace(as_numpy=lambda: request.tensors[name])
            if name in request.tensors
            else None
        ),
    )
    backend.TritonError.INVALID_ARG = 3
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    module = served("model")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "model.py"))
    (tmp_path / "tokenizer.json").symlink_to(TINY / "tokenizer.json")
    limits = {"max_input_len": 99, "max_seq_len": 128, "vocab_size": 512}
    limits |= {"end_ids": [11, 0], "pad_id": 12}
    parameters = {**limits, "words_are_compared_as": "tokens"}
    values = {name: {"string_value": str(value)} for name, value in parameters.items()}
    made = module.TritonPythonModel()
    made.initialize({"model_config": json.dumps({"parameters": values})})
    return made


def test_requests_that_come_together_are_encoded_in_one_call(model, monkeypatch, encode):
    calls = []
    whole = served("encoding").Encoder._ids

    def counted(encoder, texts, *, special):
        calls.append(sorted(set(texts)))
        return whole(encoder, texts, special=special)

    monkeypatch.setattr(served("encoding").Encoder, "_ids", counted)
    requests = [
        Request(QUERY=f"prompt {n}".encode(), REQUEST_OUTPUT_LEN=5, STOP_WORDS_DICT=b"end")
        for n in range(10)
    ]
    requests[3] = Request(QUERY=b"\xff", REQUEST_OUTPUT_LEN=5)
    answers = model.execute(requests)
    prompts = sorted(f"prompt {n}" for n in range(10) if n != 3)
    assert calls == [[" end", "end", *prompts]]
    assert "not valid UTF-8" in answers.pop(3)
    assert [answer["INPUT_ID"].tolist() for answer in answers] == [
        [encode(f"prompt {n}")] for n in range(10) if n != 3
    ]


def test_end_and_pad_ids_are_the_checkpoints_unless_given(model):
    given = Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, END_ID=3, PAD_ID=2)
    answers = model.execute([Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5), given])
    found = [(each["OUT_END_ID"].item(), each["OUT_PAD_ID"].item()) for each in answers]
    assert found == [(11, 12), (3, 2)]


@pytest.mark.parametrize(
    ("asked", "further"),
    [({}, [[0], [1]]), ({"END_ID": 11}, [[0], [1]]), ({"END_ID": 3}, []), ({"END_ID": -1}, [])],
    ids=["unnamed", "named", "another", "none"],
)
def test_nvidias_backend_gets_the_checkpoints_further_end_tokens_as_stop_words(
    model, asked, further
):
    (answer,) = model.execute([Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, **asked)])
    assert answer["STOP_WORDS_IDS"][0].tolist() == (further or [[], []])


def test_nvidias_clients_get_the_tensors_of_every_model(model):
    (answer,) = model.execute([Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, PAD_ID=2)])
    assert answer["DECODER_INPUT_ID"].tolist() == [[2]]
    assert answer["REQUEST_DECODER_INPUT_LEN"].tolist() == [[1]]
    assert answer["EMBEDDING_BIAS"].shape == (1, 0)


def test_the_ensemble_leaves_the_prompt_out_unless_it_is_wanted(model):
    wanted = {"unsaid": {}, "out": {"EXCLUDE_INPUT_IN_OUTPUT": True}}
    wanted["in"] = {"EXCLUDE_INPUT_IN_OUTPUT": False}
    requests = [Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, **each) for each in wanted.values()]
    answers = [each["OUT_EXCLUDE_INPUT_IN_OUTPUT"].item() for each in model.execute(requests)]
    assert dict(zip(wanted, answers, strict=True)) == {"unsaid": True, "out": True, "in": False}


def biased(words, weights):
    request = Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, STOP_WORDS_DICT=b"end")
    request.tensors["EMBEDDING_BIAS_WORDS"] = np.array([words], np.object_)
    request.tensors["EMBEDDING_BIAS_WEIGHTS"] = np.array([weights], np.float32)
    return request


def test_a_bias_is_its_words_weights_for_each_of_their_tokens(model, encode):
    (answer,) = model.execute([biased([b"a falcon", b"a"], [2.5, -1.0])])
    expected = np.zeros(512, np.float32)
    for word, weight in (("a falcon", 2.5), ("a", -1.0)):
        np.add.at(expected, encode(word), weight)
    assert answer["EMBEDDING_BIAS"].tolist() == [expected.tolist()]
    plain = Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5, STOP_WORDS_DICT=b"end")
    assert (answer["STOP_WORDS_IDS"] == model.execute([plain])[0]["STOP_WORDS_IDS"]).all()


def test_a_bias_has_as_many_words_as_weights_and_finite_ones(model):
    refused = model.execute([biased([b"a", b"b"], [1.0]), biased([b"a"], [np.inf])])
    assert "holds 2 words and embedding_bias_weights 1 values" in refused[0]
    assert refused[1] == "embedding_bias_weights holds a value that is not finite"


def test_messages_without_a_template_are_refused_with_what_to_do(model):
    messages = json.dumps(MESSAGES).encode()
    (answer,) = model.execute([Request(MESSAGES=messages, REQUEST_OUTPUT_LEN=5)])
    assert answer == "messages: this checkpoint has no chat template; send text_input"


@pytest.mark.parametrize("name", ["return_context_logits", "return_generation_logits"])
def test_logits_are_refused_and_none_may_be_asked_for(model, name):
    prompt = {"QUERY": b"a", "REQUEST_OUTPUT_LEN": 5}
    requests = [Request(**prompt, **{name.upper(): value}) for value in (True, False)]
    answers = model.execute(requests)
    assert answers[0] == f"{name} can only be False: the engine gathers no logits"
    assert answers[1]["REQUEST_INPUT_LEN"].item() == 1


def test_a_request_without_a_prompt_is_refused(model):
    (answer,) = model.execute([Request(REQUEST_OUTPUT_LEN=5)])
    assert answer == "give text_input or messages"


@pytest.mark.parametrize("name", ["bad_words", "stop_words"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([b"w"] * 10_000, "holds 10000 words; at most 128 are possible"),
        ([b"w" * 257], "holds a word of 257 bytes; at most 256 are possible"),
        ([b"w", b"\xff"], "is not valid UTF-8"),
    ],
)
def test_words_are_counted_and_measured_before_any_is_read(model, name, words, said):
    request = Request(QUERY=b"a", REQUEST_OUTPUT_LEN=5)
    request.tensors[f"{name.upper()}_DICT"] = np.array([words], np.object_)
    (answer,) = model.execute([request])
    assert answer.startswith(f"{name} {said}")


@pytest.mark.parametrize(
    "prompt",
    [b"ab " * 7_000_000, b"a" * 1585, "\u00e9".encode() * 793],
    ids=["21 MB", "one byte more", "one character more"],
)
def test_a_prompt_of_too_many_bytes_is_refused_unread(model, monkeypatch, prompt):
    encoded = []
    monkeypatch.setattr(
        served("encoding").Encoder,
        "encode",
        lambda encoder, texts: iter(encoded.append(texts) or ()),
    )
    (answer,) = model.execute([Request(QUERY=prompt, REQUEST_OUTPUT_LEN=5)])
    size = len(prompt)
    assert answer == f"text_input has {size} bytes and this engine takes at most 1584 (99 tokens)"
    assert encoded == [[]]


def test_messages_are_measured_before_they_are_parsed_and_after_they_are_rendered(chat):
    limits = served("prompts").Limits(10, 20, 512, end_ids=(0,), pad_id=0)
    limits.check_messages("x" * 640)
    limits.check_text("messages", "x" * 160)
    for check, text in (
        (limits.check_messages, "x" * 641),
        (lambda text: limits.check_text("messages", text), "x" * 161),
        (lambda text: limits.check_text("messages", text), "\ud800"),
    ):
        with pytest.raises(served("refusal").RefusedError, match=r"^messages h(as|olds)"):
            check(text)


def test_unknown_fields_are_named_in_a_short_sentence():
    parameters = json.dumps({"x" * 10_000 + str(number): 1 for number in range(100)})
    with pytest.raises(served("refusal").RefusedError) as refused:
        served("parameters").check_parameters(parameters)
    assert len(str(refused.value)) < 1000


def test_rows_of_different_lengths_are_padded_as_nvidias_are():
    """`_create_request` and `_to_word_list_format` of NVIDIA's preprocessing (1.0.0)."""
    stacked = served("batches").stacked
    ids = [np.array([1, 2, 3], np.int32), np.array([4], np.int32)]
    assert stacked(ids, 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    words = [np.array([[5, 6], [1, 2]], np.int32), np.zeros((2, 0), np.int32)]
    assert stacked(words, 0, -1).tolist() == [[[5, 6], [1, 2]], [[0, 0], [-1, -1]]]


def test_each_row_of_a_batch_is_read_by_itself():
    tensors = {"a": np.array([[1], [2]]), "b": np.array([[3, 4], [5, 6]])}
    rows = served("batches").rows_of(tensors.get, "none", "a")
    assert [(row("a").tolist(), row("b").tolist(), row("c")) for row in rows] == [
        ([[1]], [[3, 4]], None),
        ([[2]], [[5, 6]], None),
    ]
    assert len(served("batches").rows_of(tensors.get, "none")) == 1
