"""What the front model refuses, in OpenAI's form: with the field that the client knows.

The model's refusals begin with the input that is wrong (model_repository/preprocessing/1 and
tensorrt_llm/1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from errors import ApiError, invalid
from request_log import api_error_of
from triton_client import TritonError

_INPUT = re.compile(r"(?P<input>[a-z_]+)(?P<part>[.\[][^ :]*)?(?=[ :])")
_TOO_LONG = re.compile(
    r"(?:text_input|messages|input_ids) has (?P<size>\d+) (?P<unit>tokens|bytes) "
    r"and this engine takes (?:at most )?(?P<most>\d+)"
)
# Inputs by which no field is named, since they say nothing of one.
_OWN_NAMES = frozenset(
    {"max_tokens", "bad_words", "stop_token_ids", "truncate_prompt_tokens", "messages", "tools"}
    | {"continue_final_message", "top_k", "top_p", "temperature", "repetition_penalty", "seed"}
    | {"min_tokens", "presence_penalty", "frequency_penalty", "documents"}
)


@contextmanager
def refused_by_model(fields: Mapping[str, str], max_tokens: int | None) -> Iterator[None]:
    """Turns a refusal of the model into an error that names the request's field.

    Args:
        fields: the request's fields by the model's inputs.
        max_tokens: how many tokens prompt and answer can have together.

    Raises:
        ApiError: 400 in place of the model's refusal; other errors pass.
    """
    try:
        yield
    except TritonError as error:
        if error.status != 400:
            raise
        raise _of_refusal(api_error_of(error).message, fields, max_tokens) from None


def _of_refusal(message: str, fields: Mapping[str, str], max_tokens: int | None) -> ApiError:
    found = _INPUT.match(message)
    if found is None:
        return invalid(message)
    name = found["input"]
    if name not in fields and name not in _OWN_NAMES:
        return invalid(message)
    field = fields.get(name, name)
    if too_long := _TOO_LONG.match(message):
        return _context_length(field, too_long, max_tokens)
    path = f"{field}{found['part'] or ''}"
    return invalid(f"{path}{message[found.end() :]}", path)


def _context_length(field: str, too_long: re.Match[str], max_tokens: int | None) -> ApiError:
    """OpenAI's error, by whose code or first words libraries know it."""
    size, unit, most = too_long["size"], too_long["unit"], too_long["most"]
    return invalid(
        f"This model's maximum context length is {max_tokens or most} tokens. However, your "
        f"{field} resulted in {size} {unit}, of which at most {most} are possible. "
        f"Please reduce the length of the {field}.",
        field,
        "context_length_exceeded",
    )
