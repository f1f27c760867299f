"""The tokenizer as OpenVINO models, for stop strings and grammars.

Converting takes a second or two on one core, most of it for importing transformers, which the
converter needs. So this is also a program, `python -m falconry.engine.openvino.tokenizer
CHECKPOINT OUTPUT`, which runs beside the build. It imports little else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from falconry import errors
from falconry.data_files import CODE_DIRECTORY
from falconry.engine.openvino import CI_JOB
from falconry.errors import CheckpointError, EngineError, FalconryError
from falconry.files import is_stopped, translate_disk_errors

if TYPE_CHECKING:
    import openvino as ov
    from transformers import PreTrainedTokenizerFast

_PROGRAM = "falconry.engine.openvino.tokenizer"

# The advice would be that PyTorch is absent, which is so by design. openvino_tokenizers cannot be
# imported without docstrings.
_ENVIRONMENT = {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "PYTHONOPTIMIZE": "", **CI_JOB}
# How often a conversion that takes longer is looked at.
_LOOK_S = 1.0
TOKENIZER_MODEL = "openvino_tokenizer.xml"
DETOKENIZER_MODEL = "openvino_detokenizer.xml"


@contextlib.contextmanager
def tokenizer_conversion(checkpoint: Path, output: Path) -> Iterator[Callable[[], int]]:
    """Converts a tokenizer in its own process while the body runs.

    The process ends with the body, and with this process however that ends.

    Yields:
        A function that waits for the conversion; it returns and raises what `write_tokenizer` does.
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
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], _LOOK_S)[0]:
        if is_stopped(process.pid):
            raise EngineError(
                f"the tokenizer's process {process.pid} is stopped", remedy="run the same again"
            )
    line = process.stdout.readline()
    if not line:
        raise EngineError(
            f"the tokenizer could not be converted: its process ended with {process.wait()}"
        )
    outcome = json.loads(line)
    if isinstance(outcome, int):
        return outcome
    kind, problem, where, remedy = outcome
    error: FalconryError = getattr(errors, kind)(problem, where=where, remedy=remedy)
    raise error


def write_tokenizer(checkpoint: Path, output: Path) -> int:
    """Writes the tokenizer and its inverse under OpenVINO GenAI's file names.

    Returns:
        One more than the largest token id.
    """
    tokenizer = _load(checkpoint)
    models = _convert(tokenizer, checkpoint)
    from falconry.engine.openvino.model_file import write_model

    for model, name in zip(models, (TOKENIZER_MODEL, DETOKENIZER_MODEL), strict=True):
        write_model(model, output / name)
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def main(checkpoint: str, output: str) -> None:
    """Converts, and prints the result as a line of JSON.

    That is what `write_tokenizer` returns, or the class and the three parts of its error.
    """
    _end_with_parent()
    outcome: object
    try:
        # A library may print, and standard output must hold this line only.
        with contextlib.redirect_stdout(sys.stderr), translate_disk_errors(Path(output)):
            outcome = write_tokenizer(Path(checkpoint), Path(output))
    except FalconryError as error:
        outcome = [type(error).__name__, error.problem, error.where, error.remedy]
    except Exception as error:  # of a library that this machine lacks or that is damaged
        problem = f"the tokenizer could not be converted ({_one_line(error)})"
        outcome = ["EngineError", problem, None, "remove .venv and run make again"]
    print(json.dumps(outcome), flush=True)


def _load(checkpoint: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            checkpoint, local_files_only=True
        )
    # transformers and the tokenizers library raise errors of any kind.
    except Exception as error:
        raise CheckpointError(
            f"the tokenizer is not accepted by transformers ({_one_line(error)})",
            where=checkpoint,
            remedy="fetch the tokenizer's files again",
        ) from error
    # Prompts are used as they are, so a template would only make engines differ.
    tokenizer.chat_template = None
    return tokenizer


def _convert(tokenizer: PreTrainedTokenizerFast, checkpoint: Path) -> Sequence[ov.Model]:
    from openvino_tokenizers import convert_tokenizer

    try:
        models: Sequence[ov.Model] = convert_tokenizer(
            tokenizer, with_detokenizer=True, add_special_tokens=False
        )
    # The converter raises errors of any kind for unknown tokenizers.
    except Exception as error:
        raise EngineError(
            f"the tokenizer cannot be converted for OpenVINO ({_one_line(error)})",
            where=checkpoint,
            remedy="use a byte-level BPE tokenizer, as the published Falcon models have",
        ) from error
    return models


def _end_with_parent() -> None:
    """Ends this process when its standard input, the parent's pipe, closes."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    main(*sys.argv[1:])
