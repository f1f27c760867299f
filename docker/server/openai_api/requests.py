"""Reads and checks bodies of OpenAI's requests; independent of the HTTP server.

Ranges and defaults are those of openai-python 3.54.0 (types/completion_create_params.py,
types/chat/completion_create_params.py), and those of vLLM for its own fields, which come by
`extra_body`. What is accepted without effect is in fields.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from errors import invalid
from front_model import Generation, Sampling, Source, Usage

from .fields import (
    CHAT_NEUTRAL,
    COMPLETION_NEUTRAL,
    Fields,
    text,
    token_ids,
    unsupported,
    wrong_type,
)
from .formats import Guide, parse_guide
from .messages import NO_TOOLS, Tools, parse_messages, parse_tools

_COMPLETION_DEFAULT_MAX_TOKENS = 16  # OpenAI's
_MOST_CHOICES = 128  # OpenAI's
# The front model's, of stop words and of bad words each.
_MOST_WORDS = 128
_MOST_LOG_PROBS = 5  # OpenAI's, for completions
_INT32_MAX = 2**31 - 1
_NO_TOKEN = -1  # as the end token: the answer has the length that was requested

_COMMON = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "stop", "seed"}
    | {"presence_penalty", "frequency_penalty", "top_k", "repetition_penalty", "min_tokens"}
    | {"logprobs", "n", "ignore_eos", "stop_token_ids", "bad_words", "include_stop_str_in_output"}
    | {"truncate_prompt_tokens", "return_token_ids", "response_format", "structured_outputs"}
    | {"guided_json"}
)
_COMPLETION_FIELDS = _COMMON | {"prompt", "echo", "best_of"}
_CHAT_FIELDS = _COMMON | {
    *("messages", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls"),
    *("add_generation_prompt", "continue_final_message", "chat_template_kwargs"),
}
# The front model's inputs by OpenAI's fields, where a refusal of the model names them.
_FIELD_OF = {
    "text_input": "prompt",
    "input_ids": "prompt",
    "stop_words": "stop",
    "stop_words_list": "stop",
    "bad_words_list": "bad_words",
    "runtime_top_k": "top_k",
    "runtime_top_p": "top_p",
    "request_output_len": "max_tokens",
    "chat_options": "messages",
}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request for completions or for a chat completion.

    Attributes:
        model: the model's name.
        generations: the answers to be generated, in the order of their index.
        choices: how many of them each prompt has.
        stream: whether they are wanted as they come.
        include_usage: whether a stream ends with its usage.
        top_log_probs: of how many of the likeliest tokens log-probabilities are wanted beside the
            chosen one's; None where none at all are.
        token_ids: whether the tokens of prompts and answers are wanted.
        tools: what the model may call.
        fields: the request's fields by the inputs that the model knows them by.
    """

    model: str
    generations: tuple[Generation, ...]
    choices: int
    stream: bool
    include_usage: bool
    top_log_probs: int | None
    token_ids: bool
    tools: Tools = NO_TOOLS
    fields: Mapping[str, str] = field(default_factory=dict)

    def counted(self, index: int, usage: Usage | None) -> Usage:
        """What of an answer's tokens counts: a prompt's once, however many answers it has."""
        if usage is None:
            return Usage(0, 0)
        return Usage(0, usage.completion_tokens) if index % self.choices else usage


def parse_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Parses the body of a request to /v1/completions.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    fields = Fields(body, _COMPLETION_FIELDS, COMPLETION_NEUTRAL)
    max_tokens = fields.integer("max_tokens", 1, _INT32_MAX) or _COMPLETION_DEFAULT_MAX_TOKENS
    stop, sampling, echo = _stop_words(fields), _sampling(fields), fields.boolean("echo")
    guide = parse_guide(fields)
    generation = Generation(
        ("text_input", ""),
        max_tokens,
        stop,
        sampling,
        echo=echo,
        log_probs=(top := _top_log_probs(fields, sampling, echo=echo)) is not None,
        inputs={**_inputs(fields), **guide.inputs()},
    )
    sources = [replace(generation, source=source) for source in _prompts(fields)]
    return _request(fields, sources, guide, "max_tokens", top_log_probs=top)


def parse_chat(body: Mapping[str, Any], default_max_tokens: int) -> CompletionRequest:
    """Parses the body of a request to /v1/chat/completions.

    Args:
        body: the request's.
        default_max_tokens: where it does not say; less where the engine's sequences end.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    fields = Fields(body, _CHAT_FIELDS, CHAT_NEUTRAL)
    completion_tokens = fields.integer("max_completion_tokens", 1, _INT32_MAX)
    max_tokens = completion_tokens or fields.integer("max_tokens", 1, _INT32_MAX)
    tools, guide = parse_tools(fields), parse_guide(fields)
    log_probs = fields.boolean("logprobs")
    if tools.given and log_probs:
        raise unsupported("logprobs", "is not supported by this server together with 'tools'.")
    if tools.forced.kind:
        if guide.kind:
            raise unsupported(
                guide.path, "is not supported by this server where 'tool_choice' names tools."
            )
        guide = tools.forced
    messages = json.dumps(parse_messages(fields), ensure_ascii=False)
    options = _chat_options(fields, tools)
    generation = Generation(
        ("messages", messages),
        max_tokens or default_max_tokens,
        _stop_words(fields),
        _sampling(fields),
        fits=max_tokens is None,
        log_probs=log_probs,
        inputs={**_inputs(fields), **guide.inputs(), **options},
    )
    return _request(
        fields,
        [generation],
        guide,
        "max_completion_tokens" if completion_tokens else "max_tokens",
        top_log_probs=0 if log_probs else None,
        tools=tools,
    )


def _request(
    fields: Fields,
    generations: list[Generation],
    guide: Guide,
    max_tokens_field: str,
    *,
    top_log_probs: int | None,
    tools: Tools = NO_TOOLS,
) -> CompletionRequest:
    stream = fields.boolean("stream")
    choices = fields.integer("n", 1, _MOST_CHOICES) or 1
    best_of = fields.integer("best_of", 1, _MOST_CHOICES)
    if best_of not in (None, choices):
        raise unsupported(
            "best_of", f"other than 'n', which is {choices}, is not supported by this server."
        )
    return CompletionRequest(
        model=fields.text("model"),
        generations=tuple(
            _choice(generation, index) for generation in generations for index in range(choices)
        ),
        choices=choices,
        stream=stream,
        include_usage=_include_usage(fields.get("stream_options"), stream=stream),
        top_log_probs=top_log_probs,
        token_ids=fields.boolean("return_token_ids"),
        tools=tools,
        fields={**_FIELD_OF, "max_tokens": max_tokens_field, "guided_decoding_guide": guide.path},
    )


def _choice(generation: Generation, index: int) -> Generation:
    """One of several answers to a prompt: a seed makes all of them reproducible, not the same."""
    seed = generation.sampling.seed
    if seed is None or index == 0:
        return generation
    return replace(generation, sampling=replace(generation.sampling, seed=seed + index))


def _inputs(fields: Fields) -> dict[str, Any]:
    """The front model's inputs that it knows by vLLM's names."""
    inputs: dict[str, Any] = {
        "bad_words": [
            word
            for index, each in enumerate(fields.array("bad_words", _MOST_WORDS))
            if (word := text(f"bad_words[{index}]", each))
        ],
        "stop_token_ids": fields.tokens("stop_token_ids", _MOST_WORDS),
        "include_stop_str_in_output": fields.boolean("include_stop_str_in_output"),
        "return_token_ids": fields.boolean("return_token_ids"),
        "truncate_prompt_tokens": fields.integer("truncate_prompt_tokens", -1, _INT32_MAX),
        "end_id": _NO_TOKEN if fields.boolean("ignore_eos") else None,
    }
    if inputs["truncate_prompt_tokens"] == 0:
        raise invalid(
            "Invalid 'truncate_prompt_tokens': it must be -1 or more than 0.",
            "truncate_prompt_tokens",
        )
    return {name: value for name, value in inputs.items() if value}


def _chat_options(fields: Fields, tools: Tools) -> dict[str, str]:
    """What the chat template is given beside messages, as the front model's input."""
    options = fields.object("chat_template_kwargs")
    for name in ("messages", "tools", "add_generation_prompt", "continue_final_message"):
        if name in options:
            raise invalid(
                f"Invalid 'chat_template_kwargs': {name} is a field of its own.",
                f"chat_template_kwargs.{name}",
            )
    continues = fields.boolean("continue_final_message")
    begins = fields.boolean("add_generation_prompt", default=not continues)
    if continues and begins:
        raise invalid(
            "Invalid 'continue_final_message': it excludes 'add_generation_prompt'.",
            "continue_final_message",
        )
    options |= {"continue_final_message": True} if continues else {}
    options |= {} if begins or continues else {"add_generation_prompt": False}
    options |= {"tools": list(tools.given)} if tools.given else {}
    if tools.forced.kind:
        options["tools_forced"] = True
    return {"chat_options": json.dumps(options, ensure_ascii=False)} if options else {}


def _top_log_probs(fields: Fields, sampling: Sampling, *, echo: bool) -> int | None:
    """A completion's `logprobs`; the engine knows only the chosen token's."""
    wanted = fields.integer("logprobs", 0, _MOST_LOG_PROBS)
    if wanted is None:
        return None
    if wanted > 1 or (wanted == 1 and not sampling.greedy):
        raise unsupported(
            "logprobs",
            f"{wanted} is not supported by this server, which knows that of the chosen token "
            "alone: send 0, or 1 with 'temperature' 0, where that is the likeliest one.",
        )
    if echo:
        raise unsupported(
            "logprobs",
            "with 'echo' is not supported by this server: it has none of the prompt.",
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
    neutral = {"continuous_usage_stats": (False,)}
    return Fields(options, known, neutral, "stream_options.").boolean("include_usage")


def _prompts(fields: Fields) -> list[Source]:
    """Each prompt: a text, or token ids."""
    given = fields.required("prompt")
    prompts = given if isinstance(given, list) else [given]
    if not prompts:
        raise invalid("Invalid 'prompt': an empty array.", "prompt")
    if all(isinstance(each, int) for each in prompts):
        return [("input_ids", token_ids("prompt", prompts))]
    if isinstance(prompts[0], list):
        return [("input_ids", _prompt_ids(index, each)) for index, each in enumerate(prompts)]
    return [("text_input", text("prompt", each)) for each in prompts]


def _prompt_ids(index: int, ids: Any) -> list[int]:
    path = f"prompt[{index}]"
    if not isinstance(ids, list):
        raise wrong_type(path, "an array of token ids", ids)
    if not ids:
        raise invalid(f"Invalid '{path}': an empty array.", path)
    return token_ids(path, ids)


def _stop_words(fields: Fields) -> tuple[str, ...]:
    given = fields.get("stop")
    if isinstance(given, list):
        return tuple(word for each in fields.array("stop", _MOST_WORDS) if (word := _stop(each)))
    return (word,) if given is not None and (word := _stop(given)) else ()


def _stop(word: Any) -> str:
    return text("stop", word)


def _sampling(fields: Fields) -> Sampling:
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
        top_k=max(fields.integer("top_k", -1, _INT32_MAX) or 0, 0),  # -1 is vLLM's word for all
        seed=fields.integer("seed", -(2**63), 2**63 - 1),
        others={name: value for name, value in others.items() if value},
    )
