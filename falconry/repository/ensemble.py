"""The ensemble in the tensor names of the release that serves it.

The committed configuration has the newest release's names, which the CPU engine has as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falconry.repository.config import ModelConfig
from falconry.repository.surface import BackendSurface


def adapt_ensemble(ensemble: ModelConfig, engine_model: str, surface: BackendSurface) -> None:
    """Gives the ensemble the names of a release.

    Clients of a release know its inputs by its names, so both sides of a renamed tensor change.

    Args:
        ensemble: changed in place.
        engine_model: the name of the backend's model.
        surface: what the release takes and gives.
    """
    for tensor in ensemble.input:
        tensor.name = surface.renamed.get(tensor.name, tensor.name)
    steps = ensemble.ensemble_scheduling.step
    step = next(each for each in steps if each.model_name == engine_model)
    _rename(step.input_map, surface.renamed)


def _rename(edges: Any, renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old in edges:
            del edges[old]
            edges[new] = new
