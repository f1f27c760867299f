"""What a job is to build: the files, the command, and where all of it is in the bucket.

Every file is an object that is called by its SHA-256, so that a checkpoint is uploaded once. The
request names them; `engine/transfer.py` reads it inside of the job. Both it and the job's result
are below the engine's own prefix, so deleting that lets an engine be built anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from falconry.checkpoint.outline import HubFile
from falconry.data_files import Table
from falconry.digests import DigestCache, bytes_digest, canonical_json
from falconry.engine.manifest import EngineFile
from falconry.engine.tensorrt_llm.commands import (
    BUILD_SCRIPT,
    CACHE,
    CALIBRATION,
    ENGINE_ANSWERS,
    OUTPUT,
    PLAN,
    QUESTION,
    REFERENCE_ANSWERS,
    REPORT,
    ROOT,
    SCRATCH,
)
from falconry.engine.tensorrt_llm.container import BuildRun, build_environment, build_scripts

_INPUTS = "inputs"
# Written for this run, with the container's paths in them.
_DOCUMENTS = (PLAN, QUESTION)
_RESULTS = (REPORT, ENGINE_ANSWERS, REFERENCE_ANSWERS)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a request.

    Attributes:
        name: of its object.
        content: where it is here, or its bytes.
    """

    name: str
    content: Path | bytes
    size: int


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A build as a job reads it.

    Attributes:
        engine: the prefix of the engine's objects.
        document: JSON for engine/transfer.py.
        uploads: what it names, each once.
    """

    key: str
    engine: str
    document: bytes
    uploads: tuple[Upload, ...]

    @property
    def digest(self) -> str:
        """Identifies the request: SHA-256, in hex."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def name(self) -> str:
        """The name of the document's object."""
        return f"{self.engine}/job/{self.digest}.request.json"

    @property
    def result_name(self) -> str:
        """The name of the object that the job puts last."""
        return f"{self.engine}/job/{self.digest}.result.json"


class JobResult(Table):
    """What a job left.

    Attributes:
        files: the engine's, by name.
        documents: report.json and the answers, by name.
        image: the toolchain's, with its digest where that is known.
    """

    format: int
    key: str
    image: str
    files: Mapping[str, EngineFile]
    documents: Mapping[str, Mapping[str, Any]]


def request_of(
    run: BuildRun,
    prefix: str,
    digests: DigestCache,
    hub_files: Mapping[Path, HubFile] = MappingProxyType({}),
) -> JobRequest:
    """The request for a build.

    Args:
        run: the build's container, with its documents in the scratch directory.
        prefix: of all of Falconry's objects in the bucket; empty for none.
        digests: remembers those of large files.
        hub_files: what the job fetches from the hub, by its path here.
    """
    base = f"{prefix}/" if prefix else ""
    files: list[dict[str, Any]] = []
    uploads: dict[str, Upload] = {}
    for path, content in sorted(_files(run)):
        if isinstance(content, Path) and content in hub_files:
            files.append({"path": _inside(path), **_from_hub(hub_files[content])})
            continue
        sha256 = _sha256(content, digests)
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        name = f"{base}{_INPUTS}/{sha256}"
        files.append({"path": _inside(path), "object": name, "sha256": sha256, "size": size})
        uploads[name] = Upload(name, content, size)
    document = {
        "format": 1,
        "key": run.key,
        "files": files,
        "directories": [_inside(path) for path in (SCRATCH, OUTPUT, CACHE)],
        "relocate": [_inside(path) for path in _DOCUMENTS if _here(run, path).is_file()],
        "command": [_inside(BUILD_SCRIPT), _inside(PLAN)],
        "environment": build_environment(run),
        "output": _inside(OUTPUT),
        "documents": [_inside(path) for path in _RESULTS],
        "engine": f"{base}{run.key}",
    }
    text = canonical_json(document) + b"\n"
    return JobRequest(run.key, f"{base}{run.key}", text, tuple(uploads.values()))


def _from_hub(file: HubFile) -> dict[str, Any]:
    digest = {"sha256": file.sha256} if file.sha256 else {"git_sha1": file.git_sha1}
    return {"url": file.url, "size": file.size, **digest}


def _files(run: BuildRun) -> Iterator[tuple[PurePosixPath, Path | bytes]]:
    for script, path in build_scripts(run):
        yield path, script
    for file in run.checkpoint:
        yield file.path, file.content
    for path in _DOCUMENTS:
        if (here := _here(run, path)).is_file():
            yield path, here.read_bytes()
    for here in sorted(run.calibration.rglob("*")) if run.calibration else ():
        if run.calibration and here.is_file():
            yield CALIBRATION / here.relative_to(run.calibration), here


def _here(run: BuildRun, path: PurePosixPath) -> Path:
    return run.scratch / path.relative_to(SCRATCH)


def _inside(path: PurePosixPath) -> str:
    return str(path.relative_to(ROOT))


def _sha256(content: Path | bytes, digests: DigestCache) -> str:
    digest = bytes_digest(content) if isinstance(content, bytes) else digests.file(content)
    return digest.removeprefix("sha256:")
