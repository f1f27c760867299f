"""A prompt with its words and limits, checked and encoded; knows nothing of Triton."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from tokenizers import Tokenizer

# What Triton's own front ends and clients put among a request's parameters. Anything else came
# from a JSON field that is no input of the model: a typing error must not be ignored.
KNOWN_PARAMETERS = frozenset(
    {
        "id",
        "binary_data_output",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "triton_enable_empty_final_response",
    }
)


class RefusedError(Exception):
    """A request that is wrong; the message says which input and why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine takes, in tokens, and the checkpoint's end and pad ids."""

    max_input_len: int
    max_seq_len: int
    end_id: int
    pad_id: int

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> "Limits":
        """Reads the limits from the model configuration's parameters, written at assembly."""
        return cls(**{field.name: int(parameters[field.name]) for field in fields(cls)})

    def check(self, prompt_tokens: int, max_tokens: int) -> None:
        """Refuses what does not fit, with the numbers."""
        if prompt_tokens == 0:
            raise RefusedError("text_input is empty: give at least one character")
        if prompt_tokens > self.max_input_len:
            raise RefusedError(
                f"text_input has {prompt_tokens} tokens and this engine takes {self.max_input_len}"
            )
        if max_tokens < 1:
            raise RefusedError(f"max_tokens is {max_tokens}: ask for at least 1")
        if prompt_tokens + max_tokens > self.max_seq_len:
            raise RefusedError(
                f"max_tokens is {max_tokens}, but with a prompt of {prompt_tokens} tokens this "
                f"engine can add {self.max_seq_len - prompt_tokens} at most "
                f"({self.max_seq_len} tokens in all)"
            )


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as it came: text, and the words that stop it or must not come."""

    text: str
    max_tokens: int
    bad_words: tuple[str, ...]
    stop_words: tuple[str, ...]
    end_id: int | None
    pad_id: int | None

    @classmethod
    def from_tensors(cls, tensor: Callable[[str], np.ndarray | None]) -> "Prompt":
        """Reads a prompt from the request's tensors, shape [1, n] each.

        Raises:
            RefusedError: more than one prompt, or text that is not UTF-8.
        """
        query = tensor("QUERY")
        if query.size != 1:
            raise RefusedError(
                f"text_input holds {query.size} prompts: send one a request "
                "(requests are batched in flight)"
            )
        return cls(
            text=_texts("text_input", query)[0],
            max_tokens=_number("max_tokens", tensor("REQUEST_OUTPUT_LEN")),
            bad_words=_texts("bad_words", tensor("BAD_WORDS_DICT")),
            stop_words=_texts("stop_words", tensor("STOP_WORDS_DICT")),
            end_id=_number("end_id", tensor("END_ID")),
            pad_id=_number("pad_id", tensor("PAD_ID")),
        )


def check_parameters(parameters: str | None, *further: str) -> None:
    """Refuses a request with parameters that nobody knows.

    Args:
        parameters: all of them as a JSON object, as Triton gives them.
        further: names that the model knows besides.
    """
    unknown = sorted(set(json.loads(parameters or "{}")) - KNOWN_PARAMETERS - {*further})
    if unknown:
        raise RefusedError(f"unknown field: {', '.join(unknown)}")


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The token ids of each prompt, in one call to the tokenizer.

    Special tokens are added where the checkpoint's tokenizer says so (Falcon's adds none).
    """
    return [encoding.ids for encoding in tokenizer.encode_batch([p.text for p in prompts])]


def flat_word_list(tokenizer: Tokenizer, words: Sequence[str]) -> np.ndarray:
    """Words in TensorRT-LLM's form: ids one after another, and where each word ends.

    Empty words are left out: they would match everywhere.

    Returns:
        int32 of shape [2, n]: row 0 the ids, row 1 the ends of the words, padded with -1.
    """
    encodings = tokenizer.encode_batch([word for word in words if word], add_special_tokens=False)
    ids = [token for encoding in encodings for token in encoding.ids]
    ends = np.cumsum([len(encoding.ids) for encoding in encodings], dtype=np.int32)
    flat = np.full((2, len(ids)), -1, np.int32)
    flat[0] = ids
    flat[1, : len(ends)] = ends
    return flat


def _texts(name: str, values: np.ndarray | None) -> tuple[str, ...]:
    if values is None:
        return ()
    try:
        return tuple(bytes(value).decode("utf-8") for value in values.reshape(-1))
    except UnicodeDecodeError as error:
        raise RefusedError(f"{name} is not valid UTF-8 (byte {error.start})") from None


def _number(name: str, values: np.ndarray | None) -> int | None:
    if values is None:
        return None
    if values.size != 1:
        raise RefusedError(f"{name} holds {values.size} values: give one")
    return int(values.reshape(-1)[0])
