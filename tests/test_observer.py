"""What a server says of itself: its numbers, and what observers are told."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from engineio_twisted import IServerObserver, Server, ServerObserver, ServerStats
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason, ErrorCode
from engineio_twisted.protocol.packet import Packet, PacketType

from .kit.asking import OPEN, make, opened
from .kit.engines import ENGINES
from .kit.fakes import FakeRequest, FakeTransport
from .kit.observed import ask, fails, session
from .kit.wire import CLOSE, PING, Hostile, connectTo, eventually, http, makeFrame, target, upgrade

pytestmark = pytest.mark.everySite

NOTHING = {
    "opened": 0,
    "upgraded": 0,
    "closed": 0,
    "refused": {},
    "limited": {},
    "packetsReceived": 0,
    "packetsSent": 0,
    "bytesReceived": 0,
    "bytesSent": 0,
}


class Watch(ServerObserver):
    """An observer that adds up what it is told, and remembers the rest."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.refusals: Counter[str] = Counter()
        self.limits: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.live: set[Any] = set()

    def opened(self, socket: Any) -> None:
        assert socket not in self.live
        self.live.add(socket)
        self.told.append(("opened", socket.transport.name))

    def upgraded(self, socket: Any) -> None:
        self.told.append(("upgraded", socket.transport.name))

    def closed(self, socket: Any, reason: str, description: str) -> None:
        self.live.discard(socket)
        self.told.append(("closed", reason, description))

    def refused(self, request: Any, refusal: Any) -> None:
        self.refusals[refusal.name] += 1

    def limited(self, socket: Any, option: str) -> None:
        self.limits[option] += 1

    def packetsReceived(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        self.sums["packetsReceived"] += len(packets)

    def packetsSent(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        assert socket is not None
        self.sums["packetsSent"] += len(packets)

    def bytesReceived(self, socket: Any, size: int) -> None:
        assert socket is not None
        self.sums["bytesReceived"] += size

    def bytesSent(self, socket: Any, size: int) -> None:
        assert socket is not None
        self.sums["bytesSent"] += size

    def buffered(self, socket: Any, packets: int, size: int) -> None:
        assert size == socket.bufferedAmount
        self.told.append(("buffered", packets))

    def named(self, event: str) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.told if each[0] == event]

    def agreesWith(self, stats: ServerStats) -> bool:
        """Whether the server's own numbers are the same."""
        sums = {name: getattr(stats, name) for name in ("packetsReceived", "packetsSent", "bytesReceived", "bytesSent")}
        assert {name: self.sums[name] for name in sums} == sums
        assert (self.refusals, self.limits) == (stats.refused, stats.limited)
        assert (len(self.named("opened")), len(self.named("upgraded"))) == (stats.opened, stats.upgraded)
        ends = Counter(str(reason) for reason, _ in self.named("closed"))
        assert ends == {reason: count for reason, count in stats.closed.items() if count}
        return True


def watched(**options: Any) -> tuple[Server, Watch]:
    server, _ = make(**options)
    watch = Watch()
    server.addObserver(watch)
    return server, watch


def balanced(server: Server) -> bool:
    """Whether what was opened is what was closed and what is live."""
    stats = server.stats()
    live = Counter(each.transport.name for each in server.clients.values())
    assert stats.sessions == {"polling": live["polling"], "websocket": live["websocket"]}
    assert stats.opened - sum(stats.closed.values()) == server.clientsCount
    return True


# Observers


def test_interface() -> None:
    """The base class is a complete observer."""
    verifyObject(IServerObserver, ServerObserver())


def test_whatIsNotOverridden() -> None:
    """Who wants to know one thing is told the rest to no effect; who wants no traffic isn't told of it at all."""

    class One(ServerObserver):
        sent = 0

        def packetsSent(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
            self.sent += len(packets)

    server, _ = make(maxHttpBufferSize=10)
    observer = One()
    server.addObserver(observer)
    server.addObserver(ServerObserver())
    assert server._counters.trafficObservers == (observer,)
    address = session(server)
    socket = next(iter(server.clients.values()))
    socket.send("waits")
    ask(server, address, b"4one")
    candidate = FakeTransport()
    socket.tryUpgrade(candidate)
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    server._counters.limitReached(socket, "someLimit")
    ask(server, OPEN + b"&sid=none")
    server.close()
    # The open packet. What stands in for a WebSocket counts nothing.
    assert observer.sent == server.stats().packetsSent == 1
    server.removeObserver(observer)
    assert server._counters.trafficObservers == ()


def test_onlyObservers() -> None:
    """Whatever isn't one is named, at once and not when something happens."""
    server, _ = make()
    with pytest.raises(TypeError, match="observer 'me': expected one that provides IServerObserver"):
        server.addObserver("me")


def test_onlyWholeObservers() -> None:
    """One that extends nothing and lacks a method is refused, and told nothing; the others go on being told."""

    @implementer(IServerObserver)
    class Half:
        def opened(self, socket: Any) -> None:
            told.append(socket)

    told: list[Any] = []
    server, watch = watched()
    half: Any = Half()
    with pytest.raises(TypeError, match=r"Half object.*: expected a method upgraded; extend ServerObserver"):
        server.addObserver(half)
    session(server)
    assert (told, watch.told) == ([], [("opened", "polling")])


def test_theLifeOfASession() -> None:
    """It is told in order: opened before anything is sent, closed with its reason last."""
    server, watch = watched()
    order: list[str] = []
    server.on("connection", lambda socket: order.append("connection"))
    for name in ("opened", "packetsSent", "closed"):
        setattr(watch, name, lambda *args, name=name: order.append(name))
    address = session(server)
    ask(server, address, b"1")
    assert order == ["opened", "packetsSent", "connection", "closed"]


def test_packetsAndStates() -> None:
    """An observer is given the packets with the transport of each, and the states before and after each change."""

    class Trace(ServerObserver):
        def __init__(self) -> None:
            self.packets: list[tuple[str, str, str, str | bytes]] = []
            self.states: list[tuple[str, str]] = []

        def packetsReceived(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
            self.packets += [("in", transport.name, each.type.name, each.data) for each in packets]

        def packetsSent(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
            self.packets += [("out", transport.name, each.type.name, each.data) for each in packets]

        def stateChanged(self, socket: Any, before: Any, after: Any) -> None:
            assert (type(before), socket.server) == (type(after), server)
            self.states.append((before.value, after.value))

    server, _ = make()
    trace = Trace()
    server.addObserver(trace)
    address = session(server)
    del trace.packets[:]
    socket = next(iter(server.clients.values()))
    ask(server, address, "4é\x1ebAQI=".encode())
    socket.send("one")
    socket.send(b"two")
    ask(server, address)
    server.close()
    assert trace.packets == [
        ("in", "polling", "MESSAGE", "é"),
        ("in", "polling", "MESSAGE", b"\1\2"),
        ("out", "polling", "MESSAGE", "one"),
        ("out", "polling", "MESSAGE", b"two"),
    ]
    assert trace.states == [
        ("opening", "open"),
        ("nothing", "the next ping"),
        ("open", "closed"),
        ("the next ping", "nothing"),
    ]


def test_removed() -> None:
    """Who is removed isn't told any more, and the others are; removing a second time is no error."""
    server, first = watched()
    second = Watch()
    server.addObserver(second)
    session(server)
    server.removeObserver(first)
    server.removeObserver(first)
    server.close()
    assert first.named("closed") == []
    assert second.named("closed") == [("server shutting down", "the server is closing")]


EVENTS = sorted(IServerObserver.names())


def test_anObserverFails(loggedErrors: list[LogEvent]) -> None:
    """What one raises is logged with its class, and neither stops what happens nor keeps it from the others."""

    class Broken(ServerObserver):
        pass

    def fails(*args: Any) -> None:
        raise RuntimeError("out of order")

    for name in EVENTS:
        setattr(Broken, name, fails)
    server, _ = make()
    watch = Watch()
    server.addObserver(Broken())
    server.addObserver(watch)
    address = session(server)
    socket = next(iter(server.clients.values()))
    socket.send("waits")
    assert ask(server, address).written == b"4waits"
    assert ask(server, address, b"4one").written == b"ok"
    assert ask(server, address, b"9").status == 400
    assert watch.agreesWith(server.stats())
    assert balanced(server)
    assert server.measures() == []
    assert {event["event"] for event in loggedErrors} == set(EVENTS) - {"upgraded", "limited", "suspended", "resumed"}
    assert {event["observer"] for event in loggedErrors} == {"Broken"}
    loggedErrors.clear()


def test_buffered() -> None:
    """It is told when a packet has to wait, how many do; what goes out with a flush that runs doesn't wait."""
    server, watch = watched()
    address = session(server)
    socket = next(iter(server.clients.values()))
    watch.told.clear()
    socket.send("one")
    socket.send("two")
    assert watch.told == [("buffered", 1), ("buffered", 2)]
    assert (server.stats().bufferedPackets, server.stats().mostBufferedPackets) == (2, 2)
    assert server.stats().bufferedBytes == server.stats().mostBufferedBytes == socket.bufferedAmount >= len("onetwo")
    socket.once("flush", lambda packets: socket.send("too"))
    assert ask(server, address).written == b"4one\x1e4two\x1e4too"
    assert watch.told == [("buffered", 1), ("buffered", 2)]
    socket.once("drain", lambda: socket.send("late"))
    socket.send("three")
    ask(server, address)
    assert watch.told == [("buffered", 1), ("buffered", 2), ("buffered", 1), ("buffered", 1)]
    server.close()


# Numbers


def test_nothing() -> None:
    """A server that has done nothing says so, with every reason of an end at zero."""
    server, _ = make()
    stats = server.stats()
    assert stats.sessions == {"polling": 0, "websocket": 0}
    assert "ping timeout" in stats.closed
    assert set(stats.closed.values()) == {0}
    assert {name: getattr(stats, name) for name in NOTHING if name != "closed"} == {
        name: value for name, value in NOTHING.items() if name != "closed"
    }
    assert (stats.undecided, stats.reading, stats.webSockets, stats.bufferedPackets, stats.bufferedBytes) == (0,) * 5


def test_statsAreAMoment() -> None:
    """What was returned doesn't change when more happens."""
    server, _ = make()
    before = server.stats()
    session(server)
    ask(server, OPEN + b"&sid=none")
    assert (before.opened, before.refused, before.sessions["polling"]) == (0, {}, 0)
    server.close()


def test_undecided() -> None:
    """Requests that wait for a decision are there to be seen."""
    answer: Deferred[bool] = Deferred()
    server, _ = make(allowRequest=lambda request: answer)
    ask(server, OPEN)
    assert server.stats().undecided == 1
    answer.callback(True)
    assert (server.stats().undecided, server.stats().opened) == (0, 1)
    server.close()


REFUSALS: dict[str, tuple[FakeRequest, int]] = {
    "UNKNOWN_TRANSPORT": (FakeRequest(uri=b"/engine.io/?EIO=4"), 400),
    "UNKNOWN_SID": (FakeRequest(uri=OPEN + b"&sid=none"), 400),
    "BAD_HANDSHAKE_METHOD": (FakeRequest(b"POST", OPEN), 400),
    "UNSUPPORTED_PROTOCOL_VERSION": (FakeRequest(uri=b"/engine.io/?EIO=3&transport=polling"), 400),
    "DUPLICATE_PARAMETER": (FakeRequest(uri=OPEN + b"&sid=a&sid=b"), 400),
    "INVALID_ORIGIN": (FakeRequest(uri=OPEN, headers={"Origin": ["a\x01"]}), 400),
    "INVALID_JSONP_INDEX": (FakeRequest(uri=OPEN + b"&j=x"), 400),
    "TRANSPORT_HANDSHAKE_ERROR": (FakeRequest(uri=b"/engine.io/?EIO=4&transport=websocket"), 400),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusedRequests(name: str) -> None:
    """A request that can't be served is counted once, by its name, and told with its status."""
    server, watch = watched()
    request, status = REFUSALS[name]
    request = FakeRequest(request.method, request.uri, headers=dict(request.requestHeaders.getAllRawHeaders()))
    server.handleRequest(request)
    assert (request.status, server.stats().refused, watch.refusals) == (status, {name: 1}, {name: 1})


def test_refusedOfASession() -> None:
    """So is one that is about a session."""
    server, watch = watched()
    address = session(server)
    assert ask(server, address, method=b"PUT").status == 405
    assert ask(server, address.replace(b"EIO=4", b"EIO=3")).status == 400
    assert ask(server, address.replace(b"polling", b"websocket")).status == 400
    ask(server, address)
    assert ask(server, address).status == 400
    expected = {"METHOD_NOT_ALLOWED": 1, "PROTOCOL_MISMATCH": 1, "TRANSPORT_MISMATCH": 1, "OVERLAPPING_GET": 1}
    assert watch.refusals == expected
    assert watch.agreesWith(server.stats())
    assert balanced(server)


def test_refusedPosts() -> None:
    """So is a POST that its session doesn't take: not a payload, too large, or too late."""
    server, watch = watched(maxHttpBufferSize=10)
    assert ask(server, session(server), b"x").status == 400
    assert ask(server, session(server), b"4" + b"x" * 10).status == 413
    closing = session(server)
    server.clients[closing.partition(b"sid=")[2].decode()].close()
    assert ask(server, closing, b"4late").status == 400
    assert watch.refusals == {"PARSE_ERROR": 1, "maxHttpBufferSize": 1, "SESSION_CLOSING": 1}
    assert watch.agreesWith(server.stats())
    server.close()


def test_refusedByTheApplication(loggedErrors: list[LogEvent]) -> None:
    """So is one that the application refuses, or fails over; one name, whatever it was that failed."""
    for decision in (lambda request: False, fails):
        server, watch = watched(allowRequest=decision)
        ask(server, OPEN)
        assert watch.refusals == {"FORBIDDEN": 1}
    server, watch = watched()
    server.generateId = fails  # type: ignore[method-assign]
    ask(server, OPEN)
    assert watch.refusals == {"ID_GENERATION_ERROR": 1}
    server, watch = watched()
    server.use(fails)
    ask(server, OPEN)
    assert watch.refusals == {"MIDDLEWARE_FAILURE": 1}
    assert watch.agreesWith(server.stats())
    assert len(loggedErrors) == 3
    loggedErrors.clear()


def test_refusedByAFault(loggedErrors: list[LogEvent]) -> None:
    """A fault of the server's own has a name too."""
    server, watch = watched()
    server._router._handshake = fails  # type: ignore[method-assign]
    assert ask(server, OPEN).status == 500
    assert watch.refusals == {"INTERNAL_ERROR": 1}
    loggedErrors.clear()


def test_refusedWhenClosing() -> None:
    """New sessions are refused once the server closes."""
    server, watch = watched()
    server.close()
    assert ask(server, OPEN).status == 503
    assert watch.refusals == {"SERVER_CLOSING": 1}


def test_notRefused() -> None:
    """A client that has gone is answered nothing, and isn't counted."""
    never: Deferred[bool] = Deferred(lambda _: None)
    server, watch = watched(allowRequest=lambda request: never)
    request = ask(server, OPEN)
    request.lose()
    assert (server.stats().refused, watch.refusals) == ({}, {})


def test_everyCodeIsTried() -> None:
    """The tests above leave no code of the protocol out."""
    tried = {*REFUSALS, "FORBIDDEN"}
    assert {each.name for each in ErrorCode} - tried == {"BAD_REQUEST"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "webSocket", "send", "poll", "post", "bad", "upgrade", "end", "drop", "later"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(STEPS)
@settings(deadline=None)
def test_balance(steps: list[tuple[str, int]]) -> None:
    """Whatever happens, what was opened is what has ended and what is live, and observers were told the same."""
    clock = Clock()
    server = Server(reactor=clock)
    watch = Watch()
    server.addObserver(watch)
    server.on("connection", lambda socket: socket.on("message", socket.send))
    sids: list[str] = []
    for step, which in steps:
        sid = sids[which % len(sids)] if sids else "none"
        socket = server.clients.get(sid)
        address = OPEN + b"&sid=" + sid.encode()
        if step == "open":
            sids.append(opened(ask(server, OPEN)))
        elif step == "webSocket":
            sids.append(f"ws{len(sids)}")
            server._factory.open(sids[-1], FakeTransport(), FakeRequest().exchange, 4)
        elif step == "poll":
            ask(server, address)
        elif step == "post":
            ask(server, address, b"4one\x1e4two")
        elif step == "bad":
            ask(server, address, b"9")
        elif step == "later":
            clock.advance(which * 10)
        elif socket is None:
            continue
        elif step == "send":
            socket.send("x" * which)
        elif step == "upgrade":
            candidate = FakeTransport()
            if socket.tryUpgrade(candidate):
                candidate.receive(PacketType.PING, "probe")
                candidate.receive(PacketType.UPGRADE)
        elif step == "end":
            socket.close(discard=which % 2 == 0)
        elif step == "drop":
            socket.transportClosed(socket.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
        assert balanced(server)
    assert watch.agreesWith(server.stats())
    assert watch.live == set(server.clients.values())
    server.close()
    assert balanced(server)
    assert watch.live == set()


# Over real sockets


def watching(here: Any) -> Watch:
    watch = Watch()
    here.server.addObserver(watch)
    return watch


OPENING = len('0{"sid":"","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}') + 28


@pytest.mark.parametrize("isWatched", [True, False], ids=["watched", "unwatched"])
@pytest_twisted.ensureDeferred
async def test_polling(hostile: Hostile, isWatched: bool) -> None:
    """Bytes are those of the bodies that carry packets, as they are sent: an echo has as many in as out."""
    async with hostile() as here:
        before = here.server.stats()
        watch = watching(here) if isWatched else None
        sid = await here.open()
        stats = here.server.stats()
        assert stats.opened - before.opened == 1
        assert stats.packetsSent - before.packetsSent == 1
        assert stats.bytesSent - before.bytesSent == OPENING
        before = stats
        for payload in ("4hello", "4é\x1ebAQID"):
            assert (await here.post(sid, payload)).status == 200
            assert (await here.get(sid)).body.decode() == payload
        stats = here.server.stats()
        size = len("4hello") + len("4é\x1ebAQID".encode())
        assert (stats.bytesReceived - before.bytesReceived, stats.bytesSent - before.bytesSent) == (size, size)
        assert (stats.packetsReceived - before.packetsReceived, stats.packetsSent - before.packetsSent) == (3, 3)
        assert stats.sessions["polling"] == here.server.clientsCount - stats.sessions["websocket"]
        await here.end(sid)
        if watch is not None:
            assert watch.named("opened") == [("polling",)]
            assert len(watch.named("closed")) == 1
        assert balanced(here.server)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("isWatched", [True, False], ids=["watched", "unwatched"])
@pytest_twisted.ensureDeferred
async def test_webSocket(serve: Callable[..., Any], engine: Any, isWatched: bool) -> None:
    """Bytes are those of the frames, in pieces or not, with control frames; the opening handshake isn't among them."""

    def setup(server: Any) -> None:
        server.on("connection", lambda socket: socket.on("message", socket.send))

    here = await serve(setup, wsEngine=engine)
    watch = watching(here) if isWatched else None
    wire = await connectTo(here.port)
    wire.send(upgrade())
    assert (await wire.head()).status == 101
    await wire.frame()
    await eventually(lambda: here.server.stats().opened == 1, "the session")
    stats = here.server.stats()
    # Without upgrades to offer the open packet is that much shorter; it is a frame of medium length or a short one.
    opening = OPENING - len('"websocket"')
    assert (stats.bytesReceived, stats.packetsReceived, stats.packetsSent) == (0, 0, 1)
    assert stats.bytesSent == opening + (2 if opening <= 125 else 4)
    before, received, sent = stats, 0, 0
    frames = [makeFrame("4short"), makeFrame("4" + "é" * 100), makeFrame(b"\1" * 70000), makeFrame(b"ab", PING)]
    pieces = [makeFrame("4pi", isFinal=False), makeFrame(b"eces", 0)]
    for frame in [*frames, b"".join(frames), b"".join(pieces)]:
        wire.send(frame)
        received += len(frame)
    for _ in range(9):
        answer = await wire.frame()
        sent += len(makeFrame(answer.payload, answer.opcode)) - 4
    stats = here.server.stats()
    assert stats.bytesReceived - before.bytesReceived == received
    assert stats.bytesSent - before.bytesSent == sent
    assert (stats.packetsReceived - before.packetsReceived, stats.packetsSent - before.packetsSent) == (7, 7)
    assert (stats.sessions, stats.webSockets) == ({"polling": 0, "websocket": 1}, 1)
    close = makeFrame(b"\x03\xe8", CLOSE)
    wire.send(close)
    assert (await wire.frame()).opcode == CLOSE
    await wire.lost()
    stats = here.server.stats()
    assert stats.bytesReceived - before.bytesReceived == received + len(close)
    assert stats.bytesSent - before.bytesSent == sent + 4
    assert (stats.closed["transport close"], stats.sessions["websocket"]) == (1, 0)
    if watch is not None:
        assert watch.agreesWith(stats)
    assert balanced(here.server)


@pytest_twisted.ensureDeferred
async def test_upgrade(hostile: Hostile) -> None:
    """A session that moves is counted where it is now, with what the upgrade took."""
    async with hostile() as here:
        watch = watching(here)
        before = here.server.stats()
        client = await here.client()
        assert await client.upgrade()
        await client.echo("moved")
        stats = here.server.stats()
        assert stats.upgraded - before.upgraded == 1
        assert stats.sessions["websocket"] - before.sessions["websocket"] == 1
        assert stats.sessions["polling"] == before.sessions["polling"]
        # The probe, the upgrade, the message.
        assert stats.packetsReceived - before.packetsReceived == 3
        assert watch.named("upgraded") == [("websocket",)]
        await client.close()
        assert balanced(here.server)


@pytest_twisted.ensureDeferred
async def test_secondWebSocket(hostile: Hostile) -> None:
    """What comes on a WebSocket that no session takes is told with the session it was for."""
    async with hostile() as here:
        watch = watching(here)
        sid = await here.open()
        await here.probed(sid)
        before = here.server.stats()
        second = await here.webSocket(upgrade(target(transport="websocket", sid=sid)), makeFrame("2probe"))
        assert await second.closed() == 1000
        await eventually(lambda: here.server.stats().bytesReceived - before.bytesReceived >= 12, "its bytes")
        assert watch.sums["bytesSent"] > 0
        await here.end(sid)
        assert balanced(here.server)


@pytest_twisted.ensureDeferred
async def test_compressedBody(hostile: Hostile) -> None:
    """What is compressed counts as it is sent, also where it goes out in pieces."""
    async with hostile() as here:
        for size in (10_000, 300_000):
            sid = await here.open()
            watch = watching(here)
            here.server.clients[sid].send(b"\0" * size)
            before = here.server.stats()
            where = target(sid=sid)
            response = await here.ask(http("GET", where, [("Accept-Encoding", "gzip")]))
            assert len(gzip.decompress(response.body)) > size
            assert here.server.stats().bytesSent - before.bytesSent == len(response.body) == watch.sums["bytesSent"]
            here.server.removeObserver(watch)
            await here.end(sid)


@pytest_twisted.ensureDeferred
async def test_tooLarge(hostile: Hostile) -> None:
    """A body over the limit is a refused request, wherever it is noticed; a message over it closes a session."""
    async with hostile(maxHttpBufferSize=1000) as here:
        watch = watching(here)
        sid = await here.open()
        before = here.server.stats().bytesReceived
        head = http("POST", target(sid=sid), [("Content-Length", "1001")])
        assert (await here.ask(head)).status == 413
        await here.records[sid].closed()
        assert (await here.post(await here.open(), "4" + "x" * 1000)).status == 413
        assert watch.refusals == {"maxHttpBufferSize": 2}
        assert here.server.stats().bytesReceived == before
        _, wire = await here.openWebSocket()
        wire.send(makeFrame("4" + "x" * 1000))
        assert (await wire.frame()).code == 1009
        assert (watch.limits, here.server.stats().limited) == ({"maxHttpBufferSize": 1}, {"maxHttpBufferSize": 1})
        assert watch.refusals == {"maxHttpBufferSize": 2}


@pytest_twisted.ensureDeferred
async def test_overlappingPosts(hostile: Hostile) -> None:
    """A second POST on a session that reads one is counted once, and the session's end once."""
    async with hostile() as here:
        watch = watching(here)
        sid = await here.open()
        first = await here.say(http("POST", target(sid=sid), [("Content-Length", "6")]) + b"4on")
        await eventually(lambda: here.server.stats().reading == 1, "the first POST")
        assert (await here.post(sid, "4two")).status == 400
        await first.lost()
        assert watch.refusals == {"OVERLAPPING_POST": 1}
        assert watch.named("closed") == [("transport error", "overlapping POST requests")]
        assert balanced(here.server)


@pytest_twisted.ensureDeferred
async def test_refusedWebSockets(hostile: Hostile) -> None:
    """A WebSocket that is refused is counted like any request."""
    async with hostile() as here:
        watch = watching(here)
        assert (await here.ask(upgrade(Sec_WebSocket_Key="short"))).status == 400
        assert (await here.ask(upgrade(target(transport="websocket", sid="none")))).status == 400
        assert watch.refusals == {"TRANSPORT_HANDSHAKE_ERROR": 1, "UNKNOWN_SID": 1}
