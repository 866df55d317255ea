"""What runs beside the driver: servers and the load generator, each on a core of its own."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BENCHMARKS = Path(__file__).parents[1]
ROOT = BENCHMARKS.parent
BUILD = BENCHMARKS / ".build"

READY_WITHIN = 30
"""Seconds that a server may take to start."""

SPARE = 150
"""Seconds that the generator may need beside its measured time; it ends by itself much earlier when nothing moves."""


class BenchmarkError(Exception):
    """A measurement that came to nothing, and why."""


# Cores


def cores() -> tuple[int, int] | None:
    """Return the cores of the server and of the generator; None where processes can't be bound to cores."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    # The first core is the one that most often serves interrupts too.
    return (allowed[-1], allowed[0]) if len(allowed) > 1 else None


@contextmanager
def bound(isServer: bool) -> Iterator[None]:
    """Have what is started in this context, and this process meanwhile, run on the core of a server or the other."""
    chosen = cores()
    if chosen is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {chosen[0] if isServer else chosen[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raiseFileLimit() -> None:
    """Allow as many open files as may be, for what is started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# Servers


@dataclass(frozen=True)
class Server:
    """
    A server that can be measured.

    @ivar command: what starts it; `{port}` and `{interval}`, in milliseconds, are filled in.
    @ivar peers: which packages have to be installed first: `python`, `node` or none.
    @ivar cannot: what it is known not to do, or not in a bearable time, which isn't asked of it: how arguments of the
        generator begin.
    @ivar isSocketIO: whether it speaks Socket.IO, and not Engine.IO alone.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    folder: Path = BENCHMARKS
    peers: str = ""
    cannot: tuple[str, ...] = ()
    isSocketIO: bool = False

    def can(self, arguments: Sequence[str]) -> bool:
        """Return whether it may be asked for what the arguments of the generator say."""
        return not any(" ".join(arguments).startswith(each) for each in self.cannot)

    def start(self, port: int, interval: int = 25_000, **streams: Any) -> subprocess.Popen[bytes]:
        """
        Start it.

        @param interval: milliseconds between heartbeats.
        @param streams: stdin, stdout and stderr.
        """
        command = [each.format(port=port, interval=interval) for each in self.command]
        environment = {**os.environ, "PING_INTERVAL": str(interval), **(self.environment or {})}
        try:
            return subprocess.Popen(command, cwd=self.folder, env=environment, **streams)  # noqa: S603
        except OSError as error:
            raise BenchmarkError(f"{self.name} can't be started: {error}") from None


@dataclass(frozen=True)
class Running:
    """A server that runs, and where."""

    process: subprocess.Popen[bytes]
    port: int
    complaints: IO[bytes]

    def lastWords(self) -> str:
        """What it has written to stderr, the end of it."""
        self.complaints.seek(0)
        return self.complaints.read().decode(errors="replace")[-2000:].strip()


def cpuSeconds(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    # The clock of another process, as clock_getcpuclockid(3) has it.
    return time.clock_gettime(~pid << 3 | 2)


def residentKiB(pid: int) -> int:
    """Return the KiB of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def freePort() -> int:
    """Return a port of loopback that nobody has."""
    # Not one of those that the system gives to connections: until the server listens, one of these could take it.
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchmarkError("no port is free")


@contextmanager
def running(
    server: Server, interval: int = 25_000, *, isBound: bool = True, isMeasured: bool = True
) -> Iterator[Running]:
    """
    Start a server, and wait until it listens. It doesn't outlive the context.

    @param interval: milliseconds between heartbeats.
    @param isBound: whether it has a core of its own; if not, it has all.
    @param isMeasured: whether that is the core of what is measured.
    """
    port = freePort()
    with tempfile.TemporaryFile() as complaints:
        with bound(isMeasured) if isBound else nullcontext():
            process = server.start(port, interval, stdout=subprocess.DEVNULL, stderr=complaints)
        here = Running(process, port, complaints)
        try:
            _waitFor(server.name, here)
            yield here
        finally:
            process.kill()
            process.wait()


def _waitFor(name: str, here: Running) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        if here.process.poll() is not None:
            raise BenchmarkError(f"{name} ended by itself: {here.lastWords()}")
        try:
            socket.create_connection(("127.0.0.1", here.port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{name} doesn't listen: {here.lastWords()}") from None
            time.sleep(0.02)
        else:
            return


# The generator


def findCompiler() -> str:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("a C compiler is needed: gcc, and the headers of the C library")
    return compiler


def buildGenerator() -> Path:
    """Compile the load generator, unless that was done since it was changed last."""
    source, program = BENCHMARKS / "load.c", BUILD / "load"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    BUILD.mkdir(exist_ok=True)
    # Two runs at a time, or one that is broken off, leave no half a program.
    new = BUILD / f"load-{os.getpid()}"
    flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
    result = subprocess.run(  # noqa: S603
        [findCompiler(), *flags, "-o", str(new), str(source)], capture_output=True, text=True, timeout=120
    )
    if result.returncode != 0:
        raise BenchmarkError(f"load.c can't be compiled: {result.stderr}")
    new.replace(program)
    return program


def generate(here: Running, arguments: Sequence[str], *, within: float, isBound: bool = True) -> dict[str, Any]:
    """
    Have the generator load a server, and return what it measured.

    @param arguments: the mode and its options.
    @param within: seconds that it measures, as far as the arguments say it.
    @param isBound: whether it has a core of its own; if not, it has all.
    @raise BenchmarkError: the server did something wrong, or nothing.
    """
    command = [str(buildGenerator()), *arguments, "--port", str(here.port), "--pid", str(here.process.pid)]
    with bound(isServer=False) if isBound else nullcontext():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    with process:
        try:
            printed, _ = process.communicate(timeout=within + SPARE)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"the generator took more than {within + SPARE:.0f} s") from None
        finally:
            process.kill()
    try:
        measured: dict[str, Any] = json.loads(printed)
    except ValueError:
        raise BenchmarkError(f"the generator ended with {process.returncode}: {printed!r}") from None
    if "error" in measured:
        said = here.lastWords()
        raise BenchmarkError(measured["error"] + (f"; the server said: {said}" if said else ""))
    return measured
