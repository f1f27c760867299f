"""The HTTP client of a deployment: signs, keeps trailers, and waits only where it is asked to."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from typing import Any

import httpx
from typing_extensions import override

from falconry.endpoint.transport import TrailerTransport
from falconry.endpoint.errors import refuse_stream_failure
from falconry.endpoint.signing import RequestSigner, SignerAuth

# Both are said before a request is carried out: 429 by the gateway, 503 by a gateway or a server
# that names the time from which on it will take it. A 503 without `Retry-After` may also mean
# that the server died over the request, so it is never sent again.
_REFUSED_FOR_NOW = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits; seconds.

    Attributes:
        connect: until there is a connection.
        read: until the next bytes come. OCI ends a `/predict` after 60 s and that cannot be
            changed (Oracle, "Predict Endpoint"); the rest is for its own answer to arrive.
        retries: altogether, where the server asks to be asked again.
    """

    connect: float = 10.0
    read: float = 75.0
    retries: float = 30.0


class DeploymentClient(httpx.Client):
    """An httpx client whose every request is signed.

    A request is sent again only after a 429 or 503 with `Retry-After`: whatever else happened, it
    may have been carried out, and a generation is paid for twice. Redirects are not followed.

    Args:
        signer: signs the requests.
        patience: how long to wait.
    """

    def __init__(self, signer: RequestSigner, patience: Patience) -> None:
        self._patience = patience
        self._signing = SignerAuth(signer)
        super().__init__(
            transport=TrailerTransport(refuse_stream_failure),
            timeout=httpx.Timeout(patience.read, connect=patience.connect),
            # Compressed, a stream would come in larger pieces.
            headers={"accept-encoding": "identity"},
        )

    @override
    def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        """Signs and sends a request, more than once where the answer asks for it."""
        deadline = time.monotonic() + self._patience.retries
        while True:
            response = super().send(
                request, stream=stream, auth=self._signing, follow_redirects=False
            )
            wait = _asked_to_wait(response)
            if wait is None or time.monotonic() + wait > deadline:
                return response
            response.close()
            time.sleep(wait)


def _asked_to_wait(response: httpx.Response) -> float | None:
    """Seconds until the server takes the request, at least a tenth; None if it does not say so."""
    text = response.headers.get("retry-after")
    if response.status_code not in _REFUSED_FOR_NOW or text is None:
        return None
    if text.strip().isdecimal():
        return max(0.1, float(text))
    try:
        return max(0.1, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
