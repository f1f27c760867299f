"""The official OpenAI client, pointed at a profile's deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from typing_extensions import override

from falconry.endpoint.client import DeploymentClient, RequestSigner, RetryBudget
from falconry.endpoint.endpoint import PREDICT, STREAM
from falconry.endpoint.errors import json_object

if TYPE_CHECKING:
    from pathlib import Path

    from openai import OpenAI

# Where OpenAI's routes are below a deployment: Oracle's `predictApiSpecification: openai` opens
# them under their own names (oci-data-science-ai-samples, multiple_inference_endpoints).
_API = "v1"


def openai_client(profile: str | Path = "oci", *, budget: RetryBudget | None = None) -> OpenAI:
    """The OpenAI client of a profile's deployment.

    Requests are signed as the profile's user. Those with `stream=True` go to
    `/predictWithResponseStream`, all others to `/predict`. None is sent again except after a 429 or
    503 with `Retry-After`. A stream that the gateway breaks off raises `StreamFailureError`.

    Args:
        profile: a name, as `oci` for `profiles/oci.toml` of the checkout or else of the working
            directory; or the path of a TOML file. The working directory decides relative paths
            in it.
        budget: how long to wait.

    Raises:
        SettingsError: there is no such profile.
        CloudError: nothing is deployed, or it is stopped.
    """
    from falconry.cloud.session import Session
    from falconry.deployment.deployments import Deployments
    from falconry.settings import load_profile

    settings = load_profile(profile)
    session = Session(settings.cloud)
    deployment = Deployments(session).in_use(
        settings.deployment.name, f"PROFILE={settings.profile}"
    )
    return openai_client_of(deployment.model_deployment_url, session.signer(), budget)


def openai_client_of(url: str, signer: RequestSigner, budget: RetryBudget | None = None) -> OpenAI:
    """The OpenAI client of a deployment's URL; see `openai_client`."""
    from openai import OpenAI  # takes a second, which only its users wait for

    budget = budget or RetryBudget()
    return OpenAI(
        base_url=f"{url.rstrip('/')}/{PREDICT}/{_API}",
        api_key="signed",  # never sent: the signature replaces it
        max_retries=0,
        # Annotated with httpx2's types; httpx's work too.
        timeout=httpx.Timeout(budget.read, connect=budget.connect),  # type: ignore[arg-type]
        http_client=_StreamsElsewhere(signer, budget),  # type: ignore[arg-type]
    )


class _StreamsElsewhere(DeploymentClient):
    """Sends requests for a stream to the route for streams."""

    @override
    def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        if _asks_for_stream(request):
            path = request.url.path.replace(f"/{PREDICT}/", f"/{STREAM}/", 1)
            request.url = request.url.copy_with(path=path)
        return super().send(request, stream=stream)


def _asks_for_stream(request: httpx.Request) -> bool:
    body = json_object(request.read())
    return body is not None and body.get("stream") is True
