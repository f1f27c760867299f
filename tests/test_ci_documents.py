"""The CI documents are YAML, and call make targets and variables that there are."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.search(r"^TARGETS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].split()
VARIABLES = ["CMD", *re.search(r"^OPTIONS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].split()]


def scripts(document):
    """Every shell text below `run` and `script` keys."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in {"run", "script", "after_script"}:
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(document, list):
        for value in document:
            yield from scripts(value)


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_they_call_what_there_is(name):
    document = yaml.safe_load((ROOT / "docs/ci" / name).read_text())
    commands = [
        command.replace("\\\n", " ")
        for script in scripts(document)
        for command in re.findall(r"\bmake (?:.|\\\n)*", script)
    ]
    assert len(commands) == 3
    for command in commands:
        target = re.match(r"make (?:--\w+ )?(\w+)", command)[1]
        assert target in TARGETS
        assert set(re.findall(r"\b([A-Z]+)=", command)) <= set(VARIABLES)
