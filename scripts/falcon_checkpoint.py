"""How the scripts here write a Falcon checkpoint: its tokenizer, JSON files and directory.

Byte-level BPE tokenizers with Falcon's special tokens; each script brings its own vocabulary.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Ids 0 to 11 of every TII Falcon tokenizer, in order (tokenizer.json of tiiuae/falcon-7b).
SPECIAL_TOKENS = (
    ">>TITLE<<",
    ">>ABSTRACT<<",
    ">>INTRODUCTION<<",
    ">>SUMMARY<<",
    ">>COMMENT<<",
    ">>ANSWER<<",
    ">>QUESTION<<",
    ">>DOMAIN<<",
    ">>PREFIX<<",
    ">>SUFFIX<<",
    ">>MIDDLE<<",
    "<|endoftext|>",
)
END_OF_TEXT_ID = 11

# The dialogue form of the instruct models: "User: ...\nFalcon: ...".
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Falcon: ' + message['content'] }}"
    "{% elif message['role'] == 'system' %}{{ 'System: ' + message['content'] }}"
    "{% else %}{{ raise_exception('Only system, user and assistant messages are known.') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nFalcon:' }}{% endif %}"
)

NUMBERS_OVER_LINES = re.compile(r"\[[\d\s,]+\]")


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that restores any text byte for byte: no prefix space, no clean-up."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE: Falcon's special tokens, then the 256 bytes, then merges."""
    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_positions: int) -> None:
    """Write tokenizer.json and the tokenizer_config.json that transformers reads it with."""
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "add_prefix_space": False,
        "additional_special_tokens": list(SPECIAL_TOKENS[:END_OF_TEXT_ID]),
        "bos_token": SPECIAL_TOKENS[END_OF_TEXT_ID],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL_TOKENS[END_OF_TEXT_ID],
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_positions,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(directory / "tokenizer_config.json", config)


def write_json(path: Path, content: object) -> None:
    """Write indented JSON, each list of integers on one line."""
    indented = json.dumps(content, indent=2, ensure_ascii=False)
    text = NUMBERS_OVER_LINES.sub(lambda numbers: json.dumps(json.loads(numbers[0])), indented)
    path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """Give a temporary directory, and rename it to `target` at the end of the block.

    If the block raises, `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        yield fresh
        for file in fresh.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner can read
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
