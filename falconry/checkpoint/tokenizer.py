"""A checkpoint's tokenizer, checked against the model, and its chat template."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.checkpoint.files import (
    CHAT_TEMPLATE,
    FETCH_AGAIN,
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
_COMPILE_TIMEOUT_S = 60.0

# The names under which templates may ask for special tokens
# (transformers 5.23, tokenization_utils_base.py, SPECIAL_TOKENS_ATTRIBUTES).
_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


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
    return {"template": template, "special_tokens": _special_tokens(settings)}


def read_chat(checkpoint: Path) -> bytes | None:
    """Reads the contents of `chat.json`: the template and its special tokens, if any.

    Raises:
        CheckpointError: the template does not compile as the server compiles it.
    """
    chat = find_chat(checkpoint)
    if chat is None:
        return None
    content = f"{json.dumps(chat, indent=1)}\n".encode()
    if problem := _compile_problem(content):
        own = checkpoint / CHAT_TEMPLATE
        raise CheckpointError(
            f"has a chat template that does not compile: {problem}",
            where=own if own.is_file() else checkpoint / TOKENIZER_CONFIG,
            remedy="mend the template, or remove it to serve the model without chats",
        )
    return content


def write_chat(checkpoint: Path, engine: Path) -> None:
    """Writes `chat.json`, if there is a template; raises as `read_chat`."""
    content = read_chat(checkpoint)
    if content is not None:
        (engine / CHAT_FILE).write_bytes(content)


def _compile_problem(content: bytes) -> str | None:
    """What is wrong with a template, by the served program, which limits its own time and memory.

    Compiling computes constants, so a template can already ask for too much there.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-P", str(project_file(_CHAT_PROGRAM)), "/dev/stdin"],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of this process's own: whoever wrote the template is not trusted.
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "it takes too much time"
    first_line = ended.stdout.partition(b"\n")[0]
    if not first_line:
        return "it takes too much time or memory"
    answer = json.loads(first_line)
    if "ready" in answer:
        return None
    line = "" if answer["line"] is None else f"line {answer['line']}: "
    return f"{line}{answer['invalid']}"


def _settings(checkpoint: Path) -> Mapping[str, Any]:
    path = find_file(checkpoint, TOKENIZER_CONFIG)
    return read_json(path) if path else {}


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str | None:
    """The template; its own file wins over the setting (transformers 5.23)."""
    if path := find_file(checkpoint, CHAT_TEMPLATE):
        return _text(path, _MOST_TEMPLATE_BYTES)
    template = settings.get("chat_template")
    if isinstance(template, list):  # named templates: that named default is the one for chats
        named = [each for each in template if isinstance(each, dict)]
        default = [each for each in named if each.get("name") == "default"]
        template = default[-1].get("template") if default else None
    if template is not None and not isinstance(template, str):
        raise CheckpointError(
            "has a chat_template that is no text", where=checkpoint / TOKENIZER_CONFIG
        )
    return template


def _text(path: Path, most_bytes: int) -> str:
    try:
        return read_document_text(path, most_bytes)
    except DocumentError as error:
        raise CheckpointError(str(error), where=path, remedy=FETCH_AGAIN) from error


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Each token's text; older files have an object with its `content`."""
    found = {name: settings.get(name) for name in _SPECIAL_TOKENS}
    texts = {
        name: token.get("content") if isinstance(token, dict) else token
        for name, token in found.items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}
