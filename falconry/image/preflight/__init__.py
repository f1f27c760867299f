"""The preflight of a built image: what would fail after a long push is said before it."""

from falconry.image.preflight.examination import examine
from falconry.image.preflight.findings import Finding, LayerSize, Preflight, check
from falconry.image.preflight.records import LayerRecords

__all__ = ["Finding", "LayerRecords", "LayerSize", "Preflight", "check", "examine"]
