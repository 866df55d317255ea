"""
Soak workers that are killed, hang, stand still and are replaced: what becomes of the sessions of the others?

Two servers, one of Engine.IO and one of Socket.IO, each with clients of its own. At random moments something happens to
one of their workers; at the end everything has to be as it was.

In the environment: SOAK_SECONDS, SOAK_RATE (new sessions a second, of each server), SOAK_SEED, SOAK_WORKERS.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..kit.services import isAlive
from .plan import PING_INTERVAL, PING_TIMEOUT

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
RATE = float(os.environ.get("SOAK_RATE", "25"))
SEED = int(os.environ.get("SOAK_SEED", "5"))
WORKERS = int(os.environ.get("SOAK_WORKERS", "3"))

WARM_SECONDS = min(10.0, SECONDS / 4)
"""Seconds of the same before anything is measured."""
HANG_TIMEOUT = 8.0
"""Seconds after which a worker that stands still is killed."""
DRAIN_TIMEOUT = 3.0
SETTLING = 100.0
"""Seconds until everything is as it was: links between workers stay for 60 s without a request."""
DEADLINE = 90.0
"""Seconds for anything else that is waited for."""
LATE = 2.0
"""Seconds within which clients and this program notice the end of a worker."""
MADE_ONCE = 8
"""
How many objects more there may be of a type of ours: what a worker makes when it is needed first, such as the queues of
its deadlines. Whatever belongs to a session or a connection comes by the thousand.
"""
FRAGMENTS = 64 * 1024
"""KiB of resident memory that there may be more."""

EVENTS = {
    # What happens to a worker, and how often.
    "kill": 30,
    "kill during a reload": 10,
    "stop, then kill": 10,
    "hang": 15,
    "stall": 15,
    "reload": 20,
}

READY = re.compile(r"Worker (\d+) \(slot (\d+), process (\d+)\) is ready")
ENDED = re.compile(r"Worker (\d+) \(slot \d+, process \d+\) has ended with (\S+(?: \d+)?)")
KILLED = re.compile(r"Worker (\d+) \(slot \d+, process \d+\) is killed: (.*)")

Measured = dict[str, Any]


class Problems(list[str]):
    """What is wrong."""

    def check(self, isRight: object, text: str) -> None:
        if not isRight:
            self.append(text)


def descriptorsOf(pid: int) -> Counter[str]:
    """The descriptors of a process, by their kind."""
    found: Counter[str] = Counter()
    for each in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[re.sub(r":\[\d+\]", "", os.readlink(f"/proc/{pid}/fd/{each}"))] += 1
        except FileNotFoundError:
            # That of the folder, or closed meanwhile.
            continue
    return found


def memoryOf(pid: int) -> int:
    """The resident memory of a process, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


class Served:
    """
    A server with workers, its clients, and what happens to it.

    @ivar deaths: by number, when a worker was killed or found dead at the earliest, and when this was known.
    @ivar retired: the numbers of workers that have ended by a reload.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.dice = random.Random(f"{SEED} {kind}")
        self.problems = Problems()
        self.happened: Counter[str] = Counter()
        self.lines: list[str] = []
        self.ready: dict[int, int] = {}
        self.deaths: dict[int, list[float]] = {}
        self.retired: set[int] = set()
        self.reloads = 0
        self.isStopping = False
        app, path = ("withSocketIO", "/socket.io") if kind == "socketio" else ("plain", "/engine.io")
        settings = {
            "app": f"tests.soak.worker:{app}",
            "path": path,
            "listen": ["tcp:0:interface=127.0.0.1:backlog=1000"],
            "workers": WORKERS,
            "workersHangTimeout": int(HANG_TIMEOUT * 1000),
            "drainTimeout": int(DRAIN_TIMEOUT * 1000),
            "pingInterval": int(PING_INTERVAL * 1000),
            "pingTimeout": int(PING_TIMEOUT * 1000),
            "allowEIO3": True,
        }
        (folder / "server.toml").write_text(
            "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        )
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "engineio", "--config=server.toml"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.wait(lambda: len(self.alive) == WORKERS, "all workers")
        self.port = int(next(re.finditer(r"served at http://[^:]+:(\d+)", "\n".join(self.lines)))[1])

    # What it says

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            now = time.monotonic()
            self.lines.append(line.rstrip("\n"))
            if found := READY.search(line):
                self.ready[int(found[1])] = int(found[3])
            elif found := KILLED.search(line):
                self.deaths.setdefault(int(found[1]), [now - LATE])
            elif found := ENDED.search(line):
                number = int(found[1])
                if found[2] == "status 0":
                    self.retired.add(number)
                else:
                    self.deaths.setdefault(number, [now - LATE]).append(now)
                self.ready.pop(number, None)
            elif "SOAK: " in line:
                self.problems.append(line.strip())
            elif "Reloaded: " in line:
                self.reloads += 1
            elif (
                re.search(r"Traceback|Not reloaded|could not be|ABORT|rror:", line) and "Fatal Python error" not in line
            ):
                self.problems.append(f"logged: {line.strip()}")

    @property
    def alive(self) -> dict[int, int]:
        """The process ids of the workers that serve, by number."""
        return dict(self.ready)

    def wait(self, condition: Any, what: str, seconds: float = DEADLINE) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or (self.process.poll() is not None and not self.isStopping):
                self.problems.append(f"waited in vain for {what}")
                return False
            time.sleep(0.02)
        return True

    # Clients

    def load(self, first: int, seconds: float) -> subprocess.Popen[str]:
        arguments = [self.kind, self.port, SEED, first, seconds, RATE]
        command = [sys.executable, "-m", "tests.soak.worker_load", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    # What happens to it

    def _die(self, number: int, pid: int, signalNumber: int) -> None:
        self.deaths[number] = [time.monotonic()]
        os.kill(pid, signalNumber)

    def disturb(self) -> None:
        """Let something happen, and wait until all workers are there again."""
        what = self.dice.choices(list(EVENTS), list(EVENTS.values()))[0]
        number = self.dice.choice(sorted(self.ready))
        pid, before = self.ready[number], self.reloads
        self.happened[what] += 1
        if "reload" in what:
            self.process.send_signal(signal.SIGHUP)
            if what == "kill during a reload":
                time.sleep(self.dice.uniform(0, 3))
                number = self.dice.choice(sorted(self.ready))
                self._die(number, self.ready[number], signal.SIGKILL)
            self.wait(lambda: self.reloads > before, "a reload")
        elif what == "kill":
            self._die(number, pid, signal.SIGKILL)
        elif what == "hang":
            os.kill(pid, signal.SIGSTOP)
        else:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.dice.uniform(0, HANG_TIMEOUT / 5))
            if what == "stall":
                os.kill(pid, signal.SIGCONT)
            else:
                self._die(number, pid, signal.SIGKILL)
        if what not in ("stall", "reload"):
            self.wait(lambda: number not in self.ready, f"the end of worker {number}")
        self.wait(lambda: len(self.ready) == WORKERS, f"all workers after: {what}")

    def disturbUntil(self, load: subprocess.Popen[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and load.poll() is None:
            time.sleep(self.dice.uniform(0, 3))
            try:
                self.disturb()
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}")

    # What there is

    def measure(self) -> Measured:
        """Return what the parent and the workers have, each by its process id."""
        found: Measured = {"parent": {"descriptors": descriptorsOf(self.process.pid)}}
        found["parent"]["memory"] = memoryOf(self.process.pid)
        for number, pid in self.alive.items():
            path = self.folder / f"measured.{pid}"
            path.unlink(missing_ok=True)
            os.kill(pid, signal.SIGUSR2)
            if self.wait(path.exists, f"what is in worker {number}"):
                found[str(number)] = {**json.loads(path.read_text()), "descriptors": descriptorsOf(pid)}
        return found

    def same(self, measured: Measured, reference: Measured) -> list[str]:
        """Return what there is more than at the beginning."""
        wrong: list[str] = []
        for name, each in measured.items():
            was = reference["parent" if name == "parent" else next(each for each in reference if each != "parent")]
            for key in ("clients", "webSockets", "timers", "readers"):
                if key in each and each[key] > was[key]:
                    wrong.append(f"{self.kind} {name}: {key}: {was[key]}, then {each[key]}")
            if each["descriptors"] != was["descriptors"]:
                more, less = each["descriptors"] - was["descriptors"], was["descriptors"] - each["descriptors"]
                wrong.append(f"{self.kind} {name}: descriptors: {dict(more)} more, {dict(less)} fewer")
            wrong += [
                f"{self.kind} {name}: objects of {kind}: {was['objects'].get(kind, 0)}, then {count}"
                for kind, count in each.get("objects", {}).items()
                if count > was["objects"].get(kind, 0) + MADE_ONCE
            ]
        return wrong

    def settled(self, reference: Measured) -> Measured:
        """Wait until there is no more than at the beginning, and return what there is."""
        deadline = time.monotonic() + SETTLING
        while True:
            measured = self.measure()
            if not self.same(measured, reference) or time.monotonic() > deadline:
                return measured
            time.sleep(2)

    # The end

    def judge(self, load: Measured) -> None:
        """Judge what the clients have met: which of it is due to which worker's death."""
        for each in load["problems"]:
            self.problems.append(each)
        late = LATE + load["longest"]
        windows = [(times[0], times[-1] + late) for times in self.deaths.values()]
        for at, serial, owner, what in load["losses"]:
            isDue = any(begin <= at <= end for begin, end in windows)
            self.problems.check(isDue, f"session {serial} of {owner}: {what}, when no worker died")
        for _, serial, owner, what in load["broken"]:
            isUnknown = what.startswith("GoneError: ") and "closed 1" not in what
            if owner in self.deaths:
                isDue = isUnknown or what.endswith(("was lost", "messages came")) or "closed 1001" in what
            elif owner in self.retired:
                isDue = isUnknown or what.endswith("messages came") or "closed 1001" in what
            else:
                isDue = False
            self.problems.check(isDue, f"session {serial} of {owner}: {what}")

    def stop(self) -> None:
        """Stop it, and look for what is left of it."""
        pids = [int(each) for each in re.findall(r"\(slot \d+, process (\d+)\)", "\n".join(self.lines))]
        self.isStopping = True
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(DEADLINE)
            self.problems.check(status == -signal.SIGTERM, f"the parent ended with {status}")
        except subprocess.TimeoutExpired:
            self.problems.append("the parent doesn't end")
            self.process.kill()
        self.wait(lambda: not any(map(isAlive, pids)), "the end of all workers")
        self.reader.join(DEADLINE)
        with socket.socket() as taking:
            taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taking.bind(("127.0.0.1", self.port))
                taking.listen()
            except OSError as error:
                self.problems.append(f"the port isn't free: {error}")


def kinds(incidents: list[Any]) -> Counter[str]:
    """Count by what was met."""
    return Counter(re.sub(r"\d+ of \d+", "some of all", each[3]) for each in incidents)


def soak(kind: str, folder: Path, report: dict[str, Any]) -> None:
    """Soak one server, and put into the report what came of it."""
    served = Served(kind, folder)
    report["served"] = served
    try:
        reference = served.measure()
        warm = json.loads(served.load(0, WARM_SECONDS).communicate()[0])
        load = served.load(warm["sessions"], SECONDS)
        served.disturbUntil(load, SECONDS)
        report["load"] = json.loads(load.communicate()[0])
        served.wait(lambda: len(served.ready) == WORKERS, "all workers in the end")
        after = served.settled(reference)
        report["before"], report["after"] = reference, after
        served.problems += served.same(after, reference)
        for name, each in after.items():
            was = reference["parent" if name == "parent" else "1"]["memory"]
            served.problems.check(each["memory"] <= was + FRAGMENTS, f"{kind} {name}: {was} KiB, then {each['memory']}")
        served.judge(warm)
        served.judge(report["load"])
    except Exception as error:
        served.problems.append(f"{type(error).__name__}: {error}")
    finally:
        served.stop()


def main() -> int:
    """Soak, print what came of it, and return the status to exit with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reports: dict[str, dict[str, Any]] = {"plain": {}, "socketio": {}}
    with ExitStack() as stack:
        threads = []
        for kind, report in reports.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            threads.append(threading.Thread(target=soak, args=(kind, folder, report)))
            threads[-1].start()
        for each in threads:
            each.join()
    problems: list[str] = []
    for kind, report in reports.items():
        served = report["served"]
        problems += served.problems
        load = report.get("load", {})
        rows = [(f"{name} of {kind}", load.get(name)) for name in ROWS]
        rows += sorted((f"  {name}", count) for name, count in served.happened.items())
        rows += [("  workers that died", len(served.deaths)), ("  workers that were replaced", len(served.retired))]
        rows += sorted((f"  repeated: {name}", count) for name, count in kinds(load.get("losses", [])).items())
        rows += sorted((f"  ended by it: {name}", count) for name, count in kinds(load.get("broken", [])).items())
        for when in ("before", "after"):
            for name, each in report.get(when, {}).items():
                rows.append((f"  {when}, {name}", f"{each['descriptors'].total()} descriptors, {each['memory']} KiB"))
        for name, value in rows:
            print(f"{name:60} {value}")
        if served.problems and (log := os.environ.get("SOAK_LOG")):
            Path(f"{log}.{kind}").write_text("\n".join(served.lines))
    for problem in problems[:100]:
        print("PROBLEM:", problem)
    print("nothing left, nothing lost" if not problems else f"{len(problems)} problems")
    return int(bool(problems))


ROWS = ("sessions", "seconds", "mostLive", "upgraded", "sent", "received", "pings", "ticks", "foreignTicks", "longest")


if __name__ == "__main__":
    sys.exit(main())
