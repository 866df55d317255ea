"""A stop ends in time, whole, whatever clients do and whatever fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from operator import attrgetter
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import unix
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from engineio_twisted import AutobahnEngine, FastSite, Server, Site, listen
from engineio_twisted.endpoints import SessionEndpoint
from engineio_twisted.ends import GRACE, Deadline
from engineio_twisted.listening import listenOn
from engineio_twisted.operation.tap import CommandService
from engineio_twisted.service import EngineIOService
from engineio_twisted.web.ports import Ports

from .kit.commandline import parse
from .kit.draining import openedWebSocket
from .kit.draining import stopping as stopping
from .kit.fakes import FakeRequest
from .kit.memory import Connection, Memory, connectTo
from .kit.ports import TakenPort
from .kit.services import environment, services, talking, waitUntil
from .kit.wire import CLOSE, http, makeFrame, target, upgrade, within


def turn(clock: Clock) -> None:
    """Let what was aborted go."""
    clock.pump([0, GRACE, 0])


# The deadline


class Waiting:
    def __init__(self) -> None:
        self.clock = Clock()
        self.aborted: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.aborted.append(self.clock.seconds()), lambda: "2 dragons")
        self.over = self.deadline.over


def test_allIsOver() -> None:
    """It is over when everything is that it waits for, and leaves no timer."""
    here = Waiting()
    first, second = Deferred[None](), Deferred[None]()
    here.deadline.setTime(10)
    here.deadline.waitFor([first, second])
    first.callback(None)
    assert not here.over.called
    second.callback(None)
    assert (here.over.called, here.aborted, here.clock.getDelayedCalls()) == (True, [], [])


@pytest.mark.parametrize("goes", [True, False])
def test_notInTime(goes: bool, loggedErrors: list[Any]) -> None:
    """What is left is aborted at the deadline; what isn't gone soon is waited for no longer, and the log says what."""
    here = Waiting()
    stuck: Deferred[None] = Deferred()
    here.deadline.setTime(10)
    here.deadline.waitFor([stuck])
    here.clock.advance(10)
    here.clock.advance(GRACE / 2)
    assert (here.aborted, here.over.called) == ([10], False)
    if goes:
        stuck.callback(None)
    here.clock.advance(GRACE / 2)
    assert (here.over.called, here.clock.getDelayedCalls()) == (True, [])
    assert len(loggedErrors) == (not goes)
    assert goes or loggedErrors[0]["what"] == "2 dragons"
    loggedErrors.clear()
    if not goes:
        stuck.callback(None)


def test_deadlinesComeForwardOnly(loggedErrors: list[Any]) -> None:
    """A later time changes nothing; nor does any, once it is over."""
    here = Waiting()
    here.deadline.setTime(10)
    here.deadline.setTime(20)
    here.deadline.setTime(5)
    here.clock.advance(4.9)
    assert here.aborted == []
    here.clock.advance(0.1)
    here.deadline.setTime(5)
    assert here.aborted == [5]
    here.deadline.waitFor([Deferred()])
    turn(here.clock)
    here.deadline.setTime(1)
    assert (here.over.called, here.clock.getDelayedCalls()) == (True, [])
    loggedErrors.clear()


def test_whatFailsIsOverToo(loggedErrors: list[Any]) -> None:
    """A Deferred that fails is logged; an abort that fails is, and the wait ends."""
    here = Waiting()
    here.deadline.waitFor([fail(SystemExit()), Deferred()])

    def explode() -> None:
        raise SystemExit

    here.deadline._abort = explode
    here.deadline._whatIsLeft = explode  # type: ignore[assignment]
    here.deadline.setTime(0)
    turn(here.clock)
    assert here.over.called
    assert len(loggedErrors) == 3
    loggedErrors.clear()


# Clients


class Never(Resource):
    """Requests that nobody answers."""

    isLeaf = True

    def render(self, request: Any) -> int:
        return NOT_DONE_YET


def connect(reactor: Any, factory: Any, data: bytes) -> Connection:
    """A connection whose client takes nothing: with something to send, it is lost by being aborted alone."""
    return connectTo(factory, reactor, data, holds=True)


def turnOf(reactor: Any, *connections: Connection) -> None:
    """Let a turn of the reactor pass, in which connections that are aborted are lost."""
    for each in connections:
        each.network.settle()
    turn(reactor)


def stubbornClients(reactor: Any, site: Any) -> list[Connection]:
    """Of every kind: idle, polling, on WebSocket, in the middle of a POST, a head or an answer of a page."""
    asked = [
        http("GET", target()),
        upgrade(),
        http("POST", target(sid="unknown"), body=b"12345")[:-1],
        b"GET /half HTTP/1.1\r\nHo",
        http("GET", "/page"),
        b"",
    ]
    return [connect(reactor, site, each) for each in asked]


@pytest.mark.parametrize("siteClass", [FastSite, Site])
@pytest.mark.parametrize("drainTimeout", [1, 2000, 60_000])
@pytest.mark.parametrize("drain", [True, False])
def test_stubbornClients(drain: bool, drainTimeout: int, siteClass: Any) -> None:
    """Whatever clients do, it takes three seconds, and with a drain `drainTimeout` more: not a turn longer."""
    reactor = MemoryReactorClock()
    site = siteClass(Never(), reactor=reactor)
    server = Server(site, reactor=reactor, drainTimeout=drainTimeout)
    listenOn(server, "tcp:1", site)
    clients = stubbornClients(reactor, site)
    assert (server.clientsCount, len(server._webSockets.connections)) == (2, 1)
    # Somebody who comes while it ends.
    closed = server.close(drain=drain)
    clients.append(connect(reactor, site, http("GET", target())))
    whole = 3 + (drainTimeout / 1000 if drain else 0)
    reactor.advance(whole - 0.01)
    assert not closed.called
    reactor.advance(0.01)
    turnOf(reactor, *clients)
    assert closed.called
    assert all(each.isAborted or each.disconnecting for each in clients)
    assert (server.clientsCount, len(site.channels), len(server._webSockets.connections)) == (0, 0, 0)
    assert reactor.getDelayedCalls() == []


def test_aHurriedStop() -> None:
    """Closing while it is drained leaves three seconds; closing again, however often, no more."""
    reactor = MemoryReactorClock()
    server = listen("tcp:1", reactor=reactor, drainTimeout=60_000)
    site = reactor.tcpServers[0][1]
    site.resource.rest = Never()
    clients = stubbornClients(reactor, site)
    drained, closed = server.drain(), server.close(drain=True)
    reactor.advance(10)
    assert not closed.called
    hurried = server.close()
    reactor.advance(2)
    again = server.close()
    assert not hurried.called
    reactor.advance(1)
    turnOf(reactor, *clients)
    assert [each.called for each in (drained, closed, hurried, again)] == [True] * 4
    assert reactor.getDelayedCalls() == []


def test_hurriedWhileItCloses() -> None:
    """The sessions have gone, and a page may be answered until the end of `drainTimeout`: unless that is cut short."""
    reactor = MemoryReactorClock()
    server = listen("tcp:1", reactor=reactor, drainTimeout=60_000)
    site = reactor.tcpServers[0][1]
    site.resource.rest = Never()
    page = connect(reactor, site, http("GET", "/page"))
    closed = server.close(drain=True)
    reactor.advance(30)
    assert (closed.called, page.isAborted) == (False, False)
    server.close()
    reactor.advance(3)
    turnOf(reactor, page)
    assert (closed.called, page.isAborted) == (True, True)


def test_drainedAlone() -> None:
    """`drain` has the same end, and leaves what isn't of sessions alone."""
    memory = Memory(drainTimeout=1000)
    idle = memory.connect()
    wire = memory.connect(upgrade())
    drained = memory.server.drain()
    memory.advance(2.99)
    assert not drained.called
    memory.advance(0.01)
    turn(memory.clock)
    assert (drained.called, wire.isLost, idle.isLost) == (True, True, False)
    memory.end()


@pytest.mark.parametrize("metrics", [[], ["--metrics=tcp:9100"]])
def test_theCommand(metrics: list[str]) -> None:
    """With an unread download, an unread /metrics and sessions whose clients do nothing, it takes no longer either."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--listen=tcp:1", "--listen=tcp:2", "--drain-timeout=5000", *metrics), reactor)
    service.startService()
    service.site.resource.rest = Never()
    clients = stubbornClients(reactor, service.site)
    if metrics:
        (operators,) = [each[1] for each in reactor.tcpServers if each[0] == 9100]
        operators.resource.putChild(b"metrics", Never())
        clients.append(connect(reactor, operators, http("GET", "/metrics")))
    stopped = service.stopService()
    reactor.advance(7.99)
    assert not stopped.called
    reactor.advance(0.01)
    turnOf(reactor, *clients)
    assert stopped.called
    assert all(each.isAborted for each in clients[1:3])
    assert reactor.getDelayedCalls() == []


def test_operatorsLookOn() -> None:
    """What is for operators is closed last, with three seconds for what is on its way; and by the deadline."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--listen=tcp:1", "--health=tcp:9100", "--drain-timeout=60000"), reactor)
    service.startService()
    (operators,) = [each[1] for each in reactor.tcpServers if each[0] == 9100]
    operators.resource.putChild(b"health", Never())
    watching = connect(reactor, operators, http("GET", "/health"))
    service.server.handleRequest(FakeRequest())
    (socket,) = service.server.clients.values()
    stopped = service.stopService()
    reactor.advance(10)
    assert not watching.disconnecting
    socket.close(discard=True)
    assert watching.disconnecting
    reactor.advance(3)
    turnOf(reactor, watching)
    assert (stopped.called, watching.isAborted) == (True, True)


# What fails


@implementer(IStreamServerEndpoint)
class PortOf:
    """An endpoint whose port is stopped as a test says."""

    def __init__(self, stop: Callable[[], Any]) -> None:
        self.stopListening = stop

    def listen(self, factory: Any) -> Deferred[Any]:
        listening: Deferred[Any] = Deferred()
        listening.callback(self)
        return listening

    def getHost(self) -> Any:
        return None


def exiting(*args: Any) -> Any:
    sys.exit("by what should close")


STOPS: dict[str, Callable[[], Any]] = {
    "raises": exiting,
    "fails": lambda: fail(OSError("its file has gone")),
    "never": Deferred,
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("drain", [True, False])
def test_aPortThatDoesNotClose(stop: str, drain: bool, loggedErrors: list[Any]) -> None:
    """Other ports are closed, sessions are drained and told, connections end; the log says what failed."""
    reactor = MemoryReactorClock()
    service = EngineIOService(PortOf(STOPS[stop]), "tcp:1", PortOf(STOPS[stop]), reactor=reactor, drainTimeout=9000)
    service.startService()
    site = reactor.tcpServers[0][1]
    wire = connect(reactor, site, upgrade())
    wire.taken()
    (socket,) = service.server.clients.values()
    socket.send("last")
    stopped = service.stopService()
    if not drain:
        service.server.close()
    assert wire.value().startswith(b"\x81\x054last\x88\x02\x03\xe9")
    assert [each.disconnecting for each in service.ports] == []
    wire.say(makeFrame(b"\x03\xe9", CLOSE))
    wire.lose()
    reactor.advance(12 if drain else 3)
    turn(reactor)
    assert (stopped.called, service.server.clientsCount, len(service.site.channels)) == (True, 0, 0)
    assert len(loggedErrors) == (1 if stop == "never" else 2)
    loggedErrors.clear()


class Immortal:
    """A connection that isn't lost, however often it is aborted."""

    def abort(self) -> None:
        raise RecursionError("too deep")


@pytest.mark.parametrize("where", ["_router.reading", "_streams", "_webSockets.connections"])
@pytest.mark.parametrize("drain", [True, False])
def test_whatNeverGoes(where: str, drain: bool, loggedErrors: list[Any]) -> None:
    """One that can't be aborted stops neither the others nor the end."""
    memory = Memory(drainTimeout=1000)
    server = memory.server
    connections = attrgetter(where)(server)
    for _ in range(2):
        connections.add(Immortal())
    wire = memory.connect(upgrade())
    posting = memory.connect(http("POST", target(), body=b"12345")[:-1])
    closed = server.close(drain=drain)
    memory.advance(4 if drain else 3)
    turn(memory.clock)
    for each in memory.connections:
        each.turn()
    assert (closed.called, server.clientsCount, wire.isLost, posting.isLost) == (True, 0, True, True)
    assert loggedErrors
    loggedErrors.clear()
    for each in connections:
        connections.remove(each)
    memory.end()


@pytest.mark.parametrize("raised", [SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("method", ["goAway", "shutDown", "_end"])
def test_aSessionThatCannotEnd(
    method: str, raised: type[BaseException], loggedErrors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others do, and the server is closed in time."""
    memory = Memory(drainTimeout=1000)
    for _ in range(3):
        memory.connect(http("GET", target()))
    broken, *others = memory.server.clients.values()
    closes: list[str] = []
    for each in others:
        each.on("close", lambda reason, _: closes.append(reason))

    def explode(*args: Any) -> None:
        raise raised

    setattr(broken, method, explode)
    closed = memory.server.close(drain=True)
    for seconds in (1, 3):
        memory.advance(seconds)
    turn(memory.clock)
    assert (closed.called, closes) == (True, ["server shutting down"] * 2)
    loggedErrors.clear()
    # What the broken one has begun.
    for call in memory.clock.getDelayedCalls():
        call.cancel()


def test_deciding(loggedErrors: list[Any]) -> None:
    """Who is asked about a request, and can't even be told that it is over, stops nothing."""
    clock = Clock()
    server = Server(reactor=clock)
    server.use(lambda request: Deferred(exiting))
    requests = [FakeRequest() for _ in range(3)]
    for each in requests:
        server.handleRequest(each)
    closed = server.close()
    assert [each.status for each in requests] == [503] * 3
    assert closed.called
    assert clock.getDelayedCalls() == []
    loggedErrors.clear()


def test_anEngineThatFails(loggedErrors: list[Any]) -> None:
    """A wsEngine that can't even be asked for its connections: the last deadline is there before it is asked."""

    class Broken(AutobahnEngine):
        @property
        def connections(self) -> Any:
            raise SystemExit

        @connections.setter
        def connections(self, connections: Any) -> None:
            pass

    clock = Clock()
    server = Server(reactor=clock, wsEngine=Broken)
    server.handleRequest(FakeRequest())
    closed = server.close()
    assert server.clientsCount == 0
    clock.advance(3)
    turn(clock)
    assert (closed.called, clock.getDelayedCalls()) == (True, [])
    loggedErrors.clear()


def test_portsOfAClosedServer() -> None:
    """A service is stopped whose application has closed the server before, or is closing it."""
    for isOver in (True, False):
        reactor = MemoryReactorClock()
        service = EngineIOService("tcp:1", reactor=reactor)
        service.startService()
        site = reactor.tcpServers[0][1]
        idle, wire = connect(reactor, site, b""), connect(reactor, site, upgrade())
        closed = service.server.close()
        if isOver:
            wire.lose()
        assert (closed.called, idle.disconnecting) == (isOver, False)
        stopped = service.stopService()
        assert idle.disconnecting
        assert service.ports == []
        reactor.advance(8)
        turnOf(reactor, idle, wire)
        assert (closed.called, stopped.called, len(site.channels)) == (True, True, 0)


def test_aProtocolLearnsOfItsEnd(loggedErrors: list[Any]) -> None:
    """The protocol on a session is told, although the transport of that raises whatever it is asked."""
    memory = Memory()
    lost: list[Any] = []

    class Factory:
        doStart = doStop = staticmethod(lambda: None)

        def buildProtocol(self, address: Any) -> Any:
            from twisted.internet.protocol import Protocol

            protocol = Protocol()
            protocol.connectionLost = lost.append  # type: ignore[method-assign,assignment]
            return protocol

    SessionEndpoint(memory.server).listen(Factory())  # type: ignore[arg-type]
    memory.connect(upgrade())
    (socket,) = memory.server.clients.values()
    for name in ("close", "send", "abandon", "discard"):
        setattr(socket.transport, name, exiting)
    closed = memory.server.close()
    memory.advance(3)
    turn(memory.clock)
    assert (len(lost), closed.called) == (1, True)
    loggedErrors.clear()


# Starting


def test_oneOfManyPorts() -> None:
    """If one can't be opened the others are closed, the reason is raised, and it may be tried again."""
    reactor = TakenPort()
    service = EngineIOService("tcp:1", "tcp:2", "tcp:3", reactor=reactor)
    waiting = service.whenListening()
    for _ in range(2):
        with pytest.raises(CannotListenError):
            service.startService()
        assert (service.ports, service.whyNotReady) == ([], "not listening")
    assert waiting.addErrback(lambda failure: failure.trap(CannotListenError)).called
    service.whenListening().addErrback(lambda failure: failure.trap(CannotListenError))
    reactor.__class__ = MemoryReactorClock
    service.startService()
    assert (len(service.ports), service.whyNotReady) == (3, None)
    assert service.whenListening().called
    service.stopService()


@implementer(IStreamServerEndpoint)
class Slow:
    """An endpoint that takes its time, and takes no notice of being cancelled."""

    def __init__(self) -> None:
        self.isStopped = False

    def listen(self, factory: Any) -> Deferred[Any]:
        self.opening: Deferred[Any] = Deferred(lambda _: None)
        return self.opening

    def stopListening(self) -> None:
        self.isStopped = True

    def getHost(self) -> Any:
        return None


def test_aPortThatFailsLater(loggedErrors: list[Any]) -> None:
    """It is logged, the service stops, and who waits for the ports is told."""
    reactor = MemoryReactorClock()
    slow = Slow()
    service = EngineIOService("tcp:1", slow, reactor=reactor)
    service.startService()
    waiting = service.whenListening()
    assert (len(service.ports), waiting.called) == (1, False)
    slow.opening.errback(CannotListenError("", 1, OSError(98, "in use")))
    assert (service.ports, service.server.whyNotReady) == ([], "closing")
    waiting.addErrback(lambda failure: failure.trap(CannotListenError))
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    turn(reactor)
    assert service.stopService().called


def test_aPortThatComesTooLate() -> None:
    """One that an endpoint opens although the service has stopped is closed at once."""
    reactor = MemoryReactorClock()
    slow = Slow()
    service = EngineIOService(slow, reactor=reactor)
    service.startService()
    waiting = service.whenListening()
    service.stopService()
    # Its own canceller did nothing, so Twisted has made it fail.
    assert waiting.addErrback(lambda failure: failure.trap(CancelledError)).called
    ports = Ports(service.site)
    opening: Deferred[Any] = Deferred()

    @implementer(IStreamServerEndpoint)
    class Stubborn:
        def listen(self, factory: Any) -> Deferred[Any]:
            return opening

    opening.cancel = lambda: None  # type: ignore[method-assign]
    listening = ports.listen(Stubborn())
    listening.addErrback(lambda failure: failure.trap(CancelledError))
    ports.stop()
    opening.callback(slow)
    assert (slow.isStopped, ports.open) == (True, [])


# Over real sockets, and as a process


@pytest.mark.parametrize("how", ["gone", "forbidden"])
@pytest_twisted.ensureDeferred
async def test_aUnixSocketThatCannotBeRemoved(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, loggedErrors: list[Any]
) -> None:
    """A port of Twisted's own is closed all the same, and nobody can connect; another port is too."""
    path = tmp_path / "socket"
    from twisted.internet import reactor

    service = EngineIOService(UNIXServerEndpoint(reactor, str(path)), "tcp:0:interface=127.0.0.1")
    service.startService()
    await service.whenListening()
    (unixPort,) = [each for each in service.ports if isinstance(each, unix.Port)]
    if how == "gone":
        path.unlink()
    else:

        def forbid(name: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(unix.os, "unlink", forbid)
    await within(service.stopService(), "the service to stop", 10)
    monkeypatch.undo()
    assert not unixPort.connected
    if how == "forbidden":
        with Socket(AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(str(path))
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_clientsThatDoNothing(tmp_path: Path, freePort: int) -> None:
    """A download, requests for metrics and a WebSocket, which nobody reads: one deadline for all of them."""
    with open(tmp_path / "large", "wb") as large:
        large.truncate(200_000_000)
    operators = tmp_path / "operators"
    with services(tmp_path) as run:
        service = run(
            f"--listen=tcp:{freePort}:interface=127.0.0.1",
            "--static=.",
            f"--metrics=unix:{operators}",
            "--drain-timeout=1000",
        )
        with (
            talking(freePort) as download,
            talking(operators) as metrics,
            talking(operators) as asking,
            talking(freePort) as webSocket,
            talking(freePort) as polls,
        ):
            polls.open()
            openedWebSocket(webSocket)
            download.connection.sendall(http("GET", "/large"))
            assert download.connection.recv(1)
            metrics.connection.sendall(http("GET", "/metrics") * 1000)
            assert metrics.connection.recv(1)
            asking.connection.sendall(b"GET /metrics HTTP/1.1\r\nHo")
            began = time.monotonic()
            assert service.stop() == -signal.SIGTERM
            # Four seconds. One deadline for each stage were ten.
            assert time.monotonic() - began < 8
    assert "Traceback" not in service.said


def test_aSocketFileThatHasGone(stopping: Any, tmp_path: Path) -> None:
    """SIGTERM: what is on its way arrives, and the client is told, although a port fails to close."""
    path = tmp_path / "gone"
    service = stopping(f"--listen=unix:{path}", "--drain-timeout=60000")
    waitUntil(path.exists, "the socket")
    path.unlink()
    with talking(stopping.port) as webSocket, talking(stopping.port) as polls:
        sid = polls.open()
        openedWebSocket(webSocket)
        webSocket.connection.sendall(makeFrame("4stop"))
        assert webSocket.frame() == (1, b"4last")
        assert webSocket.frame() == (CLOSE, b"\x03\xe9")
        webSocket.connection.sendall(makeFrame(b"\x03\xe9", CLOSE))
        assert polls.ask(http("GET", target(sid=sid))) == b"4last\x1e1"
        assert service.ended() == -signal.SIGTERM
    assert "Traceback" not in service.said


LARGE = """
def application(server):
    def connected(socket):
        def send(_):
            for number in range(64):
                socket.send(bytes([number]) * 65536)

        socket.on("message", send)

    server.on("connection", connected)
"""


@pytest.mark.parametrize("isFirst", [True, False])
def test_muchOnItsWay(isFirst: bool, tmp_path: Path, freePort: int) -> None:
    """Four megabytes on their way to clients of each port arrive, although one of the two has lost its file."""
    (tmp_path / "large.py").write_text(LARGE)
    path = tmp_path / "gone"
    ports = [f"--listen=unix:{path}", f"--listen=tcp:{freePort}:interface=127.0.0.1"]
    with services(tmp_path) as run:
        service = run(*ports[:: 1 if isFirst else -1], "--app=large:application", "--drain-timeout=60000", ports=2)
        with talking(freePort) as byTCP, talking(path) as byUNIX:
            for each in (byTCP, byUNIX):
                openedWebSocket(each)
                each.connection.sendall(makeFrame("4go"))
                # The first of it has come.
                while len(each.received) < 2:
                    each.received += each.connection.recv(1)
            path.unlink()
            service.process.send_signal(signal.SIGTERM)
            for each in (byTCP, byUNIX):
                frames = []
                while not frames or frames[-1][0] != CLOSE:
                    frames.append(each.frame())
                assert [(opcode, len(data), data[:1]) for opcode, data in frames[:-1]] == [
                    (2, 65536, bytes([number])) for number in range(64)
                ]
                assert frames[-1][1] == b"\x03\xe9"
                each.connection.sendall(makeFrame(b"\x03\xe9", CLOSE))
            assert service.ended() == -signal.SIGTERM
    assert "Traceback" not in service.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sayWhatIsWaitedFor(stopping: Any, number: signal.Signals) -> None:
    """One line, if there is something to wait for; another signal ends it."""
    service = stopping("--drain-timeout=60000")
    with talking(stopping.port) as webSocket, talking(stopping.port) as polls:
        polls.open()
        polls.open()
        openedWebSocket(webSocket)
        service.process.send_signal(number)
        assert service.process.stdout is not None
        for line in service.process.stdout:
            service.said += line
            if "Waiting for" in line:
                break
        assert "Waiting for 2 sessions, 1 WebSocket to end, for 63 s at most. Another Ctrl-C or SIGTERM" in service.said
        assert service.stop(number) == -number
    assert service.said.count("Waiting for") == 1
    assert "Traceback" not in service.said


def test_nothingIsWaitedFor(stopping: Any) -> None:
    """Without a session there is no such line."""
    service = stopping("--drain-timeout=60000")
    with talking(stopping.port):
        assert service.stop() == -signal.SIGTERM
    assert "Waiting for" not in service.said


EXITING = """
import sys

def application(server):
    sockets = []

    def connected(socket):
        sockets.append(socket)
        index = len(sockets)

        def closed(*args):
            if index < len(sockets):
                sockets[index].close()
            sys.exit(3)

        socket.on("close", closed)

    server.on("connection", connected)
"""


def test_handlersThatExit(tmp_path: Path, freePort: int) -> None:
    """400 sessions whose handlers close one another and call sys.exit: SIGTERM ends the process as any other."""
    (tmp_path / "exiting.py").write_text(EXITING)
    with services(tmp_path) as run:
        service = run(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--app=exiting:application", "--drain-timeout=1")
        with talking(freePort) as client:
            for _ in range(400):
                client.open()
        # What it logs would fill the pipe.
        service.process.send_signal(signal.SIGTERM)
        assert service.ended() == -signal.SIGTERM
    assert "RecursionError" not in service.said
    assert service.said.count("SystemExit: 3") == 400


def test_nobodyReadsTheLog(tmp_path: Path, freePort: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DEBUG and a stderr that is broken, a process serves and ends."""
    monkeypatch.setenv("DEBUG", "engine*")
    with services(tmp_path) as run:
        service = run(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--drain-timeout=1")
        service.process.stdout.close()
        service.process.stdout = StringIO()
        with talking(freePort) as client:
            client.echo("hello")
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == -signal.SIGTERM


PROGRAM = """
import sys
from twisted.internet import reactor
from engineio_twisted import listen

server = listen("tcp:PORT:interface=127.0.0.1", drainTimeout=1)
server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data) and None))
reactor.addSystemEventTrigger("before", "shutdown", server.close, drain=True)
reactor.run()
"""


@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_aProgramWithABrokenStderr(tmp_path: Path, freePort: int, stderr: str) -> None:
    """So does a program of one's own, to which nothing redirects stderr."""

    (tmp_path / "program.py").write_text(PROGRAM.replace("PORT", str(freePort)))
    redirection = ">/dev/full" if stderr == "full" else ">&-"
    process = subprocess.Popen(
        ["sh", "-c", f'exec "{sys.executable}" program.py 2{redirection}'],
        cwd=tmp_path,
        env={**environment(), "DEBUG": "engine*"},
    )
    try:

        def echoes() -> bool:
            try:
                with talking(freePort) as client:
                    client.echo("hello")
                    client.open()
            except ConnectionRefusedError:
                return False
            return True

        waitUntil(echoes, "the program")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(60)
        assert time.monotonic() - began < 30
    finally:
        process.kill()
        process.wait()
