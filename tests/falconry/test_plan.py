"""`make plan` for GPUs: the command, the key and the checks, without Docker, a GPU or a network.

The recorded plans were read when they were recorded; `python -m scripts.record_plans` makes them
again.
"""

import socket

import pytest

from scripts.record_plans import PLANS, gpu_recipes, plan_text, releases


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nobody is asked: not the hub, not Docker, not the cloud."""

    def refuse(*_):
        raise AssertionError("a plan opens no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("recipe", gpu_recipes())
def test_a_plan_is_as_recorded(recipe, release):
    recorded = (PLANS / f"{recipe}-{release}.txt").read_text(encoding="utf-8")
    assert plan_text(recipe, release) == recorded
