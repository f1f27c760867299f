"""Structured answers: `response_format` as guided decoding of the front model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import invalid, shown

from .fields import Fields, unsupported, wrong_type

_ANY_OBJECT = {"type": "object"}
_TYPES = "text, json_object and json_schema"


@dataclass(frozen=True, slots=True)
class Guide:
    """What the text of an answer must be.

    Attributes:
        kind: NVIDIA's `guided_decoding_guide_type`, or ours; empty for any text.
        guide: the schema or the tools.
        path: the field that it came from, for errors.
    """

    kind: str = ""
    guide: Any = field(default_factory=dict)
    path: str = "response_format"

    def inputs(self) -> dict[str, str]:
        """The front model's inputs."""
        if not self.kind:
            return {}
        return {
            "guided_decoding_guide_type": self.kind,
            "guided_decoding_guide": json.dumps(self.guide, ensure_ascii=False),
        }


NO_GUIDE = Guide()


def parse_guide(fields: Fields) -> Guide:
    """Reads `response_format`, or vLLM's fields for the same.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    given = [
        guide
        for guide in (
            _response_format(fields.object("response_format")),
            _structured_outputs(fields.object("structured_outputs")),
            _guided_json(fields.get("guided_json")),
        )
        if guide.kind
    ]
    if len(given) > 1:
        raise invalid(f"Invalid {given[1].path!r}: {given[0].path!r} is given too.", given[1].path)
    return given[0] if given else NO_GUIDE


def _response_format(given: Mapping[str, Any]) -> Guide:
    if not given:
        return NO_GUIDE
    known = frozenset({"type", "json_schema", "schema"})
    fields = Fields(given, known, {}, "response_format.")
    kind = fields.text("type")
    if kind == "text":
        return NO_GUIDE
    if kind == "json_object":
        return Guide("json_schema", fields.get("schema") or _ANY_OBJECT, "response_format.schema")
    if kind == "json":  # TensorRT-LLM's
        return _of_schema(fields.required("schema"), "response_format.schema")
    if kind == "json_schema":
        fields.required("json_schema")
        form = fields.object("json_schema")
        path = "response_format.json_schema."
        named = Fields(form, frozenset({"name", "description", "schema", "strict"}), {}, path)
        return _of_schema(named.required("schema"), f"{path}schema")
    raise unsupported("response_format.type", f"{shown(kind)} is not supported: send {_TYPES}.")


def _structured_outputs(given: Mapping[str, Any]) -> Guide:
    """Reads vLLM's `structured_outputs`."""
    neutral = dict.fromkeys(("regex", "choice", "grammar", "structural_tag"), ())
    fields = Fields(given, frozenset({"json", "json_object"}), neutral, "structured_outputs.")
    if fields.boolean("json_object"):
        return Guide("json_schema", _ANY_OBJECT, "structured_outputs.json_object")
    schema = fields.get("json")
    return NO_GUIDE if schema is None else _of_schema(schema, "structured_outputs.json")


def _guided_json(schema: Any) -> Guide:
    """Reads vLLM's `guided_json`."""
    return NO_GUIDE if schema is None else _of_schema(schema, "guided_json")


def _of_schema(schema: Any, path: str) -> Guide:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise invalid(f"Invalid {path!r}: it is not JSON.", path) from None
    if not isinstance(schema, dict):
        raise wrong_type(path, "an object", schema)
    return Guide("json_schema", schema, path)
