"""Renders messages with the checkpoint's chat template; independent of Triton.

The template comes with a checkpoint that anyone may have published, so it runs in jinja2's
sandbox, with the options and functions that transformers gives it (5.23,
utils/chat_template_utils.py, `_compile_jinja_template`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .refusal import RefusedError


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A checkpoint's template with the special tokens that it may name."""

    template: Template
    special_tokens: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "ChatTemplate":
        """Reads `chat.json`, which the engine's builder wrote.

        Raises:
            TemplateError: the template is not valid.
        """
        chat = json.loads(path.read_text(encoding="utf-8"))
        return cls(_environment().from_string(chat["template"]), chat["special_tokens"])

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that asks for the assistant's next message.

        Raises:
            RefusedError: the template does not take these messages.
        """
        try:
            return self.template.render(
                messages=messages, add_generation_prompt=True, **self.special_tokens
            )
        except TemplateError as error:
            raise RefusedError(f"messages: {error.message or type(error).__name__}") from None
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise RefusedError(
                f"messages: the checkpoint's chat template fails with them ({error})"
            ) from None


def read_messages(text: str) -> list[dict[str, str]]:
    """The messages in a JSON text: `[{"role": "user", "content": "..."}, ...]`.

    Raises:
        RefusedError: it is not that.
    """
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"messages is not JSON: {error}") from None
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages must be a list of at least one message")
    for index, message in enumerate(messages):
        _check(index, message)
    return messages


def _check(index: int, message: Any) -> None:
    if not isinstance(message, dict):
        raise RefusedError(f"messages[{index}] must be an object with role and content")
    for name in ("role", "content"):
        if not isinstance(message.get(name), str):
            raise RefusedError(f"messages[{index}].{name} must be text")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    # jinja2's own filter escapes HTML, which would change the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
