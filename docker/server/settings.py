"""The front's settings, from environment variables of the container."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from front_model import FRONT_MODEL

_PREFIX = "FALCONRY_"


class InvalidSettingError(ValueError):
    """A variable whose value cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """How the front serves; each field is the variable FALCONRY_<its name in capitals>.

    Attributes:
        model_name: what OpenAI's clients call the model.
        default_max_tokens: how many tokens a chat answer has at most where the request does not
            say; by default as many as the engine's sequences leave, which is OpenAI's convention.
        max_in_flight: how many generations are under way at once; the next ones wait.
        max_queued: how many may wait; the next ones are refused with 429.
        queue_timeout_s: how long one may wait; then it is refused with 503. OCI's gateway gives up
            at 60 s, so a request that has waited longer than half of that has little use.
        max_connections: how many clients may be connected; at the limit, an idle client or a slow
            one makes room for the next.
        header_timeout_s: how long a request's head may take.
        body_timeout_s: how long a request's body may take.
        max_body_bytes: how large a body may be, decompressed; by default OCI's own limit.
        max_bytes_in_flight: how many bytes the large bodies of all requests under way may have.
        drain_s: how long running answers may continue when the server stops. local_oci and Docker
            kill 10 s after SIGTERM, and Triton takes about 3 s to unload its models (2.51).
        probe_period_s: how long nothing may be answered before a generation of one token is tried.
        probe_timeout_s: how long such a generation may take on a server that computes nothing; then
            the server ends with a status that is not 0.
    """

    model_name: str = FRONT_MODEL
    default_max_tokens: int = 2**31 - 1
    max_in_flight: int = 256
    max_queued: int = 256
    queue_timeout_s: float = 30.0
    max_connections: int = 1024
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    max_body_bytes: int = 10 << 20
    max_bytes_in_flight: int = 128 << 20
    drain_s: float = 5.0
    probe_period_s: float = 5.0
    probe_timeout_s: float = 10.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> FrontSettings:
        """Reads the variables that are set.

        Raises:
            InvalidSettingError: one has a value that is no such number, or is empty.
        """
        given = {}
        for field in fields(cls):
            name = _PREFIX + field.name.upper()
            if name in environment:
                given[field.name] = _value(name, environment[name], type(field.default))
        return cls(**given)


def _value(name: str, text: str, kind: type[Any]) -> Any:
    if kind is str:
        if not text:
            raise InvalidSettingError(f"{name} is empty")
        return text
    lowest = 0 if name.endswith(("_S", "QUEUED")) else 1
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not lowest <= value < math.inf:
        wanted = "a whole number" if kind is int else "a number of seconds"
        raise InvalidSettingError(f"{name} is {text!r}; it must be {wanted} from {lowest} on")
    return value
