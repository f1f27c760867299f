"""What types and quantisation are refused, and that each refusal says what to change."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from falconry.engine.tensorrt_llm.quantization_checks import calibration_files
from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from tests.falconry.engine.tensorrt_llm.checking import CALIBRATION, check_refusal, failures
from tests.falconry.engine.tensorrt_llm.specs import A10, H100, spec

L40S = A10.model_copy(update={"gpu": "NVIDIA L40S", "sm": 89, "gpu_memory_gib": 48.0})
V100 = A10.model_copy(update={"gpu": "Tesla V100-SXM2-16GB", "sm": 70, "name": "VM.GPU3.1"})

AWQ_128 = {"awq_block_size": 128}
FP8 = {"quantization": "fp8", "calibration": CALIBRATION}

# Changes to a spec that passes; what the check finds; what it says to change.
REFUSALS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "falcon-7b",
        {"quantization": "fp8", "calibration": CALIBRATION},
        "FP8",
        "FP8 needs SM 89 or later, and NVIDIA A10 is SM 86",
        'quantization = "int8_weight_only"',
    ),
    *(
        (
            "falcon-7b",
            {"kv_cache": {"dtype": dtype}, "calibration": CALIBRATION, "shape": H100},
            "KV cache",
            f'kv_cache.dtype = "{dtype}" has no effect on a Falcon',
            'kv_cache.dtype = "auto"',
        )
        for dtype in ("fp8", "int8")
    ),
    (
        "falcon3-7b",
        {"kv_cache": {"dtype": "int8"}, "calibration": CALIBRATION, "shape": H100},
        "KV cache",
        'kv_cache.dtype = "int8" has no effect on a Llama',
        'kv_cache.dtype = "fp8"',
    ),
    (
        # tensorrt_llm/builder.py: "only works with fp8 quantization workflow currently".
        "falcon3-7b",
        {"kv_cache": {"dtype": "fp8"}, "calibration": CALIBRATION, "shape": H100},
        "KV cache",
        'kv_cache.dtype = "fp8" with plugins.paged_context_fmha needs quantization = "fp8"',
        'set kv_cache.dtype = "auto"',
    ),
    (
        "falcon3-7b",
        {"kv_cache": {"dtype": "fp8"}, "plugins": {"paged_context_fmha": False}}
        | {"calibration": CALIBRATION},
        "FP8",
        "FP8 needs SM 89 or later, and NVIDIA A10 is SM 86",
        'quantization = "int8_weight_only"',
    ),
    (
        "falcon-7b",
        {"dtype": "bfloat16", "shape": V100, "toolchain": {"sm": (70, 80)}, "quantization": "none"},
        "dtype",
        "bfloat16 needs SM 80 or later, and Tesla V100-SXM2-16GB is SM 70",
        'set dtype = "float16"',
    ),
    (
        "falcon-7b",
        {"quantization": "int4_awq"},
        "calibration",
        '[calibration] is missing with quantization = "int4_awq"',
        "add it with dataset, size and awq_block_size",
    ),
    (
        "falcon-7b",
        {"quantization": "int4_awq", "calibration": {**CALIBRATION, "dataset": "wikitext"}},
        "calibration data",
        'NVIDIA\'s quantiser knows no data set "wikitext"',
        "set calibration.dataset to cnn_dailymail or pileval, or to the absolute path",
    ),
    (
        "falcon-7b",
        {"calibration": CALIBRATION},
        "calibration",
        '[calibration] has nothing to do with quantization = "none"',
        "remove it",
    ),
    (
        "falcon-7b",
        {"quantization": "int4_awq", "calibration": {**CALIBRATION, "awq_block_size": 128}},
        "AWQ block",
        "awq_block_size 128 does not divide the 4544 columns",  # 4544 = 71 * 64
        "set calibration.awq_block_size to 64",
    ),
    (
        "falcon-40b",
        {
            "architecture": {"ffn_hidden_size": 32896},  # 257 * 128, a rank has 257 * 64
            "quantization": "int4_awq",
            "calibration": {**CALIBRATION, "awq_block_size": 128},
        },
        "AWQ block",
        "does not divide the 16448 columns of a rank's matrix",
        "set calibration.awq_block_size to 64",
    ),
]


@pytest.mark.parametrize(
    ("model", "changes", "name", "problem", "remedy"),
    REFUSALS,
    ids=[f"{name}: {problem[:40]}" for _, _, name, problem, _ in REFUSALS],
)
def test_what_cannot_be_built_is_refused_with_what_to_change(
    model: str, changes: dict[str, Any], name: str, problem: str, remedy: str
) -> None:
    check_refusal(spec(model, **changes), name, problem, remedy)


# The same demands where they can be met.
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("falcon-7b", {"quantization": "fp8", "calibration": CALIBRATION, "shape": H100}),
        ("falcon-7b", {"quantization": "int4_awq", "calibration": CALIBRATION}),
        ("falcon-7b", {"quantization": "int8_weight_only"}),
        ("falcon-7b", {"dtype": "bfloat16"}),
        # 128 weights a scale divide every matrix of a Falcon3, split or not.
        *(
            (model, {"quantization": "int4_awq", "calibration": {**CALIBRATION, **AWQ_128}})
            for model in ("falcon3-1b", "falcon3-7b", "falcon3-10b")
        ),
        (
            "falcon3-7b",
            {"quantization": "fp8", "kv_cache": {"dtype": "fp8"}, "shape": H100}
            | {"calibration": CALIBRATION},
        ),
    ],
)
def test_what_can_be_built_is_accepted(model: str, changes: dict[str, Any]) -> None:
    assert not failures(spec_checks(spec(model, **changes)))


@pytest.mark.parametrize(
    ("model", "changes", "name", "text"),
    [
        # A public sweep of Falcon3-10B-Instruct in float16 died of an assertion on the device.
        ("falcon3-10b", {"dtype": "float16"}, "dtype", "Falcon3 was trained in bfloat16"),
        # docs/source/performance/perf-best-practices.md of 0.16: gemm_plugin with FP8.
        (
            "falcon3-7b",
            {**FP8, "shape": H100},
            "matrix products",
            "NVIDIA advises against the GEMM plugin with FP8",
        ),
        (
            "falcon3-7b",
            {**FP8, "shape": H100, "plugins": {"gemm": "fp8"}},
            "matrix products",
            "is made for 4 requests, not for 16",
        ),
        # docs/source/advanced/gpt-attention.md of 0.16: FP8 attention for Hopper alone.
        (
            "falcon3-7b",
            {**FP8, "shape": L40S, "kv_cache": {"dtype": "fp8"}},
            "KV cache",
            "NVIDIA promises for Hopper alone, and NVIDIA L40S is SM 89",
        ),
    ],
    ids=["float16", "gemm", "fp8 gemm", "cache"],
)
def test_what_nvidia_advises_against_is_a_warning(
    model: str, changes: dict[str, Any], name: str, text: str
) -> None:
    found = {check.check: check for check in spec_checks(spec(model, **changes))}

    assert found[name].state == "warning"
    assert text in found[name].text
    assert found[name].remedy


@pytest.mark.parametrize(
    "plugins", [{"gemm": "disable"}, {"gemm": "fp8"}], ids=["disabled", "few requests"]
)
def test_nvidias_advice_on_matrix_products_can_be_followed(plugins: dict[str, Any]) -> None:
    built = spec("falcon3-7b", **FP8, shape=H100, plugins=plugins, limits={"max_batch_size": 4})
    found = {check.check: check for check in spec_checks(built)}

    assert found["matrix products"].state == "ok"


@pytest.mark.parametrize(("size", "padded"), [(65027, 65088), (65024, None)])
def test_a_vocabulary_that_awq_pads_is_a_warning(size: int, padded: int | None) -> None:
    changes = {"quantization": "int4_awq", "calibration": CALIBRATION}
    built = spec(**changes, architecture={"vocab_size": size})
    finding = next(each for each in spec_checks(built) if each.check == "AWQ vocabulary")

    assert finding.state == ("warning" if padded else "ok")
    assert padded is None or f"from {size} to {padded}" in finding.text


def parquet(path: Path, column: str) -> None:
    """A Parquet file with one string column, to as much as its footer."""
    # The schema's elements in Thrift's compact protocol: field 4 of each is its name.
    name = b"\x18" + bytes([len(column)]) + column.encode()
    footer = b"\x15\x02\x19\x2c\x48\x06schema\x15\x02\x00\x15\x0c\x25\x02" + name + b"\x00"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def jsonl(path: Path, column: str) -> None:
    path.write_text(json.dumps({column: "Once"}) + "\n", encoding="utf-8")


def json_list(path: Path, column: str) -> None:
    path.write_text(json.dumps([{column: "Once"}]), encoding="utf-8")


def comma_separated(path: Path, column: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["id", column], ["1", "Once, twice"]])


FORMATS = {".parquet": parquet, ".jsonl": jsonl, ".json": json_list, ".csv": comma_separated}


def looked_at(directory: Path) -> Any:
    calibration = {**CALIBRATION, "dataset": str(directory)}
    return calibration_files(spec(quantization="int4_awq", calibration=calibration))


@pytest.mark.parametrize("suffix", FORMATS)
def test_calibration_data_has_its_texts_in_a_column_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train-00000{suffix}"
    FORMATS[suffix](path, "text")
    assert looked_at(tmp_path).state == "ok"

    FORMATS[suffix](path, "article")
    assert f"{path} has no column `text`" in looked_at(tmp_path).text


def test_calibration_data_may_be_plain_text(tmp_path: Path) -> None:
    (tmp_path / "articles.txt").write_text("Once\n", encoding="utf-8")
    assert looked_at(tmp_path).state == "ok"


def test_calibration_data_is_a_directory_with_training_data(tmp_path: Path) -> None:
    file = tmp_path / "validation.jsonl"
    jsonl(file, "text")

    assert "is not a directory" in looked_at(file).text
    assert "has no training data" in looked_at(tmp_path).text
    assert "is not a directory" in looked_at(tmp_path / "absent").text


@pytest.mark.parametrize("name", ["train.parquet", "train.json", "train.jsonl"])
def test_calibration_data_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no data of this kind")
    assert f"{name} cannot be read" in looked_at(tmp_path).text


def test_calibration_data_by_name_is_not_looked_for_here() -> None:
    assert calibration_files(spec(quantization="int4_awq", calibration=CALIBRATION)).state == "ok"
