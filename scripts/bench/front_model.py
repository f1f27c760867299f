"""Streaming through the front model, against the bare engine loop on the same cores."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from falconry.errors import ServerError
from falconry.files import remove
from falconry.repository.assemble import assemble
from falconry.settings import ServingSettings
from scripts.bench.checkpoints import small_checkpoint
from scripts.bench.engine_build import build_engine
from scripts.bench.processes import BenchError, Command, alternate
from scripts.bench.results import LessThan, Result, TimesAsLong, TimesBetter
from scripts.bench.stream_prompts import Streamed, Task
from scripts.bench.workplace import Workplace
from scripts.real_triton import running_as_deployed

NEARLY_THE_BARE_LOOP = TimesBetter(0.95)
SHORT_BEHIND_LONG = TimesAsLong(1.2)
LATER_FIRST_TOKEN_S = LessThan(0.010)

_RECIPE = "cpu-f32"
_START_DEADLINE_S = 60
_PATH = "/v2/models/tensorrt_llm_bls/generate_stream"
_STREAMS, _NEW_TOKENS = 32, 64
_MANY_STREAMS, _MANY_NEW_TOKENS = 256, 8
_FIRST_TOKEN_REQUESTS, _FIRST_TOKENS = 8, 4
_SHORT_TOKENS, _LONG_TOKENS = 8, 192
# How often what takes little time is measured in a round.
_REPEATS = 5
# Until the long request is at work.
_HEAD_START_S = 0.3

Contestants = dict[str, Callable[[Task], Streamed]]


def measure_front_model(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Throughput of 32 streams, head-of-line waiting, the first token, and 256 streams.

    The bare loop is the engine of model_repository in a process of its own, without Triton; the
    front model is asked on Triton's own port. Both stay up all the time and take turns.

    Raises:
        BenchError: a build, the server or a generation fails.
    """
    engine = build_engine(workplace, small_checkpoint(workplace), _RECIPE)
    with _triton(workplace, engine) as port, _bare_loop(workplace, engine) as bare:
        contestants: Contestants = {
            "front model": lambda task: asyncio.run(_all_of(port, task)),
            "bare loop": bare,
        }
        for do in contestants.values():
            do(Task("warm", _STREAMS, _FIRST_TOKENS))
        yield _throughput(contestants, rounds)
        yield _behind_a_long_one(port, rounds)
        yield _first_token(contestants, rounds)
        many = Task("many", _MANY_STREAMS, _MANY_NEW_TOKENS)
        yield Result(
            f"front model, {_MANY_STREAMS} streams",
            "tokens/s",
            {"front model": [_speed(many, contestants["front model"](many))]},
            {"bare loop": [_speed(many, contestants["bare loop"](many))]},
        )
    remove(workplace.directory / "engines")


def _throughput(contestants: Contestants, rounds: int) -> Result:
    title = f"front model, {_STREAMS} streams"
    tasks = [Task(f"speed {number}", _STREAMS, _NEW_TOKENS) for number in range(rounds)]
    taken = _alternate(title, contestants, tasks)
    speeds = {
        name: [_speed(*pair) for pair in zip(tasks, streamed, strict=True)]
        for name, streamed in taken.items()
    }
    return Result(
        title,
        "tokens/s",
        {"front model": speeds["front model"]},
        {"bare loop": speeds["bare loop"]},
        NEARLY_THE_BARE_LOOP,
    )


def _first_token(contestants: Contestants, rounds: int) -> Result:
    title = f"first token of {_FIRST_TOKEN_REQUESTS}"
    tasks = [
        Task(f"first {number}", _FIRST_TOKEN_REQUESTS, _FIRST_TOKENS)
        for number in range(rounds * _REPEATS)
    ]
    taken = _alternate(title, contestants, tasks)
    first = {name: [each.first_token for each in streamed] for name, streamed in taken.items()}
    later = [
        ours - bare for ours, bare in zip(first["front model"], first["bare loop"], strict=True)
    ]
    return Result(
        f"{title}, later than the bare loop's",
        "s",
        {"front model": [median(later)]},
        target=LATER_FIRST_TOKEN_S,
    )


def _behind_a_long_one(port: int, rounds: int) -> Result:
    alone, behind = [], []
    for number in range(rounds):
        alone.append(asyncio.run(_shorts(port, f"alone {number}")))
        behind.append(asyncio.run(_behind(port, number)))
    return Result(
        f"{_SHORT_TOKENS} tokens behind {_LONG_TOKENS}",
        "s",
        {"behind": behind},
        {"alone": alone},
        SHORT_BEHIND_LONG,
    )


async def _behind(port: int, number: int) -> float:
    """Seconds of a short request that comes when a long one is at work."""
    long = asyncio.create_task(_all_of(port, Task(f"long {number}", 1, _LONG_TOKENS)))
    await asyncio.sleep(_HEAD_START_S)
    seconds = await _shorts(port, f"behind {number}")
    if long.done():
        raise BenchError("the long request had ended before the short ones")
    await long
    return seconds


async def _shorts(port: int, name: str) -> float:
    """Median seconds of short requests, one after the other."""
    tasks = [Task(f"{name} {repeat}", 1, _SHORT_TOKENS) for repeat in range(_REPEATS)]
    return median([(await _all_of(port, task)).seconds for task in tasks])


def _alternate(
    title: str, contestants: Contestants, tasks: Sequence[Task]
) -> dict[str, list[Streamed]]:
    """What each contestant takes for each task."""
    left = {name: iter(tasks) for name in contestants}
    turns = {
        name: lambda name=name, do=do: do(next(left[name])) for name, do in contestants.items()
    }
    return alternate(title, len(tasks), turns)


def _speed(task: Task, streamed: Streamed) -> float:
    """Tokens a second."""
    return task.streams * task.new_tokens / streamed.seconds


@contextlib.contextmanager
def _bare_loop(workplace: Workplace, engine: Path) -> Iterator[Callable[[Task], Streamed]]:
    """The engine in a process of its own, which does a task at a time.

    Raises:
        BenchError: it ends.
    """
    command: Command = [workplace.python, "-m", "scripts.bench.stream_from_engine", engine]
    with subprocess.Popen(
        command, cwd=workplace.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        asks, answers = process.stdin, process.stdout

        def do(task: Task) -> Streamed:
            print(json.dumps(dataclasses.asdict(task)), file=asks, flush=True)
            if not (answer := answers.readline()):
                raise BenchError("the bare loop has ended")
            return Streamed(**json.loads(answer))

        yield do


async def _all_of(port: int, task: Task) -> Streamed:
    """A task done by the front model."""
    started = time.perf_counter()
    first = await asyncio.gather(
        *(_stream(port, prompt, task.new_tokens) for prompt in task.prompts)
    )
    return Streamed(time.perf_counter() - started, median(first))


async def _stream(port: int, prompt: str, new_tokens: int) -> float:
    """Seconds to the first text of an answer that is read to its end."""
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
    return first_text


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
    try:
        with running_as_deployed(place / "models", place) as (_, log):
            yield _own_port(log)
    except ServerError as error:
        raise BenchError(str(error)) from error
    finally:
        remove(place)


def _own_port(log: Path) -> int:
    """The port that Triton itself listens on, from what it said when it started."""
    started = re.search(r"Started HTTPService at 127\.0\.0\.1:(\d+)", log.read_text("utf-8"))
    if started is None:
        raise BenchError(f"Triton does not say where it listens; see {log}")
    return int(started[1])
