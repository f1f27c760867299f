"""The tokenizer inside the engine is the checkpoint's; grammars and stop strings work with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino_genai
import pytest
from tokenizers import Tokenizer

Engine = Callable[[Path, str], Path]

QUESTION = "Explain Cloud Computing to a school kid"
TEXTS = [
    QUESTION,
    "  two spaces, a tab\t, é – 23.4° 日本 🦅\r\n don't\n",
    "1234567 3.14 >>ANSWER<< x<|endoftext|>",
    "",
]


@pytest.fixture(scope="module")
def engine(engine_of: Engine, tiny_falcon: Path) -> Path:
    return engine_of(tiny_falcon, "cpu")


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_the_same_ids_and_back(text: str, engine: Path) -> None:
    ours = openvino_genai.Tokenizer(str(engine))
    theirs = Tokenizer.from_file(str(engine / "tokenizer.json"))
    ids = theirs.encode(text, add_special_tokens=False).ids

    assert ours.encode(text).input_ids.data.ravel().tolist() == ids
    assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(
        ids, skip_special_tokens=False
    )


def test_every_token_has_the_same_bytes(engine: Path) -> None:
    ours = openvino_genai.Tokenizer(str(engine))
    theirs = Tokenizer.from_file(str(engine / "tokenizer.json"))
    ids = range(theirs.get_vocab_size())

    # Between two letters, so that a token that is half a character shows as it would in a text.
    around = theirs.encode("a", add_special_tokens=False).ids
    for token in ids:
        sequence = [*around, token, *around]
        assert ours.decode(sequence, skip_special_tokens=False) == theirs.decode(
            sequence, skip_special_tokens=False
        )


def answer(serve: Callable[[Path], Any], engine: Path, **settings: Any) -> str:
    tokenizer = Tokenizer.from_file(str(engine / "tokenizer.json"))
    ids = tokenizer.encode(QUESTION, add_special_tokens=False).ids
    return tokenizer.decode(serve(engine).answers([ids], 60, **settings)[0])


def test_a_stop_string_ends_the_answer(serve: Callable[[Path], Any], engine: Path) -> None:
    whole = answer(serve, engine)

    assert " over the " in whole
    assert answer(serve, engine, stop_strings={" over the"}) == whole.split(" over the")[0]


def test_a_grammar_keeps_a_word_out(serve: Callable[[Path], Any], engine: Path) -> None:
    grammar = (
        "root ::= TagDispatch(stop_eos=true, stop_str=(), loop_after_dispatch=false, "
        'excludes=("powerful"))'
    )
    structured = openvino_genai.StructuredOutputConfig(grammar=grammar)

    assert "powerful" in answer(serve, engine)
    assert "powerful" not in answer(serve, engine, structured_output_config=structured)
