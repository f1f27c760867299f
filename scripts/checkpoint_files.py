"""How the scripts here write a checkpoint: readable JSON, and a directory that appears at once."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NUMBERS_OVER_LINES = re.compile(r"\[[\d\s,]+\]")


def write_json(path: Path, content: object) -> None:
    """Write indented JSON with non-ASCII text as it is and each list of integers on one line."""
    indented = json.dumps(content, indent=2, ensure_ascii=False)
    text = NUMBERS_OVER_LINES.sub(lambda numbers: json.dumps(json.loads(numbers[0])), indented)
    path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """Give a temporary directory beside `target`, and rename it into place when the block is done.

    If the block raises, `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        yield fresh
        for file in fresh.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner can read
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
