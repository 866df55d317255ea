"""The server as the process that an operator starts: by twistd or twist, in the foreground or not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engineio_twisted.testing.requests import takeBody, takeHead

from .wire import http, takeFrame, target

STARTED = " is served at "
DEADLINE = 60.0


def command(name: str) -> str:
    """The path of a command that is installed with the package's Python."""
    return str(Path(sys.executable).with_name(name))


def environment() -> dict[str, str]:
    # Coverage is measured in this process; a subprocess of it needs no more than the package.
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def waitUntil(condition: Callable[[], object], what: str) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}"
        time.sleep(0.01)


def isAlive(pid: int) -> bool:
    """
    Return whether there is such a process, and it hasn't ended.

    Each of its threads has to be a zombie: a process whose first thread is one keeps its descriptors, and listens,
    until the system has ended the others.
    """
    for thread in _threadsOf(pid):
        with suppress(OSError):
            if thread.joinpath("stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def _threadsOf(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


class Service:
    """
    A process that serves, or has failed to.

    @ivar said: what it has said so far.
    """

    def __init__(self, arguments: Sequence[str | Path], cwd: Path, **keywords: Any) -> None:
        self.process = subprocess.Popen(
            [str(each) for each in arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            **keywords,
        )
        self.said = ""

    def started(self, ports: int = 1) -> Service:
        """Wait until it serves on so many ports, or has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if self.said.count(STARTED) == ports:
                return self
        self.process.wait(DEADLINE)
        return self

    def ended(self) -> int:
        """Wait until it has ended, and return its exit status."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        return self.process.wait(DEADLINE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def services(cwd: Path) -> Iterator[Any]:
    """A function that starts C{twistd -n engineio} with arguments, or another command; none outlives the context."""
    started: list[Service] = []

    def start(
        *arguments: str, by: Sequence[str | Path] = (command("twistd"), "-n"), ports: int = 1, **keywords: Any
    ) -> Service:
        service = Service([*by, "engineio", *arguments], cwd, **keywords)
        started.append(service)
        return service.started(ports)

    try:
        yield start
    finally:
        for each in started:
            each.kill()
            # Of a test that fails, pytest shows it.
            sys.stdout.write(
                f"{' '.join(map(str, each.process.args))} ended with {each.process.returncode}:\n{each.said}\n"
            )


class Talk:
    """One connection to a service, on which one thing happens after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(DEADLINE)
        self.received = bytearray()

    def _more(self) -> None:
        data = self.connection.recv(65536)
        assert data, f"closed behind {bytes(self.received)!r}"
        self.received += data

    def response(self) -> tuple[int, bytes]:
        """Read an answer, and return its status and its body."""
        while (head := takeHead(self.received)) is None:
            self._more()
        status, headers = head
        body: bytes | None = b""
        while status != 101 and (body := takeBody(status, headers, self.received)) is None:
            self._more()
        return status, body or b""

    def ask(self, request: bytes) -> bytes:
        """Send a request, and return the body of its answer, which has to be a good one."""
        self.connection.sendall(request)
        status, body = self.response()
        assert status == 200, (status, body)
        return body

    def open(self, path: str = "/engine.io/") -> str:
        """Open a session on polling, and return its id."""
        return self.ask(http("GET", target(path))).decode().partition('"sid":"')[2].partition('"')[0]

    def echo(self, text: str, sid: str | None = None) -> str:
        """Send a message that is echoed, on a session or a new one; return the session's id."""
        sid = sid or self.open()
        assert self.ask(http("POST", target(sid=sid), body=f"4{text}".encode())) == b"ok"
        assert self.ask(http("GET", target(sid=sid))).decode() == f"4{text}"
        return sid

    def frame(self) -> tuple[int, bytes]:
        """Read a frame, and return its opcode and what is in it."""
        while (frame := takeFrame(self.received)) is None:
            self._more()
        return frame.opcode, frame.payload


@contextmanager
def talking(where: int | str | Path) -> Iterator[Talk]:
    """Connect to a port of loopback, or to a UNIX socket."""
    if isinstance(where, int):
        connection = socket.create_connection(("127.0.0.1", where), DEADLINE)
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE)
        connection.connect(str(where))
    with connection:
        yield Talk(connection)
