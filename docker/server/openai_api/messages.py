"""Messages and tools of chats, as the front model's chat templates take them.

The forms are those of openai-python 3.54.0 (types/chat/chat_completion_*_message_param.py and
chat_completion_function_tool_param.py). A template gets messages as transformers'
apply_chat_template does, with the arguments of calls as objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from errors import invalid, shown

from .fields import Fields, text, unsupported, wrong_type
from .formats import NO_GUIDE, Guide

MOST_TOOLS = 128  # OpenAI's
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that a model may call.

    Attributes:
        given: as the request has them; empty where none is to be called.
        forced: what makes the model call one; without a kind where it may answer with text.
        parallel: whether it may call several.
    """

    given: tuple[dict[str, Any], ...] = ()
    forced: Guide = NO_GUIDE
    parallel: bool = True


NO_TOOLS = Tools()


def parse_messages(fields: Fields) -> list[dict[str, Any]]:
    """Reads `messages`.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    given = fields.required("messages")
    if not isinstance(given, list):
        raise wrong_type("messages", "an array", given)
    if not given:
        raise invalid("Invalid 'messages': an empty array.", "messages")
    return [_message(f"messages[{index}]", each) for index, each in enumerate(given)]


def parse_tools(fields: Fields) -> Tools:
    """Reads `tools`, `tool_choice` and `parallel_tool_calls`.

    Raises:
        ApiError: 400 with the field that is wrong.
    """
    tools = tuple(
        _tool(f"tools[{index}]", each)
        for index, each in enumerate(fields.array("tools", MOST_TOOLS))
    )
    choice = fields.get("tool_choice")
    parallel = fields.boolean("parallel_tool_calls", default=True)
    if choice == "none":
        return NO_TOOLS
    if not tools:
        if choice in (None, "auto"):
            return NO_TOOLS
        raise invalid("Invalid 'tool_choice': there are no 'tools'.", "tool_choice")
    if choice in (None, "auto"):
        return Tools(tools, parallel=parallel)
    if choice == "required":
        return Tools(tools, _forced(dict(enumerate(tools)), parallel), parallel)
    name = _chosen(choice)
    chosen = {index: each for index, each in enumerate(tools) if each["function"]["name"] == name}
    if not chosen:
        raise invalid(
            f"Invalid 'tool_choice': {shown(name)} is none of the tools.",
            "tool_choice.function.name",
        )
    return Tools(tools, _forced(chosen, parallel=False), parallel=False)


def _forced(tools: Mapping[int, Mapping[str, Any]], parallel: bool) -> Guide:
    functions = [
        {
            "name": each["function"]["name"],
            "parameters": each["function"].get("parameters") or {"type": "object"},
            "path": f"tools[{index}].function.parameters",
        }
        for index, each in tools.items()
    ]
    return Guide("tool_calls", {"tools": functions, "parallel": parallel}, "tools")


def _chosen(choice: Any) -> str:
    if isinstance(choice, str):
        raise invalid(
            f"Invalid 'tool_choice': {shown(choice)}; it can be none, auto, required or a tool.",
            "tool_choice",
        )
    if not isinstance(choice, dict):
        raise wrong_type("tool_choice", "a string or an object", choice)
    fields = Fields(choice, frozenset({"type", "function"}), {}, "tool_choice.")
    if fields.text("type") != "function":
        raise unsupported("tool_choice.type", "can only be function.")
    fields.required("function")
    named = Fields(fields.object("function"), frozenset({"name"}), {}, "tool_choice.function.")
    return named.text("name")


def _tool(path: str, tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise wrong_type(path, "an object", tool)
    fields = Fields(tool, frozenset({"type", "function"}), {}, f"{path}.")
    if fields.text("type") != "function":
        raise unsupported(f"{path}.type", "can only be function.")
    fields.required("function")
    function = Fields(fields.object("function"), _FUNCTION, {}, f"{path}.function.")
    function.text("name")
    function.object("parameters")
    return tool


def _message(path: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise wrong_type(path, "an object", message)
    role = message.get("role")
    if role == "developer":  # OpenAI's newer name
        role = "system"
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(
            f"Invalid '{path}.role': it must be system, developer, user, assistant or tool.",
            f"{path}.role",
        )
    content, calls = message.get("content"), message.get("tool_calls")
    read: dict[str, Any] = {"role": role}
    if role == "assistant" and calls:
        if not isinstance(calls, list):
            raise wrong_type(f"{path}.tool_calls", "an array", calls)
        read["content"] = None if content is None else _content(f"{path}.content", content)
        read["tool_calls"] = [
            _call(f"{path}.tool_calls[{index}]", call) for index, call in enumerate(calls)
        ]
        return read
    read["content"] = _content(f"{path}.content", content)
    if role == "tool":
        for name in ("tool_call_id", "name"):
            if message.get(name) is not None:
                read[name] = text(f"{path}.{name}", message[name])
    return read


def _call(path: str, call: Any) -> dict[str, Any]:
    """A call as templates take it: OpenAI has the arguments as a text."""
    if not isinstance(call, dict):
        raise wrong_type(path, "an object", call)
    fields = Fields(call, frozenset({"id", "type", "function", "index"}), {}, f"{path}.")
    fields.required("function")
    function = Fields(
        fields.object("function"), frozenset({"name", "arguments"}), {}, f"{path}.function."
    )
    arguments = function.required("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise invalid(
            f"Invalid '{path}.function.arguments': it must be an object as JSON text.",
            f"{path}.function.arguments",
        )
    read = {"type": "function", "function": {"name": function.text("name"), "arguments": arguments}}
    return {"id": fields.text("id"), **read} if fields.get("id") is not None else read


def _content(path: str, content: Any) -> str:
    """A message's text; parts of text become lines."""
    if not isinstance(content, list):
        return text(path, content)
    lines = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise invalid(
                f"Invalid '{path}[{index}]': only parts of type 'text' are supported.",
                f"{path}[{index}]",
                "unsupported_parameter",
            )
        lines.append(text(f"{path}[{index}].text", part.get("text")))
    return "\n".join(lines)
