"""The Python that runs here, and what Triton's Python backend needs of it in a process image."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from falconry.doctor.subject import Subject
from falconry.findings import Finding

NAME = "Python"


def python(subject: Subject) -> Finding:
    """Whether this Python has libpython and the server, where deployments run as processes."""
    version = platform.python_version()
    if subject.containers or subject.settings.cloud.emulator is None:
        return Finding(NAME, "ok", f"{version}; the server brings its own")
    if importlib.util.find_spec("pytriton") is None:
        return Finding(
            NAME,
            "failed",
            f"{version}, without the nvidia-pytriton package",
            "remove .venv and run make again",
        )
    library = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if _has_library(library):
        return Finding(NAME, "ok", f"{version} with {library}")
    package = library.removesuffix(".so.1.0")
    missing = f"{version}, without {library} for Triton's Python backend"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return Finding(NAME, "ok", f"{missing}; the first make deploy installs it")
    return Finding(NAME, "failed", missing, f"run: sudo apt-get install {package}")


def _has_library(name: str) -> bool:
    """Whether the loader finds it, or it stands beside the interpreter."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return (Path(str(sysconfig.get_config_var("LIBDIR"))) / name).is_file()
    return True
