"""The fields of a request's body: known names, types, ranges, and values without effect.

A field that would change the answer, but is not supported, is refused unless it has the value that
changes nothing. An unknown field is refused, as OpenAI does. The names are OpenAI's
(openai-python 3.54.0, types/completion_create_params.py and types/chat/completion_create_params.py)
and, for clients that were written for their servers, those of vLLM (vllm-project/vllm at 002032ee,
entrypoints/openai/*/protocol.py) and TensorRT-LLM (NVIDIA/TensorRT-LLM at 0076e939,
serve/openai_protocol.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from errors import ApiError, invalid, shown

# Have no effect here, whatever their value.
_WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "parallel_tool_calls"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    # vLLM's: names and hints for its own scheduler and cache, and what a special token would need
    # that is never shown.
    | {"request_id", "session_id", "cache_salt", "stream_interval", "include_reasoning"}
    | {"spaces_between_special_tokens", "return_mm_kwargs", "early_stopping"}
)
# Can only have one of these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    # vLLM's and TensorRT-LLM's
    "use_beam_search": (False,),
    "min_p": (0,),
    "top_p_min": (0,),
    "length_penalty": (1,),
    "watermarking": (False,),
    "detokenize": (True,),
    "skip_special_tokens": (True,),
    "truncation_side": ("left",),
    "priority": (0, 0.5),
    "prompt_ignore_length": (0,),
    "prompt_logprobs": (),
    "logprob_token_ids": (),
    "allowed_token_ids": (),
    "thinking_token_budget": (-1,),
    "return_context_logits": (False,),
    "return_generation_logits": (False,),
    "return_tokens_as_token_ids": (False,),
    "return_token_offsets": (False,),
    "return_prompt_text": (False,),
    "routed_experts_prompt_start": (0,),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "kv_transfer_params": ({},),
    "ec_transfer_params": ({},),
    "vllm_xargs": ({},),
    "repetition_detection": (),
    "lora_request": (),
    "disaggregated_params": (),
    "conversation_params": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_decoding_backend": ("xgrammar", "auto"),
    "guided_whitespace_pattern": (),
}
COMPLETION_NEUTRAL: Mapping[str, tuple[Any, ...]] = _NEUTRAL | {
    "suffix": ("",),
    "add_special_tokens": (True,),
    "prompt_embeds": (),
}
CHAT_NEUTRAL: Mapping[str, tuple[Any, ...]] = _NEUTRAL | {
    "top_logprobs": (0,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "reasoning_effort": ("none",),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "web_search_options": (),
    "echo": (False,),
    "add_special_tokens": (False,),
    "documents": ([],),
    "chat_template": (),
}
# What to do instead.
_REMEDIES = {
    "top_logprobs": "; it knows the log-probability of the chosen token alone",
    "functions": "; send 'tools'",
    "function_call": "; send 'tool_choice'",
    "guided_regex": "; send a JSON schema as 'response_format'",
    "guided_choice": "; send a JSON schema with an enum as 'response_format'",
    "guided_grammar": "; send a JSON schema as 'response_format'",
}


class Fields:
    """A body's fields, all of them known; null counts as absent.

    Args:
        body: an object.
        known: the names of its fields.
        neutral: further names, with the values that they can have.
        parent: the field that holds the object, with a point after it; empty for the body.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        known: frozenset[str],
        neutral: Mapping[str, tuple[Any, ...]],
        parent: str = "",
    ) -> None:
        self._parent = parent
        self._given = {name: value for name, value in body.items() if value is not None}
        accepted = known if parent else known | _WITHOUT_EFFECT
        for name, value in self._given.items():
            if name in neutral:
                _check_neutral(self.path(name), value, neutral[name])
            elif name not in accepted:
                raise invalid(
                    f"Unknown parameter: {shown(self.path(name))}.",
                    self.path(name[:64]),
                    "unknown_parameter",
                )

    def path(self, name: str) -> str:
        """A field's name as an error names it."""
        return f"{self._parent}{name}"

    def get(self, name: str) -> Any:
        """A field of any type, None where it is not given."""
        return self._given.get(name)

    def required(self, name: str) -> Any:
        """A field of any type that must be given."""
        if name not in self._given:
            path = self.path(name)
            raise invalid(
                f"Missing required parameter: {path!r}.", path, "missing_required_parameter"
            )
        return self._given[name]

    def integer(self, name: str, low: int, high: int) -> int | None:
        """An integer within limits."""
        is_integer = self._has(name, "an integer", lambda value: isinstance(value, int))
        return int(self._within(name, low, high)) if is_integer else None

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within limits."""
        is_number = self._has(name, "a number", lambda value: isinstance(value, int | float))
        return float(self._within(name, low, high)) if is_number else None

    def boolean(self, name: str, default: bool = False) -> bool:
        """A truth value, or the default where it is not given."""
        value = self._given.get(name, default)
        if not isinstance(value, bool):
            raise wrong_type(self.path(name), "a boolean", value)
        return value

    def array(self, name: str, most: int) -> list[Any]:
        """An array, empty where it is not given."""
        value = self._given.get(name, [])
        if not isinstance(value, list):
            raise wrong_type(self.path(name), "an array", value)
        if len(value) > most:
            raise invalid(
                f"Invalid {self.path(name)!r}: at most {most} are possible.", self.path(name)
            )
        return value

    def object(self, name: str) -> dict[str, Any]:
        """An object, empty where it is not given."""
        value = self._given.get(name, {})
        if not isinstance(value, dict):
            raise wrong_type(self.path(name), "an object", value)
        return value

    def tokens(self, name: str, most: int) -> list[int]:
        """An array of token ids, empty where it is not given."""
        return token_ids(self.path(name), self.array(name, most))

    def text(self, name: str) -> str:
        """A text that must be given."""
        return text(self.path(name), self.required(name))

    def _has(self, name: str, wanted: str, fits: Callable[[Any], bool]) -> bool:
        if name not in self._given:
            return False
        value = self._given[name]
        if isinstance(value, bool) or not fits(value):
            raise wrong_type(self.path(name), wanted, value)
        return True

    def _within(self, name: str, low: float, high: float) -> Any:
        value, path = self._given[name], self.path(name)
        if not math.isfinite(value) or not low <= value <= high:
            raise invalid(f"Invalid {path!r}: it must be from {low} to {high}, not {value}.", path)
        return value


def text(path: str, value: Any) -> str:
    """A value that must be text, and such as UTF-8 has."""
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise invalid(f"Invalid {path!r}: half of a character.", path) from None
    return value


def token_ids(path: str, values: list[Any]) -> list[int]:
    """Values that must be token ids."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(path, "an array of token ids", value)
        if not 0 <= value < 2**31:
            raise invalid(f"Invalid {path!r}: {value} is not a token id.", path)
    return values


def wrong_type(path: str, wanted: str, value: Any) -> ApiError:
    """A value of another type than its field has."""
    kinds = {str: "a string", list: "an array", dict: "an object", bool: "a boolean"}
    got = "null" if value is None else kinds.get(type(value), "a number")
    message = f"Invalid type for {path!r}: expected {wanted}, but got {got} instead."
    return invalid(message, path, "invalid_type")


def unsupported(path: str, reason: str) -> ApiError:
    """A field that means something and cannot be honoured."""
    return invalid(f"{path!r} {reason}", path, "unsupported_parameter")


def _check_neutral(path: str, value: Any, neutral: tuple[Any, ...]) -> None:
    if any(_equal(value, allowed) for allowed in neutral):
        return
    only = f"other than {' or '.join(json.dumps(each) for each in neutral)} " if neutral else ""
    raise unsupported(path, f"{only}is not supported by this server{_REMEDIES.get(path, '')}.")


def _equal(value: Any, allowed: Any) -> bool:
    """Whether two values are the same in JSON, where 1 is 1.0 and true is no number."""
    return bool(value == allowed) and isinstance(value, bool) == isinstance(allowed, bool)
