"""One layer: its size, what it removes from lower layers, and what should not be in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from falconry.image.preflight.compression import CompressedSize
from falconry.image.preflight.scan import Scanner
from falconry.image.preflight.tar import ByteSource, Entry, Kind, entries
from falconry.image.preflight.whiteouts import is_whiteout

_MOST_SUSPICIONS = 200


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A file that should not be in an image.

    Attributes:
        path: in the layer.
        rule: the name of the rule that it breaks.
    """

    path: str
    rule: str


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """What is known of a layer.

    Attributes:
        uncompressed: size of its tar archive in bytes.
        compressed: size as a registry would keep it, in bytes.
        estimated: whether that is an estimate.
        suspicions: the first of them, in the layer's order.
        more_suspicions: how many were left out.
        whiteouts: the entries that remove something of lower layers.
    """

    uncompressed: int
    compressed: int
    estimated: bool
    suspicions: tuple[Suspicion, ...] = ()
    more_suspicions: int = 0
    whiteouts: tuple[str, ...] = ()


def examine_layer(
    pieces: Iterator[bytes], size: int, compressed: int | None, scanner: Scanner
) -> LayerRecord:
    """Reads a layer once, from its first byte to its last.

    Args:
        pieces: its uncompressed tar archive, in pieces of `PIECE` bytes where it has to be
            compressed to know the size.
        size: of the archive if that is known already, or 0.
        compressed: the compressed size in bytes, where it is known.
        scanner: for its files.

    Raises:
        DamagedError: it is no tar archive or ends early.
    """
    measure = _Measure(CompressedSize(size) if compressed is None else None)
    suspicions: list[Suspicion] = []
    whiteouts: list[str] = []
    for entry in entries(ByteSource(measure.passing(pieces))):
        if is_whiteout(entry.path):
            whiteouts.append(entry.path)
        suspicions.extend(Suspicion(entry.path, rule) for rule in _broken_rules(entry, scanner))
    return LayerRecord(
        uncompressed=measure.size,
        compressed=measure.compressed if compressed is None else compressed,
        estimated=compressed is None,
        suspicions=tuple(suspicions[:_MOST_SUSPICIONS]),
        more_suspicions=max(0, len(suspicions) - _MOST_SUSPICIONS),
        whiteouts=tuple(whiteouts),
    )


def _broken_rules(entry: Entry, scanner: Scanner) -> tuple[str, ...]:
    if entry.kind is Kind.FILE and entry.size:
        return scanner.file(entry)
    if entry.kind is Kind.HARD_LINK:
        return scanner.link(entry)
    return ()


class _Measure:
    """Measures the pieces of a layer as they pass."""

    def __init__(self, compressed_size: CompressedSize | None) -> None:
        self._compressed_size = compressed_size
        self.size = 0

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.size += len(piece)
            if self._compressed_size:
                self._compressed_size.take(piece)
            yield piece

    @property
    def compressed(self) -> int:
        return self._compressed_size.estimate() if self._compressed_size else 0
