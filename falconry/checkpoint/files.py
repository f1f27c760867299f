"""Which files of a checkpoint decide what it is, and its licence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.errors import CheckpointError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_SAFETENSORS = ".safetensors"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER = "tokenizer.json"

# What transformers' fast tokenizers read beside tokenizer.json
# (transformers 5.23, tokenization_utils_base.py: *_FILE constants).
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_SETTINGS = (
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)

# Weights that only unpickling can read, which runs code from the file.
_PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_RESAVE = "save it again with save_pretrained(..., safe_serialization=True)"
MODEL_CARD = "README.md"
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
# A model card's metadata, between two lines of dashes at its top (huggingface.co/docs/hub,
# "Model Cards"): `license`, and for `other` its `license_name`.
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^(license|license_name):\s*['\"]?([^'\"\n#]+?)['\"]?\s*$", re.MULTILINE)
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """Where the weights are.

    Attributes:
        files: the safetensors files, sorted.
        shard_of: tensor name to its file; None when one file holds every tensor.
        index: the file that says so, if there is one.
    """

    files: tuple[Path, ...]
    shard_of: Mapping[str, Path] | None = None
    index: Path | None = None


def checkpoint_files(directory: Path) -> tuple[Path, ...]:
    """The files whose bytes decide an engine built from this checkpoint, sorted.

    Raises:
        CheckpointError: the directory is not a checkpoint or lacks one of its files.
    """
    weights = find_weights(directory)
    optional = (GENERATION_CONFIG, *TOKENIZER_SETTINGS)
    found = {directory / CONFIG, find_tokenizer(directory), *weights.files}
    found.update(path for name in optional if (path := directory / name).is_file())
    if weights.index:
        found.add(weights.index)
    return tuple(sorted(found))


def find_weights(directory: Path) -> WeightFiles:
    """Locates the safetensors files of a checkpoint, in transformers' order of preference.

    Raises:
        CheckpointError: no configuration, or no safetensors weights, or a shard is absent.
    """
    _check_directory(directory)
    single, index = directory / WEIGHTS, directory / WEIGHTS_INDEX
    if single.is_file():
        return WeightFiles(files=(single,))
    if index.is_file():
        return _read_index(index)
    if any(next(directory.glob(pattern), None) for pattern in _PICKLED_WEIGHTS):
        raise CheckpointError(
            "has only pickled weights, which are not loaded because unpickling runs code",
            where=directory,
            remedy=_RESAVE,
        )
    raise CheckpointError(
        f"has no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX}", where=directory, remedy=_RESAVE
    )


def find_tokenizer(directory: Path) -> Path:
    """The fast tokenizer's file."""
    path = directory / TOKENIZER
    if not path.is_file():
        raise CheckpointError(
            f"has no {TOKENIZER}",
            where=directory,
            remedy="write it with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", where=path) from error
    except ValueError as error:
        raise CheckpointError(
            f"is not JSON ({error})", where=path, remedy="fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError("is not a JSON object", where=path, remedy="fetch the file again")
    return value


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(
            "is not a directory", where=directory, remedy="name a Hugging Face checkpoint directory"
        )
    if (directory / CONFIG).is_file():
        return
    if (directory / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            "holds only a PEFT adapter",
            where=directory,
            remedy="merge it into its base model (merge_and_unload) and save the result",
        )
    raise CheckpointError(
        f"has no {CONFIG}", where=directory, remedy="name a Hugging Face checkpoint directory"
    )


def _read_index(index: Path) -> WeightFiles:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("has no weight_map", where=index, remedy="fetch the file again")
    shard_of = {name: _shard(index, shard) for name, shard in weight_map.items()}
    return WeightFiles(files=tuple(sorted(set(shard_of.values()))), shard_of=shard_of, index=index)


def _shard(index: Path, name: object) -> Path:
    # A name with a directory in it would reach outside the checkpoint, and another suffix would
    # let the index pass code off as weights.
    if not isinstance(name, str) or Path(name).name != name or Path(name).suffix != _SAFETENSORS:
        raise CheckpointError(
            f"names {name!r}, which is no safetensors file of the checkpoint", where=index
        )
    path = index.parent / name
    if not path.is_file():
        raise CheckpointError(
            f"names the shard {name}, which is absent", where=index, remedy="fetch the shard"
        )
    return path


def licence_of(directory: Path) -> str | None:
    """A short name such as `apache-2.0`, or a licence file's title."""
    card = _beginning(directory / MODEL_CARD)
    front = _FRONT_MATTER.match(card)
    fields = dict(_FIELD.findall(front.group(1))) if front else {}
    named = fields.get("license_name") if fields.get("license") == "other" else None
    if licence := named or fields.get("license"):
        return str(licence)
    for name in _LICENCE_FILES:
        lines = (line.strip(" #\t") for line in _beginning(directory / name).splitlines())
        if title := next(filter(None, lines), None):
            return title
    return None


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
