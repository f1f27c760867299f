"""Which files of a checkpoint decide what it is, and its licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.documents import DocumentError, parse_json, read_document
from falconry.errors import CheckpointError, printable_line

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
SPECIAL_TOKENS = "special_tokens_map.json"
TOKENIZER_SETTINGS = (
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    "added_tokens.json",
    CHAT_TEMPLATE,
)

# Weights that only unpickling can read, which runs code from the file.
_PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")

# llama.cpp's format, whose weights are quantised.
GGUF = ".gguf"
NO_GGUF = "use the repository without -GGUF, or serve it with llama.cpp"

FETCH_AGAIN = "fetch the file again"
# The first key of a pointer file (https://github.com/git-lfs/git-lfs, docs/spec.md, 3.7).
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_RESAVE = "save it again with save_pretrained(..., safe_serialization=True)"
MODEL_CARD = "README.md"
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
# Of a licence or model card; a licence's title is at the top.
_MOST_BYTES = 1 << 16
_LONGEST_LICENCE = 100
# How the hub's cache names the directory of a model: models--<owner>--<name>/snapshots/<commit>,
# whose files are links to models--<owner>--<name>/blobs (huggingface_hub 1.33, file_download.py).
_HUB_MODEL, _SNAPSHOTS, _BLOBS = "models--", "snapshots", "blobs"


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
    found.update(path for name in optional if (path := find_file(directory, name)))
    for name in (MODEL_CARD, *_LICENCE_FILES):
        find_file(directory, name)  # a link is refused now, not when the licence is needed
    if weights.index:
        found.add(weights.index)
    return tuple(sorted(found))


def find_file(directory: Path, name: str) -> Path | None:
    """The path of a checkpoint's file, None where there is no such file.

    Raises:
        CheckpointError: it is a link that leads out of the checkpoint and of its hub cache, or
            a Git LFS pointer.
    """
    path = directory / name
    try:
        if not path.is_file():
            return None
        target, root = path.resolve(), directory.resolve()
    except (OSError, RuntimeError) as error:  # no permission, a too long name, a circle
        raise _unreadable(path, error) from error
    storage = root.parent.parent
    in_hub_cache = root.parent.name == _SNAPSHOTS and storage.name.startswith(_HUB_MODEL)
    own = [root, storage / _BLOBS] if in_hub_cache else [root]
    if not any(target.is_relative_to(each) for each in own):
        raise CheckpointError(
            f"is a link to {target}, outside of the checkpoint",
            where=path,
            remedy="put the file itself into the checkpoint's directory if it belongs there",
        )
    if _is_lfs_pointer(path):
        raise CheckpointError(
            "is a Git LFS pointer, and the file itself was not fetched",
            where=path,
            remedy="run `git lfs pull` in the checkpoint's clone, or download the file",
        )
    return path


def find_weights(directory: Path) -> WeightFiles:
    """Locates the safetensors files of a checkpoint, in transformers' order of preference.

    Raises:
        CheckpointError: no configuration, or no safetensors weights, or a shard is absent.
    """
    _check_directory(directory)
    if single := find_file(directory, WEIGHTS):
        return WeightFiles(files=(single,))
    if index := find_file(directory, WEIGHTS_INDEX):
        return _read_index(index)
    if any(next(directory.glob(pattern), None) for pattern in _PICKLED_WEIGHTS):
        raise CheckpointError(
            "has only pickled weights, which are not loaded because unpickling runs code",
            where=directory,
            remedy=_RESAVE,
        )
    _refuse_gguf(directory)
    raise CheckpointError(
        f"has no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX}", where=directory, remedy=_RESAVE
    )


def find_tokenizer(directory: Path) -> Path:
    """The fast tokenizer's file."""
    path = find_file(directory, TOKENIZER)
    if path is None:
        raise CheckpointError(
            f"has no {TOKENIZER}",
            where=directory,
            remedy="write it with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint."""
    try:
        value = parse_json(read_document(path))
    except DocumentError as error:
        raise CheckpointError(str(error), where=path, remedy=FETCH_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError("is not a JSON object", where=path, remedy=FETCH_AGAIN)
    return value


def _is_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:  # reported by whoever reads the content
        return False


def _unreadable(path: Path, error: OSError | RuntimeError) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) else error
    return CheckpointError(f"cannot be read ({reason})", where=path)


def _check_directory(directory: Path) -> None:
    try:
        is_directory = directory.is_dir()
    except OSError as error:
        raise _unreadable(directory, error) from error
    if not is_directory:
        raise CheckpointError(
            "is not a directory", where=directory, remedy="name a Hugging Face checkpoint directory"
        )
    if find_file(directory, CONFIG):
        return
    if (directory / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            "holds only a PEFT adapter",
            where=directory,
            remedy="merge it into its base model (merge_and_unload) and save the result",
        )
    _refuse_gguf(directory)
    raise CheckpointError(
        f"has no {CONFIG}", where=directory, remedy="name a Hugging Face checkpoint directory"
    )


def _refuse_gguf(directory: Path) -> None:
    if any(directory.glob(f"*{GGUF}")):
        raise CheckpointError("has only GGUF files", where=directory, remedy=NO_GGUF)


def _read_index(index: Path) -> WeightFiles:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("has no weight_map", where=index, remedy=FETCH_AGAIN)
    shard_of = {name: _shard(index, shard) for name, shard in weight_map.items()}
    return WeightFiles(files=tuple(sorted(set(shard_of.values()))), shard_of=shard_of, index=index)


def _shard(index: Path, name: object) -> Path:
    # A name with a directory in it would reach outside the checkpoint, and another suffix would
    # let the index pass code off as weights.
    if not isinstance(name, str) or Path(name).name != name or Path(name).suffix != _SAFETENSORS:
        raise CheckpointError(
            f"names {name!r}, which is not a safetensors file of the checkpoint", where=index
        )
    path = find_file(index.parent, name)
    if path is None:
        raise CheckpointError(
            f"names the shard {name}, which is absent", where=index, remedy="fetch the shard"
        )
    return path


def licence_of(directory: Path) -> str | None:
    """A short name such as `apache-2.0`, or a licence file's title.

    Raises:
        CheckpointError: a file that may say it is a link out of the checkpoint.
    """
    fields = _front_matter(_beginning(directory, MODEL_CARD))
    named = fields.get("license_name") if fields.get("license") == "other" else None
    if licence := named or fields.get("license"):
        return printable_line(licence[:_LONGEST_LICENCE])
    for name in _LICENCE_FILES:
        lines = (line.strip(" #\t") for line in _beginning(directory, name).splitlines())
        if title := next(filter(None, lines), None):
            return printable_line(title[:_LONGEST_LICENCE])
    return None


def _front_matter(card: str) -> dict[str, str]:
    """The plain fields of a model card's metadata, between two lines of dashes at its top.

    (huggingface.co/docs/hub, "Model Cards": `license`, and for `other` its `license_name`.)
    """
    lines = [line.rstrip() for line in card.split("\n")]
    if lines[0] != "---" or "---" not in lines[1:]:
        return {}
    fields = [line.partition(":") for line in lines[1 : lines.index("---", 1)]]
    values = {key: value.partition("#")[0].strip().strip("'\"") for key, _, value in fields}
    return {key: value for key, value in values.items() if value}


def _beginning(directory: Path, name: str) -> str:
    path = find_file(directory, name)
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
