"""A checkpoint's chat template as the server needs it: one file, whatever files it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from falconry.checkpoint.files import CHAT_TEMPLATE, TOKENIZER_CONFIG, read_json
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


def write_chat(checkpoint: Path, engine: Path) -> None:
    """Writes `chat.json`, the template and the special tokens it may name; nothing without one.

    Raises:
        CheckpointError: tokenizer_config.json is damaged, or its template is none.
    """
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
    """The template; a file of its own wins over the setting, as in transformers 5.23."""
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
