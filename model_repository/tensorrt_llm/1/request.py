"""A generation request, checked in full before it may reach the pipeline.

One bad request makes every later step of the pipeline fail, for all requests in it; so nothing is
left for the pipeline to find. Knows nothing of Triton and nothing of OpenVINO.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .grammar import excluding
from .guides import Guide
from .refusal import RefusedError

# A grammar of excluded words is compiled inside a step, while all requests wait: about 0.1 s for 10
# words with a vocabulary of 65,024 and 1.1 s for 100 (OpenVINO GenAI 2026.4.1, measured). It is as
# long for few but long ones.
MAX_BAD_WORDS = 32
MAX_BAD_BYTES = 1024

# Of stop words and of bad words each, checked before they are read: preprocessing sends no more
# (prompts.py there), and a client that sends token ids has no need of more.
MAX_WORDS = 128
_NO_TOKEN = -1
MAX_WORD_BYTES = 256

# Inputs that change nothing at these values and that this engine cannot honour at any other. The
# two penalties: OpenVINO GenAI 2026.4.1 adds them to negative logits, and so makes likelier what
# they should make rarer (measured with logits that are all negative).
NEUTRAL_VALUES = {
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "beam_width": (1,),
    "num_return_sequences": (1,),
    "len_penalty": (0.0, 1.0),
    "beam_search_diversity_rate": (0.0,),
    "runtime_top_p_decay": (1.0,),  # without which its minimum and reset token change nothing
    "return_context_logits": (False,),
    "return_generation_logits": (False,),
}


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine takes; lengths in tokens. Read from `engine.json` beside the model.

    Attributes:
        end_ids: the checkpoint's end tokens.
    """

    vocab_size: int
    max_input_len: int
    max_seq_len: int
    end_ids: frozenset[int] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "EngineLimits":
        """Reads them from an engine's `engine.json`."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            values["vocab_size"],
            values["max_input_len"],
            values["max_seq_len"],
            frozenset(values["end_ids"]),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; greedily without top_k and top_p.

    Those are TensorRT-LLM's defaults (1.0.0, `SamplingConfig`), and its seed's is 0.
    """

    top_k: int = 1
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken; `top_k` 0 means all tokens."""
        return self.top_k == 1 or self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What one caller requests from the engine.

    Attributes:
        input_ids: the prompt's tokens.
        max_tokens: the most tokens to generate.
        end_ids: the tokens that end generation and are not shown; empty when none does.
        stop_words: what ends the text, as UTF-8.
        grammar: what the text must be, in xgrammar's EBNF; None where it may be anything.
        sampling: how tokens are chosen.
        return_log_probs: whether the chosen tokens' log-probabilities are wanted.
        exclude_input: whether the prompt's tokens stay out of the output.
        streaming: whether tokens are sent as they come.
        all_tokens: whether no token is left out or held back for the sake of its text.
    """

    input_ids: Sequence[int]
    max_tokens: int
    end_ids: frozenset[int]
    stop_words: tuple[bytes, ...]
    grammar: str | None
    sampling: Sampling
    return_log_probs: bool
    exclude_input: bool
    streaming: bool
    all_tokens: bool


def read_request(
    tensor: Callable[[str], np.ndarray | None],
    limits: EngineLimits,
    token_bytes: Sequence[bytes],
    *,
    all_tokens: bool,
) -> GenerationRequest:
    """Reads a request from its tensors.

    Args:
        tensor: an input's values by name, None when it was not sent.
        limits: what the engine takes.
        token_bytes: the bytes of each token, to know the words by.
        all_tokens: whether the caller turns tokens into text itself.

    Raises:
        RefusedError: an input that is out of range or that this engine cannot honour.
    """
    scalars = _Scalars(tensor)
    for name, neutral in NEUTRAL_VALUES.items():
        value = scalars.get(name, neutral[0])
        if value not in neutral:
            raise RefusedError(f"{name} {value} cannot be honoured by the CPU engine; leave it out")
    bias = tensor("embedding_bias")
    if bias is not None and bias.any():
        raise RefusedError(
            "embedding_bias cannot be honoured by the CPU engine; leave embedding_bias_words and "
            "embedding_bias_weights out"
        )
    input_ids = _input_ids(tensor, scalars, limits)
    max_tokens = _max_tokens(scalars, len(input_ids), limits)
    _token_id(scalars, "pad_id", limits)
    end_ids = _end_ids(scalars, limits)
    stop_ids, stop_words = _stop_words(tensor("stop_words_list"), token_bytes)
    sampling = _sampling(scalars, max_tokens)
    guide = _guide(tensor, max_tokens)
    if guide is not None:
        end_ids |= limits.end_ids  # the text that it allows has an end
        if not end_ids or sampling.min_tokens:
            raise RefusedError("guided_decoding_guide needs an end token, and no min_tokens")
    return GenerationRequest(
        input_ids=input_ids,
        max_tokens=max_tokens,
        end_ids=end_ids | stop_ids,
        stop_words=stop_words,
        grammar=_grammar(guide, _bad_words(tensor("bad_words_list"), token_bytes)),
        sampling=sampling,
        return_log_probs=bool(scalars.get("return_log_probs", False)),
        exclude_input=bool(scalars.get("exclude_input_in_output", False)),
        streaming=bool(scalars.get("streaming", False)),
        all_tokens=all_tokens,
    )


class _Scalars:
    """The request's inputs of one value each."""

    def __init__(self, tensor: Callable[[str], np.ndarray | None]) -> None:
        self._tensor = tensor

    def get(self, name, default):
        """An input's value as a Python number, or the default without one."""
        values = self._tensor(name)
        if values is None:
            return default
        if values.size != 1:
            raise RefusedError(f"{name} holds {values.size} values; give one")
        return values.reshape(-1)[0].item()

    def within(self, name, default, low, high, public=None):
        """A number in [low, high]; `public` is its name in the ensemble."""
        value = self.get(name, default)
        if not low <= value <= high:
            raise RefusedError(
                f"{public or name} is {value:g}; it must be from {low:g} to {high:g}"
            )
        return value


def _input_ids(
    tensor: Callable[[str], np.ndarray | None], scalars: _Scalars, limits: EngineLimits
) -> list[int]:
    values = tensor("input_ids")
    if values is None or values.size == 0:
        raise RefusedError("input_ids is empty; give at least one token")
    if values.ndim > 1 and values.shape[0] != 1:
        raise RefusedError(f"input_ids holds {values.shape[0]} prompts; send one a request")
    length = scalars.get("input_lengths", values.size)
    if not 0 < length <= values.size:
        raise RefusedError(f"input_lengths is {length}, but there are {values.size} input_ids")
    if length > limits.max_input_len:
        raise RefusedError(
            f"the prompt has {length} tokens; this engine takes {limits.max_input_len}"
        )
    ids: list[int] = values.reshape(-1)[:length].tolist()
    for token_id in ids:
        if not 0 <= token_id < limits.vocab_size:
            raise RefusedError(
                f"input_ids holds {token_id}; the vocabulary ends at {limits.vocab_size}"
            )
    return ids


def _max_tokens(scalars: _Scalars, prompt: int, limits: EngineLimits) -> int:
    """How many tokens there are at most: as in TensorRT-LLM, no more than sequences have."""
    wanted = scalars.get("request_output_len", 0)
    if wanted < 1:
        raise RefusedError(f"max_tokens is {wanted}; ask for at least 1")
    return int(min(wanted, limits.max_seq_len - prompt))


def _end_ids(scalars: _Scalars, limits: EngineLimits) -> frozenset[int]:
    """The end tokens: all of the checkpoint's, unless the request names another."""
    end_id = _token_id(scalars, "end_id", limits)
    if end_id is None or end_id in limits.end_ids:
        return limits.end_ids
    return frozenset({end_id} - {_NO_TOKEN})


def _token_id(scalars: _Scalars, name: str, limits: EngineLimits) -> int | None:
    """A token id, None if it was not sent; -1 is no token, as in TensorRT-LLM."""
    value = scalars.get(name, None)
    if value is None:
        return None
    if not _NO_TOKEN <= value < limits.vocab_size:
        raise RefusedError(f"{name} is {value}; the vocabulary ends at {limits.vocab_size}")
    return int(value)


def _sampling(scalars: _Scalars, max_tokens: int) -> Sampling:
    top_p = scalars.within("runtime_top_p", 0.0, 0.0, 1.0, "top_p")
    # With top_p alone TensorRT-LLM samples from the complete vocabulary.
    default_top_k = 0 if top_p > 0.0 else 1
    return Sampling(
        top_k=scalars.within("runtime_top_k", default_top_k, 0, 2**31 - 1, "top_k"),
        top_p=top_p or 1.0,
        temperature=scalars.within("temperature", 1.0, 0.0, 100.0),
        repetition_penalty=scalars.within("repetition_penalty", 1.0, 0.01, 100.0),
        min_tokens=scalars.within("min_tokens", 0, 0, max_tokens),
        # OpenVINO GenAI takes 63 bits of the 64.
        seed=scalars.get("seed", 0) % 2**63,
    )


def _stop_words(
    flat: np.ndarray | None, token_bytes: Sequence[bytes]
) -> tuple[set[int], tuple[bytes, ...]]:
    """Stop words: special tokens as ids, all others as UTF-8."""
    stop_ids, words = set(), []
    for ids in _flat_words("stop_words", flat, token_bytes):
        if word := b"".join(token_bytes[token_id] for token_id in ids):
            words.append(word)
        elif len(ids) == 1:
            stop_ids.update(ids)
        else:
            raise RefusedError("stop_words holds a row of special tokens; give them one by one")
    return stop_ids, tuple(words)


def _guide(tensor: Callable[[str], np.ndarray | None], max_tokens: int) -> Guide | None:
    guide = Guide.from_tensors(tensor, max_tokens)
    if guide is not None and guide.grammar is None:
        raise RefusedError(
            f"guided_decoding_guide_type {guide.kind} cannot be honoured by the CPU engine, which "
            "takes json and json_schema"
        )
    return guide


def _grammar(guide: Guide | None, bad_words: Sequence[str]) -> str | None:
    if guide is None:
        return excluding(bad_words) if bad_words else None
    if bad_words:
        raise RefusedError("bad_words cannot be honoured together with a guided_decoding_guide")
    return guide.grammar


def _bad_words(flat: np.ndarray | None, token_bytes: Sequence[bytes]) -> tuple[str, ...]:
    """The words to exclude, less those that contain another one."""
    texts = []
    for ids in _flat_words("bad_words", flat, token_bytes):
        word = b"".join(token_bytes[token_id] for token_id in ids)
        try:
            texts.append(word.decode("utf-8"))
        except UnicodeDecodeError:
            raise RefusedError("bad_words holds a part of a character") from None
        if not word:
            raise RefusedError("bad_words holds a special token; those are never shown anyway")
        if b"\0" in word:  # xgrammar takes it for the end, and the step fails for all requests
            raise RefusedError("bad_words holds a NUL character")
    least: list[str] = []
    for text in sorted(set(texts), key=lambda text: (len(text), text)):
        if not any(shorter in text for shorter in least):
            least.append(text)
    if len(least) > MAX_BAD_WORDS:
        raise RefusedError(
            f"bad_words holds {len(least)} words; the CPU engine takes {MAX_BAD_WORDS}"
        )
    size = sum(len(text.encode("utf-8")) for text in least)
    if size > MAX_BAD_BYTES:
        raise RefusedError(f"bad_words holds {size} bytes; the CPU engine takes {MAX_BAD_BYTES}")
    return tuple(least)


def _flat_words(
    name: str, flat: np.ndarray | None, token_bytes: Sequence[bytes]
) -> list[list[int]]:
    """The words of a list int32 [1, 2, n]: ids, then each word's end."""
    if flat is None or flat.size == 0:
        return []
    if flat.ndim < 2 or flat.shape[-2] != 2 or flat.size != 2 * flat.shape[-1]:
        raise RefusedError(f"{name} has shape {list(flat.shape)}; it must be [1, 2, n]")
    most = MAX_WORDS * MAX_WORD_BYTES
    if flat.shape[-1] > most:
        raise RefusedError(f"{name} holds {flat.shape[-1]} tokens; at most {most} are possible")
    ids, ends = flat.reshape(2, -1).tolist()
    words, start = [], 0
    for end in ends:
        if end == -1:
            break
        if not start < end <= len(ids):
            raise RefusedError(f"{name} has a word that ends at {end}, after {start} of {len(ids)}")
        words.append(ids[start:end])
        start = end
    if len(words) > MAX_WORDS:
        raise RefusedError(f"{name} holds {len(words)} words; at most {MAX_WORDS} are possible")
    if any(not 0 <= token_id < len(token_bytes) for word in words for token_id in word):
        raise RefusedError(f"{name} holds a token that is not in the vocabulary")
    longest = max((sum(len(token_bytes[each]) for each in word) for word in words), default=0)
    if longest > MAX_WORD_BYTES:
        raise RefusedError(
            f"{name} holds a word of {longest} bytes; at most {MAX_WORD_BYTES} are possible"
        )
    return words
