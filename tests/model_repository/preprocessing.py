"""The modules of the served preprocessing model, imported as members of one package."""

import importlib
import sys
import types
from pathlib import Path

_PACKAGE = "served_preprocessing_model"
_DIRECTORY = Path(__file__).parents[2] / "model_repository/preprocessing/1"


def served(name):
    """A module by its name, such as `words`."""
    if _PACKAGE not in sys.modules:
        package = types.ModuleType(_PACKAGE)
        package.__path__ = [str(_DIRECTORY)]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")
