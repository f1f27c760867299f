"""Prompts as the engine's model takes them, all of a batch encoded together.

Knows nothing of Triton. Used by preprocessing and by the front model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .chat import ChatTemplate, read_messages, read_options
from .encoding import Encoder, Text
from .prompts import NO_TOKEN, Limits, Prompt
from .refusal import RefusedError
from .turns import Turns
from .words import flat_word_list, word_forms


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt with every text of it that is to be encoded."""

    prompt: Prompt
    text: Text
    bad_words: tuple[Text, ...]
    stop_words: tuple[Text, ...]
    bias_words: tuple[Text, ...]

    @property
    def texts(self) -> list[Text]:
        """The prompt's text, then those of the words."""
        return [self.text, *self.bad_words, *self.stop_words, *self.bias_words]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as the engine's model takes it.

    Attributes:
        text: the prompt itself, or what the messages became.
        warning: what of the request was changed, if anything.
        bad_words: int32 [2, n] as in `words.flat_word_list`; so is `stop_words`.
        embedding_bias: float32, what each token's logit is raised by; empty for nothing.
        end_id: what the engine is told; -1 for no token.
        end_ids: all tokens that end the answer, `end_id` among them.
        stop_texts: the words that end the answer's text, those of chats included.
        watched: whether the engine does not know all that ends the answer.
    """

    text: str
    input_ids: list[int]
    max_tokens: int
    bad_words: np.ndarray
    stop_words: np.ndarray
    embedding_bias: np.ndarray
    end_id: int
    end_ids: tuple[int, ...]
    pad_id: int
    stop_texts: tuple[str, ...] = ()
    watched: bool = False
    warning: str | None = None


class Preparation:
    """What is the same for all prompts: tokenizer, chat template, limits.

    Args:
        directory: has `tokenizer.json`, and `chat.json` where the checkpoint has a template.
        parameters: of the model's configuration, written at assembly.
    """

    def __init__(self, directory: Path, parameters: Mapping[str, str]) -> None:
        self._limits = Limits.from_parameters(parameters)
        # What the engine compares words with: the text, or its own tokens.
        self._spaced = parameters["words_are_compared_as"] == "tokens"
        self._encoder = Encoder(directory / "tokenizer.json")
        chat = directory / "chat.json"
        self._chat = ChatTemplate.read(chat) if chat.is_file() else None
        self._turns = Turns.of(self._chat, self._encoder, self._limits.end_ids)

    def close(self) -> None:
        """Ends the chat template's process."""
        if self._chat is not None:
            self._chat.close()

    def draft(self, prompt: Prompt) -> Draft:
        """The texts of a prompt.

        Raises:
            RefusedError: messages that cannot be rendered, or more text than the engine takes.
        """
        content = self._rendered(prompt) if prompt.is_chat else prompt.text
        self._limits.check_text(prompt.given, content)
        self._check_ids(prompt)
        text = Text(content, special=not prompt.is_chat)
        return Draft(
            prompt,
            text,
            bad_words=self._words(prompt.bad_words),
            stop_words=self._words(self._stop_texts(prompt)),
            bias_words=tuple(map(Text, prompt.bias_words)),
        )

    def finish(self, drafts: Sequence[Draft]) -> list[Prepared | RefusedError]:
        """Encodes everything in one call; gives each prompt or its refusal."""
        ids = self._encoder.encode([text for draft in drafts for text in draft.texts])
        finished: list[Prepared | RefusedError] = []
        for draft in drafts:
            sequences = [next(ids) for _ in draft.texts]
            try:
                finished.append(self._prepared(draft, sequences))
            except RefusedError as refusal:
                finished.append(refusal)
        return finished

    def _prepared(self, draft: Draft, sequences: list[list[int]]) -> Prepared:
        prompt, (input_ids, *words) = draft.prompt, sequences
        text = draft.text.content
        if prompt.input_ids is not None:
            input_ids, text = list(prompt.input_ids), self._encoder.decode(prompt.input_ids)
        input_ids = self._limits.truncated(prompt, input_ids)
        max_tokens = self._limits.max_tokens(prompt, len(input_ids))
        bad, stop = len(draft.bad_words), len(draft.bad_words) + len(draft.stop_words)
        ends = self._limits.ends(prompt.end_id)
        end_id = next(iter(ends), NO_TOKEN) if prompt.end_id is None else prompt.end_id
        further = [*dict.fromkeys(prompt.stop_token_ids + self._turns_of(prompt).ids)]
        # NVIDIA's backend takes one end token, and others as stop words. The CPU engine knows the
        # checkpoint's, and takes special tokens as stop words; of others it would look for text.
        told = [*ends, *further] if self._spaced else self._encoder.special_of(further)
        return Prepared(
            text=text,
            input_ids=input_ids,
            max_tokens=max_tokens,
            bad_words=flat_word_list(words[:bad]),
            stop_words=flat_word_list(
                [*words[bad:stop], *([token_id] for token_id in told if token_id != end_id)]
            ),
            embedding_bias=self._bias(prompt.bias_weights, words[stop:]),
            end_id=end_id,
            end_ids=(*ends, *further),
            pad_id=self._limits.pad_id if prompt.pad_id is None else prompt.pad_id,
            stop_texts=self._stop_texts(prompt),
            watched=not set(further) <= set(told),
            warning=_warning(prompt.max_tokens, max_tokens, len(input_ids)),
        )

    def _bias(self, weights: Sequence[float], words: Sequence[Sequence[int]]) -> np.ndarray:
        """The weight of each word for each of its tokens, as NVIDIA's preprocessing adds them."""
        bias = np.zeros(self._limits.vocab_size if words else 0, np.float32)
        for weight, ids in zip(weights, words, strict=True):
            for token_id in ids:
                bias[token_id] += weight
        return bias

    def _rendered(self, prompt: Prompt) -> str:
        if self._chat is None:
            raise RefusedError("messages: this checkpoint has no chat template; send text_input")
        self._limits.check_messages(prompt.text)
        self._limits.check_messages(prompt.chat_options, "chat_options")
        return self._chat.render(read_messages(prompt.text), read_options(prompt.chat_options))

    def _stop_texts(self, prompt: Prompt) -> tuple[str, ...]:
        return prompt.stop_words + self._turns_of(prompt).texts

    def _turns_of(self, prompt: Prompt) -> Turns:
        """What ends a message by itself; nothing where not even the end token is to."""
        return self._turns if prompt.is_chat and prompt.end_id != NO_TOKEN else Turns()

    def _check_ids(self, prompt: Prompt) -> None:
        for name, ids in (
            ("input_ids", prompt.input_ids or ()),
            ("stop_token_ids", prompt.stop_token_ids),
        ):
            for token_id in ids:
                if not 0 <= token_id < self._encoder.vocab_size:
                    raise RefusedError(
                        f"{name} holds {token_id}; the vocabulary has "
                        f"{self._encoder.vocab_size} tokens"
                    )

    def _words(self, words: Sequence[str]) -> tuple[Text, ...]:
        return tuple(Text(form) for form in word_forms(words, spaced=self._spaced))


def _warning(requested: int, max_tokens: int, prompt_tokens: int) -> str | None:
    if requested == max_tokens:
        return None
    return (
        f"max_tokens is {requested} and becomes {max_tokens}: with a prompt of {prompt_tokens} "
        "tokens the engine's sequences end there"
    )
