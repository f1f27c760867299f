"""Why a container is not healthy: it is run again with one constraint less at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from local_oci.contract_check.report import Finding, violation
from local_oci.contract_check.trial import Subject, Trial, run_trial
from local_oci.limits import DEPLOYED_MODEL_PATH
from local_oci.runtime.docker_container import Confinement

_SHOWN = 3
# Any user that is not root; this one is "nonroot" of distroless images.
UNPRIVILEGED_USER = "65532:65532"

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Relaxation:
    """A run with fewer constraints: what it has and what it is."""

    what: str
    confinement: Confinement


async def diagnose(subject: Subject, strict: Confinement, note: Note) -> Finding | None:
    """Find the constraint that keeps a container from being healthy.

    Args:
        subject: what did not become healthy.
        strict: the confinement in which it did not.
        note: told what is tried.

    Returns:
        The violation; None if it is not healthy without constraints either.
    """
    for relaxation in _relaxations(strict, subject.image.runs_as_root):
        note(f"not healthy; trying again {relaxation.what}")
        trial = await run_trial(subject, relaxation.confinement)
        if trial.healthy:
            return _finding(trial, relaxation.confinement)
    return None


def _relaxations(strict: Confinement, image_runs_as_root: bool) -> Iterator[_Relaxation]:
    yield _Relaxation(
        "with a writable copy of the artifact", replace(strict, read_only_model=False)
    )
    yield _Relaxation("with a writable root file system", replace(strict, read_only_root=False))
    free = replace(strict, read_only_model=False, read_only_root=False)
    if image_runs_as_root:
        as_root = replace(strict, user=None, capabilities=True)
        yield _Relaxation("as root", as_root)
        free = replace(free, user=None, capabilities=True)
    yield _Relaxation("without any of these constraints", free)


def _finding(trial: Trial, relaxed: Confinement) -> Finding:
    """What the run that was healthy says, by what it wrote."""
    if trial.written_model or (not relaxed.read_only_model and relaxed.read_only_root):
        return violation(
            "artifact",
            f"wrote under {DEPLOYED_MODEL_PATH}: {_some(trial.written_model)}",
            "write to /tmp, or put the file into the artifact; there it is mounted read-only",
        )
    if trial.written_root or not relaxed.read_only_root:
        return violation(
            "file system",
            f"wrote {_some(trial.written_root)} (docker diff)",
            "write to /tmp, for instance with HOME=/tmp among the variables",
        )
    return violation(
        "user",
        "needs root",
        "give the image a USER that is not root, and that user what it has to read",
    )


def _some(paths: tuple[str, ...]) -> str:
    if not paths:
        return "something that is gone again"
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
