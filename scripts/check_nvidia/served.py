"""NVIDIA's preprocessing and postprocessing models beside ours, on the same requests."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.sources import CHECKPOINTS, Source
from scripts.check_nvidia.table import Row, compared

_OURS = Path(__file__).resolve().parents[2] / "model_repository"
_COMPARED = (
    "INPUT_ID",
    "REQUEST_INPUT_LEN",
    "REQUEST_OUTPUT_LEN",
    "BAD_WORDS_IDS",
    "STOP_WORDS_IDS",
    "OUT_END_ID",
    "OUT_PAD_ID",
)
_NO_WORD = -1  # fills the second row of a word list
_TEXTS = (
    "Falcon",
    "The falcon flies over the river and sees a fish.",
    "  two spaces\tand a tab\nand a line",
    "Grüße aus Zürich, 東京 и Москва 🦅",
    "f(x) = x**2 + 3*x - 1; return f(0.5)",
    ">>QUESTION<<Why?>>ANSWER<<",
    "1234567890 3.14159 1e-5",
    "a" * 80,
)
_WORDS = (["end"], ["\n", "User:"], ["fish", "Grüße", "🦅"])
_OUR_PARAMETERS = {
    "max_input_len": "4096",
    "max_seq_len": "8192",
    "vocab_size": "65024",
    "end_ids": "[11]",
    "pad_id": "11",
    "words_are_compared_as": "text",
}


def served_rows(source: Source, environment: Environment, directory: Path) -> list[Row]:
    """Both models, with the tokenizer of each family."""
    rows = []
    for checkpoint in sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir()):
        answers = _both("preprocessing", checkpoint, _prompts(), source, environment, directory)
        rows.append(_row(f"preprocessing, {checkpoint.name}", source, *answers, _COMPARED))
        answers = _both("postprocessing", checkpoint, _ids(), source, environment, directory)
        rows.append(_row(f"postprocessing, {checkpoint.name}", source, *answers, ("OUTPUT",)))
    return rows


def _prompts() -> list[dict[str, Any]]:
    plain = [{"QUERY": [[text]], "REQUEST_OUTPUT_LEN": [[9]]} for text in _TEXTS]
    with_words = [
        {
            "QUERY": [[text]],
            "REQUEST_OUTPUT_LEN": [[9]],
            "BAD_WORDS_DICT": [words],
            "STOP_WORDS_DICT": [list(reversed(words))],
        }
        for text in _TEXTS
        for words in _WORDS
    ]
    with_ids = [
        {"QUERY": [[text]], "REQUEST_OUTPUT_LEN": [[9]], "END_ID": [[7]], "PAD_ID": [[5]]}
        for text in _TEXTS
    ]
    return plain + with_words + with_ids


def _ids() -> list[dict[str, Any]]:
    """Token ids of two beams each, of which the last are padding."""
    chance = random.Random(12)
    return [
        {
            "TOKENS_BATCH": [[[chance.randrange(440) for _ in range(length)] for _ in range(2)]],
            "SEQUENCE_LENGTH": [[length, max(1, length - 3)]],
        }
        for length in range(1, 41)
    ]


def _both(
    name: str,
    checkpoint: Path,
    requests: list[dict[str, Any]],
    source: Source,
    environment: Environment,
    directory: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The answers of our model and of NVIDIA's."""
    ours = directory / f"ours-{name}-{checkpoint.name}"
    shutil.copytree(_OURS / name / "1", ours)
    shutil.copyfile(checkpoint / "tokenizer.json", ours / "tokenizer.json")
    assert source.models is not None
    theirs = source.models / name / "1"
    ours_task = {"model": str(ours / "model.py"), "parameters": _OUR_PARAMETERS}
    parameters = {"tokenizer_dir": str(checkpoint), "multimodal_model_path": ""}
    theirs_task = {"model": str(theirs / "model.py"), "parameters": parameters}
    task = {"task": "serve", "root": str(source.root), "requests": requests}
    return (
        environment.run({**task, **ours_task}, directory),
        environment.run({**task, **theirs_task}, directory),
    )


def _row(
    what: str,
    source: Source,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    names: tuple[str, ...],
) -> Row:
    pairs = [
        (name, _meaning(name, our[name]), _meaning(name, their[name]))
        for our, their in zip(ours, theirs, strict=True)
        for name in names
    ]
    wrong = [f"{name}: {our} and {their}" for name, our, their in pairs if our != their]
    what = f"{what}: {len(pairs)} tensors of {len(ours)} requests"
    return compared(what, source.name, wrong)


def _meaning(name: str, values: Any) -> list[Any]:
    """A tensor's values without the batch's axis; for a word list its sorted words."""
    if not name.endswith("WORDS_IDS"):
        return _flat(values)
    [[ids, ends]] = values
    ends = [end for end in ends if end != _NO_WORD]
    return sorted(ids[begin:end] for begin, end in zip([0, *ends], ends, strict=False))


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    return [each for value in values for each in _flat(value)]
