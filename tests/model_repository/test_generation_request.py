"""What the CPU engine takes, and what it refuses before the pipeline sees it."""

import numpy as np
import pytest

TABLE = [bytes([value]) for value in range(256)] + [b""]
END, FURTHER_END = 256, 70


@pytest.fixture
def read(request_module):
    """Reads a request from keyword arguments; gives it or raises RefusedError."""
    limits = request_module.EngineLimits(
        vocab_size=300, max_input_len=8, max_seq_len=12, end_ids=frozenset({END, FURTHER_END})
    )

    def run(**tensors):
        given = {"input_ids": ids(1, 2, 3), "request_output_len": scalar(4), **tensors}
        return request_module.read_request(given.get, limits, TABLE, all_tokens=False)

    return run


@pytest.fixture
def refusal(read, request_module):
    """The sentence with which a request is refused."""

    def run(**tensors):
        with pytest.raises(request_module.RefusedError) as refused:
            read(**tensors)
        return str(refused.value)

    return run


def ids(*values):
    return np.array([values], np.int32)


def scalar(value, kind=np.int32):
    return np.array([value], kind)


def words(*texts):
    """Words in TensorRT-LLM's flat form, [1, 2, n]."""
    flat = [byte for text in texts for byte in text.encode()]
    ends = list(np.cumsum([len(text.encode()) for text in texts]))
    return np.array([[flat, ends + [-1] * (len(flat) - len(ends))]], np.int32)


def test_the_defaults_are_greedy_and_end_at_each_of_the_checkpoints_end_tokens(read):
    request = read()
    assert list(request.input_ids) == [1, 2, 3]
    assert request.end_ids == {END, FURTHER_END}
    assert request.sampling.greedy
    assert not request.exclude_input  # as NVIDIA's backend, and unlike the ensemble
    assert not request.streaming


@pytest.mark.parametrize("end_id", [END, FURTHER_END])
def test_a_client_that_names_one_of_the_checkpoints_end_tokens_has_them_all(read, end_id):
    assert read(end_id=scalar(end_id)).end_ids == {END, FURTHER_END}


def test_end_id_minus_one_means_that_nothing_ends_generation(read):
    assert read(end_id=scalar(-1)).end_ids == frozenset()


def test_a_special_token_as_stop_word_is_an_end_token(read):
    flat = np.array([[[END, 65], [1, 2]]], np.int32)
    request = read(end_id=scalar(3), stop_words_list=flat)
    assert request.end_ids == {3, END}
    assert request.stop_words == (b"A",)


def test_what_nvidias_clients_send_for_every_model_changes_nothing(read):
    nothing = np.zeros((1, 0), np.float32)
    request = read(
        decoder_input_ids=ids(11),
        decoder_input_lengths=scalar(1),
        embedding_bias=nothing,
        runtime_top_p_min=scalar(0.1, np.float32),
        runtime_top_p_reset_ids=scalar(5),
    )
    assert request == read() == read(embedding_bias=np.zeros((1, 300), np.float32))


def test_words_are_read_from_their_flat_form(read):
    request = read(stop_words_list=words("ab", "c"), bad_words_list=words("xyz", "y", "q"))
    assert request.stop_words == (b"ab", b"c")
    # A word that contains another is excluded with it, and the grammar takes no such pairs.
    assert 'excludes=("q","y")' in request.grammar


@pytest.mark.parametrize(
    ("given", "greedy", "top_k"),
    [
        ({}, True, 1),
        ({"runtime_top_k": scalar(1)}, True, 1),
        ({"runtime_top_k": scalar(20)}, False, 20),
        ({"runtime_top_k": scalar(0)}, False, 0),
        ({"runtime_top_p": scalar(0.9, np.float32)}, False, 0),
        ({"runtime_top_p": scalar(0.0, np.float32)}, True, 1),
        (
            {"runtime_top_k": scalar(20), "temperature": scalar(0.0, np.float32)},
            True,
            20,
        ),
    ],
)
def test_sampling_is_asked_for_by_top_k_or_top_p(read, given, greedy, top_k):
    sampling = read(**given).sampling
    assert (sampling.greedy, sampling.top_k) == (greedy, top_k)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_ids": np.zeros((1, 0), np.int32)}, ["input_ids", "empty"]),
        ({"input_ids": ids(*range(9))}, ["9 tokens", "8"]),
        ({"input_ids": ids(300)}, ["300"]),
        ({"input_ids": ids(-1)}, ["-1"]),
        ({"input_ids": np.ones((2, 3), np.int32)}, ["2 prompts"]),
        ({"input_lengths": scalar(4)}, ["input_lengths", "4"]),
        ({"request_output_len": scalar(0)}, ["max_tokens is 0"]),
        ({"request_output_len": scalar(-5)}, ["max_tokens is -5"]),
        ({"end_id": scalar(300)}, ["end_id", "300"]),
        ({"pad_id": scalar(-2)}, ["pad_id", "-2"]),
        ({"embedding_bias": np.ones((1, 300), np.float32)}, ["embedding_bias", "CPU engine"]),
        ({"beam_search_diversity_rate": scalar(1.0, np.float32)}, ["beam_search_diversity_rate"]),
        ({"end_id": ids(1, 2)}, ["end_id", "2 values"]),
        ({"runtime_top_k": scalar(-1)}, ["top_k", "-1"]),
        ({"runtime_top_p": scalar(1.5, np.float32)}, ["top_p", "1.5"]),
        ({"runtime_top_p": scalar(np.nan, np.float32)}, ["top_p", "nan"]),
        ({"temperature": scalar(-1.0, np.float32)}, ["temperature"]),
        ({"temperature": scalar(np.inf, np.float32)}, ["temperature", "inf"]),
        ({"repetition_penalty": scalar(0.0, np.float32)}, ["repetition_penalty"]),
        ({"min_tokens": scalar(5)}, ["min_tokens", "5"]),
        ({"beam_width": scalar(2)}, ["beam_width 2"]),
        ({"num_return_sequences": scalar(2)}, ["num_return_sequences 2"]),
        ({"len_penalty": scalar(0.5, np.float32)}, ["len_penalty 0.5"]),
        ({"presence_penalty": scalar(0.5, np.float32)}, ["presence_penalty 0.5"]),
        ({"frequency_penalty": scalar(-1, np.float32)}, ["frequency_penalty -1"]),
        ({"return_context_logits": scalar(True, np.bool_)}, ["return_context_logits"]),
        ({"return_generation_logits": scalar(True, np.bool_)}, ["return_generation_logits"]),
        ({"stop_words_list": np.ones((1, 3, 1), np.int32)}, ["stop_words", "shape"]),
        ({"stop_words_list": words(*["a"] * 129)}, ["stop_words holds 129 words", "128"]),
        ({"bad_words_list": words(*["a"] * 10_000)}, ["bad_words holds 10000 words", "128"]),
        ({"stop_words_list": np.ones((1, 2, 10**6), np.int32)}, ["holds 1000000 tokens"]),
        ({"bad_words_list": words("b\0x", "abc")}, ["bad_words", "NUL"]),
        (
            {"bad_words_list": words(*(f"{number:0100}" for number in range(11)))},
            ["1100 bytes", "1024"],
        ),
        ({"bad_words_list": words("a" * 257)}, ["bad_words holds a word of 257 bytes", "256"]),
        ({"stop_words_list": np.array([[[1, 2], [3, -1]]], np.int32)}, ["ends at 3"]),
        ({"stop_words_list": np.array([[[1, 2], [2, 1]]], np.int32)}, ["ends at 1"]),
        ({"stop_words_list": np.array([[[999], [1]]], np.int32)}, ["not in the vocabulary"]),
        ({"bad_words_list": np.array([[[END], [1]]], np.int32)}, ["special token"]),
        ({"bad_words_list": np.array([[[0xC3], [1]]], np.int32)}, ["part of a character"]),
        ({"bad_words_list": words(*(chr(33 + place) for place in range(33)))}, ["33", "32"]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(refusal, given, said):
    sentence = refusal(**given)
    assert all(word in sentence for word in said), sentence


def test_of_many_ids_only_as_many_are_read_as_the_prompt_has(read):
    assert read(input_ids=ids(*[1] * 100_000), input_lengths=scalar(3)).input_ids == [1, 1, 1]


def test_a_longer_output_than_sequences_have_becomes_less(read):
    assert read(request_output_len=scalar(9)).max_tokens == 9
    assert read(request_output_len=scalar(2**31 - 1)).max_tokens == 9
