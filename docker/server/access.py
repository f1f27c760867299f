"""What of Triton's API the front passes on; all the rest is closed.

Shared memory, logging, trace settings and the model repository are for whoever operates a server:
by a region that it registers, a client of Triton 2.51 reads other clients' prompts and ends the
server (CVE-2025-23319, 23320 and 23334). What is open is listed, so what Triton adds stays closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from errors import ApiError
from triton_bodies import InvalidBodyError

GENERATIONS = frozenset({"generate", "generate_stream", "infer"})
# Triton's paths (triton-inference-server/server, http_server.cc of 2.51), in one spelling only:
# whatever is encoded, doubled or dotted is another path, and closed.
_OPEN = re.compile(
    r"/v2(?:/health/(?:live|ready)|/models/stats)?"
    r"|/v2/models/(?P<model>[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254})(?:/versions/[0-9]{1,9})?"
    r"(?:/(?P<verb>ready|config|stats|infer|generate|generate_stream))?"
)
_CLOSED = (
    "this is closed: of Triton's API the server passes on health, metadata, config, statistics, "
    "generate, generate_stream and infer, each at its plain path; shared memory, logging, trace "
    "settings and the model repository are for whoever operates the server"
)
_REGION = "shared_memory"
_ERRORS = (b'{"error":', b'data: {"error":')
# In errors of Triton and of its Python backend, beside the name of a region or of its key.
_ABOUT_REGIONS = re.compile(r"shared[\s_-]*memory|shm", re.IGNORECASE)
_WITHOUT_REGIONS = "the server cannot take this request's data: send less at a time"


@dataclass(frozen=True, slots=True)
class Route:
    """An open path of Triton's.

    Attributes:
        path: as Triton gets it.
        model: the model's name, if the path has one.
        verb: what is requested of the model; None for its metadata.
    """

    path: str
    model: str | None
    verb: str | None

    @property
    def versioned_model(self) -> str:
        """The model, with its version where the path names one."""
        return self.path.removeprefix("/v2/models/").removesuffix(f"/{self.verb}")

    def as_generate(self) -> Route:
        """The route of the same model's `generate`."""
        path = f"{self.path.removesuffix(str(self.verb))}generate"
        return Route(path, self.model, "generate")

    @property
    def generates(self) -> bool:
        """Whether it makes a model work."""
        return self.verb in GENERATIONS


def open_route(method: str, target: str) -> Route:
    """The route of a request.

    Args:
        method: HTTP's.
        target: the request's target as it came; a query is left out, Triton has none.

    Raises:
        ApiError: 403 if the path is closed, 405 if it is open for another method.
    """
    match = _OPEN.fullmatch(target.partition("?")[0])
    if match is None:
        raise ApiError(403, "closed", _CLOSED)
    route = Route(match[0], match["model"], match["verb"])
    allowed = "POST" if route.generates else "GET"
    if method != allowed:
        raise ApiError(405, "method_not_allowed", f"{route.path} is open for {allowed} only")
    return route


def refuse_parameters(content: Mapping[str, Any], reserved: str) -> None:
    """Refuses parameters of an `infer` body that are not for clients.

    Args:
        content: the body.
        reserved: the name of a parameter that only the front sets.

    Raises:
        InvalidBodyError: there is that one, or an input or output lies in shared memory; the
            region is not named.
    """
    for parameters in _parameters(content):
        if any(name.lower().startswith(_REGION) for name in parameters):
            raise InvalidBodyError("shared memory is closed: send the data in the request itself")
        if reserved in parameters:
            raise InvalidBodyError(f"unknown field: {reserved}")


def _parameters(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All parameters of a body: its own, and those of inputs and outputs."""
    tensors = [content]
    for kind in ("inputs", "outputs"):
        listed = content.get(kind)
        tensors += listed if isinstance(listed, list) else []
    for tensor in tensors:
        if isinstance(tensor, Mapping) and isinstance(tensor.get("parameters"), Mapping):
            yield tensor["parameters"]


def without_regions(reason: str) -> str:
    """An error's text; a general one if it is about shared memory."""
    return _WITHOUT_REGIONS if _ABOUT_REGIONS.search(reason) else reason


def error_without_regions(answer: bytes) -> bytes:
    """An answer's body or event; a general error if it is an error about shared memory."""
    for beginning in _ERRORS:
        if answer.startswith(beginning) and _ABOUT_REGIONS.search(answer.decode(errors="replace")):
            end = answer[len(answer.rstrip()) :]
            return beginning + f'"{_WITHOUT_REGIONS}"}}'.encode() + end
    return answer
