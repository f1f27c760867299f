"""Log-probabilities in OpenAI's forms, for the tokens that an answer's text shows.

Two forms: that of completions (types/completion_choice.py) and that of chats
(types/chat/chat_completion_token_logprob.py of openai-python 3.54.0). A token that is
a part of a character is written by its bytes, each as a backslash, an x and two digits (OpenAI
Cookbook, "Using logprobs"); in completions after `bytes:` (inferred from published answers).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from front_model import Token


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token whose text is shown, or at least begins to be.

    Attributes:
        token: the token.
        offset: in which character of the answer it begins.
    """

    token: Token
    offset: int


class ShownTokens:
    """Gives an answer's tokens along with their text.

    Tokens come as they are generated, text once it is known to be no stop word: what is given is
    every token that begins within the text, and so none of those that make a stop word alone.
    """

    def __init__(self) -> None:
        self._waiting: deque[Token] = deque()
        self._shown_bytes = self._taken_bytes = 0
        self._characters = 0

    def take(self, text: str, tokens: Iterable[Token]) -> list[ShownToken]:
        """Takes text and tokens; gives those that begin within the text."""
        self._waiting.extend(tokens)
        self._shown_bytes += len(text.encode("utf-8"))
        taken = []
        while self._waiting and self._taken_bytes < self._shown_bytes:
            taken.append(self._next())
        return taken

    def _next(self) -> ShownToken:
        token = self._waiting.popleft()
        inside = bool(token.data) and _continues(token.data[0])
        shown = ShownToken(token, self._characters - inside)
        self._taken_bytes += len(token.data)
        self._characters += sum(not _continues(byte) for byte in token.data)
        return shown


def completion_log_probs(shown: Sequence[ShownToken], top: int) -> dict[str, Any]:
    """The form of completions; with `top` 1 the chosen tokens are the likeliest."""
    names = [_name(each.token.data, "bytes:") for each in shown]
    values = [each.token.log_prob for each in shown]
    likeliest = [{name: value} for name, value in zip(names, values, strict=True)]
    return {
        "tokens": names,
        "token_logprobs": values,
        "text_offset": [each.offset for each in shown],
        "top_logprobs": likeliest if top else None,
    }


def chat_log_probs(shown: Sequence[ShownToken]) -> dict[str, Any]:
    """The form of chats."""
    content = [
        {
            "token": _name(each.token.data),
            "bytes": list(each.token.data),
            "logprob": each.token.log_prob,
            "top_logprobs": [],
        }
        for each in shown
    ]
    return {"content": content, "refusal": None}


def _name(data: bytes, mark: str = "") -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return mark + "".join(f"\\x{byte:02x}" for byte in data)


def _continues(byte: int) -> bool:
    """Whether a byte is not the first one of a character in UTF-8."""
    return byte & 0xC0 == 0x80
