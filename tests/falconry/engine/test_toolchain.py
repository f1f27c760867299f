"""Toolchains: the rows that are shipped, and what is said of a row that cannot do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from falconry.data_files import project_file
from falconry.engine.toolchain import load_dialect, load_toolchains
from falconry.errors import SettingsError

FLAGS = Path(__file__).parents[2] / "data" / "trtllm_flags"

ROWS = [row.release for row in load_toolchains().rows]

# triton-inference-server/server, docs/introduction/compatibility.md: TensorRT-LLM, TensorRT, CUDA
# and Python of the trtllm images.
MATRIX = {
    "23.10": ("0.5.0", "9.1", "12.2", "3.10"),
    "24.12": ("0.16.0", "10.7.0", "12.6.3", "3.12"),
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


def test_the_default_is_the_last_row_with_cuda_12_and_can_do_everything() -> None:
    row = load_toolchains().row(None)

    assert row.release == "25.10"
    assert (row.python_package, row.falcon2, row.engine_backend) == (True, True, True)


def test_falcon2_can_be_built_from_0_15_on() -> None:
    # NVIDIA/TensorRT-LLM, release notes of 0.15.
    rows = [row for row in load_toolchains().rows if row.falcon2]

    assert [row.release for row in rows] == ["24.12", "25.05", "25.10", "26.07"]


def test_a_row_without_a_capability_is_answered_with_the_default_that_has_it() -> None:
    toolchains = load_toolchains()

    assert not toolchains.row("23.10").falcon2
    assert toolchains.with_capability("falcon2").release == "25.10"
    assert not toolchains.row("1.3").engine_backend
    assert toolchains.with_capability("engine_backend").release == "25.10"


def test_no_row_claims_a_digest_that_nobody_has_pulled() -> None:
    assert {row.digest for row in load_toolchains().rows} == {None}


@pytest.mark.parametrize("release", ROWS)
def test_every_row_names_its_source_and_a_dialect_that_is_described(release: str) -> None:
    row = load_toolchains().row(release)

    assert row.source
    assert load_dialect(row).build.output == "--output_dir"


@pytest.mark.parametrize("release", MATRIX)
def test_a_dialect_has_only_flags_that_the_releases_own_programs_know(release: str) -> None:
    dialect = load_dialect(load_toolchains().row(release))
    known = json.loads((FLAGS / f"{release}.json").read_text(encoding="utf-8"))
    tables = {"convert": dialect.convert, "quantize": dialect.quantize, "build": dialect.build}

    for phase, table in tables.items():
        values = table.model_dump().values() if table else ()
        flags = {value for value in values if isinstance(value, str) and value.startswith("--")}
        assert flags <= set(known[phase]), phase


def test_an_unknown_release_is_answered_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no toolchain '24\.01'.*choose one of 23\.10, 24\.12"):
        load_toolchains().row("24.01")


def test_a_dialect_that_the_file_does_not_describe_is_named() -> None:
    row = load_toolchains().row(None).model_copy(update={"flags": "future"})

    with pytest.raises(SettingsError, match=r"no dialect 'future' for the toolchain 25\.10"):
        load_dialect(row)


def test_a_row_with_an_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    text = project_file("engine/toolchains.toml").read_text(encoding="utf-8")
    path = tmp_path / "toolchains.toml"
    path.write_text(text.replace("listed_gb = 14.2", "listed_gb = 14.2\nsize = 1"))

    with pytest.raises(SettingsError, match=r"rows\.4\.size: unknown key"):
        load_toolchains(path)
