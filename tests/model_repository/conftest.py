"""Imports the served models' modules as Triton does: as members of a package named `1`."""

import importlib.util
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "model_repository"


def load(model, name):
    """A module of a model's version directory."""
    full_name = f"served_{model}.{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            full_name, MODELS / model / "1" / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        spec.loader.exec_module(module)
    return sys.modules[full_name]


@pytest.fixture(scope="session")
def text_module():
    return load("tensorrt_llm", "text")


@pytest.fixture(scope="session")
def request_module():
    return load("tensorrt_llm", "request")
