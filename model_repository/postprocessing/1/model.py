"""Turns token ids into text, never showing padding or special tokens.

Uses only what the server image holds: NumPy, the Rust `tokenizers` and Triton's own module.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    """Triton's Python model: stateless, all requests of a batch decoded in one call."""

    def initialize(self, args):
        """Reads the tokenizer beside this file."""
        self._tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))

    def execute(self, requests):
        """Decodes every sequence (beam) of every request."""
        counts, sequences = [], []
        for request in requests:
            tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
            lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
            found = token_sequences(tokens, lengths)
            counts.append(len(found))
            sequences += found
        texts = iter(self._tokenizer.decode_batch(sequences, skip_special_tokens=True))
        return [_response([next(texts) for _ in range(count)]) for count in counts]


def token_sequences(tokens, lengths):
    """The ids of each sequence without its padding.

    Args:
        tokens: int32 [batch, beams, length].
        lengths: int32 [batch, beams], how many of each sequence's ids are its own.
    """
    batch, beams, length = tokens.shape
    rows = tokens.reshape(batch * beams, length)
    return [ids[:own].tolist() for ids, own in zip(rows, lengths.reshape(-1), strict=True)]


def _response(texts):
    output = np.array([[text.encode("utf-8") for text in texts]], np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", output)])
