"""A container's view of the machine, made of Linux namespaces by the keeper.

Own mounts (the artifact read-only at its contractual path, a /dev/shm of its own), own network
(loopback only), own processes. As root, or in a user namespace of one's own. The rest of the file
system is the host's: this keeps deployments apart, it is no security boundary.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

# From linux/sched.h.
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# From linux/mount.h.
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_NAMESPACES = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
# statvfs(3) flag to mount(2) flag: a remount in a user namespace must keep those that are set.
_KEPT_FLAGS = {
    os.ST_NOSUID: MS_NOSUID,
    os.ST_NODEV: MS_NODEV,
    os.ST_NOEXEC: MS_NOEXEC,
    os.ST_NOATIME: MS_NOATIME,
    os.ST_NODIRATIME: MS_NODIRATIME,
    os.ST_RELATIME: MS_RELATIME,
}
# From linux/sockios.h and linux/if.h.
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave some of the process's namespaces for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(
    source: str | Path | None,
    target: str | Path,
    *,
    kind: str | None = None,
    flags: int = 0,
    options: str | None = None,
) -> None:
    """Attach a file system, or change how one is attached."""
    result = _libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if options is None else options.encode(),
    )
    _check(result, f"mount on {target}")


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies (prctl(2))."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (prctl(2))."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def enter() -> None:
    """Leave the host's namespaces; the next child is process 1 of the new ones.

    Raises:
        OSError: this machine refuses it.
    """
    try:
        unshare(_NAMESPACES)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        unshare(_NAMESPACES | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def furnish(model: Path, mount_point: Path, staging: Path, shm_size: str) -> None:
    """Set up mounts and network; called by process 1 of the new namespaces.

    Args:
        model: directory to show.
        mount_point: where to show it, read-only; nothing is made there on the host.
        staging: an empty directory.
        shm_size: size of /dev/shm, in tmpfs(5) notation.

    Raises:
        OSError: this machine refuses it.
    """
    mount(None, "/", flags=MS_REC | MS_SLAVE)
    _mount_own_proc()
    _provide(mount_point, staging)
    _bind_read_only(model, mount_point)
    mount("tmpfs", "/dev/shm", kind="tmpfs", options=f"size={shm_size},mode=1777")
    _loopback_up()


def _mount_own_proc() -> None:
    """Show the new process numbers; where the kernel refuses, the host's /proc serves as well."""
    try:
        mount("proc", "/proc", kind="proc")
    except PermissionError:
        return


def _provide(directory: Path, staging: Path) -> None:
    """Make a directory exist in this mount namespace alone.

    The deepest ancestor that exists is covered by a tmpfs which holds all that the ancestor
    holds, and the missing directories.
    """
    if directory.is_dir():
        return
    ancestor = next(parent for parent in directory.parents if parent.is_dir())
    mount("tmpfs", staging, kind="tmpfs", options="mode=755")
    for entry in os.scandir(ancestor):
        _mirror(entry, staging / entry.name)
    staging.joinpath(directory.relative_to(ancestor)).mkdir(parents=True)
    if ancestor == Path("/"):
        os.chroot(staging)
        os.chdir("/")
    else:
        mount(staging, ancestor, flags=MS_MOVE)


def _mirror(entry: os.DirEntry[str], target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(Path(entry.path).readlink())
        return
    if entry.is_dir():
        target.mkdir()
    else:
        target.touch()
    mount(entry.path, target, flags=MS_BIND | MS_REC)


def _bind_read_only(source: Path, target: Path) -> None:
    mount(source, target, flags=MS_BIND)
    present = os.statvfs(target).f_flag
    kept = sum(flag for status, flag in _KEPT_FLAGS.items() if present & status)
    mount(
        None,
        target,
        flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept,
    )


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
