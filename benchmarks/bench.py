"""
What this server costs, and what others cost: docs/performance.md.

    python benchmarks/bench.py                  # compare with the reference and python-engineio
    python benchmarks/bench.py growth           # few sessions and many
    python benchmarks/bench.py all --out docs   # both, and write docs/performance.*, as `make bench` does
    python benchmarks/bench.py socketio         # compare Socket.IO: the reference and python-socketio
    python benchmarks/bench.py quick            # only ours and bare Twisted: has it become slower?
    python benchmarks/bench.py draw --out docs  # draw the plots and the page anew, from docs/performance*.json

Servers and the load generator are started from here. Tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import document, growth, machine, modes, quick, servers, tables
from harness.measure import Measurement, Settings, drift, failures, jobFor, medians, runAll
from harness.processes import BenchmarkError, Server, buildGenerator, raiseFileLimit
from harness.suites import ENGINEIO, SOCKETIO, SUITES, Suite
from harness.verify import problems

PAGE, README = "performance.md", "README.md"


def listAll() -> None:
    print("Servers:", *(f"  {name}" for name in servers.ALL), sep="\n")
    for suite in SUITES:
        print(f"Modes, {suite.title}:", *(f"  {mode.name:18} {mode.operation}" for mode in suite.modes), sep="\n")


def unique(chosen: Sequence[Server]) -> list[Server]:
    return list({each.name: each for each in chosen}.values())


def verify(chosen: Sequence[Server]) -> list[Server]:
    """Return the servers that do what is to be measured; say what is wrong with the others."""
    right = []
    for server in chosen:
        found = problems(server)
        print(f"{server.name}: {'verified' if not found else f'{len(found)} problems'}", file=sys.stderr)
        for problem in found:
            print(f"{server.name} is wrong: {problem}")
        if not found:
            right.append(server)
    return right


def reportOf(
    suite: Suite,
    compared: Sequence[Measurement],
    grown: Sequence[Measurement],
    settings: Settings,
    growthRepetitions: int,
) -> tables.Report:
    """Return all that is written as JSON."""
    spread: dict[str, dict[str, list[float]]] = {}
    for each in [*compared, *grown]:
        if not each.error:
            spread.setdefault(each.mode, {}).setdefault(each.server, []).append(each.values["cpuPerOp"])
    return {
        "machine": machine.describe(suite),
        "settings": {
            **vars(settings),
            "growthRepetitions": growthRepetitions,
            "counted": {mode.name: {"warm": mode.warm, "count": mode.count} for mode in suite.modes if mode.warm},
        },
        "calibration": drift([*compared, *grown]),
        "operations": {mode.name: mode.operation for mode in suite.modes} | (growth.KINDS if grown else {}),
        "comparison": medians(compared),
        "growth": medians(grown),
        "cpuPerOpOfEachRepetition": spread,
    }


def publish(suite: Suite, report: tables.Report, folder: Path, plots: bool) -> None:
    """Write the numbers, the plots, and the page and the README beside its folder, if they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / suite.numbers).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plots:
        from harness.plots import draw

        draw(suite, report, folder)
    if (folder / PAGE).exists():
        document.rewrite(folder / PAGE, tables.sections(report, suite))
    if (folder.parent / README).exists():
        document.rewrite(folder.parent / README, tables.summary(report))


def compare(arguments: argparse.Namespace) -> int:
    """Measure, for `compare`, `growth`, `all` and `socketio`."""
    settings = Settings(arguments.duration, arguments.warm, arguments.reps)
    suite = SOCKETIO if arguments.what == "socketio" else ENGINEIO
    isCompared, isGrown = arguments.what != "growth", arguments.what in ("growth", "all")
    names = arguments.servers.split(",") if arguments.servers else None
    compared = servers.choose(names) if names else suite.servers
    grown = servers.choose(names if names else growth.DEFAULT)
    chosenModes = modes.choose(arguments.modes.split(","), suite.modes) if arguments.modes else suite.modes
    used = unique([*(compared if isCompared else []), *(grown if isGrown else [])])
    servers.install(used)
    right = verify(used)
    isWrong = len(right) < len(used)
    if arguments.verify_only or not right:
        return int(isWrong)
    measured: list[Measurement] = []
    if isCompared:
        rounds = [
            [jobFor(each, mode, settings) for each in compared if each in right and each.can(mode.arguments)]
            for mode in chosenModes
        ]
        measured = runAll([each for each in rounds if each], settings.repetitions)
    measuredGrowth: list[Measurement] = []
    if isGrown:
        counts = [int(each) for each in arguments.sessions.split(",")]
        rounds = growth.rounds([each for each in grown if each in right], settings, counts)
        measuredGrowth = runAll(rounds, arguments.growth_reps)
    report = reportOf(suite, measured, measuredGrowth, settings, arguments.growth_reps)
    for name, section in tables.sections(report, suite).items():
        print(f"\n## {name}\n\n{section}")
    isIncomplete = failures([*measured, *measuredGrowth], print)
    if arguments.out:
        publish(suite, report, Path(arguments.out), not arguments.no_plots)
    return int(isWrong or isIncomplete)


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure what this server costs, and what others cost.")
    parser.add_argument(
        "what",
        nargs="?",
        default="compare",
        choices=["compare", "growth", "all", "socketio", "quick", "draw"],
        help="%(default)s",
    )
    parser.add_argument("--servers", metavar="NAMES", help="with commas between them; --list names them")
    parser.add_argument("--modes", metavar="NAMES", help="the same")
    parser.add_argument("--reps", type=int, metavar="N", help="how often each is measured: 3, for quick 5")
    parser.add_argument("--growth-reps", type=int, metavar="N", default=1, help="the same for growth: %(default)s")
    parser.add_argument("--sessions", metavar="NUMBERS", default="10,1000,10000", help="for growth: %(default)s")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds that are measured: 2, for quick 0.7")
    parser.add_argument("--warm", type=float, metavar="S", default=Settings.warm, help="seconds before: %(default)s")
    parser.add_argument("--out", metavar="DIR", help="a folder for numbers and plots, and for the page if it is there")
    parser.add_argument("--no-plots", action="store_true", help="do without matplotlib")
    parser.add_argument("--verify-only", action="store_true", help="only see whether the servers echo as they should")
    parser.add_argument("--list", action="store_true", help="name the servers and the modes")
    parser.add_argument("--state", action="store_true", help="quick: state what is measured now, in quick.json")
    parser.add_argument("--stated", metavar="FILE", type=Path, default=quick.STATED, help="quick: another file")
    arguments = parser.parse_args(given)
    isQuick = arguments.what == "quick"
    arguments.reps = arguments.reps or (5 if isQuick else 3)
    arguments.duration = arguments.duration or (0.7 if isQuick else Settings.duration)
    try:
        if arguments.list:
            listAll()
            return 0
        if arguments.what == "draw":
            folder = Path(arguments.out or ".")
            for suite in SUITES:
                if (folder / suite.numbers).exists():
                    report = json.loads((folder / suite.numbers).read_text(encoding="utf-8"))
                    publish(suite, report, folder, not arguments.no_plots)
            return 0
        raiseFileLimit()
        buildGenerator()
        if isQuick:
            chosen = arguments.modes.split(",") if arguments.modes else list(quick.MODES)
            return quick.run(chosen, arguments.reps, arguments.duration, arguments.stated, arguments.state)
        return compare(arguments)
    except BenchmarkError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
