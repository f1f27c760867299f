"""STAND-IN, not NVIDIA's: engine files, which no TensorRT can load.

The bytes depend on nothing but the configuration and the rank. STAND_IN_ENGINE_MIB makes them
larger than four KiB.
"""

import hashlib
import json
import os
from pathlib import Path

_MARK = b"STAND-IN ENGINE, not TensorRT's\n"


def engine_writer(config: dict, rank: int):
    """A function that writes a rank's engine."""
    seed = hashlib.sha256(f"{json.dumps(config, sort_keys=True)} {rank}".encode()).digest()

    def write(path: Path) -> None:
        mebibytes = int(os.environ.get("STAND_IN_ENGINE_MIB", "0"))
        with path.open("wb") as stream:
            if not mebibytes:
                stream.write(_MARK + _filler(seed, 4096 - len(_MARK)))
            for number in range(mebibytes):
                stream.write(_filler(seed + number.to_bytes(4, "big"), 1 << 20))

    return write


def _filler(seed: bytes, size: int) -> bytes:
    return hashlib.shake_128(seed).digest(size)
