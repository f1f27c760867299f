"""The process image: a stand-in for a server image on a machine without a Docker engine.

A directory whose `bin/tritonserver` is a real Triton server, the one that the nvidia-pytriton
wheel carries. local_oci runs deployments from it where Oracle would run a container.
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

from falconry.errors import ServerError
from falconry.files import made_whole, write_text_whole

_STUB = "triton_python_backend_stub"

# What the image runs, beside the real server.
_SERVER_SOURCES = Path(__file__).parents[2] / "docker" / "server"

# nvidia-pytriton 0.7.0 finds its libraries by RPATH, so nothing is moved out of site-packages.
# The Python stub takes the first `python3` of PATH for its own, and so finds our packages.
_LAUNCHER = """\
#!/bin/sh
# Stand-in for a container image's tritonserver: the real server of the nvidia-pytriton wheel.
PATH={python_bin}:$PATH
export PATH
{library_path}
if [ -n "${{LOCAL_OCI_SERVER_PORT:-}}" ]; then
    # local_oci runs without namespaces, so the contract's port may be somebody else's.
    set -- "$@" --http-address=127.0.0.1 --http-port="$LOCAL_OCI_SERVER_PORT" \\
        --allow-grpc=false --allow-metrics=false
fi
exec {python_bin}/python {sources}/tritonserver.py {server}/bin/tritonserver \\
    --backend-directory={server}/backends "$@"
"""


def prepare_process_image(directory: Path) -> Path:
    """Makes the process image, or leaves it when it is as it should be.

    Args:
        directory: where it shall stand.

    Returns:
        The same directory.

    Raises:
        ServerError: the wheel or a library that its server needs is missing.
    """
    server = _server_directory()
    _place_stub(server)
    library = _libpython_directory()
    text = _LAUNCHER.format(
        python_bin=shlex.quote(str(Path(sys.executable).parent)),
        library_path=f"export LD_LIBRARY_PATH={shlex.quote(str(library))}" if library else "",
        server=shlex.quote(str(server)),
        sources=shlex.quote(str(_SERVER_SOURCES)),
    )
    launcher = directory.absolute() / "bin" / "tritonserver"
    if not launcher.is_file() or launcher.read_text(encoding="utf-8") != text:
        write_text_whole(launcher, text)
    launcher.chmod(0o755)
    return directory


def _server_directory() -> Path:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise ServerError(
            "the nvidia-pytriton package is not installed",
            where=sys.prefix,
            remedy="remove .venv and run make again",
        )
    return Path(package.origin).parent / "tritonserver"


def _place_stub(server: Path) -> None:
    """Puts the stub of this Python's version where the Python backend looks for it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source = server / "python_backend_stubs" / version / _STUB
    target = server / "backends" / "python" / _STUB
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return
    with made_whole(target) as output:
        shutil.copyfile(source, output)
        output.chmod(0o755)


def _libpython_directory() -> Path | None:
    """Where the stub's libpython is, if not where the loader looks anyway.

    Installs Debian's package when run as root there, since pip cannot bring the library.

    Raises:
        ServerError: it is missing and cannot be installed here.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if _loads(name):
        return None
    beside = Path(str(sysconfig.get_config_var("LIBDIR")))
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


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
