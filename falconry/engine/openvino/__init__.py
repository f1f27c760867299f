"""Keeps OpenVINO from sending telemetry.

Importing openvino forks a process that sends it, and the importing process may wait three seconds
for that at its end. CI jobs, which OpenVINO recognises by the environment, send nothing
(openvino-telemetry 2025.2, utils/opt_in_checker.py and backend/backend_ga4.py).
"""

from __future__ import annotations

import os

CI_JOB = {"CI": "true"}


def import_openvino_silently() -> None:
    """Imports openvino for the first time, after which nothing is sent."""
    before = {name: os.environ.pop(name) for name in CI_JOB if name in os.environ}
    os.environ.update(CI_JOB)
    try:
        import openvino  # noqa: F401
    finally:
        for name in CI_JOB:
            del os.environ[name]
        os.environ.update(before)
