"""Measurements, each on a fresh process, and what becomes of those of the same thing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .modes import Mode
from .processes import BenchmarkError, Server, bound, generate, running


@dataclass(frozen=True)
class Settings:
    """
    How long and how often.

    @ivar duration: seconds that are measured.
    @ivar warm: seconds before, of the same load. The reference's are slower until its code is compiled.
    @ivar repetitions: how often each is measured.
    """

    duration: float = 2.0
    warm: float = 3.0
    repetitions: int = 3


@dataclass
class Measurement:
    """One measurement, or why there is none."""

    server: str
    mode: str
    repetition: int
    calibration: float
    values: dict[str, Any]
    error: str = ""


@dataclass
class Job:
    """A server that is to be loaded in some way. L{mode} is what the result goes by."""

    server: Server
    mode: str
    arguments: Sequence[str]
    interval: int = 25_000
    within: float = 0


def calibration() -> float:
    """
    Return the milliseconds of CPU that a fixed piece of work takes on the server's core.

    Where these differ, the machine did: its clock, or what else runs on it.
    """
    with bound(isServer=True):
        begin = time.process_time()
        total = 0
        for number in range(400_000):
            total += number & 7
        return (time.process_time() - begin) * 1000


def measure(job: Job, repetition: int) -> Measurement:
    """Start the server, load it, and end it."""
    speed = calibration()
    try:
        with running(job.server, job.interval) as here:
            values = generate(here, job.arguments, within=job.within)
    except BenchmarkError as error:
        return Measurement(job.server.name, job.mode, repetition, speed, {}, str(error))
    return Measurement(job.server.name, job.mode, repetition, speed, values)


def jobFor(server: Server, mode: Mode, settings: Settings) -> Job:
    arguments = [*mode.arguments, "--warm", str(settings.warm), "--duration", str(settings.duration)]
    if mode.isIdle:
        arguments += ["--hold", str(mode.hold)]
    if mode.warm:
        arguments += ["--warm-ops", str(mode.warm)]
    if mode.count:
        arguments += ["--ops", str(mode.count)]
    return Job(server, mode.name, arguments, mode.interval, settings.warm + settings.duration + mode.hold)


def runAll(
    rounds: Sequence[Sequence[Job]], repetitions: int, how: Callable[[Job, int], Measurement] = measure
) -> list[Measurement]:
    """
    Do all jobs, as often as asked.

    @param rounds: the jobs whose results are compared with each other stand together. The machine may change in the
        course of a run: so repetitions are outermost, and within a round each begins with another server.
    @param how: what does a job.
    """
    total = sum(map(len, rounds)) * repetitions
    begun, done = time.monotonic(), []
    for repetition in range(repetitions):
        for jobs in rounds:
            first = repetition % len(jobs)
            for job in [*jobs[first:], *jobs[:first]]:
                done.append(how(job, repetition))
                progress(done[-1], len(done), total, time.monotonic() - begun)
    return done


def progress(measurement: Measurement, count: int, total: int, seconds: float) -> None:
    """Say on stderr how it goes."""
    values = measurement.values
    if measurement.error:
        what = measurement.error
    elif values["ops"] == 0:
        what = f"{values['kibPerSession']:9.2f} KiB"
    else:
        busy = [f"{name[:-11]} {part:4.0%}" for name, part in values.items() if name.endswith("Utilisation")]
        what = f"{values['cpuPerOp']:9.2f} µs, busy: {', '.join(busy)}"
    print(
        f"[{count}/{total}, {seconds:4.0f} s] {measurement.mode:18} {measurement.server:30} {what}",
        file=sys.stderr,
        flush=True,
    )


Medians = dict[str, dict[str, dict[str, float]]]
"""By mode, by server, by the name of the value."""


def medians(measurements: Sequence[Measurement]) -> Medians:
    """Return the medians of what was measured of the same thing."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in measurements:
        if not each.error:
            groups.setdefault((each.mode, each.server), []).append(each.values)
    result: Medians = {}
    for (mode, server), group in groups.items():
        numbers = [name for name, value in group[0].items() if isinstance(value, int | float)]
        result.setdefault(mode, {})[server] = {name: median(each[name] for each in group) for name in numbers}
    return result


def drift(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return how the speed of the machine differed: the milliseconds of the calibration loop."""
    speeds = sorted(each.calibration for each in measurements)
    return {"least": speeds[0], "median": median(speeds), "most": speeds[-1]}


def failures(measurements: Sequence[Measurement], report: Callable[[str], object]) -> bool:
    """Report each measurement that came to nothing; return whether there is something of which all did."""
    for each in measurements:
        if each.error:
            report(f"{each.server}, {each.mode}, repetition {each.repetition + 1}: {each.error}")
    succeeded = {(each.server, each.mode) for each in measurements if not each.error}
    return any((each.server, each.mode) not in succeeded for each in measurements)
