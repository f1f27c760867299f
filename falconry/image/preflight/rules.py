"""What must not be in an image, as data: rules.toml beside this module, with sources and reasons.

Globs are matched against the whole path with a leading `/`; their `*` takes `/` too.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.data_files import read_toml, validation_problem
from falconry.errors import SettingsError

RULES = Path(__file__).with_name("rules.toml")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileRule(_Table):
    """Files that must not be there, by their names.

    Attributes:
        name: what such a file is, with its article.
        kind: whether it belongs to a model or to somebody's account.
        globs: of their paths.
    """

    name: str
    kind: Literal["checkpoint", "secret"]
    globs: list[str]


class ContentRule(_Table):
    """Text that must not be in a file.

    Attributes:
        name: what such text is, with its article.
        pattern: of it; begins with literal characters, by which it is found fast. A group `basic`
            must decode to `user:password`, a group `password` must be no placeholder.
        whole_word: whether the character before it must be no letter, digit or underscore.
        globs: of the paths where it is looked for; empty for every text file.
        source: where its form was read.
    """

    name: str
    pattern: str
    whole_word: bool = False
    globs: list[str] = []
    source: str


class Allowance(_Table):
    """Files where some rules do not hold.

    Attributes:
        rules: the names of these rules.
        globs: of the files' paths.
        reason: why what they hold is no secret.
    """

    rules: list[str]
    globs: list[str]
    reason: str


class Rules(_Table):
    """All of rules.toml.

    Attributes:
        files: files that must not be there.
        contents: text that must not be in a file.
        allowed: where it may be after all.
        placeholders: passwords of documents and examples, lower case.
        words: last words of the names of variables that hold secrets, upper case.
        not_secret: values that are no secret in any variable, lower case.
    """

    files: list[FileRule]
    contents: list[ContentRule]
    allowed: list[Allowance]
    placeholders: list[str]
    words: list[str]
    not_secret: list[str]


@cache
def load_rules(path: Path = RULES) -> Rules:
    """The rules.

    Raises:
        SettingsError: the file is not valid.
    """
    try:
        return Rules.model_validate(read_toml(path))
    except ValidationError as error:
        raise SettingsError(validation_problem(error), where=path) from None
