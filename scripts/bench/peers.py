"""What Falconry is compared with, each in a virtual environment of its own that is made once.

Where pip finds only the CUDA build of torch, as on PyPI, its libraries come along unused; with
PyTorch's CPU index in PIP_EXTRA_INDEX_URL they do not.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from scripts.bench.processes import Command, run
from scripts.bench.workplace import Workplace

TORCH = "torch==2.13.0"
PACKAGES = ("torch", "transformers", "optimum-intel", "openvino", "openvino-genai", "nncf")

_LOCKS = Path(__file__).parent
_STAMP = "installed.lock"


def peer(name: str, workplace: Workplace) -> Path:
    """The virtual environment with what `<name>.lock` beside this file pins; made when needed.

    Raises:
        BenchError: it cannot be made.
    """
    lock, place = _LOCKS / f"{name}.lock", workplace.directory / "peers" / name
    stamp = place / _STAMP
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return place
    print(f"installing {name} and {TORCH} in {place}: some minutes, once", flush=True)
    run([workplace.python, "-m", "venv", "--clear", place], workplace.root)
    install: Command = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run([*install, "--no-deps", "--require-hashes", "--requirement", lock], workplace.root)
    run([*install, TORCH], workplace.root)
    shutil.copyfile(lock, stamp)
    return place


def versions(environment: Path) -> dict[str, str]:
    """The versions of the packages that matter, as far as they are installed there."""
    site_packages = [str(path) for path in environment.glob("lib/python*/site-packages")]
    found = {each.name: each.version for each in metadata.distributions(path=site_packages)}
    return {name: found[name] for name in PACKAGES if name in found}
