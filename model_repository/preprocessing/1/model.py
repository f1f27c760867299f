"""Encodes prompts and words; refuses what the engine could not take.

Uses only what the server image holds: NumPy, the Rust `tokenizers`, jinja2 and Triton's module.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .parameters import check_parameters
from .preparation import Draft, Preparation
from .prompts import Prompt
from .refusal import RefusedError


class TritonPythonModel:
    """Triton's Python model: one instance encodes a batch in one call."""

    def initialize(self, args):
        """Reads tokenizer and chat template beside this file, and what the engine takes."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._preparation = Preparation(Path(__file__).parent, parameters)

    def execute(self, requests):
        """Answers each request with its tensors, or with the reason for its refusal."""
        drafts = [self._draft(request) for request in requests]
        finished = iter(
            self._preparation.finish([draft for draft in drafts if isinstance(draft, Draft)])
        )
        return [
            _answer(request, next(finished) if isinstance(draft, Draft) else draft)
            for request, draft in zip(requests, drafts, strict=True)
        ]

    def finalize(self):
        """Ends what the model has started."""
        self._preparation.close()

    def _draft(self, request):
        """The request's draft, or its refusal."""
        try:
            check_parameters(request.parameters())
            return self._preparation.draft(Prompt.from_tensors(lambda name: _values(request, name)))
        except RefusedError as refusal:
            return refusal


def _answer(request, prepared):
    """The response to a request: its tensors, or the reason for its refusal."""
    if isinstance(prepared, RefusedError):
        error = pb_utils.TritonError(str(prepared), pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(error=error)
    if prepared.warning:
        pb_utils.Logger.log_warn(prepared.warning)
    excludes_input = _values(request, "EXCLUDE_INPUT_IN_OUTPUT")
    values = {
        "INPUT_ID": prepared.input_ids,
        "REQUEST_INPUT_LEN": [len(prepared.input_ids)],
        # What NVIDIA's model sends for every model, and only encoder-decoder models read.
        "DECODER_INPUT_ID": [prepared.pad_id],
        "REQUEST_DECODER_INPUT_LEN": [1],
        "REQUEST_OUTPUT_LEN": [prepared.max_tokens],
        "BAD_WORDS_IDS": prepared.bad_words,
        "STOP_WORDS_IDS": prepared.stop_words,
        "OUT_END_ID": [prepared.end_id],
        "OUT_PAD_ID": [prepared.pad_id],
    }
    arrays = {name: np.asarray(content, np.int32) for name, content in values.items()}
    arrays["EMBEDDING_BIAS"] = prepared.embedding_bias
    arrays["OUT_EXCLUDE_INPUT_IN_OUTPUT"] = np.array(
        [excludes_input is None or excludes_input.all()]
    )
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, values[np.newaxis]) for name, values in arrays.items()]
    )


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
