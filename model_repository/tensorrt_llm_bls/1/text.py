"""From generated tokens to visible text: complete characters, no stop word.

Works on bytes, because a token can be a part of a character and a stop word can begin in the middle
of a token. Every step costs the same however long the text is.
"""

import codecs
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Special tokens of some vocabularies that are part of a text all the same: it calls a tool.
_SHOWN = frozenset({"<tool_call>", "</tool_call>"})
# How a vocabulary with byte fallback writes a byte that is no character alone.
_FALLBACK_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def read_token_bytes(tokenizer_file: Path) -> list[bytes]:
    """The bytes of each token id; none for special tokens, which are not visible.

    Args:
        tokenizer_file: a `tokenizer.json` whose vocabulary is byte-level, as every Falcon of
            2023-24 has, or has byte fallback, as those made with SentencePiece.

    Raises:
        ValueError: the vocabulary is of neither kind.
    """
    description = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    spelled = _speller(tokenizer_file, list(_steps(description.get("decoder") or {})))
    vocabulary = _vocabulary(description["model"]["vocab"])
    added = {token["id"]: token for token in description.get("added_tokens", [])}
    table = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for token, token_id in vocabulary.items():
        if token_id not in added:
            table[token_id] = spelled(token)
    for token_id, token in added.items():
        hidden = token["special"] and token["content"] not in _SHOWN
        table[token_id] = b"" if hidden else token["content"].encode("utf-8")
    return table


class VisibleText:
    """Holds bytes back until they are complete characters outside any stop word.

    Args:
        stop_words: the words that end the text, none of them empty, as UTF-8.
        with_stop_word: whether the one that has ended it is visible.

    Attributes:
        stopped: whether a stop word has come; nothing is to be added after that.
    """

    def __init__(self, stop_words: Sequence[bytes], *, with_stop_word: bool = False) -> None:
        self._words = _WordAutomaton(stop_words)
        self._with_stop_word = with_stop_word
        self._state = 0
        self._held = b""
        # Only its state is of use: what of the last bytes is an unfinished character.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.stopped = False

    @property
    def within_character(self) -> bool:
        """Whether the bytes so far end in the middle of a character."""
        return bool(self._decoder.getstate()[0])

    def add(self, data: bytes) -> bytes:
        """Takes the next bytes and gives those that are now visible.

        What is given never ends within a character, so each chunk may be decoded alone.
        """
        self._decoder.decode(data)
        found = self._first_stop_word(data)
        self._held += data
        if found is not None:
            self.stopped = True
            start, end = found
            return self._take(end if self._with_stop_word else start)
        unfinished = len(self._decoder.getstate()[0])
        return self._take(len(self._held) - max(unfinished, self._words.depth[self._state]))

    def finish(self) -> bytes:
        """Gives what is still held when nothing more comes, less an unfinished character."""
        return self._take(len(self._held) - len(self._decoder.getstate()[0]))

    def _take(self, size: int) -> bytes:
        taken = self._held[:size]
        self._held = b"" if self.stopped else self._held[size:]
        return taken

    def _first_stop_word(self, data: bytes) -> tuple[int, int] | None:
        """The first stop word that ends in the next bytes: its place in those held and these."""
        found = []
        for end, byte in enumerate(data, start=len(self._held) + 1):
            self._state = self._words.next_state(self._state, byte)
            if length := self._words.longest[self._state]:
                found.append((end - length, end))
        return min(found, default=None)


class _WordAutomaton:
    """Finds words in bytes that arrive piece by piece, one step a byte (Aho-Corasick).

    A state is the longest end of the bytes so far that begins a word; 0 is the empty one.

    Args:
        words: none of them empty.

    Attributes:
        depth: the length of each state.
        longest: the length of the longest word that each state ends with; 0 where none does.
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        self._next: list[dict[int, int]] = [{}]
        self.depth = [0]
        self.longest = [0]
        for word in words:
            self._add(word)
        self._shorter = self._shorter_states()

    def next_state(self, state: int, byte: int) -> int:
        """The state after one more byte."""
        while state and byte not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(byte, 0)

    def _add(self, word: bytes) -> None:
        state = 0
        for byte in word:
            if byte not in self._next[state]:
                self._next[state][byte] = len(self._next)
                self._next.append({})
                self.depth.append(self.depth[state] + 1)
                self.longest.append(0)
            state = self._next[state][byte]
        self.longest[state] = len(word)

    def _shorter_states(self) -> list[int]:
        """For each state the longest shorter state with the same end."""
        shorter = [0] * len(self._next)
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            self.longest[state] = self.longest[state] or self.longest[shorter[state]]
            for byte, following in self._next[state].items():
                other = shorter[state]
                while other and byte not in self._next[other]:
                    other = shorter[other]
                shorter[following] = self._next[other].get(byte, 0)
                waiting.append(following)
        return shorter


def _steps(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A decoder's steps, those of sequences one by one."""
    if decoder.get("type") == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    elif decoder:
        yield decoder


def _vocabulary(vocabulary: Mapping[str, int] | Sequence[Sequence[Any]]) -> Mapping[str, int]:
    """Token ids by token; a Unigram model lists tokens with scores."""
    if isinstance(vocabulary, Mapping):
        return vocabulary
    return {token: token_id for token_id, (token, _) in enumerate(vocabulary)}


def _speller(path: Path, steps: Sequence[Mapping[str, Any]]) -> Callable[[str], bytes]:
    """What gives the bytes of a token, by the decoder's steps.

    A step that strips the first space of a text is left out: generated text follows a
    prompt, and there the space belongs.
    """
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        byte_of = _byte_level_alphabet()
        return lambda token: bytes(byte_of[character] for character in token)
    if "ByteFallback" not in kinds:
        raise ValueError(
            f"{path}: only vocabularies that are byte-level or have byte fallback can be served"
        )
    replaced = [
        (step["pattern"]["String"], step["content"]) for step in steps if step["type"] == "Replace"
    ] + [(step["replacement"], " ") for step in steps if step["type"] == "Metaspace"]

    def spelled(token: str) -> bytes:
        if byte := _FALLBACK_BYTE.fullmatch(token):
            return bytes([int(byte[1], 16)])
        for old, new in replaced:
            token = token.replace(old, new)
        return token.encode("utf-8")

    return spelled


def _byte_level_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary represents.

    Printable Latin-1 bytes represent themselves; the others have characters from U+0100 on (GPT-2's
    `bytes_to_unicode`, openai/gpt-2 src/encoder.py).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(others)}
