"""The type of a GPU engine's checks, and their remedies' wording.

Every check is made before anything starts, and says what to change. falconry.checkpoint checks
whether the checkpoint can be used at all (quantised, an adapter, damaged).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import Toolchain, load_toolchains
from falconry.findings import Finding
from falconry.oci_facts import GpuShape, load_shapes

# How many shapes a remedy names at most.
_SHAPES_NAMED = 3

SpecCheck = Callable[[GpuEngineSpec], Finding]


def gpu_words(count: int) -> str:
    """A number of GPUs, in the singular or the plural."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def toolchain_remedy(suits: Callable[[Toolchain], bool]) -> str | None:
    """The remedy of another release, preferably the default; None without one."""
    toolchains = load_toolchains()
    releases = [row.release for row in toolchains.rows if suits(row)]
    if not releases:
        return None
    chosen = toolchains.default if toolchains.default in releases else releases[-1]
    return f"set engine.toolchain to {chosen}"


def shape_remedy(suits: Callable[[GpuShape], bool]) -> str | None:
    """The remedy of other shapes, a few of them; None without one."""
    names = [shape.name for shape in load_shapes() if suits(shape)]
    return f"set deployment.shape to {either(names[:_SHAPES_NAMED])}" if names else None


def ways(*remedies: str | None) -> str:
    """Remedies of which one is enough; None is left out."""
    return ", or ".join(remedy for remedy in remedies if remedy)


def either(choices: Sequence[object]) -> str:
    """The choices, with "or" before the last."""
    return _joined(choices, "or")


def listed(things: Sequence[object]) -> str:
    """The things, with "and" before the last."""
    return _joined(things, "and")


def _joined(things: Sequence[object], last: str) -> str:
    words = [str(thing) for thing in things]
    return f" {last} ".join([", ".join(words[:-1]), *words[-1:]]) if words[1:] else "".join(words)
