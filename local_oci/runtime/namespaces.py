"""Linux namespaces, mounts and capabilities, by system calls.

Own mounts, own network (loopback only), own processes. As root, or in a user namespace of one's
own.
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
MNT_DETACH = 0x2
MS_RELATIME = 0x200000

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# From linux/capability.h: the version of the structures of capset(2), and how many there can be.
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64

# From linux/mount.h and fcntl.h: mount_setattr(2), which no libc before glibc 2.36 has.
_SYS_MOUNT_SETATTR = 442
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = 0x1, 0x2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

_libc = ctypes.CDLL(None, use_errno=True)
_NAMESPACES = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID
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


def enter(*, network: bool = False) -> None:
    """Leave the host's namespaces; the next child is process 1 of the new ones.

    Args:
        network: whether to keep the host's network.

    Raises:
        OSError: this machine refuses it.
    """
    wanted = _NAMESPACES if network else _NAMESPACES | CLONE_NEWNET
    try:
        unshare(wanted)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        unshare(wanted | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def loopback_up() -> None:
    """Start the loopback interface of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)


# --- mounts -----------------------------------------------------------------------------------


def keep_mounts_to_oneself() -> None:
    """Have a mount namespace of one's own, whose changes stay in it."""
    unshare(CLONE_NEWNS)
    mount(None, "/", flags=MS_REC | MS_SLAVE)


def bind(source: Path, target: Path, *, read_only: bool) -> None:
    """Show a file or directory, and what is mounted below it, at another path."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        make_mount_read_only(target)


def make_mount_read_only(target: Path) -> None:
    """Allow no writing below a mount, and no gain of rights by its programs."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(target),
        _AT_RECURSIVE,
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    if result == 0:
        return
    # Linux before 5.12: without what is mounted below.
    present = os.statvfs(target).f_flag
    kept = sum(flag for status, flag in _KEPT_FLAGS.items() if present & status)
    mount(None, target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def change_root(root: Path) -> None:
    """Make a mount the root of this mount namespace, and let go of all others."""
    os.chdir(root)
    if _libc.pivot_root(b".", b".") == 0:
        _check(_libc.umount2(b".", MNT_DETACH), "umount")
    else:  # the root is the kernel's first one, which cannot be left
        mount(".", "/", flags=MS_MOVE)
        os.chroot(".")
    os.chdir("/")


# --- rights -----------------------------------------------------------------------------------


def hide_from_descendants() -> None:
    """Keep what /proc shows of this process, its root directory too, from those without rights."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0), "prctl")


def drop_rights() -> None:
    """Give up all capabilities, and with them whatever a program could gain."""
    for capability in range(_MOST_CAPABILITIES):
        # It does not exist, or there is no right to drop any: then there are none to drop.
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, bytes(2 * 3 * 4)), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")
