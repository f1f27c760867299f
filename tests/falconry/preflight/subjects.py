"""A deployment that every check accepts, to be changed by the tests."""

from __future__ import annotations

from typing import Any

from falconry.deployment.preflight.payload_checks import TENSORRT, TENSORRT_LLM
from falconry.deployment.preflight.subject import (
    Artifact,
    Compute,
    Container,
    DeploymentSubject,
    Image,
)
from tests.falconry.engine.tensorrt_llm.specs import TOOLCHAIN
from tests.falconry.engine.test_preflight import manifest

MODELS = (
    "model_repository/ensemble/config.pbtxt",
    "model_repository/ensemble/1/.gitkeep",
    "model_repository/tensorrt_llm/config.pbtxt",
    "model_repository/tensorrt_llm/1/rank0.engine",
)
REPOSITORY = "/opt/ds/model/deployed_model/model_repository"


def container(**changes: Any) -> Container:
    values: dict[str, Any] = {
        "command": ["tritonserver", f"--model-repository={REPOSITORY}"],
        "environment": {"MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready"},
    }
    return Container(**{**values, **changes})


def subject(**changes: Any) -> DeploymentSubject:
    labels = {TENSORRT_LLM: "1.0.0", TENSORRT: "10.11.0.33"}
    values: dict[str, Any] = {
        "name": "falconry",
        "artifact": Artifact(MODELS, 14 * 10**9),
        "container": container(),
        "image": Image("iad.ocir.io/ns/triton:25.10", 15 * 10**9, labels),
        "compute": Compute("VM.GPU.A10.1"),
        "engine": manifest(),
        "toolchain": TOOLCHAIN,
    }
    return DeploymentSubject(**{**values, **changes})
