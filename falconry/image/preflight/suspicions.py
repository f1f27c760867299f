"""What the layers hold and should not, as findings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from falconry.image.preflight.findings import Finding
from falconry.image.preflight.layers import LayerRecord, Suspicion
from falconry.image.preflight.rules import Rules
from falconry.image.preflight.whiteouts import is_removed

_REMEDIES = {
    "secret": "build again without it (hand it over with RUN --mount=type=secret, or keep it to a"
    " stage that is not shipped) and change it if it was real",
    "checkpoint": "leave models to the artifact: keep them out of the build's context",
}
_LEFT = "a later layer removes it, and this one still holds it"


def suspicion_findings(layers: Sequence[LayerRecord], rules: Rules) -> Iterator[Finding]:
    """A finding for each file that should not be there; one of each kind where there is none.

    Args:
        layers: lowest first.
        rules: by which they were examined.
    """
    checkpoints = {rule.name for rule in rules.files if rule.kind == "checkpoint"}
    clean = {"secret", "checkpoint"}
    for number, layer in enumerate(layers, 1):
        later = [frozenset(above.whiteouts) for above in layers[number:]]
        for suspicion in layer.suspicions:
            kind = "checkpoint" if suspicion.rule in checkpoints else "secret"
            clean.discard(kind)
            removed = any(is_removed(suspicion.path, whiteouts) for whiteouts in later)
            yield _finding(number, suspicion, kind, removed)
        if layer.more_suspicions:
            problem = f"layer {number} holds {layer.more_suspicions} more such files"
            yield Finding("secret", f"layer {number}", problem)
    for kind in sorted(clean):
        yield Finding(kind, f"none in {len(layers)} layers")


def _finding(number: int, suspicion: Suspicion, kind: str, removed: bool) -> Finding:
    where = f"layer {number}: /{printable(suspicion.path)}"
    added = f"; {_LEFT}" if removed else ""
    return Finding(kind, where, f"{where} ({suspicion.rule}{added})", _REMEDIES[kind])


def printable(path: str) -> str:
    """A path as it can be shown: what is no printable character becomes an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
