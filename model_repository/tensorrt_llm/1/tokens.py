"""Which generated tokens the engine sends, and when.

`VisibleTokens` is for callers that decode every response alone, as the ensemble does;
`GeneratedTokens` for those that turn tokens into text themselves, as `tensorrt_llm_bls` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .text import VisibleText


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token with the logarithm of its probability."""

    token_id: int
    log_prob: float


class SentTokens(Protocol):
    """Decides which tokens are sent."""

    @property
    def stopped(self) -> bool:
        """Whether a stop word has come; nothing is to be added after that."""

    def add(self, token: Token) -> list[Token]:
        """Takes the next generated token and gives those to be sent now."""

    def finish(self) -> list[Token]:
        """Gives what is still to be sent when generation ends."""


def token_data(token_bytes: Sequence[bytes], token_id: int) -> bytes:
    """The bytes of a token; none for an unknown id."""
    return token_bytes[token_id] if 0 <= token_id < len(token_bytes) else b""


class GeneratedTokens:
    """Sends every token at once, as TensorRT-LLM's C++ backend does.

    Args:
        token_bytes: the bytes of each token id.
        stop_words: the words that end generation, none of them empty, as UTF-8.
    """

    def __init__(self, token_bytes: Sequence[bytes], stop_words: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._text = VisibleText(stop_words)

    @property
    def stopped(self) -> bool:
        """Whether a stop word has come; nothing is to be added after that."""
        return self._text.stopped

    def add(self, token: Token) -> list[Token]:
        """Takes the next generated token and gives it back."""
        self._text.add(token_data(self._token_bytes, token.token_id))
        return [token]

    def finish(self) -> list[Token]:
        """Nothing is ever held back."""
        return []


@dataclass(frozen=True, slots=True)
class _Held:
    token: Token
    data: bytes
    ends_character: bool


class VisibleTokens:
    """Holds tokens back until they are complete characters outside any stop word.

    Args:
        token_bytes: the bytes of each token id.
        stop_words: the words that end the text, none of them empty, as UTF-8.
        encode: turns text into token ids, for the part of a token before a stop word.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        stop_words: Sequence[bytes],
        encode: Callable[[str], list[int]],
    ) -> None:
        self._token_bytes = token_bytes
        self._encode = encode
        self._text = VisibleText(stop_words)
        self._held: list[_Held] = []
        # Of the held tokens' bytes, how many may be shown.
        self._shown = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop word has come; nothing is to be added after that."""
        return self._text.stopped

    def add(self, token: Token) -> list[Token]:
        """Takes the next generated token and gives those that are now visible."""
        data = token_data(self._token_bytes, token.token_id)
        self._shown += len(self._text.add(data))
        self._held.append(_Held(token, data, not self._text.within_character))
        return self._cut() if self._text.stopped else self._take()

    def finish(self) -> list[Token]:
        """Gives what is still held when generation ends, less an unfinished character."""
        self._shown += len(self._text.finish())
        return self._take()

    def _take(self) -> list[Token]:
        """Takes the held tokens that end a character within the visible bytes."""
        count = size = end = 0
        for index, held in enumerate(self._held, start=1):
            end += len(held.data)
            if end > self._shown:
                break
            if held.ends_character:
                count, size = index, end
        taken, self._held = self._held[:count], self._held[count:]
        self._shown -= size
        return [held.token for held in taken]

    def _cut(self) -> list[Token]:
        """Gives the tokens of exactly the visible text, its end encoded again."""
        taken = self._take()
        rest = b"".join(held.data for held in self._held)[: self._shown]
        self._held = []
        encoded = self._encode(rest.decode("utf-8", errors="ignore"))
        return taken + [Token(token_id, 0.0) for token_id in encoded]
