"""A container's view of the machine, made of Linux namespaces by the keeper.

Own mounts (the artifact read-only at its contractual path, a /dev/shm of its own), own network
(loopback only), own processes. As root, or in a user namespace of one's own. The rest of the file
system is the host's: this keeps deployments apart, it is no security boundary.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from local_oci.runtime import syscalls

_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET
)
# statvfs(3) flag to mount(2) flag: a remount in a user namespace must keep those that are set.
_KEPT_FLAGS = {
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: syscalls.MS_NODIRATIME,
    os.ST_RELATIME: syscalls.MS_RELATIME,
}
# From linux/sockios.h and linux/if.h.
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def enter() -> None:
    """Leave the host's namespaces; the next child is process 1 of the new ones.

    Raises:
        OSError: this machine refuses it.
    """
    try:
        syscalls.unshare(_NAMESPACES)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        syscalls.unshare(_NAMESPACES | syscalls.CLONE_NEWUSER)
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
    syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    _mount_own_proc()
    _provide(mount_point, staging)
    _bind_read_only(model, mount_point)
    syscalls.mount("tmpfs", "/dev/shm", kind="tmpfs", options=f"size={shm_size},mode=1777")
    _loopback_up()


def _mount_own_proc() -> None:
    """Show the new process numbers; where the kernel refuses, the host's /proc serves as well."""
    try:
        syscalls.mount("proc", "/proc", kind="proc")
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
    syscalls.mount("tmpfs", staging, kind="tmpfs", options="mode=755")
    for entry in os.scandir(ancestor):
        _mirror(entry, staging / entry.name)
    staging.joinpath(directory.relative_to(ancestor)).mkdir(parents=True)
    if ancestor == Path("/"):
        os.chroot(staging)
        os.chdir("/")
    else:
        syscalls.mount(staging, ancestor, flags=syscalls.MS_MOVE)


def _mirror(entry: os.DirEntry[str], target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(Path(entry.path).readlink())
        return
    if entry.is_dir():
        target.mkdir()
    else:
        target.touch()
    syscalls.mount(entry.path, target, flags=syscalls.MS_BIND | syscalls.MS_REC)


def _bind_read_only(source: Path, target: Path) -> None:
    syscalls.mount(source, target, flags=syscalls.MS_BIND)
    present = os.statvfs(target).f_flag
    kept = sum(flag for status, flag in _KEPT_FLAGS.items() if present & status)
    syscalls.mount(
        None,
        target,
        flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | kept,
    )


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
