"""The process image, which replaces a server image without Docker.

A directory whose `bin/tritonserver` starts the real Triton server of the nvidia-pytriton wheel.
local_oci runs deployments from it where Oracle would run a container. The launcher names nothing
outside of the image as it is called, which has links to the rest: Triton's Python backend starts
its processes by a shell and quotes no path, so local_oci calls the image by a plain one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from falconry.data_files import project_file
from falconry.errors import ServerError
from falconry.files import atomic_write, atomic_write_text

_STUB = "triton_python_backend_stub"

# What the image runs, beside the real server.
_SERVER_SOURCES = "docker/server"

# nvidia-pytriton 0.7.0 finds its libraries by RPATH, so nothing is moved out of site-packages.
# The Python stub takes the first `python3` of PATH for its own, and so finds our packages; it uses
# no path with other than ASCII characters.
_LAUNCHER = """\
#!/bin/sh
# Replaces a container image's tritonserver with the real server of the nvidia-pytriton wheel.
image=${{0%/bin/*}}
PATH=$image/python/bin:$PATH
PYTHONUTF8=1
export PATH PYTHONUTF8
{library_path}
if [ -n "${{LOCAL_OCI_SERVER_PORT:-}}" ]; then
    # local_oci runs without namespaces, so the contract's port may be somebody else's.
    case " $*" in *" --grpc-port"*) ;; *) set -- "$@" --allow-grpc=false ;; esac
    set -- "$@" --http-address=127.0.0.1 --http-port="$LOCAL_OCI_SERVER_PORT" \\
        --grpc-address=127.0.0.1
fi
exec "$image/python/bin/python" "$image/sources/tritonserver.py" \\
    "$image/server/bin/tritonserver" --backend-directory="$image/server/backends" "$@"
"""


def prepare_process_image(directory: Path) -> Path:
    """Makes the process image unless it is up to date.

    Raises:
        ServerError: the wheel or a library that its server needs is missing.
    """
    _copy_stub(_server_directory())
    text = _launcher_text(_libpython_directory())
    launcher = _launcher(directory)
    if not launcher.is_file() or launcher.read_text(encoding="utf-8") != text:
        atomic_write_text(launcher, text)
    launcher.chmod(0o755)
    for link, target in _links(directory).items():
        if not _is_link_to(link, target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    atomic_write_text(_mounts(directory), _mounts_text())
    return directory


def is_prepared(directory: Path) -> bool:
    """Whether the process image exists as this Python environment needs it."""
    launcher, (source, target) = _launcher(directory), _stub(_server_directory())
    if not launcher.is_file() or not target.is_file():
        return False
    if not all(_is_link_to(*link) for link in _links(directory).items()):
        return False
    said = launcher.read_text(encoding="utf-8")
    same_stub = target.stat().st_size == source.stat().st_size
    mounts = _mounts(directory)
    same_mounts = mounts.is_file() and mounts.read_text(encoding="utf-8") == _mounts_text()
    return (
        same_stub
        and same_mounts
        and said in (_launcher_text(None), _launcher_text(_library_beside()))
    )


def _launcher(directory: Path) -> Path:
    return directory.absolute() / "bin" / "tritonserver"


def _mounts(directory: Path) -> Path:
    return directory.absolute() / "mounts"


def _mounts_text() -> str:
    """What the launcher's programs need of this machine, for local_oci's namespaces."""
    site_packages = _server_directory().parents[1]
    needed = {
        *(Path(sys.prefix), Path(sys.base_prefix), site_packages, _library_beside()),
        project_file(_SERVER_SOURCES),
    }
    return "".join(f"{path}\n" for path in sorted(needed) if path.exists())


def _launcher_text(library: Path | None) -> str:
    return _LAUNCHER.format(
        library_path=f"export LD_LIBRARY_PATH={shlex.quote(str(library))}" if library else "",
    )


def _links(directory: Path) -> dict[Path, Path]:
    """The links of an image, and what each names."""
    targets = {
        "python": Path(sys.executable).parents[1],
        "server": _server_directory(),
        "sources": project_file(_SERVER_SOURCES),
    }
    return {directory.absolute() / name: target.absolute() for name, target in targets.items()}


def _is_link_to(link: Path, target: Path) -> bool:
    return link.is_symlink() and link.readlink() == target


def _server_directory() -> Path:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise ServerError(
            "the nvidia-pytriton package is not installed",
            where=sys.prefix,
            remedy="remove .venv and run make again",
        )
    return Path(package.origin).parent / "tritonserver"


def _stub(server: Path) -> tuple[Path, Path]:
    """The stub for this Python, and where the Python backend looks."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source = server / "python_backend_stubs" / version / _STUB
    return source, server / "backends" / "python" / _STUB


def _copy_stub(server: Path) -> None:
    source, target = _stub(server)
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return
    with atomic_write(target) as output:
        shutil.copyfile(source, output)
        output.chmod(0o755)


def _libpython_directory() -> Path | None:
    """Where the stub's libpython is, if not where the loader looks anyway.

    Installs Debian's package when run as root there, since pip cannot bring the library.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if _loads(name):
        return None
    beside = _library_beside()
    if (beside / name).is_file():
        return beside
    package = name.removesuffix(".so.1.0")
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {package}, which Triton's Python backend needs")
        subprocess.run(["apt-get", "update", "--quiet"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if _loads(name):
            return None
    raise ServerError(
        f"{name} is missing, which Triton's Python backend needs",
        remedy=f"run: sudo {' '.join(command)}",
    )


def _library_beside() -> Path:
    """Where this Python has its own libraries."""
    return Path(str(sysconfig.get_config_var("LIBDIR")))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
