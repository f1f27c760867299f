"""The lists of the Makefile."""

import re
from pathlib import Path

MAKEFILE = Path(__file__).parents[1] / "Makefile"


def words_of(name):
    """The words of a list, such as TARGETS or OPTIONS."""
    found = re.search(rf"^{name} := ((?:.*\\\n)*.*)$", MAKEFILE.read_text(), re.MULTILINE)
    return found[1].replace("\\\n", " ").split()
