"""The program that keeps one container's processes: `python -m local_oci.runtime.keeper FILE`.

It runs between the cloud and the processes of a container so that none of them can outlive
either: SIGTERM stops them gracefully, SIGHUP, which the kernel sends when the cloud dies, at once.
It ends as the container's command ends, with 128 + n for signal n.

What goes wrong before the command runs is written to the status pipe; the pipe's end without a
word says that the command runs.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from local_oci.runtime import namespaces
from local_oci.runtime.isolation import Isolation
from local_oci.runtime.root_files import RootFiles, enter_root

_COMMAND_NOT_FOUND = 127  # as shells say it
_REAP_STEP_SECONDS = 0.01
_USUAL_UMASK = 0o022  # the cloud's own lets only its owner read


@dataclass(frozen=True, slots=True)
class Task:
    """What a keeper is to do, as JSON in a file.

    Args:
        parent: process id of the cloud.
        isolation: an `Isolation`.
        command: program and arguments.
        environment: all of the command's environment.
        directory: its working directory.
        model: the unpacked artifact, if there is one.
        mount_point: where the command sees the artifact (namespaces only).
        staging: an empty directory (namespaces only).
        shown: files of the host that it sees besides the system's (namespaces only).
        shm_size: size of /dev/shm (namespaces only).
        relays: Unix socket to the port inside that it leads to (namespaces only).
        network: whether it has the host's network, and no loopback of its own (namespaces only).
        grace_seconds: time between SIGTERM and SIGKILL.
        status_descriptor: write end of the status pipe.
        lock_descriptor: a lock that shows that processes of the cloud are left.
    """

    parent: int
    isolation: str
    command: list[str]
    environment: dict[str, str]
    directory: str
    model: str | None
    mount_point: str
    staging: str
    shown: list[str]
    shm_size: str
    relays: dict[str, int]
    network: bool
    grace_seconds: float
    status_descriptor: int
    lock_descriptor: int

    def to_json(self) -> str:
        """The content of a task file."""
        return json.dumps(asdict(self))


def main(path: str) -> int:
    """Run the container that a task file describes; return its exit status."""
    task = Task(**json.loads(Path(path).read_text()))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where nohup started the cloud
    namespaces.set_parent_death_signal(signal.SIGHUP)
    if os.getppid() != task.parent:
        return 1
    for descriptor in (task.status_descriptor, task.lock_descriptor):
        os.set_inheritable(descriptor, False)
    try:
        run = _run_apart if task.isolation == Isolation.NAMESPACES else _run_plain
        return run(task)
    except OSError as error:
        _report(task, f"cannot prepare the container: {error}")
        return 1
    finally:
        # Python gives up its handlers before it ends, and a late alarm would be the status.
        signal.setitimer(signal.ITIMER_REAL, 0)


def _report(task: Task, problem: str) -> None:
    os.write(task.status_descriptor, problem.encode())


# --- namespaces: process 1 of the container is ours, and the kernel ends all others with it -----


def _run_apart(task: Task) -> int:
    namespaces.enter(network=task.network)
    alive, lifeline = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(lifeline)
        _exit_with(lambda: _run_init(task, alive))
    os.close(alive)
    os.close(task.status_descriptor)
    _handle_signals(
        stop=lambda: _terminate(init),
        kill=lambda: os.kill(init, signal.SIGKILL),
        grace_seconds=task.grace_seconds,
    )
    return _exit_status(_wait_for(init)[1])


def _run_init(task: Task, keeper_alive: int) -> int:
    """Process 1: run relay and command, reap, end with the command.

    It and the relay keep the host's files, the command gets a root of its own. They also keep their
    capabilities, without which the processes inside cannot reach theirs through /proc.
    """
    namespaces.set_parent_death_signal(signal.SIGKILL)
    if select.select([keeper_alive], [], [], 0)[0]:
        return 1  # the keeper died before the line above
    namespaces.hide_from_descendants()
    relay_process = None if task.network else _start_relay(task)
    command = os.fork()
    if command == 0:
        _enter_root(task)
        _execute(task)
    os.close(task.status_descriptor)
    signal.signal(signal.SIGTERM, lambda *_: _terminate(command))
    helpers = [] if relay_process is None else [relay_process]
    ended, status = _wait_for(command, *helpers)
    if ended == relay_process:
        # Nothing else leads into the container.
        print("local_oci: the relay to the container has ended", file=sys.stderr, flush=True)
        return _exit_status(status) or 1
    return _exit_status(status)


def _start_relay(task: Task) -> int:
    """Lead the sockets into the container's own network; gives the relay's process."""
    namespaces.loopback_up()
    listeners = {_listen(path): port for path, port in task.relays.items()}
    relay_process = os.fork()
    if relay_process == 0:
        os.close(task.status_descriptor)
        _exit_with(lambda: _relay(listeners))
    return relay_process


def _enter_root(task: Task) -> None:
    files = RootFiles(
        model=None if task.model is None else Path(task.model),
        mount_point=Path(task.mount_point),
        shm_size=task.shm_size,
        shown=[Path(path) for path in task.shown],
        writable=[Path(task.directory)],
    )
    try:
        namespaces.keep_mounts_to_oneself()
        enter_root(files, Path(task.staging))
    except OSError as error:
        _report(task, f"cannot set up the container's files: {error}")
        os._exit(_COMMAND_NOT_FOUND)


def _relay(listeners: dict[socket.socket, int]) -> None:
    from local_oci.runtime import relay  # asyncio takes long to import: not before the command runs

    relay.serve(listeners)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(socket.SOMAXCONN)
    return listener


# --- plain: the keeper adopts what the command leaves behind, and ends it -----------------------


def _run_plain(task: Task) -> int:
    namespaces.adopt_orphans()
    keeper = os.getpid()
    command = os.fork()
    if command == 0:
        namespaces.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        _execute(task)
    os.close(task.status_descriptor)
    _handle_signals(
        stop=lambda: _terminate(command),
        kill=_kill_descendants,
        grace_seconds=task.grace_seconds,
    )
    _, status = _wait_for(command)
    _end_orphans()
    return _exit_status(status)


def _end_orphans() -> None:
    """Kill and reap until no descendant is left."""
    while True:
        _kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(_REAP_STEP_SECONDS)


def _kill_descendants() -> None:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    descendants = list(children.get(os.getpid(), []))
    for process in descendants:
        descendants.extend(children.get(process, []))
    for process in descendants:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _parent(entry: Path) -> int | None:
    try:
        # proc(5): "pid (comm) state ppid ..."; comm may hold spaces and parentheses.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


# --- both ---------------------------------------------------------------------------------------


def _execute(task: Task) -> None:
    """Become the command."""
    program = shutil.which(task.command[0], path=task.environment["PATH"])
    try:
        if program is None:
            raise FileNotFoundError(f"command not found: {task.command[0]}")
        # Python ignores these two, and an ignored signal stays ignored across an exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.chdir(task.directory)
        os.umask(_USUAL_UMASK)
        namespaces.drop_rights()
        os.execve(program, task.command, task.environment)
    except (OSError, ValueError) as error:  # ValueError: no program takes such an argument
        _report(task, str(error))
    os._exit(_COMMAND_NOT_FOUND)


def _wait_for(*awaited: int) -> tuple[int, int]:
    """Reap children until one of these has ended; continue those that a signal has stopped.

    Returns:
        Which one, and its wait status.
    """
    while True:
        child, status = os.waitpid(-1, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            print(f"local_oci: process {child} was stopped and is continued", file=sys.stderr)
            os.kill(child, signal.SIGCONT)
        elif child in awaited:
            return child, status


def _terminate(process: int) -> None:
    os.kill(process, signal.SIGTERM)
    os.kill(process, signal.SIGCONT)  # a process that is stopped takes no signal


def _handle_signals(
    stop: Callable[[], None], kill: Callable[[], None], grace_seconds: float
) -> None:
    """Let SIGTERM stop the container, with a deadline, and SIGHUP kill it."""

    def terminate(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, grace_seconds)
        stop()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGALRM, lambda *_: kill())
    signal.signal(signal.SIGHUP, lambda *_: kill())


def _exit_with(run: Callable[[], int | None]) -> None:
    """End a forked process with the result of `run`, never returning into its parent's code."""
    try:
        os._exit(run() or 0)
    except Exception:
        traceback.print_exc()
        os._exit(1)


def _exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
