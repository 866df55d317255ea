"""Processes that stand still, and systems whose clock is set, over real sockets: no session ends by that."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ..kit.clients import pythonPath
from ..kit.engines import TwistedEngine
from ..kit.services import waitUntil
from ..kit.wire import http, makeFrame, takeFrame, target, upgrade

pytestmark = pytest.mark.no_cover

PROGRAM = Path(__file__).parents[1] / "kit" / "standing_still.py"
DEADLINE = 60.0


class Program:
    """A server as a process; what it says is read line by line."""

    def __init__(self, reactor: str = "default", **options: Any) -> None:
        environment = os.environ | pythonPath()
        self.process: Any = subprocess.Popen(
            [sys.executable, str(PROGRAM), reactor, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self.said = b""
        self.port = int(self.line())

    def line(self) -> str:
        """Return the next line."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.said:
                assert selector.select(DEADLINE), "it says nothing"
                said = self.process.stdout.read(4096)
                assert said, "it has ended"
                self.said += said
        line, _, self.said = self.said.partition(b"\n")
        return line.decode()

    def until(self, line: str) -> list[str]:
        """Read until it says a line, and return what it said before."""
        before = []
        while (said := self.line()) != line:
            before.append(said)
        return before

    def tell(self, command: object) -> None:
        """Give it a command, and wait until that is done."""
        self.process.stdin.write(f"{command}\n".encode())
        self.until("done")

    def stop(self) -> None:
        """Have the process stand still."""
        self.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        waitUntil(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "a process that stands still")

    def goOn(self) -> None:
        """Have it go on."""
        self.process.send_signal(signal.SIGCONT)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Client:
    """A client that does nothing by itself."""

    def __init__(self, program: Program, name: str, protocol: int) -> None:
        self.program = program
        self.name = name
        self.protocol = protocol
        self.data = bytearray()
        self.connection = program.connect()
        where = {"EIO": protocol, "transport": name}
        self.connections = [self.connection]
        if name == "websocket":
            self.connection.sendall(upgrade(target(**where)))
            self.read(b"\r\n\r\n")
            packet = self.packet()
        else:
            self.connection.sendall(http("GET", target(**where)))
            packet = self.response().decode()
        self.sid = json.loads(packet[packet.index("{") : packet.rindex("}") + 1])["sid"]
        self.where = target(**where, sid=self.sid)

    def read(self, end: bytes) -> bytes:
        """Read up to some bytes."""
        while end not in self.data:
            self.more()
        taken, _, self.data = self.data.partition(end)
        return bytes(taken)

    def more(self) -> None:
        received = self.connection.recv(65536)
        assert received, "the server has closed the connection"
        self.data += received

    def response(self) -> bytes:
        head = self.read(b"\r\n\r\n").lower()
        length = int(head.partition(b"content-length:")[2].split()[0])
        while len(self.data) < length:
            self.more()
        body, self.data = self.data[:length], self.data[length:]
        assert b" 200 " in head.splitlines()[0], (head, body)
        return bytes(body)

    def packet(self) -> str:
        """Return the next packet that comes, on polling by a GET."""
        if self.name == "polling":
            self.connection.sendall(http("GET", self.where))
            return self.response().decode()
        while (frame := takeFrame(self.data)) is None:
            self.more()
        return frame.text

    def say(self, packet: str, anew: bool = False) -> None:
        """Say something; on polling by a POST, whose answer nobody reads, maybe on a connection of its own."""
        if self.name == "websocket":
            self.connection.sendall(makeFrame(packet))
            return
        if self.protocol == 3:
            packet = f"{len(packet)}:{packet}"
        if anew or len(self.connections) == 1:
            self.connections.append(self.program.connect())
        self.connections[-1].sendall(http("POST", self.where, body=packet.encode()))

    def close(self) -> None:
        for each in self.connections:
            each.close()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Programs that are ended after the test."""
    started: list[Program] = []
    yield started
    for each in started:
        each.goOn()
        each.end()


def start(programs: list[Program], reactor: str = "default", **options: Any) -> Program:
    times = {"pingInterval": 400, "pingTimeout": 900, "allowEIO3": True}
    programs.append(Program(reactor, **{**times, **options}))
    return programs[-1]


STOOD = 2.6
"""Seconds for which it stands still: longer than a client has for its heartbeat, in both revisions."""

ENGINES = ["autobahn", *(["twisted"] if TwistedEngine is not None else [])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "name", "anew", "options"),
    [
        *[(protocol, "websocket", False, {}) for protocol in (3, 4)],
        *[(protocol, "polling", anew, {}) for protocol in (3, 4) for anew in (False, True)],
        *[(4, "websocket", False, {"wsEngine": engine}) for engine in ENGINES[1:]],
        (4, "websocket", False, {"reactor": "asyncio"}),
        *[(4, "polling", True, {"reactor": reactor}) for reactor in ("asyncio", "poll", "select")],
    ],
)
def test_theProcessStandsStill(
    programs: list[Program], protocol: int, name: str, anew: bool, options: dict[str, Any]
) -> None:
    """What a client sent while the process stood still is read before its session would end by timeout."""
    program = start(programs, **options)
    client = Client(program, name, protocol)
    if protocol == 4:
        assert client.packet() == "2"
    program.stop()
    # Others come too, on polling in front of what keeps the session.
    others = [program.connect() for _ in range(40)]
    client.say("3" if protocol == 4 else "2", anew)
    time.sleep(STOOD)
    program.goOn()
    program.until("heartbeat")
    client.say("4alive")
    assert program.until("message 5") == []
    for each in others:
        each.close()
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_aHandlerBlocks(programs: list[Program], name: str) -> None:
    """The same comes of a handler that takes its time."""
    program = start(programs)
    client = Client(program, name, 4)
    other = Client(program, "websocket", 4)
    assert (client.packet(), other.packet()) == ("2", "2")
    other.say(f"4sleep {STOOD}")
    other.say("3")
    client.say("3", anew=True)
    said = [*program.until("heartbeat"), *program.until("heartbeat")]
    assert said == ["sleeping"]
    client.say("4alive")
    assert program.until("message 5") == []
    client.close()
    other.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polling", "websocket"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_aClientThatHasGone(programs: list[Program], name: str, protocol: int) -> None:
    """One that said nothing meanwhile ends all the same."""
    program = start(programs)
    client = Client(program, name, protocol)
    if protocol == 4:
        assert client.packet() == "2"
    program.stop()
    time.sleep(STOOD)
    program.goOn()
    assert program.until("close ping timeout") == []
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_aSlowUpload(programs: list[Program], protocol: int, name: str) -> None:
    """A heartbeat behind a message that takes longer than it may take is heard."""
    program = start(programs, pingInterval=300, pingTimeout=700)
    client = Client(program, name, protocol)
    if protocol == 4:
        assert client.packet() == "2"
    message = "4" + "x" * 100_000
    if name == "polling":
        if protocol == 3:
            message = f"{len(message)}:{message}"
        beat = ("\x1e3" if protocol == 4 else "1:2").encode()
        body = message.encode() + beat
        connection, data = program.connect(), http("POST", client.where, body=body)
        client.connections.append(connection)
    else:
        connection = client.connection
        data = makeFrame(message) + makeFrame("3" if protocol == 4 else "2")
    piece = len(data) // 25
    for begin in range(0, len(data), piece):
        connection.sendall(data[begin : begin + piece])
        time.sleep(0.1)
    assert program.until("heartbeat") == ["message 100000"]
    client.close()


# The system's clock


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polling", "websocket"])
@pytest.mark.parametrize("reactor", ["default", "asyncio"])
def test_theClockIsSetBack(programs: list[Program], name: str, reactor: str) -> None:
    """A lone session is pinged, and ends when its client is gone, though the clock is set back an hour each time."""
    program = start(programs, reactor)
    client = Client(program, name, 4)
    for back in (3600, 7200):
        program.tell(-back)
        assert client.packet() == "2"
        client.say("3")
        program.until("heartbeat")
    program.tell(-10800)
    assert client.packet() == "2"
    program.tell(-14400)
    began = time.monotonic()
    program.until("close ping timeout")
    assert time.monotonic() - began < DEADLINE
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_theClockIsSetForward(programs: list[Program], name: str) -> None:
    """A clock that is set forward ends no session, and pings none before its time."""
    program = start(programs, pingInterval=1000, pingTimeout=2000)
    client = Client(program, name, 4)
    assert client.packet() == "2"
    program.tell(3600)
    # Some turns of the reactor.
    client.say("4alive")
    program.until("message 5")
    client.say("3", anew=True)
    assert program.until("heartbeat") == []
    began = time.monotonic()
    program.tell(30 * 365 * 86400)
    if name == "polling":
        # A connection that is idle has a time by the reactor's own clock.
        client.connection = program.connect()
        client.connections.append(client.connection)
    assert client.packet() == "2"
    assert time.monotonic() - began > 0.8
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("back", [60, 3600])
def test_theClockIsSetBackDuringAStop(programs: list[Program], back: int) -> None:
    """A stop that waits for a client has the deadline that it had."""
    program = start(programs, pingInterval=100_000, drainTimeout=1500)
    # Both have gone: one doesn't poll, one takes nothing that it is sent.
    client, other = Client(program, "polling", 4), Client(program, "websocket", 4)
    program.tell("stop")
    program.tell(-back)
    assert program.process.wait(40) == 0
    client.close()
    other.close()


# TLS


@pytest.mark.slow
def test_aNewConnectionOverTLS(programs: list[Program], certificate: tuple[Path, Path]) -> None:
    """A client that connects anew to answer has the time for the exchanges that TLS takes."""
    key, chain = certificate
    program = start(programs, endpoint=f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}")
    context = ssl.create_default_context(cafile=str(chain))
    connect = program.connect

    def connectSafely() -> socket.socket:
        return context.wrap_socket(connect(), server_hostname="localhost")

    program.connect = connectSafely  # type: ignore[method-assign]
    client = Client(program, "polling", 4)
    assert client.packet() == "2"
    program.stop()
    answering = Thread(target=client.say, args=("3",), kwargs={"anew": True})
    answering.start()
    time.sleep(STOOD)
    program.goOn()
    assert program.until("heartbeat") == []
    answering.join(DEADLINE)
    client.close()
