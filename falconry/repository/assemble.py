"""Assembles a servable repository from our models and an engine.

The committed ensemble has the newest release's tensor names, which the CPU engine has as well;
other releases get their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.checkpoint.tokenizer import CHAT_FILE
from falconry.digests import tree_files
from falconry.engine.manifest import EngineLimits, engine_files
from falconry.engine.tensorrt_llm.engine_config import EngineConfig
from falconry.repository import FRONT_MODEL
from falconry.repository.backend import (
    TOKENIZER_INFO,
    BackendTensors,
    backend_config,
    chunks_context,
    tokenizer_info,
)
from falconry.repository.config import (
    CONFIG_FILE,
    ModelConfig,
    read_config,
    set_parameters,
    write_config,
)
from falconry.settings import ServingSettings

ENGINE_MODEL = "tensorrt_llm"
ENSEMBLE = "ensemble"
TOKENIZER = "tokenizer.json"
# The models that turn text into tokens, and what a model needs of the engine's files, where the
# engine has them.
_PROMPT_MODELS = ("preprocessing", FRONT_MODEL)
_TOKENIZER_FILES = {
    **dict.fromkeys(_PROMPT_MODELS, (TOKENIZER, CHAT_FILE)),
    "postprocessing": (TOKENIZER,),
}
_VERSION = "1"


def adapt_ensemble(ensemble: ModelConfig, engine_model: str, tensors: BackendTensors) -> None:
    """Gives the ensemble the names of a release.

    It is changed in place: clients of a release know its inputs by the release's names, so both
    sides of a renamed tensor change.
    """
    for tensor in ensemble.input:
        tensor.name = tensors.renamed.get(tensor.name, tensor.name)
    steps = ensemble.ensemble_scheduling.step
    step = next(each for each in steps if each.model_name == engine_model)
    _rename(step.input_map, tensors.renamed)


def _rename(edges: Any, renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old in edges:
            del edges[old]
            edges[new] = new


@dataclass(frozen=True, slots=True)
class GpuServing:
    """A TensorRT-LLM engine and the backend that serves it."""

    engine: EngineConfig
    tensors: BackendTensors


def assemble(
    sources: Path,
    engine: Path,
    output: Path,
    serving: ServingSettings,
    gpu: GpuServing | None = None,
) -> None:
    """Fills an empty directory with a model repository.

    `sources` are the committed models, with NVIDIA's backend in place of the CPU model for `gpu`.
    The files of the engine, which is verified, are hard-linked and so must not be changed.
    """
    for model in sorted(path.name for path in sources.iterdir() if path.is_dir()):
        if gpu is None or model != ENGINE_MODEL:
            _copy(sources / model, output / model)
    configs = _configs(sources, EngineLimits.read(engine), serving, gpu)
    # Base models have no chat template, and so take no messages.
    set_parameters(configs[FRONT_MODEL], {"chat": json.dumps(CHAT_FILE in engine_files(engine))})
    for model, config in configs.items():
        (output / model).mkdir(exist_ok=True)
        write_config(output / model / CONFIG_FILE, config)
    files = engine_files(engine)
    _link(engine, files, output / ENGINE_MODEL / _VERSION)
    if gpu is not None:
        info = tokenizer_info(engine / TOKENIZER, EngineLimits.read(engine).end_ids)
        (output / ENGINE_MODEL / _VERSION / TOKENIZER_INFO).write_text(
            json.dumps(info, ensure_ascii=False), encoding="utf-8"
        )
    for model, needed in _TOKENIZER_FILES.items():
        _link(engine, set(needed).intersection(files), output / model / _VERSION)


def _configs(
    sources: Path, limits: EngineLimits, serving: ServingSettings, gpu: GpuServing | None
) -> dict[str, ModelConfig]:
    """All models' configurations as this engine needs them, by name."""
    configs = {
        path.parent.name: read_config(path) for path in sorted(sources.glob(f"*/{CONFIG_FILE}"))
    }
    for config in configs.values():
        config.max_batch_size = limits.max_batch_size
    longest_prompt = limits.max_input_len
    if gpu is not None:
        configs[ENGINE_MODEL] = backend_config(
            ENGINE_MODEL, gpu.engine, gpu.tensors, serving.tensorrt_llm
        )
        adapt_ensemble(configs[ENSEMBLE], ENGINE_MODEL, gpu.tensors)
        chunked = chunks_context(gpu.engine, serving.tensorrt_llm)
        longest_prompt = gpu.engine.longest_prompt(chunked)
    for model in _PROMPT_MODELS:
        set_parameters(
            configs[model],
            {
                "max_input_len": longest_prompt,
                "max_seq_len": limits.max_seq_len,
                "vocab_size": limits.vocab_size,
                "end_ids": json.dumps(limits.end_ids),
                "pad_id": limits.pad_id,
                # The CPU engine reads the words' bytes back; NVIDIA's backend compares tokens.
                "words_are_compared_as": "text" if gpu is None else "tokens",
            },
        )
    set_parameters(configs[FRONT_MODEL], _engine_dialect(gpu))
    return configs


def _engine_dialect(gpu: GpuServing | None) -> dict[str, str]:
    """The engine model's tensor names and extra parameters, for the front model."""
    names = {} if gpu is None else dict(gpu.tensors.renamed)
    # Only the CPU engine has it: see model_repository/tensorrt_llm/1/model.py.
    parameters = {"all_tokens": True} if gpu is None else {}
    return {"engine_names": json.dumps(names), "engine_parameters": json.dumps(parameters)}


def _copy(source: Path, target: Path) -> None:
    """Copies a model's files, less its configuration."""
    for name in tree_files(source):
        if name != CONFIG_FILE:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def _link(source: Path, names: Iterable[str], target: Path) -> None:
    """Hard-links files; copies them where the target is on another file system."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)
