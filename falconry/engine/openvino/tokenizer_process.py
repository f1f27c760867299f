"""Has the tokenizer converted by a process of its own, beside the build and on another core."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from falconry import errors
from falconry.data_files import CODE_DIRECTORY
from falconry.engine.openvino import CI_JOB

_PROGRAM = "falconry.engine.openvino.tokenizer"

# The advice would be that PyTorch is absent, which is so by design.
_ENVIRONMENT = {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", **CI_JOB}


@contextlib.contextmanager
def tokenizer_conversion(checkpoint: Path, output: Path) -> Iterator[Callable[[], int]]:
    """Converts a checkpoint's tokenizer while the body goes on with something else.

    The process ends with the body, and with this process in whatever way that ends.

    Args:
        checkpoint: the checkpoint's directory.
        output: gets the models, see tokenizer.py.

    Yields:
        Waits for the conversion; gives one more than the largest token id, or raises what
        `tokenizer.write_tokenizer` does.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", _PROGRAM, checkpoint.absolute(), output.absolute()],
        cwd=CODE_DIRECTORY,
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for this process alone, which then ends the other
    )
    with process:
        try:
            yield lambda: _outcome(process)
        finally:
            process.kill()


def _outcome(process: subprocess.Popen[bytes]) -> int:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise errors.EngineError(
            f"the tokenizer could not be converted: its process ended with {process.wait()}"
        )
    outcome = json.loads(line)
    if isinstance(outcome, int):
        return outcome
    kind, problem, where, remedy = outcome
    error: errors.FalconryError = getattr(errors, kind)(problem, where=where, remedy=remedy)
    raise error
