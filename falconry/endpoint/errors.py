"""An endpoint's refusals and failures in Oracle's codes, with remedies.

Statuses and codes: Oracle, "Predict Endpoint" (model-dep-predict-endpoint.htm), "Predict with
Response Streaming Endpoint" (model-dep-response-streaming-endpoint.htm) and "Model Inference
Endpoint Request Throttling" (model-dep-invoke-throttling.htm).
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from falconry.errors import EndpointError

STREAM_FAILURE = "StreamFailure"
_MOST_QUOTED = 500

_TOO_LONG = (
    "OCI ends a /predict after 60 s, and that cannot be changed: ask for fewer tokens, or stream"
    " the answer"
)
REMEDIES = {
    401: "check the key, the user and the clock of this machine",
    404: "the deployment, its policy or the custom endpoint of this path is missing: see make"
    " status",
    405: "the deployment opens this path for other methods: see its custom endpoints",
    409: "the deployment is in another state: see make status",
    411: "send the body with its length, not in chunks",
    413: "OCI takes requests of 10 MB at most: send a shorter one",
    429: "too many requests at a time: wait, or raise the bandwidth of the deployment",
    503: "the server is not ready: see make logs",
}
REMEDIES_BY_CODE = {
    "ExternalServerIncorrectState": "the model answers in one piece: ask it for a stream, or ask"
    " without STREAM",
    "IncorrectState": "the deployment is in another state: see make status",
}
# A 429's text is the first for a limit of the deployment, the second for one of the tenancy.
REMEDIES_BY_WORDS = {
    "LB bandwidth": "raise deployment.bandwidth_mbps, or ask for less at a time",
    "request-rate": "a tenancy has 150 requests a second: ask for fewer, or ask Oracle for more",
    "Timeout": _TOO_LONG,
}
STREAM_REMEDIES = {
    "RequestTimeout": "the server was silent for too long: see make logs, and ask for fewer tokens",
}


class RefusedError(EndpointError):
    """An answer that is not 2xx.

    Attributes:
        code: Oracle's, such as "TooManyRequests"; None where the container itself answered.
        request_id: what Oracle's support needs; None where there is none.
    """

    def __init__(
        self, url: str, status: int, reason: str, request_id: str | None, text: str
    ) -> None:
        self.status = status
        self.request_id = request_id
        body = json_object(text) or {}
        self.code = str(body["code"]) if "code" in body else None
        said = _said(body) or text.strip()[:_MOST_QUOTED] or reason
        code = f" {self.code}" if self.code else ""
        super().__init__(
            f"refused with {status}{code}: {said}",
            where=url,
            remedy=_remedy(status, self.code, said),
        )

    @classmethod
    def of(cls, response: httpx.Response) -> RefusedError:
        """The refusal in an answer, whose body is read."""
        text = response.read().decode("utf-8", "replace").strip()
        return cls(
            str(response.request.url),
            response.status_code,
            response.reason_phrase,
            response.headers.get("opc-request-id"),
            # Triton refuses a stream in the form of one (seen with 2.51, generate_stream).
            text.removeprefix("data:").strip(),
        )


class StreamFailureError(EndpointError):
    """A stream that the gateway cut off, so the answer is incomplete.

    Attributes:
        code: Oracle's, such as "RequestTimeout"; None where the trailer has another form.
    """

    def __init__(self, url: str, trailer: str) -> None:
        body = json_object(trailer) or {}
        self.code = str(body["ErrorCode"]) if "ErrorCode" in body else None
        said = str(body.get("ErrorMessage") or "") or trailer.strip()[:_MOST_QUOTED]
        super().__init__(
            f"the stream was cut off: {f'{self.code}: ' if self.code else ''}{said}",
            where=url,
            remedy=STREAM_REMEDIES.get(str(self.code), "see make logs"),
        )


class LostError(EndpointError):
    """No connection, or a broken one; the request may have run."""


def refuse_stream_failure(url: httpx.URL, trailers: httpx.Headers) -> None:
    """Raises `StreamFailureError` if an answer's trailers say that it is incomplete."""
    if failure := trailers.get(STREAM_FAILURE):
        raise StreamFailureError(str(url), failure)


def request_error(error: httpx.RequestError, url: str) -> EndpointError:
    """The error for a missing or incomplete answer."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return LostError(
            f"no answer: cannot connect ({error})",
            where=url,
            remedy="see make status, or run make deploy",
        )
    if isinstance(error, httpx.TimeoutException):
        return EndpointError("no answer in time", where=url, remedy=_TOO_LONG)
    return LostError(
        f"the answer is incomplete: {error}",
        where=url,
        remedy="the server may have ended: see make status and make logs",
    )


def _remedy(status: int, code: str | None, said: str) -> str | None:
    for words, remedy in REMEDIES_BY_WORDS.items():
        if words in said and status in (429, 500):
            return remedy
    return REMEDIES_BY_CODE.get(str(code)) or REMEDIES.get(status)


def _said(body: dict[str, Any]) -> str:
    """The message of Triton (`error`), OCI (`message`) or OpenAI (both)."""
    error = body.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return str(error or body.get("message") or "")


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object in a text; None where it is anything else."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
