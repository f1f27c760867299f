"""Toolchains: the rows that are shipped, and what is said of a row that cannot do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from falconry.data_files import project_file
from falconry.engine.toolchain import load_toolchains
from falconry.errors import SettingsError

FLAGS = Path(__file__).parents[2] / "data" / "trtllm_flags"

ROWS = [row.release for row in load_toolchains().rows]

# triton-inference-server/server, docs/introduction/compatibility.md: TensorRT-LLM, TensorRT, CUDA
# and Python of the trtllm images.
MATRIX = {
    "25.05": ("0.19.0", "10.9.0.34", "12.8.1", "3.12"),
    "25.10": ("1.0.0", "10.11.0.33", "12.9.1", "3.12"),
    "26.07": ("1.2.1", "10.14.1.48", "13.1.0", "3.12"),
}


@pytest.mark.parametrize("release", MATRIX)
def test_a_row_has_the_versions_of_nvidias_compatibility_matrix(release: str) -> None:
    row = load_toolchains().row(release)
    tensorrt_llm, tensorrt, cuda, python = MATRIX[release]

    assert (row.tensorrt_llm, row.python) == (tensorrt_llm, python)
    assert row.tensorrt.startswith(tensorrt)
    assert row.cuda.startswith(cuda)
    assert row.image == f"nvcr.io/nvidia/tritonserver:{release}-trtllm-python-py3"


def test_the_default_is_the_last_row_with_cuda_12() -> None:
    assert load_toolchains().row(None).release == "25.10"


@pytest.mark.parametrize(
    ("release", "reason", "take"),
    [
        ("23.10", "its image has no tensorrt_llm package", "25.05"),
        ("24.12", "its image has no /app/examples", "25.05"),
        ("1.3", "has no TensorRT engines", "26.07"),
    ],
)
def test_a_retired_release_is_refused_with_the_reason_and_the_row_to_take(
    release: str, reason: str, take: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_toolchains().row(release)

    assert f"the toolchain {release} is retired: " in refused.value.problem
    assert reason in refused.value.problem
    assert refused.value.remedy == f"set it to {take}"


def test_no_retired_release_names_a_row_that_is_not_there() -> None:
    assert {retired.take for retired in load_toolchains().retired.values()} <= set(ROWS)


def test_no_row_claims_a_digest_that_nobody_has_pulled() -> None:
    assert {row.digest for row in load_toolchains().rows} == {None}


@pytest.mark.parametrize("release", ROWS)
def test_every_row_names_its_source(release: str) -> None:
    assert load_toolchains().row(release).source


@pytest.mark.parametrize("release", MATRIX)
def test_only_flags_are_used_that_the_releases_own_programs_know(release: str) -> None:
    commands = load_toolchains().commands
    known = json.loads((FLAGS / f"{release}.json").read_text(encoding="utf-8"))
    tables = {
        "convert": commands.convert,
        "quantize": commands.quantize,
        "build": commands.build,
    }

    for phase, table in tables.items():
        values = table.model_dump().values()
        flags = {value for value in values if isinstance(value, str)}
        assert flags <= set(known[phase]), phase


def test_an_unknown_release_is_answered_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no toolchain '24\.01'.*choose one of 25\.05, 25\.10"):
        load_toolchains().row("24.01")


def test_a_row_with_an_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    text = project_file("engine/toolchains.toml").read_text(encoding="utf-8")
    path = tmp_path / "toolchains.toml"
    path.write_text(text.replace("listed_gb = 14.2", "listed_gb = 14.2\nsize = 1"))

    with pytest.raises(SettingsError, match=r"rows\.2\.size: unknown key"):
        load_toolchains(path)
