"""Renders messages with the checkpoint's chat template; independent of Triton.

The template comes with a checkpoint that anyone may have published, so it runs in a process of its
own (chat_process.py), which is kept for the next messages and replaced when it had to be killed.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .refusal import RefusedError

_PROGRAM = Path(__file__).with_name("chat_process.py")
# For a process that gets no processor; its own limit is a second of processor time.
_LONGEST_WAIT_S = 10.0
_ATTEMPTS = 2
_LONGEST_ANSWER = 32 << 20  # JSON's escapes take six bytes of a character
# What Python needs to start; the template's process has no business with the others.
_VARIABLES = ("LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# What transformers gives a template without being asked (5.23, render_jinja_template).
_DEFAULTS = {"tools": None, "documents": None}


class InvalidTemplateError(ValueError):
    """A template that does not compile; the message says what is wrong, and in which line."""


class ChatTemplate:
    """A checkpoint's chat template, ready to render; `read` makes it.

    Attributes:
        variables: the names of what the template reads.
    """

    def __init__(self, path: Path, process: "_Process") -> None:
        self._path = path
        self._process = process
        self._lock = threading.Lock()
        self._closed = False
        self.variables = process.variables

    @classmethod
    def read(cls, path: Path) -> "ChatTemplate":
        """Reads `chat.json`, which the engine's builder wrote, and starts the process.

        Raises:
            InvalidTemplateError: the template does not compile within its limits.
        """
        return cls(path, _Process(path))

    def render(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None
    ) -> str:
        """The prompt that asks for the assistant's next message.

        Args:
            messages: the conversation.
            options: further variables, as `read_options` gives them.

        Raises:
            RefusedError: the template does not take these messages, or exceeds its limits.
        """
        options = dict(options or {})
        # An answer that is guided to be a call is one, whether the template tells of tools or not.
        forced = options.pop("tools_forced", False)
        if options.get("tools") and "tools" not in self.variables and not forced:
            raise RefusedError("tools: the checkpoint's chat template takes none")
        continues = bool(options.get("continue_final_message"))
        if continues:
            _check_continued(messages[-1], options)
        variables = {
            **_DEFAULTS,
            "add_generation_prompt": not continues,
            **options,
            "messages": messages,
        }
        with self._lock:
            try:
                answer = self._ask(variables)
            except InvalidTemplateError:  # it did compile: the machine has no time or memory
                answer = None
        if answer is None:
            raise RefusedError(
                "messages: the checkpoint's chat template takes too much time or memory for them"
            )
        if "raised" in answer:
            raise RefusedError(f"messages: {answer['raised'] or 'refused by the chat template'}")
        if "text" not in answer:
            raise RefusedError("messages: the checkpoint's chat template does not take them")
        return str(answer["text"])

    def close(self) -> None:
        """Ends the template's process."""
        self._closed = True
        self._process.end()

    def _ask(self, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """Asks the process, and a next one if it ended for another reason than its limit."""
        for _ in range(_ATTEMPTS):
            answer = self._process.ask(variables)
            if answer is not None:
                return answer
            status = self._process.end()
            if self._closed:
                return None
            self._process = _Process(self._path)
            if status == -signal.SIGPROF:
                return None
        return None


class _Process:
    """A running chat_process.py."""

    def __init__(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(_LONGEST_WAIT_S)
        with theirs:
            self._process = subprocess.Popen(
                [_python(), "-P", "-B", str(_PROGRAM), str(path)],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                # The packages are those of this process, which Triton's stub may embed.
                env={
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
                },
            )
        self._connection: BinaryIO = ours.makefile("rwb")
        ours.close()  # the file keeps the socket open
        answer = self._answer()
        if answer is None:
            self.end()
            raise InvalidTemplateError("it takes too much time or memory to compile")
        if "ready" not in answer:
            self.end()
            line = "" if answer["line"] is None else f"line {answer['line']}: "
            raise InvalidTemplateError(f"{line}{answer['invalid']}")
        self.variables: frozenset[str] = frozenset(answer["variables"])

    def ask(self, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """Sends variables; gives the answer, or None where the process ended or was ended."""
        try:
            self._connection.write(json.dumps(variables).encode() + b"\n")
            self._connection.flush()
        except (OSError, RecursionError):
            return None
        return self._answer()

    def end(self) -> int:
        """Kills it; gives its status, that of an earlier end if there was one."""
        self._process.kill()
        with contextlib.suppress(OSError):  # what could not be sent
            self._connection.close()
        return self._process.wait()

    def _answer(self) -> dict[str, Any] | None:
        try:
            line = self._connection.readline(_LONGEST_ANSWER)
        except OSError:  # a timeout is one
            return None
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer


def read_messages(text: str) -> list[dict[str, Any]]:
    """The messages in a JSON text: `[{"role": "user", "content": "..."}, ...]`.

    Raises:
        RefusedError: it is not that.
    """
    messages = _json("messages", text)
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages must be a list of at least one message")
    for index, message in enumerate(messages):
        _check(index, message)
    return messages


def read_options(text: str) -> dict[str, Any]:
    """The options in a JSON text: variables of the template beside the messages.

    `tools`, `documents` and `add_generation_prompt` are those of transformers'
    apply_chat_template, and so is `continue_final_message`; `tools_forced` says that the answer is
    guided to be a call; others are the template's own.

    Raises:
        RefusedError: it is not that.
    """
    options = _json("chat_options", text)
    if not isinstance(options, dict):
        raise RefusedError("chat_options must be an object")
    if "messages" in options:
        raise RefusedError("chat_options holds messages; they are an input of their own")
    return options


def _check_continued(last: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if options.get("add_generation_prompt"):
        raise RefusedError("continue_final_message excludes add_generation_prompt")
    if last.get("content") is None:
        raise RefusedError("continue_final_message: the last message has no text to continue")


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{name} is not JSON: {error}") from None


def _check(index: int, message: Any) -> None:
    if not isinstance(message, dict):
        raise RefusedError(f"messages[{index}] must be an object with role and content")
    if not isinstance(message.get("role"), str):
        raise RefusedError(f"messages[{index}].role must be text")
    # A message that only calls tools has no text.
    if message.get("content") is None and message.get("tool_calls"):
        return
    if not isinstance(message.get("content"), str):
        raise RefusedError(f"messages[{index}].content must be text")


def _python() -> str:
    """The interpreter; Triton's stub, which embeds one, runs the first of PATH."""
    return shutil.which("python3") or sys.executable
