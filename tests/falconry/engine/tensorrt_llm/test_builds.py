"""Every recipe by every release, in containers: what `commands` says is what the tools take.

The image is a stand-in (tests/stand_in_toolchain); its tools know the flags that NVIDIA documented
for the release, and no others.
"""

import contextlib
import json
from pathlib import Path

import pytest

from falconry.data_files import project_file
from falconry.engine.spec import recipe_names
from falconry.engine.tensorrt_llm.commands import CHECKPOINT, phases, plan_document
from falconry.engine.tensorrt_llm.container import BuildRun, run_build
from falconry.engine.tensorrt_llm.container_view import ContainerFile, container_view
from falconry.engine.tensorrt_llm.engine_config import check_engine
from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec, chosen_source, model_facts
from falconry.engine.toolchain import load_toolchains
from falconry.oci_facts import gpu_shape
from tests.stand_in_toolchain.image import stand_in_image

ROOT = Path(__file__).parents[4]
ROWS = load_toolchains().rows
GPU_RECIPES = [name for name in recipe_names() if not name.startswith("cpu")]
H100 = "NVIDIA H100 80GB HBM3, 580.65.06, 9.0"


def spec_of(name, row, image):
    recipe = load_gpu_recipe(name)
    facts = model_facts(chosen_source(None, recipe.model), recipe.model)
    return GpuEngineSpec(
        architecture=facts.architecture,
        num_parameters=facts.num_parameters,
        checkpoint_bytes=facts.checkpoint_bytes,
        end_ids=facts.end_ids,
        pad_id=facts.pad_id,
        recipe=recipe,
        toolchain=row,
        image=image,
        image_replaced=True,
        shape=gpu_shape("BM.GPU.H100.8"),
    )


def checkpoint_of(recipe):
    """The recipe's own checkpoint, or of a published one the config.json, all that tools read."""
    if recipe.model.path:
        return container_view(ROOT / recipe.model.path)
    published = f"{recipe.model.hub.rpartition('/')[2]}.json"
    config = project_file("engine/published") / published
    return (ContainerFile(CHECKPOINT / "config.json", config),)


def every_build():
    """Every recipe by every release; all but one release a recipe are left to `-m long`.

    What the other builds would run is in the recorded plans (tests/data/plans).
    """
    for number, name in enumerate(GPU_RECIPES):
        for turn, row in enumerate(ROWS):
            marks = () if turn == number % len(ROWS) else pytest.mark.long
            yield pytest.param(name, row, id=f"{name}-{row.release}", marks=marks)


@pytest.mark.parametrize(("name", "row"), [*every_build()])
def test_the_releases_tools_build_what_the_recipe_says(
    docker_engine, monkeypatch, tmp_path, name, row
):
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    monkeypatch.chdir(ROOT)
    with contextlib.closing(docker_engine.client()) as client:
        image = stand_in_image(client, row.release, row, {"STAND_IN_GPUS": ";".join([H100] * 8)})
    spec = spec_of(name, row, image)
    places = {place: tmp_path / place for place in ("engine", "scratch", "cache")}
    for place in places.values():
        place.mkdir()
    plan = plan_document(spec, phases(spec, spec.recipe.parallelism.world_size))
    (places["scratch"] / "plan.json").write_text(json.dumps(plan))

    found = run_build(
        BuildRun(
            key="0" * 64,
            image=image,
            checkpoint=checkpoint_of(spec.recipe),
            output=places["engine"],
            scratch=places["scratch"],
            cache=places["cache"],
            calibration=None,
            gpus=None,
            network=False,
            shm_bytes=64 << 20,
            log=tmp_path / "log",
            environment={},
        ),
        lambda step, fraction: None,
    )

    check_engine(places["engine"], spec)
    assert (found["tensorrt_llm"], found["gpus"]) == (row.tensorrt_llm, 8)
