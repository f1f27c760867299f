"""The GPU recipes that are shipped, on the models that they were written for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.tensors import expected_tensors
from falconry.engine.spec import recipe_names
from falconry.engine.tensorrt_llm.memory import GIB, estimate
from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import load_toolchains
from falconry.oci_facts import gpu_shape

ROOT = Path(__file__).parents[4]
PUBLISHED = ROOT / "engine" / "published"

# A recipe's model, and the smallest shape of OCI's that it promises to fit.
RECIPE_SHAPES = {
    "falcon-rw-1b": ("falcon-rw-1b", "VM.GPU.A10.1"),
    "falcon-7b": ("falcon-7b", "VM.GPU.A10.1"),
    "falcon-40b": ("falcon-40b", "BM.GPU.A100-v2.8"),
    "falcon-180b": ("falcon-180B", "BM.GPU.A100-v2.8"),
    "falcon2-11b": ("falcon-11B", "BM.GPU4.8"),
    "falcon3-1b": ("Falcon3-1B-Instruct", "VM.GPU.A10.1"),
    "falcon3-3b": ("Falcon3-3B-Instruct", "VM.GPU.A10.1"),
    "falcon3-7b": ("Falcon3-7B-Instruct", "VM.GPU.A10.1"),
    "falcon3-7b-fp8": ("Falcon3-7B-Instruct", "BM.GPU.L40S.4"),
    "falcon3-10b": ("Falcon3-10B-Instruct", "VM.GPU.A10.2"),
    "falcon3-10b-awq": ("Falcon3-10B-Instruct", "VM.GPU.A10.1"),
}

# Layers, hidden size, heads, key/value heads, positions, family. Falcon-7B, 40B and 180B:
# arXiv:2311.16867 (The Falcon Series of Open Language Models), remembered; the others: config.json.
SIZES = {
    "falcon-rw-1b": (24, 2048, 32, 32, 2048, "falcon-rw"),
    "falcon-7b": (32, 4544, 71, 1, 2048, "falcon-7b"),
    "falcon-40b": (60, 8192, 128, 8, 2048, "falcon-40b"),
    "falcon-180B": (80, 14848, 232, 8, 2048, "falcon-40b"),
    "falcon-11B": (60, 4096, 32, 8, 8192, "falcon2-11b"),
    "Falcon3-1B-Base": (18, 2048, 8, 4, 4096, "falcon3"),
    "Falcon3-1B-Instruct": (18, 2048, 8, 4, 8192, "falcon3"),
    **{
        f"Falcon3-{size}-{kind}": (layers, 3072, 12, 4, 32768, "falcon3")
        for size, layers in (("3B", 22), ("7B", 28), ("10B", 40))
        for kind in ("Base", "Instruct")
    },
}

# Parameters in 10^9 as the hub's pages count them, the output projection included; remembered.
NOMINAL = {
    "falcon-rw-1b": 1.3,
    "falcon-7b": 7.2,
    "falcon-40b": 41.8,
    "falcon-180B": 179.5,
    "falcon-11B": 11.1,
    # Half the bytes of their shards on the hub, in GB.
    **{
        f"Falcon3-{size}-{kind}": gigabytes / 2
        for size, gigabytes in (("1B", 3.34), ("3B", 6.46), ("7B", 14.91), ("10B", 20.61))
        for kind in ("Base", "Instruct")
    },
}


def published(name: str, directory: Path) -> Architecture:
    text = (PUBLISHED / f"{name}.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text, encoding="utf-8")
    return read_configuration(directory).architecture


def parameters(architecture: Architecture) -> int:
    return sum(math.prod(shape) for shape in expected_tensors(architecture).values())


def test_all_recipes_of_this_builder_are_known_here() -> None:
    gpu = {name for name in recipe_names() if not name.startswith("cpu")}

    assert gpu == {*RECIPE_SHAPES, "tiny"}


@pytest.mark.parametrize("name", SIZES)
def test_a_published_configuration_is_of_the_model_it_is_named_after(
    name: str, tmp_path: Path
) -> None:
    found = published(name, tmp_path)

    assert (
        found.num_layers,
        found.hidden_size,
        found.num_heads,
        found.num_kv_heads,
        found.max_positions,
        found.family,
    ) == SIZES[name]
    output_projection = found.vocab_size * found.hidden_size if found.tied_embeddings else 0
    # RW-1B counts its embedding once.
    total = parameters(found) + (0 if name == "falcon-rw-1b" else output_projection)
    assert total / 1e9 == pytest.approx(NOMINAL[name], abs=0.06)


def test_the_computed_size_of_falcon2_11b_is_that_of_its_shards_on_the_hub(tmp_path: Path) -> None:
    # huggingface.co/tiiuae/falcon-11B/tree/62400f119f793da910386521df7ea8d5780fec43, in GB.
    shards = 4.98 + 3 * 4.93 + 2.43

    assert 2 * parameters(published("falcon-11B", tmp_path)) / 1e9 == pytest.approx(
        shards, abs=0.02
    )


@pytest.mark.parametrize("name", RECIPE_SHAPES)
def test_a_recipe_fits_the_shape_it_promises_and_the_models_positions(
    name: str, tmp_path: Path
) -> None:
    model, shape_name = RECIPE_SHAPES[name]
    recipe, shape = load_gpu_recipe(name), gpu_shape(shape_name)
    architecture = published(model, tmp_path)
    toolchain = load_toolchains().row(None)
    count = parameters(architecture)
    spec = GpuEngineSpec(
        architecture, count, 2 * count, 11, 11, recipe, toolchain, toolchain.image, False, shape
    )

    assert estimate(spec).needed < 0.95 * shape.gpu_memory_gib * GIB
    assert recipe.parallelism.world_size <= shape.gpus
    assert architecture.num_heads % recipe.parallelism.tensor == 0
    assert recipe.limits.max_seq_len <= architecture.max_positions


@pytest.mark.parametrize("name", RECIPE_SHAPES)
def test_a_recipe_names_the_hubs_model_whose_configuration_is_shipped(name: str) -> None:
    hub = load_gpu_recipe(name).model.hub

    assert hub == f"tiiuae/{RECIPE_SHAPES[name][0]}"


def test_the_recipes_whose_commit_was_confirmed_pin_it() -> None:
    pinned = {name for name in RECIPE_SHAPES if load_gpu_recipe(name).model.revision}

    assert pinned == {"falcon-rw-1b", "falcon-7b", "falcon-40b", "falcon2-11b", "falcon3-1b"}


@pytest.mark.parametrize("kind", ["Base", "Instruct"])
def test_a_falcon3_recipe_fits_the_base_model_and_instruct(kind: str, tmp_path: Path) -> None:
    for name in RECIPE_SHAPES:
        if not name.startswith("falcon3"):
            continue
        model = RECIPE_SHAPES[name][0].replace("Instruct", kind)
        limits = load_gpu_recipe(name).limits
        assert limits.max_seq_len <= published(model, tmp_path).max_positions, name


def test_the_tiny_recipe_is_for_the_checkpoint_of_this_project() -> None:
    recipe = load_gpu_recipe("tiny")
    assert recipe.model.path == Path("checkpoints/tiny-falcon")
    config = json.loads((ROOT / recipe.model.path / "config.json").read_text(encoding="utf-8"))

    assert recipe.limits.max_seq_len == config["max_position_embeddings"]
