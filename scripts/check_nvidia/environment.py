"""The virtual environment in which NVIDIA's code runs, made once below build/check-nvidia."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from scripts.bench.processes import BenchError, run
from scripts.bench.workplace import TORCH, prepare_environment

_HERE = Path(__file__).parent


class CheckError(BenchError):
    """The check itself could not be done; one sentence."""


class Environment:
    """Runs tasks of `inside.py`, each in a new process.

    Args:
        directory: of the virtual environment.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Makes the environment, unless it exists with the same requirements.

        Raises:
            BenchError: pip cannot install them.
        """
        prepare_environment(
            self._directory, _HERE / "requirements.txt", further=["--no-deps", TORCH]
        )

    def run(self, task: dict[str, Any], scratch: Path) -> Any:
        """Runs a task and returns its result.

        Args:
            task: for inside.py.
            scratch: where it may leave files.

        Raises:
            BenchError: it could not be done, with the last line of why.
        """
        with tempfile.TemporaryDirectory(dir=scratch) as home:
            written, result = Path(home, "task.json"), Path(home, "result.json")
            written.write_text(json.dumps(task))
            # Nothing comes from the hub, and what transformers caches is removed again.
            python = self._directory / "bin" / "python"
            run([python, _HERE / "inside.py", written, result], scratch, {"HF_HOME": home})
            answer = json.loads(result.read_text())
        if "failure" in answer:
            raise CheckError(f"{task['task']}: {answer['failure'].strip().splitlines()[-1]}")
        return answer["result"]
