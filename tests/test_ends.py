"""Every end comes, whole: whatever raises on the way, and however many sessions end each other."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from engineio_twisted import Server
from engineio_twisted.ends import Ends, attempt, attemptLater
from engineio_twisted.interfaces import Closing
from engineio_twisted.observer import ServerObserver
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import PROBE, Packet, PacketType

from .kit.fakes import FakeRequest, FakeTransport
from .kit.memory import Memory
from .kit.sessions import Session
from .kit.wire import http, makeFrame, target, upgrade

RAISED = [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, RecursionError]


class Named:
    """What ends, as far as its steps know it."""

    logName = "ab…"

    def __init__(self) -> None:
        self.ran: list[str] = []


# The queue


@pytest.mark.parametrize("raised", RAISED)
def test_everyStepRuns(raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """Whatever one raises is logged, with the session; the others run, in their order."""

    def fail(each: Any) -> None:
        each.ran.append("fail")
        raise raised

    ends, session = Ends(Clock()), Named()
    ends.add(session, [lambda each: each.ran.append("a"), fail, lambda each: each.ran.append("b"), fail])
    ends.run()
    assert session.ran == ["a", "fail", "b", "fail"]
    assert [(each["session"], each["log_failure"].type) for each in loggedErrors] == [("ab…", raised)] * 2
    assert "fail failed while session ab… ended" in str(loggedErrors[0]["log_format"].format(**loggedErrors[0]))
    loggedErrors.clear()


def test_noneInsideAnother() -> None:
    """An end that begins in a step follows behind the one that runs; who waits is told after the last."""
    ends, first, second = Ends(Clock()), Named(), Named()
    waiting: list[Deferred[None]] = []

    def begin(each: Any) -> None:
        ends.add(second, [lambda _: first.ran.append("second")])
        ends.run()
        waiting.append(ends.whenEmpty())
        first.ran.append("begun")

    ends.add(first, [begin, lambda each: each.ran.append("last")])
    ends.run()
    assert first.ran == ["begun", "last", "second"]
    assert (waiting[0].called, ends.whenEmpty().called) == (True, True)


def onStack(left: int, call: Callable[[], object]) -> None:
    """Call something when the stack has room for so many calls inside each other."""

    def available(levels: int) -> int:
        try:
            return available(levels + 1)
        except RecursionError:
            return levels

    def deeper(levels: int) -> None:
        if levels <= 0:
            call()
        else:
            deeper(levels - 1)

    deeper(available(0) - left)


def test_aFullStack() -> None:
    """What finds no room on the stack goes on in the next turn, whole; that is asked for once."""
    clock = Clock()
    ends, session = Ends(clock), Named()

    def begin() -> None:
        for each in "ab":
            ends.add(session, [lambda ending, each=each: ending.ran.append(each)])  # type: ignore[misc]
            ends.run()

    onStack(100, begin)
    assert session.ran == []
    waiting = ends.whenEmpty()
    assert (waiting.called, len(clock.getDelayedCalls())) == (False, 1)
    clock.advance(0)
    assert (session.ran, waiting.called, clock.getDelayedCalls()) == (["a", "b"], True, [])


def test_aSmallStack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stack never has as much room as is wanted, ends run in turns of their own."""
    clock = Clock()
    ends, session = Ends(clock), Named()
    monkeypatch.setattr("engineio_twisted.ends.hasRoom", lambda: False)
    ends.add(session, [lambda each: each.ran.append("a")])
    ends.run()
    clock.advance(0)
    assert session.ran == ["a"]


@pytest.mark.parametrize("how", [{}, {"discard": True}])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_closedOnAFullStack(transport: str, how: dict[str, bool]) -> None:
    """Wherever the stack becomes full, a session has either not begun to close, and says so, or ends whole."""
    outcomes = set()
    for left in [*range(1, 80), *range(80, 260, 3)]:
        memory = Memory()
        closes: list[Any] = []
        memory.server.on("connection", lambda socket, to=closes: socket.on("close", lambda *args: to.append(args)))
        if transport == "websocket":
            memory.connect(upgrade())
        else:
            connection = memory.connect(http("GET", target()))
            connection.say(http("GET", target(sid=next(iter(memory.server.clients)))))
        (socket,) = memory.server.clients.values()
        socket.callLater(3600, int)
        try:
            onStack(left, partial(socket.close, **how))
        except RecursionError:
            outcomes.add("refused")
            assert (socket.readyState, closes, memory.server.clientsCount) == ("open", [], 1)
            socket.close(**how)
        else:
            outcomes.add("closed")
            assert socket.readyState in ("closing", "closed")
        memory.clock.advance(0)
        assert (socket.readyState, len(closes), memory.server.clientsCount) == ("closed", 1, 0)
        assert memory.server.stats().closed["forced close"] == 1
        memory.end()
    assert outcomes == {"refused", "closed"}


@pytest.mark.parametrize("how", ["close", "drain", "drain and close"])
def test_aServerClosedOnAFullStack(how: str, loggedErrors: list[Any]) -> None:
    """So does a server, with all its sessions."""
    outcomes = set()
    for left in [*range(1, 80, 5), *range(80, 320, 3)]:
        memory = Memory(drainTimeout=1000)
        closes: list[Any] = []
        memory.server.on("connection", lambda socket, to=closes: socket.on("close", lambda *args: to.append(args)))
        for _ in range(2):
            memory.connect(upgrade())
        call = {
            "close": memory.server.close,
            "drain": memory.server.drain,
            "drain and close": partial(memory.server.close, drain=True),
        }[how]
        try:
            onStack(left, call)
        except RecursionError:
            outcomes.add("refused")
            assert (memory.server.isReady, closes, memory.server.clientsCount) == (True, [], 2)
        else:
            outcomes.add("begun")
            assert not memory.server.isReady
        done = memory.server.close()
        memory.advance(0)
        assert (len(closes), memory.server.clientsCount) == (2, 0)
        memory.advance(3)
        assert done.called
        memory.end()
    assert outcomes == {"refused", "begun"}
    assert loggedErrors == []


@pytest.mark.parametrize("raised", RAISED)
def test_attempt(raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """It returns whether a step came to its end, and never raises; nor does the Deferred of one fail."""

    def fail(*args: object) -> None:
        raise raised

    async def failLater() -> None:
        raise raised

    assert attempt(int, "1")
    assert not attempt(fail, 1, 2)
    results: list[Any] = []
    for each in (fail, lambda: Deferred.fromCoroutine(failLater()), lambda: 5):
        attemptLater(each).addBoth(results.append)
    assert results == [None] * 3
    assert [each["log_failure"].type for each in loggedErrors] == [raised] * 3
    loggedErrors.clear()


def test_aLogThatFails(loggedErrors: list[Any]) -> None:
    """Not even an observer of the log that raises anything stops an end."""

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    def broken(event: Any) -> None:
        raise SystemExit

    globalLogPublisher.addObserver(broken)
    try:
        assert not attempt(fail)
        session = Session()
        session.socket.on("close", fail)
        session.socket.close()
    finally:
        globalLogPublisher.removeObserver(broken)
    assert len(session.closes) == 1
    loggedErrors.clear()


# Transports that raise


def broken(raised: type[BaseException], spared: tuple[str, ...] = ()) -> FakeTransport:
    """A transport whose every method raises, and every attribute that isn't a name, once it is told to."""

    def fail(*args: Any, **keywords: Any) -> Any:
        raise raised("the transport is broken")

    members: dict[str, Any] = {
        name: fail
        for name, _ in inspect.getmembers(FakeTransport, inspect.isfunction)
        if not name.startswith("__") and name not in spared
    }
    members |= {
        name: property(fail) for name in ("writable", "bufferedAmount", "isPolled", "arriving") if name not in spared
    }
    return type("Broken", (FakeTransport,), members)  # type: ignore[return-value]


ENDS: dict[str, Callable[[Any], object]] = {
    "close": lambda session: session.socket.close(),
    "discard": lambda session: session.socket.close(discard=True),
    "shutDown": lambda session: session.socket.shutDown(),
    "goAway": lambda session: session.socket.goAway(10),
    "lost": lambda session: session.socket.transportClosed(
        session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone")
    ),
    "heartbeat": lambda session: session.clock.pump([25, 20, 20]),
    "direction": lambda session: session.socket.receive(Packet(PacketType.PING)),
}


@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("end", ENDS)
def test_aTransportThatRaises(
    end: str, transport: str, buffered: bool, raised: type[BaseException], loggedErrors: list[Any]
) -> None:
    """Every method of the transport raises: the session ends all the same, once, and leaves nothing behind."""
    session = Session(transport)
    socket = session.socket
    waiting = socket.whenClosed()
    candidate = session.candidate() if transport == "polling" else None
    socket.pauseReceiving()
    if buffered:
        session.transport.writable = False
        socket.send("waits")
    for each in (session.transport, candidate):
        if each is not None:
            each.__class__ = broken(raised)
    ENDS[end](session)
    assert socket.readyState == "closed"
    assert (len(session.closes), session.ended, waiting.called) == (1, [socket], True)
    assert session.isQuiet()
    assert all(each["log_failure"].type is raised for each in loggedErrors)
    assert loggedErrors
    loggedErrors.clear()


def test_anUpgradeFromATransportThatRaises(loggedErrors: list[Any]) -> None:
    """The session goes on, on its WebSocket."""
    session = Session("polling")
    candidate = session.candidate()
    candidate.receive(PacketType.PING, PROBE)
    session.transport.__class__ = broken(ZeroDivisionError)
    candidate.receive(PacketType.UPGRADE)
    assert (session.socket.transport, session.socket.upgraded) == (candidate, True)
    session.socket.send("on")
    assert candidate.texts()[-1:] == ["on"]
    session.socket.close()
    assert session.isQuiet()
    loggedErrors.clear()


# Handlers that raise anything


class Observer(ServerObserver):
    def __init__(self, raised: type[BaseException]) -> None:
        self.raised = raised

    def closed(self, *args: Any) -> None:
        raise self.raised

    opened = closed


@pytest.mark.parametrize("raised", RAISED)
def test_everybodyRaises(raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """Handlers, observers, producers, callbacks, work of the session: all raise, and the server closes."""
    clock = Clock()
    server = Server(reactor=clock)

    def fail(*args: Any) -> Any:
        raise raised("by a handler")

    class Producer:
        pauseProducing = resumeProducing = stopProducing = fail

    closed: list[str] = []

    def connected(socket: Any) -> None:
        for event in ("open", "packet", "data", "message", "heartbeat", "flush", "drain", "packetCreate", "error"):
            socket.on(event, fail)
        socket.on("close", fail)
        socket.on("close", lambda reason, _: closed.append(reason))
        socket.registerProducer(Producer(), True)
        socket.follow(Deferred(fail))
        socket.whenClosed().addCallback(fail).addErrback(lambda failure: failure.trap(raised))
        socket.send("for you", fail)

    server.addObserver(Observer(raised))
    server.on("connection", connected)
    server.on("connection", fail)
    server.on("flush", fail)
    for _ in range(3):
        opening = FakeRequest()
        server.handleRequest(opening)
        assert opening.finished
    (socket, *_) = server.clients.values()
    posted = FakeRequest(b"POST", b"/engine.io/?EIO=4&transport=polling&sid=" + socket.id.encode(), b"4hello")
    server.handleRequest(posted)
    assert (posted.finished, posted.status) == (True, 200)
    done = server.close()
    clock.advance(0)
    assert (closed, server.clientsCount, done.called) == (["server shutting down"] * 3, 0, True)
    assert clock.getDelayedCalls() == []
    assert all(each["log_failure"].type is raised for each in loggedErrors)
    loggedErrors.clear()


@pytest.mark.parametrize("where", ["middleware", "allowRequest", "generateId", "origin"])
@pytest.mark.parametrize("isLater", [False, True])
# A GeneratorExit says that somebody ends the coroutine that asks.
@pytest.mark.parametrize("raised", [each for each in RAISED if each is not GeneratorExit])
def test_deciding(raised: type[BaseException], isLater: bool, where: str, loggedErrors: list[Any]) -> None:
    """Who is asked about a request and raises anything has refused it."""
    clock = Clock()
    waiting: list[Deferred[None]] = []

    async def failLater(*args: Any) -> Any:
        waiting.append(Deferred())
        await waiting[-1]
        raise raised

    def fail(*args: Any) -> Any:
        raise raised

    does = failLater if isLater else fail
    options: dict[str, Any] = {"origin": {"cors": {"origin": does}}, "allowRequest": {"allowRequest": does}}
    server = Server(reactor=clock, **options.get(where, {}))
    if where == "middleware":
        server.use(does)
    elif where == "generateId":
        server.generateId = does  # type: ignore[method-assign]
    request = FakeRequest(headers={"Origin": ["https://example.com"]})
    server.handleRequest(request)
    for each in waiting:
        each.callback(None)
    assert (request.finished, request.status) == (True, 403 if where == "allowRequest" else 400)
    assert (server.clientsCount, clock.getDelayedCalls()) == (0, [])
    assert [each["log_failure"].type for each in loggedErrors] == [raised]
    loggedErrors.clear()


def test_aCoroutineThatIsClosed() -> None:
    """A middleware that is never done is let go of without a word: GeneratorExit isn't its failure."""
    clock = Clock()
    server = Server(reactor=clock)
    left: list[str] = []

    async def wait(request: Any) -> None:
        try:
            await Deferred()
        finally:
            left.append(type(sys.exc_info()[1]).__name__)

    server.use(wait)
    request = FakeRequest()
    server.handleRequest(request)
    done = server.close()
    assert (request.status, done.called) == (503, True)
    assert left == ["CancelledError"]


# Sessions that end each other


def chain(server: Server, reasons: list[str], **how: Any) -> None:
    """Each session that ends closes the one that was opened after it."""
    sockets: list[Any] = []

    def closed(index: int) -> None:
        reasons.append(sockets[index].id)
        if index + 1 < len(sockets):
            following = sockets[index + 1]
            following.close(**how)
            assert following.readyState == "closed"
            # Its event follows when this handler has returned.
            assert len(reasons) == index + 1

    def connected(socket: Any) -> None:
        index = len(sockets)
        sockets.append(socket)
        socket.on("close", lambda *_: closed(index))

    server.on("connection", connected)


@pytest.mark.parametrize("how", [{}, {"discard": True}])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.no_cover
@pytest.mark.parametrize("begin", ["one", "server", "lost"])
def test_deepChains(transport: str, how: dict[str, bool], begin: str) -> None:
    """A thousand sessions whose handlers of close each close the next take one level of the stack."""
    memory = Memory()
    reasons: list[str] = []
    chain(memory.server, reasons, **how)
    for _ in range(1000):
        if transport == "websocket":
            memory.connect(upgrade())
        else:
            connection = memory.connect(http("GET", target()))
            sid = list(memory.server.clients)[-1]
            connection.say(http("GET", target(sid=sid)))
    ids = list(memory.server.clients)
    if begin == "one":
        memory.server.clients[ids[0]].close(**how)
    elif begin == "server":
        memory.server.close()
    else:
        memory.connections[0].lose()
    assert reasons == ids
    memory.end()
    assert memory.server.clientsCount == 0


def test_twoServersThatEndEachOther() -> None:
    """So do those of two servers, whose ends aren't in one queue."""
    memories = [Memory(), Memory()]
    sockets: list[Any] = []
    closed: list[int] = []

    def connected(socket: Any) -> None:
        index = len(sockets)
        sockets.append(socket)

        def close(*_: object) -> None:
            closed.append(index)
            if index + 1 < len(sockets):
                sockets[index + 1].close(discard=True)

        socket.on("close", close)

    for each in memories:
        each.server.on("connection", connected)
    for index in range(500):
        memories[index % 2].connect(http("GET", target()))
    sockets[0].close(discard=True)
    assert sorted(closed) == list(range(500))
    for each in memories:
        each.end()


def test_closedFromAnotherEvent() -> None:
    """In a handler of anything but an end, the end comes before `close` returns, as ever."""
    session = Session()
    seen: list[int] = []
    session.socket.on(
        "message", lambda _: (session.socket.close(discard=True) and None) or seen.append(len(session.closes))
    )
    session.transport.receive(PacketType.MESSAGE, "x")
    assert seen == [1]


def test_whenClosedFromInsideAnEnd() -> None:
    """Who asks for the end between the state and the event is told after the event."""
    memory = Memory()
    memory.connect(http("GET", target()))
    memory.connect(http("GET", target()))
    first, second = memory.server.clients.values()
    said: list[str] = []

    def close(*_: object) -> None:
        second.close(discard=True)
        second.whenClosed().addCallback(lambda reason: said.append("told"))
        said.append("closed")

    first.on("close", close)
    second.on("close", lambda *_: said.append("event"))
    first.close(discard=True)
    assert said == ["closed", "event", "told"]
    assert second.whenClosed().called
    memory.end()


def test_closingTheServerFromInsideAnEnd() -> None:
    """It tells that nothing is left when all sessions have heard of their ends."""
    memory = Memory()
    seen: list[str] = []
    for _ in range(3):
        memory.connect(http("GET", target()))
    first, *others = memory.server.clients.values()
    first.on("close", lambda *_: memory.server.close().addCallback(lambda _: seen.append("closed")) and None)
    for each in others:
        each.on("close", lambda *_: seen.append("end"))
    first.close(discard=True)
    memory.clock.advance(0)
    assert seen == ["end", "end", "closed"]
    memory.end()


# DEBUG


@pytest.mark.parametrize("raised", [BrokenPipeError, ValueError, AttributeError, SystemExit])
def test_brokenStderr(monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """A stderr that can't be written to is said once, and stops no session."""

    class Broken:
        def write(self, text: str) -> None:
            raise raised

    monkeypatch.setenv("DEBUG", "engine:*")
    memory = Memory()
    monkeypatch.setattr(sys, "stderr", Broken() if raised is not AttributeError else None)
    memory.connect(http("GET", target()))
    memory.connect(upgrade(), makeFrame("4hello"))
    closed = memory.server.close()
    for each in memory.connections:
        each.lose()
    memory.clock.advance(0)
    monkeypatch.undo()
    assert (memory.server.clientsCount, closed.called) == (0, True)
    assert [each["log_failure"].type for each in loggedErrors] == [raised] * 3
    loggedErrors.clear()
