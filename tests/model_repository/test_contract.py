"""One contract, whatever serves it, asked over HTTP as any client would.

For real: the CPU engine. With a stand-in (tests/stand_in_backend) in the place of NVIDIA's C++
backend, and everything else as it would be deployed: one release of it in full, and one test of
each other, whose repositories differ from the first's in what
tests/falconry/repository/test_releases.py says and in nothing else.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from transformers import AutoTokenizer

from falconry.engine.toolchain import load_toolchains
from tests.conftest import ROOT, running_triton
from tests.model_repository.contract import CLOUD, Server
from tests.stand_in_backend.engine import LIMITS, stand_in_engine
from tests.stand_in_backend.repository import gpu_repository, stand_in_for_backend

RELEASE = load_toolchains().row(None).release
ROWS = {row.release: row for row in load_toolchains().rows}
# Those that name their tensors as RELEASE does are left to `-m long`.
OTHERS = [
    pytest.param(
        release,
        marks=pytest.mark.long if row.tensor_names == ROWS[RELEASE].tensor_names else (),
    )
    for release, row in ROWS.items()
    if release != RELEASE
]
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
HELLO = [{"role": "user", "content": "What is photosynthesis?"}]


@pytest.fixture(scope="module")
def stand_in_server(tmp_path_factory):
    """Serves the repository of a release, with the stand-in."""

    def serve(release):
        directory = tmp_path_factory.mktemp("stand-in")
        engine = stand_in_engine(directory / "engine", release)
        repository = stand_in_for_backend(gpu_repository(engine, release, directory / "build"))
        return running_triton(repository, directory)

    return serve


@pytest.fixture(scope="module", params=["cpu", RELEASE])
def server(request, stand_in_server):
    if request.param == "cpu":
        yield Server(request.getfixturevalue("triton"), "cpu")
        return
    with stand_in_server(request.param) as url:
        yield Server(url, request.param, "seed", LIMITS["max_seq_len"] - 1)


def test_every_sentence_is_answered_as_transformers_answers_it(server, sentences):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(server.text, sentences))
    assert answers == list(sentences.values())


def test_the_documents_request_works_as_it_stands(server):
    response = server.post(DOCUMENT)
    assert response.status_code == 200, response.text
    answer = response.json()["text_output"]
    assert answer
    assert "now" not in answer
    assert "process" not in answer


def test_a_stream_adds_up_to_the_whole_answer(server, sentences):
    for prompt, answer in sentences.items():
        if not (server.compares_text or answer.isascii()):
            # An ensemble decodes each of the backend's tokens alone; only a front model can put
            # the tokens of one character together. The CPU engine does it before it sends them.
            continue
        chunks = server.stream(text_input=prompt, max_tokens=128)
        assert len(chunks) > 5
        assert "".join(chunks) == answer


@pytest.mark.parametrize("within", [slice(2, 3), slice(4, 6)])
def test_a_stop_word_ends_the_text_wherever_it_stands(server, sentences, within):
    """Words with a space before them, which a bare token sequence would miss."""
    answer = sentences[CLOUD]
    stop = " ".join(answer.split()[within])
    before = answer[: answer.index(stop)]
    found = server.text(stop_words=["xyz", stop])
    assert found == before if server.compares_text else found in (before, before + stop)


def test_an_end_token_by_its_name_is_a_stop_word(server, sentences):
    assert server.text(end_id=3, stop_words=["<|endoftext|>"]) == sentences[CLOUD]


def test_empty_stop_and_bad_words_do_nothing(server, sentences):
    assert server.text(stop_words=["", ""], bad_words=[""]) == sentences[CLOUD]


@pytest.mark.parametrize("place", [0, 3])
def test_bad_words_never_come(server, sentences, place):
    """Neither the word that begins the text nor one after a space."""
    banned = sentences[CLOUD].split()[place]
    assert banned not in server.text(bad_words=[banned])


def test_another_end_id_does_not_stop_at_the_end_token(server, sentences):
    longer = server.text(end_id=3)
    assert longer.startswith(sentences[CLOUD])
    assert len(longer) > len(sentences[CLOUD])


def test_max_tokens_is_kept_and_log_probabilities_add_up(server):
    answer = server.generate(max_tokens=5, return_log_probs=True)
    log_probs = answer["output_log_probs"]
    assert len(log_probs) == 5
    assert answer["cum_log_probs"] == pytest.approx(sum(log_probs), abs=1e-4)
    assert all(value < 0 for value in log_probs)


def test_log_probabilities_are_the_same_streamed_plain_and_stopped(server, sentences):
    """Token by token, to the end of an answer, by the front model."""
    plain = server.log_probs()
    assert b"".join(token for token, _ in plain).decode() == sentences[CLOUD]
    assert len({value for _, value in plain}) > 5
    assert_same(server.log_probs(stream=True), plain)
    stop = " ".join(sentences[CLOUD].split()[4:6])
    stopped = server.log_probs(stop_words=[stop])
    assert 0 < len(stopped) < len(plain)
    assert_same(stopped, plain[: len(stopped)])
    assert_same(server.log_probs(stop_words=[stop], stream=True), stopped)


def assert_same(found, expected):
    assert [token for token, _ in found] == [token for token, _ in expected]
    values = [value for _, value in expected]
    assert [value for _, value in found] == pytest.approx(values, abs=1e-4)


def test_the_prompt_is_echoed_only_when_asked_for(server, sentences):
    assert server.text(exclude_input_in_output=True) == sentences[CLOUD]
    assert server.text(exclude_input_in_output=False) == CLOUD + sentences[CLOUD]


def test_a_seed_goes_by_the_name_that_the_release_gives_it(server, sentences):
    assert_takes_the_seed(server, sentences)


def assert_takes_the_seed(server, sentences):
    assert server.text(**{server.seed: 3, "top_k": 1}) == sentences[CLOUD]
    other = {"seed": "random_seed", "random_seed": "seed"}[server.seed]
    response = server.post({"text_input": CLOUD, "max_tokens": 5, other: 3})
    assert response.status_code == 400
    assert f"unknown field: {other}" in response.text


@pytest.mark.parametrize("release", OTHERS)
def test_another_release_serves_what_that_one_does(stand_in_server, sentences, release):
    seed = load_toolchains().row(release).tensor_names
    with stand_in_server(release) as url:
        server = Server(url, release, seed, LIMITS["max_seq_len"] - 1)
        assert [server.text(prompt) for prompt in sentences] == list(sentences.values())
        assert "".join(server.stream(text_input=CLOUD, max_tokens=128)) == sentences[CLOUD]
        assert server.post(DOCUMENT).status_code == 200
        assert_takes_the_seed(server, sentences)
        refused = server.post({"text_input": "", "max_tokens": 5})
        assert (refused.status_code, "text_input is empty" in refused.text) == (400, True)


def test_a_short_request_does_not_wait_for_a_long_one(server):
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(server.text, end_id=-1, max_tokens=240)
        assert server.stream(text_input=CLOUD, max_tokens=2)
        assert server.text(max_tokens=2)
        assert not long.done()
        assert long.result()


def test_more_requests_than_the_engine_takes_at_once_are_all_answered(server, sentences):
    prompts = [prompt for prompt in sentences for _ in range(8)]
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(server.text, prompts))
    assert answers == [sentences[prompt] for prompt in prompts]


def test_messages_are_rendered_as_transformers_renders_them(server):
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints/tiny-falcon")
    prompt = tokenizer.apply_chat_template(HELLO, tokenize=False, add_generation_prompt=True)
    expected = server.text(prompt, max_tokens=20)
    assert server.text("", max_tokens=20, messages=json.dumps(HELLO)) == expected


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "messages is not JSON"),
        ("[]", "at least one message"),
        ('["hello"]', "messages[0] must be an object"),
        ('[{"role": "user"}]', "messages[0].content must be text"),
        ('[{"role": "user", "content": 5}]', "messages[0].content must be text"),
        # The checkpoint's own template calls raise_exception.
        ('[{"role": "tool", "content": ""}]', "messages: Only system, user and assistant"),
        (json.dumps([{"role": "user", "content": "word " * 2000}]), "messages has"),
    ],
)
def test_messages_that_cannot_be_rendered_are_refused(server, messages, said):
    response = server.post({"text_input": "", "max_tokens": 5, "messages": messages})
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]


GOOD = {"text_input": CLOUD, "max_tokens": 5}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "text_input": ""}, "text_input is empty"),
        ({**GOOD, "messages": json.dumps(HELLO)}, "either text_input or messages"),
        ({**GOOD, "text_input": "word " * 1000}, "tokens and this engine takes {max_input_len}"),
        # Too many bytes for so many tokens, whatever they are: it is not tokenized.
        ({**GOOD, "text_input": "word " * 2000}, "10000 bytes and this engine takes at most 8176"),
        ({**GOOD, "return_context_logits": True}, "return_context_logits can only be False"),
        ({**GOOD, "return_generation_logits": True}, "return_generation_logits can only be False"),
        ({**GOOD, "text_input": ["a", "b"]}, "batch size"),
        ({**GOOD, "max_tokens": 0}, "max_tokens is 0"),
        ({**GOOD, "max_tokens": -3}, "max_tokens is -3"),
        ({"text_input": CLOUD}, "max_tokens"),
        ({**GOOD, "max_token": 5}, "unknown field: max_token"),
        ({**GOOD, "lora_task_id": 1}, "lora_task_id"),
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
    server, sentences, path, body, said
):
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(server.text) for _ in range(3)]
        response = server.post(body, path)
        assert 400 <= response.status_code < 500, response.text
        assert said.format(max_input_len=server.max_input_len) in response.text
        assert [each.result() for each in good] == [sentences[CLOUD]] * 3


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_infer_is_answered_where_streams_are(server, sentences, model):
    body = {
        "id": "7",
        "inputs": [
            {"name": "text_input", "shape": [1, 1], "datatype": "BYTES", "data": [CLOUD]},
            {"name": "max_tokens", "shape": [1, 1], "datatype": "INT32", "data": [128]},
        ],
    }
    response = server.post(body, "infer", model)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", model, "1")
    text = answer["outputs"][0]
    assert text["name"] == "text_output"
    assert (text["datatype"], text["shape"], text["data"]) == ("BYTES", [1], [sentences[CLOUD]])


def test_max_tokens_beyond_the_engines_sequence_becomes_less(server, sentences):
    """As in TensorRT-LLM (1.0.0, llmRequest.h), which warns of it."""
    assert server.text(max_tokens=100_000) == sentences[CLOUD]


@pytest.mark.parametrize("path", ["generate", "infer"])
def test_what_answers_in_one_piece_refuses_a_stream(server, path):
    response = server.post({**GOOD, "stream": True}, path)
    assert response.status_code == 400
    assert "/v2/models/ensemble/generate_stream" in response.json()["error"]
