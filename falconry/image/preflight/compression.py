"""How large a layer will be in the registry, from a part of it. Pure.

Docker pushes layers by Go's gzip at its default level (moby/moby, distribution/push.go, compress).
zlib's level 6 comes near to it, so that even a layer that is compressed whole is an estimate.
"""

from __future__ import annotations

import zlib

from falconry.image.preflight.tar import PIECE

_LEVEL = 6
_GZIP_FRAME = 18
# Docker 20.10's layers of Debian, OpenVINO and Python packages came out 1.5 to 2.7 % larger.
_GO_BY_ZLIB = 1.02
# A small layer is compressed whole. Of a large one, a sample of every eighth piece, or of fewer, so
# that no layer costs more than 64 MiB of compression. Of these three, that is 0.1 to 2.5 % off.
_WHOLE = 16 << 20
_SAMPLE = 256 << 10
_LEAST_STEP = 8
_MOST_SAMPLES = 256
_WINDOW = 32 << 10  # deflate refers back this far


class CompressedSize:
    """An estimate that grows with the layer's pieces.

    Args:
        size: of the uncompressed layer, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._whole = _deflate() if size <= _WHOLE else None
        self._step = max(_LEAST_STEP, -(-size // (PIECE * _MOST_SAMPLES)))
        self._piece = 0
        self._taken = 0
        self._compressed = 0

    def take(self, piece: bytes) -> None:
        """Takes in the layer's next piece, of `PIECE` bytes but for the last."""
        if self._whole:
            self._compressed += len(self._whole.compress(piece))
        elif self._piece % self._step == self._step // 2:
            before, sample = piece[-_SAMPLE - _WINDOW : -_SAMPLE], piece[-_SAMPLE:]
            deflate = _deflate(before)
            self._compressed += len(deflate.compress(sample)) + len(deflate.flush(zlib.Z_BLOCK))
            self._taken += len(sample)
        self._piece += 1

    def estimate(self) -> int:
        """The size in bytes, after the last piece."""
        if self._whole:
            compressed: float = self._compressed + len(self._whole.flush())
        else:
            compressed = self._compressed * self._size / self._taken
        return round(compressed * _GO_BY_ZLIB) + _GZIP_FRAME


def _deflate(before: bytes = b"") -> zlib._Compress:
    """A compressor without a frame that has seen `before`."""
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
