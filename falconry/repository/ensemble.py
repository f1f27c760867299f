"""The ensemble in the tensor names of the release that serves it.

The committed configuration has the newest release's names, which the CPU engine has as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falconry.repository.config import ModelConfig
from falconry.repository.surface import BackendSurface

# What only NVIDIA's backend gives when a request asks for it.
_LOGITS = ("context_logits", "generation_logits")


def adapt_ensemble(ensemble: ModelConfig, core: ModelConfig, surface: BackendSurface) -> None:
    """Gives the ensemble the names of a release, and the logits that its backend has.

    Clients of a release know its inputs by its names, so both sides of a renamed tensor change.

    Args:
        ensemble: changed in place.
        core: the configuration of the backend's model.
        surface: what the release takes and gives.
    """
    for tensor in ensemble.input:
        tensor.name = surface.renamed.get(tensor.name, tensor.name)
    step = next(each for each in ensemble.ensemble_scheduling.step if each.model_name == core.name)
    _rename(step.input_map, surface.renamed)
    for output in core.output:
        if output.name in _LOGITS:
            ensemble.output.add().CopyFrom(output)
            step.output_map[output.name] = output.name


def _rename(edges: Any, renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old in edges:
            del edges[old]
            edges[new] = new
