"""What NVIDIA's quantiser takes as a calibration dataset of one's own."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.sources import Source
from scripts.check_nvidia.table import Row

_TOKENIZER = Path(__file__).resolve().parents[2] / "tests" / "data" / "checkpoints" / "falcon-7b"
_TEXTS = 10
_SAMPLES = 8


def calibration_rows(source: Source, environment: Environment, place: Path) -> list[Row]:
    """A directory with a column `text` is taken; a file and another column are not."""
    texts = [f"text number {number}" for number in range(_TEXTS)]
    good, other = place / "calibration", place / "calibration-other"
    for directory, column in ((good, "text"), (other, "article")):
        directory.mkdir()
        lines = (json.dumps({column: text}) for text in texts)
        (directory / "train.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rows = []
    for what, dataset, taken in (
        ("a directory with a column text", good, True),
        ("a file: refused", good / "train.jsonl", False),
        ("a directory without that column: refused", other, False),
    ):
        task = {
            "task": "calibrate",
            "root": str(source.root),
            "tokenizer": str(_TOKENIZER),
            "dataset": str(dataset),
            "size": _SAMPLES,
        }
        answer = environment.run(task, place)
        note = answer.get("error") or f"{answer['texts']} texts"
        rows.append(
            Row(
                f"calibration, {what}",
                source.name,
                "run",
                (answer.get("texts") == _SAMPLES) is taken,
                note[:100],
            )
        )
    return rows
