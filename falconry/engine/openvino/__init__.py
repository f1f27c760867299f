"""Engines for OpenVINO GenAI: the Falcon graph built by hand, without PyTorch."""

from __future__ import annotations

from falconry.engine.openvino.builder import OpenVinoBuilder

__all__ = ["OpenVinoBuilder"]
