"""
Start the server and the clients of the soak, measure before and after, and judge. See the package.

In the environment: SOAK_SECONDS, SOAK_RATE (new sessions a second), SOAK_SEED.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from .plan import COMPLETE, PING_TIMEOUT

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
RATE = float(os.environ.get("SOAK_RATE", "300"))
SEED = int(os.environ.get("SOAK_SEED", "5"))

WARM_SECONDS = min(20.0, SECONDS / 3)
"""Seconds of the same before anything is measured: what is made once, such as caches and tables, is there then."""
SETTLING = 90.0
"""Seconds until the last timer has to be gone: an unfinished request is given up by twisted.web after 60."""

CACHED = 20
"""
How many objects more there may be of a type that is Python's: its caches (of formats, of classes by ABCs) still grow.

What belongs to a session or a connection is reached from an object of ours or of a library, and there may be none more.
"""
CACHED_BLOCKS = 1000
"""And how many blocks of memory, which count what is no object of the collector's, such as bytes; of some 230 000."""
FRAGMENTS = 64 * 1024
"""
KiB of resident memory that there may be more. The system isn't given back a page as long as one block in it is used,
so it is what the busiest moment took, however long ago, and says less than the number of blocks.
"""

Measured = dict[str, Any]


class Program:
    """One of the two, which prints JSON."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> Measured:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")
        read: Measured = json.loads(line)
        return read

    def ask(self) -> Measured:
        assert self.process.stdin is not None
        self.process.stdin.write("measure\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> int:
        """Close its stdin, at which it goes; by force, if it doesn't."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


SUMS = ("sessions", "opened", "upgraded", "mostLive", "pings", "sent", "received", "problemCount")


def run(port: int, first: int, seconds: float) -> Measured:
    """Run the clients of both kinds, and return what came of them together."""
    loads = [Program("-m", f"tests.soak.{each}", port, SEED, first, seconds, RATE) for each in ("load", "clients")]
    try:
        one, other = (each.read() for each in loads)
    finally:
        for each in loads:
            each.end()
    return {
        **one,
        **{name: one[name] + other[name] for name in (*SUMS, "problems")},
        "ends": Counter(one["ends"]) + Counter(other["ends"]),
        "ways": one["ways"] | other["ways"],
        "longest": max(one["longest"], other["longest"]),
    }


COUNTS = (
    *("clients", "webSockets", "sockets", "rooms", "acks", "attachments", "waitingSessions"),
    *("timers", "readers", "descriptors"),
)


def settled(server: Program, idle: Measured) -> Measured:
    """Wait until there is no more than when nobody had come, and return what there is; or after L{SETTLING}."""
    deadline = time.monotonic() + SETTLING
    while True:
        measured = server.ask()
        if all(measured[name] <= idle[name] for name in COUNTS) or time.monotonic() > deadline:
            return measured
        time.sleep(0.5)


def judge(before: Measured, after: Measured, loads: list[Measured]) -> list[str]:
    """Return what is wrong."""
    problems = [f"{each['problemCount']} problems of clients: {each['problems']}" for each in loads if each["problems"]]
    totals = after["totals"]
    if totals["problems"]:
        problems.append(f"{totals['problemCount']} problems of the server: {totals['problems']}")
    problems += [f"{name}: {before[name]}, then {after[name]}" for name in COUNTS if before[name] != after[name]]
    old, new = before["objects"], after["objects"]
    isOurs = re.compile(r"(engineio_twisted|twisted|autobahn|zope|tests|__main__)\b").match
    problems += [
        f"objects of {name}: {old.get(name, 0)}, then {count}"
        for name, count in new.items()
        if count > old.get(name, 0) + (0 if isOurs(name) else CACHED)
    ]
    if after["blocks"] > before["blocks"] + CACHED_BLOCKS:
        problems.append(f"blocks of memory: {before['blocks']}, then {after['blocks']}")
    if after["memory"] > before["memory"] + FRAGMENTS:
        problems.append(f"memory: {before['memory']} KiB, then {after['memory']}")
    for end in COMPLETE:
        served = sum(count for name, count in totals["ends"].items() if name.startswith(f"{end}: "))
        met = sum(each["ends"].get(end, 0) for each in loads)
        if served != met:
            problems.append(f"{met} sessions were to end by {end!r}, and {served} did")
    return problems


def main(*server: str) -> int:
    """
    Soak, print what came of it, and return the status to exit with.

    @param server: the arguments of Python that start the server.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    program = Program(*server)
    try:
        port = program.read()["port"]
        idle = program.ask()
        warm = run(port, 0, WARM_SECONDS)
        before = settled(program, idle)
        print(f"warm: {warm['sessions']} sessions; {before['memory']} KiB", flush=True)
        load = run(port, warm["next"], SECONDS)
        after = settled(program, idle)
    finally:
        status = program.end()
    totals = after["totals"]
    rows = [
        ("sessions", load["sessions"]),
        ("a second", round(load["sessions"] / load["seconds"])),
        ("at the same time", load["mostLive"]),
        ("upgraded", load["upgraded"]),
        ("messages that clients sent", load["sent"]),
        ("messages that clients received", load["received"]),
        ("pings answered", load["pings"]),
        ("longest turn of the clients (s)", f"{load['longest']:.1f}"),
        *sorted((f"  {name}", count) for name, count in load["ways"].items()),
        ("all that the server saw", f"{totals['opened']} sessions, {totals['received']} messages"),
        *sorted((f"  {name}", count) for name, count in totals["ends"].items()),
        *((name, f"{before[name]} before, {after[name]} after") for name in COUNTS),
        ("objects", f"{sum(before['objects'].values())} before, {sum(after['objects'].values())} after"),
        ("blocks", f"{before['blocks']} before, {after['blocks']} after"),
        ("memory (KiB)", f"{before['memory']} before, {after['memory']} after"),
    ]
    for name, value in rows:
        print(f"{name:50} {value}")
    problems = judge(before, after, [warm, load])
    if status:
        problems.append(f"the server ended with {status}")
    for problem in problems:
        print("PROBLEM:", problem)
    stood = max(warm["longest"], load["longest"])
    if problems and stood > PING_TIMEOUT / 2:
        print(f"Once the clients were not run for {stood:.0f} s: sessions may have ended because of that. Soak again.")
    print("nothing left, nothing lost" if not problems else f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main("-m", "tests.soak.server"))
