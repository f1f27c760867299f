"""The container's variables that follow from sizes and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from falconry.deployment.variables import Sizes, outlook, worked_out
from falconry.settings import load_settings

ROOT = Path(__file__).parents[2]
GB = 10**9
# Falcon-7B in bfloat16 with an image of 15 GB, and Falcon-40B's 84 GB with one of 16 GB.
SEVEN, FORTY = Sizes(15 * GB, 14 * GB, 14 * GB), Sizes(16 * GB, 84 * GB, 84 * GB)


def found(sizes: Sizes | None, ranks: int, words: str = "", **current: str) -> dict[str, str]:
    settings = load_settings(ROOT, "oci", overrides=words)
    return {each.name: each.value for each in worked_out(settings, sizes, ranks, current)}


def test_storage_holds_image_zip_and_unpacked_artifact_with_room_to_spare() -> None:
    for sizes in (SEVEN, FORTY):
        needed = (sizes.image + sizes.artifact + sizes.unpacked) / GB
        storage = int(found(sizes, 1)["STORAGE_SIZE_IN_GB"])
        assert 1.2 * needed < storage < 4 * needed
        # Oracle's sample gives Falcon 500 GB.
        assert storage <= 500


@pytest.mark.parametrize(
    ("sizes", "ranks", "words", "name", "value"),
    [
        (Sizes(0, 1000, 1000), 0, "", "STORAGE_SIZE_IN_GB", "50"),
        # samples, llm/llama2: 60 is the example, 240 the most.
        (SEVEN, 1, "", "DEPLOYMENT_TIMEOUT_IN_MINUTES", "60"),
        (FORTY, 2, "", "DEPLOYMENT_TIMEOUT_IN_MINUTES", "120"),
        (Sizes(GB, 400 * GB, 400 * GB), 8, "", "DEPLOYMENT_TIMEOUT_IN_MINUTES", "240"),
        (FORTY, 2, "", "SHM_SIZE", "5g"),
        (FORTY, 8, "", "SHM_SIZE", "16g"),
        (SEVEN, 1, "", "SHM_SIZE", None),
        (SEVEN, 0, "", "SHM_SIZE", None),
        (SEVEN, 1, "", "MODEL_DEPLOY_ENABLE_STREAMING", "true"),
        (FORTY, 2, "deployment.environment.SHM_SIZE=9g", "SHM_SIZE", "9g"),
        (SEVEN, 1, "deployment.environment.STORAGE_SIZE_IN_GB=77", "STORAGE_SIZE_IN_GB", "77"),
    ],
    ids=str,
)
def test_each_variable_follows_from_sizes_gpus_and_the_profile(
    sizes: Any, ranks: int, words: str, name: str, value: str | None
) -> None:
    assert found(sizes, ranks, words).get(name) == value


def test_a_running_deployment_s_storage_and_timeout_are_not_lowered() -> None:
    standing = {"STORAGE_SIZE_IN_GB": "900", "DEPLOYMENT_TIMEOUT_IN_MINUTES": "200"}
    assert found(SEVEN, 1, **standing).items() >= standing.items()
    assert (
        found(FORTY, 2, STORAGE_SIZE_IN_GB="60", SHM_SIZE="99g").items()
        >= {
            "STORAGE_SIZE_IN_GB": found(FORTY, 2)["STORAGE_SIZE_IN_GB"],
            "SHM_SIZE": "5g",
        }.items()
    )
    own = found(SEVEN, 1, "deployment.environment.STORAGE_SIZE_IN_GB=77", **standing)
    assert own["STORAGE_SIZE_IN_GB"] == "77"


def test_before_the_engine_is_built_the_plan_has_estimates() -> None:
    lines = outlook(load_settings(ROOT, "oci", recipe="falcon-40b"))
    assert [line.split("=")[0].removeprefix("variable ") for line in lines] == [
        "STORAGE_SIZE_IN_GB",
        "DEPLOYMENT_TIMEOUT_IN_MINUTES",
        "SHM_SIZE",
        "MODEL_DEPLOY_ENABLE_STREAMING",
    ]
    assert "estimated" in lines[0]
    unknown = outlook(load_settings(ROOT, "local", checkpoint="hub:nobody/nothing@" + "0" * 40))
    assert "by the sizes of image and artifact" in unknown[-1]
