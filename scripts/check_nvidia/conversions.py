"""NVIDIA's converter on checkpoints as the build container sees them; its calibration too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.files import CONFIG, read_json
from falconry.checkpoint.reader import Checkpoint, read_checkpoint
from falconry.engine.tensorrt_llm.container_view import container_view
from falconry.engine.tensorrt_llm.engine_config import converted_differences
from falconry.engine.toolchain import load_toolchains
from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.sources import CHECKPOINTS, Source
from scripts.check_nvidia.table import Row, compared

_AUTO_MAP = {
    "AutoConfig": "configuration_falcon.FalconConfig",
    "AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM",
}
_CALIBRATION_TEXTS = 10
_CALIBRATION_SAMPLES = 8

Answer = dict[str, Any]


class Converter:
    """NVIDIA's converter; all its files are below one directory."""

    def __init__(self, source: Source, environment: Environment, directory: Path) -> None:
        self._source, self._environment, self._directory = source, environment, directory
        converters = load_toolchains().row(None).converter
        self._scripts = {
            "falcon": source.script(converters.falcon),
            "llama": source.script(converters.llama),
        }
        self._done: dict[tuple[Path, tuple[str, ...]], Answer] = {}

    def __call__(self, directory: Path, *options: str) -> Answer:
        """The result for a checkpoint: config, tensors and bytes, or the error."""
        if (directory, options) not in self._done:
            self._done[directory, options] = self._convert(directory, options)
        return self._done[directory, options]

    def _convert(self, directory: Path, options: tuple[str, ...]) -> Answer:
        name = "-".join([directory.name, *(option.strip("-") for option in options)])
        model_type = read_json(directory / CONFIG)["model_type"]
        arguments = [f"--model_dir={directory}", "--dtype=float32", *options]
        task = {
            "task": "convert",
            "root": str(self._source.root),
            "script": str(self._scripts[model_type]),
            "arguments": arguments,
            "output": str(self._directory / f"converted-{name}"),
        }
        answer: Answer = self._environment.run(task, self._directory)
        return answer

    def view(self, directory: Path, *options: str) -> Answer:
        """The result for the container's view of the checkpoint."""
        return self(materialise(directory, self._directory / f"view-{directory.name}"), *options)


def materialise(directory: Path, view: Path) -> Path:
    """Writes the container's view of a checkpoint, as the mounts present it."""
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    for file in container_view(directory):
        if isinstance(file.content, bytes):
            (view / file.path.name).write_bytes(file.content)
        else:
            shutil.copyfile(file.content, view / file.path.name)
    return view


def conversion_rows(source: Source, convert: Converter) -> list[Row]:
    """Each family converts as its architecture says: complete, in parts, by shard."""
    rows = []
    for directory in sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir()):
        checkpoint = read_checkpoint(directory)
        plain, view = convert(directory), convert.view(directory)
        what = f"converted {directory.name}"
        differences = config_differences(view, checkpoint)
        rows.append(compared(f"{what}: its config.json", source.name, differences))
        # As it is, the base of one that transformers 5 saved is lost: see rope_rows.
        if "rope_parameters" not in read_json(directory / CONFIG):
            differences = answer_differences(view, plain)
            rows.append(
                compared(f"{what}: as the container sees it and as it is", source.name, differences)
            )
        shard = convert.view(directory, "--load_by_shard")
        differences = answer_differences(shard, view)
        falcon = isinstance(checkpoint.architecture, FalconArchitecture)
        if falcon and not checkpoint.architecture.tied_embeddings:
            # NVIDIA's own bug, which Falconry avoids by refusing: it must still be there.
            refused = ["rank0 lm_head.weight is other"]
            found = "" if differences == refused else ", ".join(differences) or "none"
            differences = [f"expected {refused[0]}, found {found}"] if found else []
            what += " (untied: another lm_head, so refused)"
        rows.append(compared(f"{what}: by shard", source.name, differences))
    rows += _parallel_rows(source, convert)
    return rows


def _parallel_rows(source: Source, convert: Converter) -> list[Row]:
    return [row for family in ("falcon-40b", "falcon3") for row in _split(family, source, convert)]


def _split(family: str, source: Source, convert: Converter) -> list[Row]:
    directory = CHECKPOINTS / family
    checkpoint = read_checkpoint(directory)
    rows = []
    for name, options in (
        ("tp2", ["--tp_size=2"]),
        ("pp2", ["--pp_size=2"]),
        ("tp2 by shard", ["--tp_size=2", "--load_by_shard"]),
    ):
        answer = convert.view(directory, *options)
        mapping = {"tp_size": 2 if "tp2" in name else 1, "pp_size": 2 if "pp2" in name else 1}
        differences = config_differences(answer, checkpoint, mapping)
        if ranks := {tensor.split()[0] for tensor in answer.get("tensors", {})} ^ {
            "rank0",
            "rank1",
        }:
            differences.append(f"ranks {sorted(ranks)}")
        rows.append(compared(f"converted {family}: {name}", source.name, differences))
    return rows


def code_rows(source: Source, convert: Converter, directory: Path) -> list[Row]:
    """A checkpoint that names code, and its view: what the converter does with each."""
    plain = convert.view(CHECKPOINTS / "falcon-7b")
    named = _changed("falcon-7b", directory / "named", {"auto_map": _AUTO_MAP})
    with_code = _changed("falcon-7b", directory / "with-code", {"auto_map": _AUTO_MAP})
    marker = directory / "the-code-has-run"
    for module in ("configuration_falcon", "modeling_falcon"):
        code = f"open({str(marker)!r}, 'w').close()\nraise RuntimeError('the code has run')\n"
        (with_code / f"{module}.py").write_text(code)
    fails = convert(named)
    runs = convert(with_code)
    ran = marker.exists()
    marker.unlink(missing_ok=True)
    missing, note = fails.get("error", "it converts"), runs.get("error", "")[:100]
    refused = "configuration_falcon.py" in missing
    rows = [
        Row("falcon-7b with auto_map, as it is: fails", source.name, "run", refused, missing[:100]),
        Row("falcon-7b with auto_map and .py, as it is: runs them", source.name, "run", ran, note),
    ]
    for what, checkpoint in (("auto_map", named), ("auto_map and .py", with_code)):
        differences = answer_differences(convert.view(checkpoint), plain)
        differences += ["the code has run"] if marker.exists() else []
        rows.append(
            compared(f"falcon-7b with {what}, as the container sees it", source.name, differences)
        )
    return rows


def rope_rows(source: Source, convert: Converter, directory: Path) -> list[Row]:
    """Checkpoints as transformers 5 saves them: `dtype`, and RoPE in `rope_parameters` alone."""
    rows = []
    for family, theta, dtype in (
        ("falcon2-11b", 500042.0, "float16"),
        ("falcon3", 1000042.0, "bfloat16"),
    ):
        plain = convert.view(CHECKPOINTS / family)
        newer = {
            "dtype": dtype,
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
            "transformers_version": "5.23.0",
        }
        older_names = ("rope_theta", "rope_scaling", "torch_dtype")
        saved = _changed(family, directory / f"{family}-saved-by-5", newer, older_names)
        lost = convert(saved).get("config", {}).get("rotary_base")
        saved_by_5, note = f"{family} saved by transformers 5", f"rotary_base {lost}"
        loses = Row(
            f"{saved_by_5}, as it is: loses its base", source.name, "run", lost == 10000.0, note
        )
        differences = answer_differences(convert.view(saved), plain)
        as_seen = compared(f"{saved_by_5}, as the container sees it", source.name, differences)
        rows += [loses, as_seen]
    return rows


def calibration_rows(source: Source, environment: Environment, directory: Path) -> list[Row]:
    """A dataset is a directory with a column `text`; others are refused."""
    texts = [f"text number {number}" for number in range(_CALIBRATION_TEXTS)]
    good, other = directory / "calibration", directory / "calibration-other"
    for dataset, column in ((good, "text"), (other, "article")):
        dataset.mkdir()
        lines = (json.dumps({column: text}) for text in texts)
        (dataset / "train.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rows = []
    for what, dataset, taken in (
        ("a directory with a column text", good, True),
        ("a file: refused", good / "train.jsonl", False),
        ("a directory without that column: refused", other, False),
    ):
        task = {
            "task": "calibrate",
            "root": str(source.root),
            "tokenizer": str(CHECKPOINTS / "falcon-7b"),
            "dataset": str(dataset),
            "size": _CALIBRATION_SAMPLES,
        }
        answer = environment.run(task, directory)
        note = answer.get("error") or f"{answer['texts']} texts"
        equal = (answer.get("texts") == _CALIBRATION_SAMPLES) is taken
        rows.append(Row(f"calibration, {what}", source.name, "run", equal, note[:100]))
    return rows


def _changed(
    family: str, target: Path, changes: dict[str, Any], without: Sequence[str] = ()
) -> Path:
    """A copy of a recorded checkpoint with another config.json."""
    shutil.copytree(CHECKPOINTS / family, target)
    path = target / "config.json"
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if key not in without}
    path.write_text(json.dumps(kept | changes))
    return target


def config_differences(
    answer: Answer, checkpoint: Checkpoint, mapping: dict[str, int] | None = None
) -> list[str]:
    """Differences between a converted config.json and the checkpoint's architecture."""
    if "error" in answer:
        return [answer["error"]]
    found = answer["config"]
    wrong = converted_differences(found, checkpoint.architecture)
    shares = {name: found["mapping"][name] for name in mapping or ()}
    return [*wrong, *([f"mapping is {shares}"] if shares != (mapping or {}) else [])]


def answer_differences(one: Answer, other: Answer) -> list[str]:
    """What differs between two conversions: errors, keys of the config, tensors."""
    if errors := [answer["error"] for answer in (one, other) if "error" in answer]:
        return errors
    return [
        f"{name} is other"
        for part in ("config", "tensors")
        for name in sorted({*one[part], *other[part]})
        if one[part].get(name) != other[part].get(name)
    ]
