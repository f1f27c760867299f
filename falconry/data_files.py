"""Where the project's files are that no wheel holds: engine/, docker/, profiles/ and others."""

from __future__ import annotations

from pathlib import Path

from falconry.errors import MachineError

# Holds falconry and local_oci: the checkout, or a directory of installed packages. Programs of ours
# that are started from here run this code and no other.
CODE_DIRECTORY = Path(__file__).parents[1]
_MARK = "pyproject.toml"


def is_checkout() -> bool:
    """Whether this code runs from the project's checkout."""
    return (CODE_DIRECTORY / _MARK).is_file()


def project_file(name: str = "") -> Path:
    """The path of a file or directory of the checkout.

    Args:
        name: relative to the project's root; the root itself when left out.

    Raises:
        MachineError: it does not exist, as where falconry was installed from a wheel.
    """
    path = CODE_DIRECTORY / name
    if not is_checkout():
        raise MachineError(
            f"the project's {name or 'checkout'} is missing: falconry is installed without it",
            where=CODE_DIRECTORY,
            remedy="run this from a checkout of the project",
        )
    if not path.exists():
        raise MachineError(
            "is missing from the checkout", where=path, remedy=f"run: git checkout -- {name}"
        )
    return path
