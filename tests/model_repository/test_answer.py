"""From tokens to text: any text, split into tokens in every possible way, stops or none."""

import itertools
import random

import pytest

# As tokens: every byte is one, and what a test puts behind them.
BYTES = [bytes([value]) for value in range(256)]
SPECIAL, END, FURTHER_END = 256, 257, 258

TEXTS = {
    "emoji": "👍🏽!",
    "flags": "🇫🇷🇩🇪",
    "combining": "e\u0301a\u0323\u0307",
    "zero width joiner": "👩\u200d👧",
    "CJK": "日本語",
    "right to left": "שלום",
    "mixed direction": "a م b",
    "four bytes": "𝄞𠜎",
    "ascii": "Stop it.",
}
# All partitions of 12 bytes are 2,048.
LONGEST_SPLIT_EXHAUSTIVELY = 12


def splits(data):
    """Every way to cut bytes into tokens, or a sample of them for longer ones."""
    places = range(1, len(data))
    if len(data) <= LONGEST_SPLIT_EXHAUSTIVELY:
        chosen = itertools.chain.from_iterable(
            itertools.combinations(places, count) for count in range(len(data))
        )
    else:
        draw = random.Random(5)
        chosen = (sorted(draw.sample(places, draw.randrange(len(places) + 1))) for _ in range(1500))
    for cuts in chosen:
        borders = [0, *cuts, len(data)]
        yield [data[begin:end] for begin, end in itertools.pairwise(borders)]


@pytest.fixture
def pieces(answer_module):
    """The pieces of text that come of tokens, and the answer at its end."""

    def run(tokens, stop_words=(), max_tokens=1000, echo="", each=1):
        table = [*BYTES, b"", b"", b"</s>", *tokens]
        answer = answer_module.Answer(
            table, [word.encode() for word in stop_words], {END, FURTHER_END}, max_tokens, echo
        )
        ids = list(range(len(BYTES) + 3, len(table)))
        texts = []
        for begin in range(0, len(ids), each):
            answer.add(ids[begin : begin + each], [])
            texts.append(answer.take_text())
            if answer.finish_reason:
                break
        answer.end()
        texts.append(answer.take_text())
        return texts, answer

    return run


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_however_a_text_is_split_its_pieces_are_whole_characters_and_add_up(pieces, text):
    for tokens in splits(text.encode()):
        shown, answer = pieces(tokens)
        assert "".join(shown) == text
        assert "\ufffd" not in "".join(shown)
        assert answer.finish_reason == "stop"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_stop_word_is_cut_exactly_however_it_is_split(pieces, text):
    # Every part of the text once as the stop word, of at most three characters.
    words = {text[begin:end] for begin in range(len(text)) for end in range(begin + 1, begin + 4)}
    for word in sorted(words):
        expected = text[: text.index(word)]
        for tokens in itertools.islice(splits(text.encode()), 0, None, 7):
            shown, answer = pieces(tokens, [word, "never there"])
            assert "".join(shown) == expected
            assert answer.finish_reason == "stop"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tokens_that_come_together_make_the_same_text(pieces, text):
    tokens = [bytes([byte]) for byte in text.encode()]
    for each in (1, 2, 3, len(tokens)):
        assert "".join(pieces(tokens, each=each)[0]) == text


def test_text_is_shown_as_soon_as_it_can_be_no_stop_word(pieces):
    assert pieces([b"hel", b"lo", b" wor", b"m"], ["world"])[0] == ["hel", "lo", " ", "worm", ""]


def test_the_first_stop_word_in_the_text_counts_not_the_first_in_the_list(pieces):
    assert "".join(pieces([b"one two three"], ["three", "two"])[0]) == "one "


def test_a_character_that_never_ends_is_not_shown(pieces):
    assert "".join(pieces([b"ok ", "é".encode()[:1]])[0]) == "ok "


def test_bytes_that_are_no_text_become_the_replacement_character(pieces):
    assert "".join(pieces([b"a\xff", b"\x80b"])[0]) == "a\ufffd\ufffdb"


def test_special_tokens_are_not_shown_and_split_nothing(answer_module):
    answer = answer_module.Answer([*BYTES, b"", b""], [], {END}, 10)
    begin, end = "é".encode()
    answer.add([begin, SPECIAL, end, SPECIAL], [])
    assert answer.take_text() == "é"
    assert answer.completion_tokens == 4


def test_the_end_token_ends_the_answer_and_is_no_part_of_it(answer_module):
    answer = answer_module.Answer([*BYTES, b"", b"end"], [], {END}, 10)
    answer.add([65, END, 66], [-1.0, -2.0, -3.0])
    assert (answer.take_text(), answer.finish_reason) == ("A", "stop")
    assert answer.completion_tokens == 1
    assert answer.cumulative == -1.0


def test_an_answer_of_all_tokens_asked_for_was_cut_for_its_length(pieces):
    assert pieces([b"a", b"b"], max_tokens=2)[1].finish_reason == "length"
    assert pieces([b"a", b"b"], max_tokens=3)[1].finish_reason == "stop"
    # The last token asked for is half a character: counted, though nothing of it is shown.
    shown, answer = pieces([b"a", "é".encode()[:1]], max_tokens=2)
    assert ("".join(shown), answer.finish_reason, answer.completion_tokens) == ("a", "length", 2)


def test_tokens_are_counted_up_to_the_one_that_completes_a_stop_word(pieces):
    shown, answer = pieces([b"a", b"st", b"op", b"more"], ["stop"], each=4)
    assert ("".join(shown), answer.completion_tokens) == ("a", 3)


def test_a_cancelled_answer_keeps_what_it_has(answer_module):
    answer = answer_module.Answer(BYTES, [b"abc"], {END}, 10)
    answer.add([*b"xab"], [])
    assert answer.take_text() == "x"
    answer.cancel()
    assert (answer.take_text(), answer.finish_reason) == ("ab", "cancelled")


def test_the_prompt_stands_before_the_answer_when_it_is_to_be_echoed(pieces):
    assert "".join(pieces([b"b"], echo="a ")[0]) == "a b"
    # A stop word in the prompt stops nothing.
    assert "".join(pieces([b"b"], ["a"], echo="a ")[0]) == "a b"


def test_log_probabilities_are_given_once_for_each_token(answer_module):
    answer = answer_module.Answer(BYTES, [], {END}, 10)
    answer.add([65, 66], [-0.5, -0.25])
    assert (answer.take_log_probs(), answer.take_tokens()) == ([-0.5, -0.25], [b"A", b"B"])
    answer.add([67], [-1.0])
    assert (answer.take_log_probs(), answer.take_tokens()) == ([-1.0], [b"C"])
    assert answer.cumulative == -1.75
