"""The client of the front model `tensorrt_llm_bls`: answers and streams.

Knows the model's tensors; they are NVIDIA's of TensorRT-LLM 1.0.0, and ours, such as `messages`,
`fit_max_tokens` and `finish_reason` (model_repository/tensorrt_llm_bls/config.pbtxt).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from triton_client import TritonClient, TritonError

FRONT_MODEL = "tensorrt_llm_bls"
# The parameter of a request, and of a later one to stop it, that no other request has: clients may
# use one id for several requests.
CONNECTION = "connection"
_ENGINE_MODEL = "tensorrt_llm"
_GREEDY = {"top_k": 1}
_SEED_BITS = 63  # the input has 64, of which OpenVINO GenAI takes those of a signed number

FinishReason = Literal["stop", "length"]
# The input that holds what to answer, and its value.
Source = (
    tuple[Literal["text_input"], str]
    | tuple[Literal["messages"], str]
    | (tuple[Literal["input_ids"], list[int]])
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token always.
        top_p: the share of probability to choose from; 0 as temperature 0.
        top_k: how many tokens to choose from, 0 for all.
        seed: decides what is chosen; None for another one each time.
        others: further inputs of the model by name, those that were given.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0 or self.top_p == 0

    def inputs(self) -> dict[str, Any]:
        """The model's inputs.

        A seed is always sent: without one TensorRT-LLM starts from 0, and so answers the same
        each time.
        """
        if self.greedy:
            return {**_GREEDY, **self.others}
        seed = secrets.randbits(_SEED_BITS) if self.seed is None else self.seed % 2**_SEED_BITS
        chosen = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return {**chosen, "seed": seed, **self.others}


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer to be generated.

    Attributes:
        source: the input that holds what to answer, and its value.
        max_tokens: the most tokens to generate.
        stop_words: what ends the text, and is no part of it.
        sampling: how tokens are chosen.
        echo: whether the prompt precedes the answer.
        fits: whether `max_tokens` becomes less where the engine's sequences end.
        log_probs: whether the tokens' log-probabilities are wanted.
        inputs: further inputs of the model by name, those that were given.
    """

    source: Source
    max_tokens: int
    stop_words: tuple[str, ...]
    sampling: Sampling
    echo: bool = False
    fits: bool = False
    log_probs: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def body(self, request_id: str, *, stream: bool) -> dict[str, Any]:
        """The request to the model in the form of Triton's `generate`."""
        name, value = self.source
        return {
            "id": request_id,
            CONNECTION: request_id,
            name: value,
            "max_tokens": self.max_tokens,
            "exclude_input_in_output": not self.echo,
            "stream": stream,
            **({"stop_words": list(self.stop_words)} if self.stop_words else {}),
            "fit_max_tokens": self.fits,
            **({"return_log_probs": True} if self.log_probs else {}),
            **self.sampling.inputs(),
            **self.inputs,
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a request was made of."""

    prompt_tokens: int
    completion_tokens: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token: bytes, perhaps part of a character, and its log-probability."""

    data: bytes
    log_prob: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer; the last has finish reason and usage.

    Attributes:
        text: what is shown.
        finish_reason: why the answer ended.
        usage: how many tokens it was made of.
        tokens: those generated meanwhile, where log-probabilities are requested; their text may
            come later, and that of a stop word never comes.
        token_ids: their ids, where those are requested.
        prompt_token_ids: the prompt's, in the last chunk.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    tokens: tuple[Token, ...] = ()
    token_ids: tuple[int, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()

    @classmethod
    def from_response(cls, response: Mapping[str, Any]) -> Chunk:
        """Reads a response of the model."""
        text, tokens = response["text_output"], tuple(_tokens(response))
        token_ids = _listed(response.get("token_ids", []))
        if "finish_reason" not in response:
            return cls(text, tokens=tokens, token_ids=token_ids)
        return cls(
            text,
            # OpenAI has no other word for a request that another one stopped.
            "length" if response["finish_reason"] == "length" else "stop",
            Usage(response["prompt_tokens"], response["completion_tokens"]),
            tokens,
            token_ids,
            _listed(response.get("prompt_token_ids", [])),
        )


def _tokens(response: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of a response."""
    data, log_probs = response.get("output_tokens", []), response.get("output_log_probs", [])
    for each, log_prob in zip(_listed(data), _listed(log_probs), strict=True):
        yield Token(bytes.fromhex(each), log_prob)


def _listed(value: Any) -> tuple[Any, ...]:
    """A tensor's elements; Triton writes a tensor of one as that one."""
    return tuple(value) if isinstance(value, list) else (value,)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server's front model takes.

    Attributes:
        chat: whether it takes messages.
        fingerprint: the same as long as Triton's release and its models' configurations are.
        max_tokens: of prompt and answer together; None where the model does not say.
    """

    chat: bool
    fingerprint: str
    max_tokens: int | None


class FrontModel:
    """The front model of a Triton server.

    Attributes:
        answered: when it last answered a request or sent a part of an answer, of `time.monotonic`.
    """

    def __init__(self, triton: TritonClient) -> None:
        self.answered = -math.inf
        self._triton = triton
        self._served: ServedModel | None = None
        self._stops: set[asyncio.Task[None]] = set()

    async def served(self) -> ServedModel | None:
        """What the model takes; None where the server has no such model.

        Sends requests to Triton until it knows the model, then none.

        Raises:
            aiohttp.ClientError: Triton cannot be reached.
        """
        if self._served is None:
            paths = ["/v2", *(f"/v2/models/{name}/config" for name in (FRONT_MODEL, _ENGINE_MODEL))]
            server, config, engine = [await self._triton.object(path) for path in paths]
            if config is not None:
                described = json.dumps([server, config, engine], sort_keys=True).encode()
                parameters = {
                    name: each["string_value"]
                    for name, each in config.get("parameters", {}).items()
                }
                self._served = ServedModel(
                    chat=parameters.get("chat", "true") == "true",
                    fingerprint=f"fp_{hashlib.sha256(described).hexdigest()[:10]}",
                    max_tokens=int(parameters["max_seq_len"])
                    if "max_seq_len" in parameters
                    else None,
                )
        return self._served

    async def generate(self, generation: Generation, request_id: str) -> Chunk:
        """Generates a complete answer; cancelling the task ends the generation.

        Args:
            generation: what is requested.
            request_id: unique among the requests.

        Raises:
            TritonError: the request is refused or fails.
        """
        try:
            body = generation.body(request_id, stream=False)
            chunk = Chunk.from_response(await self._triton.generate(FRONT_MODEL, body))
            self.note_answer()
            return chunk
        except asyncio.CancelledError:
            self.stop(request_id)
            raise

    async def stream(
        self, generation: Generation, request_id: str
    ) -> AsyncGenerator[list[Chunk], None]:
        """Generates an answer chunk by chunk; closing the generator ends the generation.

        Raises:
            TritonError: the request is refused or fails, or has no end.
        """
        body = generation.body(request_id, stream=True)
        last = None
        try:
            async for responses in self._triton.stream(FRONT_MODEL, body):
                arrived = [Chunk.from_response(response) for response in responses]
                last = arrived[-1]
                self.note_answer()
                yield arrived
        except (GeneratorExit, asyncio.CancelledError):
            self.stop(request_id)
            raise
        if last is None or last.finish_reason is None:
            raise TritonError(503, "the server has broken off")

    def note_answer(self) -> None:
        """Notes that it answers, which makes a probe needless."""
        self.answered = time.monotonic()

    def stop(self, connection: str) -> None:
        """Ends the request with this connection in the background.

        Triton notices a disconnected client only when it has something to send to it (2.51,
        measured; triton-inference-server/server#7077).
        """
        task = asyncio.create_task(self._stop(connection))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _stop(self, connection: str) -> None:
        with contextlib.suppress(TritonError):  # an unreachable server generates nothing
            await self._triton.generate(FRONT_MODEL, {CONNECTION: connection, "stop": True})
