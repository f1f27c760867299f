"""The licence of a checkpoint: what its model card says, or else its licence file."""

from __future__ import annotations

import re
from pathlib import Path

MODEL_CARD = "README.md"
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
# A model card's metadata, between two lines of dashes at its top (huggingface.co/docs/hub,
# "Model Cards"): `license`, and for `other` its `license_name`.
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^(license|license_name):\s*['\"]?([^'\"\n#]+?)['\"]?\s*$", re.MULTILINE)
_MOST_BYTES = 1 << 16


def licence_of(directory: Path) -> str | None:
    """A short name such as `apache-2.0`, or a licence file's title; None when nothing is said."""
    card = _beginning(directory / MODEL_CARD)
    front = _FRONT_MATTER.match(card)
    fields = dict(_FIELD.findall(front.group(1))) if front else {}
    named = fields.get("license_name") if fields.get("license") == "other" else None
    if licence := named or fields.get("license"):
        return str(licence)
    for name in _LICENCE_FILES:
        lines = (line.strip(" #\t") for line in _beginning(directory / name).splitlines())
        if title := next(filter(None, lines), None):
            return title
    return None


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
