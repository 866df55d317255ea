"""What was measured, as plots. matplotlib is imported here alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

from . import growth
from .modes import Mode
from .servers import COMPARED, OURS, PYTHON_CLIENT, REFERENCE, SOCKETIO
from .suites import Suite
from .tables import Report, number

# Told apart without colours too, where it matters, by their order and their markers.
_STYLES = {
    each.name: style
    for each, style in zip(
        COMPARED,
        [("#1a7fb8", "o"), ("#3f3f3f", "s"), ("#c2577a", "P"), ("#e08214", "^"), ("#7fb069", "D"), ("#b07aa1", "v")],
        strict=True,
    )
}
# What is on the same platform looks the same.
_STYLES |= {each.name: _STYLES[like] for each, like in zip(SOCKETIO, (OURS, REFERENCE, "uvicorn"), strict=True)}
_STYLES[PYTHON_CLIENT] = _STYLES["aiohttp"]
COLOURS = {name: colour for name, (colour, _) in _STYLES.items()}
MARKERS = {name: marker for name, (_, marker) in _STYLES.items()}

_INK, _FAINT, _GRID, _PAPER = "#1f2933", "#52606d", "#dddddd", "#ffffff"
THEMED = {_INK: "ink", COLOURS[REFERENCE]: "ink", _FAINT: "faint", _GRID: "grid", _PAPER: "paper"}
"""The colours that a site may replace by those of its theme, each with what it is called there."""

mpl.rcParams.update(
    {
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": _FAINT,
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.constrained_layout.use": True,
        # The same numbers make the same file.
        "svg.hashsalt": "engineio_twisted",
        "svg.fonttype": "none",
        "legend.frameon": False,
    }
)


def colour(server: str) -> str:
    return COLOURS.get(server, "#888888")


def save(figure: Any, path: Path) -> None:
    isDrawing = path.suffix == ".svg"
    metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"]) if isDrawing else None
    figure.savefig(path, metadata=metadata, dpi=110, facecolor=_PAPER)
    plt.close(figure)
    if isDrawing:
        path.write_text(asPart(path.read_text(encoding="utf-8"), path.stem), encoding="utf-8")


def asPart(drawing: str, name: str) -> str:
    """
    Return an SVG that a page can hold among others, in the colours of its theme.

    By itself it has the colours it was drawn with. It gives nothing else a style. It keeps the ids that it refers to,
    with its name before each.
    """
    for colour_, themed in THEMED.items():
        drawing = drawing.replace(f": {colour_}", f": var(--drawing-{themed}, {colour_})")
    general = re.search(r"<defs>\s*<style[^>]*>\*\{([^}]*)\}</style>\s*</defs>\s*", drawing)
    if general is not None:
        drawing = drawing.replace(general[0], "").replace("<svg ", f'<svg style="{general[1]}" ', 1)
    for each in sorted(set(re.findall(r' id="([^"]+)"', drawing))):
        isUsed = f"#{each}" in drawing
        drawing = drawing.replace(f' id="{each}"', f' id="{name}-{each}"' if isUsed else "")
        drawing = drawing.replace(f'"#{each}"', f'"#{name}-{each}"').replace(f"(#{each})", f"(#{name}-{each})")
    return drawing


def _servers(suite: Suite, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [each.name for each in suite.servers if any(each.name in values for values in results.values())]


def _modes(suite: Suite, report: Report, isWanted: Callable[[Mode], bool]) -> list[str]:
    return [mode.name for mode in suite.modes if isWanted(mode) and mode.name in report["comparison"]]


def _plainLog(axis: Any, ticks: Sequence[float]) -> None:
    """Have a logarithmic axis say 0.5 and 20 in place of powers of ten."""
    axis.set_major_locator(mpl.ticker.FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _ticks(values: Sequence[float], steps: Sequence[float] = (1, 2, 5)) -> list[float]:
    """Return round numbers that enclose the values."""
    every = [step * 10.0**exponent for exponent in range(-4, 8) for step in steps]
    lower = max((tick for tick in every if tick <= min(values)), default=every[0])
    upper = min((tick for tick in every if tick >= max(values)), default=every[-1])
    return [tick for tick in every if lower <= tick <= upper]


def cpu(suite: Suite, report: Report, path: Path) -> None:
    """CPU per operation, as a multiple of the reference's: bars that begin at the reference."""
    results, reference = report["comparison"], suite.reference
    modes = [mode for mode in _modes(suite, report, lambda mode: mode.hasCost) if reference in results[mode]]
    servers = [name for name in _servers(suite, results) if name != reference]
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.16 * len(modes) * (len(servers) + 1.2)))
    height = 0.8 / len(servers)
    ratios = []
    for row, mode in enumerate(modes):
        for position, server in enumerate(servers):
            if server not in results[mode]:
                continue
            ratio = results[mode][server]["cpuPerOp"] / results[mode][reference]["cpuPerOp"]
            ratios.append(ratio)
            y = row + (position - (len(servers) - 1) / 2) * height
            # The axis is logarithmic: half as much reaches as far to the left as twice as much to the right.
            axes.barh(y, ratio - 1, height * 0.92, left=1, color=colour(server), label=server if row == 0 else None)
            isMore = ratio >= 1
            axes.annotate(
                f"{ratio:.2f}",
                (ratio, y),
                xytext=(3 if isMore else -3, 0),
                textcoords="offset points",
                ha="left" if isMore else "right",
                va="center",
                fontsize=6.5,
            )
    axes.set_xscale("log")
    ticks = [
        each for each in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if min(ratios) / 2.2 <= each <= max(ratios) * 2.2
    ]
    _plainLog(axes.xaxis, ticks)
    axes.set_xlim(min(ratios) / 1.6, max(ratios) * 1.6)
    axes.axvline(1, color=colour(reference), linewidth=1)
    axes.set_yticks(range(len(modes)), modes)
    axes.set_ylim(len(modes) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_xlabel(f"CPU per operation, as a multiple of that of {reference}; less is better")
    figure.legend(loc="outside upper center", ncols=len(servers))
    save(figure, path)


def latency(suite: Suite, report: Report, path: Path) -> None:
    """From the median to the 99th percentile, for each server in each mode."""
    results = report["comparison"]
    modes, servers = _modes(suite, report, lambda mode: mode.isSteady), _servers(suite, results)
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.13 * len(modes) * (len(servers) + 1.5)))
    step = 0.8 / len(servers)
    seen: list[float] = []
    for row, mode in enumerate(modes):
        for position, server in enumerate(servers):
            if server not in results[mode]:
                continue
            values = results[mode][server]
            begin, end = values["p50"] / 1000, values["p99"] / 1000
            seen += [begin, end]
            y = row + (position - (len(servers) - 1) / 2) * step
            axes.plot([begin, end], [y, y], color=colour(server), linewidth=1.6, solid_capstyle="butt")
            axes.plot(begin, y, MARKERS[server], color=colour(server), markersize=4, label=server if row == 0 else None)
            axes.plot(end, y, "|", color=colour(server), markersize=6)
    axes.set_xscale("log")
    _plainLog(axes.xaxis, _ticks(seen))
    axes.set_yticks(range(len(modes)), modes)
    axes.set_ylim(len(modes) - 0.5, -0.5)
    axes.hlines([each + 0.5 for each in range(len(modes) - 1)], *axes.get_xlim(), color=_GRID, linewidth=0.6)
    axes.grid(axis="x")
    axes.set_xlabel("latency in ms: a marker at the median, a line to the 99th percentile")
    figure.legend(loc="outside upper center", ncols=len(servers))
    save(figure, path)


def memory(suite: Suite, report: Report, path: Path) -> None:
    """KiB per idle session."""
    results = report["comparison"]
    modes, servers = _modes(suite, report, lambda mode: mode.isIdle), _servers(suite, results)
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.22 * len(modes) * (len(servers) + 1)))
    height = 0.8 / len(servers)
    for row, mode in enumerate(modes):
        for position, server in enumerate(servers):
            if server not in results[mode]:
                continue
            value = results[mode][server]["kibPerSession"]
            y = row + (position - (len(servers) - 1) / 2) * height
            axes.barh(y, value, height * 0.92, color=colour(server), label=server if row == 0 else None)
            axes.annotate(
                number(value), (value, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
            )
    axes.set_yticks(range(len(modes)), modes)
    axes.set_ylim(len(modes) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_xlabel("KiB of memory for each idle session")
    figure.legend(loc="outside upper center", ncols=len(servers))
    save(figure, path)


def growthPlot(report: Report, path: Path) -> None:
    """CPU per operation by the number of sessions: one panel for each kind of operation."""
    results = report["growth"]
    servers = list(dict.fromkeys(name for each in results.values() for name in each))
    kinds = [kind for kind in growth.KINDS if any(growth.nameOf(kind, count) in results for count in growth.SESSIONS)]
    figure, panels = plt.subplots(1, len(kinds), figsize=(8, 3.2), squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        seen = []
        for server in servers:
            points = [
                (count, results[growth.nameOf(kind, count)][server]["cpuPerOp"])
                for count in growth.SESSIONS
                if server in results.get(growth.nameOf(kind, count), {})
            ]
            seen += [cost for _, cost in points]
            axes.plot(
                [count for count, _ in points],
                [cost for _, cost in points],
                MARKERS.get(server, "x") + "-",
                color=colour(server),
                label=server if kind == kinds[0] else None,
                markersize=4,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(mpl.ticker.FixedLocator(growth.SESSIONS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = _ticks(seen)
        _plainLog(axes.yaxis, ticks)
        axes.set_ylim(ticks[0], ticks[-1])
        axes.grid()
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlim(growth.SESSIONS[0] / 1.6, growth.SESSIONS[-1] * 1.6)
        axes.set_title(kind, fontsize=9)
        axes.set_xlabel("sessions")
    panels[0][0].set_ylabel("CPU, µs per operation")
    figure.legend(loc="outside upper center", ncols=len(servers))
    save(figure, path)


def workersPlot(throughput: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Messages in a second by the number of workers, as a multiple of one worker."""
    figure, axes = plt.subplots(figsize=(6, 3))
    for (mode, values), marker in zip(throughput.items(), "os^", strict=False):
        counts = [(int(name.split()[0]), value) for name, value in values.items() if name[0].isdigit()]
        one = values["1 worker"]
        axes.plot([count for count, _ in counts], [value / one for _, value in counts], f"{marker}-", label=mode)
    axes.xaxis.set_major_locator(mpl.ticker.FixedLocator([1, 2, 4]))
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.set_xlabel("workers")
    axes.set_ylabel("messages in a second, times one worker")
    axes.legend()
    save(figure, path)


def draw(suite: Suite, report: Report, folder: Path, suffix: str = ".svg") -> None:
    """Draw all plots there are numbers for."""
    if report.get("comparison"):
        if any(suite.reference in each for each in report["comparison"].values()):
            cpu(suite, report, folder / f"{suite.name}-cpu{suffix}")
        latency(suite, report, folder / f"{suite.name}-latency{suffix}")
        if _modes(suite, report, lambda mode: mode.isIdle):
            memory(suite, report, folder / f"{suite.name}-memory{suffix}")
    if report.get("growth"):
        growthPlot(report, folder / f"{suite.name}-growth{suffix}")
