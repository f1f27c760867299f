"""Triton's side of the CPU engine: requests in, responses out, in TensorRT-LLM's tensors.

A stand-in for NVIDIA's C++ `tensorrtllm` backend where there is no GPU: the same names, shapes and
defaults, around one continuous-batching pipeline in a thread of its own. `execute` only checks a
request and hands it over, so a short request never waits for a long one.
"""

import json
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .batches import OpenRows, rows_of
from .engine import Engine
from .metrics import Metrics
from .refusal import RefusedError
from .request import EngineLimits, read_request
from .text import read_token_bytes

# With this parameter `tensorrt_llm_bls` requests all tokens, since it turns them into text itself.
# The C++ backend, which knows nothing of text, needs no such parameter.
ALL_TOKENS = "all_tokens"

# Checking with Triton whether a client has disconnected is a round trip that delays the next step.
# The C++ backend checks every 100 ms (TensorRT-LLM 1.0.0, `cancellation_check_period_ms`); `stop`
# takes effect at once. The front model sends `stop` to end a request of its own.
_CHECK_PERIOD_S = 0.05
_CHECK_PERIOD_OF_FRONT_MODEL_S = 1.0


class TritonPythonModel:
    """Triton's Python model: one instance, one engine."""

    def initialize(self, args):
        """Opens the engine beside this file and warms it with a first request."""
        directory = Path(__file__).parent
        self._limits = EngineLimits.read(directory / "engine.json")
        self._token_bytes = read_token_bytes(directory / "tokenizer.json")
        self._engine = Engine(directory, self._token_bytes)
        self._running = RunningRequests()
        self._metrics = Metrics(args["model_name"], args["model_version"], self._engine)

    def execute(self, requests):
        """Hands each request to the engine, which answers through the response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if _flag(request, "stop"):
                    self._stop(request, sender)
                else:
                    self._start(request, sender)
            except RefusedError as refusal:
                final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                _send_error(sender, str(refusal), pb_utils.TritonError.INVALID_ARG, final)

    def finalize(self):
        """Stops the engine."""
        self._metrics.close()
        self._engine.close()

    def _start(self, request, sender):
        all_tokens = bool(json.loads(request.parameters() or "{}").get(ALL_TOKENS))
        rows = [
            read_request(row, self._limits, self._token_bytes, all_tokens=all_tokens)
            for row in rows_of(lambda name: _values(request, name), "input_ids")
        ]
        open_rows = OpenRows(len(rows))
        requested = _values(request, "request_output_len").reshape(-1).tolist()
        for index, wanted in enumerate(rows):
            if wanted.max_tokens < requested[index]:
                pb_utils.Logger.log_warn(
                    f"request {json.dumps(request.request_id())}: request_output_len is "
                    f"{requested[index]} and becomes {wanted.max_tokens}, where the engine's "
                    "sequences end"
                )
            responses = Responses(request, sender, wanted, self._running.remove, index, open_rows)
            self._running.add(responses)
            self._engine.submit(wanted, responses)

    def _stop(self, request, sender):
        """Ends the requests of this id, if any, as the C++ backend does."""
        if not request.request_id():
            raise RefusedError("stop: give the id of the request that is to be stopped")
        self._running.stop(request.request_id())
        sender.send(
            pb_utils.InferenceResponse([]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )


class RunningRequests:
    """The requests without a final response, by id; used from two threads."""

    def __init__(self):
        self._of_id = defaultdict(set)
        self._lock = threading.Lock()

    def add(self, responses):
        """Adds a request."""
        with self._lock:
            self._of_id[responses.request_id].add(responses)

    def remove(self, responses):
        """Forgets a request that has had its final response."""
        with self._lock:
            same = self._of_id[responses.request_id]
            same.discard(responses)
            if not same:
                del self._of_id[responses.request_id]

    def stop(self, request_id):
        """Has the requests of this id leave the pipeline after its current step."""
        with self._lock:
            for responses in self._of_id.get(request_id, ()):
                responses.stopped = True


class Responses:
    """Where the engine's tokens for a row of a request go: one response a call.

    Attributes:
        request_id: what the client calls the request.
        stopped: whether a request with `stop` named it.
    """

    def __init__(self, request, sender, wanted, on_final, row, open_rows):
        self.request_id = request.request_id()
        self.stopped = False
        self._request = request
        self._sender = sender
        self._on_final = on_final
        self._row = row
        self._open_rows = open_rows
        # A stream never repeats the prompt (TensorRT-LLM 0.19, model_instance_state.cc).
        excludes_input = wanted.exclude_input or wanted.streaming
        self._echo = [] if excludes_input else list(wanted.input_ids)
        # The ensemble's steps need every tensor; the front model those that say something.
        self._needs_all = wanted.return_log_probs or not wanted.all_tokens
        self._period = _CHECK_PERIOD_OF_FRONT_MODEL_S if wanted.all_tokens else _CHECK_PERIOD_S
        self._next_check = 0.0
        self._disconnected = False

    def cancelled(self):
        """Whether the rest of the answer is no longer wanted."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + self._period
            self._disconnected = self._request.is_cancelled()
        return self.stopped or self._disconnected

    def send(self, tokens, cumulative, final):
        """Sends tokens; `cumulative` is the sum of all log-probabilities so far."""
        ids = self._echo + [token.token_id for token in tokens]
        log_probs = [token.log_prob for token in tokens]
        self._echo = []
        tensors = {
            "output_ids": np.array([[ids]], np.int32),
            "sequence_length": np.array([[len(ids)]], np.int32),
        }
        if self._needs_all:
            tensors |= {
                "cum_log_probs": np.array([[cumulative]], np.float32),
                "output_log_probs": np.array([[log_probs]], np.float32),
                "batch_index": np.full((1, 1), self._row, np.int32),
                "sequence_index": np.zeros((1, 1), np.int32),
            }
        response = pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, values) for name, values in tensors.items()]
        )
        if final:
            self._on_final(self)
        self._sender.send(response, flags=self._flags(final))

    def fail(self, reason):
        """Ends the request with a server error."""
        self._on_final(self)
        _send_error(self._sender, reason, pb_utils.TritonError.INTERNAL, self._flags(final=True))

    def cancel(self, generated):
        """Ends a stopped or disconnected request after so many tokens."""
        self._on_final(self)
        reason = "stopped" if self.stopped else "cancelled by the client"
        pb_utils.Logger.log_info(
            f"request {json.dumps(self.request_id)} left the engine after {generated} tokens: "
            f"{reason}"
        )
        _send_error(self._sender, reason, pb_utils.TritonError.CANCELLED, self._flags(final=True))

    def _flags(self, final):
        """Those of a response; the last one of the last row ends the request."""
        ends = final and self._open_rows.end()
        return pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if ends else 0


def _flag(request, name):
    values = _values(request, name)
    return values is not None and bool(values.reshape(-1)[:1].any())


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _send_error(sender, reason, code, flags):
    error = pb_utils.InferenceResponse(error=pb_utils.TritonError(reason, code))
    sender.send(error, flags=flags)
