"""STAND-IN, not NVIDIA's: the surface of the C++ `tensorrtllm` backend, without an engine.

Tensors, dims, streaming, stop, cancellation and refusals are those of NVIDIA/TensorRT-LLM,
triton_backend/inflight_batcher_llm/src/{model_instance_state,utils}.cc at c8c6df08bd0e. What it
says comes from sentences.json beside it: greedy answers, token by token, all requests in flight
together. Prompts that are not there are answered with themselves, again and again.
Each response has the log-probabilities of all tokens so far, streamed or not (batch_manager/
llmRequest.cpp at 119c6e60), and each beam's are padded with -1.
Inferred: the token that ends an answer is not part of it but has a log-probability, a stop sequence
is part of it, and what the executor itself says when it refuses. Sampling inputs are taken and
change nothing.
"""

import json
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

# Milliseconds of a step, unless the configuration says otherwise by this name, which is the
# stand-in's own.
STEP_MS = 2
STEP_PARAMETER = "stand_in_step_ms"
LOG_PROB_STEP = 1 / 64


class TritonPythonModel:
    """Triton's Python model in the backend's place."""

    def initialize(self, args):
        """Reads the configuration that the backend would read, and the answers."""
        config = json.loads(args["model_config"])
        parameters = {name: each["string_value"] for name, each in config["parameters"].items()}
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._max_beams = int(parameters["max_beam_width"])
        self._exclude_input = parameters["exclude_input_in_output"] == "true"
        self._check_s = int(parameters["cancellation_check_period_ms"]) / 1000
        self._step_s = int(parameters.get(STEP_PARAMETER, STEP_MS)) / 1000
        directory = Path(__file__).parent
        engine = json.loads((directory / "config.json").read_bytes())["build_config"]
        self._slots, self._max_seq_len = engine["max_batch_size"], engine["max_seq_len"]
        self._answers = _answers(directory)
        self._waiting, self._active, self._wake = [], [], threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def execute(self, requests):
        """Takes requests into the executor, or answers at once (ModelInstanceState::enqueue)."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if _flag(request, "stop"):
                    self._stop(request.request_id())
                    _finish(sender)
                    continue
                self._enqueue(request, sender)
            except RuntimeError as error:
                _fail(sender, str(error))

    def finalize(self):
        """Ends the executor's thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _stop(self, request_id):
        if not request_id:
            raise RuntimeError("Trying to stop a request but request ID is not provided")
        with self._wake:
            for sample in [*self._waiting, *self._active]:
                if sample.request_id == request_id:
                    sample.cancelled = True

    def _enqueue(self, request, sender):
        prompts = _tensor(request, "input_ids")
        if not self._decoupled and len(prompts) > 1:
            raise RuntimeError(
                "Batch size > 1 requires the tensorrt_llm backend to be using decoupled "
                "transaction policy"
            )
        if _flag(request, "streaming") and not self._decoupled:
            raise RuntimeError(
                "Streaming is only supported if model is deployed using decoupled mode."
            )
        group = [
            Sample(request, sender, place, len(prompts), self._answers, self._exclude_input)
            for place in range(len(prompts))
        ]
        for sample in group:
            sample.group = group
            self._check(sample)
        with self._wake:
            self._waiting += group
            self._wake.notify()

    def _check(self, sample):
        if sample.beams > self._max_beams:
            raise RuntimeError(
                f"Requested beam width {sample.beams} is larger than configured max beam width "
                f"{self._max_beams}"
            )
        if len(sample.prompt) + sample.max_tokens > self._max_seq_len:
            raise RuntimeError(
                f"Prompt length ({len(sample.prompt)}) + max new tokens ({sample.max_tokens}) "
                f"exceeds maximum sequence length ({self._max_seq_len})"
            )

    def _serve(self):
        checked = 0.0
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._waiting or self._active)
                if self._closing:
                    return
                free = self._slots - len(self._active)
                self._active += self._waiting[:free]
                del self._waiting[:free]
            if time.monotonic() - checked > self._check_s:
                checked = time.monotonic()
                for sample in self._active:
                    if sample.request.is_cancelled():  # `|=` could undo a stop that comes now
                        sample.cancelled = True
            with self._wake:
                self._active = [sample for sample in self._active if not sample.left()]
            # What is cancelled from here on gets this step's token too (executorImpl.cpp, where
            # terminateCancelledRequests comes before forwardSync).
            time.sleep(self._step_s)
            with self._wake:
                self._active = [sample for sample in self._active if sample.step()]


class Sample:
    """One sequence of a request in the executor; a batched request has several."""

    def __init__(self, request, sender, place, batch_size, answers, exclude_input):
        self.request, self.sender = request, sender
        self.request_id = request.request_id()
        self.cancelled = False
        self.group = []
        self._place, self._batch_size = place, batch_size
        length = _tensor(request, "input_lengths").reshape(-1)[place]
        self.prompt = _tensor(request, "input_ids")[place][:length].tolist()
        self.max_tokens = self._one("request_output_len", None)
        self.beams = self._one("beam_width", 1)
        self._end_id = self._one("end_id", -1)
        self._min_tokens = self._one("min_tokens", self._one("min_length", 0))
        self._streaming = _flag(request, "streaming")
        self._returns_log_probs = self._one("return_log_probs", False)
        self._echo = not self._one("exclude_input_in_output", exclude_input)
        self._stop_words = _word_list(_tensor(request, "stop_words_list"), place)
        self._bad_words = _word_list(_tensor(request, "bad_words_list"), place)
        self._source = answers(self.prompt)
        self._tokens = []
        self._log_probs = []

    def left(self):
        """Whether the sequence has been cancelled; says so after how many tokens."""
        if self.cancelled:
            pb_utils.Logger.log_info(
                f"request {json.dumps(self.request_id)} left the engine after "
                f"{len(self._tokens)} tokens"
            )
            self._send([], final=True)
        return self.cancelled

    def step(self):
        """Generates a token; whether the sequence goes on."""
        token = next(self._source)
        while self._is_bad(token) or (
            token == self._end_id and len(self._tokens) < self._min_tokens
        ):
            token = next(self._source)
        # Another value for each place, all of them exact in 32 bits.
        self._log_probs.append(-LOG_PROB_STEP * (len(self._log_probs) + 1))
        ended = token == self._end_id
        if not ended:
            self._tokens.append(token)
        final = ended or len(self._tokens) == self.max_tokens or self._is_stopped()
        if self._streaming:
            self._send([] if ended else [token], final)
        elif final:
            self._send((self.prompt if self._echo else []) + self._tokens, final)
        return not final

    def _is_bad(self, token):
        return any(_ends_with([*self._tokens, token], word) for word in self._bad_words)

    def _is_stopped(self):
        return any(_ends_with(self._tokens, word) for word in self._stop_words)

    def _send(self, tokens, final):
        """A response with those outputs that were asked for and that this request has."""
        # The first beam is the answer; the others are shorter, and padded as the backend pads.
        beams = [tokens, *([tokens[: len(tokens) // 2]] * (self.beams - 1))]
        tensors = {
            "output_ids": _padded(beams, np.int32),
            "sequence_length": np.array([[len(beam) for beam in beams]], np.int32),
        }
        if self._returns_log_probs:
            values = self._log_probs
            all_values = [values, *([values[: len(values) // 2]] * (self.beams - 1))]
            tensors["cum_log_probs"] = np.array([[sum(each) for each in all_values]], np.float32)
            tensors["output_log_probs"] = _padded(all_values, np.float32)
        if self._batch_size > 1:
            tensors["batch_index"] = np.array([[self._place]], np.int32)
        asked = self.request.requested_output_names()
        if not {"output_ids", "sequence_length"} <= set(asked):
            _fail(self.sender, "output_ids tensor must be present in list of output tensors")
            return
        self.group.remove(self) if final else None
        response = pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, each) for name, each in tensors.items() if name in asked]
        )
        last = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if not self.group else 0
        self.sender.send(response, flags=last)

    def _one(self, name, default):
        values = _tensor(self.request, name)
        return default if values is None else values.reshape(-1)[self._place].item()


def _answers(directory):
    """What follows a prompt's token ids, for ever."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    end = tokenizer.token_to_id("<|endoftext|>")
    recorded = json.loads((directory / "sentences.json").read_bytes())["sentences"]
    table = {tuple(encode(each["prompt"])): encode(each["answer"]) for each in recorded}

    def answer(prompt):
        tokens = table.get(tuple(prompt), prompt)
        while True:
            yield from tokens
            yield end

    return answer


def _padded(beams, kind):
    """A tensor of beams, the shorter ones with -1 behind them."""
    longest = max(map(len, beams))
    padded = [beam + [-1] * (longest - len(beam)) for beam in beams]
    return np.array([padded], kind).reshape(1, len(beams), longest)


def _word_list(flat, place):
    """Token sequences from their flat form (utils::convertWordList)."""
    if flat is None:
        return []
    ids, ends = flat[place].tolist()
    words, start = [], 0
    for end in ends:
        if end == -1:
            break
        if end > len(ids):
            raise RuntimeError("Sparse list must not have out-of-bound offsets")
        if end <= start:
            raise RuntimeError("Sparse list must not have non-increasing offsets")
        words.append(ids[start:end])
        start = end
    return words


def _ends_with(tokens, word):
    return tokens[-len(word) :] == word


def _tensor(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _flag(request, name):
    values = _tensor(request, name)
    return values is not None and bool(values.reshape(-1)[0])


def _finish(sender):
    sender.send(pb_utils.InferenceResponse([]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _fail(sender, reason):
    error = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL)
    sender.send(
        pb_utils.InferenceResponse(error=error),
        flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
    )
