"""What the engine store costs for a large engine: finding it, linking it, fetching it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from falconry.digests import DigestCache
from falconry.engine.finishing import FinishedFiles
from falconry.engine.manifest import Manifest
from falconry.engine.serving import SERVING_FILE, EngineLimits
from falconry.engine.store import EngineMirror, EngineStore
from falconry.files import flush_file, remove
from falconry.settings import ServingSettings
from scripts.bench.processes import BenchError, alternate, run, seconds
from scripts.bench.results import LessThan, Result, TimesBetter
from scripts.bench.workplace import Workplace

FINDING = LessThan(0.05)
LINKING = LessThan(0.05)
# Rate for rate: a fetch may take as long as the copy does, divided by this.
FETCHING = TimesBetter(0.7)

_KEY = "e" * 64
_ENGINE_BYTES = 2 << 30

_IMPORTS = (
    "import sys; from pathlib import Path;"
    "from falconry.digests import DigestCache; from falconry.engine.store import EngineStore;"
)
_FIND = (
    f"{_IMPORTS} store, digests, key = sys.argv[1:];"
    "assert EngineStore(Path(store), DigestCache(Path(digests))).find(key)"
)


def measure_engine_store(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Finding, linking and fetching an engine of 2 GiB.

    Finding is a process that opens a store and its remembered digests and finds the engine, less
    the best time of one that imports the same and does nothing. Linking is the repository's own
    assembly, all of it. Fetching is a store that lacks the engine and takes it from a bucket of
    local_oci on this machine, checked and flushed, against `cp` of the same files and their flush.

    Raises:
        BenchError: something fails; nothing is left behind.
    """
    place = workplace.directory / "store"
    remove(place)
    place.mkdir(parents=True)
    try:
        store = _store_with_engine(place)
        yield _finding(workplace, place, rounds)
        yield _linking(workplace, store, place, rounds)
        yield _fetching(workplace, store, place, rounds)
    finally:
        remove(place)


def _store_with_engine(place: Path) -> EngineStore:
    """A store with one engine, whose digests are remembered."""
    digests = DigestCache(place / "digests.json")
    store = EngineStore(place / "engines", digests)

    def build(output: Path) -> Manifest:
        _write_engine(output)
        with FinishedFiles(output, digests) as finished:
            files = finished.describe()
        return Manifest(
            key=_KEY,
            builder="benchmark",
            toolchain={},
            ingredients={},
            description="an engine of the benchmark's",
            files=files,
        )

    store.add(_KEY, build, lambda holder: None)
    digests.save()
    return store


def _write_engine(output: Path) -> None:
    (output / "tokenizer.json").write_text("{}", encoding="utf-8")
    limits = EngineLimits(max_batch_size=1, max_input_len=1, max_seq_len=2, end_id=0, pad_id=0)
    (output / SERVING_FILE).write_text(limits.model_dump_json(), encoding="utf-8")
    block = os.urandom(16 << 20)
    with (output / "rank0.engine").open("wb") as stream:
        for _ in range(_ENGINE_BYTES // len(block)):
            stream.write(block)


def _finding(workplace: Workplace, place: Path, rounds: int) -> Result:
    arguments: list[str | Path] = [place / "engines", place / "digests.json", _KEY]
    samples = alternate(
        "finding a 2 GiB engine",
        rounds,
        {
            "find": lambda: seconds([workplace.python, "-c", _FIND, *arguments], workplace.root),
            "imports": lambda: seconds([workplace.python, "-c", _IMPORTS], workplace.root),
        },
    )
    start_up = min(samples["imports"])
    beyond = [max(sample - start_up, 0.0) for sample in samples["find"]]
    return Result("find a 2 GiB engine", "s", {"beyond start-up": beyond}, target=FINDING)


def _linking(workplace: Workplace, store: EngineStore, place: Path, rounds: int) -> Result:
    # Imported here: what it brings along has no place in a measurement of the store.
    from falconry.repository.assemble import ENGINE_MODEL, assemble

    output, engine = place / "repository", store.entry(_KEY)
    serving = ServingSettings(route="generate", port=8000)

    def link() -> float:
        remove(output)
        output.mkdir()
        started = time.perf_counter()
        assemble(workplace.root / "model_repository", engine, output, serving)
        elapsed = time.perf_counter() - started
        linked = output / ENGINE_MODEL / "1" / "rank0.engine"
        if not linked.samefile(engine / "rank0.engine"):
            raise BenchError(f"{linked} is a copy, not a link")
        return elapsed

    samples = alternate("linking a 2 GiB engine", rounds, {"assemble": link})
    return Result("link a 2 GiB engine", "s", samples, target=LINKING)


def _fetching(workplace: Workplace, store: EngineStore, place: Path, rounds: int) -> Result:
    with _cloud(workplace, place / "cloud") as open_mirror:
        open_mirror().push(_KEY, store.entry(_KEY), lambda step, fraction: None)

        def fetch() -> float:
            remove(place / "second")
            os.sync()
            second = EngineStore(
                place / "second", DigestCache(place / "second.json"), open_mirror()
            )
            started = time.perf_counter()
            second.add(_KEY, _refuse, lambda holder: None)
            return time.perf_counter() - started

        samples = alternate(
            "fetching a 2 GiB engine",
            rounds,
            {"fetch": fetch, "cp": lambda: _copy(store.entry(_KEY), place / "copy")},
        )
    peers = {"cp and flush": samples.pop("cp")}
    return Result("fetch a 2 GiB engine", "s", samples, peers, FETCHING)


def _copy(engine: Path, target: Path) -> float:
    remove(target)
    os.sync()
    started = time.perf_counter()
    run(["cp", "-r", engine, target], target.parent)
    for path in target.iterdir():
        flush_file(path)
    return time.perf_counter() - started


def _refuse(output: Path) -> Manifest:
    raise BenchError("the mirror did not give the engine")


@contextmanager
def _cloud(workplace: Workplace, directory: Path) -> Iterator[Callable[[], EngineMirror]]:
    """A local cloud of the benchmark's own, and what opens a mirror there."""
    # Imported here: the SDK costs a third of a second that most benchmarks need not pay.
    from falconry.cloud.session import Session
    from falconry.engine.mirror import ObjectStorageMirror
    from falconry.settings import MirrorSettings, load_settings

    control: list[str | Path] = [workplace.python, "-m", "local_oci"]
    run([*control, "start", "--directory", directory, "--isolation", "plain"], workplace.root)
    try:
        settings = load_settings(
            workplace.root,
            overrides=f"cloud.config_file={directory}/config cloud.emulator.directory={directory}",
        )
        session = Session(settings.cloud)
        yield lambda: ObjectStorageMirror(session, MirrorSettings(bucket="engines"))
    finally:
        run([*control, "stop", "--directory", directory], workplace.root)
