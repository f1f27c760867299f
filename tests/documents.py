"""What the project's Markdown pages hold: links, headings, commands, words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_GENERATED = re.compile(r"<!-- begin [\w-]+.*?<!-- end [\w-]+ -->", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_COMMENT = re.compile(r"\s{2,}# .*$")
# What a line of a page's block begins with if it is typed into a shell.
_PROGRAMS = re.compile(
    r"(make|curl|python|pip|oci|docker|source|export|sudo|apt-get|ulimit|trivy|\.venv/bin/\S+|\*/15)"
    r"(\s|$)"
)


@dataclass(frozen=True)
class Page:
    """A Markdown page of the project."""

    path: Path

    @property
    def name(self) -> str:
        """The path from the project's root."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    def words(self) -> int:
        """How many words are not generated."""
        return len(_GENERATED.sub("", self.text).split())

    def links(self) -> list[str]:
        """The targets of its links and images."""
        return [found["target"] or found["image"] for found in _LINK.finditer(self._prose())]

    def anchors(self) -> set[str]:
        """The names that GitHub gives its headings."""
        return {_slug(title) for title in _HEADING.findall(self._prose())}

    def commands(self) -> list[str]:
        """The shell lines of its blocks, without comments."""
        return [line for line, _ in self.transcripts()]

    def transcripts(self) -> Iterator[tuple[str, str]]:
        """Each shell line of its blocks, with the output that follows; empty where none does."""
        for fence in _FENCE.finditer(self.text):
            if fence["kind"] not in ("", "sh"):
                continue
            body = fence["body"].replace("\\\n", " ")
            if body.startswith("$ "):
                for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                    line, _, output = part.partition("\n")
                    yield _typed(line), output.strip()
            else:
                for line in filter(_PROGRAMS.match, body.splitlines()):
                    yield _typed(line), ""

    def spans(self) -> list[str]:
        """The texts that are formatted as code in its prose."""
        return [" ".join(span.split()) for span in _CODE.findall(self._prose())]

    def _prose(self) -> str:
        return _FENCE.sub("", self.text)


def pages() -> list[Page]:
    """The pages for users and developers of the project."""
    beside = (ROOT / name for name in ("local_oci/README.md", "checkpoints/tiny-falcon/README.md"))
    return [
        Page(path)
        for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *beside)
    ]


def _slug(title: str) -> str:
    """GitHub's: letters, digits, - and _ of the title, small, with - for spaces."""
    kept = re.sub(r"[^\w\- ]", "", title.strip().lower())
    return kept.replace(" ", "-")


def _typed(line: str) -> str:
    return " ".join(_COMMENT.sub("", line).split())
