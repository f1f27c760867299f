import random
import zlib

import pytest

from falconry.image.preflight.compression import CompressedSize

PIECE = 1 << 20


def text(size, seed):
    """Bytes that compress by a half or so."""
    source = random.Random(seed)
    words = [source.randbytes(6).hex().encode() for _ in range(4000)]
    line = b" ".join(source.choices(words, k=size // 13 + 1))
    return line[:size]


def estimate(data):
    size = CompressedSize(len(data))
    for start in range(0, len(data), PIECE):
        size.take(data[start : start + PIECE])
    return size.estimate()


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * PIECE + 17])
def test_a_small_layer_comes_near_to_gzip(size):
    data = text(size, 1)
    gzip = zlib.compressobj(6, wbits=zlib.MAX_WBITS | 16)
    exact = len(gzip.compress(data)) + len(gzip.flush())
    assert exact <= estimate(data) <= exact * 1.03 + 1


def test_a_large_layer_of_unlike_parts_is_estimated_within_a_few_per_cent():
    parts = [text(4 * PIECE, seed) for seed in range(6)]
    parts += [random.Random(9).randbytes(10 * PIECE), bytes(8 * PIECE), text(3 * PIECE + 99, 7)]
    data = b"".join(parts)
    exact = len(zlib.compress(data, 6))
    assert estimate(data) == pytest.approx(exact, rel=0.12)


def test_zeros_take_next_to_nothing():
    assert estimate(bytes(64 * PIECE)) < PIECE
