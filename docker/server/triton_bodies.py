"""Checks a JSON body's types; independent of the HTTP server.

Triton answers 500 for a JSON value of the wrong type, as if the server had failed, and wraps an
integer that is too large for its tensor in silence (2.51; triton-inference-server/server#8762 for
the status). Clients retry a 500, so an invalid request must not look like a failing server.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_INTEGERS = {
    f"{sign}INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_TEXTS = frozenset({"STRING", "BYTES"})


class InvalidBodyError(ValueError):
    """A body that the model cannot take; says which field and why."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An input of a model; its type without the configuration's `TYPE_`."""

    name: str
    datatype: str


def parse_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object.

    Raises:
        InvalidBodyError: it is not UTF-8, not JSON, or not an object.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidBodyError(f"the body is not valid UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidBodyError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidBodyError("the body is not a JSON object")
    return value


def generate_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `generate` body, with those that Triton also takes from `parameters`.

    Raises:
        InvalidBodyError: `parameters` is no object, or repeats a field.
    """
    fields = dict(body)
    nested = fields.pop("parameters", {})
    if not isinstance(nested, dict):
        raise InvalidBodyError(f"parameters must be an object, not {_kind(nested)}")
    if twice := sorted(fields.keys() & nested.keys()):
        raise InvalidBodyError(f"{twice[0]} is given twice, also in parameters")
    return fields | nested


def check_generate(body: Mapping[str, Any], inputs: Iterable[ModelInput]) -> None:
    """Checks the fields of a `generate` body that are inputs of the model.

    Raises:
        InvalidBodyError: a field has another type than its input.
    """
    for each in inputs:
        if each.name in body:
            _check(each.name, body[each.name], each.datatype)


def check_infer(body: Mapping[str, Any]) -> None:
    """Checks that the data of an `infer` body have their `datatype`.

    Raises:
        InvalidBodyError: an input's data have another type than its `datatype`.
    """
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise InvalidBodyError("inputs must be a list of objects")
    for each in inputs:
        if isinstance(each.get("datatype"), str) and "data" in each:
            _check(str(each.get("name")), each["data"], each["datatype"])


def _check(name: str, value: Any, datatype: str) -> None:
    values = value if isinstance(value, list) else [value]
    for element in values:
        if isinstance(element, list):
            _check(name, element, datatype)
        elif problem := _problem(element, datatype):
            raise InvalidBodyError(f"{name} {problem}")


def _problem(value: Any, datatype: str) -> str | None:
    if datatype in _INTEGERS:
        return _integer_problem(value, *_INTEGERS[datatype])
    for kinds, fits, wanted in _KINDS:
        if datatype in kinds and not fits(value):
            return f"must be {wanted}, not {_kind(value)}"
    return None


def _integer_problem(value: Any, low: int, high: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number, not {_kind(value)}"
    if not low <= value <= high:
        return f"is {value}; it must be from {low} to {high}"
    return None


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


_KINDS: tuple[tuple[frozenset[str], Callable[[Any], bool], str], ...] = (
    (_FLOATS, _is_number, "a number"),
    (_TEXTS, lambda value: isinstance(value, str), "text"),
    (frozenset({"BOOL"}), lambda value: isinstance(value, bool), "true or false"),
)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    return {str: "text", dict: "an object"}.get(type(value), type(value).__name__)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
