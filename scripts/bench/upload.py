"""Measures packing a large repository and uploading it to the model catalog.

Run by the benchmark itself as `python -m scripts.bench.upload CLOUD REPOSITORY DIGESTS`, it uploads
one repository and prints what that took.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.deployment.provenance import ModelEntry, Provenance
from falconry.digests import DigestCache
from falconry.files import flush_file, remove
from scripts.bench.processes import BenchError, Command, alternate, run, status_number
from scripts.bench.results import LessThan, Result, TimesBetter
from scripts.bench.workplace import Workplace

if TYPE_CHECKING:
    from falconry.cloud.session import Session

SENDER_CPU = LessThan(0.7)
ZIPPING = TimesBetter(8)
MEMORY = LessThan(300)

_MIB = 1 << 20
_RANDOM_BYTES = 2048 * _MIB
_TEXT_BYTES = 512 * _MIB
_SMALL_FILES = 200
_LARGE_BYTES = 6_000_000_000
_BUCKET = "uploads"

# What one upload took, by the names that `main` prints.
Figures = Mapping[str, float]


def measure_upload(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Packs and uploads 2.7 GB to a local_oci here; measures the memory for 6 GB.

    The repository has 2 GiB of weights, 512 MiB of text and 200 small files. An upload is the
    artifact stage with digests that the repository stage has remembered, the making of a model, and
    the upload, until the catalog's bytes are on the disk. The CPU time is the sender's alone: both
    ends share this machine's cores, so wall time says little about an upload to Oracle. The peer
    is `shutil.make_archive`, then the SDK's UploadManager, which leaves the zip in a bucket only.

    Raises:
        BenchError: something fails; nothing is left behind.
    """
    directory = workplace.directory / "upload"
    remove(directory)
    directory.mkdir(parents=True)
    try:
        yield from _upload_repository(workplace, directory, rounds)
        yield _upload_large_file(workplace, directory)
    finally:
        remove(directory)


def _upload_repository(workplace: Workplace, directory: Path, rounds: int) -> Iterator[Result]:
    repository, digests = directory / "repository", directory / "digests.json"
    _write_repository(repository)
    remembered = DigestCache(digests)
    describe(repository, remembered, _silent)
    remembered.save()
    gigabytes = sum(each.stat().st_size for each in repository.rglob("*") if each.is_file()) / 1e9
    with running_cloud(workplace, directory / "cloud") as cloud:
        contestants = {
            "upload": lambda: _upload(workplace, cloud, repository, digests),
            "cp": lambda: {"wall_s": _copy(repository, directory / "copy")},
        }
        taken = alternate("packing and uploading 2.7 GB", rounds, contestants)
        uploads, copied = taken["upload"], [each["wall_s"] for each in taken["cp"]]
        # A minute each, and three times what the target needs: once is enough.
        zipped = [_zip_and_upload(workplace, cloud, repository, directory)]
    cpu = {"sender's CPU": [each["cpu_s"] / gigabytes for each in uploads]}
    wall = {"upload": [each["wall_s"] for each in uploads]}
    yield Result("pack and upload 2.7 GB", "s/GB", cpu, target=SENDER_CPU)
    peers = {"make_archive, UploadManager": zipped}
    yield Result("pack and upload 2.7 GB, against a zip", "s", wall, peers, ZIPPING)
    yield Result("pack and upload 2.7 GB, beside a copy", "s", wall, {"cp": copied})


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


def _upload(workplace: Workplace, cloud: Path, repository: Path, digests: Path) -> Figures:
    """Uploads in a separate process: its CPU time and memory are the sender's alone."""
    module = "scripts.bench.upload"
    os.sync()
    command: Command = [workplace.python, "-m", module, cloud, repository, digests]
    figures: Figures = json.loads(run(command, workplace.root))
    return figures


def _copy(repository: Path, copy: Path) -> float:
    """Times a copy to the same disk, until its bytes are there."""
    os.sync()
    started = time.perf_counter()
    run(["cp", "-r", repository, copy], repository.parent)
    os.sync()
    elapsed = time.perf_counter() - started
    remove(copy)
    return elapsed


def _zip_and_upload(workplace: Workplace, cloud: Path, repository: Path, directory: Path) -> float:
    from oci.object_storage import ObjectStorageClient, UploadManager

    from falconry.cloud.session import ensure_bucket

    session = local_session(workplace.root, cloud)
    client: Any = session.client(ObjectStorageClient)
    namespace = str(client.get_namespace().data)
    ensure_bucket(session, client, namespace, _BUCKET)
    print("make_archive and UploadManager: once", flush=True)
    os.sync()
    started = time.perf_counter()
    archive = shutil.make_archive(str(directory / "archive"), "zip", repository)
    manager = UploadManager(client, allow_parallel_uploads=True)
    manager.upload_file(namespace, _BUCKET, "archive.zip", archive)
    elapsed = time.perf_counter() - started
    remove(Path(archive))
    client.delete_object(namespace, _BUCKET, "archive.zip")
    return elapsed


def _upload_large_file(workplace: Workplace, directory: Path) -> Result:
    """The resident memory of a process that packs and uploads a sparse file of 6 GB."""
    repository = directory / "large"
    (repository / "tensorrt_llm" / "1").mkdir(parents=True)
    engine = repository / "tensorrt_llm" / "1" / "rank0.engine"
    engine.touch()
    os.truncate(engine, _LARGE_BYTES)
    with running_cloud(workplace, directory / "cloud") as cloud:
        print("packing and uploading 6 GB", flush=True)
        figures = _upload(workplace, cloud, repository, directory / "large-digests.json")
    return Result("pack and upload 6 GB", "MiB", {"resident": [figures["mib"]]}, target=MEMORY)


@contextmanager
def running_cloud(workplace: Workplace, directory: Path) -> Iterator[Path]:
    """A local cloud of the benchmark's own; gives its directory."""
    control: list[str | Path] = [workplace.python, "-m", "local_oci"]
    run([*control, "start", "--directory", directory, "--isolation", "plain"], workplace.root)
    try:
        yield directory
    finally:
        run([*control, "stop", "--directory", directory], workplace.root)


def local_session(root: Path, cloud: Path) -> Session:
    """The default profile's session, with a separate local cloud."""
    # Imported here: the SDK costs a third of a second that most benchmarks need not pay.
    from falconry.cloud.session import Session
    from falconry.settings import load_settings

    overrides = f"cloud.config_file={cloud}/config cloud.emulator.directory={cloud}"
    return Session(load_settings(root, overrides=overrides).cloud)


def _benchmark_entry(view: ArtifactView) -> ModelEntry:
    """The catalog's entry for an artifact that is only measured."""
    return ModelEntry(
        artifact_digest=view.digest,
        name="benchmark",
        description="",
        environment={},
        facts={},
        provenance=Provenance(),
    )


def main(cloud: str, repository: str, digests: str) -> None:
    """Uploads, checks and deletes a repository; prints seconds and peak memory."""
    from oci.data_science import DataScienceClient

    from falconry.deployment.catalog import Catalog

    session = local_session(Path(__file__).resolve().parents[2], Path(cloud))
    client: Any = session.client(DataScienceClient)
    cache = DigestCache(Path(digests))
    started, started_cpu = time.perf_counter(), time.process_time()
    contents = describe(Path(repository), cache, _silent)
    view = ArtifactView.open(Path(repository), contents, cache)
    model = Catalog(session).ensure(_benchmark_entry(view), view, _silent)
    cpu = time.process_time() - started_cpu
    # Flushes what arrived: the emulator's task, so its CPU time is not counted.
    for path in (Path(cloud) / "blobs").rglob("*"):
        if path.is_file():
            flush_file(path)
    wall = time.perf_counter() - started
    arrived = int(client.head_model_artifact(model).headers["content-length"])
    if arrived != view.size:
        raise BenchError(f"{arrived} bytes arrived of {view.size}")
    client.delete_model(model)
    # Not `ru_maxrss`, which would count what the parent held at the fork.
    mib = status_number("self", "VmHWM") / 1024
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "mib": mib}))


def _silent(step: str, fraction: float | None) -> None:
    """Reports no progress."""


if __name__ == "__main__":
    main(*sys.argv[1:])
