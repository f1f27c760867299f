"""How far a deployment's processes are set apart from the machine, and what the machine allows."""

from __future__ import annotations

import logging
import os
import tempfile
from enum import StrEnum
from pathlib import Path

from local_oci.home import Home
from local_oci.limits import DEFAULT_SHM_SIZE, DEPLOYED_MODEL_PATH
from local_oci.runtime import namespaces
from local_oci.runtime.root_files import RootFiles, enter_root

_log = logging.getLogger("local_oci.runtime")


class Isolation(StrEnum):
    """The kinds; `namespaces` and `plain` say what each one is made of."""

    NAMESPACES = "namespaces"
    PLAIN = "plain"


# The default: namespaces where the machine allows them.
AUTO = "auto"


PLAIN_WARNING = (
    "deployments that run as processes see this machine's files here; serve artifacts that you do "
    "not trust from containers only"
)


class IsolationError(Exception):
    """A kind of isolation that this machine refuses; the text says why."""


def choose_isolation(home: Home, wanted: str) -> Isolation:
    """Turn "auto" into what this machine allows. It forks: to be called before any thread starts.

    Raises:
        IsolationError: namespaces are wanted and this machine refuses them.
    """
    if wanted == Isolation.PLAIN:
        return Isolation.PLAIN
    refusal = _try_namespaces(home)
    if not refusal:
        return Isolation.NAMESPACES
    if wanted == Isolation.NAMESPACES:
        raise IsolationError(
            f"this machine refuses namespaces ({refusal}); use --isolation plain or auto"
        )
    _log.warning("isolation is plain: this machine refuses namespaces (%s)", refusal)
    _log.warning(PLAIN_WARNING)
    return Isolation.PLAIN


def _try_namespaces(home: Home) -> str:
    """Have a child do what a keeper does; return what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(dir=home.deployments) as name:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            _enter_and_set_up(Path(name), write_end)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            refusal = pipe.read()
        os.waitpid(child, 0)
        return refusal


def _enter_and_set_up(directory: Path, report: int) -> None:
    """The child's part; it never returns."""
    model, staging = directory / "model", directory / "staging"
    try:
        model.mkdir()
        staging.mkdir()
        namespaces.enter()
        init = os.fork()
        if init == 0:
            namespaces.loopback_up()
            namespaces.keep_mounts_to_oneself()
            mount_point = Path(DEPLOYED_MODEL_PATH)
            enter_root(RootFiles(model, mount_point, DEFAULT_SHM_SIZE, (), ()), staging)
            namespaces.drop_rights()
        else:
            os.waitpid(init, 0)
    except Exception as error:  # an OSError, or a libc without one of the calls
        os.write(report, str(error).encode())
    finally:
        os._exit(0)
