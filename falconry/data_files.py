"""The project's data files, and TOML as strict, frozen models."""

from __future__ import annotations

import math
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.documents import DocumentError, is_integer, read_document_text
from falconry.errors import MachineError, SettingsError

# Holds falconry and local_oci: the checkout, or a directory of installed packages. Our programs are
# started from here, so that they run the same code.
CODE_DIRECTORY = Path(__file__).parents[1]
_MARK = "pyproject.toml"
_MOST_TOML_BYTES = 1 << 18  # the largest of the project's has 10 kB
_DEEPEST = 100  # tables and arrays in each other
_MOST_DOTS = 100  # of a line: tomllib takes minutes for a key of 20,000 parts


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


def require_usable_path(root: Path) -> None:
    """Refuses a checkout whose path other programs would not be given unharmed.

    Raises:
        SettingsError: it has a character that cannot be in PATH or in a text.
    """
    if ":" in str(root) or not str(root).isprintable():
        raise SettingsError(
            "the path of this checkout has a ':', or a character that cannot be printed",
            where=ascii(str(root)),
            remedy="move the checkout to another path",
        )


class Table(BaseModel):
    """A frozen table of a data file; refuses unknown keys and types, infinity and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_Kind = TypeVar("_Kind", bound=Table)


class Section(Table, strict=False):
    """A table of a profile; SET gives numbers as texts."""


def load_table(path: Path, kind: type[_Kind]) -> _Kind:
    """Reads a TOML file as a table of this kind.

    Raises:
        SettingsError: the file cannot be read, is not TOML or not such a table.
    """
    return validate_table(read_toml(path), kind, path)


def validate_table(
    values: dict[str, Any], kind: type[_Kind], where: Path, gone: Mapping[str, str] | None = None
) -> _Kind:
    """Makes a table of values that were read from a file.

    Args:
        values: as `read_toml` gives them; arrays become tuples.
        kind: the table's model.
        where: the file, for the message.
        gone: what to say of keys that there are no longer.

    Raises:
        SettingsError: keys or values are not allowed; all of them are named together.
    """
    try:
        return kind.model_validate(_with_tuples(values))
    except ValidationError as error:
        raise SettingsError(
            validation_problem(error, gone), where=where, remedy="correct these values"
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file as plain values.

    Raises:
        SettingsError: the file cannot be read or is not TOML (with the line).
    """
    try:
        return parse_toml(read_document_text(path, _MOST_TOML_BYTES))
    except DocumentError as error:
        raise SettingsError(str(error), where=path) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parses TOML; integers have 64 bits, as TOML 1.0 says, and numbers are finite.

    Raises:
        DocumentError: the text is not TOML (with the line), or nested too deeply.
    """
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise DocumentError(f"has a line with more than {_MOST_DOTS} dots, too many for a key")
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # also an integer with more digits than Python converts
        raise DocumentError(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise DocumentError("is nested too deeply to be read") from None
    _check_values(values, _DEEPEST)
    return values


def _check_values(value: Any, depth: int) -> None:
    if not depth:
        raise DocumentError(f"is nested more than {_DEEPEST} tables or arrays deep")
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_values(each, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise DocumentError(f"holds {value}, which is not a finite number")
    elif isinstance(value, int) and not isinstance(value, bool) and not is_integer(value):
        raise DocumentError("holds an integer of more than 64 bits")


def named_rows(tables: Any, key: str) -> Any:
    """Turns tables by name into rows that hold their name under a key.

    What is no table, or has no tables in it, is returned as it is, for the model to refuse.
    """
    if not isinstance(tables, dict) or not all(isinstance(row, dict) for row in tables.values()):
        return tables
    return [{key: name, **row} for name, row in tables.items()]


def split_words(text: str, where: str) -> list[str]:
    """Splits a text of the command line as a shell does.

    Raises:
        SettingsError: a quotation has no end; `where` names the option.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"cannot be split into words ({error})", where=where) from None


def with_overrides(values: dict[str, Any], overrides: str, where: str) -> dict[str, Any]:
    """Replaces values of a file by those of the command line.

    Args:
        values: the file's; they are changed.
        overrides: `section.key=value` words, quoted as in a shell; a value is read as TOML where
            it is a list, a table, a truth value or a quoted text, and as plain text otherwise.
        where: the command line's option, for the message.

    Raises:
        SettingsError: a word is not of this form, or names a value as a section.
    """
    for word in split_words(overrides, where):
        name, equals, text = word.partition("=")
        if not equals:
            raise SettingsError(f"'{word}' is not of the form section.key=value", where=where)
        *sections, key = name.split(".")
        table: Any = values
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, Mapping):
                problem = f"'{section}' in '{name}' is a value, not a section"
                raise SettingsError(problem, where=where)
        table[key] = _override(text)
    return values


def validation_problem(error: ValidationError, gone: Mapping[str, str] | None = None) -> str:
    """Lists all faults that pydantic found: `serving.port: Input should be ...`.

    Args:
        error: what it raised.
        gone: what to say of keys that there are no longer.
    """
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        unknown = (gone or {}).get(key, "unknown key")
        reason = unknown if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{key}: {reason}")
    return ", ".join(faults)


def _with_tuples(value: Any) -> Any:
    """Replaces lists, which a frozen model must not hold, by tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def _override(text: str) -> Any:
    """Reads a value; numbers stay text, as `25.10` may be a release."""
    try:
        value = parse_toml(f"value = {text}")["value"]
    except DocumentError:
        return text
    return value if isinstance(value, bool | str | list | dict) else text
