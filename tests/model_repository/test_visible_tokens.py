"""Which generated tokens may be shown, and when."""

import random

import pytest

BYTES = [bytes([value]) for value in range(256)]
PIECES = [b"hello", b" wor", b"ld.", "é".encode()[:1], "é".encode()[1:], b""]
TABLE = BYTES + PIECES
HELLO, WOR, LD, E_BEGIN, E_END, SPECIAL = range(256, 262)


@pytest.fixture
def shown(tokens_module):
    """Feeds tokens one by one; gives the texts that came after each, and at the end."""

    def run(ids, stop_words=()):
        visible = tokens_module.VisibleTokens(
            TABLE, [word.encode() for word in stop_words], lambda text: list(text.encode())
        )
        chunks = []
        for token_id in ids:
            chunks.append(visible.add(tokens_module.Token(token_id, -1.0)))
            if visible.stopped:
                break
        else:
            chunks.append(visible.finish())
        return [b"".join(TABLE[token.token_id] for token in chunk) for chunk in chunks]

    return run


def test_a_token_is_shown_at_once_when_it_ends_a_character(shown):
    assert shown([HELLO, WOR, LD]) == [b"hello", b" wor", b"ld.", b""]


def test_a_part_of_a_character_waits_for_the_rest(shown):
    assert shown([E_BEGIN, E_END, HELLO]) == [b"", "é".encode(), b"hello", b""]


def test_a_character_that_never_ends_is_not_shown(shown):
    assert shown([HELLO, E_BEGIN]) == [b"hello", b"", b""]


def test_special_tokens_do_not_split_a_character(shown):
    assert shown([E_BEGIN, SPECIAL, E_END]) == [b"", b"", "é".encode(), b""]


def test_a_stop_word_across_tokens_is_cut_exactly(shown):
    assert shown([HELLO, WOR, LD], ["world"]) == [b"hello", b"", b" "]


def test_a_stop_word_inside_a_token_is_cut_exactly(shown):
    assert shown([HELLO, WOR, LD], ["d."]) == [b"hello", b" wor", b"l"]


def test_the_first_of_several_stop_words_counts(shown):
    assert b"".join(shown([HELLO, WOR, LD], ["ld", "lo wor", "."])) == b"hel"


def test_what_only_looked_like_a_stop_word_is_shown_after_all(shown):
    assert shown([HELLO, WOR, HELLO], ["world"]) == [b"hello", b"", b" worhello", b""]


def test_bytes_that_are_no_text_are_not_held_for_ever(shown):
    assert b"".join(shown([0x80, 0x80, HELLO])) == b"\x80\x80hello"


def test_any_stream_shows_the_text_up_to_the_first_stop_word(shown):
    """Against the plain definition: cut the whole text at the first stop word."""
    draw = random.Random(7)
    alphabet = [HELLO, WOR, LD, *b"abehlow. "]
    for _ in range(500):
        ids = draw.choices(alphabet, k=draw.randint(1, 12))
        words = ["".join(draw.choices("abehlow. ", k=draw.randint(1, 4))) for _ in range(2)]
        text = b"".join(TABLE[token_id] for token_id in ids)
        ends = [text.find(word.encode()) for word in words if word.encode() in text]
        expected = text[: min(ends)] if ends else text
        assert b"".join(shown(ids, words)) == expected


def test_who_asks_for_all_tokens_gets_each_as_it_comes(tokens_module):
    tokens = tokens_module.GeneratedTokens(TABLE, [b"world"])
    for token_id in [HELLO, E_BEGIN, SPECIAL, WOR, LD]:
        assert not tokens.stopped
        assert [each.token_id for each in tokens.add(tokens_module.Token(token_id, -1.0))] == [
            token_id
        ]
    assert tokens.stopped
    assert tokens.finish() == []
