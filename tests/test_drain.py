"""The orderly stop: what was sent before it arrives, nobody is let in any more, and in the end nothing is left."""

from __future__ import annotations

import json
import os
import signal
from socket import create_connection
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted import FastSite, Server, Site, listen
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason, SessionClosing
from engineio_twisted.protocol.packet import PacketType

from .kit.draining import OPEN, ask, openedWebSocket, start
from .kit.draining import stopping as stopping
from .kit.encrypted import connect as connect
from .kit.encrypted import opened
from .kit.engines import ENGINES
from .kit.memory import Connection, StillNetwork
from .kit.resources import Late
from .kit.services import talking, waitUntil
from .kit.sessions import Session
from .kit.wire import CLOSE, Hostile, LostError, eventually, http, makeFrame, target, upgrade, within

SHUTTING_DOWN = "server shutting down"
GOING_AWAY = b"\x03\xe9"  # 1001


# A session


def test_goAway() -> None:
    """On WebSocket what is buffered goes out, and the session ends with a reason of its own."""
    session = Session()
    session.transport.writable = False
    session.socket.send("last")
    session.socket.goAway(10)
    session.socket.send("too late")
    assert (session.socket.readyState, session.closes) == ("closing", [])
    session.transport.ready()
    assert session.transport.texts() == ["last"]
    assert session.closes == [(SHUTTING_DOWN, "the server is closing")]
    assert session.transport.closings == [Closing(CloseReason.SERVER_SHUTTING_DOWN, "the server is closing", 10)]
    assert session.isQuiet()


def test_goAwayTakesAsLongAsTheServerLets() -> None:
    """The session has no deadline of its own; `shutDown` ends it, and then its connection has little time."""
    session = Session("polling")
    session.socket.send("last")
    session.socket.goAway(500)
    assert session.isQuiet()
    session.clock.advance(499)
    assert session.closes == []
    session.socket.shutDown()
    assert session.closes == [(SHUTTING_DOWN, "the server is closing")]
    assert [each.deadline for each in session.transport.closings] == [0]


def test_whatComesMeanwhile() -> None:
    """A client that hasn't heard of it yet is listened to, and its session goes on to WebSocket if it is about to."""
    session = Session("polling")
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.send("last")
    session.socket.goAway(10)
    assert session.socket.transportPacket(session.transport, message("still here")) is None
    assert ("message", "still here") in session.events
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["last"]
    assert session.closes == [(SHUTTING_DOWN, "the server is closing")]
    assert candidate.reasons == [CloseReason.SERVER_SHUTTING_DOWN]


def test_closedBeforeAndAfter() -> None:
    """What the application closed itself keeps its own reason; a session that goes away can be dropped by it."""
    session = Session("polling")
    session.socket.close()
    session.socket.goAway(10)
    refusal = session.socket.transportPacket(session.transport, message("refused"))
    assert isinstance(refusal, SessionClosing)
    session.transport.ready()
    assert session.closes == [("forced close", "closed by the server")]

    session = Session("polling")
    session.socket.goAway(10)
    session.socket.close()
    session.socket.close(discard=True)
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def message(text: str) -> Any:
    from engineio_twisted.protocol.packet import Packet

    return Packet(PacketType.MESSAGE, text)


# A server


def make(**options: Any) -> tuple[Server, Clock]:
    clock = Clock()
    return Server(reactor=clock, **options), clock


def test_drain() -> None:
    """
    Readiness goes first. Nobody is let in, the client fetches what there is with its next GET, and then all is over.
    """
    server, clock = make(drainTimeout=9000)
    socket, here = start(server)
    ends: list[str] = []
    socket.on("close", lambda reason, _: ends.append(reason))
    socket.on("message", lambda data: ends.append(data))
    socket.send("last")
    assert server.isReady
    drained, again = server.drain(), server.drain()
    assert (server.isReady, drained.called, again.called) == (False, False, False)
    refused = ask(server)
    assert (refused.status, refused.header("Retry-After")) == (503, "5")
    assert json.loads(refused.written) == {"message": "the server is closing"}
    assert ask(server, here, b"POST", b"4mine").written == b"ok"
    clock.advance(8.9)
    assert ends == ["mine"]
    assert ask(server, here).written == b"4last\x1e1"
    assert ends == ["mine", SHUTTING_DOWN]
    clock.advance(0)
    assert (drained.called, again.called, server.drain().called) == (True, True, True)
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])
    # For good.
    assert (server.isReady, ask(server).status) == (False, 503)
    assert server.close().called


def test_drainTimeout() -> None:
    """Who doesn't come for it is given up after `drainTimeout`, also who was being closed already."""
    server, clock = make(drainTimeout=9000)
    (first, _), (second, _) = start(server), start(server)
    ends: list[str] = []
    for each in (first, second):
        each.send("last")
        each.on("close", lambda reason, _: ends.append(reason))
    second.close()
    drained = server.drain()
    clock.advance(8.999)
    assert (ends, drained.called) == ([], False)
    clock.advance(0.001)
    assert ends == [SHUTTING_DOWN] * 2
    assert [each.data for each in first.writeBuffer] == ["last"]
    clock.advance(0)
    assert (drained.called, clock.getDelayedCalls()) == (True, [])


def test_drainOfNobody() -> None:
    """Without sessions there is nothing to wait for."""
    server, clock = make()
    drained = server.drain()
    clock.advance(0)
    assert (drained.called, clock.getDelayedCalls()) == (True, [])


def test_aHandshakeThatIsBeingDecided() -> None:
    """It is refused at once; a request of a session that a middleware looks at is not."""
    answers: list[Deferred[Any]] = []
    isWaiting = [False]

    def middleware(request: Any) -> Any:
        if isWaiting[0]:
            answers.append(Deferred())
            return answers[-1]
        return None

    server, clock = make(allowRequest=lambda request: Deferred() if isWaiting[0] else True)
    server.use(middleware)
    socket, here = start(server)
    socket.send("last")
    isWaiting[0] = True
    poll, opening, early = ask(server, here), ask(server), ask(server)
    answers[1].callback(None)
    drained = server.drain()
    assert (poll.finished, opening.status, early.finished) == (False, 503, False)
    answers[2].callback(None)
    assert early.status == 503
    answers[0].callback(None)
    assert poll.written == b"4last\x1e1"
    clock.advance(0)
    assert (drained.called, clock.getDelayedCalls()) == (True, [])


@pytest.mark.parametrize("when", ["allowRequest", "generateId", "connection", "headers"])
def test_drainedFromInside(when: str) -> None:
    """An application may drain the server while it is asked about a session, or told of one."""
    drained: list[Deferred[None]] = []

    async def drain(request: Any) -> Any:
        drained.append(server.drain())
        await succeed(None)
        return "id" if when == "generateId" else True

    server, clock = make(allowRequest=drain if when == "allowRequest" else None)
    if when == "generateId":
        server.generateId = drain  # type: ignore[method-assign]
    elif when == "connection":
        server.on("connection", lambda socket: drained.append(server.drain()))
    elif when == "headers":
        server.on("initial_headers", lambda headers, request: drained.append(server.drain()))
    request = ask(server)
    if when in ("allowRequest", "generateId"):
        assert (request.status, server.clients) == (503, {})
    else:
        (socket,) = server.clients.values()
        assert (request.status, socket.readyState) == (200, "closing")
        assert ask(server, OPEN + b"&sid=" + socket.id.encode()).written == b"1"
    clock.advance(0)
    assert (drained[0].called, clock.getDelayedCalls()) == (True, [])


@pytest_twisted.ensureDeferred
async def test_drainedByTheHeadersOfAWebSocket(serve: Any) -> None:
    """A session on WebSocket whose 101 isn't written yet is refused; the 503 carries no cookie with its id."""
    from .kit.wire import connectTo

    running = await serve(cookie=True)
    running.server.on("initial_headers", lambda headers, request: running.server.drain() and None)
    wire = await connectTo(running.port)
    wire.send(upgrade())
    response = await wire.response()
    assert (response.status, "set-cookie" in response.headers) == (503, False)
    await wire.lost()


def test_closeHurries() -> None:
    """Closing the server while it is drained ends the waiting, whoever waits."""
    server, clock = make()
    socket, _ = start(server)
    ends: list[str] = []
    socket.on("close", lambda reason, _: ends.append(reason))
    orderly, drained = server.close(drain=True), server.drain()
    assert (ends, orderly.called) == ([], False)
    server.close()
    assert ends == [SHUTTING_DOWN]
    clock.advance(0)
    assert (orderly.called, drained.called, clock.getDelayedCalls()) == (True, True, [])
    assert server.close(drain=True).called


def test_aHandlerThatFails(loggedErrors: list[Any]) -> None:
    """One session's trouble is logged, and keeps no other from ending."""
    server, clock = make()
    sockets = [start(server)[0] for _ in range(2)]

    def fail(closesBy: float) -> None:
        raise RuntimeError("trouble")

    sockets[0].goAway = fail
    drained = server.drain()
    assert [each.readyState for each in sockets] == ["open", "closing"]
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    clock.advance(server.opts.drainTimeout / 1000)
    clock.advance(0)
    assert (drained.called, clock.getDelayedCalls()) == (True, [])


def test_closeStopsListeningFirst() -> None:
    """With `drain`, nobody connects while the sessions end."""
    reactor = MemoryReactorClock()
    server = listen("tcp:1", reactor=reactor)
    socket, _ = start(server)
    states: list[bool] = []
    port: Any = server._ownPorts.open[0]
    stop = port.stopListening
    port.stopListening = lambda: states.append(server.isReady and socket.readyState == "open") or stop()
    closed = server.close(drain=True)
    assert states == [True]
    assert not closed.called
    reactor.advance(server.opts.drainTimeout / 1000)
    reactor.advance(0)
    assert (closed.called, states, reactor.getDelayedCalls()) == (True, [True], [])


# Over real sockets


@pytest_twisted.ensureDeferred
async def test_onEveryTransport(hostile: Hostile) -> None:
    """What is sent in the same turn arrives, with a close packet, or a close frame with 1001."""
    async with hostile(allowEIO3=True, drainTimeout=60_000) as here:
        here.serverEnds = True
        waits, polls, third = await here.open(), await here.open(), await here.ask(http("GET", target(EIO=3)))
        waiting = await here.poll(waits)
        polling = await here.connect()
        sid, webSocket = await here.openWebSocket()
        thirdSid = json.loads(third.body.decode().partition("0")[2])["sid"]
        thirdWebSocket = await here.webSocket(upgrade(target(transport="websocket", EIO=3)))
        await thirdWebSocket.text()
        script = (await here.ask(http("GET", target(j=7)))).body.decode()
        jsonp = script.partition('sid\\":\\"')[2].partition("\\")[0]
        for socket in here.server.clients.values():
            socket.send("last")
        closed = here.server.close(drain=True)
        with pytest.raises(LostError):
            await here.connect()
        # At once, with the GET that waited; the end of the session comes with the next.
        assert (await waiting.response()).packets == ["4last"]
        waiting.send(http("GET", target(sid=waits)))
        assert (await waiting.response()).packets == ["1"]
        for each in (webSocket, thirdWebSocket):
            assert await each.text() == "4last"
            assert await each.closed() == 1001
        # On a connection that is there.
        polling.send(http("GET", target(sid=polls)))
        assert (await polling.response()).packets == ["4last", "1"]
        polling.send(http("GET", target(sid=thirdSid, EIO=3)))
        assert (await polling.response()).body == b"5:4last1:1"
        assert not closed.called
        polling.send(http("GET", target(sid=jsonp)))
        assert (await polling.response()).body == b'___eio[7]("4last\\u001e1");'
        await within(closed, "the end of the server")
        assert {here.records[each].end for each in (waits, polls, thirdSid, sid, jsonp)} == {
            (SHUTTING_DOWN, "the server is closing")
        }
        assert await polling.lost() == b""


@pytest.mark.parametrize("hasPoll", [True, False])
@pytest_twisted.ensureDeferred
async def test_duringAnUpgrade(hasPoll: bool, hostile: Hostile) -> None:
    """Where a WebSocket is being tried out, what was sent goes with the GET that waits, or else on the WebSocket."""
    async with hostile(drainTimeout=60_000) as here:
        here.serverEnds = True
        sid = await here.open()
        candidate = await here.probed(sid)
        if hasPoll:
            # Not ended by a noop.
            poll = await here.connect()
            here.server.clients[sid]._upgrade._nextNoop = here.server.clock.seconds() + 60
            poll.send(http("GET", target(sid=sid)))
            await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
        here.server.clients[sid].send("last")
        drained = here.server.drain()
        if hasPoll:
            assert (await poll.response()).packets == ["4last"]
            poll.send(http("GET", target(sid=sid)))
            assert (await poll.response()).packets == ["1"]
        else:
            candidate.send(makeFrame("5") + makeFrame("4mine"))
            assert await candidate.text() == "4last"
        assert await candidate.closed() == 1001
        await within(drained, "the end of the sessions")
        assert (await here.ask(http("GET", target()))).status == 503


@pytest_twisted.ensureDeferred
async def test_overTLS(connect: Any) -> None:
    """Over TLS the same."""
    wire, sid = await opened(connect)
    wire.send(http("GET", target(sid=sid)))
    webSocket = await connect()
    webSocket.send(upgrade())
    assert (await webSocket.response()).status == 101
    await webSocket.text()
    await eventually(lambda: connect.server.clients[sid].transport.writable, "a waiting GET")
    for socket in connect.server.clients.values():
        socket.send("last")
    closed = connect.server.close(drain=True)
    assert (await wire.response()).packets == ["4last"]
    wire.send(http("GET", target(sid=sid)))
    assert (await wire.response()).packets == ["1"]
    assert await webSocket.text() == "4last"
    assert await webSocket.closed() == 1001
    await within(closed, "the end of the server")


@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_muchToTake(engine: Any, hostile: Hostile) -> None:
    """A client that takes what it is sent gets all of it, however much that is."""
    async with hostile(wsEngine=engine, drainTimeout=60_000) as here:
        here.serverEnds = True
        _, webSocket = await here.openWebSocket()
        sid = await here.open()
        poll = await here.poll(sid)
        webSocket.transport.pauseProducing()
        poll.transport.pauseProducing()
        much = "x" * 5_000_000
        for socket in here.server.clients.values():
            socket.send(much, compress=False)
        closed = here.server.close(drain=True)
        webSocket.transport.resumeProducing()
        poll.transport.resumeProducing()
        assert await webSocket.text() == "4" + much
        assert await webSocket.closed() == 1001
        assert (await poll.response()).packets == ["4" + much]
        poll.send(http("GET", target(sid=sid)))
        assert (await poll.response()).packets == ["1"]
        await within(closed, "the end of the server")


@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_aSlowClient(engine: Any, hostile: Hostile) -> None:
    """What waits in the buffer for a client that takes its time arrives in order, and then the close frame."""
    async with hostile(wsEngine=engine, drainTimeout=60_000) as here:
        here.serverEnds = True
        sid, webSocket = await here.openWebSocket()
        webSocket.transport.pauseProducing()
        socket = here.server.clients[sid]
        messages = [f"{number} ".ljust(50_000, "x") for number in range(200)]
        sent: list[int] = []
        for number, text in enumerate(messages):
            socket.send(text, lambda transport, number=number: sent.append(number), compress=False)
            # What can't wait any more would end the session.
            if socket.bufferedAmount > 900_000:
                del messages[number + 1 :]
                break
        assert socket.writeBuffer
        closed = here.server.close(drain=True)
        assert (socket.readyState, here.records[sid].end) == ("closing", None)
        webSocket.send(makeFrame("4still here"))
        await here.records[sid].got("still here")
        webSocket.transport.resumeProducing()
        for text in messages:
            assert await webSocket.text() == "4" + text
        assert await webSocket.closed() == 1001
        assert sent == list(range(len(messages)))
        await within(closed, "the end of the server")
        assert here.records[sid].end == (SHUTTING_DOWN, "the server is closing")


# A site and its connections


@pytest.fixture(params=[Site, FastSite])
def site(request: pytest.FixtureRequest) -> Any:
    """A site whose root is a L{Late}, with a clock."""
    clock = Clock()
    site = request.param(Late(), reactor=clock)
    site.clock = clock
    site.network = StillNetwork(clock, site)
    return site


def connectedTo(site: Any, *pieces: bytes) -> Connection:
    connection: Connection = site.network.begin()
    connection.say(*pieces)
    return connection


def test_connectionsInUse(site: Any) -> None:
    """What is being asked is answered, also what isn't complete yet; connections on which nothing is are closed."""
    idle = connectedTo(site)
    asking = connectedTo(site, http("GET", "/slow"))
    sending = connectedTo(site, http("POST", "/slow", body=b"ab")[:-1])
    closed = site.closeConnections(10)
    site.network.settle()
    assert (idle.isLost, asking.isLost, sending.isLost) == (True, False, False)
    sending.say(b"b")
    for request in site.resource.requests:
        request.write(b"answer")
        request.finish()
    site.network.settle()
    for connection in (asking, sending):
        assert (b"answer" in connection.value(), connection.isLost) == (True, True)
    assert (closed.called, site.clock.getDelayedCalls()) == (True, [])


def test_connectionsInUseForTooLong(site: Any) -> None:
    """After the time that is given they are cut; closing again, without any, takes no longer than ever."""
    asking = connectedTo(site, http("GET", "/slow"))
    closed = site.closeConnections(10)
    site.clock.advance(9.9)
    site.network.settle()
    assert (asking.isLost, closed.called) == (False, False)
    site.clock.advance(0.1)
    site.network.settle()
    assert (asking.isLost, closed.called) == (True, True)

    stuck = connectedTo(site)
    stuck.holds()
    stuck.say(http("GET", "/slow"))
    site.resource.requests[-1].write(b"what isn't taken")
    site.closeConnections(20)
    closed = site.closeConnections()
    site.network.settle()
    assert not closed.called
    site.clock.advance(CLOSE_TIMEOUT)
    site.network.settle()
    assert closed.called


# The process


def isRefused(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port)).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_sigterm(stopping: Any) -> None:
    """
    SIGTERM: nobody connects any more, what was sent arrives on both transports, then everything is closed.
    """
    service = stopping("--drain-timeout=60000")
    with talking(stopping.port) as polls, talking(stopping.port) as webSocket, talking(stopping.port) as idle:
        sid = polls.open()
        idle.open()
        openedWebSocket(webSocket)
        webSocket.connection.sendall(makeFrame("4stop"))
        assert webSocket.frame() == (1, b"4last")
        assert webSocket.frame() == (CLOSE, GOING_AWAY)
        webSocket.connection.sendall(makeFrame(GOING_AWAY, CLOSE))
        # The port is closed in the turn of the reactor that comes next.
        waitUntil(lambda: isRefused(stopping.port), "the end of the port")
        # Who is connected is told to come back, and may do so elsewhere.
        idle.connection.sendall(http("GET", target()))
        assert idle.response()[0] == 503
        assert polls.ask(http("GET", target(sid=sid))) == b"4last\x1e1"
        # The third session's client doesn't come.
        os.kill(service.process.pid, signal.SIGTERM)
        assert service.ended() == -signal.SIGTERM
        assert idle.connection.recv(1) == b""
    assert "Traceback" not in service.said
    assert "Nothing is waited for any more" in service.said


def test_sigtermWithoutDelay(stopping: Any) -> None:
    """It takes no longer than the clients do."""
    service = stopping("--drain-timeout=60000")
    with talking(stopping.port) as webSocket:
        openedWebSocket(webSocket)
        webSocket.connection.sendall(makeFrame("4stop"))
        assert webSocket.frame() == (1, b"4last")
        assert webSocket.frame() == (CLOSE, GOING_AWAY)
        webSocket.connection.sendall(makeFrame(GOING_AWAY, CLOSE))
        assert service.ended() == -signal.SIGTERM
    assert "Traceback" not in service.said
    assert "Nothing is waited for any more" not in service.said
