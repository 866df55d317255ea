"""
The guard: what an operation costs here, as a multiple of what bare Twisted takes for the least of its kind.

Both are measured one after the other in the same run, so that the ratio is the same on a fast machine and a slow one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from .measure import Job, measure, progress
from .processes import BENCHMARKS, BenchmarkError
from .servers import ALL, BARE, OURS
from .verify import problems

STATED = BENCHMARKS / "quick.json"
MARGIN = 0.25

MODES = {
    "ws-echo": ("ws-echo --connections 32", "raw-echo"),
    "ws-echo-d16": ("ws-echo --connections 32 --depth 16", "raw-echo"),
    "broadcast": ("broadcast --connections 100 --size 64", "raw-echo"),
    "polling-echo": ("polling-echo --connections 32", "http-post-get"),
    "handshake": ("handshake --connections 32", "http-get"),
    "ws-handshake": ("ws-handshake --connections 32", "http-get"),
}
"""Each with what bare Twisted is measured by."""

BARE_SERVERS = {"raw-echo": "tcp", "http-get": "http", "http-post-get": "http"}

COMMENT = (
    "CPU of the server per operation, as a multiple of that of a bare Twisted server (benchmarks/bare_echo.py). "
    "Written by `python benchmarks/bench.py quick --state`: the median that was measured, and what is allowed, "
    f"{MARGIN:.0%} more."
)


def run(modes: Sequence[str], repetitions: int, duration: float, stated: Path, isStating: bool) -> int:
    """
    Measure, and compare with what is stated, or state it.

    @return: the exit code.
    """
    allowed = {} if isStating else _allowed(stated, modes)
    wrong = problems(ALL[OURS])
    if wrong:
        print(f"{OURS} echoes wrongly: {wrong[0]}")
        return 1
    found = ratios(modes, repetitions, duration)
    if isStating:
        _state(stated, found)
        return 0
    over = [mode for mode in modes if found[mode] > allowed[mode]]
    if over:
        # Somebody else on the machine may have been at work: what is slower stays so when it is measured again.
        print(f"measuring again: {', '.join(over)}", file=sys.stderr)
        found |= ratios(over, repetitions, duration)
    failed = False
    for mode in modes:
        isOver = found[mode] > allowed[mode]
        failed |= isOver
        print(f"{'TOO SLOW' if isOver else 'ok':8} {mode:13} measured {found[mode]:6.2f}, allowed {allowed[mode]:6.2f}")
    return int(failed)


def ratios(modes: Sequence[str], repetitions: int, duration: float) -> dict[str, float]:
    """Return for each mode the median of its ratios to bare Twisted, one in each repetition."""
    times = ["--warm", str(duration / 2), "--duration", str(duration)]
    jobs = []
    for bare in dict.fromkeys(MODES[mode][1] for mode in modes):
        # What is compared is measured one after the other.
        jobs.append(Job(BARE[BARE_SERVERS[bare]], bare, [bare, "--connections", "32", *times]))
        jobs += [Job(ALL[OURS], mode, [*MODES[mode][0].split(), *times]) for mode in modes if MODES[mode][1] == bare]
    found: dict[str, list[float]] = {mode: [] for mode in modes}
    count, begun = 0, time.monotonic()
    for repetition in range(repetitions):
        costs = {}
        for job in jobs:
            measurement = measure(job, repetition)
            if measurement.error:
                raise BenchmarkError(f"{job.server.name}, {job.mode}: {measurement.error}")
            count += 1
            progress(measurement, count, repetitions * len(jobs), time.monotonic() - begun)
            costs[job.mode] = measurement.values["cpuPerOp"]
        for mode in modes:
            found[mode].append(costs[mode] / costs[MODES[mode][1]])
    return {mode: median(each) for mode, each in found.items()}


def _allowed(stated: Path, modes: Sequence[str]) -> dict[str, float]:
    given = json.loads(stated.read_text())["ratios"]
    unstated = [mode for mode in modes if mode not in given]
    if unstated:
        raise BenchmarkError(f"{stated.name} doesn't say what is allowed for {', '.join(unstated)}")
    return {mode: given[mode]["allowed"] for mode in modes}


def _state(stated: Path, found: dict[str, float]) -> None:
    values = {
        mode: {"measured": round(ratio, 2), "allowed": round(ratio * (1 + MARGIN), 2)} for mode, ratio in found.items()
    }
    stated.write_text(json.dumps({"comment": COMMENT, "ratios": values}, indent=2) + "\n")
    for mode, value in values.items():
        print(f"{mode:13} measured {value['measured']:6.2f}, allowed {value['allowed']:6.2f}")
