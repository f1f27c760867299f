"""What a preflight finds: one finding a check, with its numbers; and the result of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from falconry.errors import ImageError

_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: the subject, such as "compressed size".
        fact: what there is, with the numbers.
        problem: what is wrong with it, as a clause; None where nothing is.
        remedy: what to do about problem or warning, as an imperative clause.
        warning: what may fail later, as a clause; None where nothing is known to.
    """

    check: str
    fact: str
    problem: str | None = None
    remedy: str | None = None
    warning: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer's size in bytes.

    Attributes:
        diff_id: digest of the uncompressed layer.
        uncompressed: of its tar archive.
        compressed: as the registry keeps it.
        estimated: whether `compressed` was estimated and not read from the registry.
    """

    diff_id: str
    uncompressed: int
    compressed: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class Preflight:
    """The examination of an image.

    Attributes:
        reference: as it was asked for.
        image_id: what it was then.
        layers: lowest first.
        findings: of all checks, good and bad.
    """

    reference: str
    image_id: str
    layers: tuple[LayerSize, ...]
    findings: tuple[Finding, ...]

    @property
    def compressed(self) -> int:
        """Bytes in the registry, estimated where `estimated` says so."""
        return sum(layer.compressed for layer in self.layers)

    @property
    def estimated(self) -> bool:
        """Whether any layer's compressed size was estimated."""
        return any(layer.estimated for layer in self.layers)

    @property
    def uncompressed(self) -> int:
        """Bytes of all layers unpacked."""
        return sum(layer.uncompressed for layer in self.layers)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are not ok."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may fail later and what to do about it, a sentence each."""
        warned = (finding for finding in self.findings if finding.warning)
        return tuple(f"{finding.warning}; {finding.remedy}" for finding in warned)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def check(preflight: Preflight) -> None:
    """Refuses an image that has problems.

    Raises:
        ImageError: it names every problem, and what to do about each kind.
    """
    problems = preflight.problems
    if not problems:
        return
    told = [str(finding.problem) for finding in problems[:_MOST_TOLD]]
    if len(problems) > _MOST_TOLD:
        told.append(f"and {len(problems) - _MOST_TOLD} more")
    remedies = dict.fromkeys(finding.remedy for finding in problems if finding.remedy)
    raise ImageError(
        f"the image must not be pushed: {'; '.join(told)}",
        where=preflight.reference,
        remedy="; ".join(remedies) or None,
    )
