"""Renders one chat template, in a process that limits itself and may be killed.

    chat_process.py CHAT_JSON

A template is a program of whoever published the checkpoint, and neither jinja2's sandbox nor
Python can interrupt it: `{{ 10 ** 10 ** 9 }}` is a single operation. So the kernel does it, by
a timer that ends this process and a limit of its address space. Each line of standard input is a
JSON object of the template's variables, each line of standard output an object with one of
    text      the prompt
    raised    what the template itself says against these messages
    failed    the name of another failure
    ready     true, first of all, and `variables`, what the template reads
    invalid   what is wrong with the template, and `line`, where
`continue_final_message` is no variable: the prompt then ends within the last message, as
transformers' does.
The sandbox's options and functions are those that transformers gives it (5.23,
utils/chat_template_utils.py, `_compile_jinja_template`).
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, meta
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_CPU_S = 1.0
# A process that gets no processor, or is stopped, is ended by chat.py.
_ADDRESS_SPACE = 256 << 20
# In characters; prompts.py refuses far less, with the numbers.
_LONGEST_TEXT = 4 << 20
_LONGEST_REASON = 200
# What transformers puts at the end of a message that is to be continued, to find it in the prompt.
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "


class _RaisedError(TemplateError):
    """What a template says by `raise_exception`."""


def main(path: str) -> None:
    """Compiles the template, then renders until standard input ends."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # whoever started this may have ignored it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    chat = json.loads(Path(path).read_text(encoding="utf-8"))
    template, answer = _limited(_compile, chat["template"])
    _send(answer)
    if template is None:
        return
    for line in sys.stdin.buffer:
        _send(_limited(_render, template, {**chat["special_tokens"], **json.loads(line)}))


def _send(answer: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _limited(call: Any, *arguments: Any) -> Any:
    """Calls; the kernel ends this process if that takes too much time."""
    # Nothing handles SIGPROF, so its default action ends the process within any operation.
    signal.setitimer(signal.ITIMER_PROF, _CPU_S)
    try:
        return call(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _compile(text: str) -> tuple[Template | None, dict[str, Any]]:
    try:
        environment = _environment()
        template = environment.from_string(text)
        variables = sorted(meta.find_undeclared_variables(environment.parse(text)))
        return template, {"ready": True, "variables": variables}
    except TemplateSyntaxError as error:
        return None, {"invalid": _one_line(error.message), "line": error.lineno}
    except SyntaxError as error:  # what jinja2 takes and Python does not, such as deep nesting
        return None, {"invalid": _one_line(error.msg), "line": None}
    except Exception as error:  # RecursionError, MemoryError, or a fault of jinja2
        return None, {"invalid": type(error).__name__, "line": None}


def _render(template: Template, variables: dict[str, Any]) -> dict[str, Any]:
    pieces, length = [], 0
    continues = variables.pop("continue_final_message", False)
    try:
        if continues:
            variables["messages"][-1]["content"] += _CONTINUED
        for piece in template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > _LONGEST_TEXT:
                return {"failed": "OutputTooLong"}
        text = "".join(pieces)
        return {"text": _until_continued(text) if continues else text}
    except _RaisedError as error:
        return {"raised": _one_line(error.message)}
    except Exception as error:  # whatever a template can bring about
        return {"failed": type(error).__name__}


def _until_continued(text: str) -> str:
    """A prompt up to the end of its last message."""
    end = text.rfind(_CONTINUED.strip())
    if end < 0:
        raise _RaisedError("the template leaves out the end of the message to continue")
    # Where the template has stripped the message, its own space at the end is not there either.
    return text[:end] if text.startswith(_CONTINUED, end) else text[:end].rstrip()


def _one_line(text: str | None) -> str:
    """A text without control characters, and not too long."""
    shown = " ".join(str(text).split())
    return "".join(each for each in shown if each.isprintable())[:_LONGEST_REASON]


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


def _raise_exception(message: Any) -> None:
    raise _RaisedError(str(message))


if __name__ == "__main__":
    main(sys.argv[1])
