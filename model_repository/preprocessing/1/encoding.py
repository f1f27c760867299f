"""Encodes texts as token ids, a batch in one call to the tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Text:
    """A text to encode.

    Attributes:
        content: the text.
        special: whether the checkpoint's tokenizer may add its special tokens. Prompts get
            them; words have none, and a chat template writes its own.
    """

    content: str
    special: bool = False


class Encoder:
    """The checkpoint's tokenizer.

    Args:
        path: its `tokenizer.json`.

    Attributes:
        vocab_size: how many tokens it has.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        # A setting of the checkpoint's for training; a prompt must never be cut silently.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._special = {
            token.content: token_id
            for token_id, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        self._adds_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False) > 0

    def encode(self, texts: Sequence[Text]) -> Iterator[list[int]]:
        """The token ids of each text, in the texts' order.

        Takes one call, or two where the tokenizer adds special tokens (no Falcon's does).
        """
        if not self._adds_tokens:
            ids = self._ids([text.content for text in texts], special=False)
            return (ids[text.content] for text in texts)
        plain = self._ids([text.content for text in texts if not text.special], special=False)
        special = self._ids([text.content for text in texts if text.special], special=True)
        return ((special if text.special else plain)[text.content] for text in texts)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def special_in(self, text: str) -> list[int]:
        """The special tokens that a text holds, without the rest of it."""
        return [token_id for token, token_id in self._special.items() if token in text]

    def text_of(self, token_id: int) -> str:
        """How a token is written, special or not."""
        return str(self._tokenizer.id_to_token(token_id))

    def special_of(self, ids: Sequence[int]) -> list[int]:
        """Those of the tokens that are special, and so never shown."""
        return [token_id for token_id in ids if token_id in self._special.values()]

    def _ids(self, texts: list[str], *, special: bool) -> dict[str, list[int]]:
        """The ids by text; requests of a batch often share stop words."""
        distinct = list(dict.fromkeys(texts))
        # The fast variant leaves out the offsets, which are not used here.
        encodings = self._tokenizer.encode_batch_fast(distinct, add_special_tokens=special)
        return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}
