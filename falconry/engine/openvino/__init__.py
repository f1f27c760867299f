"""Keeps OpenVINO from telling its makers, over the network, that it is being used.

Importing openvino forks a process that does so, and at its end the importing process may wait three
seconds for it. In a CI job that is left out, and the environment says whether this is one
(openvino-telemetry 2025.2, utils/opt_in_checker.py and backend/backend_ga4.py).
"""

from __future__ import annotations

import os

CI_JOB = {"CI": "true"}


def import_openvino_silently() -> None:
    """Makes the first import of openvino, after which nothing is sent any more."""
    before = {name: os.environ.pop(name) for name in CI_JOB if name in os.environ}
    os.environ.update(CI_JOB)
    try:
        import openvino  # noqa: F401
    finally:
        for name in CI_JOB:
            del os.environ[name]
        os.environ.update(before)
