"""JSON schemas as grammars in xgrammar's EBNF.

OpenVINO GenAI takes schemas too, but a schema that it cannot use makes a step fail, and with it all
requests under way (2026.4.1); and it allows any whitespace between values, of which a small model
writes lines without end. So the grammar is made here: of what is known, each other keyword refused
by its name. Between values there is what Python's json.dumps puts there. The properties of an
object come in the schema's order.

A string without `maxLength` has one all the same, so that the answer can come to its end within its
`max_tokens`: a text that is cut off is no JSON. That is two characters for each token, shared by
the schema's strings; common text has four.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .json_ranges import LARGEST, number_forms
from .refusal import RefusedError

MAX_RULES = 1000
_MAX_DEPTH = 32
_MAX_LENGTH = 8000
_MAX_ITEMS = 128
_CHARACTERS_A_TOKEN = 2
_LEAST_CHARACTERS = 64
# xgrammar counts to 128 at once; beyond, every token takes it tens of milliseconds (measured). So
# longer texts are counted in blocks.
_BLOCK = 64
# Say nothing about what a value must be.
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "example", "deprecated", "readOnly"}
    | {"writeOnly", "$schema", "$id", "$comment", "$defs", "definitions", "discriminator"}
)
_OF_TYPE = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_TIME = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,9})?'
_ZONE = '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'
_HEX = "[0-9a-fA-F]"
_FORMATS = {
    "date": _DATE,
    "time": f"{_TIME} {_ZONE}",
    "date-time": f'{_DATE} "T" {_TIME} {_ZONE}',
    "uuid": f'{_HEX}{{8}} ("-" {_HEX}{{4}}){{3}} "-" {_HEX}{{12}}',
    "ipv4": f'{_BYTE} ("." {_BYTE}){{3}}',
    "email": '[a-zA-Z0-9_+-]+ ("." [a-zA-Z0-9_+-]+)* "@" [a-zA-Z0-9-]+ ("." [a-zA-Z0-9-]+)+',
    "uri": '[a-z] [a-z0-9+.-]* "://" [!#-&(-;=?-Z_a-z~]+',
}
_COMMON = r"""value ::= string | number | object | array | "true" | "false" | "null"
object ::= "{" (pair (", " pair)*)? "}"
pair ::= string ": " value
array ::= "[" (value (", " value)*)? "]"
character ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
"""


def json_schema_grammar(schema: Any, max_tokens: int, name: str = "guided_decoding_guide") -> str:
    """The grammar of the JSON texts that a schema allows.

    Args:
        schema: a JSON schema, of which `title` and the like have no effect.
        max_tokens: within how many tokens the text is to have an end.
        name: what a refusal calls the schema.

    Raises:
        RefusedError: the schema says something that no grammar here can say, or contradicts
            itself; the message names where.
    """
    grammar = Grammar(max_tokens, strings_of(schema))
    return grammar.text(grammar.schema(schema, name))


class Grammar:
    """Rules of a grammar, made from schemas.

    Args:
        max_tokens: within how many tokens the text is to have an end.
        strings: how many strings share them.
    """

    def __init__(self, max_tokens: int, strings: int) -> None:
        characters = _CHARACTERS_A_TOKEN * max_tokens // max(strings, 1)
        # A power of two, so that not each length of an answer makes another grammar to compile.
        self._characters = min(
            max(_LEAST_CHARACTERS, 1 << max(characters.bit_length() - 1, 0)), _MAX_LENGTH
        )
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._root: Any = None

    def schema(self, schema: Any, name: str) -> str:
        """The name of a rule for the JSON texts that a whole schema allows; raises as above."""
        self._root = (schema, name)
        self._references = {}
        return self._rule(self._value(schema, name, 0))

    def text(self, root: str) -> str:
        """The grammar whose texts are those of an expression."""
        rules = "".join(f"{name} ::= {body}\n" for name, body in self._rules.items())
        return (
            f"root ::= {root}\n{rules}{_COMMON}"
            f"block ::= character{{{_BLOCK}}}\n"
            f"string ::= {_text(0, self._characters)}\n"
            f"number ::= {number_forms(None, None)}\n"
        )

    def _rule(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        self._add(name, body)
        return name

    def _add(self, name: str, body: str) -> None:
        if len(self._rules) >= MAX_RULES:
            raise RefusedError(f"{self._root[1]} is too large: at most {MAX_RULES} rules")
        self._rules[name] = body

    def _value(self, schema: Any, where: str, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise RefusedError(f"{where} is nested too deeply: at most {_MAX_DEPTH} levels")
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise RefusedError(f"{where} is not a JSON schema: it must be an object")
        for keyword, make in (
            ("$ref", self._reference),
            ("const", self._constant),
            ("enum", self._enumeration),
            ("anyOf", self._choice),
            ("oneOf", self._choice),
            ("allOf", self._only),
        ):
            if keyword in schema:
                _check(schema, where, {keyword, "type"})
                return make(schema[keyword], f"{where}.{keyword}", depth)
        return self._of_types(schema, where, depth)

    def _of_types(self, schema: Mapping[str, Any], where: str, depth: int) -> str:
        given = schema.get("type", _implied(schema))
        if given is None:
            _check(schema, where, set())
            return "value"
        kinds = given if isinstance(given, list) else [given]
        if not kinds:
            raise RefusedError(f"{where}.type is empty")
        known: set[str] = {"type"}
        for kind in kinds:
            if not isinstance(kind, str) or kind not in _OF_TYPE:
                raise RefusedError(f"{where}.type {json.dumps(kind)[:64]} is not a JSON type")
            known |= _OF_TYPE[kind]
        _check(schema, where, known)
        make = {
            "object": self._object,
            "array": self._array,
            "string": _string,
            "integer": _integer,
            "number": _number,
            "boolean": lambda *_: '"true" | "false"',
            "null": lambda *_: '"null"',
        }
        return " | ".join(f"({make[kind](schema, where, depth)})" for kind in kinds)

    def _reference(self, path: Any, where: str, depth: int) -> str:
        if not isinstance(path, str) or not (path == "#" or path.startswith("#/")):
            raise RefusedError(f"{where} can only name a part of the schema itself: #/...")
        if path not in self._references:
            schema, name = self._root
            for part in path.split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(schema, dict) or key not in schema:
                    raise RefusedError(f"{where} names {path[:64]}, which is not there")
                schema, name = schema[key], f"{name}.{key}"
            if isinstance(schema, dict) and "$ref" in schema:
                raise RefusedError(f"{where} names a part that is itself a $ref")
            # A schema may refer to itself, so it has its rule's name before it has the rule.
            rule = self._references[path] = f"ref{len(self._references)}"
            self._add(rule, self._value(schema, name, depth + 1))
        return self._references[path]

    def _constant(self, value: Any, where: str, depth: int) -> str:
        return literal(_dumped(value, where))

    def _enumeration(self, values: Any, where: str, depth: int) -> str:
        if not isinstance(values, list) or not 0 < len(values) <= MAX_RULES:
            raise RefusedError(f"{where} must be a list of 1 to {MAX_RULES} values")
        return " | ".join(literal(_dumped(value, where)) for value in values)

    def _choice(self, schemas: Any, where: str, depth: int) -> str:
        if not isinstance(schemas, list) or not schemas:
            raise RefusedError(f"{where} must be a list of schemas")
        return " | ".join(
            self._rule(self._value(each, f"{where}[{index}]", depth + 1))
            for index, each in enumerate(schemas)
        )

    def _only(self, schemas: Any, where: str, depth: int) -> str:
        if not isinstance(schemas, list) or len(schemas) != 1:
            raise RefusedError(f"{where} can only have one schema")
        return self._value(schemas[0], f"{where}[0]", depth + 1)

    def _object(self, schema: Mapping[str, Any], where: str, depth: int) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise RefusedError(f"{where}: properties must be an object, and required a list")
        missing = [name for name in required if name not in properties]
        if missing:
            shown = json.dumps(missing[0])[:64]
            raise RefusedError(f"{where}.required names {shown}, which properties does not have")
        pairs = [
            (
                f"{literal(_dumped(name, where) + ': ')} "
                f"{self._rule(self._value(each, f'{where}.properties.{name}', depth + 1))}",
                name in required,
            )
            for name, each in properties.items()
        ]
        more = schema.get("additionalProperties", not properties)
        further = ""
        if more is not False:
            value = self._rule(self._value(more, f"{where}.additionalProperties", depth + 1))
            further = f'string ": " {value}'
        return f'"{{" {self._members(pairs, further)} "}}"'

    def _members(self, pairs: Sequence[tuple[str, bool]], further: str) -> str:
        """An object's members: in their order, those that are not required perhaps left out."""
        # From the last to the first: what may follow where a member came before, and where none.
        after = self._rule(f'(", " {further})*' if further else '""')
        first = self._rule(f'({further} (", " {further})*)?' if further else '""')
        for pair, required in reversed(pairs):
            begins, follows = f"{pair} {after}", f'", " {pair} {after}'
            first, after = (
                self._rule(begins if required else f"{begins} | {first}"),
                self._rule(follows if required else f"{follows} | {after}"),
            )
        return first

    def _array(self, schema: Mapping[str, Any], where: str, depth: int) -> str:
        least, most = _bounds(schema, where, "minItems", "maxItems", _MAX_ITEMS)
        fixed = schema.get("prefixItems", [])
        if not isinstance(fixed, list):
            raise RefusedError(f"{where}.prefixItems must be a list of schemas")
        items = [
            self._rule(self._value(each, f"{where}.prefixItems[{index}]", depth + 1))
            for index, each in enumerate(fixed)
        ]
        if items:
            if schema.get("items", False) is not False or most is not None:
                raise RefusedError(f"{where}: prefixItems is possible with `items: false` only")
            return literal("[") + ' ", " '.join(f" {item} " for item in items) + literal("]")
        if most == 0:
            return literal("[]")
        item = self._rule(self._value(schema.get("items", True), f"{where}.items", depth + 1))
        upper = "" if most is None else most - 1
        listed = f'{item} (", " {item}){{{max(least - 1, 0)},{upper}}}'
        return f'"[" {listed} "]"' if least else f'"[" ({listed})? "]"'


def literal(text: str) -> str:
    """A text as the grammar writes it."""
    return json.dumps(text, ensure_ascii=False)


def _dumped(value: Any, where: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RefusedError(f"{where} holds half of a character (a lone surrogate)") from None
    return text


def _check(schema: Mapping[str, Any], where: str, known: set[str]) -> None:
    """Refuses what a schema says beside the keywords that are known."""
    for keyword in schema:
        if keyword not in known and keyword not in _ANNOTATIONS:
            raise RefusedError(f"{where}.{str(keyword)[:64]} is not supported; leave it out")


def _implied(schema: Mapping[str, Any]) -> str | None:
    """The type that keywords speak of where none is given."""
    kinds: Iterator[str] = (
        kind for kind in ("object", "array", "string", "number") if _OF_TYPE[kind] & schema.keys()
    )
    return next(kinds, None)


def _bounds(
    schema: Mapping[str, Any], where: str, low: str, high: str, limit: int
) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise RefusedError(f"{where}.{name} must be an integer")
    if not 0 <= least <= limit or (most is not None and least > most):
        raise RefusedError(f"{where}: {low} must be from 0 to {high}, and at most {limit}")
    if most is not None and most > limit:
        raise RefusedError(f"{where}.{high} can be at most {limit} here; leave it out")
    return least, most


def _string(schema: Mapping[str, Any], where: str, depth: int) -> str:
    least, most = _bounds(schema, where, "minLength", "maxLength", _MAX_LENGTH)
    form = schema.get("format")
    if form is not None:
        if form not in _FORMATS or least or most is not None:
            raise RefusedError(
                f"{where}.format can be {', '.join(_FORMATS)} here, without a length"
            )
        return f'"\\"" {_FORMATS[form]} "\\""'
    if not least and most is None:
        return "string"
    return _text(least, most)


def _text(least: int, most: int | None) -> str:
    """A string of a length within limits."""
    blocks, rest = divmod(least, _BLOCK)
    begin = f"block{{{blocks}}} character{{{rest}}} " if least else ""
    if most is None:
        return f'"\\"" {begin}character* "\\""'
    blocks, rest = divmod(most - least, _BLOCK)
    if blocks <= 1:
        end = f"character{{0,{most - least}}}"
    else:
        end = f"block{{0,{blocks - 1}}} character{{0,{_BLOCK + rest}}}"
    return f'"\\"" {begin}{end} "\\""'


def strings_of(schema: Any) -> int:
    """How many of a schema's parts may be strings of any length."""
    if isinstance(schema, list):
        return sum(map(strings_of, schema))
    if not isinstance(schema, dict):
        return 0
    is_one = schema.get("type") == "string" and "maxLength" not in schema
    return is_one + sum(map(strings_of, schema.values()))


def _integer(schema: Mapping[str, Any], where: str, depth: int) -> str:
    low, above, high, below = _limits(schema, where)
    lows = [each for each in (low, None if above is None else above + 1) if each is not None]
    highs = [each for each in (high, None if below is None else below - 1) if each is not None]
    return _forms(where, max(lows, default=None), min(highs, default=None), integer=True)


def _number(schema: Mapping[str, Any], where: str, depth: int) -> str:
    low, above, high, below = _limits(schema, where)
    open_low = above is not None and (low is None or above >= low)
    open_high = below is not None and (high is None or below <= high)
    return _forms(
        where,
        above if open_low else low,
        below if open_high else high,
        open_low=open_low,
        open_high=open_high,
    )


def _forms(where: str, low: int | None, high: int | None, **options: bool) -> str:
    forms = number_forms(low, high, **options)
    if not forms:
        raise RefusedError(f"{where}: no number is from its minimum to its maximum")
    return forms


def _limits(schema: Mapping[str, Any], where: str) -> list[int | None]:
    """The limits of a number: least, exclusive least, greatest, exclusive greatest."""
    limits: list[int | None] = []
    for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        value = schema.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise RefusedError(f"{where}.{name} can only be a whole number")
        if value is not None and abs(value) > LARGEST:
            # No number that is written here is beyond it, such as zod's limits of integers.
            if (value > 0) != (name in ("maximum", "exclusiveMaximum")):
                raise RefusedError(f"{where}.{name} can only be a whole number up to {LARGEST}")
            value = None
        limits.append(value)
    return limits
