"""Which certificates downloads during a build trust."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Where this machine's own pip and requests are told of a private authority; a build's pip meets
# the same network.
_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def certificate_bundle(
    given: Path | None, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """The profile's bundle, or the one that this machine's environment names; None for neither."""
    if given:
        return given.expanduser()
    named = [Path(environment[name]) for name in _VARIABLES if environment.get(name)]
    return next((path for path in named if path.is_file()), None)
