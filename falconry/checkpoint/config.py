"""config.json and generation_config.json as an architecture and token ids, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.falcon_config import FALCON_MODEL_TYPES, FalconConfig, falcon_config
from falconry.checkpoint.files import (
    CONFIG,
    FETCH_AGAIN,
    read_json,
)
from falconry.checkpoint.llama_config import LlamaConfig, llama_config
from falconry.checkpoint.token_ids import read_token_ids
from falconry.data_files import Table, load_table
from falconry.errors import CheckpointError

_UNSUPPORTED = Path(__file__).with_name("unsupported_models.toml")
_CAUSAL_LM_CLASSES = {FalconConfig.model_class, "RWForCausalLM", LlamaConfig.model_class}
_USE_A_FALCON = "use a checkpoint of Falcon-RW, Falcon-7B/40B/180B, Falcon2-11B or Falcon3"
_UNQUANTISED = "use the unquantised checkpoint; the recipe decides the quantisation"

ModelConfig: TypeAlias = FalconConfig | LlamaConfig


class _Unsupported(Table):
    """Models that are recognised and not built; see unsupported_models.toml."""

    models: str
    classes: tuple[str, ...] = ()
    reason: str
    instead: str


class _UnsupportedModels(Table):
    quantisations: dict[str, _Unsupported]
    model_types: dict[str, _Unsupported]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What config.json and generation_config.json say.

    Attributes:
        architecture: the model; its `tied_embeddings` is what config.json claims, which the
            weights may yet correct.
        end_ids: tokens that end an answer, the first one first.
    """

    architecture: Architecture
    end_ids: tuple[int, ...]
    pad_id: int


def read_configuration(directory: Path) -> Configuration:
    """Reads and checks the configuration of a checkpoint.

    Raises:
        CheckpointError: it is absent or damaged, of no model that is built here, or of a variant
            that no engine builder here can build.
    """
    path = directory / CONFIG
    return configuration_of(read_json(path), path)


def configuration_of(raw: dict[str, Any], path: Path) -> Configuration:
    """The configuration in the content of a config.json; see `read_configuration`.

    A generation_config.json beside `path`, where the content is from, decides the token ids.
    """
    config = model_config_of(raw, path)
    end_ids, pad_id = read_token_ids(raw, path, config.vocab_size)
    return Configuration(config.architecture(), end_ids, pad_id)


def model_config_of(raw: dict[str, Any], path: Path) -> ModelConfig:
    """The checked content of a config.json in transformers' names; see `read_configuration`."""
    classes = _classes(raw, path)
    _refuse_quantised(raw, path)
    _refuse_other_models(str(raw.get("model_type")), classes, path)
    if classes and not _CAUSAL_LM_CLASSES.intersection(classes):
        raise CheckpointError(
            f"describes {', '.join(classes)}, which does not generate text",
            where=path,
            remedy="use a checkpoint saved from FalconForCausalLM or LlamaForCausalLM",
        )
    if raw["model_type"] == LlamaConfig.model_type:
        return llama_config(raw, path)
    return falcon_config(raw, path)


def _classes(raw: dict[str, Any], path: Path) -> list[str]:
    classes = raw.get("architectures") or []
    if not isinstance(classes, list):
        raise CheckpointError(
            f"architectures is not a list of names, but {classes!r}", where=path, remedy=FETCH_AGAIN
        )
    return [str(name) for name in classes]


@cache
def _unsupported_models() -> _UnsupportedModels:
    return load_table(_UNSUPPORTED, _UnsupportedModels)


def _refuse_quantised(raw: dict[str, Any], path: Path) -> None:
    """Looked at first: a quantised checkpoint may call itself LlamaForCausalLM."""
    quantization = raw.get("quantization_config")
    if not quantization and not raw.get("is_bitnet_config"):
        return
    given = quantization.get("quant_method") if isinstance(quantization, dict) else None
    method = "bitnet" if raw.get("is_bitnet_config") else str(given or "unknown method")
    if known := _unsupported_models().quantisations.get(method):
        raise CheckpointError(known.reason, where=path, remedy=known.instead)
    raise CheckpointError(
        f"describes a checkpoint already quantised ({method})", where=path, remedy=_UNQUANTISED
    )


def _refuse_other_models(model_type: str, classes: list[str], path: Path) -> None:
    known = _unsupported_models().model_types
    for name, unsupported in known.items():
        if model_type == name or set(classes).intersection(unsupported.classes):
            raise CheckpointError(
                f"describes a model of type {name!r}, which {unsupported.reason}",
                where=path,
                remedy=unsupported.instead,
            )
    if model_type not in (*FALCON_MODEL_TYPES, LlamaConfig.model_type):
        raise CheckpointError(
            f"describes a model of type {model_type!r}, which is neither a Falcon nor a Llama",
            where=path,
            remedy=_USE_A_FALCON,
        )
