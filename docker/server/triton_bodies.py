"""Parses and checks JSON bodies; independent of the HTTP server.

Triton answers 500 for a JSON value of the wrong type, as if the server had failed, and wraps an
integer that is too large for its tensor in silence (2.51; triton-inference-server/server#8762 for
the status). Clients retry a 500, so an invalid request must not look like a failing server.

What would make parsing itself expensive is counted before, in bytes: values and their nesting.
"""

import json
import math
import re
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
_LARGEST_FLOATS = {"FP16": 65504.0, "BF16": 3.3895e38, "FP32": 3.4028235e38}

_TOO_MANY = "the body has too many values"
# More than any request needs: a prompt as token ids has some thousand values.
MAX_VALUES = 100_000
MAX_DEPTH = 32
# Triton looks for each field among all of an object's: 50,000 took a minute (2.51).
MAX_FIELDS = 256
# 64 bits have 20 digits; with some more, an error can say which limits a number has.
_LONGEST_INTEGER = 40
_LONGEST_NUMBER = 400
_LONGEST_SHOWN = 64
# Strings, an unfinished one at the end too. No part of it can be matched in two ways.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class InvalidBodyError(ValueError):
    """A body that the model cannot take; says which field and why.

    Attributes:
        field: the body's field, where one of them is known to be wrong.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """An input or output of a model.

    Attributes:
        datatype: as the configuration has it, without its `TYPE_`.
        dims: without the batch's dimension; -1 for any length.
    """

    name: str
    datatype: str
    dims: tuple[int, ...] = ()

    @property
    def wire_type(self) -> str:
        """The datatype as requests and answers name it."""
        return "BYTES" if self.datatype == "STRING" else self.datatype


def json_part(body: bytes, length: str | None) -> bytes:
    """The JSON of an `infer` body.

    Args:
        body: all of it.
        length: the header that says how long the JSON is where raw tensors follow it.

    Raises:
        InvalidBodyError: the header is not a length within the body.
    """
    if length is None:
        return body
    if not (length.isascii() and length.isdigit() and len(length) <= len(str(len(body)))):
        raise InvalidBodyError("Inference-Header-Content-Length is not a length within the body")
    if int(length) > len(body):
        raise InvalidBodyError("Inference-Header-Content-Length is more than the body has")
    return body[: int(length)]


def parse_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object; any reader of JSON reads the same in it.

    Raises:
        InvalidBodyError: it is not UTF-8, not JSON, or not an object; it has too many values or
            too deep ones, a field twice, half of a character, or a number beyond all readers.
    """
    _check_structure(body)
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_number,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise InvalidBodyError(f"the body is not valid UTF-8 (byte {error.start})") from None
    except InvalidBodyError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidBodyError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidBodyError("the body is not a JSON object")
    if _SURROGATE.search(body):
        _check_characters(value)
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
    if "parameters" in nested:  # which Triton would take for a parameter of this name
        raise InvalidBodyError("parameters must not hold parameters")
    if twice := sorted(fields.keys() & nested.keys()):
        raise InvalidBodyError(f"{twice[0]} is given twice, also in parameters")
    return fields | nested


def check_generate(body: Mapping[str, Any], inputs: Iterable[ModelTensor]) -> None:
    """Checks the fields of a `generate` body that Triton or the model knows.

    Raises:
        InvalidBodyError: a field has another type than its input, or than Triton takes.
    """
    _check_fields("the body", body, _BODY_FIELDS)
    for fields in (body, body.get("parameters", {})):  # Triton finds inputs in both
        for each in inputs:
            if each.name in fields:
                _check_flat(each, fields[each.name])


def check_infer(body: Mapping[str, Any]) -> None:
    """Checks the types of an `infer` body, and that the data have their `datatype`.

    Raises:
        InvalidBodyError: a field has the wrong type, or an input's data another than its
            `datatype`.
    """
    _check_fields("the body", body, _BODY_FIELDS)
    _check_parameters(body)
    for each in _objects("inputs", body.get("inputs")):
        _check_fields("an input", each, _TENSOR_FIELDS)
        _check_parameters(each)
        for name in ("name", "shape", "datatype"):
            if name not in each:
                raise InvalidBodyError(f"an input has no {name}")
        _check_shape(each)
        if "data" in each:
            _check(str(each["name"])[:_LONGEST_SHOWN], each["data"], each["datatype"])
    for each in _objects("outputs", body.get("outputs", [])):
        _check_fields("an output", each, _TENSOR_FIELDS)
        _check_parameters(each)
        if "name" not in each:
            raise InvalidBodyError("an output has no name")


def _objects(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidBodyError(f"{name} must be a list of objects")
    return value


def _check_fields(
    owner: str, fields: Mapping[str, Any], kinds: Mapping[str, tuple[type, str]]
) -> None:
    for name, (kind, wanted) in kinds.items():
        if name in fields and not isinstance(fields[name], kind):
            raise InvalidBodyError(f"{name} of {owner} must be {wanted}, not {_kind(fields[name])}")


def _check_parameters(owner: Mapping[str, Any]) -> None:
    for name, value in owner.get("parameters", {}).items():
        datatype = _PARAMETERS.get(name)
        if datatype:
            problem = _problem(value, datatype)
        elif name == "sequence_id" and not isinstance(value, str):
            problem = _problem(value, "UINT64")
        elif not isinstance(value, str | int | float):
            problem = "must be text, a number, true or false"
        else:
            problem = None
        if problem:
            raise InvalidBodyError(f"the parameter {name[:_LONGEST_SHOWN]} {problem}")


def _check_shape(tensor: Mapping[str, Any]) -> None:
    # A body with so many values as JSON would have been refused.
    most = 2 * MAX_VALUES if "data" in tensor else _MOST_ELEMENTS
    elements = 1
    for length in tensor["shape"]:
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise InvalidBodyError("the shape of an input must hold integers from 0 on")
        elements *= length
        if elements > most:
            raise InvalidBodyError(f"the shape of an input has more than {most} elements")
    if tensor["datatype"] in _TEXTS and elements > MAX_VALUES:
        raise InvalidBodyError(f"an input has {elements} texts; at most {MAX_VALUES} are possible")


def _check_flat(model_input: ModelTensor, value: Any) -> None:
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, list) for each in values):
        raise InvalidBodyError(f"{model_input.name} must be one value or a flat list")
    _check(model_input.name, values, model_input.datatype)


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
    if datatype in _LARGEST_FLOATS and abs(value) > _LARGEST_FLOATS[datatype]:
        return f"is {value}, which is beyond {datatype}"
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


# The types of the fields that Triton knows, with the word for them.
_BODY_FIELDS: dict[str, tuple[type, str]] = {
    "id": (str, "text"),
    "parameters": (dict, "an object"),
}
_TENSOR_FIELDS: dict[str, tuple[type, str]] = {
    "name": (str, "text"),
    "datatype": (str, "text"),
    "shape": (list, "a list"),
    "data": (list, "a list"),
    "parameters": (dict, "an object"),
}
# The parameters that Triton reads itself; others are the model's, of any simple type.
_PARAMETERS = {
    "sequence_start": "BOOL",
    "sequence_end": "BOOL",
    "priority": "UINT64",
    "timeout": "UINT64",
    "binary_data_output": "BOOL",
    "binary_data": "BOOL",
    "binary_data_size": "UINT64",
    "classification": "UINT64",
    "shared_memory_region": "STRING",
    "shared_memory_offset": "UINT64",
    "shared_memory_byte_size": "UINT64",
}
_MOST_ELEMENTS = 1 << 24

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


def _check_structure(body: bytes) -> None:
    """Refuses a body with too many values, or too deep ones, without parsing it."""
    most, opened = 2 * MAX_VALUES, _opened(body)
    if opened + body.count(b",") + body.count(b":") <= most and opened <= MAX_DEPTH:
        return
    # What is between quotes does not count. Each of them belongs to a value or a name, unless it is
    # escaped.
    if body.count(b'"') - body.count(b'\\"') > 2 * most:
        raise InvalidBodyError(_TOO_MANY)
    structure = _STRINGS.sub(b"", body)
    if _opened(structure) + structure.count(b",") + structure.count(b":") > most:
        raise InvalidBodyError(_TOO_MANY)
    depth = 0
    for bracket in _BRACKETS.finditer(structure):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidBodyError(f"the body is nested more than {MAX_DEPTH} deep")


def _opened(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _check_characters(value: dict[str, Any]) -> None:
    for name, content in value.items():
        try:
            json.dumps([name, content], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            shown = ascii(name[:_LONGEST_SHOWN])
            raise InvalidBodyError(
                f"{shown} holds half of a character (a lone surrogate)", name[:_LONGEST_SHOWN]
            ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_FIELDS:
        raise InvalidBodyError(f"the body has an object of more than {MAX_FIELDS} fields")
    value = dict(pairs)
    if len(value) < len(pairs):
        raise InvalidBodyError("the body has a field twice")
    if any("\0" in name for name in value):  # where Triton's strings end
        raise InvalidBodyError("the body has a field with a NUL in its name")
    return value


def _number(text: str) -> float:
    value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise InvalidBodyError(f"the body holds the number {text[:_LONGEST_SHOWN]}, too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise InvalidBodyError(f"the body holds an integer of {len(text)} digits")
    return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
