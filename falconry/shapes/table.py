"""Advice as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from falconry.engine.spec import GIB
from falconry.shapes.advice import Advice
from falconry.shapes.candidates import Candidate


def table(advice: Advice) -> str:
    """The shapes that hold the engine, the best first; then why the others do not."""
    requests = "longest request" if advice.concurrency == 1 else "longest requests"
    fitting = [each for each in advice.candidates if each.fits]
    lines = [
        f"{advice.engine}",
        f"{advice.concurrency} {requests} of {advice.request_tokens:,} tokens at a time",
        "",
    ]
    if fitting:
        lines += _rows(advice, fitting)
    else:
        lines.append("No shape holds it.")
    lines += _others(advice)
    order = "price" if advice.currency else "memory, for want of prices (PRICES=table.toml)"
    lines += ["", f"Ranked by {order}. Estimated: {', '.join(advice.estimated)}."]
    return "\n".join(lines)


def _rows(advice: Advice, candidates: Sequence[Candidate]) -> Iterator[str]:
    gpus = any(candidate.gpus for candidate in candidates)
    heads = ["shape", "GPUs" if gpus else "size", "needed", "usable", "headroom", "at a time"]
    heads += ["engine"] if gpus else []
    heads += [f"{advice.currency} an hour"] if advice.currency else []
    rows = [heads, *(_row(advice, candidate, gpus) for candidate in candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip()


def _row(advice: Advice, candidate: Candidate, gpus: bool) -> list[str]:
    if gpus:
        size = f"{candidate.gpus_used} of {candidate.gpus} {candidate.gpu} (SM {candidate.sm})"
    else:
        size = f"{candidate.ocpus:g} OCPUs, {candidate.memory_gib:g} GiB"
    each = " a GPU" if gpus else ""
    cells = [
        candidate.shape,
        size,
        f"{candidate.needed / GIB:.1f} GiB{each}",
        f"{candidate.usable / GIB:.1f} GiB",
        f"{candidate.headroom / GIB:.1f} GiB",
        str(candidate.at_a_time),
    ]
    cells += [candidate.engine] if gpus else []
    if advice.currency:
        price = candidate.price_hour
        cells.append("not known" if price is None else f"{price:.2f}")
    return cells


def _others(advice: Advice) -> Iterator[str]:
    others = [each for each in advice.candidates if not each.fits]
    if others:
        yield ""
    for each in others:
        remedy = f"; would do with {each.remedy}" if each.remedy else ""
        more = len(each.problems) - 1
        rest = f" (and {more} more)" if more else ""
        yield f"not {each.shape}: {each.problems[0]}{rest}{remedy}"
