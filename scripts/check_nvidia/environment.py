"""The virtual environment in which NVIDIA's code runs, made once below build/check-nvidia."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TORCH = "torch==2.13.0"

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "requirements.txt"
_INSIDE = _HERE / "inside.py"
_STAMP = "installed.txt"


class CheckError(Exception):
    """The check itself could not be done; one sentence."""


class Environment:
    """Runs tasks of `inside.py`; each is a process of its own.

    Args:
        place: where the environment is, or is to be.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def prepare(self) -> None:
        """Makes it, unless it is there with the same requirements.

        Raises:
            CheckError: pip does not get them.
        """
        stamp = self._place / _STAMP
        if stamp.is_file() and stamp.read_bytes() == _REQUIREMENTS.read_bytes():
            return
        print(f"installing {TORCH} and others in {self._place}: some minutes, once", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(self._place)])
        install = [self._python, "-m", "pip", "install", "--quiet", "--no-deps"]
        _run([*install, "--requirement", str(_REQUIREMENTS)])
        _run([*install, TORCH])
        shutil.copyfile(_REQUIREMENTS, stamp)

    def run(self, task: dict[str, Any], place: Path) -> Any:
        """The result of a task.

        Args:
            task: for inside.py.
            place: where it may leave files.

        Raises:
            CheckError: it could not be done, with the last line of why.
        """
        with tempfile.TemporaryDirectory(dir=place) as home:
            written, result = Path(home, "task.json"), Path(home, "result.json")
            written.write_text(json.dumps(task))
            # Nothing of the hub's is asked for, and what transformers would keep goes away again.
            environment = os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1"}
            _run([self._python, str(_INSIDE), str(written), str(result)], environment)
            answer = json.loads(result.read_text())
        if "failure" in answer:
            raise CheckError(f"{task['task']}: {answer['failure'].strip().splitlines()[-1]}")
        return answer["result"]

    @property
    def _python(self) -> str:
        return str(self._place / "bin" / "python")


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stdout + ended.stderr).strip().splitlines()[-1:]
        raise CheckError(f"{' '.join(command[:4])} failed: {''.join(last)}")
