"""A session without a network: its states, buffer, heartbeat and upgrade, on a clock."""

from __future__ import annotations

import array
import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import LEFT, Closing, ISessionHost, ITransport, ITransportOwner
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.factory import SocketFactory
from engineio_twisted.session.socket import Socket
from engineio_twisted.session.states import TRANSITIONS, HeartbeatState, Input, ReadyState, UpgradeState, change

from ..kit.fakes import FakeHost, FakeRequest, FakeTransport

EVENTS = [
    "open",
    "packet",
    "packetCreate",
    "data",
    "message",
    "heartbeat",
    "flush",
    "drain",
    "upgrading",
    "upgrade",
    "error",
    "close",
]


@pytest.fixture(params=[True, False], ids=["heard", "unheard"], autouse=True)
def isServerHeard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anybody listens to what the server emits while sending, the same comes of it."""
    monkeypatch.setattr(FakeHost, "hasSendListeners", request.param)


class Session:
    """An open session with all that surrounds it, and the events it emitted."""

    def __init__(self, transport: str = "websocket", isOpen: bool = True, protocol: int = 4, **options: Any) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock, **options)
        self.transport = FakeTransport(transport, writable=transport == "websocket")
        self.ended = self.host.ended
        self.events: list[tuple[Any, ...]] = []
        self.socket = Socket("sid-12345678", self.host, self.transport, FakeRequest().exchange, protocol)
        if isOpen:
            self.socket.open()
            if transport == "polling":
                self.transport.ready()
            self.transport.sent.clear()
            self.host.events.clear()
        for event in EVENTS:
            self.socket.on(event, self._remember(event))

    def _remember(self, event: str) -> Callable[..., None]:
        return lambda *args: self.events.append((event, *args))

    def names(self) -> list[str]:
        return [each[0] for each in self.events]

    @property
    def closes(self) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.events if each[0] == "close"]

    def candidate(self) -> FakeTransport:
        """A WebSocket that tries to replace polling."""
        candidate = FakeTransport()
        assert self.socket.tryUpgrade(candidate)
        return candidate

    def isQuiet(self) -> bool:
        """Whether the session has left no timer."""
        return self.clock.getDelayedCalls() == []


def polling(**options: Any) -> Session:
    return Session("polling", **options)


def test_fakesProvideTheInterfaces() -> None:
    """What these tests rest on is what a session sees in life."""
    session = Session()
    verifyObject(ITransport, session.transport)
    verifyObject(ITransportOwner, session.socket)
    verifyObject(ISessionHost, session.host)
    verifyObject(ISessionHost, SocketFactory(FakeHost(session.clock), session.clock, session.host.addressOf))


# Opening


def test_openPacket() -> None:
    """The first packet tells the client its id, and what it needs to know."""
    session = Session(isOpen=False, pingInterval=300)
    assert session.socket.readyState == "opening"
    session.socket.open()
    assert session.socket.readyState == "open"
    (packet,) = session.transport.sent
    assert packet.type is PacketType.OPEN
    assert json.loads(packet.data)["sid"] == "sid-12345678"
    assert session.names() == ["packetCreate", "flush", "drain"]


def test_openOnPollingWaitsForThePoll() -> None:
    """On polling the open packet goes out with the GET that asked for the session."""
    session = Session("polling", isOpen=False)
    session.socket.open()
    assert session.transport.sent == []
    session.transport.ready()
    assert session.transport.types() == [PacketType.OPEN]
    assert json.loads(session.transport.sent[0].data)["upgrades"] == ["websocket"]


@pytest.mark.parametrize("initial", ["hello", b"\x01\x02", ""])
@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_initialPacket(name: str, initial: str | bytes) -> None:
    """It goes out right behind the open packet: in the same payload, or as the next frame."""
    session = Session(name, isOpen=False, initialPacket=initial)
    session.socket.open()
    if name == "polling":
        session.transport.ready()
    assert session.transport.types() == [PacketType.OPEN, PacketType.MESSAGE]
    assert session.transport.sent[1].data == initial


def test_attributes() -> None:
    """What an application sees."""
    socket = Session().socket
    assert (socket.id, socket.protocol, socket.remoteAddress) == ("sid-12345678", 4, "192.0.2.7")
    assert (socket.upgraded, socket.upgrading, socket.transport.name) == (False, False, "websocket")
    assert isinstance(socket.request, FakeRequest)
    assert isinstance(socket.server, FakeHost)
    assert "1234567" not in socket.logName, "a session id is a secret"


@pytest.mark.parametrize(
    ("host", "expected"), [("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::1"), (None, None)]
)
def test_remoteAddress(host: str | None, expected: str | None) -> None:
    """An IPv4 client of a dual-stack port has its IPv4 address; one on a UNIX socket has none."""
    session = Session()
    address = type("Address", (), {} if host is None else {"host": host})()
    session.socket.request.getClientAddress = lambda: address
    assert session.socket.remoteAddress == expected


# Every pair of state and input

STATES = [*ReadyState, *UpgradeState, *HeartbeatState]


@pytest.mark.parametrize("given", Input)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_everyPairOfStateAndInput(state: Any, given: Input) -> None:
    """An input leads to the one state that the table says, or changes nothing and is known to."""
    socket = Session().socket
    machines: dict[type[Any], tuple[Any, str]] = {
        ReadyState: (socket, "_readyState"),
        UpgradeState: (socket, "upgradeState"),
        HeartbeatState: (socket, "heartbeatState"),
    }
    before = {kind: getattr(*machine) for kind, machine in machines.items()}
    holder, machine = machines[type(state)]
    setattr(holder, machine, state)
    expected = TRANSITIONS.get((state, given))
    assert change(holder, machine, given, socket) is (expected is not None)
    before[type(state)] = expected or state
    assert {kind: getattr(*machine) for kind, machine in machines.items()} == before


def test_theTableItself() -> None:
    """Nothing leaves closed, nothing undoes an upgrade, and every state can be reached."""
    assert not [key for key in TRANSITIONS if key[0] in (ReadyState.CLOSED, UpgradeState.DONE)]
    assert {type(old) is type(new) for (old, _), new in TRANSITIONS.items()} == {True}
    starts = {ReadyState.OPENING, UpgradeState.NONE, HeartbeatState.STOPPED}
    assert starts | set(TRANSITIONS.values()) == set(STATES)


PACKETS = [Packet(each) for each in PacketType if each is not PacketType.CLOSE]
PACKETS += [Packet(PacketType.PING, "probe"), Packet(PacketType.MESSAGE, b"x"), Packet(PacketType.OPEN, "0")]


@pytest.mark.parametrize("packet", PACKETS, ids=repr)
@pytest.mark.parametrize("state", ["open", "closing", "closed", "probing", "probed", "upgraded"])
def test_everyPacketInEveryState(state: str, packet: Packet) -> None:
    """Whatever a client sends whenever: the session goes on, or ends cleanly and leaves nothing."""
    session = polling()
    socket, transport = session.socket, session.transport
    if state in ("probing", "probed", "upgraded"):
        candidate = session.candidate()
        if state != "probing":
            candidate.receive(PacketType.PING, "probe")
        if state == "upgraded":
            candidate.receive(PacketType.UPGRADE)
            transport = candidate
    elif state == "closing":
        socket.close()
    elif state == "closed":
        socket.close(discard=True)
    assert socket.readyState == (state if state in ("closing", "closed") else "open")
    if packet.type is PacketType.MESSAGE:
        transport.owner.transportMessage(transport, packet.data)
    else:
        transport.owner.transportPacket(transport, packet)
    if packet.type is PacketType.PING and state not in ("closing", "closed"):
        assert session.closes == [("transport error", "invalid heartbeat direction")]
        assert session.isQuiet()
    else:
        assert socket.readyState == (state if state in ("closing", "closed") else "open")
        received = [each for each in session.events if each[0] in ("packet", "message")]
        if state in ("closing", "closed"):
            assert received == []
        elif packet.type is PacketType.MESSAGE:
            assert received == [("packet", packet), ("message", packet.data)]
        else:
            assert received == [("packet", packet)]
    socket.close(discard=True)
    assert session.isQuiet()
    assert session.ended == [socket]


# Receiving


def test_orderOfEventsWithinAMessage() -> None:
    """`packet`, then `data`, then `message`."""
    session = Session()
    session.transport.receive(PacketType.MESSAGE, "hi")
    assert session.events == [("packet", Packet(PacketType.MESSAGE, "hi")), ("data", "hi"), ("message", "hi")]


@pytest.mark.parametrize("data", ["", b"", "123", '{"a":1}', "€😀", b"\x00\xff"])
def test_messagesStayWhatTheyAre(data: str | bytes) -> None:
    """A str stays a str, bytes stay bytes, and nothing is guessed."""
    session = Session()
    session.transport.receive(PacketType.MESSAGE, data)
    assert session.events[-1] == ("message", data)
    assert type(session.events[-1][1]) is type(data)


# Sending


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ("text", "text"),
        ("", ""),
        (b"", b""),
        (b"\x01", b"\x01"),
        (bytearray(b"\x01"), b"\x01"),
        (memoryview(b"\x01\x02")[1:], b"\x02"),
        (array.array("H", [1]), array.array("H", [1]).tobytes()),
        (42, "42"),
        (None, "None"),
        ([1, "a"], "[1, 'a']"),
    ],
)
def test_whatCanBeSent(data: object, sent: str | bytes) -> None:
    """str as text, bytes-like as binary, anything else by str()."""
    session = Session()
    assert session.socket.send(data) is session.socket
    assert session.transport.texts() == [sent]
    assert type(session.transport.texts()[0]) is type(sent)


def test_mutableDataIsCopied() -> None:
    """What happens to a bytearray after it was sent changes nothing."""
    session = polling()
    data = bytearray(b"abc")
    session.socket.send(data)
    data[:] = b"xyz"
    session.transport.ready()
    assert session.transport.texts() == [b"abc"]


def test_loneSurrogates() -> None:
    """Text that can't be encoded is refused at the sender, and costs nobody else a message."""
    session = polling()
    session.socket.send("before")
    with pytest.raises(ValueError, match=r"'\\ud800' at index 2: expected text that UTF-8 can carry"):
        session.socket.send("ab\ud800")
    session.socket.write("after")
    session.transport.ready()
    assert session.transport.texts() == ["before", "after"]


def test_eventsOfSending() -> None:
    """`packetCreate`, `flush` with the packets, then `drain`; the server hears of the last two."""
    session = Session()
    session.socket.send("a")
    packet = Packet(PacketType.MESSAGE, "a")
    assert session.events == [("packetCreate", packet), ("flush", [packet]), ("drain",)]
    assert session.host.events == [("flush", session.socket, [packet]), ("drain", session.socket)]


def test_compressIsCarried() -> None:
    """Whether a message may be compressed goes with it."""
    session = Session()
    session.socket.send("a", compress=False).send("b")
    assert [packet.compress for packet in session.transport.sent] == [False, True]


def test_theWholeBufferGoesOutAtOnce() -> None:
    """What was sent while no GET waited goes out with the next, in order."""
    session = polling()
    for number in range(3):
        session.socket.send(str(number))
    assert session.names() == ["packetCreate"] * 3
    assert len(session.socket.writeBuffer) == 3
    session.transport.ready()
    assert session.transport.texts() == ["0", "1", "2"]
    assert session.names()[3:] == ["flush", "drain"]
    assert session.socket.writeBuffer == []


def test_callbacksRunInOrderWhenThePacketsAreTaken() -> None:
    """Each with the transport, not before."""
    session, calls = polling(), []
    session.socket.send("a", lambda transport: calls.append(("a", transport)))
    session.socket.send("b")
    session.socket.send("c", lambda transport: calls.append(("c", transport)))
    assert calls == []
    session.transport.ready()
    assert calls == [("a", session.transport), ("c", session.transport)]


def test_callbacksOfUnsentPacketsNeverRun() -> None:
    """Neither when the session ends, nor when the buffer is dropped."""
    for end in (lambda socket: socket.close(discard=True), lambda socket: socket.shutDown()):
        session, calls = polling(), []
        session.socket.send("a", calls.append)
        end(session.socket)
        session.socket.send("b", calls.append)
        assert calls == []


def test_aCallbackThatRaisesIsLogged(loggedErrors: list[LogEvent]) -> None:
    """It stops neither the next callback nor the session."""
    session, calls = Session(), []

    def fail(_: object) -> None:
        raise ValueError("no")

    session.socket.send("a", fail)
    session.socket.send("b", calls.append)
    assert calls == [session.transport]
    assert [type(each[1]) for each in session.events if each[0] == "error"] == [ValueError]
    assert [event["session"] for event in loggedErrors] == ["sid-12…"]
    loggedErrors.clear()


@pytest.mark.parametrize("event", ["packetCreate", "flush", "drain", "callback"])
def test_sendingFromInsideSending(event: str) -> None:
    """What a handler sends goes out once, after what is being sent."""
    session = Session()
    count = iter(["x", "y"])

    def again(*_: object) -> None:
        data = next(count, None)
        if data is not None:
            session.socket.send(data)

    if event != "callback":
        session.socket.on(event, again)
    session.socket.send("a", again)
    session.socket.send("b")
    assert sorted(session.transport.texts()) == ["a", "b", "x", *(["y"] if event != "callback" else [])]
    if event != "packetCreate":
        assert session.transport.texts()[0] == "a"
        assert session.transport.texts()[-1] == "b"


def test_sendAfterTheEnd() -> None:
    """Does nothing, quietly."""
    session = Session()
    session.socket.close()
    session.events.clear()
    assert session.socket.send("late") is session.socket
    assert (session.events, session.transport.texts()) == ([], [])


# Heartbeat


def test_pings() -> None:
    """One after pingInterval, the next one pingInterval after the pong."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.clock.advance(0.999)
    assert session.transport.sent == []
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.PING]
    session.clock.advance(0.3)
    session.transport.receive(PacketType.PONG)
    assert session.names()[-1] == "heartbeat"
    session.clock.advance(0.999)
    assert len(session.transport.sent) == 1
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.PING, PacketType.PING]
    assert len(session.clock.getDelayedCalls()) == 1


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_pingTimeout(name: str) -> None:
    """No pong within pingTimeout ends the session."""
    session = Session(name, pingInterval=1000, pingTimeout=500)
    session.clock.advance(1)
    session.clock.advance(0.499)
    assert session.socket.readyState == "open"
    session.clock.advance(0.001)
    assert session.closes == [("ping timeout", "no pong within pingTimeout, 500 ms")]
    assert session.isQuiet()


def test_unsolicitedPongs() -> None:
    """A pong that answers no ping is no heartbeat: it puts the next ping off by nothing."""
    session = Session(pingInterval=1000)
    session.clock.advance(0.9)
    for _ in range(1000):
        session.transport.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    session.clock.advance(0.1)
    assert session.transport.types() == [PacketType.PING]


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_invalidHeartbeatDirection(name: str) -> None:
    """In revision 4 it is the server that pings."""
    session = Session(name)
    session.transport.receive(PacketType.PING)
    assert session.closes == [("transport error", "invalid heartbeat direction")]


def test_heartbeatGoesOnDuringAnUpgrade() -> None:
    """An upgrade that never ends doesn't keep a dead session alive."""
    session = polling(pingInterval=1000, pingTimeout=500, upgradeTimeout=60_000)
    session.candidate().receive(PacketType.PING, "probe")
    session.clock.pump([0.1] * 16)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


def test_heartbeatGoesOnAcrossAnUpgrade() -> None:
    """A ping sent on polling may be answered on WebSocket."""
    session = polling(pingInterval=1000, pingTimeout=500)
    session.clock.advance(1)
    session.transport.ready()
    assert session.transport.types() == [PacketType.PING]
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.PONG)
    session.clock.advance(0.9)
    assert session.socket.readyState == "open"
    session.clock.advance(0.1)
    assert candidate.types()[-1] is PacketType.PING


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_revision3ClientsPing(name: str) -> None:
    """In revision 3 each ping is answered, and puts off the end by pingInterval and pingTimeout."""
    session = Session(name, protocol=3, pingInterval=1000, pingTimeout=500)
    for _ in range(3):
        session.clock.advance(1.499)
        session.transport.receive(PacketType.PING)
        if name == "polling":
            session.transport.ready()
        assert session.transport.types()[-1] is PacketType.PONG
    assert session.names().count("heartbeat") == 3
    assert PacketType.PING not in session.transport.types()
    session.clock.advance(1.499)
    assert session.socket.readyState == "open"
    session.clock.advance(0.001)
    assert session.closes == [("ping timeout", "no ping within pingInterval and pingTimeout, 1500 ms")]
    assert session.isQuiet()


@pytest.mark.parametrize("protocol", [3, 4])
def test_whoPostsAndNeverPolls(protocol: int) -> None:
    """A polling client that only says that it is there isn't: it has to fetch what it answers, or the answer."""
    session = Session("polling", protocol=protocol, pingInterval=1000, pingTimeout=500)
    for _ in range(100):
        session.clock.advance(0.1)
        session.transport.receive(PacketType.PING if protocol == 3 else PacketType.PONG)
        if session.closes:
            break
    assert session.closes[0][0] == "ping timeout"
    assert len([each for each in session.socket.writeBuffer if each.type is not PacketType.MESSAGE]) <= 1
    assert session.clock.seconds() < 2
    assert session.isQuiet()


def test_revision3HeartbeatDirection() -> None:
    """In revision 3 it is the client that pings."""
    session = Session(protocol=3)
    session.transport.receive(PacketType.PONG)
    assert session.closes == [("transport error", "invalid heartbeat direction")]


@pytest.mark.parametrize("event", ["packet", "packetCreate", "flush", "drain", "heartbeat"])
def test_revision3ClosingWithinAPing(event: str) -> None:
    """A handler that closes the session while a ping is answered finds it closed, and nothing comes after."""
    session = Session(protocol=3)
    session.socket.on(event, lambda *args: session.socket.close(discard=True))
    session.transport.receive(PacketType.PING)
    assert session.names()[-1] == "close"
    assert session.isQuiet()


def test_revision3HeartbeatAcrossAnUpgrade() -> None:
    """The client's pings count on either transport."""
    session = polling(protocol=3, pingInterval=1000, pingTimeout=500)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.clock.advance(1)
    session.transport.receive(PacketType.PING)
    candidate.receive(PacketType.UPGRADE)
    assert candidate.types() == [PacketType.PONG, PacketType.PONG]
    session.clock.advance(1.4)
    candidate.receive(PacketType.PING)
    session.clock.advance(1.4)
    assert session.socket.readyState == "open"


# Closing


def test_closeOnWebSocket() -> None:
    """At once, with the transport told."""
    session = Session()
    session.socket.send("last")
    session.socket.close()
    assert session.socket.readyState == "closed"
    assert session.closes == [("forced close", "closed by the server")]
    assert session.transport.texts() == ["last"]
    assert (session.ended, session.isQuiet()) == ([session.socket], True)


def test_closeOnPollingWithAWaitingGet() -> None:
    """That GET is told."""
    session = polling()
    session.transport.ready()
    session.socket.close()
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closeOnPollingWaitsForTheNextGet() -> None:
    """What is buffered goes out with the close; until then the session is closing."""
    session = polling()
    session.socket.send("a")
    session.socket.close()
    session.socket.send("too late")
    assert session.socket.readyState == "closing"
    assert session.ended == []
    session.transport.ready()
    assert session.transport.texts() == ["a"]
    assert session.names()[-3:] == ["flush", "drain", "close"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closeDoesNotWaitForEver() -> None:
    """A client that never polls again is given up after 30 seconds; what it didn't get can be read."""
    session = polling()
    session.socket.send("unsent")
    session.socket.close()
    session.clock.advance(CLOSING_TIMEOUT - 0.001)
    assert session.socket.readyState == "closing"
    buffers: list[list[Packet]] = []
    session.socket.on("close", lambda *_: buffers.append(session.socket.writeBuffer))
    session.clock.advance(0.001)
    assert session.closes == [("forced close", "the client did not poll again")]
    assert buffers == [[Packet(PacketType.MESSAGE, "unsent")]]
    assert session.isQuiet()


@pytest.mark.parametrize("before", ["open", "closing"])
def test_discard(before: str) -> None:
    """The buffer is dropped and the session ends at once, also one that is closing."""
    session = polling()
    session.socket.send("dropped")
    if before == "closing":
        session.socket.close()
    session.socket.close(discard=True)
    assert session.closes == [("forced close", "closed by the server")]
    assert session.socket.writeBuffer == []
    assert session.isQuiet()


def test_closeTwice() -> None:
    """Is closing once."""
    session = Session()
    session.socket.close()
    session.socket.close()
    session.socket.close(discard=True)
    assert len(session.closes) == 1


@pytest.mark.parametrize("reason", [CloseReason.TRANSPORT_CLOSE, CloseReason.TRANSPORT_ERROR, CloseReason.PARSE_ERROR])
def test_endByTheTransport(reason: CloseReason) -> None:
    """The session is over as soon as its transport is; nothing stays."""
    session = polling()
    session.socket.send("unsent")
    session.transport.owner.transportClosed(session.transport, Closing(reason, "why"))
    assert session.closes == [(str(reason), "why")]
    assert session.socket.writeBuffer == [Packet(PacketType.MESSAGE, "unsent")]
    assert (session.transport.reasons, session.ended, session.isQuiet()) == ([reason], [session.socket], True)


def test_shutDown() -> None:
    """The server's own end has its own reason."""
    session = Session()
    session.socket.shutDown()
    assert session.closes == [("server shutting down", "the server is closing")]


def test_shutDownFromInsideAFlush() -> None:
    """What was about to go out still does, once, and its callback runs."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    session.socket.on("flush", lambda _: session.socket.shutDown())
    session.transport.ready()
    assert session.transport.texts() == ["a"]
    assert calls == [session.transport]
    assert session.closes == [("server shutting down", "the server is closing")]
    assert session.isQuiet()


@pytest.mark.parametrize("discard", [False, True])
def test_closingFromInsidePacketCreate(discard: bool) -> None:
    """The packet that was just made goes out before the end, unless the buffer is dropped."""
    session = Session()
    session.socket.on("packetCreate", lambda _: session.socket.close(discard))
    session.socket.send("a")
    assert session.transport.texts() == ([] if discard else ["a"])
    assert session.socket.writeBuffer == []
    assert session.names()[-1] == "close"


def test_theSessionHasLeftTheTableWhenCloseIsEmitted() -> None:
    """A handler of `close` finds the server without it."""
    session = Session()
    seen: list[list[Socket]] = []
    session.socket.on("close", lambda *_: seen.append(list(session.ended)))
    session.socket.close()
    assert seen == [[session.socket]]


# Upgrade


def test_upgrade() -> None:
    """Probe, upgrade packet, and everything goes over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    assert (session.socket.upgrading, session.socket.upgraded) == (True, False)
    candidate.receive(PacketType.PING, "probe")
    assert candidate.sent == [Packet(PacketType.PONG, "probe")]
    assert session.events == [("upgrading", candidate)]
    session.socket.send("buffered")
    candidate.receive(PacketType.UPGRADE)
    assert ("upgrade", candidate) in session.events
    assert (session.socket.upgrading, session.socket.upgraded) == (False, True)
    assert session.socket.transport is candidate
    assert session.transport.closings == [LEFT]
    assert candidate.texts() == ["buffered"]
    candidate.receive(PacketType.MESSAGE, "over websocket")
    assert session.events[-1] == ("message", "over websocket")
    assert len(session.clock.getDelayedCalls()) == 1, "the heartbeat alone"


def test_waitingGetsAreEndedUntilTheUpgradePacket() -> None:
    """At the probe at once, and again every 100 ms: one noop may cross with the client's next GET."""
    session = polling()
    session.transport.ready()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    assert session.transport.types() == [PacketType.NOOP]
    session.transport.ready()
    session.clock.advance(0.099)
    assert len(session.transport.sent) == 1
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.NOOP] * 2
    session.clock.advance(1)
    assert len(session.transport.sent) == 2, "no GET waits"
    session.transport.ready()
    session.clock.advance(0.1)
    assert session.transport.types() == [PacketType.NOOP] * 3
    candidate.receive(PacketType.UPGRADE)
    session.clock.advance(1)
    assert PacketType.NOOP not in candidate.types()


def test_messagesDuringAnUpgradeArriveOnceAndInOrder() -> None:
    """Those that a GET takes go by polling, the rest by WebSocket."""
    session = polling(upgradeTimeout=60_000)
    candidate = session.candidate()
    for number in range(10_000):
        session.socket.send(str(number))
        if number == 3000:
            candidate.receive(PacketType.PING, "probe")
        if number in (1000, 2000, 5000):
            session.transport.ready()
        if number % 100 == 0:
            session.clock.advance(0.01)
        if number == 8000:
            candidate.receive(PacketType.UPGRADE)
    assert session.transport.texts() + candidate.texts() == [str(number) for number in range(10_000)]


def test_callbacksAcrossAnUpgrade() -> None:
    """A callback runs with the transport that took the message."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    assert calls == [candidate]


@pytest.mark.parametrize("data", ["", "anything"])
def test_anUpgradePacketWithoutAProbe(data: str) -> None:
    """A client that trusts the WebSocket without trying it out is moved to it, with what was buffered."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    session.socket.send("b")
    candidate = session.candidate()
    session.socket.send("c")
    session.events.clear()
    candidate.receive(PacketType.UPGRADE, data)
    assert session.names() == ["upgrade", "flush", "drain"], "nothing was tried out, so it isn't upgrading either"
    assert (candidate.texts(), calls) == (["a", "b", "c"], [candidate])
    assert (session.socket.upgraded, session.socket.upgrading, session.socket.transport) == (True, False, candidate)
    assert session.transport.closings == [LEFT]
    candidate.receive(PacketType.MESSAGE, "over websocket")
    assert session.events[-1] == ("message", "over websocket")
    assert len(session.clock.getDelayedCalls()) == 1, "the heartbeat alone"
    assert session.socket.tryUpgrade(FakeTransport()) is False


def test_closingBeforeAnUpgradePacketWithoutAProbe() -> None:
    """A client that never polls gets the last words and the end over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    session.socket.send("last words")
    session.socket.close()
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["last words"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_pausedBeforeAnUpgradePacketWithoutAProbe() -> None:
    """What came by polling is delivered before what comes by WebSocket, and neither before receiving goes on."""
    session = polling()
    session.socket.pauseReceiving()
    session.transport.receive(PacketType.MESSAGE, "polling")
    candidate = session.candidate()
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.MESSAGE, "websocket")
    assert "message" not in session.names()
    session.socket.resumeReceiving()
    assert [each[1] for each in session.events if each[0] == "message"] == ["polling", "websocket"]


def test_pingsAfterAnUpgradePacketWithoutAProbe() -> None:
    """A ping that no GET fetched goes out on the WebSocket, and its pong counts."""
    session = polling()
    session.clock.advance(25)
    candidate = session.candidate()
    candidate.receive(PacketType.UPGRADE)
    assert candidate.types() == [PacketType.PING]
    session.clock.advance(10)
    candidate.receive(PacketType.PONG)
    session.clock.advance(24)
    assert session.socket.readyState == "open"


WRONG = [
    (PacketType.MESSAGE, "early", False),
    (PacketType.MESSAGE, "early", True),
    (PacketType.PING, "", False),
    (PacketType.PING, "other", False),
    (PacketType.PING, "probe", True),
    (PacketType.PONG, "probe", True),
    (PacketType.NOOP, "", False),
    (PacketType.OPEN, "", False),
]


@pytest.mark.parametrize(("type_", "data", "probed"), WRONG)
def test_anythingElseClosesTheProbe(type_: PacketType, data: str, probed: bool) -> None:
    """And the session goes on polling, as if nothing had been."""
    session = polling()
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    candidate.receive(type_, data)
    assert candidate.closings == [LEFT]
    assert (session.socket.readyState, session.socket.upgrading, session.socket.upgraded) == ("open", False, False)
    assert "message" not in session.names()
    assert len(session.clock.getDelayedCalls()) == 1
    session.socket.send("still here")
    session.transport.ready()
    assert session.transport.texts() == ["still here"]
    assert session.socket.tryUpgrade(FakeTransport()), "it may try again"


@pytest.mark.parametrize("probed", [False, True])
def test_upgradeTimeout(probed: bool) -> None:
    """A WebSocket that doesn't complete the upgrade in time is closed; the session goes on polling."""
    session = polling(upgradeTimeout=2000)
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    session.clock.pump([0.1] * 19)
    session.clock.advance(0.099)
    assert session.socket.upgrading
    session.clock.advance(0.001)
    assert (candidate.closings, session.socket.upgrading, session.socket.readyState) == ([LEFT], False, "open")
    candidate.receive(PacketType.UPGRADE)
    assert session.socket.transport is session.transport, "too late"


@pytest.mark.parametrize("probed", [False, True])
def test_aProbeThatVanishes(probed: bool) -> None:
    """The session goes on polling."""
    session = polling()
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    candidate.owner.transportClosed(candidate, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    assert (session.socket.upgrading, session.socket.readyState, session.closes) == (False, "open", [])
    assert len(session.clock.getDelayedCalls()) == 1


@pytest.mark.parametrize("when", ["probing", "probed", "upgraded", "closed", "websocket", "off"])
def test_whoMayNotUpgrade(when: str) -> None:
    """A second WebSocket isn't taken, and the session isn't touched."""
    session = Session("websocket" if when == "websocket" else "polling", allowUpgrades=when != "off")
    if when in ("probing", "probed", "upgraded"):
        first = session.candidate()
        if when != "probing":
            first.receive(PacketType.PING, "probe")
        if when == "upgraded":
            first.receive(PacketType.UPGRADE)
    elif when == "closed":
        session.socket.close(discard=True)
    second = FakeTransport()
    assert session.socket.tryUpgrade(second) is False
    assert (second.owner, second.closings, second.sent) == (None, [], [])
    if when in ("probing", "probed"):
        assert first.closings == []


def test_theSessionsEndEndsTheProbe() -> None:
    """Nothing of the upgrade stays behind."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.close(discard=True)
    assert candidate.reasons == ["forced close"]
    assert session.isQuiet()


def test_closingDuringAnUpgradeLosesNothing() -> None:
    """A client that has stopped polling to upgrade gets what is buffered, and the end, over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.send("last words")
    session.socket.close()
    assert session.socket.readyState == "closing"
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["last words"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_discardedTransportsAreNotListenedTo() -> None:
    """What polling has to say after the upgrade is no business of the session's."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    session.events.clear()
    session.transport.receive(PacketType.MESSAGE, "stale")
    session.transport.ready()
    session.transport.owner.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_ERROR, "gone"))
    assert session.events == []
    assert session.socket.readyState == "open"


# Handlers


def trigger(session: Session) -> None:
    """Make every event of a polling session happen that can, up to its end."""
    session.transport.ready()
    session.transport.receive(PacketType.MESSAGE, "a")
    session.socket.send("b")
    session.clock.advance(session.host.opts.pingInterval / 1000)
    session.transport.ready()
    session.transport.receive(PacketType.PONG)
    candidate = FakeTransport()
    if session.socket.tryUpgrade(candidate):
        candidate.receive(PacketType.PING, "probe")
        candidate.receive(PacketType.UPGRADE)
    session.socket.close(discard=True)


HAPPENING = [each for each in EVENTS if each not in ("open", "error")]


@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatRaises(event: str, loggedErrors: list[LogEvent]) -> None:
    """Is logged with its session, and emitted as `error`; everything else happens as if it hadn't."""
    quiet, session = polling(), polling()
    trigger(quiet)

    def fail(*_: object) -> None:
        raise ValueError(event)

    session.socket.on(event, fail)
    trigger(session)
    assert [each for each in session.names() if each != "error"] == quiet.names()
    assert {type(each[1]) for each in session.events if each[0] == "error"} == {ValueError}
    assert {(each["event"], each["session"]) for each in loggedErrors} == {(event, "sid-12…")}
    loggedErrors.clear()
    assert session.isQuiet()


def test_anErrorHandlerThatRaises(loggedErrors: list[LogEvent]) -> None:
    """Is logged, and no more."""
    session = Session()

    def fail(*_: object) -> None:
        raise ValueError

    session.socket.on("error", fail)
    session.socket.on("message", fail)
    session.transport.receive(PacketType.MESSAGE, "a")
    assert [event["event"] for event in loggedErrors] == ["message", "error"]
    loggedErrors.clear()


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatCloses(event: str, discard: bool) -> None:
    """From inside any event: the session ends once, cleanly, and leaves nothing."""
    session = polling()
    session.socket.on(event, lambda *_: session.socket.close(discard))
    trigger(session)
    assert len(session.closes) == 1
    assert session.names()[-1] == "close"
    assert (session.socket.readyState, session.isQuiet(), len(session.ended)) == ("closed", True, 1)


@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatSends(event: str) -> None:
    """From inside any event: what it sends arrives once, in the order of sending."""
    session = polling()
    sent: list[str] = []

    def send(*_: object) -> None:
        if len(sent) < 20:
            sent.append(f"{event} {len(sent)}")
            session.socket.send(sent[-1])

    session.socket.on(event, send)
    trigger(session)
    transports = [session.transport, *([session.socket.transport] if session.socket.upgraded else [])]
    arrived = [each for transport in transports for each in transport.texts() if each != "b"]
    unsent = [each.data for each in session.socket.writeBuffer]
    if event == "close":
        assert (arrived, unsent) == ([], [])
    elif event == "packetCreate":
        assert sorted(arrived + unsent) == sorted(sent)
    else:
        assert arrived + unsent == sent
    assert session.isQuiet()


def test_aChainOfCallbacks() -> None:
    """A callback that sends the next message may do so for ever: it is no recursion."""
    session = Session()
    left = [2000]

    def sendNext(_: object = None) -> None:
        if left[0]:
            left[0] -= 1
            session.socket.send(str(left[0]), sendNext)

    sendNext()
    assert session.transport.texts() == [str(each) for each in range(1999, -1, -1)]


def test_callbacksThatSend() -> None:
    """Callbacks come in the order of sending, and what they send comes behind what was sent before."""
    session = Session()
    happened: list[str] = []

    def first(_: object) -> None:
        session.socket.send("b", lambda _: happened.append("b"))
        session.socket.send("c", lambda _: happened.append("c"))
        happened.append("a")

    session.socket.send("a", first)
    assert happened == ["a", "b", "c"]
    assert session.transport.texts() == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["plain", "café"])
def test_aPacketThatAHandlerChanges(text: str) -> None:
    """What goes out is what the packet holds in the end."""
    session = Session()

    def shout(packet: Packet) -> None:
        packet.data = str(packet.data).upper()

    session.socket.on("packetCreate", shout)
    session.socket.send(text)
    (packet,) = [each for each in session.transport.sent if each.type is PacketType.MESSAGE]
    assert packet.data == text.upper()


@pytest.mark.parametrize(("pingInterval", "pingTimeout"), [(5000, 20000), (25000, 20000), (1000, 1000)])
def test_aPongAtAnyTime(pingInterval: int, pingTimeout: int) -> None:
    """The next ping comes pingInterval after a pong, however late that was; without one the session ends in time."""
    for late in (0.0, 0.4, 0.9, 0.99):
        session = Session(pingInterval=pingInterval, pingTimeout=pingTimeout)
        for _ in range(3):
            session.clock.advance(pingInterval / 1000)
            pings = session.transport.types().count(PacketType.PING)
            session.clock.advance(late * pingTimeout / 1000)
            session.transport.receive(PacketType.PONG)
            session.clock.advance(pingInterval / 1000 - 0.002)
            assert session.transport.types().count(PacketType.PING) == pings
            session.clock.advance(0.003)
            assert session.transport.types().count(PacketType.PING) == pings + 1
            session.transport.receive(PacketType.PONG)
        session.clock.advance(pingInterval / 1000)
        session.clock.advance(pingTimeout / 1000 - 0.002)
        assert session.socket.readyState == "open"
        session.clock.advance(0.003)
        assert session.socket.readyState == "closed"
        assert session.clock.getDelayedCalls() == []
