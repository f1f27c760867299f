"""Writes the generated parts of the pages in docs/: `python -m scripts.docs`.

With `--check` nothing is written, and the exit status is 1 if a part is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scripts.docs.pages import ROOT, outdated_pages


def main(arguments: Sequence[str]) -> int:
    """Writes or checks the pages, and returns the exit status."""
    outdated = outdated_pages()
    for path, text in outdated.items():
        name = path.relative_to(ROOT)
        if "--check" in arguments:
            print(f"{name} is out of date; run: make docs")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{name} written")
    return int(bool(outdated) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
