"""What others wrote is read with bounds, or refused in one clause."""

import json
import os

import pytest

from falconry.data_files import parse_toml
from falconry.documents import (
    DocumentError,
    is_integer,
    parse_json,
    read_document,
    read_document_text,
)


def refusal(read, *arguments):
    with pytest.raises(DocumentError) as raised:
        read(*arguments)
    text = str(raised.value)
    assert text and "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "names the key 'a' twice"),
        ("[NaN]", "holds NaN, which is not valid JSON"),
        ("[-Infinity]", "holds -Infinity, which is not valid JSON"),
        ("[1e999]", "holds the number 1e999, which is too large"),
        ("9" * 5_000, "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        (r'["\ud800"]', "holds half a character"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 (byte 0)"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_that_others_read_differently_or_not_at_all_is_refused(text, problem):
    assert problem in refusal(parse_json, text)


def test_json_in_any_alphabet_is_read_as_python_reads_it():
    value = {"ä": ["\U0001f985", None, True, 1.5, -(2**70), {"b": {}}], "": ""}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, True), (2**63 - 1, True), (-(2**63), True), (2**63, False), (True, False), ("1", False)],
)
def test_an_integer_has_64_bits_and_is_no_truth_value(value, expected):
    assert is_integer(value) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = inf", "holds inf"),
        ("a = [{b = nan}]", "holds nan"),
        ("a = 9223372036854775808", "more than 64 bits"),
        (f"a = {'9' * 5_000}", "is not valid TOML"),
        (f"a = {'[' * 5_000}", "is nested too deeply"),
        (f"a = {'[' * 101}{']' * 101}", "nested more than 100"),
        (f"{'a.' * 20_000}a = 1", "more than 100 dots"),
        ("a = 1\na = 2", "is not valid TOML"),
    ],
    ids=lambda value: value[:20],
)
def test_toml_that_cannot_be_computed_with_is_refused(text, problem):
    assert problem in refusal(parse_toml, text)


def test_a_document_is_no_longer_than_its_limit(tmp_path):
    path = tmp_path / "document"
    path.write_bytes(b"12345")
    assert read_document(path, 5) == b"12345"
    assert refusal(read_document, path, 4) == "has 5 bytes; at most 4 are read of such a file"


def test_a_sparse_file_of_a_terabyte_is_refused_by_its_size(tmp_path):
    path = tmp_path / "document"
    path.touch()
    os.truncate(path, 1 << 40)
    assert "1,099,511,627,776 bytes" in refusal(read_document, path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert refusal(read_document, fifo) == "is not a regular file"
    assert "cannot be read" in refusal(read_document, tmp_path)
    assert "cannot be read (No such file" in refusal(read_document, tmp_path / "absent")
    assert "cannot be read" in refusal(read_document, tmp_path / "a\0b")
    assert "cannot be read" in refusal(read_document, tmp_path / ("x" * 5_000))


def test_a_text_is_utf_8(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("ä".encode("latin-1"))
    assert refusal(read_document_text, path) == "is not UTF-8 (byte 0)"
