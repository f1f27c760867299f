"""Damages documents: JSON by its structure, texts by their tokens, files by their bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# What json.dumps cannot write, by the text that it writes instead.
_RAW = {
    '"@deep"': "[" * 100_000 + "]" * 100_000,
    '"@deep object"': '{"a":' * 5_000 + "1" + "}" * 5_000,
    '"@many digits"': "9" * 5_000,
    '"@digits"': "9" * 4_000,
    '"@huge"': "1e999",
    '"@twice"': '{"a": 1, "a": 2}',
    '"@half"': '"\\ud800"',
}
_EXTREMES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 2**31, 2**60, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40, True, False, None),
    *(0.0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", "x", "1", "true", "\x1b[2Jgone\x07", "a\nb", "\x00", "../../etc/passwd", "ä" * 300),
    *("\u202eevil", "falcon", "default", "float32", "{{ 1 }}", [], {}, [[]], [None], {"": None}),
    *(["x"] * 3, {"content": "x"}, {"content": 1}, {"type": "linear", "factor": 2.0}),
    *(mark.strip('"') for mark in _RAW),
)
JSON_VALUES = st.one_of(
    st.sampled_from(_EXTREMES).map(copy.deepcopy),  # what is drawn may be changed later
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
)
_TOKENS = re.compile(rb"[A-Za-z0-9_.-]+|\"[^\"\n]*\"|\S")
# For a token of TOML or of protobuf's text format.
_BAD_TOKENS = (
    *(b"0", b"-1", b"1e999", b"nan", b"inf", b"-inf", b"true", b"x", b'""', b"''", b"{}", b"[]"),
    *(b"=", b"[", b"]", b"[[", b"{", b"}", b"<", b">", b":", b";", b"#", b".", b",", b"\n", b""),
    *(b"9223372036854775808", b"9" * 5_000, b"0x" + b"f" * 5_000, b"1979-05-27T07:32:00Z"),
    *(b'"\\u0000"', b'"\x1b[2J"', b'"\\ud800"', b'"\xff"', b'"""', b'"${x}"', b"\xff\xfe", b"\x00"),
    *(
        b"[" * 3_000,
        b"{a=" * 3_000,
        b"a." * 20_000 + b"a",
        b"x { " * 3_000,
        b"18446744073709551616",
    ),
)


@st.composite
def damaged_json(draw: st.DrawFn, *bases: Any) -> bytes:
    """One of some JSON values with a few changes, in text; sometimes damaged as text too."""
    value = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 3))):
        value = _with_change(draw, value)
    text = json.dumps(value)
    for mark, raw in _RAW.items():
        text = text.replace(mark, raw)
    content = text.encode()
    return draw(damaged_bytes(content)) if draw(st.integers(0, 9)) == 0 else content


@st.composite
def damaged_bytes(draw: st.DrawFn, *bases: bytes) -> bytes:
    """Some bytes, cut off, with a part changed, doubled or left out."""
    content = draw(st.sampled_from(bases))
    for _ in range(draw(st.integers(1, 3))):
        begin, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
        change = draw(st.sampled_from(("cut", "replace", "double", "drop", "byte")))
        if change == "cut":
            content = content[:end]
        elif change == "replace":
            content = content[:begin] + draw(st.binary(max_size=8)) + content[end:]
        elif change == "double":
            content = content[:end] + content[begin : min(end, begin + 4_096)] + content[end:]
        elif change == "drop":
            content = content[:begin] + content[begin + draw(st.integers(0, 8)) :]
        else:
            content = (
                content[:begin] + draw(st.binary(min_size=1, max_size=1)) + content[begin + 1 :]
            )
    return content


@st.composite
def damaged_text(draw: st.DrawFn, bases: Sequence[bytes]) -> bytes:
    """One of some texts in which a few tokens or lines are changed, doubled or left out."""
    content = draw(st.sampled_from(bases))
    for _ in range(draw(st.integers(1, 3))):
        spans = [found.span() for found in _TOKENS.finditer(content)]
        if not spans:
            break
        begin, end = spans[draw(st.integers(0, len(spans) - 1))]
        change = draw(st.sampled_from(("token", "token", "token", "line", "double", "value")))
        if change == "line":
            end = content.find(b"\n", end) + 1 or len(content)
            content = content[:begin] + content[end:]
        elif change == "double":
            end = content.find(b"\n", end) + 1 or len(content)
            content = content[:end] + content[begin:end] + content[end:]
        elif change == "value":
            word = draw(st.text(max_size=10)).encode(errors="surrogatepass")
            content = content[:begin] + word + content[end:]
        else:
            content = content[:begin] + draw(st.sampled_from(_BAD_TOKENS)) + content[end:]
    return draw(damaged_bytes(content)) if draw(st.integers(0, 9)) == 0 else content


def _with_change(draw: st.DrawFn, value: Any) -> Any:
    """The value with one of its parts replaced, added, renamed or removed."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 19)) == 0:
        return draw(JSON_VALUES)
    key: Any
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
    else:
        key = draw(st.integers(0, len(value) - 1))
    deeper = isinstance(value[key], dict | list) and draw(st.booleans())
    change = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename")))
    if deeper:
        value[key] = _with_change(draw, value[key])
    elif change == "replace":
        value[key] = draw(JSON_VALUES)
    elif change == "remove":
        del value[key]
    elif isinstance(value, dict):
        value[draw(st.text(max_size=10))] = value.pop(key)
    else:
        value.append(copy.deepcopy(value[key]))
    return value
