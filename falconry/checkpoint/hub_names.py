"""Names of checkpoints on the Hugging Face hub: one form is taken, others are answered with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from falconry.digests import value_digest
from falconry.errors import CheckpointError

_SCHEME = "hub:"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Letters, digits and `-_.`, with one slash (huggingface_hub 1.33, validate_repo_id).
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# How else people write it: as transformers takes it, and as a browser shows it.
_HUB_NAME = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf:(?://)?)?"
    rf"(?P<repository>{_REPOSITORY.pattern}?)"
    r"(?:(?:@|/(?:tree|commit|resolve|blob)/)(?P<revision>[^/]*).*|\.git|/)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HubCheckpoint:
    """A checkpoint on the hub.

    Attributes:
        repository: `owner/name`.
        revision: a commit, 40 hex digits.
    """

    repository: str
    revision: str

    @property
    def digest(self) -> str:
        """The digest for stage keys: a commit decides every byte."""
        return value_digest({"hub": self.repository, "revision": self.revision})

    @property
    def text(self) -> str:
        """The form that `parse_hub` reads."""
        return f"{_SCHEME}{self.repository}@{self.revision}"


def parse_hub(text: str) -> HubCheckpoint | None:
    """Reads `hub:<owner>/<name>@<commit>`; None for anything that does not start with `hub:`.

    Raises:
        CheckpointError: the repository's name or the commit is not valid.
    """
    if not text.startswith(_SCHEME):
        return None
    repository, _, revision = text.removeprefix(_SCHEME).partition("@")
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(
            "names no repository of the hub", where=text, remedy="write hub:<owner>/<name>@<commit>"
        )
    if not _COMMIT.fullmatch(revision):
        what = f"'{revision}' is a branch, tag or short name" if revision else "there is no commit"
        raise CheckpointError(
            f"{what}, and only a complete commit identifies a checkpoint for good",
            where=text,
            remedy=f"copy the 40 digits from {_commits_page(repository)} and put them behind the @",
        )
    return HubCheckpoint(repository, revision)


def refuse_other_hub_names(text: str) -> None:
    """Refuses a name of a repository of the hub that has not the form of `parse_hub`."""
    named = _HUB_NAME.fullmatch(text)
    if named is None:
        return
    repository, revision = named["repository"], named["revision"] or ""
    complete = _COMMIT.fullmatch(revision)
    written = f"{_SCHEME}{repository}@{revision if complete else '<commit>'}"
    look_up = "" if complete else f", with the 40 digits from {_commits_page(repository)}"
    raise CheckpointError(
        "is not a directory, and a checkpoint of the hub is named with its commit",
        where=text,
        remedy=f"write {written}{look_up}",
    )


def _commits_page(repository: str) -> str:
    return f"https://huggingface.co/{repository}/commits/main"
