"""Puts a servable repository together: our models, an engine, and what the engine decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from falconry.digests import tree_files
from falconry.engine.manifest import engine_files
from falconry.engine.serving import EngineLimits
from falconry.repository.config import (
    CONFIG_FILE,
    ModelConfig,
    read_config,
    set_parameters,
    write_config,
)

ENGINE_MODEL = "tensorrt_llm"
FRONT_MODEL = "tensorrt_llm_bls"
TOKENIZER = "tokenizer.json"
_TOKENIZER_MODELS = ("preprocessing", "postprocessing", FRONT_MODEL)
_PROMPT_MODELS = ("preprocessing", FRONT_MODEL)
_DECOUPLED_MODELS = (ENGINE_MODEL, FRONT_MODEL)
_VERSION = "1"


def assemble(sources: Path, engine: Path, output: Path, *, decoupled: bool) -> None:
    """Fills an empty directory with a model repository.

    Args:
        sources: the committed models, `model_repository/`.
        engine: a verified engine directory; its files are hard-linked, so must not be changed.
        output: the empty directory.
        decoupled: whether a request may have many responses (streams) or has exactly one.

    Raises:
        RepositoryError: a committed configuration does not parse.
        OSError: the disk is full, or a file cannot be read.
    """
    limits = EngineLimits.read(engine)
    for name in tree_files(sources):
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name == CONFIG_FILE:
            config = read_config(sources / name)
            _configure(config, limits, decoupled=decoupled)
            write_config(target, config)
        else:
            shutil.copyfile(sources / name, target)
    _link(engine, engine_files(engine), output / ENGINE_MODEL / _VERSION)
    for model in _TOKENIZER_MODELS:
        _link(engine, [TOKENIZER], output / model / _VERSION)


def _configure(config: ModelConfig, limits: EngineLimits, *, decoupled: bool) -> None:
    config.max_batch_size = limits.max_batch_size
    if config.name in _PROMPT_MODELS:
        set_parameters(
            config,
            {
                "max_input_len": limits.max_input_len,
                "max_seq_len": limits.max_seq_len,
                "end_id": limits.end_id,
                "pad_id": limits.pad_id,
            },
        )
    if config.name in _DECOUPLED_MODELS:
        config.model_transaction_policy.decoupled = decoupled


def _link(source: Path, names: Iterable[str], target: Path) -> None:
    """Hard-links files; copies them where the target is on another file system."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)
