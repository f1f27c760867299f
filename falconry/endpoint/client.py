"""The HTTP client of a deployment: signs, keeps trailers, and honours `Retry-After`."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from typing_extensions import override

from falconry.endpoint.errors import refuse_stream_failure
from falconry.endpoint.transport import TrailerTransport

# Both are sent before a request is carried out: 429 by the gateway, 503 by a gateway or a server
# that says when it will accept it. A 503 without `Retry-After` may also mean that the server died
# during the request, so such a request is never sent again.
_REFUSED_FOR_NOW = frozenset({429, 503})


class RequestSigner(Protocol):
    """Any signer of the oci SDK, of a key, token or principal.

    They are made for requests' `PreparedRequest` and use its method, url, path_url, headers and
    body (oci 2.189.0, signer.py).
    """

    def __call__(self, request: Any) -> Any:
        """Adds the headers that a signature needs, and the signature."""
        ...


class SignerAuth(httpx.Auth):
    """Signs each request just before it is sent."""

    requires_request_body = True

    def __init__(self, signer: RequestSigner) -> None:
        self._signer = signer

    @override
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # The OpenAI client sends its key here, which must not be signed.
        request.headers.pop("authorization", None)
        signable = _Signable(request)
        self._signer(signable)
        request.headers = signable.headers
        yield request


class _Signable:
    """A request in the form that the SDK's signers take."""

    def __init__(self, request: httpx.Request) -> None:
        self.method = request.method
        self.url = str(request.url)
        self.path_url = request.url.raw_path.decode("ascii")
        self.headers = httpx.Headers(request.headers)
        self.body = request.content


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How long a client waits; seconds.

    Attributes:
        connect: until there is a connection.
        read: until the next bytes come. OCI ends a `/predict` after 60 s and that cannot be
            changed (Oracle, "Predict Endpoint"); the rest is for its own answer to arrive.
        retries: altogether, where the server sends `Retry-After`.
    """

    connect: float = 10.0
    read: float = 75.0
    retries: float = 30.0


class DeploymentClient(httpx.Client):
    """An httpx client whose every request is signed.

    A request is sent again only after a 429 or 503 with `Retry-After`: after any other failure it
    may have been carried out, and the generation would cost twice. Redirects are not followed.
    """

    def __init__(self, signer: RequestSigner, budget: RetryBudget) -> None:
        self._budget = budget
        self._signing = SignerAuth(signer)
        super().__init__(
            transport=TrailerTransport(refuse_stream_failure),
            timeout=httpx.Timeout(budget.read, connect=budget.connect),
            # Compressed, a stream would come in larger pieces.
            headers={"accept-encoding": "identity"},
        )

    @override
    def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        """Signs and sends a request, again after each answer with `Retry-After`."""
        deadline = time.monotonic() + self._budget.retries
        while True:
            response = super().send(
                request, stream=stream, auth=self._signing, follow_redirects=False
            )
            wait = _retry_after(response)
            if wait is None or time.monotonic() + wait > deadline:
                return response
            response.close()
            time.sleep(wait)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds until the server takes the request; None if not said."""
    text = response.headers.get("retry-after")
    if response.status_code not in _REFUSED_FOR_NOW or text is None:
        return None
    if text.strip().isdecimal():
        return max(0.1, float(text))
    try:
        return max(0.1, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
