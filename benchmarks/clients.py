"""
What this client costs, and what other clients cost: docs/performance.md, "The client".

    python benchmarks/clients.py              # compare with python-engineio and the reference
    python benchmarks/clients.py --out docs   # and write docs/performance-clients.* and its part of the page
    python benchmarks/clients.py --modes ws-echo-1,polling-echo-1 --reps 5

It is the instrument of `bench.py` turned round: the server is always the same, an echo, and each client is a program of
its own whose CPU is counted. It does what lines on its stdin say, and answers each with `ok` when it is done:

    open TRANSPORT SESSIONS          open sessions and keep them, beside those that are open
    echo DEPTH COUNT KIND SIZE       send so many messages, on all sessions together, with DEPTH in flight in each of
                                     them; compare each that comes back with what was sent, in content and order
    renew TRANSPORT SESSIONS COUNT   open and close so many sessions, with SESSIONS on their way at a time

TRANSPORT is `websocket`, `polling`, or `upgrade` for the one after the other; KIND is `text` or `binary`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench import reportOf
from harness import document, modes, servers, tables
from harness.measure import Job, Measurement, Settings, calibration, failures, runAll
from harness.processes import BenchmarkError, Running, Server, bound, cpuSeconds, raiseFileLimit, residentKiB, running
from harness.suites import CLIENTS

PAGE = "performance.md"

WITHIN = 60
"""Seconds that a program may take for a line."""

BASE, IDLE = 100, 1000
"""Sessions whose memory is measured: how many are there before, and how many come."""

LEAST = 8
"""How often what is in flight together is done at least."""

SETTLING = 1.0
"""Seconds before memory is looked at."""

CHECKS = [
    f"echo {depth} {count} {kind} {size}"
    for kind in ("text", "binary")
    for depth, count, size in ((1, 6, 1), (1, 6, 125), (3, 36, 126), (16, 66, 1024), (2, 12, 65536))
]
"""What three sessions have to echo before anything is measured: sizes where the form of a frame changes."""

COSTS = (
    "CPU time of the client, µs per operation. In brackets: as a multiple of python-engineio's. If repetitions differ"
    f" by more than {tables.NOTABLE:.0%}, the lowest and the highest follow."
)


class Program:
    """A client that runs."""

    def __init__(self, client: Server, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._client = client
        self._process = process
        self._complaints = complaints
        self.pid = process.pid

    def ask(self, line: str) -> float:
        """
        Have it do something, and return the seconds that it took.

        @raise BenchmarkError: it didn't, or not within a minute; an echo was wrong.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(WITHIN, self._process.terminate)
        timer.start()
        try:
            begun = time.monotonic()
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
            said = self._process.stdout.readline()
            took = time.monotonic() - begun
        except BrokenPipeError:
            said = b""
        finally:
            timer.cancel()
        if said != b"ok\n":
            code = self._process.wait(WITHIN)
            self._complaints.seek(0)
            words = self._complaints.read().decode(errors="replace")[-2000:].strip()
            raise BenchmarkError(f"{self._client.name}, {line!r}: ended with {code}: {words}")
        return took


@contextmanager
def clientOf(client: Server, here: Running) -> Iterator[Program]:
    """Start a client of a server, on the core of what is measured. It doesn't outlive the context."""
    with tempfile.TemporaryFile() as complaints:
        with bound(isServer=True):
            process = client.start(here.port, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
        try:
            yield Program(client, process, complaints)
        finally:
            process.kill()
            with process:
                pass


def problems(client: Server, here: Running) -> list[str]:
    """Return what a client does wrong, in words; nothing where all is well."""
    found = []
    for transport in ("websocket", "polling"):
        if client.can(["echo", transport]):
            try:
                with clientOf(client, here) as program:
                    program.ask(f"open {transport} 3")
                    for each in CHECKS if client.can(["echo", transport, "3", "16"]) else CHECKS[:1]:
                        program.ask(each)
            except BenchmarkError as error:
                found.append(str(error))
    return found


def steady(program: Program, command: str, together: int, settings: Settings) -> dict[str, float]:
    """
    Measure what a program does as often as it is told.

    @param command: with the number left out.
    @param together: how many operations are in flight at a time. There are several times as many, as those at the
        beginning and at the end differ: what is in flight together there shares fewer requests.
    """
    begun, count = time.monotonic(), LEAST * together
    while True:
        rate = count / program.ask(command.format(count))
        if time.monotonic() >= begun + settings.warm:
            break
        count = _multiple(rate * settings.warm / 4, together)
    count = _multiple(rate * settings.duration, together)
    before = cpuSeconds(program.pid)
    seconds = program.ask(command.format(count))
    used = cpuSeconds(program.pid) - before
    return {
        "ops": count,
        "opsPerSecond": count / seconds,
        "cpuPerOp": used / count * 1e6,
        "clientUtilisation": used / seconds,
    }


def _multiple(count: float, together: int) -> int:
    return max(LEAST, round(count / together)) * together


def idle(program: Program, transport: str) -> dict[str, float]:
    """Measure the memory of sessions that have had a message each way, and wait."""
    sizes, took = [], []
    for count, total in ((BASE, BASE), (IDLE, BASE + IDLE)):
        before = cpuSeconds(program.pid)
        program.ask(f"open {transport} {count}")
        took.append(cpuSeconds(program.pid) - before)
        program.ask(f"echo 1 {total} text 32")
        time.sleep(SETTLING)
        sizes.append(residentKiB(program.pid))
    return {"ops": 0, "cpuPerOp": took[1] / IDLE * 1e6, "kibPerSession": (sizes[1] - sizes[0]) / IDLE}


def measured(job: Job, here: Running, settings: Settings) -> dict[str, float]:
    """Return what is measured of a client."""
    kind, transport, *rest = job.arguments
    with clientOf(job.server, here) as program:
        if kind == "idle":
            return idle(program, transport)
        sessions = int(rest[0])
        if kind == "renew":
            return steady(program, f"renew {transport} {sessions} {{}}", sessions, settings)
        depth, message, size = rest[1:]
        program.ask(f"open {transport} {sessions}")
        return steady(program, f"echo {depth} {{}} {message} {size}", sessions * int(depth), settings)


def verify(chosen: Sequence[Server], here: Running) -> list[Server]:
    """Return the clients that echo as they should; say what is wrong with the others."""
    right = []
    for each in chosen:
        wrong = problems(each, here)
        print(f"{each.name}: {'wrong' if wrong else 'verified'}", *wrong, sep="\n", file=sys.stderr)
        if not wrong:
            right.append(each)
    return right


def compare(arguments: argparse.Namespace, here: Running) -> int:
    """Measure, print and write."""
    settings = Settings(arguments.seconds, arguments.warm, arguments.reps)
    chosen = servers.choose(arguments.clients.split(","), servers.CLIENTS)
    chosenModes = modes.choose(arguments.modes.split(","), CLIENTS.modes)
    right = verify(chosen, here)

    def measure(job: Job, repetition: int) -> Measurement:
        speed = calibration()
        try:
            values = measured(job, here, settings)
        except BenchmarkError as error:
            return Measurement(job.server.name, job.mode, repetition, speed, {}, str(error))
        return Measurement(job.server.name, job.mode, repetition, speed, values)

    found = []
    # Memory is the same each time, and takes the longest.
    for isIdle, repetitions in ((False, settings.repetitions), (True, 1)):
        rounds = [
            [Job(each, mode.name, mode.arguments) for each in right if each.can(mode.arguments)]
            for mode in chosenModes
            if mode.isIdle == isIdle
        ]
        found += runAll([each for each in rounds if each], repetitions, measure)
    if not found:
        return 1
    report = reportOf(CLIENTS, found, [], settings, 0)
    print(section(report))
    isIncomplete = failures(found, print)
    if arguments.out:
        publish(report, arguments.out)
    return int(isIncomplete or len(right) < len(chosen))


def section(report: tables.Report) -> str:
    """Return the results for people, as Markdown."""
    parts = [(COSTS, tables.costs(report, CLIENTS)), (CLIENTS.memory, tables.memory(report, CLIENTS))]
    given = "\n\n".join(f"{title}\n\n{body}" for title, body in parts if body.count("\n") > 1)
    return f"{tables.machine(report, CLIENTS)}\n\n{given}"


def publish(report: tables.Report, folder: Path) -> None:
    """Write the numbers, their plot, and their part of the page."""
    numbers = json.dumps(report, indent=1) + "\n"
    (folder / CLIENTS.numbers).write_text(numbers, encoding="utf-8")
    if (folder / PAGE).exists():
        document.rewrite(folder / PAGE, {CLIENTS.marker: section(report)})
    from harness import plots

    plots.cpu(CLIENTS, report, folder / f"{CLIENTS.name}.svg")


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for what, among in (("clients", CLIENTS.servers), ("modes", CLIENTS.modes)):
        parser.add_argument(
            f"--{what}", metavar="NAMES", default=",".join(each.name for each in among), help="%(default)s"
        )
    parser.add_argument("--reps", type=int, metavar="N", default=3, help="how often each is measured: %(default)s")
    parser.add_argument("--seconds", type=float, metavar="S", default=0.8, help="that are measured: %(default)s")
    parser.add_argument("--warm", type=float, metavar="S", default=0.6, help="seconds before: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder for numbers and plot, and for the page")
    arguments = parser.parse_args(given)
    try:
        raiseFileLimit()
        servers.install(servers.choose(arguments.clients.split(","), servers.CLIENTS))
        # The server has the other core: the clients are what is measured.
        with running(servers.ALL[servers.OURS], isMeasured=False) as here:
            return compare(arguments, here)
    except BenchmarkError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
