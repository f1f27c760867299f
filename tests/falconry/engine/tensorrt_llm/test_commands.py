"""The command lines of every recipe in every toolchain, against the programs' own flags."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.config import read_configuration
from falconry.engine.tensorrt_llm.commands import (
    Phase,
    expected_files,
    phases,
    plan_document,
    shell_lines,
)
from falconry.engine.tensorrt_llm.recipe import GpuRecipe, load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import load_toolchains
from falconry.oci_facts import gpu_shape

ROOT = Path(__file__).parents[4]
FLAGS = Path(__file__).parents[3] / "data" / "trtllm_flags"

MODELS = {
    "falcon-rw-1b": "engine/published/falcon-rw-1b.json",
    "falcon-7b": "engine/published/falcon-7b.json",
    "falcon-40b": "engine/published/falcon-40b.json",
    "falcon-180b": "engine/published/falcon-180B.json",
    "falcon2-11b": "engine/published/falcon-11B.json",
    "falcon3-1b": "engine/published/Falcon3-1B-Instruct.json",
    "falcon3-3b": "engine/published/Falcon3-3B-Instruct.json",
    "falcon3-7b": "engine/published/Falcon3-7B-Instruct.json",
    "falcon3-7b-fp8": "engine/published/Falcon3-7B-Instruct.json",
    "falcon3-10b": "engine/published/Falcon3-10B-Instruct.json",
    "falcon3-10b-awq": "engine/published/Falcon3-10B-Instruct.json",
    "tiny": "checkpoints/tiny-falcon/config.json",
}
BUILDABLE = [row.release for row in load_toolchains().rows]

CALIBRATION = {"dataset": "cnn_dailymail", "size": 512, "awq_block_size": 64}


def architecture(name: str, directory: Path) -> Architecture:
    text = (ROOT / MODELS[name]).read_text(encoding="utf-8")
    (directory / "config.json").write_text(text, encoding="utf-8")
    return read_configuration(directory).architecture


@pytest.fixture
def make_spec(tmp_path: Path) -> Any:
    """Makes the spec of a recipe and a release; `changes` are laid over the recipe's tables."""

    def make(name: str, release: str, **changes: Any) -> GpuEngineSpec:
        values = load_gpu_recipe(name).model_dump(exclude_none=True)
        for key, change in changes.items():
            old = values.get(key)
            values[key] = {**old, **change} if isinstance(old, dict) else change
        row = load_toolchains().row(release)
        return GpuEngineSpec(
            architecture=architecture(name, tmp_path),
            num_parameters=1,
            checkpoint_bytes=2,
            end_ids=(11,),
            pad_id=11,
            recipe=GpuRecipe.model_validate(values),
            toolchain=row,
            image=row.image,
            image_replaced=False,
            shape=gpu_shape("BM.GPU.H100.8"),
        )

    return make


def parsed(phase: Phase, release: str) -> dict[str, str | None]:
    """A phase's flags and values, as the program of this release would read them."""
    known = json.loads((FLAGS / f"{release}.json").read_text(encoding="utf-8"))
    kinds, choices = known[phase.name], known["choices"][phase.name]
    found: dict[str, str | None] = {}
    words = list(phase.arguments)
    while words:
        flag = words.pop(0)
        assert flag in kinds, f"{phase.name} of {release} knows no {flag}"
        assert flag not in found, f"{flag} twice"
        found[flag] = words.pop(0) if kinds[flag] == "value" else None
        allowed = choices.get(flag)
        assert allowed is None or found[flag] in allowed, f"{flag} {found[flag]}"
    return found


@pytest.mark.parametrize("release", BUILDABLE)
@pytest.mark.parametrize("name", MODELS)
def test_every_recipe_in_every_toolchain_uses_only_flags_that_the_release_documents(
    make_spec: Any, name: str, release: str
) -> None:
    spec = make_spec(name, release)

    for phase in phases(spec, 8):
        flags = parsed(phase, release)
        assert flags["--output_dir"] in ("/falconry/scratch/checkpoint", "/falconry/engine")


@pytest.mark.parametrize("release", BUILDABLE)
@pytest.mark.parametrize(
    "quantization", ["int8_weight_only", "int4_weight_only", "fp8", "int4_awq"]
)
def test_every_quantisation_is_in_the_release_words(
    make_spec: Any, quantization: str, release: str
) -> None:
    calibration = CALIBRATION if quantization in ("fp8", "int4_awq") else None
    changes = {"quantization": quantization, "calibration": calibration}
    spec = make_spec("falcon-40b", release, **changes)

    for phase in phases(spec, 2):
        parsed(phase, release)


@pytest.mark.parametrize("release", BUILDABLE)
def test_every_size_is_told_to_the_builder(make_spec: Any, release: str) -> None:
    flags = parsed(phases(make_spec("falcon-7b", release), 1)[-1], release)

    sizes = {
        "--max_batch_size": "32",
        "--max_input_len": "1024",
        "--max_seq_len": "2048",
        "--max_num_tokens": "4096",
        "--max_beam_width": "1",
        "--tokens_per_block": "64",
    }
    assert {flag: flags[flag] for flag in sizes} == sizes


def test_the_default_toolchain_converts_then_builds_as_nvidias_readme_does(make_spec: Any) -> None:
    # NVIDIA/TensorRT-LLM, examples/models/contrib/falcon/README.md: falcon-7b.
    convert, build = phases(make_spec("falcon-7b", "25.10"), 1)

    assert convert.programs[0] == "/app/examples/models/contrib/falcon/convert_checkpoint.py"
    assert (
        shlex.join(convert.arguments)
        == "--model_dir /falconry/checkpoint --output_dir /falconry/scratch/checkpoint "
        "--dtype bfloat16 --tp_size 1 --pp_size 1 --workers 1"
    )
    assert build.programs == ("trtllm-build",)
    assert (
        shlex.join(build.arguments)
        == "--checkpoint_dir /falconry/scratch/checkpoint --output_dir /falconry/engine "
        "--max_batch_size 32 --max_input_len 1024 --max_seq_len 2048 --max_num_tokens 4096 "
        "--max_beam_width 1 --kv_cache_type paged --tokens_per_block 64 "
        "--gemm_plugin bfloat16 --gpt_attention_plugin bfloat16 --remove_input_padding enable "
        "--context_fmha enable --use_paged_context_fmha enable "
        "--input_timing_cache /falconry/cache/model.cache "
        "--output_timing_cache /falconry/cache/model.cache --workers 1"
    )


@pytest.mark.parametrize(("gpus", "workers"), [(1, "1"), (2, "2"), (8, "2")])
def test_as_many_ranks_are_built_at_a_time_as_there_are_gpus_for_them(
    make_spec: Any, gpus: int, workers: str
) -> None:
    build = phases(make_spec("falcon-40b", "25.10"), gpus)[-1]

    assert parsed(build, "25.10")["--workers"] == workers


def test_the_converter_works_in_parallel_only_where_it_reads_shard_by_shard(
    make_spec: Any,
) -> None:
    by_shard = phases(make_spec("falcon-180b", "25.10"), 8)[0]
    whole = phases(make_spec("falcon-180b", "25.10", load_by_shard=False), 8)[0]

    assert parsed(by_shard, "25.10")["--workers"] == "8"
    assert parsed(whole, "25.10")["--workers"] == "1"


def test_a_calibration_set_on_the_host_is_read_where_it_is_mounted(make_spec: Any) -> None:
    local = {**CALIBRATION, "dataset": "/data/articles"}
    spec = make_spec("falcon-7b", "25.10", quantization="int4_awq", calibration=local)
    flags = parsed(phases(spec, 1)[0], "25.10")

    assert flags["--calib_dataset"] == "/falconry/calibration"
    assert (flags["--qformat"], flags["--awq_block_size"]) == ("int4_awq", "64")


def test_a_disabled_plugin_is_said_so(make_spec: Any) -> None:
    build = phases(make_spec("falcon-7b", "25.10", plugins={"gemm": "disable"}), 1)[-1]

    assert parsed(build, "25.10")["--gemm_plugin"] == "disable"


@pytest.mark.parametrize(
    ("quantization", "format_name"),
    [("none", "full_prec"), ("int8_weight_only", "int8_wo"), ("int4_weight_only", "int4_wo")],
)
def test_a_quantised_cache_is_measured_by_the_quantiser_whatever_the_weights_are(
    make_spec: Any, quantization: str, format_name: str
) -> None:
    changes = {"quantization": quantization, "calibration": CALIBRATION}
    spec = make_spec("falcon-7b", "25.10", **changes, kv_cache={"dtype": "int8"})
    flags = parsed(phases(spec, 1)[0], "25.10")

    assert (flags["--qformat"], flags["--kv_cache_dtype"]) == (format_name, "int8")


def test_an_engine_has_a_file_a_rank(make_spec: Any) -> None:
    spec = make_spec("falcon-40b", "25.10", parallelism={"tensor": 2, "pipeline": 2})
    ranks = [f"rank{rank}.engine" for rank in range(4)]

    assert expected_files(spec) == ("config.json", *ranks)


@pytest.mark.parametrize("release", BUILDABLE)
def test_the_plan_for_the_container_is_plain_json_and_its_phases_fill_the_whole(
    make_spec: Any, release: str
) -> None:
    spec = make_spec("falcon-40b", release)
    document: Any = plan_document(spec, phases(spec, 2))

    assert json.loads(json.dumps(document)) == document
    spans = [phase["span"] for phase in document["phases"]]
    assert (spans[0][0], spans[-1][1]) == (0.0, 1.0)
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    row = load_toolchains().row(release)
    assert document["versions"] == {"tensorrt_llm": row.tensorrt_llm, "tensorrt": row.tensorrt}


def test_the_shell_lines_run_scripts_by_python_and_programs_by_their_name(make_spec: Any) -> None:
    convert, build = shell_lines(phases(make_spec("tiny", "26.07"), 1))

    assert convert.startswith("python3 /app/examples/models/contrib/falcon/convert_checkpoint.py ")
    assert build.startswith("trtllm-build --checkpoint_dir ")
