"""Checks a prompt, its words and limits; independent of Triton and tokenizers.

Sizes and counts are checked before anything is decoded, parsed or encoded: one request must not
hold up the others.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .refusal import RefusedError

# Of stop words and of bad words each. Together they cost the engine work for every token.
MAX_WORDS = 128
MAX_WORD_BYTES = 256
# Common text has 2 to 6 bytes a token. A prompt beyond this is refused unread: encoding takes about
# a second for each megabyte, while other requests wait.
_BYTES_A_TOKEN = 16
# The JSON text of messages also has roles, punctuation and escapes.
_MESSAGES_A_PROMPT = 4
# Cuts a prompt to the longest that the engine takes, as vLLM's.
_TRUNCATED_TO_FIT = -1
_MOST_STOP_TOKENS = 128
NO_TOKEN = -1  # as an end id: nothing ends the answer


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine takes, in tokens, and the checkpoint's end and pad ids."""

    max_input_len: int
    max_seq_len: int
    vocab_size: int
    end_ids: tuple[int, ...]
    pad_id: int

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> "Limits":
        """Reads the limits from the model configuration's parameters, written at assembly."""
        return cls(
            max_input_len=int(parameters["max_input_len"]),
            max_seq_len=int(parameters["max_seq_len"]),
            vocab_size=int(parameters["vocab_size"]),
            end_ids=tuple(json.loads(parameters["end_ids"])),
            pad_id=int(parameters["pad_id"]),
        )

    def ends(self, end_id: int | None) -> tuple[int, ...]:
        """The tokens that end an answer, given the request's `end_id`.

        All of the checkpoint's, unless the request names a token that is none of them (-1: none).
        """
        if end_id is None or end_id in self.end_ids:
            return self.end_ids
        return (end_id,)

    def check_messages(self, messages: str, given: str = "messages") -> None:
        """Refuses a JSON text of messages or options that is too long to be parsed."""
        self._check_size(given, messages, _MESSAGES_A_PROMPT)

    def check_text(self, given: str, text: str) -> None:
        """Refuses a text that is too long to be encoded, or holds half of a character."""
        self._check_size(given, text, 1)

    def _check_size(self, given: str, text: str, times: int) -> None:
        try:
            size = len(text) if text.isascii() else len(text.encode("utf-8"))
        except UnicodeEncodeError:
            raise RefusedError(f"{given} holds half of a character (a lone surrogate)") from None
        most = times * _BYTES_A_TOKEN * self.max_input_len
        if size > most:
            raise RefusedError(
                f"{given} has {size} bytes and this engine takes at most {most} "
                f"({self.max_input_len} tokens)"
            )

    def truncated(self, prompt: "Prompt", input_ids: list[int]) -> list[int]:
        """The last tokens of a prompt, where the request allows to leave out the first ones."""
        most = prompt.truncates_to
        if most is None:
            return input_ids
        return input_ids[-(self.max_input_len if most == _TRUNCATED_TO_FIT else most) :]

    def max_tokens(self, prompt: "Prompt", prompt_tokens: int) -> int:
        """How many tokens the answer may have at most.

        Raises:
            RefusedError: prompt or answer do not fit; with the numbers.
        """
        given, max_tokens = prompt.given, prompt.max_tokens
        if prompt_tokens == 0:
            raise RefusedError(f"{given} is empty: give at least one character")
        if prompt_tokens > self.max_input_len:
            raise RefusedError(
                f"{given} has {prompt_tokens} tokens and this engine takes {self.max_input_len}"
            )
        if max_tokens < 1:
            raise RefusedError(f"max_tokens is {max_tokens}: ask for at least 1")
        if prompt.fits_max_tokens:
            max_tokens = min(max_tokens, self.max_seq_len - prompt_tokens)
        if prompt_tokens + max_tokens > self.max_seq_len:
            raise RefusedError(
                f"max_tokens is {max_tokens}, but with a prompt of {prompt_tokens} tokens this "
                f"engine can add {self.max_seq_len - prompt_tokens} at most "
                f"({self.max_seq_len} tokens in all)"
            )
        return max_tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as it came: text or messages, stop and bad words.

    Attributes:
        given: the input that holds the text, by its name in the ensemble.
        text: the prompt itself, or the JSON text of the messages; empty with `input_ids`.
        input_ids: the prompt where a client has tokenised it.
        bias_words: what is made likelier or less likely, by the weight of the same place.
        fits_max_tokens: whether `max_tokens` becomes less where the engine's sequences end, as in
            TensorRT-LLM (1.0.0, llmRequest.h), instead of a refusal.
        chat_options: the JSON text of what the chat template is given beside the messages.
        truncates_to: how many of the prompt's last tokens are left; -1 what the engine takes.
        stop_token_ids: tokens that end the answer, beside the end token.
    """

    given: str
    text: str
    max_tokens: int
    bad_words: tuple[str, ...]
    stop_words: tuple[str, ...]
    end_id: int | None
    pad_id: int | None
    bias_words: tuple[str, ...] = ()
    bias_weights: tuple[float, ...] = ()
    input_ids: tuple[int, ...] | None = None
    fits_max_tokens: bool = True
    chat_options: str = "{}"
    truncates_to: int | None = None
    stop_token_ids: tuple[int, ...] = ()

    @classmethod
    def from_tensors(cls, tensor: Callable[[str], np.ndarray | None]) -> "Prompt":
        """Reads a prompt from the request's tensors, shape [1, n] each.

        Raises:
            RefusedError: no prompt or more than one, text that is not UTF-8, or logits requested.
        """
        for name in ("return_context_logits", "return_generation_logits"):
            if _number(name, tensor(name.upper())):
                raise RefusedError(f"{name} can only be False: the engine gathers no logits")
        ids = tensor("INPUT_IDS")
        given, text = _text(tensor("QUERY"), tensor("MESSAGES"), ids)
        stop_ids = tensor("STOP_TOKEN_IDS")
        if stop_ids is not None and stop_ids.size > _MOST_STOP_TOKENS:
            raise RefusedError(
                f"stop_token_ids holds {stop_ids.size} tokens; at most {_MOST_STOP_TOKENS} are "
                "possible"
            )
        options = tensor("CHAT_OPTIONS")
        truncates_to = _number("truncate_prompt_tokens", tensor("TRUNCATE_PROMPT_TOKENS"))
        if truncates_to is not None and truncates_to < 1 and truncates_to != _TRUNCATED_TO_FIT:
            raise RefusedError(f"truncate_prompt_tokens is {truncates_to}: give 1 or more, or -1")
        bias_words, bias_weights = _bias(
            tensor("EMBEDDING_BIAS_WORDS"), tensor("EMBEDDING_BIAS_WEIGHTS")
        )
        return cls(
            given=given,
            text=text,
            input_ids=None if ids is None else tuple(ids.reshape(-1).tolist()),
            chat_options="{}" if options is None else _texts("chat_options", options)[0],
            truncates_to=truncates_to,
            stop_token_ids=() if stop_ids is None else tuple(stop_ids.reshape(-1).tolist()),
            max_tokens=_required("max_tokens", tensor("REQUEST_OUTPUT_LEN")),
            bad_words=_words("bad_words", tensor("BAD_WORDS_DICT")),
            stop_words=_words("stop_words", tensor("STOP_WORDS_DICT")),
            end_id=_number("end_id", tensor("END_ID")),
            pad_id=_number("pad_id", tensor("PAD_ID")),
            bias_words=bias_words,
            bias_weights=bias_weights,
        )

    @property
    def is_chat(self) -> bool:
        """Whether the text is messages, for the chat template."""
        return self.given == "messages"


def _text(
    query: np.ndarray | None, messages: np.ndarray | None, ids: np.ndarray | None
) -> tuple[str, str]:
    """The input that counts, and its text; messages come before text."""
    found = {}
    for name, values in (("text_input", query), ("messages", messages)):
        if values is not None:
            if values.size != 1:
                raise RefusedError(
                    f"{name} holds {values.size} prompts: send one a request "
                    "(requests are batched in flight)"
                )
            found[name] = _texts(name, values)[0]
    if ids is not None:
        if any(found.values()):
            raise RefusedError("give either input_ids or a text, and leave the other one out")
        return "input_ids", ""
    if not found:
        raise RefusedError("give text_input or messages")
    if "messages" not in found:
        return "text_input", found["text_input"]
    if found.get("text_input"):
        raise RefusedError("give either text_input or messages, and leave the other one empty")
    return "messages", found["messages"]


def _words(name: str, values: np.ndarray | None) -> tuple[str, ...]:
    if values is None:
        return ()
    if values.size > MAX_WORDS:
        raise RefusedError(f"{name} holds {values.size} words; at most {MAX_WORDS} are possible")
    longest = max(map(len, values.reshape(-1)), default=0)
    if longest > MAX_WORD_BYTES:
        raise RefusedError(
            f"{name} holds a word of {longest} bytes; at most {MAX_WORD_BYTES} are possible"
        )
    return _texts(name, values)


def _bias(
    words: np.ndarray | None, weights: np.ndarray | None
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    numbers = [] if weights is None else weights.reshape(-1).tolist()
    texts = _words("embedding_bias_words", words)
    if len(texts) != len(numbers):
        raise RefusedError(
            f"embedding_bias_words holds {len(texts)} words and embedding_bias_weights "
            f"{len(numbers)} values: give as many of both"
        )
    if not all(map(math.isfinite, numbers)):
        raise RefusedError("embedding_bias_weights holds a value that is not finite")
    return texts, tuple(numbers)


def _texts(name: str, values: np.ndarray) -> tuple[str, ...]:
    try:
        return tuple(bytes(value).decode("utf-8") for value in values.reshape(-1))
    except UnicodeDecodeError as error:
        raise RefusedError(f"{name} is not valid UTF-8 (byte {error.start})") from None


def _required(name: str, values: np.ndarray | None) -> int:
    number = _number(name, values)
    if number is None:
        raise RefusedError(f"{name} is missing")
    return number


def _number(name: str, values: np.ndarray | None) -> int | None:
    if values is None:
        return None
    if values.size != 1:
        raise RefusedError(f"{name} holds {values.size} values: give one")
    return int(values.reshape(-1)[0])
