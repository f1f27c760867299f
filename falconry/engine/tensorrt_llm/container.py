"""Runs `engine/build.py` in a container of NVIDIA's image, and removes the container.

A container outlives a host process that is killed with SIGKILL. So each has a label that names its
process, and the next start removes those whose process is gone.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from falconry.data_files import project_file
from falconry.docker_engine import containers
from falconry.docker_engine.client import connect
from falconry.docker_engine.containers import owner_labels, remove_abandoned
from falconry.docker_engine.images import has_image, pull, reference_with_digest
from falconry.documents import DocumentError, parse_json, read_document
from falconry.engine.tensorrt_llm.build_log import NOT_STARTED, BuildLog
from falconry.engine.tensorrt_llm.commands import (
    ANSWER_SCRIPT,
    BUILD_SCRIPT,
    CACHE,
    CALIBRATION,
    OUTPUT,
    PLAN,
    REPORT,
    SCRATCH,
)
from falconry.engine.tensorrt_llm.container_view import ContainerFile
from falconry.errors import EngineError
from falconry.files import remove, translate_disk_errors

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

BUILD_LABEL = "io.falconry.build"

BUILD_SCRIPT_SOURCE = "engine/build.py"
_ANSWER_SCRIPT_SOURCE = "engine/answer.py"
_HOSTNAME = "falconry-build"
_LOOPBACK = "127.0.0.1"
_TMPFS = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}  # exec: kernels compiled there are loaded
# The user of a build that root starts: the unprivileged one of distroless images, which most hosts
# do not have.
_UNPRIVILEGED = (65532, 65532)
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def build_user() -> tuple[int, int]:
    """A build's user and group: this process's, or unprivileged for root."""
    return (os.getuid(), os.getgid()) if os.getuid() else _UNPRIVILEGED


@dataclass(frozen=True, slots=True)
class BuildRun:
    """One run of the build container; sizes in bytes.

    Attributes:
        key: the engine's key; the container's label.
        checkpoint: what the container sees of it, read-only.
        output: gets the engine; made when it does not exist.
        scratch: holds plan.json, gets report.json and intermediate files.
        cache: kept between builds; made when it does not exist.
        gpus: how many GPUs Docker shall give.
        network: whether the container may reach the network.
        may_load_by_shard: whether `load_by_shard` can be advised where host memory runs out.
        environment: for the container; every user of the engine can read it, so no secrets.
        user: user and group id of the build.
    """

    key: str
    image: str
    checkpoint: tuple[ContainerFile, ...]
    output: Path
    scratch: Path
    cache: Path
    calibration: Path | None
    gpus: int | None
    network: bool
    shm_bytes: int
    log: Path
    environment: Mapping[str, str]
    may_load_by_shard: bool = False
    build_script: Path = field(default_factory=lambda: project_file(BUILD_SCRIPT_SOURCE))
    user: tuple[int, int] = field(default_factory=build_user)


def docker_command(run: BuildRun) -> str:
    """The `docker run` line that does the same as `run_build`."""
    words = ["docker", "run", "--rm", "--init", f"--label={BUILD_LABEL}={run.key}"]
    words += [f"--user={_user(run)}", f"--hostname={_HOSTNAME}"]
    words += [] if run.network else ["--network=none", f"--add-host={_HOSTNAME}:{_LOOPBACK}"]
    words += ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"]
    words += [f"--tmpfs={path}:{options}" for path, options in _TMPFS.items()]
    words += ["--log-driver=none", "--ipc=private", f"--shm-size={run.shm_bytes}"]
    words += [f"--gpus={run.gpus}"] if run.gpus else []
    words += [f"--env={name}={value}" for name, value in build_environment(run).items()]
    words += [f"--mount={_mount_words(mount)}" for mount in _mounts(run)]
    return shlex.join([*words, run.image, *_command()])


def run_build(run: BuildRun, report: Callable[[str, float], None]) -> Mapping[str, Any]:
    """Builds an engine in a container; reports the pull and the build.

    Returns:
        The container's report.json, and as `image` the image's reference, with its digest if a
        registry knows it by one.

    Raises:
        EngineError: the build failed; the message is its cause.
    """
    with _ending_signals_raised(), contextlib.closing(connect()) as client:
        remove_abandoned(client, BUILD_LABEL)
        if not has_image(client, run.image):
            pull(client, run.image, lambda done: report("pulling the image", done))
        with (
            _translate_refusals(run),
            _written_for(run),
            _given_to_user(run),
            _container(client, run) as container,
        ):
            _follow(run, container, report)
        image = reference_with_digest(client, run.image)
        return {**_read_report(run), "image": image}


def _follow(run: BuildRun, container: Container, report: Callable[[str, float], None]) -> None:
    """Starts the container, logs its output, and waits for its end."""
    said = BuildLog(run.may_load_by_shard)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with translate_disk_errors(run.log), run.log.open("wb") as log:
        try:
            for output in containers.output_of(container):
                log.write(output.stdout + output.stderr)
                log.flush()
                # Apart: the last lines may have no end.
                for step in (*said.read(output.stdout), *said.read(output.stderr)):
                    report(step.step, step.fraction)
            status, oom_killed = containers.end_of(container)
        except containers.RefusalError as refusal:
            log.write(f"{refusal.problem}\n".encode())
            raise
    if status:
        problem, remedy = said.cause(status, oom_killed)
        raise EngineError(problem, where=run.log, remedy=remedy)


@contextlib.contextmanager
def _translate_refusals(run: BuildRun) -> Iterator[None]:
    """Turns the engine's refusal of a container into an explained error."""
    try:
        yield
    except containers.RefusalError as refusal:
        said = BuildLog()
        said.note(refusal.problem)
        problem, remedy = said.cause(NOT_STARTED, False)
        raise EngineError(problem, where=run.image, remedy=remedy) from None


def _read_report(run: BuildRun) -> Mapping[str, Any]:
    path = run.scratch / REPORT.relative_to(SCRATCH)
    try:
        report = parse_json(read_document(path))
    except DocumentError:
        report = None
    if not isinstance(report, dict):
        raise EngineError(
            "the build ended without a report of what built it",
            where=run.log,
            remedy="read the log's end",
        )
    return report


@contextlib.contextmanager
def _container(client: DockerClient, run: BuildRun) -> Iterator[Container]:
    """A container that has not started; removed however the body ends."""
    container = None
    try:
        with _signals_held():  # else a signal could leave a container that is never removed
            container = containers.create(
                client,
                run.image,
                command=_command(),
                name=f"falconry-{run.key[:12]}-{secrets.token_hex(4)}",
                labels={BUILD_LABEL: run.key, **owner_labels()},
                user=_user(run),
                hostname=_HOSTNAME,
                network_mode=None if run.network else "none",
                # Without a network nothing else resolves the name, and MPI may need it.
                extra_hosts=None if run.network else {_HOSTNAME: _LOOPBACK},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                init=True,
                read_only=True,
                tmpfs=_TMPFS,
                ipc_mode="private",
                shm_size=run.shm_bytes,
                gpus=run.gpus,
                environment=build_environment(run),
                mounts=_mounts(run),
                log_config={"Type": "none"},  # run.log has it all
                auto_remove=False,
            )
        yield container
    finally:
        if container:
            with _signals_held():
                containers.discard(container)


def _command() -> list[str]:
    return ["python3", str(BUILD_SCRIPT), str(PLAN)]


def _user(run: BuildRun) -> str:
    return ":".join(map(str, run.user))


def build_environment(run: BuildRun) -> dict[str, str]:
    """The container's variables beside those of its image."""
    return {
        "HOME": str(SCRATCH),
        "USER": "falconry",  # the id is not in /etc/passwd, and Python's getpass asks here first
        "PYTHONUNBUFFERED": "1",
        **run.environment,
    }


def _mounts(run: BuildRun) -> list[dict[str, Any]]:
    """The binds, as keyword arguments of the SDK's Mount."""
    read_only = [*build_scripts(run), *_checkpoint_mounts(run)]
    if run.calibration:
        read_only.append((run.calibration, CALIBRATION))
    return [
        {"type": "bind", "source": str(source.absolute()), "target": str(target), "read_only": only}
        for pairs, only in ((read_only, True), (_writable(run), False))
        for source, target in pairs
    ]


def build_scripts(run: BuildRun) -> list[tuple[Path, PurePosixPath]]:
    """The programs that run inside, here and there."""
    return [
        (run.build_script, BUILD_SCRIPT),
        (project_file(_ANSWER_SCRIPT_SOURCE), ANSWER_SCRIPT),
    ]


def _checkpoint_mounts(run: BuildRun) -> list[tuple[Path, PurePosixPath]]:
    return [
        (_rewritten(run) / file.path.name, file.path)
        if isinstance(file.content, bytes)
        else (file.content, file.path)
        for file in run.checkpoint
    ]


def _rewritten(run: BuildRun) -> Path:
    """The directory of files whose content differs from this host's checkpoint."""
    return run.scratch.with_name(f"{run.scratch.name}.checkpoint")


@contextlib.contextmanager
def _written_for(run: BuildRun) -> Iterator[None]:
    """Keeps these files on the disk while the body runs."""
    directory = _rewritten(run)
    contents = [(file.path.name, file.content) for file in run.checkpoint]
    try:
        _make(directory, {name: data for name, data in contents if isinstance(data, bytes)})
        yield
    finally:
        remove(directory)


def _make(directory: Path, files: Mapping[str, bytes] | None = None) -> None:
    """Makes a directory, with some files that all users may read."""
    with translate_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in (files or {}).items():
            (directory / name).write_bytes(content)
            (directory / name).chmod(0o644)  # whatever the umask: the build may be another user's


def _writable(run: BuildRun) -> list[tuple[Path, PurePosixPath]]:
    return [(run.scratch, SCRATCH), (run.output, OUTPUT), (run.cache, CACHE)]


def _mount_words(mount: Mapping[str, Any]) -> str:
    """A mount as `docker run --mount` reads it: a line of CSV."""
    words = [f"{name}={mount[name]}" for name in ("type", "source", "target")]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([*words, *["readonly"] * mount["read_only"]])
    return line.getvalue()


@contextlib.contextmanager
def _given_to_user(run: BuildRun) -> Iterator[None]:
    """Gives the writable directories to the build user, if another one.

    Scratch and output are taken back afterwards. The cache stays, since another build may
    be using it.
    """
    for directory, _ in _writable(run):
        _make(directory)
    if run.user == (os.geteuid(), os.getegid()):
        yield
        return
    ours = (os.geteuid(), os.getegid())
    try:
        for directory, _ in _writable(run):
            _change_owner(directory, run.user)
        yield
    finally:
        with _signals_held():
            for directory in (run.scratch, run.output):
                _change_owner(directory, ours)


def _change_owner(directory: Path, owner: tuple[int, int]) -> None:
    with translate_disk_errors(directory):
        for parent, directories, files in os.walk(directory):
            for name in (".", *directories, *files):
                # Gone meanwhile: another build's, in the cache.
                with contextlib.suppress(FileNotFoundError):
                    os.chown(Path(parent, name), *owner, follow_symlinks=False)


@contextlib.contextmanager
def _ending_signals_raised() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt.

    Ignored signals, as SIGHUP under nohup, stay ignored.
    """

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    heeded = [number for number in _ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    with _handled(heeded, leave):
        yield


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Delays Ctrl-C and the ending signals until the body is done."""
    held: list[int] = []
    with _handled((signal.SIGINT, *_ENDING_SIGNALS), lambda number, _: held.append(number)):
        yield
    for number in held:
        signal.raise_signal(number)


@contextlib.contextmanager
def _handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, Any], None]
) -> Iterator[None]:
    """Sets a handler for signals in the main thread, where they arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
