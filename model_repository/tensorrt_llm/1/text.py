"""From generated tokens to tokens that may be shown: whole characters, and nothing of a stop word.

Works on bytes, because a token of a byte-level vocabulary can be a part of a character and a stop
word can begin in the middle of a token. Every step costs the same however long the text is.
"""

import codecs
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def read_token_bytes(tokenizer_file: Path) -> list[bytes]:
    """The bytes that each token id stands for; none for special tokens, which are never shown.

    Args:
        tokenizer_file: a `tokenizer.json` of a byte-level BPE, as every Falcon of 2023-24 has.

    Raises:
        ValueError: the vocabulary is not byte-level.
    """
    description = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    if '"ByteLevel"' not in json.dumps(description.get("decoder")):
        raise ValueError(f"{tokenizer_file}: only byte-level vocabularies can be served")
    byte_of = _byte_level_alphabet()
    vocabulary = description["model"]["vocab"]
    added = {token["id"]: token for token in description.get("added_tokens", [])}
    table = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for token, token_id in vocabulary.items():
        if token_id not in added:
            table[token_id] = bytes(byte_of[character] for character in token)
    for token_id, token in added.items():
        table[token_id] = b"" if token["special"] else token["content"].encode("utf-8")
    return table


def _byte_level_alphabet() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for.

    Printable Latin-1 bytes stand for themselves, the others for characters from U+0100 on (GPT-2's
    `bytes_to_unicode`, openai/gpt-2 src/encoder.py).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(others)}


@dataclass(frozen=True, slots=True)
class Token:
    """A token that may be shown, with the logarithm of its probability."""

    token_id: int
    log_prob: float


@dataclass(slots=True)
class _Held:
    token: Token
    data: bytes
    ends_character: bool


@dataclass(slots=True)
class VisibleTokens:
    """Holds tokens back until they end a character and can be no part of a stop word.

    Attributes:
        token_bytes: the bytes of each token id.
        stop_words: the words that end the text, none of them empty, as UTF-8.
        encode: turns text into token ids, for the part of a token before a stop word.
        stopped: whether a stop word has come; nothing is to be added after that.
    """

    token_bytes: Sequence[bytes]
    stop_words: Sequence[bytes]
    encode: Callable[[str], list[int]]
    stopped: bool = False
    _held: list[_Held] = field(default_factory=list)
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def add(self, token: Token) -> list[Token]:
        """Takes the next generated token and gives those that may be shown from now on."""
        in_table = 0 <= token.token_id < len(self.token_bytes)
        data = self.token_bytes[token.token_id] if in_table else b""
        self._decoder.decode(data)
        ends_character = not self._decoder.getstate()[0]
        self._held.append(_Held(token, data, ends_character))
        text = b"".join(held.data for held in self._held)
        starts = [start for word in self.stop_words if (start := text.find(word)) >= 0]
        if starts:
            self.stopped = True
            return self._cut(text[: min(starts)])
        return _tokens(self._take(len(text) - self._begun_stop_word(text)))

    def finish(self) -> list[Token]:
        """Gives what is still held when generation ends, less an unfinished character."""
        return _tokens(self._take(sum(len(held.data) for held in self._held)))

    def _begun_stop_word(self, text: bytes) -> int:
        """The length of the longest end of `text` that begins a stop word."""
        return max(
            (
                length
                for word in self.stop_words
                for length in range(1, len(word))
                if text.endswith(word[:length])
            ),
            default=0,
        )

    def _take(self, size: int) -> list[_Held]:
        """Takes the held tokens that end a character within the first `size` bytes."""
        count = end = 0
        for place, held in enumerate(self._held, start=1):
            end += len(held.data)
            if end > size:
                break
            if held.ends_character:
                count = place
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def _cut(self, text: bytes) -> list[Token]:
        """Gives the tokens of exactly this text: whole ones, then the rest encoded anew."""
        taken = self._take(len(text))
        rest = text[sum(len(held.data) for held in taken) :].decode("utf-8", errors="ignore")
        self._held = []
        return _tokens(taken) + [Token(token_id, 0.0) for token_id in self.encode(rest)]


def _tokens(taken: Sequence[_Held]) -> list[Token]:
    return [held.token for held in taken]
