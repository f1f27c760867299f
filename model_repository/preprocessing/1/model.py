"""Turns prompts and words into token ids, and refuses what the engine could not take.

Uses only what the server image holds: NumPy, the Rust `tokenizers` and Triton's own module.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from .prompts import (
    Limits,
    Prompt,
    RefusedError,
    check_parameters,
    encode_prompts,
    flat_word_list,
)


class TritonPythonModel:
    """Triton's Python model: one instance, all requests of a batch encoded in one call."""

    def initialize(self, args):
        """Reads the tokenizer beside this file and the engine's limits from the configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._limits = Limits.from_parameters(
            {name: value["string_value"] for name, value in parameters.items()}
        )
        self._tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
        # A setting of the checkpoint's for training; a prompt must never be cut in silence.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def execute(self, requests):
        """Answers each request with its tensors, or with the reason for its refusal."""
        prompts = [_guarded(_read, request) for request in requests]
        good = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
        encoded = iter(encode_prompts(self._tokenizer, good))
        return [
            _error(prompt)
            if isinstance(prompt, RefusedError)
            else _guarded_response(self._respond, prompt, next(encoded))
            for prompt in prompts
        ]

    def _respond(self, prompt, token_ids):
        self._limits.check(len(token_ids), prompt.max_tokens)
        end_id = self._limits.end_id if prompt.end_id is None else prompt.end_id
        pad_id = self._limits.pad_id if prompt.pad_id is None else prompt.pad_id
        words = {
            "BAD_WORDS_IDS": flat_word_list(self._tokenizer, prompt.bad_words),
            "STOP_WORDS_IDS": flat_word_list(self._tokenizer, prompt.stop_words),
        }
        values = {
            "INPUT_ID": [token_ids],
            "REQUEST_INPUT_LEN": [[len(token_ids)]],
            "REQUEST_OUTPUT_LEN": [[prompt.max_tokens]],
            "OUT_END_ID": [[end_id]],
            "OUT_PAD_ID": [[pad_id]],
        }
        tensors = [pb_utils.Tensor(name, np.array(ids, np.int32)) for name, ids in values.items()]
        tensors += [pb_utils.Tensor(name, ids[np.newaxis]) for name, ids in words.items()]
        return pb_utils.InferenceResponse(tensors)


def _read(request):
    check_parameters(request.parameters())
    return Prompt.from_tensors(lambda name: _values(request, name))


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _guarded(read, request):
    try:
        return read(request)
    except RefusedError as refusal:
        return refusal


def _guarded_response(respond, prompt, token_ids):
    try:
        return respond(prompt, token_ids)
    except RefusedError as refusal:
        return _error(refusal)


def _error(refusal):
    error = pb_utils.TritonError(str(refusal), pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)
