"""`manifest.json` and `engine.json`: an engine's origin, and its server's limits.

The manifest says what an engine was made from, and each file's size and digest; no later stage
trusts an engine without it. It is the same for every build of a key: when and where this copy was
built is in `build.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.data_files import Table
from falconry.digests import DigestCache, canonical_json, tree_files
from falconry.errors import EngineError

MANIFEST = "manifest.json"
BUILD_RECORD = "build.json"
_ABOUT = frozenset({MANIFEST, BUILD_RECORD})
SERVING_FILE = "engine.json"


class EngineFile(Table):
    """A file of an engine; `size` in bytes."""

    size: int
    sha256: str


class GpuEngine(Table):
    """A GPU engine's build environment and GPU, as its container reported them.

    TensorRT-LLM's own config.json records neither TensorRT's version nor the GPU.

    Attributes:
        release: the toolchain's row, such as "25.10".
        image: the image's reference, with its digest where that is known.
        sm: its architecture, ten times the compute capability.
        memory_bytes: what a GPU needs for its rank's weights, the activations and the cache of one
            longest request.
        verified: what its answers were compared with: `transformers` or `recorded` ids; else `off`,
            or `not possible: ` and why.
    """

    release: str
    image: str
    tensorrt_llm: str
    tensorrt: str
    cuda: str
    driver: str
    gpu: str
    sm: int
    tensor_parallel: int
    pipeline_parallel: int
    memory_bytes: int
    verified: str = "not known"


class Manifest(Table):
    """What an engine is.

    Attributes:
        ingredients: everything that the key was computed from.
        description: a line for people: family, size, precision.
        files: the engine's files by name, without this manifest and the build record.
    """

    format: int = 1
    key: str
    builder: str
    toolchain: Mapping[str, str]
    ingredients: Mapping[str, str]
    description: str
    files: Mapping[str, EngineFile]
    gpu: GpuEngine | None = None


class BuildRecord(Table):
    """When and where a copy was built; `seconds` is wall time."""

    built_at: str
    seconds: float
    host: str


def engine_files(directory: Path) -> tuple[str, ...]:
    """The names of an engine's own files, as they are served."""
    return tuple(name for name in tree_files(directory) if name not in _ABOUT)


def write_manifest(directory: Path, manifest: Manifest, record: BuildRecord) -> None:
    """Writes both files, byte for byte the same for the same values."""
    for name, model in ((MANIFEST, manifest), (BUILD_RECORD, record)):
        (directory / name).write_bytes(canonical_json(model.model_dump(mode="json")) + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """An engine's manifest."""
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EngineError(f"cannot be read ({error.strerror})", where=path) from None
    except ValidationError:
        raise EngineError("is not an engine manifest", where=path) from None


def verify_engine(directory: Path, digests: DigestCache) -> Manifest:
    """The manifest of an engine whose files are all there and unchanged."""
    manifest = read_manifest(directory)
    if set(engine_files(directory)) != set(manifest.files):
        raise EngineError("has other files than its manifest says", where=directory)
    for name, expected in manifest.files.items():
        if digests.file(directory / name) != expected.sha256:
            raise EngineError("differs from its manifest's digest", where=directory / name)
    return manifest


class EngineLimits(BaseModel):
    """The part of `engine.json` that all engines have; lengths in tokens."""

    model_config = ConfigDict(frozen=True)

    vocab_size: int
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    end_ids: tuple[int, ...]
    pad_id: int

    @classmethod
    def read(cls, engine: Path) -> EngineLimits:
        """Reads them from an engine directory."""
        path = engine / SERVING_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EngineError(f"cannot be read ({error.strerror})", where=path) from None
        except ValidationError as error:
            raise EngineError(f"lacks a limit ({error.error_count()} wrong)", where=path) from None
