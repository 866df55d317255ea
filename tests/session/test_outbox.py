"""What a session sends, at the pace of its client: events, callbacks, and how much may wait."""

from __future__ import annotations

import array
import asyncio
from collections import Counter, deque
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import Server
from engineio_twisted.protocol.errors import BufferLimitExceeded, EngineIOError
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.factory import SocketFactory

from ..kit.fakes import FakeHost, FakeRequest, FakeTransport
from ..kit.sessions import Session, onEachTransport, polling, slow


class Color(Enum):
    """A class with a text of its own."""

    RED = 1


pytestmark = pytest.mark.usefixtures("isServerHeard")


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
        (-0.5, "-0.5"),
        (1j, "1j"),
        (Decimal("1.50"), "1.50"),
        (date(2030, 1, 2), "2030-01-02"),
        (PurePosixPath("a/b"), "a/b"),
        (ValueError("no"), "no"),
        (Color.RED, "Color.RED"),
    ],
)
def test_whatCanBeSent(data: object, sent: str | bytes) -> None:
    """str as text, bytes-like as binary; numbers, and what has a text of its own, as that text."""
    session = Session()
    assert session.socket.send(data) is session.socket
    assert session.transport.texts() == [sent]
    assert type(session.transport.texts()[0]) is type(sent)


class Plain:
    """An object whose text says only where it is in memory."""


async def aCoroutine() -> None:
    pass


ENCODE = "expected text, bytes or a number; encode it first, for example with json.dumps()"
AWAIT = "expected text, bytes or a number; await it, and send its result"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, f"message None: {ENCODE}"),
        (True, f"message True: {ENCODE}"),
        ({"secret": 1}, f"message of type dict: {ENCODE}"),
        ([1, "a"], f"message of type list: {ENCODE}"),
        ((1, 2), f"message of type tuple: {ENCODE}"),
        ({1, 2}, f"message of type set: {ENCODE}"),
        (deque([1]), f"message of type deque: {ENCODE}"),
        (Counter("a"), f"message of type Counter: {ENCODE}"),
        (range(3), f"message of type range: {ENCODE}"),
        (Plain(), f"message of type Plain: {ENCODE}"),
        (Plain, f"message of type type: {ENCODE}"),
        (len, f"message of type builtin_function_or_method: {ENCODE}"),
        (Packet(PacketType.MESSAGE, "a"), f"message of type Packet: {ENCODE}"),
        (Deferred(), f"message of type Deferred: {AWAIT}"),
        (aCoroutine(), f"message of type coroutine: {AWAIT}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatCannotBeSent(data: Any, text: str) -> None:
    """What no client could read is an error where it is sent, open session or not; nothing is sent."""
    session = Session()
    host = Server(reactor=session.host.clock)
    ways: list[Callable[[Any], object]] = [
        session.socket.send,
        session.socket.write,
        lambda data: session.socket.sendAll(["first", data]),
        lambda data: host.broadcast(("first", data)),
    ]
    if not isinstance(data, list | tuple):
        # Several messages, to a broadcast.
        ways.append(host.broadcast)
    for _ in range(2):
        for send in ways:
            with pytest.raises(TypeError) as caught:
                send(data)
            assert str(caught.value) == text
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
        session.socket.close()
    assert session.transport.texts() == []
    if asyncio.iscoroutine(data):
        data.close()


def test_whatIsNoCallback() -> None:
    """Such as the data of an event behind its name, as a Socket.IO server sends them."""
    session: Any = Session()
    with pytest.raises(TypeError) as caught:
        session.socket.send("hello", {"a": 1})
    assert str(caught.value) == (
        "callback of type dict: expected something to call; a message is one argument, so encode what belongs to it "
        "together, for example with json.dumps()"
    )
    assert session.transport.texts() == []
    session.socket.send("next")
    with pytest.raises(TypeError, match="callback of type dict"):
        session.socket.sendAll(["hello"], {"a": 1})
    assert session.transport.texts() == ["next"]


# Several together


@onEachTransport
def test_sendAll(name: str) -> None:
    """All are sent in their order, by one response on polling; text, bytes and what else may be sent."""
    session = Session(name)
    session.transport.ready()
    assert session.socket.sendAll(["text", bytearray(b"\x01"), "€", 42]) is session.socket
    assert session.transport.texts() == ["text", b"\x01", "€", "42"]
    session.transport.ready()
    assert session.socket.sendAll(()) is session.socket
    assert len(session.transport.sent) == 4


@pytest.mark.parametrize("given", ["text", b"bytes", 3, None, {"a": 1}])
def test_sendAllOfOne(given: Any) -> None:
    """What is no list of messages is an error, whether it could be sent by itself or not."""
    session = Session()
    with pytest.raises(TypeError, match=f"messages of type {type(given).__name__}: expected a list or a tuple"):
        session.socket.sendAll(given)
    assert session.transport.sent == []


def test_sendAllOfWhichOneCannotBeSent() -> None:
    """None is sent."""
    session = Session()
    with pytest.raises(ValueError, match="lone surrogate"):
        session.socket.sendAll(["fine", "\ud800"])
    assert session.transport.sent == []


def test_sendAllPartly() -> None:
    """A client that takes some gets the others next, whatever the limits are, and nothing else comes in between."""
    session = slow(2, maxBufferedPackets=1, bufferLimitAction="raise")
    session.socket.sendAll(["a", b"b", "c", b"d"])
    assert session.transport.texts() == ["a", b"b"]
    with pytest.raises(BufferLimitExceeded):
        session.socket.send("later")
    assert [each.data for each in session.socket.writeBuffer] == ["c", b"d"]
    session.transport.ready()
    assert session.transport.texts() == ["a", b"b", "c", b"d"]


@pytest.mark.parametrize("action", ["close", "drop", "raise"])
@pytest.mark.parametrize(
    ("option", "limit"), [("maxBufferedPackets", 3), ("maxBufferedBytes", 12)], ids=lambda value: str(value)
)
def test_sendAllOverALimit(option: str, limit: int, action: str, warnings: list[str]) -> None:
    """Messages that have to wait are refused together, once; what waits already stays."""
    session = slow(0, **{option: limit}, bufferLimitAction=action)
    told: list[Any] = []
    session.socket.sendAll(["aaaa", b"bbbb"])
    if action == "raise":
        with pytest.raises(BufferLimitExceeded):
            session.socket.sendAll(["cccc", b"dddd"], told.append)
    else:
        session.socket.sendAll(["cccc", b"dddd"], told.append)
    assert [each.data for each in session.socket.writeBuffer] == ["aaaa", b"bbbb"]
    assert [each.option for each in told] == ([option] if action == "drop" else [])
    assert [each[0] for each in session.closes] == (["buffer limit exceeded"] if action == "close" else [])
    assert session.host.counters.limited == {option: 1}
    # One more alone is not too many.
    if action != "close":
        session.socket.send("cccc")
        session.transport.ready()
        assert session.transport.texts() == ["aaaa", b"bbbb", "cccc"]


def test_sendAllCallback() -> None:
    """It is called once, when the client has taken all of them."""
    session = slow(1)
    told: list[Any] = []
    session.socket.sendAll(["a", "b", "c"], told.append)
    assert (session.transport.texts(), told) == (["a"], [])
    session.transport.ready(1)
    assert (session.transport.texts(), told) == (["a", "b"], [])
    session.transport.ready()
    assert (session.transport.texts(), told) == (["a", "b", "c"], [session.transport])


def test_sendAllIsNotInterrupted() -> None:
    """A handler that sends while the packets are made sends behind them; one that closes the session ends them all."""
    session = Session()
    session.socket.once("packetCreate", lambda _: session.socket.send("after"))
    session.socket.sendAll(["a", "b"])
    assert session.transport.texts() == ["a", "b", "after"]
    session.socket.once("packetCreate", lambda _: session.socket.close(discard=True))
    session.events.clear()
    session.socket.sendAll(["c", "d"])
    assert session.names() == ["packetCreate", "close"]
    assert session.transport.texts() == ["a", "b", "after"]


def test_sendAllAfterTheEnd() -> None:
    """It does nothing, as `send` does."""
    session = Session()
    session.socket.close()
    session.socket.sendAll(["a", "b"], lambda _: pytest.fail("called"))
    assert session.transport.texts() == []


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


def test_itTakesWhatItCan() -> None:
    """What it doesn't take waits, in order; a callback is called when its message is taken, drain comes at the end."""
    session = slow()
    told: list[tuple[str, Any]] = []
    for text in "abcde":
        session.socket.send(text, None if text == "c" else lambda by, text=text: told.append((text, by)))
    assert session.names() == ["packetCreate"] * 5
    session.transport.ready(room=2)
    assert session.transport.texts() == ["a", "b"]
    assert told == [("a", session.transport), ("b", session.transport)]
    assert [each.data for each in session.socket.writeBuffer] == ["c", "d", "e"]
    assert session.names()[5:] == ["flush"]
    session.transport.ready(room=2)
    session.socket.send("f", lambda by: told.append(("f", by)))
    assert [text for text, _ in told] == ["a", "b", "d"]
    session.transport.ready()
    assert session.transport.texts() == list("abcdef")
    assert [text for text, _ in told] == ["a", "b", "d", "e", "f"]
    assert session.socket.writeBuffer == []
    assert session.names().count("drain") == 1


def test_whatIsSentMeanwhileComesBehind() -> None:
    """A callback that sends more does so behind what waits."""
    session = slow()
    session.socket.send("a", lambda _: session.socket.send("d", lambda _: session.socket.send("e")))
    session.socket.send("b")
    session.socket.send("c")
    session.transport.ready(room=1)
    session.transport.ready(room=2)
    session.transport.ready()
    assert session.transport.texts() == list("abcde")


def test_closingAtItsPace() -> None:
    """What is buffered goes out before the client is told of the end, as it takes it."""
    session = slow()
    for text in "abc":
        session.socket.send(text)
    session.socket.close()
    session.transport.ready(room=2)
    assert (session.transport.texts(), session.transport.closings) == (["a", "b"], [])
    assert session.socket.readyState == "closing"
    session.transport.ready(room=1)
    assert (session.transport.texts(), session.transport.closings) == (["a", "b", "c"], [])
    session.transport.ready()
    assert session.transport.reasons == ["forced close"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closingOneThatNeverReads() -> None:
    """It has as long as one that never polls."""
    session = slow()
    session.socket.send("a")
    session.socket.close()
    session.clock.advance(CLOSING_TIMEOUT - 0.01)
    assert session.closes == []
    session.clock.advance(0.01)
    assert session.closes == [("forced close", "the client did not take what was buffered")]
    assert [each.data for each in session.socket.writeBuffer] == ["a"]
    assert session.isQuiet()


def test_shuttingDown() -> None:
    """What the client can take at once it gets; who waits for the others isn't told."""
    session = slow()
    told: list[str] = []
    for text in "abc":
        session.socket.send(text, lambda _, text=text: told.append(text))
    session.transport.writable, session.transport.room = True, 2
    session.socket.shutDown()
    assert (session.transport.texts(), told) == (["a", "b"], ["a", "b"])
    assert [each.data for each in session.socket.writeBuffer] == ["c"]
    assert session.closes[0][0] == "server shutting down"


def test_heartbeatsDoNotQueue() -> None:
    """A ping passes what waits, as a slow client is to hear of us; a pong counts when the ping is taken."""
    session = slow(pingInterval=1000, pingTimeout=500)
    session.socket.send("a")
    session.socket.send("b")
    session.clock.advance(1)
    session.transport.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    session.transport.ready(room=1)
    assert session.transport.types() == [PacketType.PING]
    session.transport.receive(PacketType.PONG)
    assert "heartbeat" in session.names()
    session.clock.advance(0.9)
    assert session.closes == []
    session.socket.close(discard=True)


def test_aPingThatIsStillBuffered() -> None:
    """No pong counts while a ping waits behind what was taken, as it does that was to go out by polling."""
    session = Session("polling", pingInterval=1000, pingTimeout=500)
    session.socket.send("a")
    session.clock.advance(1)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.room = 1
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["a"]
    candidate.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    candidate.ready()
    candidate.receive(PacketType.PONG)
    assert "heartbeat" in session.names()
    session.socket.close(discard=True)


def test_upgradingToASlowWebSocket() -> None:
    """What was buffered goes out on it as the client takes it."""
    session = Session("polling")
    candidate = session.candidate()
    for text in "abc":
        session.socket.send(text)
    candidate.receive(PacketType.PING, "probe")
    candidate.room = 1
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["a"]
    candidate.ready()
    assert candidate.texts() == ["a", "b", "c"]
    session.socket.close(discard=True)


def test_bufferedAmount() -> None:
    """Bytes, text as UTF-8, in the buffer and on the connection; and whether anything would have to wait."""
    session = slow()
    socket = session.socket
    assert (socket.bufferedAmount, socket.writable) == (0, False)
    socket.send("aé€")
    socket.send(b"\x00" * 10)
    socket.send("ascii")
    assert socket.bufferedAmount == 6 + 10 + 5
    session.transport.bufferedAmount = 1000
    assert socket.bufferedAmount == 1021
    session.transport.ready(room=1)
    assert socket.bufferedAmount == 1015
    session.transport.ready()
    session.transport.bufferedAmount = 0
    assert (socket.bufferedAmount, socket.writable) == (0, True)
    socket.send("x")
    assert socket.bufferedAmount == 0
    session.transport.writable = False
    socket.send("x")
    socket.close(discard=True)
    assert (socket.bufferedAmount, socket.writable) == (0, False)


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_drainComesWhereItWasNotWritable(name: str) -> None:
    """Whoever sends as long as it is writable, and then waits for drain, doesn't wait for ever."""
    session = Session(name)
    pending = list("abcdef")

    def send() -> None:
        while pending and session.socket.writable:
            session.socket.send(pending.pop(0))

    session.socket.on("drain", send)
    session.transport.room = 2
    send()
    for _ in range(10):
        session.transport.writable = False
        session.transport.ready(room=2)
    assert session.transport.texts() == list("abcdef")
    drains = session.names().count("drain")
    session.transport.ready()
    assert session.names().count("drain") <= drains + 1
    drains = session.names().count("drain")
    session.transport.ready()
    assert session.names().count("drain") == drains, "nobody asked"
    session.socket.close(discard=True)


def test_isDrained() -> None:
    """It says what `writable` says, and looking at it causes no `drain`."""
    session = slow(1)
    socket = session.socket
    assert socket.isDrained
    socket.send("a")
    assert not socket.isDrained
    session.transport.ready(1)
    assert socket.isDrained
    assert session.names().count("drain") == 1
    socket.send("b")
    session.events.clear()
    session.transport.ready()
    assert session.names() == []
    socket.close()
    assert not socket.isDrained


def test_writableFromInsideADrain() -> None:
    """What was sent there waits for its turn, so that nobody fills the buffer who asks."""
    session = Session()
    session.transport.room = 3
    pending = list("abcdef")

    def send() -> None:
        while pending and session.socket.writable:
            session.socket.send(pending.pop(0))
        assert len(session.socket.writeBuffer) <= 1

    session.socket.on("drain", send)
    send()
    assert (session.transport.texts(), pending) == (list("abc"), list("def"))
    session.transport.ready()
    assert (session.transport.texts(), pending) == (list("abcdef"), [])
    session.socket.close(discard=True)


def test_theErrorSaysWhichLimit() -> None:
    """By its name and value."""
    error = BufferLimitExceeded("maxBufferedBytes", 100)
    assert isinstance(error, EngineIOError)
    assert (error.option, error.limit) == ("maxBufferedBytes", 100)
    assert "maxBufferedBytes, 100," in str(error)


LIMITS = [{"maxBufferedPackets": 3}, {"maxBufferedBytes": 30}]


overEachLimit = pytest.mark.parametrize("limit", LIMITS, ids=["packets", "bytes"])


def full(name: str, limit: dict[str, int], action: str, **options: Any) -> Session:
    """A session whose client takes nothing, with as much in its buffer as may be."""
    session = Session(name, bufferLimitAction=action, **limit, **options)
    session.transport.writable = False
    for text in "abc":
        session.socket.send(text * 10)
    return session


@onEachTransport
@overEachLimit
def test_closingOne(name: str, limit: dict[str, int], warnings: list[str]) -> None:
    """By default the session ends, at once and with its reason; the log says whose and which limit."""
    session = full(name, limit, "close")
    assert session.closes == []
    told: list[Any] = []
    assert session.socket.send("d" * 10, told.append) is session.socket
    ((reason, description),) = session.closes
    ((option, value),) = limit.items()
    assert reason == "buffer limit exceeded"
    assert f"{option}, {value}," in description
    assert (session.transport.reasons, told) == (["buffer limit exceeded"], [])
    assert session.ended == [session.socket]
    assert session.host.counters.limited == {option: 1}
    (warning,) = warnings
    assert option in warning
    assert session.socket.logName in warning
    assert session.socket.id not in warning
    session.socket.send("e")
    assert session.isQuiet()


@onEachTransport
@overEachLimit
def test_dropping(name: str, limit: dict[str, int], warnings: list[str]) -> None:
    """The new message isn't sent, its callback is told why; what waits is sent, and so is what comes after."""
    session = full(name, limit, "drop")
    told: list[Any] = []
    session.socket.send("d" * 10, told.append)
    session.socket.send("e" * 10)
    (error,) = told
    assert isinstance(error, BufferLimitExceeded)
    assert error.option in limit
    assert session.closes == []
    assert len(warnings) == 1, "one for each message would be many"
    assert list(session.host.counters.limited.values()) == [2]
    session.transport.ready()
    session.transport.writable = False
    session.socket.send("f", told.append)
    session.transport.ready()
    assert session.transport.texts() == ["a" * 10, "b" * 10, "c" * 10, "f"]
    assert told[1:] == [session.transport]
    assert "packetCreate" in session.names()
    assert session.names().count("packetCreate") == 4
    session.socket.close(discard=True)


@onEachTransport
@overEachLimit
def test_raising(name: str, limit: dict[str, int]) -> None:
    """At whoever sends; the session isn't touched."""
    session = full(name, limit, "raise")
    told: list[Any] = []
    with pytest.raises(BufferLimitExceeded) as raised:
        session.socket.send("d" * 10, told.append)
    assert raised.value.option in limit
    assert told == []
    session.transport.ready()
    assert session.transport.texts() == ["a" * 10, "b" * 10, "c" * 10]
    session.socket.send("e")
    session.socket.close(discard=True)


@onEachTransport
def test_oneLargeMessage(name: str) -> None:
    """Is sent where nothing else waits, however large; what comes behind it is too much."""
    session = Session(name, maxBufferedBytes=10, bufferLimitAction="raise")
    session.transport.writable = False
    session.socket.send("a" * 100)
    with pytest.raises(BufferLimitExceeded):
        session.socket.send("b")
    session.transport.ready()
    assert session.transport.texts() == ["a" * 100]
    session.socket.close(discard=True)


def test_whatTheConnectionHoldsCounts() -> None:
    """Bytes that were written, and that the system hasn't taken, wait too."""
    session = slow(maxBufferedBytes=100, bufferLimitAction="raise")
    session.transport.bufferedAmount = 95
    session.socket.send("a" * 5)
    with pytest.raises(BufferLimitExceeded):
        session.socket.send("b")
    session.socket.close(discard=True)


def test_whatGoesOutAtOnceHasNoLimit() -> None:
    """Nothing of it waits here, whatever its size."""
    session = Session(maxBufferedBytes=1, maxBufferedPackets=1)
    for _ in range(10):
        session.socket.send("a" * 100)
        session.socket.send("a" * 100, lambda _: None)
    assert len(session.transport.sent) == 20
    session.socket.close(discard=True)


def test_fromInsideACallback() -> None:
    """What is sent while the buffer is on its way waits too."""
    session = Session(maxBufferedPackets=5, bufferLimitAction="drop")
    dropped: list[Any] = []

    def flood(_: object) -> None:
        for _ in range(10):
            session.socket.send("b", lambda by: dropped.append(by) if by is not session.transport else None)

    session.socket.send("a", flood)
    assert session.transport.texts() == ["a"] + ["b"] * 5
    assert len(dropped) == 5
    session.socket.close(discard=True)


@onEachTransport
def test_packetsOfTheProtocolAreNeverTooMuch(name: str) -> None:
    """The open packet, the initial one, and heartbeats: no application sent them."""
    options = {"maxBufferedBytes": 1, "maxBufferedPackets": 1, "bufferLimitAction": "raise"}
    session = Session(name, isOpen=False, initialPacket="hello", pingInterval=1000, **options)
    session.transport.writable = False
    session.socket.open()
    session.clock.advance(1)
    session.transport.ready()
    assert sorted(session.transport.types()) == [PacketType.OPEN, PacketType.PING, PacketType.MESSAGE]
    assert session.closes == []
    session.socket.close(discard=True)


@pytest.mark.parametrize("action", ["close", "drop", "raise"])
def test_broadcasting(action: str, warnings: list[str]) -> None:
    """One that is slow is left out, logged and not counted; the others get theirs."""
    factory = SocketFactory(
        FakeHost(clock := Clock(), maxBufferedPackets=2, bufferLimitAction=action), clock, FakeHost().addressOf
    )
    transports = [FakeTransport() for _ in range(3)]
    for place, transport in enumerate(transports):
        factory.open(str(place), transport, FakeRequest().exchange, 4)
    transports[1].writable = False
    assert [factory.broadcast(text, (), None, True, False) for text in "abc"] == [3, 3, 2]
    assert [transport.texts() for transport in transports] == [["a", "b", "c"], [], ["a", "b", "c"]]
    assert len(warnings) == 1
    assert "maxBufferedPackets" in warnings[0]
    factory.closeAll()
