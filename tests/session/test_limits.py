"""Limits: what is refused, by which name; that everything else goes on; that nothing is counted twice or for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import CloseReason, Server
from engineio_twisted.logs import LogThrottle
from engineio_twisted.observer import Counters
from engineio_twisted.protocol import options
from engineio_twisted.protocol.errors import RateLimitExceeded
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.limited import LimitedSession
from engineio_twisted.session.limits import Meter, SessionLimitExceeded, SessionLimits
from engineio_twisted.testing import MemoryServer
from engineio_twisted.web.decisions import DECISION_TIMEOUT

from ..kit.engines import ENGINES
from ..kit.fakes import FakeHost, FakeRequest, FakeTransport
from ..kit.wire import Hostile, Wire, connectTo, eventually, http, makeFrame, target, upgrade

pytestmark = pytest.mark.everySite

OPEN = b"/engine.io/?EIO=4&transport=polling"
HOST = "203.0.113.9"


# Counting


def limits(**given: Any) -> SessionLimits:
    return SessionLimits(ServerOptions(**given))


def refused(
    these: SessionLimits, address: str | None = HOST, sessions: int = 0, now: float = 0
) -> SessionLimitExceeded:
    with pytest.raises(SessionLimitExceeded) as caught:
        these.admit(address, sessions, now)
    return caught.value


def test_sessionsInAll() -> None:
    """Those that are open, and those that are being decided about."""
    these = limits(maxSessions=3)
    these.admit(None, 1, 0)
    waiting = these.admit(HOST, 1, 0)
    refusal = refused(these, None, 1)
    assert (refusal.name, refusal.status, refusal.headers) == ("maxSessions", 503, {"Retry-After": "5"})
    assert refusal.message == "there are as many sessions as maxSessions allows, 3"
    waiting.giveUp()
    these.admit(None, 1, 0)
    assert refused(these, HOST, 1).name == "maxSessions"


def test_sessionsOfAnAddress() -> None:
    """A place is free when its session has ended, or its handshake was given up; each of that counts once."""
    these = limits(maxSessionsPerAddress=2)
    first, second = these.admit(HOST, 0, 0), these.admit(HOST, 0, 0)
    refusal = refused(these)
    assert (refusal.name, refusal.status, refusal.headers) == ("maxSessionsPerAddress", 429, {"Retry-After": "5"})
    assert refusal.message == (
        "203.0.113.9 has as many sessions as maxSessionsPerAddress allows, 2; if it is a proxy, name it in"
        " trustedProxies"
    )
    these.admit("203.0.113.10", 0, 0)
    first.giveUp()
    first.giveUp()
    third = these.admit(HOST, 0, 0)
    refused(these)
    place = second.take()
    second.giveUp()
    refused(these)
    these.leave(place)
    these.admit(HOST, 0, 0)
    refused(these)
    these.leave(third.take())
    these.admit(HOST, 0, 0)


def test_aSessionThatIsOpenedAfterAll() -> None:
    """Of a handshake that was given up, where an engine takes its time: it counts, and is counted out."""
    these = limits(maxSessionsPerAddress=1)
    late = these.admit(HOST, 0, 0)
    late.giveUp()
    assert these.pending == 0
    place = late.take()
    assert these.pending == 0
    refused(these)
    these.leave(place)
    these.admit(HOST, 0, 0)
    # Without an address there is nothing to count.
    late = these.admit(None, 0, 0)
    late.giveUp()
    assert late.take() is None
    assert these.pending == 1


def test_handshakesOfAnAddress() -> None:
    """So many in a second, whatever becomes of them; then it begins anew."""
    these = limits(maxHandshakesPerSecondPerAddress=2, maxSessions=1)
    these.admit(HOST, 0, 10.9)
    refused(these, now=10.95)
    refusal = refused(these, now=10.99)
    assert (refusal.status, refusal.headers) == (429, {"Retry-After": "1"})
    assert refusal.name == "maxHandshakesPerSecondPerAddress"
    assert refusal.message == (
        "from 203.0.113.9 came as many handshakes in a second as maxHandshakesPerSecondPerAddress allows, 2; if it is a"
        " proxy, name it in trustedProxies"
    )
    assert refused(these, "203.0.113.10", now=10.99).name == "maxSessions"
    assert refused(these, now=11).name == "maxSessions"
    # A clock may be set back.
    assert refused(these, now=7).name == "maxSessions"


def test_nothingIsKeptOfAddressesThatHaveGone() -> None:
    """Whoever has many addresses can't fill the memory."""
    these = limits()
    for number in range(5000):
        these.leave(these.admit(f"203.0.{number >> 8}.{number & 255}", 0, number).take())
    assert len(these._sessions) == 0
    assert len(these._handshakes) <= 1
    assert these._addressKeyOf.cache_info().currsize <= 4096


@pytest.mark.parametrize(
    ("one", "other", "isSame"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", HOST, True),
        ("64:ff9b::203.0.113.9", HOST, True),
        ("64:ff9b::203.0.113.9", "64:ff9b::203.0.113.8", False),
        (HOST, "203.0.113.8", False),
    ],
)
def test_whoIsTheSame(one: str, other: str, isSame: bool) -> None:
    """Who has one address of IPv6 has all of its /64; IPv4 as IPv6, mapped or translated, is IPv4."""
    these = limits(maxSessionsPerAddress=1)
    these.admit(one, 0, 0)
    if isSame:
        assert "::/64 has" in refused(these, other).message or HOST in refused(these, other).message
    else:
        these.admit(other, 0, 0)


@pytest.mark.parametrize(
    "address",
    [None, "127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.31.0.1", "fd00::1", "fe80::1%eth0", "100.64.1.1"],
)
def test_whatMayBeAProxyIsNotCounted(address: str | None) -> None:
    """On the machine or the network of the server, without a word about proxies, everybody may be behind an address."""
    these = limits(maxSessionsPerAddress=1, maxHandshakesPerSecondPerAddress=1)
    for _ in range(3):
        these.admit(address, 0, 0)
    told = limits(maxSessionsPerAddress=1, maxHandshakesPerSecondPerAddress=1, trustedProxies=["192.0.2.0/24"])
    told.admit(address, 0, 0)
    if address is None:
        told.admit(address, 0, 0)
    else:
        refused(told, address)
    for _ in range(3):
        told.admit("192.0.2.77", 0, 0)


def test_withoutLimits() -> None:
    """None is any number, and then nobody asks for an address."""
    none: Any = dict.fromkeys(("maxSessions", "maxSessionsPerAddress", "maxHandshakesPerSecondPerAddress"))
    these = limits(**none)
    assert not these.needsAddress
    for _ in range(3):
        these.admit(HOST, 10**9, 0)


def test_defaultsHurtNobody() -> None:
    """A campus behind one address that comes back after a restart, and what a process can hold."""
    these = limits()
    for number in range(5000):
        these.admit(HOST, number, number / 900)
    these.admit("198.51.100.1", 99_000 - these.pending, 0)


@pytest.mark.parametrize(
    ("given", "sizes", "exceeded"),
    [
        ((3, None), [(1, 0), (1, 0.5), (1, 0.9), (1, 0.99)], ("maxMessagesPerSecond", 3)),
        ((3, None), [(1, 0), (1, 0.5), (1, 0.9), (1, 1), (1, 1.5), (1, 1.9)], None),
        ((None, 10), [(5, 0), (5, 0.5), (1, 0.9)], ("maxBytesPerSecond", 10)),
        ((None, 10), [(5, 0), (5, 0.5), (10, 1)], None),
        ((3, 10), [(11, 0)], ("maxBytesPerSecond", 10)),
        # A clock that is set back begins a new second, and doesn't make it one of an hour.
        ((3, None), [(1, 3600), (1, 3600), (1, 0), (1, 0), (1, 0)], None),
    ],
)
def test_meter(given: Any, sizes: list[tuple[int, float]], exceeded: Any) -> None:
    """What comes in a second is counted from the first of it."""
    meter = Meter(*given)
    found = [meter.count(size, now) for size, now in sizes]
    assert found[-1] == exceeded
    assert found[:-1] == [None] * (len(sizes) - 1)


# On a server: each way in which a handshake can end


def make(**given: Any) -> tuple[Server, Clock]:
    clock = Clock()
    return Server(reactor=clock, **given), clock


def request(peer: Any = None, uri: bytes = OPEN) -> FakeRequest:
    found = FakeRequest(uri=uri)
    found.getClientAddress = lambda: peer or IPv4Address("TCP", HOST, 1)  # type: ignore[method-assign]
    return found


def ask(server: Server, peer: Any = None) -> FakeRequest:
    asking = request(peer)
    server.handleRequest(asking)
    return asking


def counts(server: Server) -> tuple[int, int]:
    """How many handshakes are being decided about, and how many sessions and handshakes the address has."""
    return server._factory._limits.pending, server._factory._limits._sessions.get(HOST, 0)


def test_refusals(warnings: list[str]) -> None:
    """What the client is told, what is logged, once a second, and what is counted."""
    server, clock = make(maxSessionsPerAddress=1)
    assert ask(server).status == 200
    for _ in range(3):
        asking = ask(server)
        assert (asking.status, asking.header("Retry-After")) == (429, "5")
        assert json.loads(asking.written)["message"].startswith("203.0.113.9 has as many sessions")
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "A handshake was refused: 203.0.113.9 has as many sessions as maxSessionsPerAddress al"
    )
    clock.advance(1)
    ask(server)
    assert len(warnings) == 2
    assert server.stats().refused == {"maxSessionsPerAddress": 4}
    (socket,) = server.clients.values()
    socket.close(discard=True)
    assert ask(server).status == 200
    server.close()
    assert counts(server) == (0, 0)


def test_sessionsOfAll() -> None:
    """The limit in all holds for whoever has no address, and is free again when a session ends."""
    server, _ = make(maxSessions=2)
    assert [ask(server, UNIXAddress(b"/x")).status for _ in range(3)] == [200, 200, 503]
    next(iter(server.clients.values())).close(discard=True)
    assert [ask(server).status for _ in range(2)] == [200, 503]
    assert server.stats().refused == {"maxSessions": 2}
    server.close()


@pytest.fixture
def failures(loggedErrors: list[LogEvent]) -> Any:
    """Expects errors in the log."""
    yield loggedErrors
    assert loggedErrors
    loggedErrors.clear()


def test_refusedByTheApplication(failures: Any) -> None:
    """A handshake that is refused, or at which the application fails, leaves nothing."""

    def boom(request: Any) -> bool:
        raise ValueError("boom")

    for allow in (lambda request: False, boom):
        server, _ = make(maxSessionsPerAddress=1, allowRequest=allow)
        assert [ask(server).status for _ in range(2)] == [403, 403]
        assert counts(server) == (0, 0)


def test_failingHandshakes(failures: Any) -> None:
    """The same where something of ours or of the application's fails on the way."""
    server, _ = make(maxSessionsPerAddress=1)

    def fail(*args: Any) -> Any:
        raise RuntimeError("boom")

    server.generateId = fail  # type: ignore[method-assign]
    assert ask(server).status == 400
    del server.generateId
    server.on("initial_headers", fail)
    assert ask(server).status == 200
    (socket,) = server.clients.values()
    socket.close(discard=True)
    server._factory.open = fail  # type: ignore[method-assign]
    assert ask(server).status == 500
    assert counts(server) == (0, 0)


@pytest.mark.parametrize("hears", ["connection", "packetCreate"])
def test_closedByAHandler(hears: str) -> None:
    """A session that a handler closes, before or as soon as its application hears of it, leaves nothing."""
    server, _ = make(maxSessionsPerAddress=1)
    if hears == "connection":
        server.on("connection", lambda socket: socket.close(discard=True))
    else:
        server.on("flush", lambda socket, packets: socket.close(discard=True))
    for _ in range(3):
        ask(server)
        assert (counts(server), server.clients) == ((0, 0), {})


End = Callable[[Server, Clock, FakeRequest, "Deferred[bool]"], object]


@pytest.mark.parametrize(
    ("end", "isOpened"),
    [
        (lambda server, clock, asking, answer: answer.callback(True), True),
        (lambda server, clock, asking, answer: answer.callback(False), False),
        (lambda server, clock, asking, answer: asking.lose(), False),
        (lambda server, clock, asking, answer: clock.advance(DECISION_TIMEOUT), False),
        (lambda server, clock, asking, answer: server.close(), False),
    ],
    ids=["allowed", "refused", "gone", "too slow", "server closed"],
)
@pytest.mark.parametrize("isDeaf", [False, True])
def test_decisionsThatTakeTime(end: End, isOpened: bool, isDeaf: bool) -> None:
    """While it is decided about, a handshake has its place, so that nobody gets past; then its session, or nobody."""
    answers: list[Deferred[bool]] = []

    async def allow(request: Any) -> bool:
        answers.append(Deferred())
        while True:
            try:
                return await answers[-1]
            except BaseException:
                if not isDeaf:
                    raise
                # Whoever takes no notice of being cancelled doesn't keep the place.
                answers.append(Deferred())

    server, clock = make(maxSessionsPerAddress=1, allowRequest=allow)
    asking = ask(server)
    assert counts(server) == (1, 1)
    assert ask(server).status == 429
    end(server, clock, asking, answers[0])
    assert counts(server) == (0, int(isOpened))
    assert len(server.clients) == int(isOpened)
    if isDeaf and len(answers) > 1:
        answers[-1].callback(True)
        assert (counts(server), server.clients) == ((0, 0), {})
    server.close()
    assert (counts(server), clock.getDelayedCalls()) == ((0, 0), [])


def test_addressesOfProxies() -> None:
    """Behind a trusted proxy it is the client that counts, and not the proxy."""
    server, _ = make(maxSessionsPerAddress=1, trustedProxies="10.0.0.1")
    proxy = IPv4Address("TCP", "10.0.0.1", 1)

    def by(peer: Any, client: str | None) -> int:
        asking = request(peer)
        if client is not None:
            asking.requestHeaders.setRawHeaders("X-Forwarded-For", [client])
        server.handleRequest(asking)
        return asking.status

    assert [by(proxy, None) for _ in range(3)] == [200, 200, 200]
    assert [by(proxy, HOST), by(proxy, HOST), by(proxy, "198.51.100.1")] == [200, 429, 200]
    assert by(IPv4Address("TCP", HOST, 1), "198.51.100.2") == 429
    assert by(IPv6Address("TCP", f"::ffff:{HOST}", 1), None) == 429
    server.close()


# What a client may send


class Session:
    """A session on a fake transport, whose options have limits."""

    def __init__(self, transport: str = "websocket", host: FakeHost | None = None, **given: Any) -> None:
        self.clock: Any = Clock() if host is None else host.clock
        self.closes: list[tuple[str, str]] = []
        self.transport = FakeTransport(transport)
        self.host = FakeHost(self.clock, **given) if host is None else host
        self.ended = self.host.ended
        self.socket = LimitedSession("sid-1234567", self.host, self.transport, FakeRequest().exchange, 4)
        self.socket.on("close", lambda *args: self.closes.append(args))
        self.messages: list[Any] = []
        self.socket.on("message", self.messages.append)
        self.socket.open()

    def over(self) -> Any:
        """How it ended; then nothing of it is left."""
        (found,) = self.closes
        assert (self.ended, self.clock.getDelayedCalls()) == ([self.socket], [])
        return found


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_messagesPerSecond(transport: str, warnings: list[str]) -> None:
    """What is allowed is delivered, pings and pongs count, and then the session ends, with the option in the reason."""
    session = Session(transport, maxMessagesPerSecond=3)
    session.transport.receive(PacketType.MESSAGE, "a")
    session.transport.receive(PacketType.MESSAGE, b"b")
    session.clock.advance(1)
    session.transport.receive(PacketType.MESSAGE, "c")
    session.transport.receive(PacketType.PONG)
    session.transport.receive(PacketType.MESSAGE, "d")
    assert session.socket.readyState == "open"
    refusal = session.socket.transportPacket(session.transport, Packet(PacketType.MESSAGE, "e"))
    assert session.messages == ["a", b"b", "c", "d"]
    reason = "more came in a second than maxMessagesPerSecond allows, 3"
    assert session.over() == (CloseReason.RATE_LIMIT_EXCEEDED, reason) == ("rate limit exceeded", reason)
    assert session.transport.reasons == ["rate limit exceeded"]
    assert warnings == [f"Session {session.socket.logName} ends: {reason}"]
    # Where a POST brought it, that is refused and counted so.
    assert session.host.counters.limited == ({} if transport == "polling" else {"maxMessagesPerSecond": 1})
    assert session.host.counters.closed["rate limit exceeded"] == 1
    assert isinstance(refusal, RateLimitExceeded)
    assert (refusal.name, refusal.status) == ("maxMessagesPerSecond", 429)


def test_sessionsDoNotFloodTheLog(warnings: list[str]) -> None:
    """Of those that end by what comes, or by what waits for them, a line a second and limit; all are counted."""
    first = Session(maxMessagesPerSecond=1, maxBufferedPackets=1)
    first.host.counters = Counters(LogThrottle(lambda: first.clock))
    for _ in range(2):
        for _ in range(3):
            chatty, slow = Session(host=first.host), Session(host=first.host)
            for _ in range(2):
                chatty.transport.receive(PacketType.MESSAGE, "a")
            slow.transport.writable = False
            for _ in range(2):
                slow.socket.send("x")
            assert (chatty.socket.readyState, slow.socket.readyState) == ("closed", "closed")
        first.clock.advance(1)
    assert [each.partition("… ")[2][:20] for each in warnings[:2]] == ["ends: more came in a", "closed: the client d"]
    options = ("maxMessagesPerSecond", "maxBufferedPackets")
    assert warnings[2:] == [f"{each}: {count} more lines were suppressed" for count in (2, 3) for each in options]
    assert first.host.counters.limited == {"maxMessagesPerSecond": 6, "maxBufferedPackets": 6}


def test_largeMessagesDoNotFloodTheLog(warnings: list[str]) -> None:
    """One line a second says that WebSockets are closed with 1009, or how often that was."""
    with MemoryServer(lambda server: None, maxHttpBufferSize=100) as kit:
        for seconds in (0, 0, 2):
            kit.advance(seconds)
            client = kit.connect("websocket")
            client.send("x" * 200)
            assert client.closed is not None
        assert ["WebSocket of" in each for each in warnings] == [True, False, True]
        assert warnings[1] == "WebSockets closed with 1009: 1 more lines were suppressed"
        assert kit.server.stats().limited == {"maxHttpBufferSize": 3}


@pytest.mark.parametrize(
    ("data", "isWithin"),
    [("x" * 9, True), ("x" * 10, False), (b"x" * 9, True), ("€€€", False), ("", True)],
)
def test_bytesPerSecond(data: Any, isWithin: bool) -> None:
    """The bytes of packets as they are on the wire: their digit, and text as UTF-8."""
    session = Session(maxBytesPerSecond=10 if data != "€€€" else 9)
    session.transport.receive(PacketType.MESSAGE, data)
    assert (session.socket.readyState == "open") is isWithin
    if not isWithin:
        assert session.over()[1].startswith("more came in a second than maxBytesPerSecond allows")
    else:
        session.socket.close(discard=True)


SIGNS: dict[str, Callable[[Session], object]] = {
    "a poll": lambda session: session.transport.ready(),
    "a packet": lambda session: session.transport.receive(PacketType.MESSAGE, "x"),
    "a WebSocket": lambda session: session.socket.tryUpgrade(FakeTransport()),
    "a pong": lambda session: session.transport.receive(PacketType.PONG),
}


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_firstPacketTimeout(transport: str) -> None:
    """A client that opens a session and says nothing more is gone before the heartbeat finds out."""
    session = Session(transport, firstPacketTimeout=5000)
    session.clock.advance(4.9)
    assert session.closes == []
    session.clock.advance(0.1)
    assert session.over() == ("ping timeout", "nothing came within firstPacketTimeout, 5000 ms")
    assert session.host.counters.limited == {"firstPacketTimeout": 1}


@pytest.mark.parametrize(
    ("transport", "sign"),
    [
        *(("polling", each) for each in ("a poll", "a packet", "a WebSocket")),
        ("websocket", "a packet"),
        ("websocket", "a pong"),
    ],
)
def test_theFirstSign(transport: str, sign: str) -> None:
    """Whatever a client does next, it is there, and only the heartbeat asks for it from then on."""
    session = Session(transport, firstPacketTimeout=5000, pingInterval=20000)
    session.clock.advance(4.9)
    SIGNS[sign](session)
    session.clock.advance(15)
    assert session.closes == []
    session.socket.close(discard=True)
    session.over()


def test_closedBeforeTheFirstSign() -> None:
    """The timer ends with the session."""
    session = Session(firstPacketTimeout=5000)
    session.socket.close(discard=True)
    assert session.over()[0] == "forced close"


def test_plainSessionsHaveNoLimits() -> None:
    """Without the options, sessions are of the class that knows nothing of them."""
    server, _ = make()
    ask(server)
    assert [isinstance(each, LimitedSession) for each in server.clients.values()] == [False]
    server.close()
    for name in ("maxMessagesPerSecond", "maxBytesPerSecond", "firstPacketTimeout"):
        limited, _ = make(**{name: 5})
        ask(limited)
        assert [type(each) for each in limited.clients.values()] == [LimitedSession]
        limited.close()


def test_everyLimitIsAnOption() -> None:
    """Each has its value in an option, and those of a session can be left out."""
    names = [each.name for each in attrs.fields(options.ServerOptions) if each.name.startswith("max")]
    assert {"maxSessions", "maxSessionsPerAddress", "maxPacketsPerPayload", "maxBytesPerSecond"} <= set(names)


# Over real sockets


@pytest.mark.parametrize("wsEngine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_rateOverTheWire(hostile: Hostile, wsEngine: Any) -> None:
    """A WebSocket is closed with 1008; a POST is answered 429, what came before delivered; others aren't touched."""
    async with hostile(maxMessagesPerSecond=50, wsEngine=wsEngine, pingInterval=60000) as here:
        sid, wire = await here.openWebSocket()
        record = here.records[sid]
        record.socket.removeListener("message", record.socket.listeners("message")[-1])
        for number in range(51):
            wire.send(makeFrame(f"4{number}"))
        assert await record.closed() == (
            "rate limit exceeded",
            "more came in a second than maxMessagesPerSecond allows, 50",
        )
        assert record.messages == [str(each) for each in range(50)]
        while (frame := await wire.frame()).opcode != 8:
            assert frame.opcode == 1
        assert frame.code == 1008
        wire.drop()
        sid = await here.open()
        response = await here.post(sid, "\x1e".join(f"4{number}" for number in range(51)))
        assert (response.status, response.json) == (
            429,
            {"message": "more came in a second than maxMessagesPerSecond allows, 50"},
        )
        assert here.records[sid].messages == [str(each) for each in range(50)]
        assert (await here.records[sid].closed())[0] == "rate limit exceeded"
        assert here.server.stats().refused == {"maxMessagesPerSecond": 1}
        assert here.server.stats().limited == {"maxMessagesPerSecond": 1}


@pytest.mark.parametrize(
    ("payload", "isBinary", "count"),
    [
        ("\x1e".join(["4x"] * 5), None, 5),
        ("\x1e".join(["4x"] * 6), None, 6),
        ("\x1e" * 6, None, 7),
        ("2:4x" * 5, False, 5),
        ("2:4x" * 6, False, 6),
        (b"\x01\x02\xff\x04x" * 5, True, 5),
        (b"\x01\x02\xff\x04x" * 6, True, 6),
        (b"\x00\x02\xff4x" * 6, True, 6),
        ("2:4€" * 6, False, 6),
    ],
)
@pytest_twisted.ensureDeferred
async def test_packetsPerPayload(hostile: Hostile, payload: str | bytes, isBinary: bool | None, count: int) -> None:
    """A payload with too many is refused before anything of it is delivered, and ends its session."""
    async with hostile(maxPacketsPerPayload=5, allowEIO3=True, echoes=False) as here:
        revision = "4" if isBinary is None else "3"
        opened = await here.ask(http("GET", target(EIO=revision)))
        sid = next(reversed(here.records))
        assert opened.status == 200
        kind = [("Content-Type", "application/octet-stream")] if isBinary else []
        body = payload.encode() if isinstance(payload, str) else payload
        response = await here.ask(http("POST", target(sid=sid, EIO=revision), kind, body))
        if count > 5:
            assert response.status == 413
            assert response.json == {"message": "the body holds more packets than maxPacketsPerPayload, 5"}
            assert here.records[sid].messages == []
            assert here.server.stats().refused == {"maxPacketsPerPayload": 1}
            assert await here.records[sid].closed() == (
                "transport error",
                "the body holds more packets than maxPacketsPerPayload, 5",
            )
            return
        assert response.status == 200
        assert len(here.records[sid].messages) == 5
        assert here.records[sid].end is None
        one = "4on" if isBinary is None else "3:4on"
        assert (await here.ask(http("POST", target(sid=sid, EIO=revision), body=one.encode()))).status == 200
        assert here.records[sid].messages[-1] == "on"
        here.server.clients[sid].close(discard=True)


@pytest_twisted.ensureDeferred
async def test_aBrokenPayloadIsBroken(hostile: Hostile) -> None:
    """One of revision 3 that breaks off before there are too many packets: those before are delivered, as ever."""
    async with hostile(maxPacketsPerPayload=5, allowEIO3=True, echoes=False) as here:
        await here.ask(http("GET", target(EIO="3")))
        sid = next(reversed(here.records))
        response = await here.ask(http("POST", target(sid=sid, EIO="3"), body=b"2:4a2:4bnonsense"))
        assert response.status == 400
        assert here.records[sid].messages == ["a", "b"]
        assert (await here.records[sid].closed())[0] == "parse error"


@pytest_twisted.ensureDeferred
async def test_sessionsOverTheWire(serve: Any) -> None:
    """Both transports are counted together, by the address that a trusted proxy names; what ends frees its place."""
    running = await serve(maxSessionsPerAddress=2, trustedProxies="127.0.0.1")
    extra = f"X-Forwarded-For: {HOST}\r\n"
    wires: list[Wire] = []

    async def say(data: bytes) -> int:
        wires.append(await connectTo(running.port))
        wires[-1].send(data)
        return (await wires[-1].head()).status

    polling = http("GET", target(), [("X-Forwarded-For", HOST)])
    assert [await say(polling), await say(upgrade(extra=extra))] == [200, 101]
    assert [await say(polling), await say(upgrade(extra=extra))] == [429, 429]
    assert await say(upgrade()) == 101
    wires[1].drop()
    await wires[1].until(lambda: wires[1].isLost, "the end")
    await eventually(lambda: running.server.clientsCount == 2, "a free place")
    assert await say(upgrade(extra=extra)) == 101
    # Whoever is refused when the handshake of its WebSocket is wrong has had no place.
    assert await say(upgrade(extra=extra, Sec_WebSocket_Key="short")) in (400, 429)
    for wire in wires:
        if not wire.isLost:
            wire.drop()
            await wire.lost()
