"""CRC-32 of files, several ranges at a time: zlib leaves the interpreter to the other threads."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

_RANGE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_MOST_THREADS = 8
_POLYNOMIAL = 0xEDB88320  # CRC-32's, with the bits in reverse order


def crc32_of(paths: Sequence[Path], report: Callable[[int], None]) -> list[int]:
    """The CRC-32 of each file.

    Args:
        paths: regular files.
        report: called with the number of bytes of each chunk that is read, by one thread at a time.

    Raises:
        OSError: a file cannot be read.
    """
    lock = threading.Lock()

    def told(count: int) -> None:
        with lock:
            report(count)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        ranges = [
            [pool.submit(_range_crc32, path, start, told) for start in _starts(path)]
            for path in paths
        ]
        try:
            return [
                reduce(combine, (future.result() for future in futures), (0, 0))[0]
                for futures in ranges
            ]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def combine(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    """The CRC-32 and the length of two pieces put together, from those of each.

    Python's zlib lacks it (zlib.h, crc32_combine): the first piece's CRC is multiplied by x to the
    power of the second's bits, modulo CRC-32's polynomial.
    """
    crc, length = second
    return _multiply(_power_of_x(8 * length), first[0]) ^ crc, first[1] + length


def _starts(path: Path) -> range:
    return range(0, path.stat().st_size, _RANGE_BYTES)


def _range_crc32(path: Path, start: int, report: Callable[[int], None]) -> tuple[int, int]:
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    crc, done = 0, 0
    with path.open("rb", buffering=0) as stream:
        while count := os.preadv(stream.fileno(), [buffer[: _RANGE_BYTES - done]], start + done):
            crc = zlib.crc32(buffer[:count], crc)
            done += count
            report(count)
    return crc, done


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials modulo CRC-32's; the highest bit is x to the power of 0."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _power_of_x(exponent: int) -> int:
    result, factor = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            result = _multiply(factor, result)
        factor = _multiply(factor, factor)
        exponent >>= 1
    return result
