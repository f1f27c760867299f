"""What a container's environment variables decide about its HTTP paths. Pure.

`MODEL_DEPLOY_PREDICT_ENDPOINT` and `MODEL_DEPLOY_HEALTH_ENDPOINT` are read in
oracle-samples/oci-data-science-ai-samples (llm/llama2, Triton); that they win over
`CONTAINER_TYPE=TRITON` is inferred, and so is the exact pair of Triton paths.
"""

from __future__ import annotations

from collections.abc import Mapping

_DEFAULT_PREDICT_PATH = "/predict"
_DEFAULT_HEALTH_PATH = "/health"
_TRITON_HEALTH_PATH = "/v2/health/ready"


def is_triton(variables: Mapping[str, str]) -> bool:
    """Whether the service maps its endpoints to Triton's by itself."""
    return variables.get("CONTAINER_TYPE") == "TRITON"


def health_path(variables: Mapping[str, str]) -> str:
    """Where the container says that it is healthy."""
    configured = variables.get("MODEL_DEPLOY_HEALTH_ENDPOINT")
    if configured:
        return _rooted(configured)
    return _TRITON_HEALTH_PATH if is_triton(variables) else _DEFAULT_HEALTH_PATH


def predict_path(variables: Mapping[str, str]) -> str | None:
    """Where the container answers `/predict`; None where Triton's model headers decide."""
    configured = variables.get("MODEL_DEPLOY_PREDICT_ENDPOINT")
    if configured:
        return _rooted(configured)
    return None if is_triton(variables) else _DEFAULT_PREDICT_PATH


def _rooted(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
