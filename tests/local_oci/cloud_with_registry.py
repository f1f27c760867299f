"""`serve` for a cloud with a plain registry: the registry's host, then --directory=D."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from local_oci.home import Home
from local_oci.options import ServeOptions
from local_oci.serving import serve
from tests.local_oci.plain_registry import PlainRegistry

_START_TIMEOUT_SECONDS = 20.0


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
    )
    serve(options, PlainRegistry(host))


if __name__ == "__main__":
    main(sys.argv[1], *sys.argv[2:])
