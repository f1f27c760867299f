"""What the numbers were measured on and with."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

# Instructions that decide how fast a CPU multiplies matrices.
_INSTRUCTIONS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}


def machine() -> dict[str, Any]:
    """The CPU, its memory, the system, and how busy it was."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": sorted(_INSTRUCTIONS.intersection(flags[1].split() if flags else [])),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }
