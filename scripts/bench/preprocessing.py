"""What preprocessing costs beyond the tokenizer, for 64 prompts of 512 tokens at once."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from falconry.files import remove
from falconry.image.process import prepare_process_image
from falconry.repository.config import CONFIG_FILE, read_config, set_parameters, write_config
from scripts.bench.checkpoints import small_checkpoint
from scripts.bench.processes import BenchError, Command, alternate, run
from scripts.bench.results import Result, TimesAsLong
from scripts.bench.texts import CONCURRENT, PREPROCESSING, PROMPT_TOKENS, prompts
from scripts.bench.workplace import Workplace

BESIDE_THE_TOKENIZER = TimesAsLong(1.3)

_OURS, _BARE, _NVIDIA = "preprocessing", "encode_batch", "NVIDIA's approach"
_START_DEADLINE_S = 60


def measure_preprocessing(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """The served model beside one bare call of the tokenizer, and beside one call a string.

    Then through a real Triton, where the client and the transport cost as well; for information.

    Raises:
        BenchError: something fails.
    """
    checkpoint = small_checkpoint(workplace)
    what = f"preprocessing, {CONCURRENT} x {PROMPT_TOKENS} tokens"

    def alone() -> dict[str, float]:
        module = "scripts.bench.preprocess_alone"
        told = run([workplace.python, "-m", module, checkpoint], workplace.root)
        return dict(json.loads(told.splitlines()[-1]))

    seconds = alternate(what, rounds, {"all": alone})["all"]
    samples = {name: [each[name] for each in seconds] for name in (_OURS, _BARE, _NVIDIA)}
    ours, bare, nvidia = ({name: samples[name]} for name in (_OURS, _BARE, _NVIDIA))
    yield Result(what, "s", ours, bare, BESIDE_THE_TOKENIZER)
    yield Result(f"{what}, a plain reading of NVIDIA's", "s", ours, nvidia)
    with _triton(workplace, checkpoint) as client:
        texts = [prompts(checkpoint, seed=number) for number in range(rounds + 1)]
        _ask(client, texts.pop())
        served = alternate(
            f"{what}, through Triton", rounds, {"served": lambda: _ask(client, texts.pop())}
        )
    yield Result(f"{what}, through Triton", "s", served, bare)


def _ask(client: Any, texts: list[str]) -> float:
    """The time from the first of the requests to the last of the answers."""
    from tritonclient.grpc import InferInput

    def one(text: str) -> int:
        query = InferInput("QUERY", [1, 1], "BYTES")
        query.set_data_from_numpy(np.array([[text.encode()]], np.object_))
        wanted = InferInput("REQUEST_OUTPUT_LEN", [1, 1], "INT32")
        wanted.set_data_from_numpy(np.array([[16]], np.int32))
        answer = client.infer("preprocessing", [query, wanted])
        return int(answer.as_numpy("REQUEST_INPUT_LEN")[0, 0])

    with ThreadPoolExecutor(CONCURRENT) as pool:
        started = time.perf_counter()
        lengths = list(pool.map(one, texts))
        taken = time.perf_counter() - started
    if lengths != [PROMPT_TOKENS] * CONCURRENT:
        raise BenchError(f"the prompts came back as {sorted(set(lengths))} tokens")
    return taken


@contextlib.contextmanager
def _triton(workplace: Workplace, checkpoint: Path) -> Iterator[Any]:
    """A gRPC client of a real Triton that serves nothing but preprocessing."""
    from tritonclient.grpc import InferenceServerClient

    place = workplace.directory / "preprocessing"
    remove(place)
    _repository(workplace, checkpoint, place / "models")
    image = prepare_process_image(place / "image")
    ports = [_free_port() for _ in range(2)]
    command: Command = [
        *(image / "bin" / "tritonserver", f"--model-repository={place / 'models'}"),
        *(f"--http-port={ports[0]}", f"--grpc-port={ports[1]}", "--allow-metrics=false"),
    ]
    with (place / "triton.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        client = InferenceServerClient(f"127.0.0.1:{ports[1]}")
        _wait(client, server, place / "triton.log")
        yield client
        client.close()
    finally:
        server.terminate()
        server.wait()
    remove(place)


def _repository(workplace: Workplace, checkpoint: Path, models: Path) -> None:
    shutil.copytree(workplace.root / "model_repository" / "preprocessing", models / "preprocessing")
    shutil.copyfile(checkpoint / "tokenizer.json", models / "preprocessing/1/tokenizer.json")
    config = read_config(models / "preprocessing" / CONFIG_FILE)
    set_parameters(config, PREPROCESSING)
    write_config(models / "preprocessing" / CONFIG_FILE, config)


def _wait(client: Any, server: subprocess.Popen[bytes], log: Path) -> None:
    from tritonclient.utils import InferenceServerException

    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(InferenceServerException):
            if client.is_model_ready("preprocessing"):
                return
        time.sleep(0.1)
    raise BenchError(f"Triton does not start; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
