"""The image's size and number of layers against the limits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from falconry.image.limits import Limits
from falconry.image.preflight.findings import Finding, LayerSize
from falconry.progress import human_size

_MOST_LAYERS_TOLD = 3
_MINUTE_S = 60


def size_findings(layers: Sequence[LayerSize], limits: Limits) -> Iterator[Finding]:
    """Checks the compressed size, the time that pulling it takes, and the number of layers.

    Args:
        layers: lowest first.
        limits: the limits.
    """
    compressed = sum(layer.compressed for layer in layers)
    about = "about " if any(layer.estimated for layer in layers) else ""
    yield _size(layers, f"{about}{human_size(compressed)}", compressed, limits)
    yield _pull_time(compressed, about, limits)
    yield _count(len(layers), limits)


def _size(layers: Sequence[LayerSize], size: str, compressed: int, limits: Limits) -> Finding:
    uncompressed = human_size(sum(layer.uncompressed for layer in layers))
    fact = f"{size} compressed, {uncompressed} unpacked"
    if compressed <= limits.compressed_bytes:
        return Finding("size", fact)
    most = f"it has {size} compressed, and OCI takes {human_size(limits.compressed_bytes)}"
    remedy = f"take out what the server does not need, or start from a smaller base image{_row()}"
    if compressed <= limits.refused_bytes:
        doubt = f"{most}, without saying how that is measured: the deployment may be refused"
        return Finding("size", fact, None, remedy, doubt)
    return Finding("size", fact, f"{most}; {_largest(layers)}", remedy)


def _row() -> str:
    # Only an image that is too large pays for the table.
    from falconry.engine.toolchain import load_toolchains

    smallest = min(load_toolchains().rows, key=lambda row: row.listed_gb)
    return f", such as that of engine.toolchain {smallest.release} ({smallest.listed_gb:g} GB)"


def _largest(layers: Sequence[LayerSize]) -> str:
    numbered = sorted(enumerate(layers, 1), key=lambda item: -item[1].compressed)
    told = [
        f"layer {number} with {human_size(layer.compressed)}"
        for number, layer in numbered[:_MOST_LAYERS_TOLD]
    ]
    return f"its largest are {', '.join(told)}" if len(told) > 1 else f"it is all {told[0]}"


def _pull_time(compressed: int, about: str, limits: Limits) -> Finding:
    minutes = compressed / limits.pull_bytes_per_second / _MINUTE_S
    rate = f"{human_size(limits.pull_bytes_per_second)} a second, which is assumed"
    fact = f"{about}{minutes:.1f} minutes at {rate}"
    if minutes <= limits.pull_minutes:
        return Finding("pull time", fact)
    return Finding(
        "pull time",
        fact,
        f"pulling it takes {fact}, and OCI waits {limits.pull_minutes} minutes",
        "make the image smaller",
    )


def _count(count: int, limits: Limits) -> Finding:
    fact = f"{count} of {limits.layers} layers"
    if count <= limits.layers:
        return Finding("layers", fact)
    return Finding(
        "layers",
        fact,
        f"it has {count} layers, and Docker stacks {limits.layers}",
        "join RUN and COPY instructions of the Dockerfile",
    )
