"""Triton's side of the CPU engine: requests in, responses out, in TensorRT-LLM's tensors.

A stand-in for NVIDIA's C++ `tensorrtllm` backend where there is no GPU: the same names, shapes and
defaults, around one continuous-batching pipeline in a thread of its own. `execute` only checks a
request and hands it over, so a short request never waits for a long one.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .engine import Engine
from .request import EngineLimits, RefusedError, read_request
from .text import read_token_bytes


class TritonPythonModel:
    """Triton's Python model: one instance, one engine."""

    def initialize(self, args):
        """Opens the engine beside this file and answers a first request, so as to be warm."""
        directory = Path(__file__).parent
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(
            json.loads(args["model_config"])
        )
        self._limits = EngineLimits.read(directory / "engine.json")
        self._token_bytes = read_token_bytes(directory / "tokenizer.json")
        self._engine = Engine(directory, self._token_bytes)

    def execute(self, requests):
        """Hands each request to the engine, which answers through the response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                wanted = read_request(
                    lambda name, request=request: _values(request, name),
                    self._limits,
                    self._token_bytes,
                    self._engine.end_id,
                )
                if wanted.streaming and not self._decoupled:
                    raise RefusedError("stream: this deployment answers in one piece (route infer)")
            except RefusedError as refusal:
                _send_error(sender, str(refusal), pb_utils.TritonError.INVALID_ARG)
            else:
                self._engine.submit(wanted, Responses(request, sender, wanted))

    def finalize(self):
        """Stops the engine."""
        self._engine.close()


class Responses:
    """Where the engine's tokens go: one response a call, the last one final."""

    def __init__(self, request, sender, wanted):
        self._request = request
        self._sender = sender
        self._echo = [] if wanted.exclude_input else list(wanted.input_ids)

    def cancelled(self):
        """Whether the client has gone."""
        return self._request.is_cancelled()

    def send(self, tokens, cumulative, final):
        """Sends tokens; `cumulative` is the sum of all log-probabilities so far."""
        ids = self._echo + [token.token_id for token in tokens]
        log_probs = [0.0] * len(self._echo) + [token.log_prob for token in tokens]
        self._echo = []
        tensors = {
            "output_ids": np.array([[ids]], np.int32),
            "sequence_length": np.array([[len(ids)]], np.int32),
            "cum_log_probs": np.array([[cumulative]], np.float32),
            "output_log_probs": np.array([[log_probs]], np.float32),
            "batch_index": np.zeros((1, 1), np.int32),
            "sequence_index": np.zeros((1, 1), np.int32),
        }
        response = pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, values) for name, values in tensors.items()]
        )
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._sender.send(response, flags=flags)

    def fail(self, reason):
        """Ends the request with a server error."""
        _send_error(self._sender, reason, pb_utils.TritonError.INTERNAL)

    def cancel(self):
        """Ends a request whose client has gone."""
        _send_error(self._sender, "cancelled by the client", pb_utils.TritonError.CANCELLED)


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _send_error(sender, reason, code):
    error = pb_utils.InferenceResponse(error=pb_utils.TritonError(reason, code))
    sender.send(error, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
