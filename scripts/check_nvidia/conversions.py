"""Checkpoints as the build container sees them, converted by NVIDIA's own converter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from falconry.checkpoint.reader import Checkpoint, read_checkpoint
from falconry.engine.tensorrt_llm.container_view import container_view
from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.sources import Source
from scripts.check_nvidia.table import Row

_CHECKPOINTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "checkpoints"
_CONVERTERS = (
    "/app/examples/models/contrib/falcon/convert_checkpoint.py",
    "/app/examples/falcon/convert_checkpoint.py",
)
_AUTO_MAP = {
    "AutoConfig": "configuration_falcon.FalconConfig",
    "AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM",
}
Answer = dict[str, Any]


class Converter:
    """NVIDIA's converter; every conversion leaves its files below one directory."""

    def __init__(self, source: Source, environment: Environment, place: Path) -> None:
        self._source, self._environment, self._place = source, environment, place
        self._script = source.script(_CONVERTERS)
        self._done: dict[tuple[Path, tuple[str, ...]], Answer] = {}

    def __call__(self, directory: Path, *options: str) -> Answer:
        """What becomes of a checkpoint: config, tensors and bytes, or the error."""
        if (directory, options) not in self._done:
            self._done[directory, options] = self._convert(directory, options)
        return self._done[directory, options]

    def _convert(self, directory: Path, options: tuple[str, ...]) -> Answer:
        name = "-".join([directory.name, *(option.strip("-") for option in options)])
        arguments = [f"--model_dir={directory}", "--dtype=float32", *options]
        task = {
            "task": "convert",
            "root": str(self._source.root),
            "script": str(self._script),
            "arguments": arguments,
            "output": str(self._place / f"converted-{name}"),
        }
        answer: Answer = self._environment.run(task, self._place)
        return answer

    def view(self, directory: Path, *options: str) -> Answer:
        """The same of what the container would see of the checkpoint."""
        return self(materialise(directory, self._place / f"view-{directory.name}"), *options)


def materialise(directory: Path, place: Path) -> Path:
    """Puts the view of a checkpoint into a directory, as the mounts do in the container."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for file in container_view(directory):
        if isinstance(file.content, bytes):
            (place / file.path.name).write_bytes(file.content)
        else:
            shutil.copyfile(file.content, place / file.path.name)
    return place


def conversion_rows(source: Source, convert: Converter) -> list[Row]:
    """Each family converts to what its architecture says, whole, in parts and by shard."""
    rows = []
    for directory in sorted(path for path in _CHECKPOINTS.iterdir() if path.is_dir()):
        checkpoint = read_checkpoint(directory)
        plain, view = convert(directory), convert.view(directory)
        what = f"converted {directory.name}"
        differences = config_differences(view, checkpoint)
        rows.append(_row(f"{what}: its config.json", source, differences))
        differences = answer_differences(view, plain)
        rows.append(_row(f"{what}: as the container sees it and as it is", source, differences))
        shard = convert.view(directory, "--load_by_shard")
        differences = answer_differences(shard, view)
        if not checkpoint.architecture.tied_embeddings:
            # NVIDIA's own fault, which Falconry refuses to run into: it has to be there.
            refused = ["rank0 lm_head.weight is other"]
            found = "" if differences == refused else ", ".join(differences) or "none"
            differences = [f"expected {refused[0]}, found {found}"] if found else []
            what += " (untied: another lm_head, so refused)"
        rows.append(_row(f"{what}: by shard", source, differences))
    rows += _parallel_rows(source, convert)
    return rows


def _parallel_rows(source: Source, convert: Converter) -> list[Row]:
    directory = _CHECKPOINTS / "falcon-40b"
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
        rows.append(_row(f"converted falcon-40b: {name}", source, differences))
    return rows


def code_rows(source: Source, convert: Converter, place: Path) -> list[Row]:
    """A checkpoint that names code: what the converter does with it, and with its view."""
    plain = convert.view(_CHECKPOINTS / "falcon-7b")
    named = _changed("falcon-7b", place / "named", {"auto_map": _AUTO_MAP})
    with_code = _changed("falcon-7b", place / "with-code", {"auto_map": _AUTO_MAP})
    marker = place / "the-code-has-run"
    for module in ("configuration_falcon", "modeling_falcon"):
        code = f"open({str(marker)!r}, 'w').close()\nraise RuntimeError('the code has run')\n"
        (with_code / f"{module}.py").write_text(code)
    fails = convert(named)
    runs = convert(with_code)
    ran = marker.exists()
    marker.unlink(missing_ok=True)
    rows = [
        Row(
            "falcon-7b with auto_map, as it is: fails",
            source.name,
            "run",
            "configuration_falcon.py" in fails.get("error", ""),
            fails.get("error", "it converts")[:100],
        ),
        Row(
            "falcon-7b with auto_map and .py, as it is: runs them",
            source.name,
            "run",
            ran,
            runs.get("error", "")[:100],
        ),
    ]
    for what, directory in (("auto_map", named), ("auto_map and .py", with_code)):
        differences = answer_differences(convert.view(directory), plain)
        differences += ["the code has run"] if marker.exists() else []
        rows.append(_row(f"falcon-7b with {what}, as the container sees it", source, differences))
    return rows


def rope_rows(source: Source, convert: Converter, place: Path) -> list[Row]:
    """falcon2-11b as transformers 5.23 saves it: `dtype`, and RoPE in `rope_parameters` alone."""
    plain = convert.view(_CHECKPOINTS / "falcon2-11b")
    newer = {
        "dtype": "float16",
        "rope_parameters": {"rope_theta": 500042.0, "rope_type": "default"},
        "transformers_version": "5.23.0",
    }
    older_names = ("rope_theta", "rope_scaling", "torch_dtype")
    saved = _changed("falcon2-11b", place / "saved-by-5", newer, older_names)
    lost = convert(saved).get("config", {}).get("rotary_base")
    return [
        Row(
            "falcon2-11b saved by transformers 5, as it is: loses its base",
            source.name,
            "run",
            lost == 10000.0,
            f"rotary_base {lost}",
        ),
        _row(
            "falcon2-11b saved by transformers 5, as the container sees it",
            source,
            answer_differences(convert.view(saved), plain),
        ),
    ]


def _changed(
    family: str, place: Path, changes: dict[str, Any], without: Sequence[str] = ()
) -> Path:
    """A copy of a recorded checkpoint with another config.json."""
    shutil.copytree(_CHECKPOINTS / family, place)
    path = place / "config.json"
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if key not in without}
    path.write_text(json.dumps(kept | changes))
    return place


def config_differences(
    answer: Answer, checkpoint: Checkpoint, mapping: dict[str, int] | None = None
) -> list[str]:
    """What a converted config.json says otherwise than the checkpoint's architecture."""
    if "error" in answer:
        return [answer["error"]]
    architecture, found = checkpoint.architecture, answer["config"]
    expected = {
        "architecture": "FalconForCausalLM",
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_size": architecture.head_size,
        "intermediate_size": architecture.ffn_hidden_size,
        "norm_epsilon": architecture.layer_norm_epsilon,
        "position_embedding_type": "alibi_with_scale" if architecture.alibi else "rope_gpt_neox",
        "rotary_base": architecture.rope_theta,
        "max_position_embeddings": architecture.max_positions,
        "bias": architecture.bias,
        "parallel_attention": architecture.parallel_attention,
        "new_decoder_architecture": architecture.new_decoder_architecture,
    }
    wrong = [
        f"{name} is {found.get(name)} instead of {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    shares = {name: found["mapping"][name] for name in mapping or ()}
    return [*wrong, *([f"mapping is {shares}"] if shares != (mapping or {}) else [])]


def answer_differences(one: Answer, other: Answer) -> list[str]:
    """What differs between two conversions: the errors, the keys of the config, the tensors."""
    if errors := [answer["error"] for answer in (one, other) if "error" in answer]:
        return errors
    return [
        f"{name} is other"
        for part in ("config", "tensors")
        for name in sorted({*one[part], *other[part]})
        if one[part].get(name) != other[part].get(name)
    ]


def _row(what: str, source: Source, differences: Sequence[str]) -> Row:
    return Row(what, source.name, "run", not differences, ", ".join(differences[:3])[:160])
