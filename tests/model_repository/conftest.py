"""Imports the served models' modules as Triton does: as members of a package named `1`."""

import importlib
import sys
import types
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "model_repository"


def load(model, name):
    """A module of a model's version directory."""
    package = f"served_{model}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(MODELS / model / "1")]
    return importlib.import_module(f"{package}.{name}")


@pytest.fixture(scope="session")
def text_module():
    return load("tensorrt_llm_bls", "text")


@pytest.fixture(scope="session")
def tokens_module():
    return load("tensorrt_llm", "tokens")


@pytest.fixture(scope="session")
def request_module():
    return load("tensorrt_llm", "request")


@pytest.fixture(scope="session")
def answer_module():
    return load("tensorrt_llm_bls", "answer")


@pytest.fixture(scope="session")
def generation_module():
    return load("tensorrt_llm_bls", "generation")


@pytest.fixture(scope="session")
def engine_client_module():
    return load("tensorrt_llm_bls", "engine_client")
