"""A checkpoint's tokenizer, checked against the model, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.checkpoint.files import CHAT_TEMPLATE, TOKENIZER_CONFIG, find_tokenizer, read_json
from falconry.errors import CheckpointError

CHAT_FILE = "chat.json"

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
    from tokenizers import Tokenizer

    path = find_tokenizer(directory)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The tokenizers library raises bare Exception for a file it cannot read.
    except Exception as error:
        raise CheckpointError(
            f"is not accepted by transformers ({' '.join(str(error).split())})",
            where=path,
            remedy="fetch the tokenizer's files again",
        ) from error
    facts = TokenizerFacts(path, max(tokenizer.get_vocab().values(), default=-1) + 1)
    require_embeddings(facts, vocab_size)
    return facts


def require_embeddings(tokenizer: TokenizerFacts, vocab_size: int) -> None:
    """Refuses a tokenizer with ids that the model has no embedding for."""
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"has token ids up to {tokenizer.vocab_size - 1}, but the model's vocab_size is "
            f"{vocab_size}",
            where=tokenizer.path,
            remedy="use the tokenizer the model was trained with, or resize the embedding",
        )


def write_chat(checkpoint: Path, engine: Path) -> None:
    """Writes `chat.json`: the template and its special tokens, if any."""
    settings = _settings(checkpoint)
    template = _template(checkpoint, settings)
    if template is None:
        return
    chat = {"template": template, "special_tokens": _special_tokens(settings)}
    (engine / CHAT_FILE).write_text(json.dumps(chat, indent=1) + "\n", encoding="utf-8")


def _settings(checkpoint: Path) -> Mapping[str, Any]:
    path = checkpoint / TOKENIZER_CONFIG
    return read_json(path) if path.is_file() else {}


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str | None:
    """The template; its own file wins over the setting (transformers 5.23)."""
    path = checkpoint / CHAT_TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # named templates: that named default is the one for chats
        named = {each.get("name"): each.get("template") for each in template}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(
            "has a chat_template that is no text", where=checkpoint / TOKENIZER_CONFIG
        )
    return template


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Each token's text; older files have an object with its `content`."""
    found = {name: settings.get(name) for name in _SPECIAL_TOKENS}
    texts = {
        name: token.get("content") if isinstance(token, dict) else token
        for name, token in found.items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}
