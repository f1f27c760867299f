"""Guided decoding: what the text of an answer must be.

The inputs and the first four kinds are NVIDIA's (TensorRT-LLM 1.0.0, `guided_decoding_guide_type`
and `guided_decoding_guide`); `tool_calls` is ours.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .json_grammar import Grammar, json_schema_grammar, literal, strings_of
from .refusal import RefusedError

# How a model calls tools: the tags are those of Falcon3's chat template, and of many others.
CALLS_BEGIN, CALLS_END = "<tool_call>", "</tool_call>"
_TYPE, _GUIDE = "guided_decoding_guide_type", "guided_decoding_guide"
_AS_THEY_ARE = frozenset({"regex", "ebnf_grammar"})
_GRAMMARS: dict[str, Callable[[str, int], str]] = {
    "json": lambda _, max_tokens: json_schema_grammar(True, max_tokens),
    "json_schema": lambda guide, max_tokens: json_schema_grammar(_parsed(guide), max_tokens),
    "tool_calls": lambda guide, max_tokens: _calls_grammar(_parsed(guide), max_tokens),
}
_MAX_BYTES = 64 << 10
_MOST_CALLS = 8


@dataclass(frozen=True, slots=True)
class Guide:
    """What the text of an answer must be.

    Attributes:
        kind: `json`, `json_schema`, `tool_calls`, `regex` or `ebnf_grammar`.
        guide: the schema, the tools or the grammar.
        grammar: in xgrammar's EBNF, made from the first three kinds; None for the others.
    """

    kind: str
    guide: str
    grammar: str | None

    @classmethod
    def from_tensors(
        cls, tensor: Callable[[str], np.ndarray | None], max_tokens: int
    ) -> "Guide | None":
        """Reads the two inputs; None where they ask for nothing.

        Args:
            tensor: an input's values by name, None when it was not sent.
            max_tokens: within how many tokens the text is to have an end.

        Raises:
            RefusedError: the guide is not one, or cannot be followed.
        """
        kind, guide = _text(tensor, _TYPE), _text(tensor, _GUIDE)
        if not kind:
            return None
        if kind in _AS_THEY_ARE:
            return cls(kind, guide, None)
        if kind not in _GRAMMARS:
            raise RefusedError(
                f"{_TYPE} is {json.dumps(kind[:64])}; it can be "
                f"{', '.join([*_GRAMMARS, *sorted(_AS_THEY_ARE)])}"
            )
        return cls(kind, guide, _GRAMMARS[kind](guide, max_tokens))

    def inputs(self, *, grammars: bool) -> dict[str, str]:
        """The inputs of the engine's model; as a grammar where it takes no schemas of ours."""
        if grammars and self.grammar is not None:
            return {_TYPE: "ebnf_grammar", _GUIDE: self.grammar}
        return {_TYPE: self.kind, _GUIDE: self.guide}


def _calls_grammar(calls: Any, max_tokens: int) -> str:
    """The grammar of calls of tools: `{"tools": [{"name", "parameters", "path"}], "parallel"}`."""
    if not isinstance(calls, Mapping) or not isinstance(calls.get("tools"), list):
        raise RefusedError(f"{_GUIDE} must be an object with a list of tools")
    grammar = Grammar(max_tokens, strings_of(calls))
    forms = []
    for index, tool in enumerate(calls["tools"]):
        where = str(tool.get("path", f"tools[{index}].parameters"))
        arguments = grammar.schema(tool.get("parameters", {"type": "object"}), where)
        name = json.dumps(str(tool.get("name")), ensure_ascii=False)
        forms.append(f'{literal(f"""{{"name": {name}, "arguments": """)} {arguments} "}}"')
    call = f"({' | '.join(forms)})"
    more = f' (", " {call}){{0,{_MOST_CALLS - 1}}}' if calls.get("parallel") else ""
    begin, end = literal(f"{CALLS_BEGIN}\n["), literal(f"]\n{CALLS_END}")
    return grammar.text(f"{begin} {call}{more} {end}")


def _parsed(guide: str) -> Any:
    try:
        return json.loads(guide)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{_GUIDE} is not JSON: {error}") from None


def _text(tensor: Callable[[str], np.ndarray | None], name: str) -> str:
    values = tensor(name)
    if values is None or values.size == 0:
        return ""
    if values.size != 1:
        raise RefusedError(f"{name} holds {values.size} values: give one")
    data = bytes(values.reshape(-1)[0])
    if len(data) > _MAX_BYTES:
        raise RefusedError(f"{name} has {len(data)} bytes; at most {_MAX_BYTES} are possible")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(f"{name} is not valid UTF-8 (byte {error.start})") from None
