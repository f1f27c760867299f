"""Draws the results of a benchmark: a page, and the same plots as SVG files.

    python draw_results.py RESULTS.json DIRECTORY

It runs in the environment of pictures.lock, without the project. `DIRECTORY/index.html` needs no
other file.
"""

from __future__ import annotations

import io
import json
import sys
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

# By unit: the title of a plot, and the name of its file.
PLOTS = {
    "s": ("Time (seconds, less is better)", "time"),
    "s/GB": ("CPU time of an upload (seconds a GB, less is better)", "upload"),
    "ms": ("Latency (milliseconds, less is better)", "latency"),
    "tokens/s": ("Throughput (tokens a second, more is better)", "throughput"),
    "MiB": ("Memory (MiB, less is better)", "memory"),
    "MB": ("The image by layer (MB)", "image"),
}
_OURS, _PEERS, _PEER_LINE, _MISSED = "#2a6f97", "#b8bcc4", "#8a8f99", "#c1432e"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0}"
    f".missed{{color:{_MISSED}}}svg{{max-width:100%;height:auto}}"
)


def main(results: Path, directory: Path) -> None:
    """Writes the page and the SVG files."""
    report = json.loads(results.read_text(encoding="utf-8"))
    directory.mkdir(parents=True, exist_ok=True)
    drawings = {name: drawing(rows, title) for name, title, rows in groups(report)}
    for name, text in drawings.items():
        (directory / f"{name}.svg").write_text(text, encoding="utf-8")
    (directory / "index.html").write_text(page(report, drawings), encoding="utf-8")


def groups(report: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """The measured results of each unit, with the name and the title of their plot.

    Results that are points of curves come after those that stand alone.
    """
    measured = [each for each in report["results"] if each["ours"]]
    found = []
    for unit, (title, name) in PLOTS.items():
        alone = [each for each in measured if each["unit"] == unit and not each.get("point")]
        if alone:
            found.append((name, title, alone))
    for unit, (title, name) in PLOTS.items():
        points = [each for each in measured if each["unit"] == unit and each.get("point")]
        if points:
            found.append((f"{name}-curves", title, points))
    return found


def best(samples: dict[str, list[float]], unit: str) -> tuple[str, float]:
    """The best contestant and the median of its samples."""
    choose = max if unit == "tokens/s" else min
    return choose(
        ((name, median(values)) for name, values in samples.items()), key=lambda pair: pair[1]
    )


def drawing(rows: list[dict[str, Any]], title: str) -> str:
    """Draws results as SVG: curves if they are points of some, or else pairs of bars."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "falconry"})
    from matplotlib import pyplot

    figure = _curves(pyplot, rows, title) if rows[0].get("point") else _bars(pyplot, rows, title)
    output = io.StringIO()
    figure.savefig(output, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = output.getvalue()
    return text[text.index("<svg") :]


def _bars(pyplot: Any, rows: list[dict[str, Any]], title: str) -> Any:
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.75 * len(rows)), layout="constrained")
    values = []
    for number, row in enumerate(rows):
        for offset, side, colour in ((-0.19, "ours", _OURS), (0.19, "peers", _PEERS)):
            if row[side]:
                name, value = best(row[side], row["unit"])
                values.append(value)
                missed = side == "ours" and row["reached"] is False
                axes.barh(number + offset, value, 0.36, color=_MISSED if missed else colour)
                label = f"{value:.3g}  {'Falconry, ' if side == 'ours' else ''}{name}"
                place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(label, (value, number + offset), fontsize=9, **place)
    if max(values) > 20 * min(values):
        axes.set_xscale("log")
        title = f"{title}, logarithmic"
    axes.set_yticks(range(len(rows)), [row["what"] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(pyplot: Any, rows: list[dict[str, Any]], title: str) -> Any:
    """A plot a curve, side by side; in each, a line a contestant."""
    names = list(dict.fromkeys(row["point"]["curve"] for row in rows))
    figure, plots = pyplot.subplots(
        1, len(names), figsize=(4.5 * max(2, len(names)), 4), layout="constrained", squeeze=False
    )
    for axes, name in zip(plots[0], names, strict=True):
        points = sorted(
            (row for row in rows if row["point"]["curve"] == name),
            key=lambda row: row["point"]["at"],
        )
        for side, colour, line in (("ours", _OURS, "-"), ("peers", _PEER_LINE, "--")):
            contestants = dict.fromkeys(each for row in points for each in row[side])
            for contestant, marker in zip(contestants, "os^Dv", strict=False):
                taken = [
                    (row["point"]["at"], median(row[side][contestant]))
                    for row in points
                    if contestant in row[side]
                ]
                label = f"Falconry, {contestant}" if side == "ours" else contestant
                axes.plot(*zip(*taken, strict=True), line, marker=marker, color=colour, label=label)
        ticks = [row["point"]["at"] for row in points]
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{each:g}" for each in ticks])
        axes.minorticks_off()
        axes.set_xlabel(points[0]["point"]["along"])
        axes.set_ylim(bottom=0)
        axes.set_title(name, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def page(report: dict[str, Any], drawings: dict[str, str]) -> str:
    """Writes the page: the machine, the plots, and every result."""
    machine = report["machine"]
    versions = {name: value for each in report["versions"].values() for name, value in each.items()}
    rows = "".join(_row(each) for each in report["results"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Falconry benchmarks</title>'
        f"<style>{_STYLE}</style><h1>Falconry benchmarks</h1>"
        f"<p>{escape(report['date'])}{', quick' if report['quick'] else ''}: "
        f"{escape(machine['cpu'])}, {machine['cores']} cores, load {machine['load_average']:.1f}."
        f"<br>{escape(', '.join(f'{name} {each}' for name, each in sorted(versions.items())))}</p>"
        f"{''.join(drawings.values())}"
        "<table><tr><th></th><th>ratio</th><th>target</th><th></th></tr>"
        f"{rows}</table></html>\n"
    )


def _row(each: dict[str, Any]) -> str:
    ratio = "" if each["ratio"] is None else f"{each['ratio']:.2f}×"
    verdict = {True: "reached", False: "missed", None: ""}[each["reached"]]
    words = (each["what"], ratio, each["target"], each["problem"] or verdict)
    kind = ' class="missed"' if each["reached"] is False else ""
    return f"<tr{kind}>{''.join(f'<td>{escape(str(word))}</td>' for word in words)}</tr>"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
