"""The project's data files: where the checkout has them, and TOML as strict, frozen models."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.errors import MachineError, SettingsError

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


class Table(BaseModel):
    """A table of a data file: refuses unknown keys and other types, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_Kind = TypeVar("_Kind", bound=Table)


def load_table(path: Path, kind: type[_Kind]) -> _Kind:
    """Reads a TOML file as a table of this kind.

    Raises:
        SettingsError: the file cannot be read, is not TOML or not such a table.
    """
    return validate_table(read_toml(path), kind, path)


def validate_table(values: dict[str, Any], kind: type[_Kind], where: Path) -> _Kind:
    """Makes a table of values that were read from a file.

    Args:
        values: as `read_toml` gives them; arrays become tuples.
        kind: the table's model.
        where: the file, for the message.

    Raises:
        SettingsError: keys or values are not allowed; all of them are named together.
    """
    try:
        return kind.model_validate(_with_tuples(values))
    except ValidationError as error:
        raise SettingsError(
            validation_problem(error), where=where, remedy="correct these values"
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file as plain values.

    Raises:
        SettingsError: the file cannot be read or is not TOML (with the line).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", where=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not valid TOML: {error}", where=path) from None


def validation_problem(error: ValidationError) -> str:
    """All faults that pydantic found, as one clause: `serving.route: Input should be ...`."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        reason = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{key}: {reason}")
    return ", ".join(faults)


def _with_tuples(value: Any) -> Any:
    """The same values with tuples for lists, which a frozen model must not hold."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value
