"""`serve` for a cloud with a plain registry: the registry's host, then --directory=D."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import local_oci.cloud
from local_oci.home import Home
from local_oci.options import ServeOptions
from local_oci.serving import serve
from tests.local_oci.plain_registry import PlainRegistry

_START_TIMEOUT_SECONDS = 20.0


class _AlwaysOn:
    """Takes the place of the switch of the cloud's own registry."""

    was_on = False

    def __init__(self, registry: PlainRegistry) -> None:
        self.registry = registry

    async def turn_off(self) -> None:
        pass


def main(host: str, directory: str, image: str) -> None:
    logging.basicConfig(level=logging.INFO)
    reference, _, programs = image.removeprefix("--image=").rpartition("=")
    options = ServeOptions(
        home=Home(Path(directory.removeprefix("--directory="))),
        host="127.0.0.1",
        port=0,
        images={reference: Path(programs)},
        isolation="auto",
        start_timeout=_START_TIMEOUT_SECONDS,
        registry=False,
    )
    local_oci.cloud.RegistrySwitch = lambda *_: _AlwaysOn(PlainRegistry(host))
    serve(options)


if __name__ == "__main__":
    main(sys.argv[1], *sys.argv[2:])
