"""Why a request is not answered, and how that is said in each of the two APIs.

The form of OpenAI's errors and its types and codes are those of the API reference (error codes)
and of openai-python 3.54.0, which takes `error` out of the body and tells exceptions by status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OPENAI_PATH = "/v1/"
_RETRY_LATER = frozenset({429, 503})
_RETRY_AFTER_S = "1"
_TYPES = {429: "requests", 500: "server_error", 503: "server_error"}


@dataclass(eq=False)  # not frozen: an exception gets its traceback while it is raised
class Refusal(Exception):  # noqa: N818  a refusal is an answer, not a failure
    """A request that gets an error for an answer.

    Attributes:
        status: HTTP's.
        reason: a word for it, which metrics and OpenAI's `code` use.
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
        """Headers that go with the answer."""
        return {"Retry-After": _RETRY_AFTER_S} if self.status in _RETRY_LATER else {}

    def body(self, path: str) -> dict[str, Any]:
        """The answer's body in the form of the API that the path belongs to."""
        if path.startswith(OPENAI_PATH):
            return openai_error(self)
        return {"error": self.message}


def openai_error(refusal: Refusal) -> dict[str, Any]:
    """A refusal as OpenAI's error object."""
    return {
        "error": {
            "message": refusal.message,
            "type": _TYPES.get(refusal.status, "invalid_request_error"),
            "param": refusal.param,
            "code": refusal.reason,
        }
    }


def invalid(message: str, param: str | None = None, reason: str = "invalid_value") -> Refusal:
    """A request that is wrong and would be refused again."""
    return Refusal(400, reason, message, param)


def not_ready(message: str = "the server is not ready") -> Refusal:
    """A server that does not serve yet."""
    return Refusal(503, "not_ready", message)


def stopping() -> Refusal:
    """A server that is about to end."""
    return Refusal(503, "stopping", "the server is stopping")
