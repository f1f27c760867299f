"""The tokens that end and pad answers, as transformers' `generate()` finds them.

Source: transformers 5.23, generation/utils.py (adjust_generation_fn) and configuration_utils.py
(GenerationConfig.from_model_config). Without a generation_config.json the keys of config.json
count, and then those of a configuration nested in it; FalconConfig's own defaults never do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from falconry.checkpoint.files import GENERATION_CONFIG, find_file, read_json
from falconry.documents import is_integer
from falconry.errors import CheckpointError

_NESTED = ("decoder", "generator", "text_config")


def read_token_ids(
    raw: Mapping[str, Any], config_path: Path, vocab_size: int
) -> tuple[tuple[int, ...], int]:
    """The ids that end an answer, the first one first, and the padding's.

    Args:
        raw: the content of a config.json.
        config_path: where it is; a generation_config.json beside it decides.
        vocab_size: ids are below it.

    Raises:
        CheckpointError: an id is no token of the vocabulary.
    """
    generation = find_file(config_path.parent, GENERATION_CONFIG)
    path = generation or config_path
    ids = read_json(generation) if generation else _of_model_config(raw)
    given = ids.get("eos_token_id")
    values = given if isinstance(given, list) else [] if given is None else [given]
    pad_id = ids.get("pad_token_id")
    pads = [] if pad_id is None else [pad_id]
    for key, each in [("eos_token_id", values), ("pad_token_id", pads)]:
        for value in each:
            if not (is_integer(value) and 0 <= value < vocab_size):
                raise CheckpointError(
                    f"{key} {value!r} is not a number below vocab_size {vocab_size}",
                    where=path,
                    remedy="correct the id",
                )
    end_ids = tuple(dict.fromkeys(values))
    return end_ids, pads[0] if pads else end_ids[0] if end_ids else 0


def first_end_id(end_ids: Sequence[int]) -> int:
    """The first end token; TensorRT-LLM's -1, which no token has, without any."""
    return end_ids[0] if end_ids else -1


def _of_model_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    nested = next((raw[name] for name in _NESTED if raw.get(name)), None)
    ids = dict(nested) if isinstance(nested, dict) else {}
    return ids | {key: value for key, value in raw.items() if value is not None}
