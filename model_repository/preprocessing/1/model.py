"""Encodes prompts and words; refuses what the engine could not take.

Uses only what the server image holds: NumPy, the Rust `tokenizers`, jinja2 and Triton's module.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .batches import rows_of, stacked
from .parameters import check_parameters
from .preparation import Preparation
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
        drafts = [self._drafts(request) for request in requests]
        read = [rows for rows in drafts if isinstance(rows, list)]
        finished = iter(self._preparation.finish([draft for rows in read for draft in rows]))
        return [
            _answer(request, [next(finished) for _ in rows])
            if isinstance(rows, list)
            else _refusal(rows)
            for request, rows in zip(requests, drafts, strict=True)
        ]

    def finalize(self):
        """Ends what the model has started."""
        self._preparation.close()

    def _drafts(self, request):
        """The draft of each row of the request's batch, or its refusal."""
        try:
            check_parameters(request.parameters())
            return [
                self._preparation.draft(Prompt.from_tensors(row))
                for row in rows_of(lambda name: _values(request, name), "REQUEST_OUTPUT_LEN")
            ]
        except RefusedError as refusal:
            return refusal


def _answer(request, rows):
    """The response to a request: its tensors, or the reason for its refusal."""
    for prepared in rows:
        if isinstance(prepared, RefusedError):
            return _refusal(prepared)
        if prepared.warning:
            pb_utils.Logger.log_warn(prepared.warning)
    excludes_input = _values(request, "EXCLUDE_INPUT_IN_OUTPUT")
    numbers = {
        "REQUEST_INPUT_LEN": [len(prepared.input_ids) for prepared in rows],
        # What NVIDIA's model sends for every model, and only encoder-decoder models read.
        "DECODER_INPUT_ID": [prepared.pad_id for prepared in rows],
        "REQUEST_DECODER_INPUT_LEN": [1 for _ in rows],
        "REQUEST_OUTPUT_LEN": [prepared.max_tokens for prepared in rows],
        "OUT_END_ID": [prepared.end_id for prepared in rows],
        "OUT_PAD_ID": [prepared.pad_id for prepared in rows],
    }
    arrays = {name: np.array(each, np.int32)[:, np.newaxis] for name, each in numbers.items()}
    arrays["INPUT_ID"] = stacked(
        [np.array(prepared.input_ids, np.int32) for prepared in rows], rows[0].pad_id
    )
    # As NVIDIA's: ids end with 0, their words' ends with -1.
    arrays["BAD_WORDS_IDS"] = stacked([prepared.bad_words for prepared in rows], 0, -1)
    arrays["STOP_WORDS_IDS"] = stacked([prepared.stop_words for prepared in rows], 0, -1)
    arrays["EMBEDDING_BIAS"] = stacked([prepared.embedding_bias for prepared in rows], 0)
    arrays["OUT_EXCLUDE_INPUT_IN_OUTPUT"] = (
        np.ones((len(rows), 1), np.bool_) if excludes_input is None else excludes_input
    )
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, values) for name, values in arrays.items()]
    )


def _refusal(error):
    wrong = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=wrong)


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
