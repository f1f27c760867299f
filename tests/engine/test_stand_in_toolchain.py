"""The stand-in toolchain: what it refuses and writes, and its image on a Docker engine."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from docker.types import Mount

from falconry.checkpoint.config import read_configuration
from falconry.engine.tensorrt_llm.engine_config import converted_differences
from falconry.engine.toolchain import load_toolchains
from tests.stand_in_toolchain.image import install_stand_ins, stand_in_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "checkpoints" / "tiny-falcon"
FLAGS = ROOT / "tests" / "data" / "trtllm_flags"
RELEASES = sorted(path.stem for path in FLAGS.glob("*.json"))
A10 = "NVIDIA A10, 575.57.08, 8.6"

# Flags that releases dropped or had not yet; facts of NVIDIA's release notes (0.12 removed
# max_output_len and trtllm-build's tp_size, 0.16 use_embedding_sharing) and of build.py until 0.7.
FOREIGN = {
    "25.05": [("build", "--tp_size"), ("build", "--use_custom_all_reduce")],
    "25.10": [("build", "--max_output_len"), ("convert", "--use_embedding_sharing")],
    "26.07": [("build", "--use_inflight_batching"), ("build", "--world_size")],
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Runs a release's stand-in tool by its phase, without a container."""
    installed = {}

    def run(release, phase, *arguments, **environment):
        row = load_toolchains().row(release)
        if release not in installed:
            root = tmp_path_factory.mktemp(release)
            installed[release] = root, install_stand_ins(release, row, root)
        root, variables = installed[release]
        program = {
            "convert": f"{root}{row.converter.falcon[0]}",
            "quantize": f"{root}{row.quantizer}",
            "build": f"{root}/usr/local/bin/trtllm-build",
        }[phase]
        return subprocess.run(
            [program, *map(str, arguments)],
            env={**os.environ, **variables, **environment},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_refuses_flags_that_nobody_documented(tools, release):
    for phase in ("build", "quantize"):
        ended = tools(release, phase, "--fast_and_loose")
        assert ended.returncode == 2
        assert "error: unrecognized arguments: --fast_and_loose" in ended.stdout


@pytest.mark.parametrize(
    ("release", "phase", "flag"),
    [(release, *place) for release, places in FOREIGN.items() for place in places],
)
def test_a_release_refuses_flags_of_other_releases(tools, release, phase, flag):
    ended = tools(release, phase, flag, "1")
    assert ended.returncode == 2
    assert f"error: unrecognized arguments: {flag}" in ended.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_values_are_refused_as_the_real_tools_refuse_them(tools, release):
    ended = tools(release, "build", "--logits_dtype", "float8")
    assert ended.returncode == 2
    assert "argument --logits_dtype: invalid choice: 'float8'" in ended.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_converts_and_builds_in_the_documented_layout(tools, release, tmp_path):
    converted, engine = tmp_path / "converted", tmp_path / "engine"
    words = ["--model_dir", CHECKPOINT, "--output_dir", converted, "--dtype", "bfloat16"]
    ended = tools(release, "convert", *words, "--tp_size", 2, "--use_weight_only")
    assert ended.returncode == 0, ended.stdout
    assert _names(converted) == ["config.json", "rank0.safetensors", "rank1.safetensors"]
    words = ["--checkpoint_dir", converted, "--output_dir", engine]
    words += ["--max_batch_size", 3, "--max_seq_len", 77, "--tokens_per_block", 64]
    ended = tools(release, "build", *words, "--gemm_plugin", "auto")
    assert ended.returncode == 0, ended.stdout
    assert _names(engine) == ["config.json", "rank0.engine", "rank1.engine"]
    config = json.loads((engine / "config.json").read_text())
    assert config["version"] == load_toolchains().row(release).tensorrt_llm
    pretrained, build = config["pretrained_config"], config["build_config"]
    published = json.loads((CHECKPOINT / "config.json").read_text())
    assert pretrained["architecture"] == "FalconForCausalLM"
    assert pretrained["hidden_size"] == published["hidden_size"]
    assert pretrained["mapping"] == {"world_size": 2, "tp_size": 2, "pp_size": 1}
    assert pretrained["quantization"]["quant_algo"] == "W8A16"
    assert (build["max_batch_size"], build["max_seq_len"]) == (3, 77)
    assert build["plugin_config"]["gemm_plugin"] == "bfloat16"
    assert build["plugin_config"]["tokens_per_block"] == 64


def test_converts_a_falcon3_as_its_architecture_says(tools, tmp_path):
    directory = ROOT / "tests" / "data" / "checkpoints" / "falcon3"
    words = ["--model_dir", directory, "--output_dir", tmp_path, "--dtype", "bfloat16"]
    ended = tools("25.10", "convert", *words, "--tp_size", 2)
    assert ended.returncode == 0, ended.stdout
    config = json.loads((tmp_path / "config.json").read_text())
    assert converted_differences(config, read_configuration(directory).architecture) == []


@pytest.mark.parametrize("release", RELEASES)
def test_quantises_to_a_converted_checkpoint(tools, release, tmp_path):
    words = ["--model_dir", CHECKPOINT, "--output_dir", tmp_path, "--qformat", "int4_awq"]
    ended = tools(release, "quantize", *words, "--awq_block_size", 64, "--kv_cache_dtype", "int8")
    assert ended.returncode == 0, ended.stdout
    quantization = json.loads((tmp_path / "config.json").read_text())["quantization"]
    assert quantization == {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": "INT8",
        "group_size": 64,
    }


def test_engines_are_the_same_for_the_same_flags_and_as_large_as_told(tools, tmp_path):
    converted = tmp_path / "converted"
    tools("25.10", "convert", "--model_dir", CHECKPOINT, "--output_dir", converted)
    engines = []
    for name, mebibytes in (("a", "0"), ("b", "0"), ("c", "2")):
        words = ["--checkpoint_dir", converted, "--output_dir", tmp_path / name]
        tools("25.10", "build", *words, STAND_IN_ENGINE_MIB=mebibytes)
        engines.append((tmp_path / name / "rank0.engine").read_bytes())
    assert engines[0] == engines[1]
    assert [len(engine) for engine in engines] == [4096, 4096, 2 << 20]


def test_its_image_builds_an_engine_on_a_docker_engine(docker_engine, tmp_path):
    release = "25.10"
    row = load_toolchains().row(release)
    with contextlib.closing(docker_engine.client()) as client:
        tag = stand_in_image(client, release, row, {"STAND_IN_GPUS": A10})
        assert stand_in_image(client, release, row, {"STAND_IN_GPUS": A10}) == tag
        assert client.images.get(tag).attrs["Size"] < 60e6
        # Docker's own directories are the engine's, and pytest's may not be open to another user.
        place = tmp_path / "falconry"
        shutil.copytree(CHECKPOINT, place / "checkpoint")
        shutil.copy(ROOT / "engine" / "build.py", place)
        (place / "scratch").mkdir()
        (place / "scratch" / "plan.json").write_text(json.dumps(_plan(row)))
        output = client.containers.run(
            tag,
            ["python3", "/falconry/build.py", "/falconry/scratch/plan.json"],
            user=f"{os.geteuid()}:{os.getegid()}",
            network_mode="none",
            read_only=True,
            mounts=[Mount("/falconry", str(place), type="bind")],
            remove=True,
        )
    assert b'"fraction": 1.0' in output.splitlines()[-1]
    report = json.loads((place / "scratch" / "report.json").read_text())
    assert (report["tensorrt_llm"], report["sm"]) == (row.tensorrt_llm, 86)


def _plan(row):
    """A plan for one rank in the words of a row."""
    checkpoint, converted, engine = (
        f"/falconry/{name}" for name in ("checkpoint", "scratch/checkpoint", "engine")
    )
    convert = {
        "name": "convert",
        "step": "converting the checkpoint",
        "program": list(row.converter.falcon),
        "arguments": ["--model_dir", checkpoint, "--output_dir", converted],
        "span": [0.0, 0.3],
    }
    words = ["--checkpoint_dir", converted, "--output_timing_cache", "/falconry/scratch/cache"]
    build = {
        "name": "build",
        "step": "building the engine",
        "program": ["trtllm-build"],
        "arguments": [*words, "--output_dir", engine],
        "span": [0.3, 1.0],
    }
    versions = {"tensorrt_llm": row.tensorrt_llm, "tensorrt": row.tensorrt}
    expected = ["config.json", "rank0.engine"]
    return {"phases": [convert, build], "expected": expected, "versions": versions}


def _names(directory):
    return sorted(path.name for path in directory.iterdir())
