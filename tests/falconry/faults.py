"""Ends, or refuses, the work of a child process at one of its steps on the disk."""

import errno
import multiprocessing
import os
import sys
from pathlib import Path

_CHANGES = {
    "fcntl.flock",
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
}
_FINISHED, _KILLED, _FAILED = 0, 40, 41


def every_kill(work):
    """Kills work before its first step on the disk, then before its second, and so to the end.

    Args:
        work: called in a child process of its own each time.

    Yields:
        The step that did not come about, once its process is dead.
    """
    yield from _every_step(work, _die, {_KILLED})


def every_refusal(work, failure):
    """Has the disk be full at the first step of work, then at the second, and so to the end.

    Args:
        work: called in a child process of its own each time.
        failure: what the work may raise then; it may also do without the step.

    Yields:
        The step that was refused, once the work has ended.
    """

    def attempt():
        try:
            work()
        except failure:
            os._exit(_FAILED)

    yield from _every_step(attempt, _refuse, {_FAILED, _FINISHED})


def _every_step(work, befall, expected):
    processes = multiprocessing.get_context("fork")
    number, met = 0, ["first"]
    while met:
        number += 1
        receiving, sending = processes.Pipe(duplex=False)
        child = processes.Process(target=_run, args=(work, number, befall, sending))
        child.start()
        sending.close()
        met = _all_of(receiving)
        child.join()
        if met:
            assert child.exitcode in expected, f"{child.exitcode} at step {number}: {met[0]}"
            yield f"step {number}: {met[0]}"
        else:
            assert child.exitcode == _FINISHED


def _all_of(receiving):
    """What comes through a pipe until its other end is closed."""
    found = []
    try:
        while True:
            found.append(receiving.recv())
    except EOFError:
        return found


def _run(work, number, befall, sending):
    """Runs work in this process, which is to end soon; something befalls its nth step."""
    sys.dont_write_bytecode = True
    left = number

    def step(event, arguments):
        nonlocal left
        left -= 1
        if left == 0:
            sending.send(f"{event} {arguments[0]}")
            befall()

    def hear(event, arguments):
        opened_for_writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or opened_for_writing:
            step(event, arguments)

    def fsync(descriptor):
        # Nothing is flushed: what the kernel was given outlives the process.
        step("os.fsync", [Path(f"/proc/self/fd/{descriptor}").readlink()])

    os.fsync = fsync
    sys.addaudithook(hear)  # there is no way to take it back, but the process ends
    work()


def _die():
    os._exit(_KILLED)


def _refuse():
    raise OSError(errno.ENOSPC, "No space left on device")
