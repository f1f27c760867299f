"""`make plan` for GPUs: the command, the key and the checks, without Docker, a GPU or a network.

The recorded plans were read when they were recorded; `python -m scripts.record_plans` makes them
again.
"""

import socket

import pytest

from scripts import record_plans
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


def test_a_recipe_without_a_commit_says_what_its_key_needs(monkeypatch):
    monkeypatch.setattr(record_plans, "CHECKPOINTS", {})
    plan = plan_text("falcon-180b", "25.10")
    assert "CHECKPOINT=hub:tiiuae/falcon-180B@<40 hex digits>" in plan
    assert "--tp_size 8" in plan


def test_a_published_model_of_another_commit_has_another_key():
    other = plan_text("falcon-7b", "25.10", f"hub:tiiuae/falcon-7b@{40 * '1'}")
    recorded = (PLANS / "falcon-7b-25.10.txt").read_text(encoding="utf-8")
    assert other.splitlines()[1] != recorded.splitlines()[1]
    assert other.splitlines()[3:] == recorded.splitlines()[3:]
