"""A checkpoint's tokenizer, checked against the model, and its chat template."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.checkpoint.files import (
    CHAT_TEMPLATE,
    FETCH_AGAIN,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    find_file,
    find_tokenizer,
    read_json,
)
from falconry.data_files import project_file
from falconry.documents import MOST_TOKENIZER_BYTES, DocumentError, read_document_text
from falconry.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_FILE = "chat.json"
_PANIC = "PanicException"  # of Rust code, by PyO3, which has no module to import it from
_MOST_TEMPLATE_BYTES = 1 << 20  # published templates have at most 20 kB
# What renders the template in the server.
_CHAT_PROGRAM = "model_repository/preprocessing/1/chat_process.py"
_TRIAL_TIMEOUT_S = 60.0
_QUESTION = {"role": "user", "content": "What is a falcon?"}
_ANSWER = {"role": "assistant", "content": "A bird."}
_SYSTEM = {"role": "system", "content": "Answer briefly."}
# What a template has to render: a question, and the next one.
_TRIALS = ([_QUESTION], [_QUESTION, _ANSWER, _QUESTION])

_EXTRA_TOKENS = "extra_special_tokens"
# A configuration that has this is newer than special_tokens_map.json, which then says nothing.
_ADDED_TOKENS = "added_tokens_decoder"


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What an engine needs to know of a tokenizer.

    Attributes:
        vocab_size: one more than the largest token id.
    """

    path: Path
    vocab_size: int


def read_tokenizer(directory: Path, vocab_size: int) -> TokenizerFacts:
    """Reads the tokenizer and checks it against the embedding's rows.

    Raises:
        CheckpointError: the tokenizer is absent or damaged, or has tokens the model has no
            embedding for.
    """
    path = find_tokenizer(directory)
    tokenizer = load_tokenizer(path)
    facts = TokenizerFacts(path, max(tokenizer.get_vocab().values(), default=-1) + 1)
    require_embeddings(facts, vocab_size)
    return facts


def load_tokenizer(path: Path) -> Tokenizer:
    """Loads a tokenizer.json.

    Raises:
        CheckpointError: the tokenizers library does not take it.
    """
    from tokenizers import Tokenizer

    text = _text(path, MOST_TOKENIZER_BYTES)
    try:
        with _discard_standard_error():
            return Tokenizer.from_str(text)
    # The library raises bare Exception for a text that it cannot read. For some it panics: it
    # prints a trace of its own, and raises what is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise CheckpointError(
            f"is not accepted by transformers ({' '.join(str(error).split())})",
            where=path,
            remedy=FETCH_AGAIN,
        ) from error


@contextlib.contextmanager
def _discard_standard_error() -> Iterator[None]:
    """Discards what native code prints meanwhile."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def require_embeddings(tokenizer: TokenizerFacts, vocab_size: int) -> None:
    """Refuses a tokenizer with ids that the model has no embedding for."""
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"has token ids up to {tokenizer.vocab_size - 1}, but the model's vocab_size is "
            f"{vocab_size}",
            where=tokenizer.path,
            remedy="use the tokenizer the model was trained with, or resize the embedding",
        )


def find_chat(checkpoint: Path) -> dict[str, Any] | None:
    """A chat's template, which is not compiled, and its special tokens; None without a template.

    Raises:
        CheckpointError: the files that hold them are damaged, too long or links.
    """
    settings = _settings(checkpoint)
    template = _template(checkpoint, settings)
    if template is None:
        return None
    if len(template) > _MOST_TEMPLATE_BYTES:
        raise CheckpointError(
            f"has a chat_template of more than {_MOST_TEMPLATE_BYTES:,} characters",
            where=checkpoint / TOKENIZER_CONFIG,
        )
    return {"template": template, "special_tokens": _special_tokens(checkpoint, settings)}


def read_chat(checkpoint: Path) -> bytes | None:
    """Reads the contents of `chat.json`: the template and its special tokens, if any.

    Raises:
        CheckpointError: the server could not use the template: it does not compile, or renders no
            conversation.
    """
    chat = find_chat(checkpoint)
    if chat is None:
        return None
    content = f"{json.dumps(chat, indent=1)}\n".encode()
    if problem := _template_problem(content):
        own = checkpoint / CHAT_TEMPLATE
        raise CheckpointError(
            f"has a chat template that {problem}",
            where=own if own.is_file() else checkpoint / TOKENIZER_CONFIG,
            remedy="mend the template, or remove it to serve the model without chats",
        )
    return content


def write_chat(checkpoint: Path, engine: Path) -> None:
    """Writes `chat.json`, if there is a template; raises as `read_chat`."""
    content = read_chat(checkpoint)
    if content is not None:
        (engine / CHAT_FILE).write_bytes(content)


def _template_problem(content: bytes) -> str | None:
    """What is wrong with a template, by the served program, which limits its own time and memory.

    Compiling computes constants, so a template can already ask for too much there. It must render
    a question, and must not fail at the next one; with a system message in front if it needs that.
    """
    trials = [messages for each in _TRIALS for messages in (each, [_SYSTEM, *each])]
    answers = _answers(content, trials)
    if not answers:
        return "takes too much time or memory to compile"
    compiled, *rendered = answers
    if "ready" not in compiled:
        return f"does not compile: {_with_line(compiled, compiled['invalid'])}"
    for number in range(0, len(trials), 2):
        pair = rendered[number : number + 2]
        if any("text" in answer for answer in pair):
            continue
        if len(pair) < 2:
            return "takes too much time or memory for a short conversation"
        first = pair[0]
        if "failed" in first:
            reason = first.get("message") or first["failed"]
            return f"fails at a conversation: {_with_line(first, reason)}"
        if number == 0:
            return f"refuses every conversation: {first['raised']}"
    return None


def _answers(content: bytes, trials: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, Any]]:
    """The program's answers: to the template, then to each conversation until it was ended."""
    variables = {"tools": None, "documents": None, "add_generation_prompt": True}
    lines = [json.dumps({**variables, "messages": messages}) for messages in trials]
    with tempfile.NamedTemporaryFile(prefix="falconry-chat-", suffix=".json") as file:
        file.write(content)
        file.flush()
        try:
            ended = subprocess.run(
                [sys.executable, "-P", str(project_file(_CHAT_PROGRAM)), file.name],
                input="".join(f"{line}\n" for line in lines).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Nothing of this process's own: whoever wrote the template is not trusted.
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                timeout=_TRIAL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return []
    return [json.loads(line) for line in ended.stdout.splitlines()]


def _with_line(answer: Mapping[str, Any], reason: str) -> str:
    line = answer["line"]
    return reason if line is None else f"line {line}: {reason}"


def _settings(checkpoint: Path) -> Mapping[str, Any]:
    path = find_file(checkpoint, TOKENIZER_CONFIG)
    return read_json(path) if path else {}


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str | None:
    """The template; its own file wins over the setting (transformers 5.23)."""
    if path := find_file(checkpoint, CHAT_TEMPLATE):
        return _text(path, _MOST_TEMPLATE_BYTES)
    template = settings.get("chat_template")
    if isinstance(template, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in template
    ):
        template = {each["name"]: each.get("template") for each in template}
    if isinstance(template, dict):  # named templates: that named default is the one for chats
        template = template.get("default")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(
            f"has a chat_template that is neither a text nor named texts: {template!r}",
            where=checkpoint / TOKENIZER_CONFIG,
            remedy="write the template as a text, or remove it to serve the model without chats",
        )
    return template


def _text(path: Path, most_bytes: int) -> str:
    try:
        return read_document_text(path, most_bytes)
    except DocumentError as error:
        raise CheckpointError(str(error), where=path, remedy=FETCH_AGAIN) from error


def _special_tokens(checkpoint: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """The text of each special token that has a name (transformers 5.23, _from_pretrained).

    Names are the usual ones, others that end in `_token`, and those of a mapping of extra tokens.
    """
    named = dict(settings)
    older = find_file(checkpoint, SPECIAL_TOKENS)
    if older and _ADDED_TOKENS not in settings:
        named |= read_json(older)
    extra = named.get(_EXTRA_TOKENS)
    named |= extra if isinstance(extra, dict) else {}
    texts = {name: _token_text(token) for name, token in named.items() if _is_token(name, extra)}
    return {name: text for name, text in texts.items() if text is not None}


def _is_token(name: str, extra: object) -> bool:
    return name.endswith("_token") or (isinstance(extra, dict) and name in extra)


def _token_text(token: object) -> str | None:
    """A token's text; older files have an object with its `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
