"""Reads and checks bodies of OpenAI's requests; independent of the HTTP server.

Field names, ranges and defaults are those of openai-python 3.54.0
(types/completion_create_params.py, types/chat/completion_create_params.py). A field that would
change the answer, but is not supported, is refused unless it has its neutral value. A field that
would not change it is accepted and has no effect. An unknown field is refused, as OpenAI does.
`top_k`, `repetition_penalty` and `min_tokens` are TensorRT-LLM's and come by `extra_body`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from errors import ApiError, invalid, shown
from front_model import Generation, Sampling

_COMPLETION_DEFAULT_MAX_TOKENS = 16  # OpenAI's
_MOST_STOP_WORDS = 4
_MOST_LOG_PROBS = 5  # OpenAI's, for completions
_INT32_MAX = 2**31 - 1
_ROLES = frozenset({"system", "user", "assistant"})

_COMMON = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "stop", "seed"}
    | {"presence_penalty", "frequency_penalty", "top_k", "repetition_penalty", "min_tokens"}
    | {"logprobs"}
)
_COMPLETION_FIELDS = _COMMON | {"prompt", "echo"}
_CHAT_FIELDS = _COMMON | {"messages", "max_completion_tokens"}

_WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "parallel_tool_calls"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
)

# Fields that can only have one of these values.
_COMPLETION_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "suffix": ("",),
    "logit_bias": ({},),
}
_CHAT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "reasoning_effort": ("none",),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "web_search_options": (),
}
# What to do instead.
_REMEDIES = {
    "top_logprobs": "; it knows the log-probability of the chosen token alone",
    "n": "; send the request several times",
}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request for completions or for a chat completion.

    Attributes:
        model: the model's name.
        generations: the answers to be generated, in the order of their index.
        stream: whether they are wanted as they come.
        include_usage: whether a stream ends with its usage.
        top_log_probs: of how many of the likeliest tokens log-probabilities are wanted beside the
            chosen one's; None where none at all are.
    """

    model: str
    generations: tuple[Generation, ...]
    stream: bool
    include_usage: bool
    top_log_probs: int | None


def parse_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Parses the body of a request to /v1/completions.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    fields = _Fields(body, _COMPLETION_FIELDS, _COMPLETION_NEUTRAL)
    max_tokens = fields.integer("max_tokens", 1, _INT32_MAX) or _COMPLETION_DEFAULT_MAX_TOKENS
    stop, sampling, echo = _stop_words(fields), _sampling(fields), fields.boolean("echo")
    top = _top_log_probs(fields, sampling, echo=echo)
    alike = {"max_tokens": max_tokens, "stop_words": stop, "sampling": sampling, "echo": echo}
    return _completion_request(
        fields,
        (
            Generation(("text_input", prompt), **alike, log_probs=top is not None)
            for prompt in _prompts(fields)
        ),
        top,
    )


def parse_chat(body: Mapping[str, Any], default_max_tokens: int) -> CompletionRequest:
    """Parses the body of a request to /v1/chat/completions.

    Args:
        body: the request's.
        default_max_tokens: where it does not say; less where the engine's sequences end.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    fields = _Fields(body, _CHAT_FIELDS, _CHAT_NEUTRAL)
    max_tokens = fields.integer("max_completion_tokens", 1, _INT32_MAX) or fields.integer(
        "max_tokens", 1, _INT32_MAX
    )
    messages = json.dumps(_messages(fields), ensure_ascii=False)
    log_probs = fields.boolean("logprobs")
    generation = Generation(
        ("messages", messages),
        max_tokens or default_max_tokens,
        _stop_words(fields),
        _sampling(fields),
        fits=max_tokens is None,
        log_probs=log_probs,
    )
    return _completion_request(fields, [generation], 0 if log_probs else None)


class _Fields:
    """A body's fields, all of them known; null counts as absent."""

    def __init__(
        self,
        body: Mapping[str, Any],
        known: frozenset[str],
        neutral: Mapping[str, tuple[Any, ...]],
    ) -> None:
        self._given = {name: value for name, value in body.items() if value is not None}
        for name, value in self._given.items():
            if name in neutral:
                _check_neutral(name, value, neutral[name])
            elif name not in known | _WITHOUT_EFFECT:
                raise invalid(f"Unknown parameter: {shown(name)}.", name[:64], "unknown_parameter")

    def get(self, name: str) -> Any:
        """A field of any type, None where it is not given."""
        return self._given.get(name)

    def required(self, name: str) -> Any:
        """A field of any type that must be given."""
        if name not in self._given:
            raise invalid(
                f"Missing required parameter: {name!r}.", name, "missing_required_parameter"
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

    def boolean(self, name: str) -> bool:
        """A truth value, false where it is not given."""
        if name in self._given and not isinstance(self._given[name], bool):
            raise wrong_type(name, "a boolean", self._given[name])
        return bool(self._given.get(name))

    def text(self, name: str, value: Any) -> str:
        """A value that must be text, and such as UTF-8 has."""
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise invalid(f"Invalid {name!r}: half of a character.", name) from None
        return value

    def _has(self, name: str, wanted: str, fits: Callable[[Any], bool]) -> bool:
        if name not in self._given:
            return False
        value = self._given[name]
        if isinstance(value, bool) or not fits(value):
            raise wrong_type(name, wanted, value)
        return True

    def _within(self, name: str, low: float, high: float) -> Any:
        value = self._given[name]
        if not math.isfinite(value) or not low <= value <= high:
            raise invalid(f"Invalid {name!r}: it must be from {low} to {high}, not {value}.", name)
        return value


def wrong_type(name: str, wanted: str, value: Any) -> ApiError:
    """A value of another type than its field has."""
    kinds = {str: "a string", list: "an array", dict: "an object", bool: "a boolean"}
    got = "null" if value is None else kinds.get(type(value), "a number")
    message = f"Invalid type for {name!r}: expected {wanted}, but got {got} instead."
    return invalid(message, name, "invalid_type")


def _check_neutral(name: str, value: Any, neutral: tuple[Any, ...]) -> None:
    if any(value == allowed and type(value) is type(allowed) for allowed in neutral):
        return
    only = f" other than {' or '.join(json.dumps(each) for each in neutral)}" if neutral else ""
    raise invalid(
        f"{name!r}{only} is not supported by this server{_REMEDIES.get(name, '')}.",
        name,
        "unsupported_parameter",
    )


def _completion_request(
    fields: _Fields, generations: Iterable[Generation], top_log_probs: int | None
) -> CompletionRequest:
    stream = fields.boolean("stream")
    return CompletionRequest(
        model=fields.text("model", fields.required("model")),
        generations=tuple(generations),
        stream=stream,
        include_usage=_include_usage(fields.get("stream_options"), stream=stream),
        top_log_probs=top_log_probs,
    )


def _top_log_probs(fields: _Fields, sampling: Sampling, *, echo: bool) -> int | None:
    """A completion's `logprobs`; the engine knows only the chosen token's."""
    wanted = fields.integer("logprobs", 0, _MOST_LOG_PROBS)
    if wanted is None:
        return None
    if wanted > 1 or (wanted == 1 and not sampling.greedy):
        raise invalid(
            f"'logprobs' {wanted} is not supported by this server, which knows that of the chosen "
            "token alone: send 0, or 1 with 'temperature' 0, where that is the likeliest one.",
            "logprobs",
            "unsupported_parameter",
        )
    if echo:
        raise invalid(
            "'logprobs' with 'echo' is not supported by this server: it has none of the prompt.",
            "logprobs",
            "unsupported_parameter",
        )
    return wanted


def _include_usage(options: Any, *, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong_type("stream_options", "an object", options)
    if not stream:
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    # Obfuscation pads OpenAI's own streams against eavesdroppers and is nothing to a client.
    known = frozenset({"include_usage", "include_obfuscation"})
    return _Fields(options, known, {}).boolean("include_usage")


def _prompts(fields: _Fields) -> list[str]:
    given = fields.required("prompt")
    prompts = given if isinstance(given, list) else [given]
    if not prompts:
        raise invalid("Invalid 'prompt': an empty array.", "prompt")
    if any(isinstance(each, int | list) for each in prompts):
        raise invalid(
            "'prompt' as token ids is not supported by this server; send text.",
            "prompt",
            "unsupported_parameter",
        )
    return [fields.text("prompt", each) for each in prompts]


def _messages(fields: _Fields) -> list[dict[str, str]]:
    given = fields.required("messages")
    if not isinstance(given, list):
        raise wrong_type("messages", "an array", given)
    if not given:
        raise invalid("Invalid 'messages': an empty array.", "messages")
    return [_message(fields, f"messages[{index}]", each) for index, each in enumerate(given)]


def _message(fields: _Fields, name: str, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise wrong_type(name, "an object", message)
    role = message.get("role")
    if role == "developer":  # OpenAI's newer name
        role = "system"
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(
            f"Invalid '{name}.role': it must be system, developer, user or assistant; tools are "
            "not supported by this server.",
            f"{name}.role",
        )
    return {"role": role, "content": _content(fields, f"{name}.content", message.get("content"))}


def _content(fields: _Fields, name: str, content: Any) -> str:
    """A message's text; parts of text become lines."""
    if not isinstance(content, list):
        return fields.text(name, content)
    lines = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise invalid(
                f"Invalid '{name}[{index}]': only parts of type 'text' are supported.",
                f"{name}[{index}]",
                "unsupported_parameter",
            )
        lines.append(fields.text(f"{name}[{index}].text", part.get("text")))
    return "\n".join(lines)


def _stop_words(fields: _Fields) -> tuple[str, ...]:
    given = fields.get("stop")
    words = given if isinstance(given, list) else [] if given is None else [given]
    if len(words) > _MOST_STOP_WORDS:
        raise invalid(f"Invalid 'stop': at most {_MOST_STOP_WORDS} are possible.", "stop")
    return tuple(word for each in words if (word := fields.text("stop", each)))


def _sampling(fields: _Fields) -> Sampling:
    others = {
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "repetition_penalty": fields.number("repetition_penalty", 0.01, 100),
        "min_tokens": fields.integer("min_tokens", 0, _INT32_MAX),
    }
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    return Sampling(
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=fields.integer("top_k", 0, _INT32_MAX) or 0,
        seed=fields.integer("seed", -(2**63), 2**63 - 1),
        others={name: value for name, value in others.items() if value},
    )
