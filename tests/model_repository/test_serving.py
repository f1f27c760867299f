"""What the CPU engine does beyond the contract that test_contract.py holds it to."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.model_repository.contract import CLOUD, Server


@pytest.fixture(scope="module")
def server(triton):
    return Server(triton, "cpu")


def test_a_stream_has_no_broken_characters(server, sentences):
    for prompt in sentences:
        chunks = server.stream(text_input=prompt, max_tokens=128)
        assert not any("\ufffd" in chunk for chunk in chunks)


def test_a_stop_word_is_found_in_the_middle_of_tokens(server, sentences):
    answer = sentences[CLOUD]
    stop = answer[30:34]
    expected = answer[: answer.index(stop)]
    assert server.text(stop_words=[stop]) == expected
    chunks = server.stream(text_input=CLOUD, max_tokens=128, stop_words=["xyz", stop])
    assert "".join(chunks) == expected


def test_a_stop_word_leaves_the_space_before_it(server, sentences):
    """The form with a space, which NVIDIA's backend needs, would cut that space as well."""
    before, word, _ = sentences[CLOUD].partition("powerful")
    assert before.endswith(" ")
    assert server.text(stop_words=[word]) == before


def test_bad_words_never_come_whatever_is_sampled(server, sentences):
    banned = sentences[CLOUD].split()[1:3]
    for seed in range(5):
        answer = server.text(bad_words=banned, top_k=50, temperature=2.0, seed=seed)
        assert not any(word in answer for word in banned)


def test_a_seed_decides_what_is_sampled(server):
    hot = {"top_k": 0, "top_p": 1.0, "temperature": 5.0, "max_tokens": 40}
    first = server.text(seed=1, **hot)
    assert server.text(seed=1, **hot) == first
    assert server.text(seed=2, **hot) != first


def test_top_k_one_and_a_tiny_top_p_are_greedy(server, sentences):
    assert server.text(top_k=1, temperature=5.0, seed=3) == sentences[CLOUD]
    assert server.text(top_p=1e-6, temperature=1.0, seed=3) == sentences[CLOUD]


def test_a_repetition_penalty_changes_what_is_repeated(server):
    repeated = server.text(end_id=-1, max_tokens=100)
    assert server.text(end_id=-1, max_tokens=100, repetition_penalty=1.5) != repeated


GOOD = {"text_input": CLOUD, "max_tokens": 5}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "beam_width": 4}, "beam_width 4"),
        ({**GOOD, "top_p": 7.0}, "top_p is 7"),
        ({**GOOD, "end_id": 10**6}, "end_id is 1000000"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_what_the_cpu_engine_cannot_honour_is_refused_and_others_are_served(
    server, sentences, path, body, said
):
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(server.text) for _ in range(3)]
        response = server.post(body, path)
        assert 400 <= response.status_code < 500, response.text
        assert said in response.text
        assert [each.result() for each in good] == [sentences[CLOUD]] * 3
