"""What an image must keep to: the table `image` of falconry/oci_limits.toml."""

from __future__ import annotations

from falconry import oci_facts
from falconry.oci_facts import ImageLimits as Limits

__all__ = ["Limits", "load_limits"]


def load_limits() -> Limits:
    """Reads the limits."""
    return oci_facts.load_limits().image
