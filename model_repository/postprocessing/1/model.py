"""Turns token ids into text, never showing padding or special tokens.

Uses only what the server image holds: NumPy, the Rust `tokenizers` and Triton's own module.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

# Of one request, checked before they are read: decoding takes about a second for each million.
MAX_TOKENS = 1 << 18


class TritonPythonModel:
    """Triton's Python model: stateless, all requests of a batch decoded in one call."""

    def initialize(self, args):
        """Reads the tokenizer beside this file."""
        self._tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))

    def execute(self, requests):
        """Decodes every sequence (beam) of every request."""
        found = [_sequences(request) for request in requests]
        right = [each for sequences in found if isinstance(sequences, list) for each in sequences]
        texts = iter(self._tokenizer.decode_batch(right, skip_special_tokens=True))
        return [
            _refusal(sequences)
            if isinstance(sequences, ValueError)
            else _response([next(texts) for _ in sequences])
            for sequences in found
        ]


def token_sequences(tokens, lengths):
    """The ids of each sequence without its padding.

    Args:
        tokens: int32 [batch, beams, length].
        lengths: int32 [batch, beams], how many of each sequence's ids are its own.

    Raises:
        ValueError: they do not belong together, or are too many.
    """
    if tokens.size > MAX_TOKENS:
        raise ValueError(f"TOKENS_BATCH holds {tokens.size} tokens; at most {MAX_TOKENS} are taken")
    batch, beams, length = tokens.shape
    own = lengths.reshape(-1).tolist()
    if len(own) != batch * beams:
        raise ValueError(f"SEQUENCE_LENGTH holds {len(own)} values for {batch * beams} sequences")
    if any(not 0 <= each <= length for each in own):
        raise ValueError(f"SEQUENCE_LENGTH must hold values from 0 to {length}")
    rows = tokens.reshape(batch * beams, length)
    sequences = [ids[:count].tolist() for ids, count in zip(rows, own, strict=True)]
    if any(token_id < 0 for ids in sequences for token_id in ids):
        raise ValueError("TOKENS_BATCH holds a negative token")
    return sequences


def _sequences(request):
    """A request's sequences, or why it has none."""
    names = ("TOKENS_BATCH", "SEQUENCE_LENGTH")
    try:
        return token_sequences(
            *(pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names)
        )
    except ValueError as error:
        return error


def _refusal(error):
    wrong = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=wrong)


def _response(texts):
    # Without the batch's dimension, as NVIDIA's model answers and its clients read.
    output = np.array([text.encode("utf-8") for text in texts], np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", output)])
