"""Several processes as one server, seen from outside: which process has a connection, and what the command logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .services import DEADLINE, Service, Talk, isAlive, services, waitUntil
from .wire import http, makeFrame, target, upgrade

READY = r"Worker (\d+) \(slot (\d+), process (\d+)\) is ready"

APPLICATION = '''
"""Sends messages back; those that begin with ! are for the worker: a JSON array of a name and arguments."""

import json


def application(server):
    reasons = {}

    @server.on("connection")
    def connected(socket):
        socket.on("close", lambda reason, *_: reasons.__setitem__(socket.id, reason))

        @socket.on("message")
        def received(data):
            if isinstance(data, str) and data.startswith("!"):
                name, *arguments = json.loads(data[1:])
                COMMANDS[name](socket, *arguments)
            else:
                socket.send(data)

    def answer(socket, value):
        socket.send("=" + json.dumps(value))

    def say(socket, *texts):
        for text in texts:
            socket.send(text)

    def broadcast(socket, text, count):
        for number in range(count):
            server.broadcast(f"{text}{number}")

    COMMANDS = {
        "say": say,
        "close": lambda socket: socket.close() and None,
        "isPolled": lambda socket, sid: answer(socket, server.clients[sid].transport.writable),
        "why": lambda socket, sid: answer(socket, reasons.get(sid)),
        "count": lambda socket: answer(socket, server.clientsCount),
        "broadcast": broadcast,
        "sendTo": lambda socket, sid, text: server.sendTo(sid, text).addCallback(lambda sent: answer(socket, sent)),
        "closeSession": lambda socket, sid: server.closeSession(sid).addCallback(lambda done: answer(socket, done)),
    }
'''


def descriptorsOf(pid: int) -> list[str]:
    """What the descriptors of a process are."""
    found = []
    for each in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{each}"))
    return found


class Running:
    """The command with workers, whose log is read as it comes."""

    def __init__(self, service: Service, count: int) -> None:
        self.service = service
        self.pid = service.process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.waitFor(READY, count)

    def _read(self) -> None:
        assert self.service.process.stdout is not None
        for line in self.service.process.stdout:
            self.service.said += line

    @property
    def said(self) -> str:
        return self.service.said

    def waitFor(self, pattern: str, count: int = 1) -> None:
        """Wait until the log has so many lines of a kind."""
        waitUntil(
            lambda: len(re.findall(pattern, self.said)) >= count or self.service.process.poll() is not None,
            f"{count} of {pattern}",
        )
        if self.service.process.poll() is not None:
            self._reader.join(DEADLINE)
        assert len(re.findall(pattern, self.said)) >= count, self.said

    @property
    def workers(self) -> dict[int, int]:
        """The process ids of all workers that have ever been ready, by number."""
        return {int(number): int(pid) for number, _, pid in re.findall(READY, self.said)}

    def ended(self) -> int:
        """Wait until the command and all its workers have ended, and return its exit status."""
        status = self.service.process.wait(DEADLINE)
        workers = self.workers.values()
        waitUntil(lambda: not any(map(isAlive, workers)), "the end of all workers")
        self._reader.join(DEADLINE)
        return status


class Fleet(Running):
    """
    Workers of L{APPLICATION} with a plain port and, if there is a certificate, one for TLS.

    @ivar isSecure: whether clients connect by TLS, so that their requests are relayed.
    """

    def __init__(self, service: Service, count: int) -> None:
        super().__init__(service, count)
        self.isSecure = False
        self.ports = {scheme: int(port) for scheme, port in re.findall(r"served at (https?)://[^:]+:(\d+)", self.said)}
        self._talks: list[Talk] = []
        self._sids: list[str] = []
        self._tellers: dict[int, tuple[Talk, str]] = {}

    @property
    def alive(self) -> dict[int, int]:
        """The process ids of the workers, by number."""
        return {number: pid for number, pid in self.workers.items() if isAlive(pid)}

    @property
    def url(self) -> str:
        """Where clients connect."""
        scheme = "https" if self.isSecure else "http"
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def numberOf(self, talk: Talk) -> int | None:
        """Return the number of the worker that has a connection; None if no worker has accepted it."""
        (_, port), (_, own) = talk.connection.getpeername(), talk.connection.getsockname()
        ends = f":{port:04X} 0100007F:{own:04X} "
        for line in Path("/proc/net/tcp").read_text().splitlines():
            if ends in line:
                inode = f"socket:[{line.split()[9]}]"
                return next((number for number, pid in self.alive.items() if inode in descriptorsOf(pid)), None)
        return None

    def connect(self, worker: int | None = None, stopped: Sequence[int] = ()) -> Talk:
        """
        Open a connection, to any worker or to the one with a number.

        @param stopped: the numbers of workers that stand still, and are to.
        """
        port = self.ports["https" if self.isSecure else "http"]
        others = (
            [] if worker is None else [pid for number, pid in self.alive.items() if number not in (worker, *stopped)]
        )
        # The others accept nothing meanwhile.
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
            waitUntil(lambda pid=pid: isStopped(pid), "a stopped process")
        try:
            talk = Talk(socket.create_connection(("127.0.0.1", port), DEADLINE))
            self._talks.append(talk)
            if worker is not None:
                waitUntil(lambda: self.numberOf(talk), "a worker that accepts")
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)
        assert worker is None or self.numberOf(talk) == worker
        if self.isSecure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            talk.connection = context.wrap_socket(talk.connection)
        return talk

    def open(self, worker: int) -> str:
        """Open a session at a worker, on a connection that is not used again; return its id."""
        talk = self.connect(worker)
        sid = talk.open()
        self._sids.append(sid)
        self.close(talk)
        # It is passed on if others have fewer sessions.
        assert sid.startswith(f"{worker}-"), sid
        return sid

    def close(self, talk: Talk) -> None:
        """Close a connection."""
        self._talks.remove(talk)
        talk.connection.close()

    def tell(self, worker: int, *command: Any) -> Any:
        """Give a worker a command, and return its answer."""
        if worker not in self._tellers:
            talk = self.connect(worker)
            self._tellers[worker] = (talk, talk.open())
            assert self._tellers[worker][1].startswith(f"{worker}-")
        talk, sid = self._tellers[worker]
        assert post(talk, sid, "4!" + json.dumps(command)) == (200, b"ok")
        while True:
            for packet in talk.ask(get(sid)).decode().split("\x1e"):
                if packet.startswith("4="):
                    return json.loads(packet[2:])

    def whyClosed(self, sid: str) -> str:
        """Wait for the end of a session, and return its reason."""
        worker = int(sid.partition("-")[0])
        found: list[str] = []

        def isClosed() -> bool:
            found[:] = filter(None, [self.tell(worker, "why", sid)])
            return bool(found)

        waitUntil(isClosed, "the end of a session")
        return found[0]

    def forget(self, worker: int) -> None:
        """Have nothing to do any more with a worker that has died."""
        self._tellers.pop(worker, None)

    def rest(self) -> None:
        """Close all sessions, some of which may have ended, and all connections."""
        talk = self.connect()
        for sid in [*self._sids, *(sid for _, sid in self._tellers.values())]:
            post(talk, sid, "1")
        self._sids.clear()
        self._tellers.clear()
        for talk in list(self._talks):
            self.close(talk)


def isStopped(pid: int) -> bool:
    """Return whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def sidIn(body: bytes) -> str:
    """Return the id in the response to a handshake."""
    return body.decode().partition('"sid":"')[2].partition('"')[0]


def get(sid: str, **changes: Any) -> bytes:
    """A request for what waits."""
    return http("GET", target(sid=sid, **changes))


def postOf(sid: str, body: str | bytes, **changes: Any) -> bytes:
    """A request with packets."""
    return http("POST", target(sid=sid, **changes), body=body.encode() if isinstance(body, str) else body)


def post(talk: Talk, sid: str, body: str | bytes) -> tuple[int, bytes]:
    """Send packets, and return the status and the body of the response."""
    talk.connection.sendall(postOf(sid, body))
    return talk.response()


def poll(talk: Talk, sid: str) -> list[str]:
    """Ask for what waits, and return the packets."""
    return talk.ask(get(sid)).decode().split("\x1e")


def openWebSocket(talk: Talk, sid: str) -> None:
    """Upgrade a session on a connection, whose probe comes with the request."""
    talk.connection.sendall(upgrade(target(transport="websocket", sid=sid)) + makeFrame("2probe"))
    assert talk.response()[0] == 101
    assert talk.frame() == (1, b"3probe")


@contextmanager
def fleets(cwd: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Callable[..., Fleet]]:
    """A function that starts workers: C{start(3, "--ping-interval=1000")}; none outlives the context."""
    (cwd / "outside.py").write_text(APPLICATION)
    with services(cwd) as start:

        def run(count: int, *arguments: str, app: str = "outside:application") -> Fleet:
            listen = ["--listen=tcp:0:interface=127.0.0.1"]
            if certificate is not None:
                key, chain = certificate
                listen.append(f"--listen=tls-files:tcp:0:interface=127.0.0.1:key={key}:certificate={chain}")
            service = start(f"--workers={count}", f"--app={app}", *listen, *arguments, ports=len(listen))
            return Fleet(service, count)

        yield run
