"""Renders one chat template, in a process that limits itself and may be killed.

    chat_process.py CHAT_JSON

A template is a program of whoever published the checkpoint, and neither jinja2's sandbox nor
Python can interrupt it: `{{ 10 ** 10 ** 9 }}` is a single operation. So the kernel does it, by
a timer that ends this process and a limit of its address space. Each line of standard input is a
JSON object of the template's variables, each line of standard output an object with one of
    text      the prompt
    raised    what the template itself says against these messages
    failed    the name of another failure, with its `message` and `line`
    ready     true, first of all, and `variables`, what the template reads
    invalid   what is wrong with the template, and `line`, where
`continue_final_message` is no variable: the prompt then ends within the last message, as
transformers' does.
The sandbox's options, functions and extensions are those that transformers gives it, and so are
the messages that a template sees (5.23, utils/chat_template_utils.py, `_compile_jinja_template` and
`_alias_reasoning_fields`; tokenization_utils_base.py, `apply_chat_template`).
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Template, meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_CPU_S = 1.0
# A process that gets no processor, or is stopped, is ended by chat.py.
_ADDRESS_SPACE = 256 << 20
# In characters; prompts.py refuses far less, with the numbers.
_LONGEST_TEXT = 4 << 20
_LONGEST_REASON = 200
_TEMPLATE = "<template>"  # how jinja2 calls the file of a template that is a text
# What transformers puts at the end of a message that is to be continued, to find it in the prompt.
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "
# The names of a message's reasoning, the usual one first.
_REASONING = ("reasoning_content", "thinking", "reasoning")


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
        variables["messages"] = [_message(each) for each in variables["messages"]]
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
        message, line = _one_line(str(error)), _template_line(error)
        return {"failed": type(error).__name__, "message": message, "line": line}


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a template sees it: no null, and its reasoning under every name."""
    message = {key: value for key, value in given.items() if value is not None}
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _template_line(error: Exception) -> int | None:
    """The line of the template in which an error was raised."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TEMPLATE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


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
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["dict"] = _Dictionaries()
    environment.globals["namespace"] = _Namespace
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Generation(Extension):
    """The tag `{% generation %}`, which marks what the model says and changes nothing here."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Any) -> Any:
        return caller()


class _Dictionaries:
    """The global `dict`: dictionaries, and nothing of the type itself."""

    def __call__(self, *arguments: Any, **values: Any) -> dict[Any, Any]:
        return dict(*arguments, **values)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """The global `namespace`, without names that begin with an underscore."""

    def __init__(*arguments: Any, **values: Any) -> None:
        self, *given = arguments  # a value may be called self
        named = dict(*given, **values)
        for name in named:
            _check_name(name)
        Namespace.__init__(self, named)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name with an underscore in front: {name}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which would change the prompt.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: Any) -> None:
    raise _RaisedError(str(message))


if __name__ == "__main__":
    main(sys.argv[1])
