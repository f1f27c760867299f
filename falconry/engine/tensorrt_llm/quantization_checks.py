"""Checks of a spec's number types and quantisation."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.engine.tensorrt_llm.checks import SpecCheck, either, listed, shape_remedy, ways
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding, verdict

# Source: TensorRT-LLM's support matrix (docs/source/legacy/reference/support-matrix.md): FP8 from
# Ada on, bfloat16 from Ampere on.
_SM_OF_FP8 = 89
_SM_OF_FP8_ATTENTION = 90
_SM_OF_BFLOAT16 = 80

_CALIBRATED = ("fp8", "int4_awq")

# Source: get_calib_dataloader, which knows a third one for models of images.
_DATASETS = ("cnn_dailymail", "pileval")

# What `datasets` takes for another split than `train` (data_files.py).
_OTHER_SPLITS = re.compile(
    r"(?<![a-z])(test|testing|valid|validation|val|dev|eval|evaluation)(?![a-z])"
)

_MOST_BYTES = 1 << 24  # of a file with calibration data

# The block sizes of TensorRT-LLM's int4 kernels (fpA_intB_gemm: group sizes 64 and 128).
_AWQ_BLOCKS = (128, 64)

_AWQ_VOCABULARY = 64

# Requests up to which the GEMM plugin's FP8 kernels are the faster ones.
_LARGEST_FP8_GEMM = 4


def calibrated(spec: GpuEngineSpec) -> bool:
    """Whether scales have to be measured for the quantisation."""
    return spec.recipe.quantization in _CALIBRATED or spec.recipe.kv_cache.dtype != "auto"


def _dtype(spec: GpuEngineSpec) -> Finding:
    found = f"{spec.recipe.dtype} on SM {spec.shape.sm}"
    bfloat16 = spec.shape.sm >= _SM_OF_BFLOAT16
    if spec.architecture.family == "falcon3" and spec.recipe.dtype == "float16" and bfloat16:
        # A public sweep of Falcon3-10B-Instruct: float16 ended in a device-side assertion.
        return Finding(
            "dtype",
            "warning",
            "Falcon3 was trained in bfloat16, and some of its values overflow float16",
            'set dtype = "bfloat16"',
        )
    return verdict(
        "dtype",
        spec.recipe.dtype != "bfloat16" or bfloat16,
        found,
        f"bfloat16 needs SM {_SM_OF_BFLOAT16} or later, and {spec.shape.gpu} is SM {spec.shape.sm}",
        ways('set dtype = "float16"', shape_remedy(lambda other: other.sm >= _SM_OF_BFLOAT16)),
    )


def _fp8(spec: GpuEngineSpec) -> Finding:
    recipe, shape = spec.recipe, spec.shape
    used = "fp8" in (recipe.quantization, recipe.plugins.gemm, recipe.kv_cache.dtype)
    return verdict(
        "FP8",
        not used or shape.sm >= _SM_OF_FP8,
        f"on SM {shape.sm}" if used else "not used",
        f"FP8 needs SM {_SM_OF_FP8} or later, and {shape.gpu} is SM {shape.sm}",
        ways(
            'set quantization = "int8_weight_only"',
            shape_remedy(lambda other: other.sm >= _SM_OF_FP8),
        ),
    )


def _calibration(spec: GpuEngineSpec) -> Finding:
    recipe, given = spec.recipe, spec.recipe.calibration is not None
    return verdict(
        "calibration",
        calibrated(spec) == given,
        "given" if given else "not needed",
        f"[calibration] {'has nothing to do' if given else 'is missing'} with quantization ="
        f' "{recipe.quantization}" and kv_cache.dtype = "{recipe.kv_cache.dtype}"',
        "remove it from the recipe" if given else "add it with dataset, size and awq_block_size",
    )


def _dataset(spec: GpuEngineSpec) -> Finding:
    dataset = spec.recipe.calibration.dataset if spec.recipe.calibration else None
    known = dataset is None or dataset.startswith("/") or dataset in _DATASETS
    return verdict(
        "calibration data",
        known,
        dataset or "not needed",
        f'NVIDIA\'s quantiser knows no data set "{dataset}"',
        f"set calibration.dataset to {either(_DATASETS)}, or to the absolute path of a directory",
    )


def calibration_files(spec: GpuEngineSpec) -> Finding:
    """Whether the quantiser can read the calibration data of this machine.

    It calls load_dataset(directory, split="train") of Hugging Face's `datasets` and takes the
    column `text` (tensorrt_llm/quantization/quantize_by_modelopt.py, get_calib_dataloader).
    """
    name, dataset = "calibration data", spec.recipe.calibration
    if dataset is None or not dataset.dataset.startswith("/"):
        return Finding(name, "ok", "no files of this machine")
    directory = Path(dataset.dataset)
    found_files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    files = [path for path in found_files if path.suffix in _COLUMNS]
    training = [path for path in files if not _OTHER_SPLITS.search(path.stem)]
    problem = None
    if not directory.is_dir():
        problem = f"{directory} is not a directory"
    elif not training:
        problem = f"{directory} has no training data in {listed(list(_COLUMNS))} files"
    else:
        try:
            if not _COLUMNS[training[0].suffix](training[0]):
                problem = f"{training[0]} has no column `text`"
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            problem = f"{training[0]} cannot be read ({error})"
    found = f"{len(training)} files with a column `text`"
    remedy = "give a directory whose files have the texts in a column `text`"
    return verdict(name, problem is None, found, problem or "", remedy)


def _json_has_text(path: Path) -> bool:
    """Looks at the first row, a line's or an array's, and reads no more than needed for it."""
    with path.open("rb") as stream:
        text = stream.read(_MOST_BYTES).decode("utf-8", errors="replace").lstrip()
    if path.suffix == ".json" and text.startswith("["):
        text = text.removeprefix("[").lstrip()
    elif path.suffix == ".json":
        raise ValueError("is not a JSON array")
    row, _ = json.JSONDecoder().raw_decode(text)
    return isinstance(row, dict) and "text" in row


def _csv_has_text(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as stream:
        return "text" in next(csv.reader(stream), [])


def _parquet_has_text(path: Path) -> bool:
    """Looks for the name, after its length, in the footer's schema."""
    with path.open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        size, mark = int.from_bytes(stream.read(4), "little"), stream.read(4)
        if mark != b"PAR1":
            raise ValueError("is not Parquet")
        stream.seek(-8 - size, os.SEEK_END)
        return b"\x04text" in stream.read(min(size, _MOST_BYTES))


# The formats that `datasets` knows by a file's name, each with whether a file has a column `text`;
# plain text is such a column.
_COLUMNS: Mapping[str, Callable[[Path], bool]] = {
    ".parquet": _parquet_has_text,
    ".jsonl": _json_has_text,
    ".json": _json_has_text,
    ".csv": _csv_has_text,
    ".txt": lambda _: True,
}


def _cache_type(spec: GpuEngineSpec) -> Finding:
    """Refuses a cache of fewer bits where NVIDIA's quantiser leaves it out without a word.

    Run on an H200 with modelopt 0.33.1 and 0.37.0, those of TensorRT-LLM 1.0 and 1.2: it does
    not find the cache in FalconAttention of transformers ("Auto quantization of KV Cache fails"),
    and writes "kv_cache_quant_algo": null. It finds a Llama's with the quantisers that are used for
    fp8 in quantize_by_modelopt.py (FP8_KV_CFG), and not with those for int8 (KV_CACHE_CFG). That
    0.29's result is the same is inferred.
    """
    dtype = spec.recipe.kv_cache.dtype
    falcon = isinstance(spec.architecture, FalconArchitecture)
    model, remedy = ("Falcon", "auto") if falcon else ("Llama", "fp8")
    if dtype == "fp8" and not falcon:
        return _fp8_cache(spec)
    return verdict(
        "KV cache",
        dtype == "auto",
        "of the engine's type",
        f'kv_cache.dtype = "{dtype}" has no effect on a {model}: NVIDIA\'s quantiser does not'
        " find its cache, which keeps the engine's type",
        f'set kv_cache.dtype = "{remedy}"',
    )


def _fp8_cache(spec: GpuEngineSpec) -> Finding:
    """Whether attention over pages reads an FP8 cache.

    Sources: TensorRT-LLM 0.16, tensorrt_llm/builder.py (build refuses other quantisations, and
    enables FP8 attention for prompts) and docs/source/advanced/gpt-attention.md (only on Hopper).
    """
    name, auto = "KV cache", 'set kv_cache.dtype = "auto"'
    paged = 'kv_cache.dtype = "fp8" with plugins.paged_context_fmha'
    if not spec.recipe.plugins.paged_context_fmha:
        return Finding(name, "ok", "fp8")
    if spec.recipe.quantization != "fp8":
        remedy = f"{auto}, or plugins.paged_context_fmha = false"
        return Finding(name, "failed", f'{paged} needs quantization = "fp8"', remedy)
    if spec.shape.sm < _SM_OF_FP8_ATTENTION:
        text = (
            f"{paged} takes FP8 attention for prompts, which NVIDIA promises for Hopper alone, and"
            f" {spec.shape.gpu} is SM {spec.shape.sm}"
        )
        return Finding(name, "warning", text, auto)
    return Finding(name, "ok", "fp8, with FP8 attention for prompts")


def _gemm(spec: GpuEngineSpec) -> Finding:
    """NVIDIA's advice on cuBLAS's matrix products, by the quantisation.

    Source: TensorRT-LLM 0.16, docs/source/performance/perf-best-practices.md, "GEMM Plugin".
    """
    name, gemm = "matrix products", spec.recipe.plugins.gemm
    batch = spec.recipe.limits.max_batch_size
    advice = 'set plugins.gemm = "disable"'
    if spec.recipe.quantization != "fp8" or gemm == "disable":
        return Finding(name, "ok", f"plugins.gemm {gemm}")
    if gemm != "fp8":
        text = "NVIDIA advises against the GEMM plugin with FP8: TensorRT's own products are faster"
        return Finding(name, "warning", text, advice)
    if batch <= _LARGEST_FP8_GEMM:
        return Finding(name, "ok", f"plugins.gemm {gemm} for {batch} requests")
    text = f"the GEMM plugin for FP8 is made for {_LARGEST_FP8_GEMM} requests, not for {batch}"
    return Finding(name, "warning", text, advice)


def _awq_vocabulary(spec: GpuEngineSpec) -> Finding:
    name, size = "AWQ vocabulary", spec.architecture.vocab_size
    padded = awq_vocabulary(size)
    if spec.recipe.quantization != "int4_awq" or size == padded:
        return Finding(name, "ok", "not padded")
    return Finding(
        name,
        "warning",
        f"NVIDIA's quantiser pads the vocabulary from {size} to {padded} with zeros, and an engine"
        " may answer with an id that no token has",
        'set quantization = "int4_weight_only", or extend the tokenizer and the checkpoint',
    )


def awq_vocabulary(size: int) -> int:
    """The vocabulary of an engine quantised by AWQ.

    Source: modelopt 0.37.0, torch/export/postprocess.py, pad_embedding_lm_head; run on an H200.
    """
    return -(-size // _AWQ_VOCABULARY) * _AWQ_VOCABULARY


def _awq_blocks(spec: GpuEngineSpec) -> Finding:
    architecture, tensor = spec.architecture, spec.recipe.parallelism.tensor
    calibration = spec.recipe.calibration
    if spec.recipe.quantization != "int4_awq" or calibration is None:
        return Finding("AWQ block", "ok", "not used")
    # The columns of a rank's matrices: all where rows are split, and a share where columns are.
    columns = (
        architecture.hidden_size,
        architecture.num_heads * architecture.head_size // tensor,
        architecture.ffn_hidden_size // tensor,
    )
    block = calibration.awq_block_size
    fitting = [size for size in _AWQ_BLOCKS if all(count % size == 0 for count in columns)]
    odd = next((count for count in columns if count % block), 0)
    return verdict(
        "AWQ block",
        not odd,
        f"{block} weights a scale, {listed(columns)} columns",
        f"calibration.awq_block_size {block} does not divide the {odd} columns of a rank's matrix",
        ways(
            f"set calibration.awq_block_size to {either(fitting)}" if fitting else None,
            'set quantization = "int4_weight_only"',
        ),
    )


QUANTIZATION_CHECKS: Sequence[SpecCheck] = (
    _dtype,
    _fp8,
    _cache_type,
    _gemm,
    _calibration,
    _dataset,
    _awq_blocks,
    _awq_vocabulary,
)
