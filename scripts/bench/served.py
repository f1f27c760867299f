"""The served model under NVIDIA's aiperf, beside the bare OpenVINO GenAI pipeline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from falconry.errors import ServerError
from falconry.files import remove
from falconry.repository.assemble import assemble
from falconry.settings import ServingSettings
from scripts.bench.checkpoints import small_checkpoint
from scripts.bench.engine_build import build_engine, export_with_optimum, runnable_recipes
from scripts.bench.processes import BenchError, Command, alternate, run
from scripts.bench.prompts import BATCHES, NEW_TOKENS, Load
from scripts.bench.results import Point, Result, Unit
from scripts.bench.workplace import Workplace
from scripts.real_triton import running_as_deployed

_MODEL = "tensorrt_llm_bls"
# A float32 export runs in bfloat16 where the CPU has it: OpenVINO's own choice.
_WEIGHT_FORMATS = ("int8", "fp32")

# aiperf's metric, our line of the table, and its unit; the units are those of aiperf.
_METRICS: tuple[tuple[str, str, Unit], ...] = (
    ("output_token_throughput", "throughput", "tokens/s"),
    ("time_to_first_token", "first token", "ms"),
    ("inter_token_latency", "between tokens", "ms"),
)

# What one contestant reaches: a value by the number of streams and aiperf's name of the metric.
Figures = Mapping[int, Mapping[str, float]]


def measure_served_model(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Three results for each number of streams, each with its best precision.

    Served means a real Triton behind the front, called over OpenAI's API with server-sent events.
    The bare pipeline runs in a process of its own on an export by optimum-cli, without a server,
    HTTP or text output. Both get the same prompts, keep the same number of streams under way
    and generate the same number of tokens.

    Raises:
        BenchError: a build, a server or a load fails.
    """
    checkpoint = small_checkpoint(workplace)
    aiperf = workplace.peer("aiperf") / "bin" / "aiperf"
    recipes = runnable_recipes()
    engines = {name: build_engine(workplace, checkpoint, name) for name in recipes}
    exports = {name: export_with_optimum(workplace, checkpoint, name) for name in _WEIGHT_FORMATS}

    def served(engine: Path) -> Callable[[], Figures]:
        return lambda: _served(workplace, aiperf, checkpoint, engine)

    def bare(export: Path) -> Callable[[], Figures]:
        return lambda: _bare(workplace, export)

    figures = alternate(
        "served model",
        rounds,
        {
            **{name: served(engine) for name, engine in engines.items()},
            **{name: bare(export) for name, export in exports.items()},
        },
    )
    remove(workplace.directory / "engines")
    for streams in BATCHES:
        for metric, title, unit in _METRICS:
            ours, peers = (
                {f"{of}{name}": [each[streams][metric] for each in figures[name]] for name in names}
                for of, names in (("", recipes), ("bare, ", _WEIGHT_FORMATS))
            )
            curve = f"served model, {title}"
            point = Point(curve, "streams", streams)
            yield Result(f"{curve}, {streams} streams", unit, ours, peers, point=point)


def _bare(workplace: Workplace, export: Path) -> Figures:
    module = "scripts.bench.generate_with_genai"
    output = run([workplace.python, "-m", module, export], workplace.root)
    return {int(streams): values for streams, values in json.loads(output).items()}


def _served(workplace: Workplace, aiperf: Path, checkpoint: Path, engine: Path) -> Figures:
    directory = workplace.directory / "served"
    with _server(workplace, engine, directory) as url:
        return {
            streams: _profile(aiperf, url, checkpoint, Load(streams), directory)
            for streams in BATCHES
        }


def _profile(
    aiperf: Path, url: str, checkpoint: Path, load: Load, directory: Path
) -> Mapping[str, float]:
    """Runs aiperf once, with the same prompts as the bare pipeline."""
    prompts, output = directory / "prompts.jsonl", directory / f"aiperf-{load.streams}"
    lines = [json.dumps({"text": text}) for text in (*load.warm_up, *load.prompts)]
    prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    length = {"max_tokens": NEW_TOKENS, "min_tokens": NEW_TOKENS, "temperature": 0}
    command: Command = [
        *(aiperf, "profile", "--model", _MODEL, "--url", url),
        # The server counts the tokens; aiperf loads a tokenizer all the same.
        *("--use-server-token-count", "--tokenizer", checkpoint),
        *("--endpoint-type", "completions", "--streaming"),
        *("--input-file", prompts, "--custom-dataset-type", "single_turn"),
        *("--dataset-sampling-strategy", "sequential", "--extra-inputs", json.dumps(length)),
        *("--concurrency", str(load.streams), "--request-count", str(len(load.prompts))),
        *("--warmup-request-count", str(len(load.warm_up))),
        *("--no-server-metrics", "--no-gpu-telemetry", "--export-level", "summary"),
        *("--ui", "none", "--output-artifact-dir", output),
    ]
    # aiperf 0.13.0 accepts no directory as a tokenizer while the hub is said to be offline.
    run(command, directory, {"HF_HUB_OFFLINE": ""})
    exported = (output / "profile_export_aiperf.json").read_text(encoding="utf-8")
    return read_profile(json.loads(exported), requests=len(load.prompts))


def read_profile(profile: Mapping[str, Any], requests: int) -> dict[str, float]:
    """Takes medians from aiperf's JSON, and the rate of all streams together.

    Raises:
        BenchError: a request failed, or an answer has another length.
    """
    answered = profile["request_count"]["avg"]
    lengths = profile["output_sequence_length"]
    if (answered, lengths["min"], lengths["max"]) != (requests, NEW_TOKENS, NEW_TOKENS):
        raise BenchError(
            f"aiperf got {answered:.0f} of {requests} answers, with {lengths['min']:.0f} to"
            f" {lengths['max']:.0f} tokens instead of {NEW_TOKENS}"
        )
    return {
        metric: float(profile[metric]["avg" if unit == "tokens/s" else "p50"])
        for metric, _, unit in _METRICS
    }


@contextlib.contextmanager
def _server(workplace: Workplace, engine: Path, directory: Path) -> Iterator[str]:
    """Serves an engine with a real Triton behind the front; gives the URL.

    Raises:
        BenchError: it does not start.
    """
    remove(directory)
    models = directory / "models"
    models.mkdir(parents=True)
    serving = ServingSettings(port=8000)
    assemble(workplace.root / "model_repository", engine, models, serving)
    try:
        with running_as_deployed(models, directory) as (url, _):
            yield url
    except ServerError as error:
        raise BenchError(str(error)) from error
    remove(directory)  # after a failure the log stays
