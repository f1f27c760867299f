"""An answer as it grows: text from the engine's tokens, and its end."""

from collections.abc import Collection, Sequence
from typing import Literal

from .text import VisibleText

FinishReason = Literal["stop", "length", "cancelled"]


class Answer:
    """The text of one answer.

    Args:
        token_bytes: the bytes of each token id.
        stop_words: the words that end the text, none of them empty, as UTF-8.
        end_ids: the tokens that end the answer and are no part of it.
        max_tokens: how many tokens were requested.
        echo: the text before the answer: the prompt, or nothing.
        with_stop_word: whether the stop word or token that has ended the text is visible.

    Attributes:
        completion_tokens: the tokens so far, those of a stop word too, without the end token.
        cumulative: the sum of their log-probabilities.
        finish_reason: why the answer ended, None while it has not.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        stop_words: Sequence[bytes],
        end_ids: Collection[int],
        max_tokens: int,
        echo: str = "",
        *,
        with_stop_word: bool = False,
    ) -> None:
        self._token_bytes = token_bytes
        self._visible = VisibleText(stop_words, with_stop_word=with_stop_word)
        self._end_ids = frozenset(end_ids)
        self._with_stop_word = with_stop_word
        self._max_tokens = max_tokens
        self._text = [echo] if echo else []
        self._ids: list[int] = []
        self._log_probs: list[float] = []
        self._scored_tokens: list[bytes] = []
        self.completion_tokens = 0
        self.cumulative = 0.0
        self.finish_reason: FinishReason | None = None

    def add(self, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        """Takes the next tokens, up to the one that ends the answer.

        Args:
            ids: the tokens.
            log_probs: their log-probabilities, or nothing if they were not requested.
        """
        for index, token_id in enumerate(ids):
            if self.finish_reason:
                return
            in_table = 0 <= token_id < len(self._token_bytes)
            data = self._token_bytes[token_id] if in_table else b""
            if token_id in self._end_ids:
                if self._with_stop_word:
                    self._show(self._visible.add(data))
                self._finish("stop")
                return
            self.completion_tokens += 1
            self._ids.append(token_id)
            if index < len(log_probs):
                self._log_probs.append(log_probs[index])
                self._scored_tokens.append(data)
                self.cumulative += log_probs[index]
            self._show(self._visible.add(data))
            if self._visible.stopped:
                self.finish_reason = "stop"

    def end(self) -> None:
        """Notes that the engine sends no more tokens."""
        if not self.finish_reason:
            self._finish("length" if self.completion_tokens >= self._max_tokens else "stop")

    def cancel(self) -> None:
        """Notes that no more tokens are wanted."""
        if not self.finish_reason:
            self._finish("cancelled")

    @property
    def has_text(self) -> bool:
        """Whether there is text that has not been taken."""
        return bool(self._text)

    def take_text(self) -> str:
        """The text since the last call."""
        text = "".join(self._text)
        self._text.clear()
        return text

    def take_ids(self) -> list[int]:
        """The tokens since the last call."""
        ids, self._ids = self._ids, []
        return ids

    def take_log_probs(self) -> list[float]:
        """The log-probabilities since the last call, one for each token."""
        log_probs, self._log_probs = self._log_probs, []
        return log_probs

    def take_tokens(self) -> list[bytes]:
        """The bytes of those tokens, to be called together with `take_log_probs`."""
        tokens, self._scored_tokens = self._scored_tokens, []
        return tokens

    def _finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self._show(self._visible.finish())

    def _show(self, data: bytes) -> None:
        if data:
            # Like the tokenizers library, which puts U+FFFD for bytes that are no text.
            self._text.append(data.decode("utf-8", errors="replace"))
