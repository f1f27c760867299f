"""Schemas as grammars: what they allow, by a matcher of their own, and what is refused by name.

That the engine follows them: tests/docker/test_openai_serving.py.
"""

import json
import random
import re

import pytest

from tests.model_repository.conftest import load


@pytest.fixture(scope="module")
def grammar():
    return load("tensorrt_llm_bls", "json_grammar").json_schema_grammar


@pytest.fixture(scope="module")
def number_forms():
    return load("tensorrt_llm_bls", "json_ranges").number_forms


@pytest.fixture(scope="module")
def refused():
    return load("tensorrt_llm_bls", "refusal").RefusedError


TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{\d+(?:,\d*)?\}|[a-z_]\w*|[()|*+?]|\s+'
)


class Writer:
    """Writes random texts of a grammar: each choice and count at random."""

    def __init__(self, text, seed):
        self.random = random.Random(seed)
        self.rules = dict(line.split(" ::= ", 1) for line in text.strip().splitlines())

    def write(self, rule="root", depth=0):
        tokens = [each for each in TOKEN.findall(self.rules[rule]) if each.strip()]
        assert "".join(tokens).replace(" ", "") == re.sub(
            r'("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\])|\s',
            lambda found: (found[1] or "").replace(" ", ""),
            self.rules[rule],
        )
        return self._choice(tokens, depth + 1)

    def _choice(self, tokens, depth):
        branches, level, begin = [], 0, 0
        for place, token in enumerate(tokens):
            level += {"(": 1, ")": -1}.get(token, 0)
            if token == "|" and not level:
                branches.append(tokens[begin:place])
                begin = place + 1
        branches.append(tokens[begin:])
        return self._sequence(self.random.choice(branches), depth)

    def _sequence(self, tokens, depth):
        written, place = "", 0
        while place < len(tokens):
            end = place + 1
            if tokens[place] == "(":
                level = 1
                while level:
                    level += {"(": 1, ")": -1}.get(tokens[end], 0)
                    end += 1
            item, place = tokens[place:end], end
            low = high = 1
            if place < len(tokens) and tokens[place] in "*+?":
                low, high = {"*": (0, 2), "+": (1, 2), "?": (0, 1)}[tokens[place]]
                place += 1
            elif place < len(tokens) and tokens[place].startswith("{"):
                bounds = tokens[place][1:-1].split(",")
                low = int(bounds[0])
                high = int(bounds[-1]) if bounds[-1] else low + 2
                place += 1
            if depth > 12:
                high = low
            for _ in range(self.random.choice([low, high, self.random.randint(low, high)])):
                written += self._item(item, depth)
        return written

    def _item(self, item, depth):
        if item[0] == "(":
            return self._choice(item[1:-1], depth)
        if item[0].startswith('"'):
            return json.loads(item[0])
        if item[0].startswith("["):
            return self._of_class(item[0])
        return self.write(item[0], depth)

    def _of_class(self, name):
        pattern = re.compile(name)
        allowed = [
            chr(code) for code in (*range(32, 127), 0xE9, 0x65E5) if pattern.match(chr(code))
        ]
        return self.random.choice(allowed)


SCHEMAS = {
    "flat": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {
            "a": {"type": "boolean"},
            "b": {"type": "null"},
            "c": {"enum": ["x", 'q"\n', 5, None, {"y": [1]}]},
        },
        "required": ["b"],
        "additionalProperties": False,
    },
    "nested": {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                    "of/it": {"const": 'é"'},
                },
                "required": ["of/it"],
            }
        },
        "type": "object",
        "title": "Nested",
        "properties": {"nodes": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    },
    "numbers": {
        "type": "array",
        "prefixItems": [
            {"type": "integer", "minimum": -5, "maximum": 12},
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
            {"type": "integer", "exclusiveMinimum": -1},
            # zod's integers
            {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
        ],
        "items": False,
        "minItems": 5,
    },
    "texts": {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string", "minLength": 2, "maxLength": 3},
                {"type": "string", "minLength": 130, "maxLength": 300},
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "uuid"},
                {"type": "string", "format": "ipv4"},
            ]
        },
        "minItems": 1,
        "maxItems": 3,
    },
    "map": {"type": "object", "additionalProperties": {"type": ["integer", "boolean"]}},
    "any": True,
    "any object": {"type": "object"},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_a_grammar_allows_is_of_its_schema(grammar, name):
    """Held against the jsonschema library, by random texts of the grammar."""
    schema = SCHEMAS[name]
    text = grammar(schema, 200)
    import jsonschema  # for two seconds, which each process would pay that collects this test

    checker = jsonschema.FormatChecker(["date-time", "uuid", "ipv4"])
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
    for seed in range(40):
        written = Writer(text, seed).write()
        validator.validate(json.loads(written))


def test_the_numbers_from_one_to_another_are_all_of_them_and_no_others(number_forms):
    def pattern(low, high):
        forms = number_forms(low, high, integer=True)
        quoted = re.sub(r'"([^"]*)"', lambda found: re.escape(found[1]), forms)
        return re.compile(quoted.replace(" ", ""))

    for low, high in [(0, 0), (0, 9), (1, 10), (7, 1234), (-12, 5), (-300, -7), (99, 101), (5, 50)]:
        matched = pattern(low, high)
        for number in range(low - 120, high + 120):
            assert bool(matched.fullmatch(str(number))) == (low <= number <= high), number


REFUSED = [
    ({"type": "string", "pattern": "a"}, ".pattern is not supported"),
    ({"type": "object", "properties": {"a": {"type": "text"}}}, ".properties.a.type"),
    ({"type": "object", "required": ["b"]}, ".required names"),
    ({"$ref": "#/$defs/x"}, "which is not there"),
    ({"$ref": "http://x/y"}, "a part of the schema itself"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "itself a $ref"),
    ({"enum": []}, ".enum must be"),
    ({"anyOf": []}, ".anyOf must be"),
    ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
    ({"type": "string", "format": "iri"}, ".format can be date"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no number"),
    ({"type": "number", "minimum": 0.5}, ".minimum can only be a whole number"),
    ({"type": "integer", "minimum": 10**16}, ".minimum can only be a whole number up to"),
    ({"type": "number", "multipleOf": 2}, ".multipleOf is not supported"),
    ({"not": {}}, ".not is not supported"),
    ([], "it must be an object"),
    ({"const": "\ud800"}, "half of a character"),
    ({"type": "object", "properties": {f"p{each}": {} for each in range(1200)}}, "too large"),
]


@pytest.mark.parametrize(("schema", "said"), REFUSED, ids=lambda each: str(each)[:24])
def test_what_no_grammar_says_is_refused_by_its_place(grammar, refused, schema, said):
    with pytest.raises(refused) as error:
        grammar(schema, 100)
    assert str(error.value).startswith("guided_decoding_guide")
    assert said in str(error.value)


def test_a_schema_that_is_nested_without_end_is_refused(grammar, refused):
    schema = {"type": "string"}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(refused, match="nested too deeply"):
        grammar(schema, 100)


def test_strings_without_a_length_get_one_by_which_the_answer_can_end(grammar):
    for max_tokens, longest in ((100, 128), (1000, 1024), (10_000, 8000)):
        text = grammar({"type": "string"}, max_tokens)
        counts = re.search(r"string ::= .*block\{0,(\d+)\} character\{0,(\d+)\}", text)
        if counts:
            assert int(counts[1]) * 64 + int(counts[2]) == longest
        else:
            assert f"character{{0,{longest}}}" in text
