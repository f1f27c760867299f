"""Measures fetching an engine of 2 GiB from a mirror beside `cp`.

Run by the benchmark itself as `python -m scripts.bench.mirror CLOUD DIRECTORY`, it fetches the
engine and prints what that took.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from falconry.engine.manifest import BuildRecord, EngineFile, Manifest, write_manifest
from falconry.engine.mirror import ObjectStorageMirror
from falconry.engine_settings import MirrorSettings
from falconry.files import flush_file, remove
from scripts.bench.processes import Command, alternate, run
from scripts.bench.results import Result, TimesBetter
from scripts.bench.upload import Figures, local_session, running_cloud
from scripts.bench.workplace import Workplace

FETCH = TimesBetter(0.7)

_KEY = "0" * 64
_FILE = "rank0.engine"
_BYTES = 2 << 30
_BLOCK_BYTES = 16 << 20


def measure_mirror(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Fetches an engine from a local_oci here, until its bytes are on the disk.

    The wall time has local_oci's reading and sending in it, which share this machine's cores, and
    the digest that a fetch computes; `cp` has neither.

    Raises:
        BenchError: something fails; nothing is left behind.
    """
    directory = workplace.directory / "mirror"
    remove(directory)
    engine = directory / "engine"
    engine.mkdir(parents=True)
    try:
        _write_engine(engine)
        with running_cloud(workplace, directory / "cloud") as cloud:
            print("leaving 2 GiB in the mirror", flush=True)
            _mirror(workplace.root, cloud).push(_KEY, engine, _silent)
            contestants = {
                "fetch": lambda: _fetch(workplace, cloud, directory / "fetched"),
                "cp": lambda: _copy(engine, directory / "copy"),
            }
            _copy(engine, directory / "copy")  # in a virtual machine new memory costs seconds
            taken = alternate("fetching 2 GiB from a mirror", rounds, contestants)
    finally:
        remove(directory)
    wall = {name: [each["wall_s"] for each in figures] for name, figures in taken.items()}
    ours, peer = {"fetch": wall["fetch"]}, {"cp": wall["cp"]}
    yield Result("fetch 2 GiB from a mirror", "s", ours, peer, FETCH)


def _write_engine(directory: Path) -> None:
    block, digest = os.urandom(_BLOCK_BYTES), hashlib.sha256()
    with (directory / _FILE).open("wb") as stream:
        for _ in range(_BYTES // _BLOCK_BYTES):
            stream.write(block)
            digest.update(block)
    files = {_FILE: EngineFile(size=_BYTES, sha256=f"sha256:{digest.hexdigest()}")}
    manifest = Manifest(
        key=_KEY, builder="bench", toolchain={}, ingredients={}, description="", files=files
    )
    write_manifest(directory, manifest, BuildRecord(built_at="", seconds=0, host=""))


def _fetch(workplace: Workplace, cloud: Path, target: Path) -> Figures:
    os.sync()
    command: Command = [workplace.python, "-m", "scripts.bench.mirror", cloud, target]
    figures: Figures = json.loads(run(command, workplace.root))
    remove(target)
    return figures


def _copy(engine: Path, target: Path) -> Figures:
    os.sync()
    started = time.perf_counter()
    run(["cp", "-r", engine, target], engine.parent)
    flush_file(target / _FILE)
    elapsed = time.perf_counter() - started
    remove(target)
    return {"wall_s": elapsed}


def _mirror(root: Path, cloud: Path) -> ObjectStorageMirror:
    return ObjectStorageMirror(local_session(root, cloud), MirrorSettings(bucket="engines"))


def main(cloud: str, directory: str) -> None:
    """Fetches the engine; prints the seconds."""
    target = Path(directory)
    target.mkdir()
    mirror = _mirror(Path(__file__).resolve().parents[2], Path(cloud))
    started = time.perf_counter()
    mirror.fetch(_KEY, target, _silent)
    flush_file(target / _FILE)
    print(json.dumps({"wall_s": time.perf_counter() - started}))


def _silent(step: str, fraction: float | None) -> None:
    """Reports no progress."""


if __name__ == "__main__":
    main(*sys.argv[1:])
