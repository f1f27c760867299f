"""What registries say when they refuse, and what it means. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from falconry.errors import ImageError

# The user's name and password in a URL.
USER_INFORMATION = re.compile(r"//[^/@\s]+@")


class TransientError(ImageError):
    """A failure of network or registry that may not occur again."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A refusal: how it is recognised, its meaning and its remedy.

    The words are those of distribution's error codes (docs/spec/api.md, "Errors"), of the Docker
    engine's transport, and of OCIR as its users quote it (oracle/docker-images issue 2551).
    """

    said: re.Pattern[str]
    problem: str
    remedy: str
    transient: bool = False


def _meaning(said: str, problem: str, remedy: str, *, transient: bool = False) -> Meaning:
    return Meaning(re.compile(said, re.IGNORECASE | re.DOTALL), problem, remedy, transient)


_NEW_TOKEN = (
    "run docker login for it; for OCIR put a new auth token into OCIR_AUTH_TOKEN and its user into"
    " OCIR_USERNAME, or leave both out and let the API key ask for one"
)
# The first match counts, so special cases come first.
MEANINGS = (
    _meaning(
        r"quota|limit (was |is )?exceeded|limit.?exceeded|no space left",
        "the registry has no room left for it",
        "delete repositories or images that are not needed, or ask for a higher limit",
    ),
    _meaning(
        r"toomanyrequests|too many requests|\b429\b",
        "the registry takes no more requests for now",
        "wait a little and run again",
        transient=True,
    ),
    _meaning(
        r"server gave HTTP response to HTTPS client",
        "the registry speaks plain HTTP, which Docker takes from this machine's own alone",
        "give the registry TLS, or name it among insecure-registries in Docker's daemon.json",
    ),
    _meaning(
        r"certificate|x509",
        "the registry's certificate is not trusted",
        "put its authority's certificate into /etc/docker/certs.d/<registry>/ca.crt and into the"
        " system's bundle",
    ),
    _meaning(
        r"anonymous users",
        "the registry treats the login as anonymous: the user name or the token is wrong",
        _NEW_TOKEN,
    ),
    _meaning(
        r"denied|insufficient_scope|\b403\b|forbidden",
        "this user may not push or pull there",
        "check the image's name and docker login; for OCIR the namespace, and the policy `allow"
        " group … to manage repos in compartment …` for the repository's compartment",
    ),
    _meaning(
        r"unauthorized|authentication required|no basic auth|incorrect username|\b401\b",
        "the registry does not accept the login: the token is wrong or has expired",
        _NEW_TOKEN,
    ),
    _meaning(
        r"name.?unknown|^(?>.*?repository ).*(not (known|found|exist)|does not exist)",
        "the registry has no such repository",
        "make it (OCI Console: Container Registry), or give the right to have it made",
    ),
    _meaning(
        r"manifest.?unknown|^(?>.*?manifest for ).* not found|\b404\b|not found",
        "the registry has no such image",
        "check the image's name and tag",
    ),
    _meaning(
        r"dial tcp|no such host|name resolution|getaddrinfo|connection (refused|reset|aborted)"
        r"|timed? ?out|timeout|tls handshake|\bEOF\b|broken pipe|network is unreachable"
        r"|max retries exceeded|remote end closed",
        "the registry cannot be reached",
        "check the network and the proxy, and run again: layers that arrived stay there",
        transient=True,
    ),
    _meaning(
        r"\b50[0234]\b|internal server error|bad gateway|service unavailable|server error",
        "the registry failed",
        "check the network and run again in a while: layers that arrived stay there",
        transient=True,
    ),
)


def explain(where: str, said: str, attempt: str = "") -> ImageError:
    """The error for a registry's or engine's message, without users in URLs.

    `attempt` says what failed, as a clause, where that is not plain.
    """
    words = USER_INFORMATION.sub("//", said).strip().rstrip(".")
    begin = f"{attempt}: " if attempt else ""
    for meaning in MEANINGS:
        if meaning.said.search(words):
            kind = TransientError if meaning.transient else ImageError
            return kind(f"{begin}{meaning.problem} ({words})", where=where, remedy=meaning.remedy)
    return ImageError(f"{begin}the registry refuses ({words})", where=where)
