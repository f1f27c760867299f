"""The errors of Oracle's APIs: a status, a code and a message.

Codes and statuses: docs.oracle.com/en-us/iaas/Content/API/References/apierrors.htm. Where a text
is Oracle's own it is quoted; what local_oci adds for its reader follows in parentheses.
"""

from __future__ import annotations


class ServiceError(Exception):
    """A refused request.

    Args:
        retry_after: after how many seconds to send it again, if that may help.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def invalid_parameter(message: str) -> ServiceError:
    """400: a value that breaks a documented rule."""
    return ServiceError(400, "InvalidParameter", message)


def missing_parameter(name: str) -> ServiceError:
    """400: a required field or query parameter that is absent."""
    return ServiceError(400, "MissingParameter", f"Missing required parameter '{name}'.")


def limit_exceeded(message: str) -> ServiceError:
    """400: one more than a service limit allows."""
    return ServiceError(400, "LimitExceeded", message)


def related_resource_not_found(what: str) -> ServiceError:
    """400: a resource named in the body does not exist."""
    return ServiceError(
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
        f"Authorization failed or requested resource not found: {what}.",
    )


def not_authenticated(reason: str) -> ServiceError:
    """401: no signature, or a wrong one."""
    return ServiceError(
        401,
        "NotAuthenticated",
        "The required information to complete authentication was not provided or was incorrect. "
        f"(local_oci: {reason})",
    )


def not_found() -> ServiceError:
    """404: the resource in the path does not exist."""
    return ServiceError(
        404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found."
    )


def no_such_operation() -> ServiceError:
    """404: no operation has this path."""
    return ServiceError(
        404,
        "NotFound",
        "There is no operation supported at the URI path and HTTP method you specified.",
    )


def method_not_allowed() -> ServiceError:
    """405: the path exists, the method does not."""
    return ServiceError(
        405, "MethodNotAllowed", "The target resource does not support the HTTP method."
    )


def incorrect_state(message: str) -> ServiceError:
    """409: a state that does not allow the operation, and that will pass.

    SDKs repeat this one for a minute and a half (oci 2.189.0, DEFAULT_RETRY_STRATEGY). A state that
    stays is a `conflict`, with which they end at once.
    """
    return ServiceError(409, "IncorrectState", message)


def conflict(message: str) -> ServiceError:
    """409: a contradiction or a state that waiting does not change. SDKs do not repeat it."""
    return ServiceError(409, "Conflict", message)


def length_required() -> ServiceError:
    """411: a body without its length."""
    return ServiceError(411, "LengthRequired", "Missing content length header.")


def etag_mismatch() -> ServiceError:
    """412: if-match names another version of the resource."""
    return ServiceError(
        412, "NoEtagMatch", "The ETag in the request does not match the ETag of the resource."
    )


def payload_too_large() -> ServiceError:
    """413: a body above the documented limit."""
    return ServiceError(413, "PayloadTooLarge", "The payload size limit is 10 MB.")


def no_space(text: str) -> ServiceError:
    """400: this machine's disk is full. The SDK sends again what is answered with 507 or any 5xx.

    (oci 2.189.0, oci/retry: all of them but 501.) The code is local_oci's own.
    """
    return ServiceError(400, "InsufficientStorage", f"local_oci: {text}.")


def too_many_requests() -> ServiceError:
    """429: a service's throttle. The text is [inferred]; the gateway has its own."""
    return ServiceError(429, "TooManyRequests", "User-rate limit exceeded.")


def not_emulated(what: str) -> ServiceError:
    """501: the cloud has it, this program does not. SDKs never retry a 501."""
    return ServiceError(501, "MethodNotImplemented", f"local_oci does not emulate {what}.")
