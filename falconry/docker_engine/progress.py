"""How much of an image has been transferred, from the engine's events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ANNOUNCED = frozenset({"Pulling fs layer", "Preparing", "Waiting"})
_MOVING = frozenset({"Downloading", "Pushing"})
_MOVED = frozenset({"Download complete", "Pull complete", "Pushed"})
_PRESENT = frozenset({"Already exists", "Layer already exists"})


class LayerProgress:
    """The fraction of an image's layers that has been pulled or pushed.

    A layer's size is known only when its turn comes; until then it counts as an average one. Layers
    that the other side has already do not count.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        self._layers: set[str] = set()
        self._fraction = 0.0

    def fraction_after(self, event: Mapping[str, Any]) -> float:
        """Takes in an event of the engine; gives how much is done by now, never less than before.

        Args:
            event: as `docker pull` and `docker push` get them: `id`, `status`, `progressDetail`.

        Returns:
            From 0 to 1.
        """
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        detail = event.get("progressDetail") or {}
        if status in _ANNOUNCED:
            self._layers.add(layer)
        elif status in _PRESENT:
            self._layers.discard(layer)
        elif status in _MOVING and detail.get("total"):
            self._layers.add(layer)
            self._known[layer] = (detail.get("current", 0), detail["total"])
        elif status in _MOVED and layer in self._known:
            total = self._known[layer][1]
            self._known[layer] = (total, total)
        if self._known:
            done, size = (sum(column) for column in zip(*self._known.values(), strict=True))
            whole = size * len(self._layers) / len(self._known)
            self._fraction = max(self._fraction, min(done / whole, 1.0))
        return self._fraction
