"""STAND-IN, not NVIDIA's: the tools of NVIDIA's image that build Falcon engines, and nvidia-smi.

Each takes the flags that its release documents, reads what it would read, and writes files of the
documented names and layout. None computes anything.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from stand_in_checkpoint import (
    calibrated,
    converted_config,
    read_weights,
    weight_only,
    write_json,
    write_weights,
)
from stand_in_command import Command, Step, log, work
from stand_in_engine import engine_writer


def convert_checkpoint() -> None:
    """`convert_checkpoint.py`."""
    command = Command("convert")
    values = command.parse()
    print(importlib.metadata.version("tensorrt_llm"), flush=True)
    quant = {"quant_algo": None}
    if values.use_weight_only:
        quant = weight_only(values.weight_only_precision or "int8")
    _write_checkpoint(command, values, values.output_dir or "tllm_checkpoint", quant)
    print("Total time of converting checkpoints: 00:00:00")


def quantize() -> None:
    """`quantize.py`."""
    command = Command("quantize")
    values = command.parse()
    dataset = Path(values.calib_dataset or "cnn_dailymail")
    if dataset.is_absolute() and not dataset.is_dir():
        raise FileNotFoundError(f"Couldn't find any data file at {dataset}.")
    block_size = command.integer(values, "awq_block_size", 128)
    quant = calibrated(values.qformat or "full_prec", values.kv_cache_dtype, block_size)
    _write_checkpoint(command, values, values.output_dir or "exported_model", quant)
    print("Quantization done. Total time used: 0.00 s.")


def trtllm_build() -> None:
    """`trtllm-build`."""
    command = Command("build")
    values = command.parse()
    checkpoint = Path(values.checkpoint_dir)
    pretrained = json.loads((checkpoint / "config.json").read_text())
    for rank in range(pretrained["mapping"]["world_size"]):
        read_weights(checkpoint / f"rank{rank}.safetensors")
    build = _build_config(command, values, pretrained)
    version = importlib.metadata.version("tensorrt_llm")
    print(f"[TensorRT-LLM] TensorRT-LLM version: {version}", flush=True)
    config = {"version": version, "pretrained_config": pretrained, "build_config": build}
    names = [f"rank{rank}.engine" for rank in range(pretrained["mapping"]["world_size"])]
    _write_engines(Path(values.output_dir or "engine_outputs"), config, names)
    timing_cache = values.output_timing_cache or "model.cache"  # in the working directory
    Path(timing_cache).write_bytes(b"STAND-IN TIMING CACHE")
    log(f"Timing cache serialized to {timing_cache}")
    log("Total time of building all engines: 00:00:00")


def nvidia_smi() -> None:
    """`nvidia-smi`: the GPUs of STAND_IN_GPUS, `name, driver, capability`, separated by `;`."""
    gpus = os.environ.get("STAND_IN_GPUS")
    if not gpus:
        print(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make"
            " sure that the latest NVIDIA driver is installed and running."
        )
        sys.exit(9)
    print("\n".join(gpu.strip() for gpu in gpus.split(";")))


def mpirun() -> None:
    """Open MPI's `mpirun`: a command as so many ranks, one after the other."""
    arguments = sys.argv[1:]
    assert arguments[:2] == ["--oversubscribe", "-n"], arguments
    count, *command = arguments[2:]
    for rank in range(int(count)):
        environment = {**os.environ, "OMPI_COMM_WORLD_RANK": str(rank)}
        environment["OMPI_COMM_WORLD_SIZE"] = count
        subprocess.run(command, env=environment, check=True)


def _write_checkpoint(command: Command, values, place: str, quant: dict) -> None:
    tensor = command.integer(values, "tp_size", 1)
    pipeline = command.integer(values, "pp_size", 1)
    config = converted_config(values.model_dir, values.dtype, tensor, pipeline, quant)
    output = Path(place)
    output.mkdir(parents=True, exist_ok=True)
    steps = [Step("Config saved.", output / "config.json", write_json(config))]
    for rank in range(tensor * pipeline):
        steps.append(Step("Loading checkpoint shards:  50%|#####     | 1/2", bar=True))
        steps.append(Step("Weights loaded. Total time: 00:00:00"))
        steps.append(Step("Saved.", output / f"rank{rank}.safetensors", write_weights))
    work(command.phase, steps)


def _write_engines(output: Path, config: dict, names: list) -> None:
    output.mkdir(parents=True, exist_ok=True)
    steps = [Step("Config saved.", output / "config.json", write_json(config))]
    for rank, name in enumerate(names):
        steps.append(Step("Build TensorRT engine Unnamed Network 0"))
        steps.append(Step("Engine generation completed in 0.1 seconds."))
        write = engine_writer(config, rank)
        steps.append(Step("Engine serialized. Total time: 00:00:00", output / name, write))
    work("build", steps)


def _build_config(command: Command, values, pretrained: dict) -> dict:
    positions = pretrained["max_position_embeddings"]
    kv_cache_type = values.kv_cache_type or "paged"
    return {
        "max_batch_size": command.integer(values, "max_batch_size", 2048),
        "max_input_len": command.integer(values, "max_input_len", 1024),
        "max_seq_len": command.integer(values, "max_seq_len", positions),
        "max_beam_width": command.integer(values, "max_beam_width", 1),
        "max_num_tokens": command.integer(values, "max_num_tokens", 8192),
        "opt_num_tokens": command.integer(values, "opt_num_tokens", None),
        "kv_cache_type": kv_cache_type.upper(),
        "strongly_typed": True,
        "input_timing_cache": values.input_timing_cache,
        "output_timing_cache": values.output_timing_cache or "model.cache",
        "plugin_config": {
            "dtype": pretrained["dtype"],
            "gpt_attention_plugin": _plugin(values.gpt_attention_plugin or "auto", pretrained),
            "gemm_plugin": _plugin(values.gemm_plugin, pretrained),
            "context_fmha": values.context_fmha != "disable",
            "remove_input_padding": values.remove_input_padding != "disable",
            "use_paged_context_fmha": values.use_paged_context_fmha != "disable",
            "paged_kv_cache": kv_cache_type == "paged",
            "tokens_per_block": command.integer(values, "tokens_per_block", 32),
        },
    }


def _plugin(value, pretrained: dict):
    if value in (None, "disable"):
        return None
    return pretrained["dtype"] if value == "auto" else value
