"""The files that a process in namespaces sees: a root of its own, with little of the host's.

What every program needs (the host's programs and libraries, a few files of /etc, the harmless
devices), what the process image names, the artifact, and the deployment's own directories. All of
it is read-only but HOME, /tmp and /dev/shm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_oci.runtime import namespaces

# Programs and libraries; some are links on most systems.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What libraries read of /etc. Neither keys nor passwords nor whom this machine knows.
_SETTINGS = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "os-release"),
    *("passwd", "group", "nsswitch.conf", "host.conf", "hosts", "services", "protocols"),
    *("mime.types", "ssl/certs", "ssl/openssl.cnf", "fonts"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
# How many processors and how much memory there are, which runtimes of models look up.
_TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")
# What Docker's containers may not change, or not see, of /proc.
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_HIDDEN_FILES = ("kcore", "keys", "kmsg", "timer_list", "sched_debug", "latency_stats")
_HIDDEN_DIRECTORIES = ("acpi", "scsi", "asound")


@dataclass(frozen=True, slots=True)
class RootFiles:
    """What to show.

    Args:
        model: the unpacked artifact, if there is one.
        mount_point: where the process sees it.
        shm_size: size of /dev/shm, in tmpfs(5) notation.
        shown: files and directories that are at their own paths, read-only.
        writable: directories that are at their own paths.
    """

    model: Path | None
    mount_point: Path
    shm_size: str
    shown: Sequence[Path]
    writable: Sequence[Path]


def enter_root(files: RootFiles, staging: Path) -> None:
    """Leave the host's files for these, in the mount namespace of this process alone.

    Args:
        files: what to show.
        staging: an empty directory.

    Raises:
        OSError: this machine refuses it, or a file is not there.
    """
    namespaces.mount("tmpfs", staging, kind="tmpfs", options="mode=755")
    _add_system(staging)
    _add_devices(staging, files.shm_size)
    _add_proc(staging)
    temporary = _directory(staging / "tmp")
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    namespaces.mount("tmpfs", temporary, kind="tmpfs", flags=flags, options="mode=1777")
    for path in sorted({*files.shown, *(path.resolve() for path in files.shown)}):
        if not path.exists():
            raise FileNotFoundError(f"{path}, which the process image needs, is not there")
        if not _below(staging, path).exists():  # a part of /usr is there already
            _show(path, _below(staging, path), read_only=True)
    for path in files.writable:
        _show(path, _below(staging, path), read_only=False)
    if files.model is not None:
        _show(files.model, _below(staging, files.mount_point), read_only=True)
    _make_top_read_only(staging)
    namespaces.change_root(staging)


def _add_system(root: Path) -> None:
    settings = [f"/etc/{name}" for name in _SETTINGS]
    for path in map(Path, (*_SYSTEM, *settings, *_TOPOLOGY)):
        target = _below(root, path)
        if path.is_symlink() and path.parent == Path("/"):
            target.symlink_to(path.readlink())
        elif path.exists():
            _show(path, target, read_only=True)


def _add_devices(root: Path, shm_size: str) -> None:
    devices = _directory(root / "dev")
    for name in _DEVICES:
        _show(Path("/dev", name), devices / name, read_only=False)
    for name, target in _DEVICE_LINKS.items():
        (devices / name).symlink_to(target)
    options = f"size={shm_size},mode=1777"
    namespaces.mount("tmpfs", _directory(devices / "shm"), kind="tmpfs", options=options)


def _add_proc(root: Path) -> None:
    """Show the new process numbers; where the kernel refuses, the host's serve as well."""
    processes = _directory(root / "proc")
    try:
        namespaces.mount("proc", processes, kind="proc")
    except PermissionError:
        namespaces.bind(Path("/proc"), processes, read_only=False)
        return
    for name in _READ_ONLY:
        if (processes / name).exists():
            namespaces.bind(processes / name, processes / name, read_only=True)
    for name in _HIDDEN_FILES:
        if (processes / name).exists():
            namespaces.bind(root / "dev/null", processes / name, read_only=False)
    for name in _HIDDEN_DIRECTORIES:
        if (processes / name).is_dir():
            flags = namespaces.MS_RDONLY
            namespaces.mount("tmpfs", processes / name, kind="tmpfs", flags=flags)


def _make_top_read_only(root: Path) -> None:
    """Allow no writing beside what is mounted; the mounts below stay as they are."""
    flags = namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY
    namespaces.mount(None, root, flags=flags)


def _show(source: Path, target: Path, *, read_only: bool) -> None:
    if source.is_dir():
        _directory(target)
    elif not target.exists():
        _directory(target.parent)
        target.touch()
    namespaces.bind(source, target, read_only=read_only)


def _directory(path: Path) -> Path:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")
