"""Errors of requests, in the forms of Triton's API and of OpenAI's.

The form of OpenAI's errors, their types and codes are those of the API reference (error codes) and
of openai-python 3.54.0, which reads `error` from the body and chooses the exception by status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OPENAI_PATH = "/v1/"
_RETRY_LATER = frozenset({429, 503})
_RETRY_AFTER_S = "1"
_LONGEST_SHOWN = 64
_TYPES = {429: "requests", 500: "server_error", 503: "server_error"}


@dataclass(eq=False)  # not frozen: an exception gets its traceback while it is raised
class ApiError(Exception):
    """An error that the front answers a request with.

    Attributes:
        status: the HTTP status.
        reason: a word for it, used in metrics and as OpenAI's `code`.
        message: what is wrong and what to do, for people.
        param: the field of the request that is wrong.
    """

    status: int
    reason: str
    message: str
    param: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {"Retry-After": _RETRY_AFTER_S} if self.status in _RETRY_LATER else {}

    def body(self, path: str) -> dict[str, Any]:
        """The response's body in the form of the path's API."""
        if path.startswith(OPENAI_PATH):
            return openai_error(self)
        return {"error": self.message}


def openai_error(error: ApiError) -> dict[str, Any]:
    """Converts an error into OpenAI's error object."""
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, "invalid_request_error"),
            "param": error.param,
            "code": error.reason,
        }
    }


def shown(text: str) -> str:
    """A text of the client's as a message shows it: quoted, and not too long."""
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def invalid(message: str, param: str | None = None, reason: str = "invalid_value") -> ApiError:
    """Makes the error for a wrong request, which no retry helps."""
    return ApiError(400, reason, message, param)


def not_ready(message: str = "the server is not ready") -> ApiError:
    """Makes the error for a server that does not serve yet."""
    return ApiError(503, "not_ready", message)


def stopping() -> ApiError:
    """Makes the error for a server that is stopping."""
    return ApiError(503, "stopping", "the server is stopping")
