"""What was measured, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import growth
from .modes import Mode
from .servers import REFERENCE
from .suites import Suite

Report = dict[str, Any]
"""As it is written as JSON; L{bench.reportOf}."""

Values = Mapping[str, float]

NOTHING = "-"

NOTABLE = 0.15
"""How much repetitions may differ without being told."""

COSTS = (
    "CPU time of the server, µs per operation. In brackets: as a multiple of the reference. If repetitions differ by"
    f" more than {NOTABLE:.0%}, the lowest and the highest follow."
)


def number(value: float) -> str:
    """Write a number with three digits or more, and a space between thousands."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}".replace(",", " ")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *rows])


def _grid(results: Mapping[str, Any], servers: Sequence[str], cell: Callable[[str, str], str]) -> str:
    """Return a table of modes by servers, without servers that weren't measured."""
    present = [name for name in servers if any(name in each for each in results.values())]
    rows = [
        [f"`{mode}`", *(cell(mode, name) if name in results[mode] else NOTHING for name in present)] for mode in results
    ]
    return table(["", *present], rows)


def _withRatio(
    results: Mapping[str, Mapping[str, Values]], reference: str, spread: Mapping[str, Mapping[str, Sequence[float]]]
) -> Callable[[str, str], str]:
    def cell(mode: str, server: str) -> str:
        cost = results[mode][server]["cpuPerOp"]
        shown = number(cost)
        if reference in results[mode] and server != reference:
            shown += f" ({cost / results[mode][reference]['cpuPerOp']:.2f})"
        each = spread.get(mode, {}).get(server, [cost])
        if max(each) > min(each) * (1 + NOTABLE):
            shown += f" {number(min(each))} to {number(max(each))}"
        return shown

    return cell


def _only(report: Report, suite: Suite, isWanted: Callable[[Mode], bool]) -> dict[str, Any]:
    wanted = {mode.name for mode in suite.modes if isWanted(mode)}
    return {mode: each for mode, each in report.get("comparison", {}).items() if mode in wanted}


def _shown(report: Report, suite: Suite) -> list[str]:
    """The servers of the comparison, or else those that were asked for."""
    compared = [each.name for each in suite.servers]
    others = {name for each in report.get("comparison", {}).values() for name in each}
    return [*(name for name in compared if name in others), *sorted(others - set(compared))]


def costs(report: Report, suite: Suite) -> str:
    results = _only(report, suite, lambda mode: mode.hasCost)
    cell = _withRatio(results, suite.reference, report["cpuPerOpOfEachRepetition"])
    return _grid(results, _shown(report, suite), cell)


def throughput(report: Report, suite: Suite) -> str:
    results = _only(report, suite, lambda mode: mode.isSteady)
    return _grid(results, _shown(report, suite), lambda mode, name: number(results[mode][name]["opsPerSecond"]))


def latency(report: Report, suite: Suite) -> str:
    results = _only(report, suite, lambda mode: mode.isSteady)
    return _grid(results, _shown(report, suite), lambda mode, name: _latencies(results[mode][name]))


def memory(report: Report, suite: Suite) -> str:
    results = _only(report, suite, lambda mode: mode.isIdle)
    return _grid(results, _shown(report, suite), lambda mode, name: number(results[mode][name]["kibPerSession"]))


def _grown(report: Report, kinds: Sequence[str], cell: Callable[[Values], str]) -> str:
    results = report["growth"]
    servers = list(dict.fromkeys(name for each in results.values() for name in each))
    rows = []
    for kind, count in ((kind, count) for kind in kinds for count in growth.SESSIONS):
        values = results.get(growth.nameOf(kind, count))
        if values is not None:
            cells = [cell(values[name]) if name in values else NOTHING for name in servers]
            rows.append([kind, number(count), *cells])
    return table(["", "sessions", *servers], rows)


def growthCosts(report: Report) -> str:
    return _grown(report, list(growth.KINDS), lambda values: number(values["cpuPerOp"]))


def growthLatency(report: Report) -> str:
    return _grown(report, ["echo", "broadcast"], _latencies)


def _latencies(values: Values) -> str:
    return f"{number(values['p50'] / 1000)} / {number(values['p99'] / 1000)}"


def machine(report: Report, suite: Suite) -> str:
    speed, times = report["calibration"], report["settings"]
    return (
        "; ".join(f"{name} {value}" for name, value in report["machine"].items())
        + f". Medians of {times['repetitions']} repetitions"
        + (f", {times['growthRepetitions']} by the number of sessions. " if report.get("growth") else ". ")
        + f"Each took {times['duration']:g} s after {times['warm']:g} s"
        + (f"; {suite.counted} by their number" if times.get("counted") else "")
        + f". The calibration loop took {speed['least']:.1f} to "
        f"{speed['most']:.1f} ms, with a median of {speed['median']:.1f}."
    )


SUMMARY = [
    ("echo over WebSocket, µs", "ws-echo", "cpuPerOp"),
    ("echo over polling, µs", "polling-echo", "cpuPerOp"),
    ("idle WebSocket session, KiB", "idle-websocket", "kibPerSession"),
]
SUMMARIZED = {
    "engineio_twisted": "engineio_twisted",
    REFERENCE: "`engine.io` on Node.js",
    "aiohttp": "`python-engineio` on aiohttp",
}


def summary(report: Report) -> dict[str, str]:
    """Return the table of the README by its marker; nothing if not all of it was measured."""
    results = report.get("comparison", {})
    if not all(server in results.get(mode, {}) for _, mode, _ in SUMMARY for server in SUMMARIZED):
        return {}
    rows = [[title, *(number(results[mode][each][key]) for each in SUMMARIZED)] for title, mode, key in SUMMARY]
    return {"summary": table(["", *SUMMARIZED.values()], rows)}


def sections(report: Report, suite: Suite) -> dict[str, str]:
    """Return the parts of the pages, each by the marker between which it stands."""
    found = {}
    if report.get("comparison"):
        parts = [
            (COSTS, costs(report, suite)),
            ("Operations per second.", throughput(report, suite)),
            ("Latency, median / 99th percentile, in ms.", latency(report, suite)),
            (suite.memory, memory(report, suite)),
        ]
        given = "\n\n".join(f"{title}\n\n{body}" for title, body in parts if body.count("\n") > 1)
        found[suite.marker] = f"{machine(report, suite)}\n\n{given}"
    if report.get("growth"):
        found["growth"] = (
            f"CPU time of the server, µs per operation.\n\n{growthCosts(report)}\n\n"
            f"Latency, median / 99th percentile, in ms.\n\n{growthLatency(report)}"
        )
    return found
