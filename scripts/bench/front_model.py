"""Streaming through the front model, against the bare engine loop on the same cores."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from falconry.files import remove
from falconry.image.process import prepare_process_image
from falconry.repository.assemble import assemble
from falconry.settings import ServingSettings
from scripts.bench.checkpoints import small_checkpoint
from scripts.bench.engine_build import build_engine
from scripts.bench.processes import BenchError, Command, alternate, run
from scripts.bench.results import LessThan, Result, TimesAsLong, TimesBetter
from scripts.bench.stream_prompts import (
    FIRST_TOKEN_REQUESTS,
    LONG_TOKENS,
    MANY_NEW_TOKENS,
    MANY_STREAMS,
    NEW_TOKENS,
    REPEATS,
    SHORT_TOKENS,
    STREAMS,
    texts,
)
from scripts.bench.workplace import Workplace

NEARLY_THE_BARE_LOOP = TimesBetter(0.95)
SHORT_BEHIND_LONG = TimesAsLong(1.2)
LATER_FIRST_TOKEN_S = LessThan(0.010)

_RECIPE = "cpu-f32"
_START_DEADLINE_S = 60
_PATH = "/v2/models/tensorrt_llm_bls/generate_stream"
# Until the long request is at work.
_HEAD_START_S = 0.3

Speeds = dict[str, float]


@dataclass(frozen=True, slots=True)
class _Streamed:
    """One streamed answer: seconds to its first text, and its tokens."""

    first_text: float
    tokens: int


def measure_front_model(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Throughput of 32 streams, head-of-line waiting, the first token, and 256 streams.

    The bare loop is the engine of model_repository in a process of its own, without Triton; the
    front model is asked on Triton's own port. Medians of the rounds are compared.

    Raises:
        BenchError: a build, the server or a generation fails.
    """
    engine = build_engine(workplace, small_checkpoint(workplace), _RECIPE)
    with _triton(workplace, engine) as port:
        speeds = alternate(
            "front model",
            rounds,
            {
                "front model": lambda: asyncio.run(_through_the_front_model(port)),
                "bare loop": lambda: _bare(workplace, engine),
            },
        )

    def samples(name: str, key: str) -> dict[str, list[float]]:
        return {name: [median(each[key] for each in speeds[name])]}

    key = "tokens_per_second"
    yield Result(
        f"front model, {STREAMS} streams",
        "tokens/s",
        samples("front model", key),
        samples("bare loop", key),
        NEARLY_THE_BARE_LOOP,
    )
    yield Result(
        f"{SHORT_TOKENS} tokens behind {LONG_TOKENS}",
        "s",
        {"behind": samples("front model", "short_behind_long")["front model"]},
        {"alone": samples("front model", "short")["front model"]},
        SHORT_BEHIND_LONG,
    )
    later = [
        median(each["first_token"] for each in speeds["front model"])
        - median(each["first_token"] for each in speeds["bare loop"])
    ]
    yield Result(
        f"first token of {FIRST_TOKEN_REQUESTS}, later than the bare loop's",
        "s",
        {"front model": later},
        samples("bare loop", "first_token"),
        LATER_FIRST_TOKEN_S,
    )
    yield Result(
        f"front model, {MANY_STREAMS} streams",
        "tokens/s",
        samples("front model", "many_tokens_per_second"),
        samples("bare loop", key),
    )
    remove(workplace.directory / "engines")


def _bare(workplace: Workplace, engine: Path) -> Speeds:
    command: Command = [workplace.python, "-m", "scripts.bench.stream_from_engine", engine]
    measured: Speeds = json.loads(run(command, workplace.root).splitlines()[-1])
    return measured


async def _through_the_front_model(port: int) -> Speeds:
    async def stream(prompt: str, new_tokens: int) -> _Streamed:
        return await _stream(port, prompt, new_tokens)

    async def seconds(wanted: Callable[[], Awaitable[object]]) -> float:
        started = time.perf_counter()
        await wanted()
        return time.perf_counter() - started

    async def all_of(prompts: list[str], new_tokens: int) -> list[_Streamed]:
        return await asyncio.gather(*(stream(prompt, new_tokens) for prompt in prompts))

    async def speed(count: int, new_tokens: int, name: str) -> float:
        return count * new_tokens / await seconds(lambda: all_of(texts(count, name), new_tokens))

    async def short(name: str) -> float:
        return await seconds(lambda: stream(texts(1, name)[0], SHORT_TOKENS))

    await all_of(texts(STREAMS, "warm"), 4)
    measured = {
        "tokens_per_second": await speed(STREAMS, NEW_TOKENS, "bare"),
        "first_token": median(
            [
                median(each.first_text for each in await all_of(texts(FIRST_TOKEN_REQUESTS, n), 4))
                for n in (f"first {number}" for number in range(REPEATS))
            ]
        ),
        "short": median([await short(f"short {number}") for number in range(REPEATS)]),
    }
    long = asyncio.create_task(stream(texts(1, "long")[0], LONG_TOKENS))
    await asyncio.sleep(_HEAD_START_S)
    measured["short_behind_long"] = median(
        [await short(f"behind {number}") for number in range(REPEATS)]
    )
    if long.done():
        raise BenchError("the long request had ended before the short one")
    await long
    measured["many_tokens_per_second"] = await speed(MANY_STREAMS, MANY_NEW_TOKENS, "many")
    return measured


async def _stream(port: int, prompt: str, new_tokens: int) -> _Streamed:
    body = {
        "text_input": prompt,
        "max_tokens": new_tokens,
        "end_id": -1,
        "stream": True,
        # As docker/server/front.py asks, whose port this is not.
        "connection": uuid.uuid4().hex,
    }
    content = json.dumps(body).encode()
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {_PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    first_text, last = 0.0, b""
    async for line in reader:
        if line.startswith(b"data:"):
            first_text = first_text or time.perf_counter() - started
            last = line
    writer.close()
    final = json.loads(last.removeprefix(b"data:"))
    if final.get("completion_tokens") != new_tokens:
        raise BenchError(f"an answer ended with {last.decode()}")
    return _Streamed(first_text, new_tokens)


@contextlib.contextmanager
def _triton(workplace: Workplace, engine: Path) -> Iterator[int]:
    """A real Triton that serves an engine; gives its own HTTP port, behind docker/server's front.

    Raises:
        BenchError: it does not start.
    """
    place = workplace.directory / "front_model"
    remove(place)
    (place / "models").mkdir(parents=True)
    serving = ServingSettings(route="generate", port=8000)
    assemble(workplace.root / "model_repository", engine, place / "models", serving)
    launcher = prepare_process_image(place / "image") / "bin" / "tritonserver"
    log = place / "triton.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [launcher, f"--model-repository={place / 'models'}", "--http-port=0"],
            env={**os.environ, "LOCAL_OCI_SERVER_PORT": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _port(log, server)
    finally:
        server.terminate()
        server.wait()
        remove(place)


def _port(log: Path, server: subprocess.Popen[bytes]) -> int:
    """The port that Triton says it listens on once its models are ready."""
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and server.poll() is None:
        started = re.search(r"Started HTTPService at 127\.0\.0\.1:(\d+)", log.read_text("utf-8"))
        if started and _listens(int(started[1])):
            return int(started[1])
        time.sleep(0.1)
    raise BenchError(f"Triton did not start: {log.read_text('utf-8')[-300:]}")


def _listens(port: int) -> bool:
    """Whether it does: Triton says so a moment before."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
