"""The search for secrets and checkpoints in paths and contents. Pure.

What is found is named by its rule; the text that was found never leaves this module.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from falconry.image.preflight.rules import ContentRule, Rules
from falconry.image.preflight.tar import Entry

KNOWN_SECRET = "a secret of this project"
# A shorter one would be found by chance in some gigabytes of libraries.
SHORTEST_SECRET = 8

# Text has no zero byte; as git tells it from binary data (xdiff-interface.c), there in 8000 bytes.
_TEXT_PROBE = 8000
# What may be cut by the end of a piece: more than the longest text that a rule matches by.
_OVERLAP = 4096


class Scanner:
    """Looks for what the rules forbid, and for secrets that are known.

    Args:
        rules: the rules.
        secrets: exact values; those shorter than `SHORTEST_SECRET` are not looked for.
    """

    def __init__(self, rules: Rules, secrets: Sequence[str] = ()) -> None:
        self._files = [(rule.name, _Globs(rule.globs)) for rule in rules.files]
        self._names = _Globs(glob for rule in rules.files for glob in rule.globs)
        made_ready = partial(_Pattern.of, placeholders=rules.placeholders)
        self._general = [made_ready(rule) for rule in rules.contents if not rule.globs]
        self._special = [made_ready(rule) for rule in rules.contents if rule.globs]
        self._places = _Globs(glob for rule in rules.contents for glob in rule.globs)
        self._allowed = [(set(rule.rules), _Globs(rule.globs)) for rule in rules.allowed]
        self._secrets = [s.encode() for s in secrets if len(s.encode()) >= SHORTEST_SECRET]
        self._overlap = max([_OVERLAP, *map(len, self._secrets)])

    def __repr__(self) -> str:
        return f"<Scanner for {len(self._secrets)} known secrets>"

    def file(self, entry: Entry) -> tuple[str, ...]:
        """The names of the rules that a file of an archive breaks; reads its content."""
        path = f"/{entry.path}"
        broken = {*self._by_name(path), *self._by_content(path, entry)}
        for rules, globs in self._allowed if broken else ():
            if globs.match(path):
                broken -= rules
        return tuple(sorted(broken))

    def link(self, entry: Entry) -> tuple[str, ...]:
        """The names of the rules that another name of a file breaks."""
        return tuple(sorted(self._by_name(f"/{entry.path}")))

    def text(self, text: str) -> tuple[str, ...]:
        """The names of the rules that a text breaks, wherever it stands."""
        data = text.encode("utf-8", "surrogateescape")
        return tuple(sorted({*_names(self._general, data), *self._known_in(data)}))

    def _by_name(self, path: str) -> Iterator[str]:
        if self._names.may_match(path):
            yield from (name for name, globs in self._files if globs.match(path))

    def _by_content(self, path: str, entry: Entry) -> set[str]:
        broken: set[str] = set()
        patterns = self._patterns(path) if b"\0" not in entry.peek(_TEXT_PROBE) else []
        tail = b""
        for piece in entry.pieces():
            window = tail + piece if tail else piece
            broken.update(_names(patterns, window), self._known_in(window))
            tail = window[-self._overlap :] if entry.left else b""
        return broken

    def _patterns(self, path: str) -> list[_Pattern]:
        if not self._places.may_match(path):
            return self._general
        return [*self._general, *(each for each in self._special if each.is_for(path))]

    def _known_in(self, data: bytes) -> Iterator[str]:
        if any(secret in data for secret in self._secrets):
            yield KNOWN_SECRET


class _Globs:
    """Globs of whole paths, with a quick look at the file's own name."""

    def __init__(self, globs: Iterable[str]) -> None:
        known = list(dict.fromkeys(globs))
        self._paths = re.compile("|".join(map(fnmatch.translate, known)) or r"(?!)")
        names = dict.fromkeys(glob.rpartition("/")[2] for glob in known)
        self._names = re.compile("|".join(map(fnmatch.translate, names)) or r"(?!)")

    def match(self, path: str) -> bool:
        return self._paths.match(path) is not None

    def may_match(self, path: str) -> bool:
        return self._names.match(path.rpartition("/")[2]) is not None and self.match(path)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A content rule made ready."""

    name: str
    pattern: re.Pattern[bytes]
    whole_word: bool
    globs: _Globs
    placeholders: frozenset[bytes]

    @classmethod
    def of(cls, rule: ContentRule, placeholders: Sequence[str]) -> _Pattern:
        return cls(
            rule.name,
            re.compile(rule.pattern.encode()),
            rule.whole_word,
            _Globs(rule.globs),
            frozenset(word.encode() for word in placeholders),
        )

    def is_for(self, path: str) -> bool:
        """Whether a rule for certain files is for this one."""
        return self.globs.match(path)

    def is_in(self, data: bytes) -> bool:
        """Whether the text stands in `data`, and is not only of its form."""
        return any(self._is_meant(match) for match in self.pattern.finditer(data))

    def _is_meant(self, match: re.Match[bytes]) -> bool:
        if self.whole_word and _is_word(match.string[max(match.start() - 1, 0) : match.start()]):
            return False
        groups = match.groupdict()
        if "password" in groups and groups["password"].lower() in self.placeholders:
            return False
        return "basic" not in groups or _is_login(groups["basic"])


def _names(patterns: Iterable[_Pattern], data: bytes) -> list[str]:
    return [
        each.name for each in patterns if each.pattern.search(data) is not None and each.is_in(data)
    ]


def _is_word(character: bytes) -> bool:
    return character.isalnum() or character == b"_"


def _is_login(encoded: bytes) -> bool:
    """Whether text is the base64 of `user:password`."""
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return False
    return bool(user and colon and password and (user + password).isascii())
