"""Signatures on httpx's requests, made by the signers of the oci SDK."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import httpx
from typing_extensions import override


class RequestSigner(Protocol):
    """Any signer of the oci SDK: an API key, a session token, an instance or resource principal.

    They are made for requests' `PreparedRequest` and use its method, url, path_url, headers and
    body (oci 2.189.0, signer.py).
    """

    def __call__(self, request: Any) -> Any:
        """Adds the headers that a signature needs, and the signature."""
        ...


class SignerAuth(httpx.Auth):
    """Signs each request just before it is sent.

    Args:
        signer: whose signature.
    """

    requires_request_body = True

    def __init__(self, signer: RequestSigner) -> None:
        self._signer = signer

    @override
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # Another scheme's word (the OpenAI client sends its key) must not be signed over.
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
