"""Triton's side of the front model: hundreds of streams on one instance.

`execute` encodes the prompts of a batch together and gives each request to an event loop in a
thread of its own, which never blocks.
"""

import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .answer import Answer
from .batches import OpenRows, rows_of
from .engine_client import EngineClient
from .generation import Generation, Generations, every
from .metrics import Metrics
from .parameters import check_parameters
from .preparation import Preparation
from .refusal import RefusedError
from .request import FrontRequest
from .text import read_token_bytes

# Set by docker/server/tritonserver.py, which gives Triton another port than the container's.
ADDRESS_VARIABLE = "FALCONRY_TRITON_HTTP"
_DEFAULT_ADDRESS = "127.0.0.1:8000"
# The parameter with which docker/server/proxy.py names a request, and stops it by that name when
# its client disconnects or says so. Without the front, a request is stopped by its id.
CONNECTION = "connection"
# And what a gRPC client may choose for its request, so that its id alone does not stop it.
STOP_TOKEN = "stop_token"
# How often generations without new tokens are checked; the others are as tokens arrive.
_CANCELLATION_PERIOD_S = 0.1
# And those whose disconnection docker/server reports: it cannot once Triton stops, which then takes
# no more connections but waits up to 30 s for the answers under way (2.51).
_NAMED_CANCELLATION_PERIOD_S = 1.0
_METRICS_PERIOD_S = 0.5
_LONGEST_LOGGED_ID = 64
# Inputs that have a row for each row of the batch, of which every request has one.
_ONE_A_ROW = ("text_input", "messages", "input_ids", "max_tokens")

# Triton's error codes by HTTP's status for them (triton-inference-server/server, http_server.cc);
# names, since Triton's module has no codes yet when it looks at this file the first time.
_ERROR_CODES = {400: "INVALID_ARG", 404: "NOT_FOUND", 499: "CANCELLED", 503: "UNAVAILABLE"}


class TritonPythonModel:
    """Triton's Python model: one instance, one event loop."""

    def initialize(self, args):
        """Reads the tokenizer beside this file and the limits from the configuration."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        directory = Path(__file__).parent
        self._preparation = Preparation(directory, parameters)
        self._engine_names = json.loads(parameters["engine_names"])
        self._engine_parameters = json.loads(parameters["engine_parameters"])
        # NVIDIA's backend; the CPU engine makes its grammars itself, from what it has checked.
        self._takes_grammars = parameters["words_are_compared_as"] == "tokens"
        self._max_requests = int(parameters["max_requests"])
        self._token_bytes = read_token_bytes(directory / "tokenizer.json")
        self._engine = EngineClient(os.environ.get(ADDRESS_VARIABLE, _DEFAULT_ADDRESS))
        self._chats = ThreadPoolExecutor(1, "chats")
        self._generations = Generations()
        self._metrics = Metrics()
        self._loop = asyncio.new_event_loop()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop.run_forever, name="generations", daemon=True),
            every(_CANCELLATION_PERIOD_S, self._cancel_disconnected, self._end),
            every(_NAMED_CANCELLATION_PERIOD_S, self._cancel_unreported, self._end),
            every(_METRICS_PERIOD_S, self._metrics.publish, self._end),
        ]
        self._threads[0].start()

    def execute(self, requests):
        """Hands each request to the event loop, which answers through the response sender."""
        arrived = time.perf_counter()
        texts, chats = [], []
        for request in requests:
            try:
                if not self._stop(request):
                    rows = self._read(request)
                    kind = chats if any(each.prompt.is_chat for each in rows) else texts
                    kind.append((request, rows))
            except RefusedError as refusal:
                _refuse(request, "INVALID_ARG", str(refusal))
        self._begin(texts, arrived)
        for chat in chats:  # a template may take its time, for which no other request is to wait
            self._chats.submit(self._begin_chat, chat, arrived)

    def _begin_chat(self, chat, arrived):
        try:
            self._begin([chat], arrived)
        except Exception as error:
            # As in `execute`, where Triton does it: the client must not wait for ever.
            # Its text may hold the conversation's.
            pb_utils.Logger.log_error(f"a chat could not be prepared: {type(error).__name__}")
            _refuse(chat[0], "INTERNAL", "the front model has failed")

    def _begin(self, requests, arrived):
        """Prepares requests together and starts them, or refuses them."""
        read = []
        for request, rows in requests:
            try:
                drafts = [self._preparation.draft(each.prompt) for each in rows]
                read.append((request, rows, drafts))
            except RefusedError as refusal:
                _refuse(request, "INVALID_ARG", str(refusal))
        finished = iter(
            self._preparation.finish([draft for _, _, drafts in read for draft in drafts])
        )
        for request, rows, drafts in read:
            prepared = [next(finished) for _ in drafts]
            refusals = [each for each in prepared if isinstance(each, RefusedError)]
            if refusals:
                _refuse(request, "INVALID_ARG", str(refusals[0]))
            elif len(self._generations) + len(rows) > self._max_requests:
                reason = f"{self._max_requests} requests are under way: try again later"
                _refuse(request, "UNAVAILABLE", reason)
            else:
                self._start_rows(request, rows, prepared, arrived)

    def _start_rows(self, request, rows, prepared, arrived):
        """Starts a generation for each row of a request's batch."""
        open_rows = OpenRows(len(rows))
        for index, (front_request, each) in enumerate(zip(rows, prepared, strict=True)):
            if each.warning:
                request_id = _shown_id(request.request_id())
                pb_utils.Logger.log_warn(f"request {request_id}: {each.warning}")
            client = Responses(request, front_request, each.input_ids, index, open_rows)
            generation = self._generation(request, front_request, each, client, arrived)
            self._start(generation, len(each.input_ids))

    def finalize(self):
        """Ends the threads, and with them what is still under way."""
        self._end.set()
        self._preparation.close()
        self._chats.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            # A thread that waits for a crashed Triton never ends.
            thread.join(timeout=1)

    def _read(self, request):
        check_parameters(request.parameters(), CONNECTION, STOP_TOKEN)
        rows = rows_of(lambda name: _values(request, name), *_ONE_A_ROW)
        return [FrontRequest.from_tensors(row) for row in rows]

    def _generation(self, request, front_request, prepared, client, arrived):
        stop_words = [word.encode("utf-8") for word in prepared.stop_texts if word]
        body = front_request.engine_request(
            self._generations.new_id(),
            prepared,
            # Where the engine does not look for stop words, it is stopped when one has come.
            streaming=front_request.stream or bool(stop_words or prepared.watched),
            grammars=self._takes_grammars,
        )
        body = {self._engine_names.get(name, name): value for name, value in body.items()}
        echo = prepared.text if front_request.echo else ""
        answer = Answer(
            self._token_bytes,
            stop_words,
            prepared.end_ids,
            prepared.max_tokens,
            echo,
            with_stop_word=front_request.with_stop_word,
        )
        return Generation(
            request.request_id(),
            *_names(request),
            body | self._engine_parameters,
            answer,
            client,
            front_request.stream,
            arrived,
        )

    def _start(self, generation, prompt_tokens):
        self._metrics.begin(prompt_tokens)
        self._generations.add(generation)
        asyncio.run_coroutine_threadsafe(self._run(generation, prompt_tokens), self._loop)

    async def _run(self, generation, prompt_tokens):
        await generation.run(self._engine, self._metrics)
        self._generations.remove(generation)
        self._metrics.end(generation.outcome, without_token=generation.first_token is None)
        pb_utils.Logger.log_info(
            f"request {_shown_id(generation.request_id)} as {generation.summary}, "
            f"prompt_tokens {prompt_tokens}"
        )

    def _stop(self, request):
        """Ends the requests that a stop request names; returns whether it is one."""
        values = _values(request, "stop")
        if values is None or not values.any():
            return False
        request_id, (connection, stop_token) = request.request_id(), _names(request)
        if not (request_id or connection):
            raise RefusedError("stop: give the id of the request that is to be stopped")
        for generation in self._generations.named(request_id, connection, stop_token):
            self._loop.call_soon_threadsafe(generation.cancel)
        tensors = [_text_output(""), _texts("finish_reason", "cancelled")]
        request.get_response_sender().send(
            pb_utils.InferenceResponse(tensors),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        )
        return True

    def _cancel_disconnected(self):
        for generation in self._generations:
            if generation.cancelled():
                self._loop.call_soon_threadsafe(generation.cancel)

    def _cancel_unreported(self):
        for generation in self._generations:
            if generation.connection and generation.client.disconnected():
                self._loop.call_soon_threadsafe(generation.cancel)


class Responses:
    """Where the answer to a row of a request goes: one response a call.

    The last one of the last row is the request's final one. Checking whether the client has
    disconnected after that ends the server process with a segmentation fault (2.51), so the two
    exclude each other.
    """

    def __init__(self, request, front_request, prompt, row, open_rows):
        self._request = request
        self._row = row
        self._open_rows = open_rows
        self._sender = request.get_response_sender()
        self._return_log_probs = front_request.return_log_probs
        self._return_token_ids = front_request.return_token_ids
        self._prompt = prompt
        self._lock = threading.Lock()
        self._finished = False

    def disconnected(self):
        """Whether the client has disconnected."""
        with self._lock:
            return not self._finished and self._request.is_cancelled()

    def send(self, answer, *, final):
        """Sends the answer's new text; at its end also reason and token counts."""
        tensors = [_text_output(answer.take_text())]
        if self._return_log_probs:
            log_probs = np.array([[answer.take_log_probs()]], np.float32)
            # As hexadecimal digits: a token can be a part of a character, which JSON cannot hold.
            tokens = [token.hex().encode() for token in answer.take_tokens()]
            tensors += [
                _numbers("cum_log_probs", np.float32, answer.cumulative),
                pb_utils.Tensor("output_log_probs", log_probs),
                pb_utils.Tensor("output_tokens", np.array([[tokens]], np.object_)),
            ]
        if self._return_token_ids:
            tensors.append(_numbers("token_ids", np.int32, answer.take_ids()))
        if final and self._return_token_ids:
            tensors.append(_numbers("prompt_token_ids", np.int32, self._prompt))
        if final or self._open_rows.several:
            tensors += [
                _numbers("batch_index", np.int32, self._row),
                _numbers("sequence_index", np.int32, 0),
            ]
        if final:
            tensors += [
                _texts("finish_reason", answer.finish_reason),
                _numbers("prompt_tokens", np.int32, len(self._prompt)),
                _numbers("completion_tokens", np.int32, answer.completion_tokens),
            ]
        with self._lock:
            self._finished = final
            self._sender.send(pb_utils.InferenceResponse(tensors), flags=self._flags(final))

    def fail(self, status, reason):
        """Ends the request with the engine's own reason."""
        with self._lock:
            self._finished = True
            code = _ERROR_CODES.get(status, "INTERNAL")
            _send_error(self._sender, code, reason, self._flags(final=True))

    def _flags(self, final):
        ends = final and self._open_rows.end()
        return pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if ends else 0


def _refuse(request, code, reason):
    # Not the reason, in which the request's own words may stand.
    pb_utils.Logger.log_info(f"request {_shown_id(request.request_id())}: refused, {code}")
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    _send_error(request.get_response_sender(), code, reason, final)


def _send_error(sender, code, reason, flags):
    error = pb_utils.TritonError(reason, getattr(pb_utils.TritonError, code))
    sender.send(pb_utils.InferenceResponse(error=error), flags=flags)


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _names(request):
    """The request's connection and its token, each None without."""
    parameters = json.loads(request.parameters() or "{}")
    return parameters.get(CONNECTION), parameters.get(STOP_TOKEN)


def _text_output(text):
    # Without the batch's dimension, as NVIDIA's model answers and its clients read.
    return pb_utils.Tensor("text_output", np.array([text.encode("utf-8")], np.object_))


def _texts(name, text):
    return pb_utils.Tensor(name, np.array([[text.encode("utf-8")]], np.object_))


def _numbers(name, kind, value):
    return pb_utils.Tensor(name, np.array(value, kind).reshape(1, -1))


def _shown_id(request_id):
    """An id for the log: on one line, and not too long."""
    return json.dumps(request_id[:_LONGEST_LOGGED_ID])
