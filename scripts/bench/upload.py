"""What it costs to pack a large repository and to get it into the model catalog."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.cloud.model_entry import ModelEntry, Provenance
from falconry.digests import DigestCache
from falconry.files import flush_file, remove
from scripts.bench.processes import BenchError, Command, alternate, peak_resident_mib, run
from scripts.bench.results import LessThan, Result, TimesBetter
from scripts.bench.workplace import Workplace

if TYPE_CHECKING:
    from falconry.cloud.session import Session

# Time for time: what a copy to the same disk takes, flushed, may be this part of ours.
COPYING = TimesBetter(0.8)
ZIPPING = TimesBetter(8)
MEMORY = LessThan(300)

_MIB = 1 << 20
_RANDOM_BYTES = 2048 * _MIB
_TEXT_BYTES = 512 * _MIB
_SMALL_FILES = 200
_PIECE_BYTES = 32 * _MIB
_LARGE_BYTES = 6_000_000_000
_BUCKET = "uploads"


def measure_upload(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Packing and uploading 2.7 GB to a local_oci on this machine, and the memory for 6 GB.

    The repository has the parts of the packaging figures in facts about peers: 2 GiB of weights,
    512 MiB of text, 200 small files. Ours is the artifact stage with digests that the repository
    stage has remembered, the making of a model, and the upload, until the catalog's bytes are on
    the disk. The peers are `cp -r` of the same files, flushed, and `shutil.make_archive`, then the
    SDK's UploadManager, which leaves the zip in a bucket only.

    A part's MD5 is computed by who sends it, for Content-MD5, and by who receives it, and here both
    are on the same cores. So two lines tell what these MD5s take with nothing else to do: how much
    of our time they are, and what no upload to this machine can be faster than.

    Raises:
        BenchError: something fails; nothing is left behind.
    """
    place = workplace.directory / "upload"
    remove(place)
    place.mkdir(parents=True)
    try:
        yield from _against_others(workplace, place, rounds)
        yield _memory(workplace, place)
    finally:
        remove(place)


@dataclass(frozen=True, slots=True)
class _Cloud:
    """A local cloud of the benchmark's own."""

    directory: Path
    session: Session

    def flush(self) -> None:
        """Waits until everything in it is on the disk."""
        for path in (self.directory / "blobs").rglob("*"):
            if path.is_file():
                flush_file(path)


def _against_others(workplace: Workplace, place: Path, rounds: int) -> Iterator[Result]:
    repository = place / "repository"
    _write_repository(repository)
    digests = DigestCache(place / "digests.json")
    describe(repository, digests, {}, silent)
    size = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
    with _running_cloud(workplace, place / "cloud") as cloud:
        samples = alternate(
            "packing and uploading 2.7 GB",
            rounds,
            {
                "upload": lambda: _upload(cloud, repository, digests),
                "cp -r and flush": lambda: _copy(repository, place / "copy"),
                "MD5 at both ends": lambda: _hash_twice(size),
            },
        )
        # A minute each, and three times what the target needs: once tells enough.
        zipped = [_zip_and_upload(cloud, repository, place)]
    ours, copied, hashed = ({name: values} for name, values in samples.items())
    yield Result("pack and upload 2.7 GB, against a copy", "s", ours, copied, COPYING)
    yield Result("pack and upload 2.7 GB, against its MD5s alone", "s", ours, hashed)
    yield Result("the MD5s of 2.7 GB alone, against a copy", "s", hashed, copied)
    peers = {"make_archive, UploadManager": zipped}
    yield Result("pack and upload 2.7 GB, against a zip", "s", ours, peers, ZIPPING)


def _write_repository(repository: Path) -> None:
    version = repository / "tensorrt_llm" / "1"
    version.mkdir(parents=True)
    block = os.urandom(16 * _MIB)
    with (version / "rank0.engine").open("wb") as stream:
        for _ in range(_RANDOM_BYTES // len(block)):
            stream.write(block)
    # Hexadecimal digits deflate to about half; text of a tokenizer's kind to less.
    text = os.urandom(4 * _MIB).hex().encode()
    with (version / "merges.txt").open("wb") as stream:
        for _ in range(_TEXT_BYTES // len(text)):
            stream.write(text)
    for number in range(_SMALL_FILES):
        (version / f"{number:03}.json").write_text(f'{{"number": {number}}}')


def benchmark_entry(view: ArtifactView) -> ModelEntry:
    """What the catalog is told of an artifact that is only measured."""
    return ModelEntry(
        artifact_digest=view.digest,
        name="benchmark",
        description="",
        environment={},
        facts={},
        provenance=Provenance(),
    )


def _upload(cloud: _Cloud, repository: Path, digests: DigestCache) -> float:
    from falconry.cloud.catalog import Catalog

    os.sync()
    started = time.perf_counter()
    contents = describe(repository, digests, {}, silent)
    view = ArtifactView.open(repository, contents, digests)
    model = Catalog(cloud.session).ensure(benchmark_entry(view), view, silent)
    cloud.flush()
    elapsed = time.perf_counter() - started
    _check_and_delete(cloud, model, view.size)
    return elapsed


def _check_and_delete(cloud: _Cloud, model: str, size: int) -> None:
    from oci.data_science import DataScienceClient

    client: Any = cloud.session.client(DataScienceClient)
    arrived = int(client.head_model_artifact(model).headers["content-length"])
    if arrived != size:
        raise BenchError(f"{arrived} bytes arrived of {size}")
    client.delete_model(model)


def _copy(repository: Path, target: Path) -> float:
    remove(target)
    os.sync()
    started = time.perf_counter()
    run(["cp", "-r", repository, target], target.parent)
    for path in target.rglob("*"):
        if path.is_file():
            flush_file(path)
    elapsed = time.perf_counter() - started
    remove(target)
    return elapsed


def _hash_twice(size: int) -> float:
    """MD5 of twice so many bytes from memory, on all cores, in pieces like an upload's parts."""
    piece = os.urandom(_PIECE_BYTES)
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(2 * size // _PIECE_BYTES):
            pool.submit(hashlib.md5, piece, usedforsecurity=False)
    return time.perf_counter() - started


def _zip_and_upload(cloud: _Cloud, repository: Path, place: Path) -> float:
    from oci.object_storage import ObjectStorageClient, UploadManager

    from falconry.cloud.buckets import ensure_bucket

    client: Any = cloud.session.client(ObjectStorageClient)
    namespace = str(client.get_namespace().data)
    ensure_bucket(client, namespace, _BUCKET, cloud.session.compartment_id)
    print("make_archive and UploadManager: once", flush=True)
    os.sync()
    started = time.perf_counter()
    archive = shutil.make_archive(str(place / "archive"), "zip", repository)
    manager = UploadManager(client, allow_parallel_uploads=True)
    manager.upload_file(namespace, _BUCKET, "archive.zip", archive)
    elapsed = time.perf_counter() - started
    remove(Path(archive))
    client.delete_object(namespace, _BUCKET, "archive.zip")
    return elapsed


def _memory(workplace: Workplace, place: Path) -> Result:
    """The resident memory of a process that packs and uploads 6 GB, which are a file of holes."""
    repository = place / "large"
    (repository / "tensorrt_llm" / "1").mkdir(parents=True)
    engine = repository / "tensorrt_llm" / "1" / "rank0.engine"
    engine.touch()
    os.truncate(engine, _LARGE_BYTES)
    with _running_cloud(workplace, place / "cloud") as cloud:
        print("packing and uploading 6 GB", flush=True)
        module = "scripts.bench.upload_alone"
        command: Command = [sys.executable, "-m", module, cloud.directory, repository]
        peak = peak_resident_mib(command, workplace.root)
    return Result("pack and upload 6 GB", "MiB", {"resident": [peak]}, target=MEMORY)


@contextmanager
def _running_cloud(workplace: Workplace, directory: Path) -> Iterator[_Cloud]:
    # Imported here: the SDK costs a third of a second that most benchmarks need not pay.
    from falconry.cloud.session import Session

    control: list[str | Path] = [workplace.python, "-m", "local_oci"]
    run([*control, "start", "--directory", directory, "--isolation", "plain"], workplace.root)
    try:
        yield _Cloud(directory, Session(cloud_settings(workplace.root, directory).cloud))
    finally:
        run([*control, "stop", "--directory", directory], workplace.root)


def cloud_settings(root: Path, directory: Path) -> Any:
    """The default profile's settings, for a local cloud in a directory of its own."""
    from falconry.settings import load_settings

    return load_settings(
        root,
        overrides=f"cloud.config_file={directory}/config cloud.emulator.directory={directory}",
    )


def silent(step: str, fraction: float | None) -> None:
    """Tells nobody how far a step is."""
