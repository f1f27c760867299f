"""The build container's view of a checkpoint: data only, two files rewritten.

NVIDIA's converter and quantiser load configuration and tokenizer with `trust_remote_code=True`: an
`auto_map` fails where its .py file is absent, and runs it where it is there. And the versions of
transformers in NVIDIA's images take RoPE's base from the top level of config.json alone, while
transformers 5 writes it into `rope_parameters`: they would silently build with 10000.
So config.json holds what decides the model under the names that all versions read, and neither it
nor tokenizer_config.json names code. Only files that decide the engine are there.
Sources: NVIDIA/TensorRT-LLM v0.16.0 (42a7b092), tensorrt_llm/models/{falcon,llama}/config.py and
quantization/quantize_by_modelopt.py; transformers 4.45.1 and 5.23, falcon/configuration_falcon.py
and llama/configuration_llama.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from falconry.checkpoint.config import model_config_of
from falconry.checkpoint.files import (
    CONFIG,
    TOKENIZER_CONFIG,
    checkpoint_files,
    find_file,
    find_weights,
    read_json,
)
from falconry.checkpoint.tensors import OUTPUT_PROJECTION, locate_tensors
from falconry.digests import DigestCache, bytes_digest, value_digest
from falconry.documents import is_integer
from falconry.engine.tensorrt_llm.commands import CHECKPOINT

_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A file or directory that the container reads.

    Attributes:
        path: where it is in the container.
        content: where it is on this host, links resolved, or its bytes.
    """

    path: PurePosixPath
    content: Path | bytes


def container_view(directory: Path) -> tuple[ContainerFile, ...]:
    """A checkpoint's files as the build container gets them, sorted."""
    rewritten = _rewritten(directory)
    return tuple(
        ContainerFile(CHECKPOINT / path.name, rewritten.get(path.name) or path.resolve())
        for path in checkpoint_files(directory)
    )


def view_digest(directory: Path, digests: DigestCache) -> str:
    """Identifies the content of the view, whatever else the checkpoint's directory holds."""
    view = container_view(directory)
    return value_digest({file.path.name: _digest(file.content, digests) for file in view})


def _digest(content: Path | bytes, digests: DigestCache) -> str:
    return bytes_digest(content) if isinstance(content, bytes) else digests.file(content)


def _rewritten(directory: Path) -> dict[str, bytes]:
    """The files whose content differs in the container, by their names."""
    rewritten = {CONFIG: _json(_normalised_config(directory))}
    if path := find_file(directory, TOKENIZER_CONFIG):
        settings = read_json(path)
        settings.pop("auto_map", None)
        rewritten[TOKENIZER_CONFIG] = _json(settings)
    return rewritten


def _normalised_config(directory: Path) -> dict[str, Any]:
    """config.json in the keys that every version of transformers reads alike."""
    path = directory / CONFIG
    raw = read_json(path)
    config = model_config_of(raw, path)
    tensors = locate_tensors(find_weights(directory))
    dtypes = {tensor.dtype for tensor in tensors.values()}
    dtype = _TORCH_NAMES.get(dtypes.pop()) if len(dtypes) == 1 else None
    begin_id, named = raw.get("bos_token_id"), raw.get("torch_dtype") or raw.get("dtype")
    return {
        "architectures": [config.model_class],
        "model_type": config.model_type,
        **{name: getattr(config, name) for name in config.same_in_all_versions},
        "bos_token_id": begin_id if is_integer(begin_id) else None,
        "rope_theta": float(config.rope_parameters.rope_theta),
        # An output projection in the weights counts, which transformers 4 would overwrite.
        "tie_word_embeddings": config.tie_word_embeddings and OUTPUT_PROJECTION not in tensors,
        "torch_dtype": named if named in _TORCH_NAMES.values() else dtype,
    }


def _json(value: object) -> bytes:
    return f"{json.dumps(value, indent=2, sort_keys=True)}\n".encode()
