"""The terminal tool, without a terminal: what it does, what it prints, and the exit code of each end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import Clock

from engineio_twisted.client import Client
from engineio_twisted.client.commandline import parse
from engineio_twisted.client.terminal import Terminal
from engineio_twisted.testing import MemoryServer as Server

from ..kit.client_memory import InMemory
from ..kit.client_servers import OPEN, UPGRADABLE, WEBSOCKET, MemoryServer, ScriptedServer, answer, both, cuts, frame
from ..kit.wire import CLOSE

URL = "http://127.0.0.1"


class FakeConsole:
    """
    A console that nobody is at.

    @ivar isReading: whether lines are read.
    """

    def __init__(self) -> None:
        self.printed: list[str] = []
        self.isReading = False
        self.isClosed = False

    def print(self, line: str) -> None:
        assert not self.isClosed
        self.printed.append(line)

    def pauseProducing(self) -> None:
        self.isReading = False

    def resumeProducing(self) -> None:
        self.isReading = True

    def stopProducing(self) -> None:
        self.isReading = False

    def close(self) -> Deferred[None]:
        self.isClosed = True
        closed: Deferred[None] = Deferred()
        closed.callback(None)
        return closed


class Run:
    """
    A run of the tool in memory.

    @ivar exitCode: its exit code; None while it runs.
    """

    def __init__(self, arguments: str, clock: Clock, endpoint: Any, settle: Callable[[], object]) -> None:
        self.plan = parse([URL, *arguments.split()])
        self.console = FakeConsole()
        self.client = Client(
            URL, reactor=clock, **{**self.plan.options, "endpoint": endpoint, "timestampRequests": False}
        )
        self.terminal = Terminal(self.plan, self.client, clock)
        self.exitCode: int | None = None
        self._settle = settle

        def ended(code: int) -> None:
            self.exitCode = code

        console: Any = self.console
        self.terminal.run(console).addCallback(ended)
        settle()

    def types(self, *lines: str | bytes, isAll: bool = False) -> None:
        """Type lines, and perhaps the end of the input."""
        for each in lines:
            assert self.console.isReading
            self.terminal.typed(each.encode() if isinstance(each, str) else each)
        if isAll:
            self.terminal.inputEnded(None)
        self._settle()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was printed by a run with C{--json}."""
        return [json.loads(each) for each in self.console.printed]

    @property
    def names(self) -> list[str]:
        return [each["event"] for each in self.events]

    @property
    def lines(self) -> list[str]:
        """What was printed, without the head."""
        return [each for each in self.console.printed if not each.startswith(("* connecting", "* open"))]


@attrs.frozen
class Stage:
    kit: Server
    endpoint: InMemory
    sockets: list[Any]

    def run(self, arguments: str) -> Run:
        return Run(arguments, self.kit.clock, self.endpoint, self.kit.settle)


@contextmanager
def stage(echoes: bool = True, **options: Any) -> Iterator[Stage]:
    """A server that sends back what it gets. Nothing is left behind: no session, no connection, no timer."""
    sockets: list[Any] = []

    def application(server: Any) -> None:
        @server.on("connection")  # type: ignore[untyped-decorator]
        def connected(socket: Any) -> None:
            sockets.append(socket)
            if echoes:
                socket.on("message", socket.send)

    with Server(application, **{"httpCompression": False, **options}) as kit:
        yield Stage(kit, InMemory(kit._network), sockets)
        kit.settle()


TRANSPORTS = pytest.mark.parametrize("flags", ["--no-upgrade", "--transport websocket", ""])


@TRANSPORTS
def test_lines(flags: str) -> None:
    """Lines are sent, messages are printed, and the end of the input closes the session behind what was sent."""
    with stage() as scene:
        run = scene.run(flags)
        run.types("hello", "", "é😀")
        assert [each for each in run.lines if each.startswith("<")] == ["< hello", "< ", "< é😀"]
        got: list[Any] = []
        scene.sockets[0].on("message", got.append)
        scene.sockets[0].on("close", lambda reason, _: got.append(reason))
        run.types("last", "of all", isAll=True)
        assert got == ["last", "of all", "transport close"]
        assert run.exitCode == 0
        assert run.lines[-1] == "* closed: forced close: closed by the client"
        assert run.terminal.problem is None


def test_json() -> None:
    """A script reads one object a line, with names and fields that docs/client-tool.md has."""
    with stage() as scene:
        run = scene.run("--json")
        scene.kit.advance(1)
        run.types("hello")
        scene.sockets[0].send(b"\x00\x01")
        scene.kit.settle()
        run.types(isAll=True)
        assert run.names == ["connecting", "open", "upgrade", "message", "message", "close"]
        connecting, opened, upgrade, text, binary, close = run.events
        assert connecting == {"event": "connecting", "url": URL}
        session = opened.pop("session")
        assert scene.sockets[0].id.startswith(session.partition("…")[0])
        assert scene.sockets[0].id not in session
        assert opened == {
            "event": "open",
            "transport": "polling",
            "milliseconds": 0.0,
            "upgrades": ["websocket"],
            "pingInterval": 25000,
            "pingTimeout": 20000,
            "maxPayload": 1000000,
        }
        assert upgrade == {"event": "upgrade", "transport": "websocket", "milliseconds": 0.0}
        assert text == {"event": "message", "text": "hello"}
        assert binary == {"event": "message", "base64": "AAE="}
        assert close == {"event": "close", "reason": "forced close", "description": "closed by the client"}


@pytest.mark.parametrize(
    ("flags", "transports"),
    [("", ["polling", "websocket"]), ("--no-upgrade", ["polling"]), ("--transport websocket", ["websocket"])],
)
def test_check(flags: str, transports: list[str]) -> None:
    """It ends by itself once the session is on the transport that it stays on, and reads nothing."""
    with stage() as scene:
        run = scene.run(f"--check --json {flags}")
        assert [each["transport"] for each in run.events if "transport" in each] == transports
        assert not run.console.isReading
        assert run.exitCode == 0


@TRANSPORTS
def test_echo(flags: str) -> None:
    """Round trips are measured one after the other, on the last transport."""
    with stage(echoes=False) as scene:
        run = scene.run(f"--echo --count 3 --json {flags}")
        (socket,) = scene.sockets
        # Not what comes of its own accord.
        socket.send("unasked")
        for wait in (0.05, 0.25, 1):
            texts: list[Any] = []
            socket.once("message", texts.append)
            assert run.exitCode is None
            scene.kit.advance(wait)
            socket.send(run.terminal._awaited)
            scene.kit.settle()
        echoes = [each for each in run.events if each["event"] == "echo"]
        assert [each["milliseconds"] for each in echoes] == [50, 250, 1000]
        assert {each["transport"] for each in echoes} == {"polling" if flags == "--no-upgrade" else "websocket"}
        assert {"event": "message", "text": "unasked"} in run.events
        assert run.exitCode == 0


def test_noEcho() -> None:
    """A server that doesn't send back what it gets isn't waited for."""
    with stage(echoes=False) as scene:
        run = scene.run("--echo --timeout 5")
        scene.kit.advance(4.9)
        assert run.exitCode is None
        scene.kit.advance(0.2)
        assert run.exitCode == 6
        assert "no echo" in (run.terminal.problem or "")


def test_count() -> None:
    """After so many messages it ends, even if the input has ended before."""
    with stage() as scene:
        run = scene.run("--count 3")
        run.types("one", "two", isAll=True)
        assert run.exitCode is None
        scene.sockets[0].send("three")
        scene.kit.settle()
        assert [each for each in run.lines if each.startswith("<")] == ["< one", "< two", "< three"]
        assert run.exitCode == 0


def test_tooFew() -> None:
    """Each awaited message has its time, from the last one or the last line on."""
    with stage(echoes=False) as scene:
        run = scene.run("--count 2 --timeout 5")
        scene.kit.advance(4)
        scene.sockets[0].send("one")
        scene.kit.advance(4)
        run.types("a line")
        scene.kit.advance(4)
        assert run.exitCode is None
        scene.kit.advance(1.1)
        assert run.exitCode == 6
        assert run.terminal.problem == (
            "timeout: no message came in 5 s (check firewalls and proxies on the way; --timeout waits longer)"
        )


def test_interrupted() -> None:
    """Ctrl-C closes the session, behind what was typed; or ends what hasn't begun."""
    with stage() as scene:
        run = scene.run("--no-upgrade")
        run.types("hello")
        run.terminal.interrupt()
        scene.kit.settle()
        assert run.exitCode == 0
        scene.endpoint.isReachable = False
        run = scene.run("")
        assert run.exitCode is None
        run.terminal.interrupt()
        scene.kit.settle()
        assert run.exitCode == 130


def test_interruptedTwice() -> None:
    """A server that takes nothing isn't waited for, if the user doesn't want to."""
    with stage() as scene:
        run = scene.run("--no-upgrade")
        for each in list(scene.kit._network.connections):
            each.vanish()
        scene.endpoint.isReachable = False
        run.types("hello")
        run.terminal.interrupt()
        scene.kit.settle()
        assert run.exitCode is None
        run.terminal.interrupt()
        # Time to tell the server.
        scene.kit.advance(3)
        assert run.exitCode == 0
        scene.kit.advance(60)


def test_outputThatNobodyReads() -> None:
    """It is no reason to complain."""
    with stage() as scene:
        run = scene.run("")
        run.terminal.outputEnded()
        scene.kit.settle()
        assert run.exitCode == 0


def test_slowOutput() -> None:
    """While the output isn't read, messages stay with the server."""
    with stage(echoes=False) as scene:
        run = scene.run("--transport websocket")
        run.terminal.outputFull(True)
        scene.sockets[0].send("hello")
        scene.kit.advance(1)
        assert "< hello" not in run.lines
        run.terminal.outputFull(False)
        scene.kit.settle()
        assert run.lines == ["< hello"]
        run.types(isAll=True)


def test_slowServer() -> None:
    """While the server takes nothing, no lines are read."""
    with stage() as scene:
        run = scene.run("--no-upgrade")
        connections = list(scene.kit._network.connections)
        scene.endpoint.isReachable = False
        while run.console.isReading:
            run.types("x" * 1000)
        assert run.client.bufferedAmount < 200_000
        for each in connections:
            each.abortConnection()
        scene.kit.settle()
        assert run.exitCode == 17
        scene.kit.advance(60)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xff", "the line isn't UTF-8"),
        (b"x" * 2000, "a message of 2001 bytes: the server takes no more than 1000 at once"),
    ],
)
def test_unsent(line: bytes, problem: str) -> None:
    """A line that can't be sent is said, and the session goes on."""
    with stage(maxHttpBufferSize=1000) as scene:
        run = scene.run("--json --no-upgrade")
        run.types(line, "hello", isAll=True)
        assert run.names == ["connecting", "open", "unsent", "close"]
        assert problem in run.events[2]["description"]
        assert run.exitCode == 0


def test_inputThatFails() -> None:
    """A problem with the input is a failure of the tool."""
    with stage() as scene:
        run = scene.run("")
        run.terminal.inputEnded("a line has more than 10 bytes")
        scene.kit.settle()
        assert run.exitCode == 1
        assert (run.terminal.problem or "").startswith("error: a line has more than 10 bytes")


def test_resume() -> None:
    """A session that survives the loss of its connection says so, and loses no line."""
    with stage(resumeTimeout=60000) as scene:
        run = scene.run("--json --resume --no-upgrade")
        scene.endpoint.isReachable = False
        for each in list(scene.kit._network.connections):
            each.abortConnection()
        scene.kit.settle()
        run.types("hello")
        scene.endpoint.isReachable = True
        scene.kit.advance(30)
        run.types(isAll=True)
        assert run.names == ["connecting", "open", "suspend", "resume", "message", "close"]
        assert run.exitCode == 0


# Failures


def test_closedByTheServer() -> None:
    """A server that ends the session isn't what was asked for."""
    with stage() as scene:
        run = scene.run("--json --no-upgrade")
        scene.sockets[0].close()
        scene.kit.settle()
        assert run.names[-2:] == ["close", "failed"]
        assert run.events[-1]["type"] == "closed"
        assert run.exitCode == 19


def test_lostWhileClosing() -> None:
    """If the connection is lost before everything was sent, the end isn't a clean one."""
    with stage() as scene:
        run = scene.run("--no-upgrade")
        scene.endpoint.isReachable = False
        for each in list(scene.kit._network.connections):
            each.vanish()
        run.types("hello", isAll=True)
        scene.kit.advance(60)
        assert run.exitCode == 17


def test_pingTimeout() -> None:
    """A server that is silent for too long is lost."""
    with stage() as scene:
        run = scene.run("--transport websocket")
        for each in list(scene.kit._network.connections):
            each.vanish()
        scene.kit.advance(120)
        assert run.exitCode == 6
        assert run.lines[-1].startswith("* closed: ping timeout")


def scripted(server: ScriptedServer, arguments: str = "", failure: Exception | None = None) -> Run:
    """A run with a server that does what a script says, until it ends."""
    endpoint = MemoryServer(server)
    endpoint.failure = failure
    run = Run(arguments, server.clock, endpoint, endpoint.network.settle)
    if run.exitCode is None:
        endpoint.network.advance(100)
    assert run.exitCode is not None, "still running"
    assert not endpoint.network.connections
    assert not server.clock.getDelayedCalls()
    return run


HTML = answer(b"<html>", kind="text/html")


@pytest.mark.parametrize(
    ("server", "flags", "failure", "exitCode", "says"),
    [
        (ScriptedServer(), "", DNSLookupError("no such host"), 3, "dns: "),
        (ScriptedServer(), "", ConnectError("refused"), 4, "connect: "),
        (ScriptedServer(), "--timeout 3", None, 6, "timeout: no session within connectTimeout, 3000 ms"),
        (
            ScriptedServer([answer(b'{"code":5,"message":"Unsupported protocol version"}', "400 Bad Request")]),
            "",
            None,
            8,
            "refused: the server refused: Unsupported protocol version (status 400, code 5) (",
        ),
        (ScriptedServer([answer(b"", "401 Unauthorized")]), "", None, 9, "authentication: status 401"),
        (ScriptedServer([answer(b"", "302 Found", "Location: /x")]), "", None, 10, "redirect: "),
        (ScriptedServer([answer(b"", "503 Busy", "Retry-After: 7")]), "", None, 11, "try again in 7 s"),
        (ScriptedServer([answer(b"", "404 Not Found")]), "", None, 12, "http: status 404"),
        (ScriptedServer([HTML]), "", None, 13, "not engine.io: "),
        (ScriptedServer([answer(b'0{"sid":1}')]), "", None, 14, "handshake: "),
        (ScriptedServer([answer(OPEN), answer(b"9")]), "--no-upgrade", None, 15, "parse: "),
        (ScriptedServer([cuts(b"HTTP/1.1 200 OK\r\n")]), "", None, 17, "lost: "),
        (ScriptedServer([answer(OPEN), answer(b"1")]), "", None, 19, "closed: "),
        (
            ScriptedServer(webSockets=[both(WEBSOCKET, frame(OPEN.decode()), frame(b"", CLOSE))]),
            "--transport websocket",
            None,
            19,
            "closed: close frame with code 1005 (",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_failures(server: ScriptedServer, flags: str, failure: Exception | None, exitCode: int, says: str) -> None:
    """Each kind of failure has its exit code, and a line that says what has happened and what to look at."""
    run = scripted(server, flags, failure)
    assert run.exitCode == exitCode
    problem = run.terminal.problem
    assert problem is not None
    assert says in problem
    assert problem.isprintable()


def test_upgradeThatFails() -> None:
    """It is said, and the session goes on by polling; but a check fails by it."""
    for flags, exitCode in (("--check", 18), ("--echo --timeout 2", 6)):
        server = ScriptedServer([answer(UPGRADABLE)], webSockets=[answer(b"", "404 Not Found")])
        run = scripted(server, f"--json {flags}")
        (error,) = [each for each in run.events if each["event"] == "upgradeError"]
        assert error["type"] == "http"
        assert run.exitCode == exitCode


def test_faults(loggedErrors: Any) -> None:
    """What fails in the tool itself ends it."""
    with stage() as scene:
        run = scene.run("")

        def fails(line: str) -> None:
            raise ZeroDivisionError("x")

        run.console.print = fails  # type: ignore[method-assign]
        scene.sockets[0].send("hello")
        scene.kit.settle()
        assert run.exitCode == 1
        assert run.terminal.problem == "error: ZeroDivisionError: x (what is above it says where)"
        scene.kit.errors.clear()
    assert len(loggedErrors) == 2
    loggedErrors.clear()
