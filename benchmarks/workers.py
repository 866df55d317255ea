"""
What several processes bring and cost: throughput by workers, moves and relays, evenness, and the end of a worker.

    python benchmarks/workers.py              # all of it
    python benchmarks/workers.py --out docs   # and write docs/performance-workers.* and its part of the page
    python benchmarks/workers.py cost --reps 7

Servers run on all cores that this process may use, and so does the load generator.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import document, machine
from harness.processes import (
    BENCHMARKS,
    READY_WITHIN,
    BenchmarkError,
    Running,
    Server,
    freePort,
    generate,
    raiseFileLimit,
    running,
)
from harness.suites import ENGINEIO

WORK = 100
"""Microseconds that the application works on each message, in the measurements of throughput."""

HANDSHAKE = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n"

PAGE = "performance.md"

Numbers = dict[str, Any]


def server(workers: int | None, work: int = 0) -> Server:
    """Return the command with so many workers; None is without the option."""
    name = "one process" if workers is None else f"{workers} worker{'s' * (workers > 1)}"
    command = [sys.executable, "-m", "engineio_twisted", "--listen", "tcp:{port}:interface=127.0.0.1:backlog=4096"]
    command += ["--app", "working_echo:application"]
    if workers is not None:
        command += ["--workers", str(workers)]
    return Server(name, tuple(command), {"WORK": str(work), "PYTHONPATH": str(BENCHMARKS)}, BENCHMARKS)


def load(here: Running, arguments: str, seconds: float) -> Numbers:
    """Return what the generator measures."""
    given = [*arguments.split(), "--warm", "1.5", "--duration", str(seconds)]
    return generate(here, given, within=seconds + 1.5, isBound=False)


def areReady(port: int) -> bool:
    """Return whether all workers are ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as response:
            said = json.load(response)
    except OSError:
        return False
    return bool(said.get("ready") == said.get("workers"))


@contextlib.contextmanager
def started(what: Server) -> Iterator[Running]:
    """Start a server whose workers are all ready."""
    port = freePort()
    health = ("--health", f"tcp:{port}:interface=127.0.0.1")
    with running(replace(what, command=(*what.command, *health)), isBound=False) as here:
        try:
            # The first worker listens before the others have started.
            deadline = time.monotonic() + READY_WITHIN
            while not areReady(port):
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"{what.name}: not all workers are ready after {READY_WITHIN} s")
                time.sleep(0.05)
            yield here
        finally:
            here.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(Exception):
                here.process.wait(15)


def repeated(
    name: str, what: Sequence[Server], arguments: str, repetitions: int, seconds: float
) -> dict[str, list[Numbers]]:
    """Measure each server in turn, as often as asked."""
    found: dict[str, list[Numbers]] = {each.name: [] for each in what}
    for repetition in range(repetitions):
        for each in what:
            with started(each) as here:
                found[each.name].append(load(here, arguments, seconds))
            values = found[each.name][-1]
            print(
                f"{name:22} {each.name:12} {repetition + 1}: {values['opsPerSecond']:9.0f} in a second, "
                f"{values['cpuPerOp']:7.2f} µs each",
                file=sys.stderr,
                flush=True,
            )
    return found


def medians(found: Mapping[str, Sequence[Numbers]], value: str) -> dict[str, float]:
    """Return the median of a value, by server."""
    return {name: statistics.median(each[value] for each in values) for name, values in found.items()}


def throughput(arguments: argparse.Namespace) -> Numbers:
    """Messages in a second by the number of workers, with an application that works on each."""
    results: Numbers = {}
    for mode in ("ws-echo --connections 256", "polling-echo --connections 64"):
        name = mode.split()[0]
        what = [server(None, WORK), *[server(each, WORK) for each in (1, 2, 4)]]
        results[name] = medians(repeated(name, what, mode, arguments.reps, arguments.seconds), "opsPerSecond")
    return results


def cost(arguments: argparse.Namespace) -> Numbers:
    """CPU for each message: of one worker and of none; of POSTs that are mixed on one pool of connections."""
    results: Numbers = {}
    modes = {
        "ws-echo": "ws-echo --connections 32",
        "polling-echo": "polling-echo --connections 32",
        "polling-echo, mixed": "polling-echo --connections 32 --mixed 1",
        "handshake": "handshake --connections 32",
    }
    for name, mode in modes.items():
        what = [server(None), server(1), *([server(2)] if name == "polling-echo, mixed" else [])]
        results[name] = medians(repeated(name, what, mode, arguments.reps, arguments.seconds), "cpuPerOp")
    return results


class Client:
    """A connection that sends requests, one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._came = b""

    def ask(self, request: str) -> tuple[int, str]:
        """Return the status and the body of the response."""
        self._socket.sendall(request.encode())
        while b"\r\n\r\n" not in self._came:
            self._read()
        head, _, self._came = self._came.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        while len(self._came) < length:
            self._read()
        body, self._came = self._came[:length], self._came[length:]
        return int(head.split()[1]), body.decode()

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        self._came += data

    def open(self) -> str:
        """Open a session and return its id."""
        status, body = self.ask(HANDSHAKE)
        if status != 200:
            raise BenchmarkError(f"a handshake was answered {status}: {body}")
        return str(json.loads(body[1:])["sid"])

    def close(self) -> None:
        self._socket.close()


def numberOf(sid: str) -> int:
    return int(sid.partition("-")[0])


def spread(count: int, open_: Callable[[int], str]) -> float:
    """Return by how much the worker with the most, or with the fewest, is off the mean."""
    sessions = Counter(numberOf(open_(each)) for each in range(count))
    mean = count / 4
    return max(abs(sessions[each] - mean) for each in range(1, 5)) / mean


def evenness(arguments: argparse.Namespace) -> Numbers:
    """How evenly 400 sessions are spread over four workers, as a part of the mean."""
    results: Numbers = {}
    with started(server(4)) as here:
        kept: list[Client] = []

        def onNew(_: int) -> str:
            kept.append(Client(here.port))
            return kept[-1].open()

        results["a connection for each"] = spread(400, onNew)
        for each in kept:
            each.close()
    with started(server(4)) as here:
        pool = [Client(here.port) for _ in range(8)]
        results["a pool of eight"] = spread(400, lambda each: pool[each % 8].open())
    with started(server(4)) as here:
        waiting = [Client(here.port) for _ in range(400)]
        for each in waiting:
            each._socket.sendall(HANDSHAKE.encode())
        results["at once"] = spread(400, lambda each: json.loads(waiting[each].ask("")[1][1:])["sid"])
    return results


def childrenOf(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def end(arguments: argparse.Namespace) -> Numbers:
    """After a worker was killed: how soon its sessions are answered 400, and a worker is back."""
    with started(server(2)) as here:
        clients = [Client(here.port) for _ in range(20)]
        sids = {numberOf(sid): sid for sid in [each.open() for each in clients]}
        before = childrenOf(here.process.pid)
        victim = before[0]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        refused: float | None = None
        while refused is None or len(set(childrenOf(here.process.pid)) - {victim}) < 2:
            if time.monotonic() > killed + 15:
                raise BenchmarkError("no worker came back")
            client = Client(here.port)
            with contextlib.suppress(OSError):
                sid = sids[min(sids)]
                status, _ = client.ask(f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n")
                if status == 400 and refused is None:
                    refused = time.monotonic() - killed
            client.close()
        back = None
        while back is None:
            if time.monotonic() > killed + 15:
                raise BenchmarkError("no worker came back")
            client = Client(here.port)
            back = time.monotonic() - killed if numberOf(client.open()) > 2 else None
            client.close()
        return {"refused after, ms": refused * 1000, "back after, ms": back * 1000}


def cpuOf(pid: int) -> float:
    """Return the seconds of CPU of a process and of those that it has started."""
    seconds = 0.0
    for each in [pid, *childrenOf(pid)]:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def relayed(port: int) -> float:
    """Return how many requests were relayed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text = response.read().decode()
    return sum(map(float, re.findall(r"(?m)^engineio_requests_relayed_total{[^}]*} (\S+)$", text)))


def passing(arguments: argparse.Namespace) -> Numbers:
    """What a move costs, and what a relay does, beyond a request that comes to the right worker: µs of CPU."""
    mode = "polling-echo --connections 32"
    costs = []
    for _ in range(arguments.reps):
        port = freePort()
        what = server(2)
        what = replace(what, command=(*what.command, "--metrics", f"tcp:{port}:interface=127.0.0.1"))
        with started(what) as here:
            right = load(here, mode, arguments.seconds)
            before, first = relayed(port), cpuOf(here.process.pid)
            mixed = load(here, f"{mode} --mixed 1", arguments.seconds)
            count, cpu = relayed(port) - before, cpuOf(here.process.pid) - first
            # The generator warms up first; it counts as it goes on.
            operations = cpu / mixed["cpuPerOp"] * 1e6
            costs.append((mixed["cpuPerOp"] - right["cpuPerOp"]) * operations / count)
            print(
                f"relay: {right['cpuPerOp']:.1f}, {mixed['cpuPerOp']:.1f} µs; {count:.0f}", file=sys.stderr, flush=True
            )
    said = subprocess.run([sys.executable, "moving.py"], cwd=BENCHMARKS, capture_output=True, text=True, timeout=120)
    if said.returncode or not said.stdout:
        raise BenchmarkError(f"moving.py failed: {said.stderr}")
    return {"move": float(said.stdout), "relay": statistics.median(costs)}


PARTS = {"passing": passing, "throughput": throughput, "cost": cost, "evenness": evenness, "end": end}


def table(first: str, names: Sequence[str], rows: Mapping[str, Numbers], base: str, form: str) -> str:
    """Return a table of values, each with its ratio to that of a server."""

    def cell(values: Numbers, name: str) -> str:
        return f"{values[name]:{form}} ({values[name] / values[base]:.2f})" if name in values else ""

    lines = [f"| {first} | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    lines += [f"| {each} | {' | '.join(cell(values, name) for name in names)} |" for each, values in rows.items()]
    return "\n".join(lines)


def tables(results: Mapping[str, Numbers]) -> str:
    """Return the results for people, as Markdown."""
    parts: list[str] = []
    if "throughput" in results:
        names = ["one process", "1 worker", "2 workers", "4 workers"]
        parts.append(f"Messages in a second; the application works {WORK} µs on each. In brackets: times one worker.")
        parts.append(table("mode", names, results["throughput"], "1 worker", ".0f"))
    if "cost" in results:
        names = ["one process", "1 worker", "2 workers"]
        parts.append("CPU of all processes for each operation, in µs. In brackets: times one process.")
        parts.append(table("mode", names, results["cost"], "one process", ".1f"))
    if "passing" in results:
        move, relay = results["passing"]["move"], results["passing"]["relay"]
        parts.append(
            f"CPU of all processes beyond that of a request at the right worker: {move:.0f} µs for a connection that "
            f"moves, once; {relay:.0f} µs for a request that is relayed, each time."
        )
    if "evenness" in results:
        parts.append("400 sessions over four workers: how far the worker farthest off the mean is from it.")
        lines = [f"| {name} | {value:.1%} |" for name, value in results["evenness"].items()]
        parts.append("\n".join(["| handshakes come | off by |", "| --- | ---: |", *lines]))
    if "end" in results:
        refused, back = results["end"]["refused after, ms"], results["end"]["back after, ms"]
        parts.append(
            f"After SIGKILL of one of two workers its sessions were refused with 400 after {refused:.0f} ms, and a "
            f"worker was back after {back:.0f} ms."
        )
    return "\n\n".join(parts)


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], help="by default all")
    parser.add_argument("--reps", type=int, default=3, help="repetitions")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--out", type=Path, help="the folder of the page")
    arguments = parser.parse_args(given)
    raiseFileLimit()
    results = {name: PARTS[name](arguments) for name in arguments.parts or PARTS}
    print(tables(results))
    if arguments.out is not None:
        settings = {"work": WORK, "reps": arguments.reps, "seconds": arguments.seconds}
        report = {"machine": machine.describe(ENGINEIO), "settings": settings, **results}
        numbers = json.dumps(report, indent=1) + "\n"
        (arguments.out / "performance-workers.json").write_text(numbers, encoding="utf-8")
        if "throughput" in results:
            from harness.plots import workersPlot

            workersPlot(results["throughput"], arguments.out / "performance-workers.svg")
        document.rewrite(arguments.out / PAGE, {"workers": tables(results)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
