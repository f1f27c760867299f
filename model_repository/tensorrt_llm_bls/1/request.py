"""A request to the front model: from its tensors to the engine's model.

Independent of Triton.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .guides import Guide
from .preparation import Prepared
from .prompts import Prompt
from .refusal import RefusedError

# Inputs that the engine's model takes as they are, with its names for them (TensorRT-LLM 1.0.0;
# older releases have other names, which the model's configuration then says).
_PASSED_ON = {
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "temperature": "temperature",
    "length_penalty": "len_penalty",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
}

# Inputs of the ensemble whose other values have several answers.
_ONLY = {"beam_width": 1, "num_return_sequences": 1}

# The names that prompts.py knows the inputs by: those of the model `preprocessing`.
_PREPROCESSING_NAMES = {
    "QUERY": "text_input",
    "MESSAGES": "messages",
    "REQUEST_OUTPUT_LEN": "max_tokens",
    "BAD_WORDS_DICT": "bad_words",
    "STOP_WORDS_DICT": "stop_words",
    "EMBEDDING_BIAS_WORDS": "embedding_bias_words",
    "EMBEDDING_BIAS_WEIGHTS": "embedding_bias_weights",
    "END_ID": "end_id",
    "PAD_ID": "pad_id",
    "INPUT_IDS": "input_ids",
    "CHAT_OPTIONS": "chat_options",
    "TRUNCATE_PROMPT_TOKENS": "truncate_prompt_tokens",
    "STOP_TOKEN_IDS": "stop_token_ids",
    "RETURN_CONTEXT_LOGITS": "return_context_logits",
    "RETURN_GENERATION_LOGITS": "return_generation_logits",
}

Tensor = Callable[[str], np.ndarray | None]


@dataclass(frozen=True, slots=True)
class FrontRequest:
    """A request to the front model.

    Attributes:
        prompt: the text, its words and limits.
        sampling: further inputs of the engine's model, by its names.
        guide: what the answer's text must be, if anything.
        return_log_probs: whether the tokens' log-probabilities are requested.
        return_token_ids: whether the tokens of prompt and answer are.
        with_stop_word: whether a stop word is part of the answer's text.
        echo: whether the answer begins with the prompt.
        stream: whether text is sent as it is generated.
    """

    prompt: Prompt
    sampling: dict[str, int | float]
    guide: Guide | None
    return_log_probs: bool
    return_token_ids: bool
    with_stop_word: bool
    echo: bool
    stream: bool

    @classmethod
    def from_tensors(cls, tensor: Tensor) -> "FrontRequest":
        """Reads a request.

        Args:
            tensor: an input's values by name, shape [1, n] each, None when it was not sent.

        Raises:
            RefusedError: an input is missing, is malformed, or cannot be honoured here.
        """
        for name, value in _ONLY.items():
            if _scalar(tensor, name, value) != value:
                raise RefusedError(
                    f"{name} can only be {value} here; the model ensemble passes others on"
                )
        given = {
            engine_name: _scalar(tensor, name, None) for name, engine_name in _PASSED_ON.items()
        }
        prompt = Prompt.from_tensors(lambda name: tensor(_PREPROCESSING_NAMES[name]))
        fits = bool(_scalar(tensor, "fit_max_tokens", True))
        return cls(
            prompt=replace(prompt, fits_max_tokens=fits),
            sampling={name: value for name, value in given.items() if value is not None},
            guide=Guide.from_tensors(tensor, prompt.max_tokens),
            return_log_probs=bool(_scalar(tensor, "return_log_probs", False)),
            return_token_ids=bool(_scalar(tensor, "return_token_ids", False)),
            with_stop_word=bool(_scalar(tensor, "include_stop_str_in_output", False)),
            echo=not _scalar(tensor, "exclude_input_in_output", True),
            stream=bool(_scalar(tensor, "stream", False)),
        )

    def engine_request(
        self, request_id: str, prepared: Prepared, *, streaming: bool, grammars: bool
    ) -> dict[str, Any]:
        """The request to the engine's model, in the form of Triton's `generate`.

        Args:
            request_id: by which it can be stopped.
            prepared: the prompt and the words as tokens.
            streaming: whether tokens are sent one by one.
            grammars: whether the model is given a grammar in place of a schema.
        """
        words = {"bad_words_list": prepared.bad_words, "stop_words_list": prepared.stop_words}
        bias = prepared.embedding_bias
        return {
            "id": request_id,
            "input_ids": prepared.input_ids,
            "input_lengths": len(prepared.input_ids),
            "request_output_len": prepared.max_tokens,
            "end_id": prepared.end_id,
            "pad_id": prepared.pad_id,
            "exclude_input_in_output": True,
            "return_log_probs": self.return_log_probs,
            "streaming": streaming,
            **self.sampling,
            **(self.guide.inputs(grammars=grammars) if self.guide else {}),
            **({"embedding_bias": bias.tolist()} if bias.any() else {}),
            **{name: flat.ravel().tolist() for name, flat in words.items() if flat.size},
        }


def _scalar(tensor: Tensor, name: str, default: Any) -> Any:
    """An input's one value as a Python number, or the default without one."""
    values = tensor(name)
    if values is None:
        return default
    if values.size != 1:
        raise RefusedError(f"{name} holds {values.size} values: give one")
    value = values.reshape(-1)[0].item()
    if not math.isfinite(value):
        raise RefusedError(f"{name} is {value}: give a finite number")
    return value
