"""Whether a server on the network answers; nothing is sent but the question."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from falconry.docker_engine.references import is_loopback
from falconry.errors import MachineError

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT_S = (3.0, 5.0)
# The API's root says so to everybody: there is such an API, with a login or without
# (distribution, docs/spec/api.md, API Version Check).
_A_REGISTRY = (200, 401)


def answers(registry: str) -> None:
    """Asks a registry, as nobody, for the version of its API.

    Args:
        registry: host with port.

    Raises:
        MachineError: it cannot be reached, or is no registry.
    """
    scheme = "http" if is_loopback(registry) else "https"
    response = ask(f"{scheme}://{registry}/v2/")
    if response.status_code not in _A_REGISTRY:
        raise MachineError(
            f"{registry} answers as no registry does (status {response.status_code})",
            remedy="check the registry's name",
        )


def ask(url: str) -> Response:
    """A server's answer to a GET without login, whatever its status.

    Raises:
        MachineError: there is none.
    """
    import requests

    host = urlsplit(url).netloc
    try:
        with requests.Session() as session:
            # A proxy named in the environment knows nothing of our loopback.
            session.trust_env = not is_loopback(host)
            # A function for `auth`, so that no entry of ~/.netrc is sent.
            return session.get(
                url, timeout=_TIMEOUT_S, allow_redirects=False, auth=lambda request: request
            )
    except requests.exceptions.SSLError:
        raise MachineError(
            f"{host} shows a certificate that is not trusted here",
            remedy="name your authority's certificates in REQUESTS_CA_BUNDLE",
        ) from None
    except requests.RequestException as error:
        raise MachineError(
            f"{host} cannot be reached ({type(error).__name__})",
            remedy="check the name, the network and the proxy",
        ) from None
