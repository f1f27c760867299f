"""Damaged files for every reader: checkpoints, TOML files, Triton configurations, archives."""

from __future__ import annotations

from hypothesis import strategies

from falconry.data_files import with_overrides
from falconry.errors import FalconryError
from scripts.fuzz.exploring import Outcome, explore, total


def run(seed: int, examples: int) -> Outcome:
    """Gives every reader its inputs."""
    return total(explore("SET=", strategies.text(), _overrides, seed, examples))


def _overrides(text: str) -> None:
    try:
        with_overrides({}, text, "SET")
    except FalconryError:
        return
