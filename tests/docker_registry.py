"""The program docker-registry, which local_oci's container registry runs."""

import os
import shutil
from pathlib import Path

import pytest

from tests.debian import install

_PROGRAM = "docker-registry"
_INSTALL = f"apt-get install --no-install-recommends {_PROGRAM}"


@pytest.fixture(scope="session")
def docker_registry():
    """The path of docker-registry; skips, and says what to install, where it cannot be had."""
    if not shutil.which(_PROGRAM):
        if os.geteuid() != 0:
            pytest.skip(f"{_PROGRAM} is not installed; as root: {_INSTALL}")
        install(_PROGRAM)
    program = shutil.which(_PROGRAM)
    if program is None:
        pytest.skip(f"{_PROGRAM} could not be installed; try {_INSTALL}")
    return Path(program)
