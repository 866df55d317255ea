"""The pace of a slow client: what waits for it, what is too much, who is told, and how it is held back itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IPullProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.protocols.basic import FileSender
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import BufferLimitExceeded, CloseReason, EngineIOError
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.factory import SocketFactory
from engineio_twisted.session.producing import HIGH_MARK
from engineio_twisted.web.connections import unsent

from ..kit.engines import ENGINES
from ..kit.fakes import FORCED, FakeHost, FakeRequest, FakeTransport, PlainConnection, Pusher
from ..transports.test_websocket import AcceptedPeer
from .test_socket import Session


def slow(room: int = 0, **options: Any) -> Session:
    """A session on a WebSocket whose client takes so many packets, and then no more until it is ready."""
    session = Session(**options)
    session.transport.room = room
    session.transport.writable = room > 0
    return session


def turn(session: Session, times: int = 1) -> None:
    """Let the reactor go round: what is asked for on the way is left for the next time."""
    clock = session.clock
    for _ in range(times):
        for call in [each for each in clock.calls if each.getTime() <= clock.seconds()]:
            clock.calls.remove(call)
            call.called = True
            call.func(*call.args, **call.kw)


@pytest.fixture
def warnings() -> Any:
    """The warnings logged during the test."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            seen.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


# At the pace of the client


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


# How much waits


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


# Too much


def test_theErrorSaysWhichLimit() -> None:
    """By its name and value."""
    error = BufferLimitExceeded("maxBufferedBytes", 100)
    assert isinstance(error, EngineIOError)
    assert (error.option, error.limit) == ("maxBufferedBytes", 100)
    assert "maxBufferedBytes, 100," in str(error)


LIMITS = [{"maxBufferedPackets": 3}, {"maxBufferedBytes": 30}]
overEachLimit = pytest.mark.parametrize("limit", LIMITS, ids=["packets", "bytes"])
onEachTransport = pytest.mark.parametrize("name", ["polling", "websocket"])


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
    assert [factory.broadcast(text, (), True) for text in "abc"] == [3, 3, 2]
    assert [transport.texts() for transport in transports] == [["a", "b", "c"], [], ["a", "b", "c"]]
    assert len(warnings) == 1
    assert "maxBufferedPackets" in warnings[0]
    factory.closeAll()


# Producers


@implementer(IPullProducer)
class Puller:
    """A pull producer that writes so much each time it is asked."""

    def __init__(self, socket: Any, size: int) -> None:
        self.socket, self.size = socket, size
        self.asked = 0
        self.isStopped = False

    def resumeProducing(self) -> None:
        self.asked += 1
        if self.size:
            self.socket.write(b"x" * self.size)

    def stopProducing(self) -> None:
        self.isStopped = True


def test_itIsAConsumer() -> None:
    """Whatever writes to one can write to a session."""
    session = Session()
    verifyObject(IConsumer, session.socket)
    session.socket.close(discard=True)


@onEachTransport
def test_aPushProducer(name: str) -> None:
    """Is paused once with more than 64 KiB waiting, and resumed when nothing is."""
    session = Session(name)
    session.transport.writable = False
    producer = Pusher()
    session.socket.registerProducer(producer, True)
    session.socket.write(b"x" * HIGH_MARK)
    assert producer.told == []
    session.socket.write(b"x")
    session.socket.write(b"x")
    assert producer.told == ["pause"]
    if name == "websocket":
        session.transport.ready(room=2)
        assert producer.told == ["pause"]
    session.transport.ready()
    if name == "polling":
        # The payload has used the GET up: the next one says that the client has read it.
        assert producer.told == ["pause"]
        session.transport.ready()
    assert producer.told == ["pause", "resume"]
    session.transport.ready()
    assert producer.told == ["pause", "resume"]
    session.socket.unregisterProducer()
    session.socket.unregisterProducer()
    session.socket.close(discard=True)
    assert producer.told == ["pause", "resume"]
    assert session.isQuiet()


def test_aPushProducerOfAFullSession() -> None:
    """Is paused from the beginning."""
    session = slow()
    session.socket.send(b"x" * 100_000)
    producer = Pusher()
    session.socket.registerProducer(producer, True)
    assert producer.told == ["pause"]
    session.socket.close(discard=True)
    assert producer.told == ["pause", "stop"]


def test_whatTheConnectionHoldsPausesAProducer() -> None:
    """Also where nothing waits in the buffer."""
    session = Session()
    session.transport.room = 1
    session.transport.bufferedAmount = 70_000
    producer = Pusher()
    session.socket.registerProducer(producer, True)
    session.socket.write(b"x" * 70_000)
    assert producer.told == ["pause"]
    session.transport.bufferedAmount = 0
    session.transport.ready()
    assert producer.told == ["pause", "resume"]
    session.socket.close(discard=True)


@onEachTransport
def test_aPullProducer(name: str) -> None:
    """Is asked once in a turn, while there is room."""
    session = Session(name)
    session.transport.room = 2
    producer = Puller(session.socket, 20_000)
    session.socket.registerProducer(producer, False)
    assert producer.asked == 0
    turn(session)
    assert producer.asked == 1
    turn(session, 20)
    # Those that the transport took, and those that fit into 64 KiB.
    waiting = producer.asked
    assert waiting == (4 if name == "polling" else 2 + 4)
    turn(session, 20)
    assert producer.asked == waiting
    session.transport.ready()
    turn(session)
    assert producer.asked == waiting + 1
    session.socket.unregisterProducer()
    turn(session, 20)
    assert producer.asked == waiting + 1
    session.socket.close(discard=True)
    assert not producer.isStopped


def test_aPullProducerThatHasNothingNow() -> None:
    """Isn't asked again and again: when it has written by itself, it is."""
    session = Session()
    producer = Puller(session.socket, 0)
    session.socket.registerProducer(producer, False)
    turn(session, 5)
    assert producer.asked == 1
    session.socket.write(b"late")
    turn(session, 5)
    assert producer.asked == 2
    session.socket.close(discard=True)


def test_aPullProducerAndAClientThatStopsReading() -> None:
    """It isn't asked where there was room when it was to be, and isn't any more."""
    session = Session()
    producer = Puller(session.socket, 10)
    session.socket.registerProducer(producer, False)
    session.transport.writable = False
    session.transport.bufferedAmount = 100_000
    turn(session)
    assert producer.asked == 0
    session.transport.bufferedAmount = 0
    session.transport.ready()
    turn(session)
    assert producer.asked == 1
    session.socket.close(discard=True)


@onEachTransport
def test_aFile(name: str) -> None:
    """Is sent whole, in order, and no more of it is read than the client takes."""
    session = Session(name)
    content = bytes(range(256)) * 1000
    file = BytesIO(content)
    done: list[Any] = []
    FileSender().beginFileTransfer(file, session.socket).addCallback(done.append)
    for _ in range(100):
        taken = sum(map(len, session.transport.texts()))
        assert file.tell() <= taken + HIGH_MARK + FileSender.CHUNK_SIZE
        session.transport.ready(room=1)
        turn(session, 20)
    assert b"".join(session.transport.texts()) == content  # type: ignore[arg-type]
    assert done == [content[-1:]]
    assert session.closes == []
    session.socket.close(discard=True)


def test_oneProducerAtATime() -> None:
    """A second is refused, as everywhere in Twisted."""
    session = Session()
    session.socket.registerProducer(Pusher(), True)
    with pytest.raises(RuntimeError, match="never was unregistered"):
        session.socket.registerProducer(Pusher(), True)
    session.socket.close(discard=True)


@pytest.mark.parametrize("end", ["close", "discard", "lost", "limit"])
@pytest.mark.parametrize("streaming", [True, False])
def test_theEndStopsAProducer(end: str, streaming: bool) -> None:
    """However the session ends; so is one that comes too late."""
    session = slow(maxBufferedPackets=1)
    producer: Any = Pusher()
    session.socket.registerProducer(producer, streaming)
    if end == "close":
        session.socket.send("a")
        session.socket.close()
        assert session.socket.readyState == "closing"
    elif end == "discard":
        session.socket.close(discard=True)
    elif end == "lost":
        session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, ""))
    else:
        session.socket.send("a")
        session.socket.send("b")
    assert producer.told[-1] == "stop"
    late = Pusher()
    session.socket.registerProducer(late, streaming)
    assert late.told == ["stop"]
    session.clock.advance(CLOSING_TIMEOUT)
    assert producer.told.count("stop") == 1
    assert session.isQuiet()


def test_aProducerThatRaises(loggedErrors: list[LogEvent]) -> None:
    """It is logged, and emitted as an error; nothing else happens."""
    session = Session()

    class Broken(Puller):
        def resumeProducing(self) -> None:
            raise OSError("disk")

    session.socket.registerProducer(Broken(session.socket, 1), False)
    session.clock.pump([0] * 5)
    (error,) = [each[1] for each in session.events if each[0] == "error"]
    assert isinstance(error, OSError)
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    session.socket.close(discard=True)


# Holding the client back


def texts(session: Session) -> list[Any]:
    return [each[1] for each in session.events if each[0] == "message"]


def arrive(session: Session, *messages: str) -> None:
    for each in messages:
        session.transport.receive(PacketType.MESSAGE, each)


def test_pausing() -> None:
    """Nothing is emitted until it is resumed; then all is, in order, and reading goes on."""
    session = Session()
    arrive(session, "a")
    session.socket.pauseReceiving()
    session.socket.pauseReceiving()
    assert session.transport.isHeldBack
    before = len(session.events)
    arrive(session, "b", "c")
    assert len(session.events) == before
    session.socket.resumeReceiving()
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b", "c"]
    assert session.names().count("packet") == 3
    assert session.transport.delivered == [True]
    arrive(session, "d")
    assert texts(session) == ["a", "b", "c", "d"]
    session.socket.close(discard=True)


def test_pausingFromInsideAHandler() -> None:
    """With each message, as a reader would that takes one at a time: each comes when it is asked for."""
    session = Session()
    session.socket.on("data", lambda _: session.socket.pauseReceiving())
    arrive(session, "a", "b", "c")
    assert texts(session) == ["a"], "the message that is being handled is handled"
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b"]
    assert session.transport.isHeldBack
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b", "c"]
    session.socket.resumeReceiving()
    assert not session.transport.isHeldBack
    session.socket.close(discard=True)


def test_pausingAndResumingFromInsideAHandler() -> None:
    """Nothing overtakes the message that is being handled."""
    session = Session()

    def both(_: object) -> None:
        session.socket.pauseReceiving()
        session.socket.resumeReceiving()

    session.socket.pauseReceiving()
    arrive(session, "a", "b", "c")
    session.socket.on("data", both)
    session.socket.resumeReceiving()
    assert [each for each in session.events if each[0] in ("data", "message")] == [
        (event, text) for text in "abc" for event in ("data", "message")
    ]
    arrive(session, "d")
    assert texts(session) == list("abcd")
    session.socket.close(discard=True)


def test_pausingWhatIsOver() -> None:
    """Does nothing."""
    session = Session()
    session.socket.close(discard=True)
    session.socket.pauseReceiving()
    session.socket.resumeReceiving()
    assert session.transport.delivered == []


def test_theClientLeavesMeanwhile() -> None:
    """What came before is delivered when it is resumed, and then the end, with its own reason."""
    session = Session()
    session.socket.pauseReceiving()
    arrive(session, "a", "b")
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "first"))
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_ERROR, "second"))
    assert (texts(session), session.closes) == ([], [])
    session.socket.resumeReceiving()
    assert (texts(session), session.closes) == (["a", "b"], [("transport close", "first")])
    assert session.isQuiet()


def test_theClientLeavesWithNothingHeld() -> None:
    """The session ends at once."""
    session = Session()
    session.socket.pauseReceiving()
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    assert session.closes == [("transport close", "gone")]
    assert session.isQuiet()


def test_oneThatLeftIsForgottenInTheEnd() -> None:
    """Where it is never resumed: the next ping isn't taken."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    arrive(session, "a")
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    session.transport.writable = False
    session.clock.pump([0.5] * 3)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert texts(session) == []


@pytest.mark.parametrize("discard", [True, False])
def test_closingWhilePaused(discard: bool) -> None:
    """What is held is dropped, and the client learns that nobody got it."""
    session = slow()
    session.socket.send("unsent")
    session.socket.pauseReceiving()
    arrive(session, "a")
    session.socket.close(discard=discard)
    assert session.transport.delivered == [False]
    session.socket.resumeReceiving()
    arrive(session, "b")
    session.clock.advance(CLOSING_TIMEOUT)
    assert texts(session) == []
    assert session.isQuiet()


def test_drainingASlowOne() -> None:
    """Before a server stops, the client has what was sent, as it takes it, and is received from in between."""
    session = slow()
    session.socket.send("a")
    session.socket.send("b")
    session.socket.pauseReceiving()
    arrive(session, "c")
    session.socket.goAway(session.clock.seconds() + 20)
    arrive(session, "d")
    assert (session.transport.delivered, texts(session)) == ([], [])
    session.socket.resumeReceiving()
    assert texts(session) == ["c", "d"]
    session.transport.ready(room=1)
    assert session.transport.closings == []
    session.clock.advance(5)
    session.transport.ready()
    assert session.transport.texts() == ["a", "b"]
    assert [(each.reason, each.deadline) for each in session.transport.closings] == [("server shutting down", 20)]
    assert session.closes == [("server shutting down", "the server is closing")]
    assert session.isQuiet()


@pytest.mark.parametrize("inside", ["close", "discard"])
def test_closingFromInsideAHeldMessage(inside: str) -> None:
    """Nothing comes behind it."""
    session = Session()
    session.socket.pauseReceiving()
    arrive(session, "a", "b")
    session.socket.once("message", lambda _: session.socket.close(discard=inside == "discard"))
    session.socket.resumeReceiving()
    assert texts(session) == ["a"]
    assert session.transport.delivered == [False]
    assert session.isQuiet()


@pytest.mark.parametrize(("interval", "timeout"), [(1000, 500), (500, 2000)])
def test_heartbeatsGoOnWhilePaused(interval: int, timeout: int) -> None:
    """The client is pinged as ever, and needn't answer; when it is resumed, it has the time that it always has."""
    session = Session(pingInterval=interval, pingTimeout=timeout)
    session.clock.advance(interval / 1000)
    session.socket.pauseReceiving()
    for _ in range(100):
        session.clock.advance(interval / 2000)
    assert session.closes == []
    assert session.transport.types().count(PacketType.PING) >= 40
    session.socket.resumeReceiving()
    session.clock.advance(min(timeout, interval) / 1000 - 0.01)
    session.clock.advance(max(0, timeout - interval) / 1000)
    assert session.closes == []
    session.clock.advance(0.01)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_aPongThatWasHeld() -> None:
    """Answers the ping."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    session.clock.advance(1)
    session.transport.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    session.socket.resumeReceiving()
    assert "heartbeat" in session.names()
    session.clock.advance(0.99)
    assert session.closes == []
    session.socket.close(discard=True)


@pytest.mark.parametrize(("protocol", "seconds"), [(4, 1.5), (3, 3)])
def test_oneThatDoesNotTakeThePingWhilePaused(protocol: int, seconds: float) -> None:
    """Has gone, or doesn't read either: that is not for want of being read. In revision 3 a noop is in its place."""
    session = slow(protocol=protocol, pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    session.clock.pump([0.5] * int(seconds * 2 - 1))
    assert session.closes == []
    session.clock.advance(0.5)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_revision3WhilePaused() -> None:
    """The client's pings aren't read, and none is missed; after that there is the whole time for the next one."""
    session = Session(protocol=3, pingInterval=1000, pingTimeout=500)
    session.clock.advance(1.4)
    session.socket.pauseReceiving()
    session.clock.pump([0.5] * 20)
    assert session.closes == []
    assert [each.type for each in session.transport.sent] == [PacketType.NOOP] * 7, "it is to hear of us"
    session.socket.resumeReceiving()
    session.clock.advance(1.49)
    assert session.closes == []
    session.clock.advance(0.01)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_upgradingWhilePaused() -> None:
    """The client can move; what it says on the new transport is held behind what it said on the old one."""
    session = Session("polling")
    candidate = session.candidate()
    session.socket.pauseReceiving()
    arrive(session, "a")
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.MESSAGE, "b")
    assert session.socket.upgraded
    assert (session.transport.delivered, candidate.isHeldBack) == ([True], True)
    assert texts(session) == []
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b"]
    assert candidate.delivered == [True]
    session.socket.close(discard=True)


# WebSocket, over each engine

MakePeer = Callable[..., AcceptedPeer]


@pytest.fixture(params=ENGINES)
def Peer(request: pytest.FixtureRequest) -> MakePeer:
    """What makes a client that was accepted, by each engine."""
    return partial(AcceptedPeer, request.param)


def messages(*data: str | bytes) -> list[Packet]:
    return [Packet(PacketType.MESSAGE, each) for each in data]


def test_aConnectionThatIsFull(Peer: MakePeer) -> None:
    """Takes no more packets than until it is, and says when it is empty."""
    peer = Peer()
    write, producer = peer.connection.write, peer.connection.producer

    def full(data: bytes) -> None:
        write(data)
        if b"full" in data:
            producer.pauseProducing()

    peer.connection.write = full  # type: ignore[method-assign]
    assert peer.transport.writable
    assert peer.transport.send(messages("a", "full", "b")) == 2
    assert not peer.transport.writable
    assert b"4b" not in peer.connection.value()
    assert peer.owner.readies == 0
    producer.resumeProducing()
    assert (peer.transport.writable, peer.owner.readies) == (True, 1)
    assert peer.transport.send(messages("b", "c")) == 2
    assert peer.connection.value().endswith(b"\x81\x024b\x81\x024c")
    producer.pauseProducing()
    assert peer.transport.close(FORCED, messages("d")) == 0
    assert not peer.transport.writable
    producer.resumeProducing()
    assert (peer.transport.writable, peer.owner.readies) == (False, 1)
    assert peer.closeCode() == 1000
    assert peer.isOver()


def test_abandoning(Peer: MakePeer) -> None:
    """A client that doesn't read is told, and cut off soon."""
    peer = Peer()
    peer.connection.producer.pauseProducing()
    peer.transport.close(Closing(CloseReason.BUFFER_LIMIT_EXCEEDED))
    peer.clock.advance(CLOSE_TIMEOUT)
    assert peer.connection.aborted
    assert peer.isOver()


def test_holdingBack(Peer: MakePeer) -> None:
    """It isn't read from; neither reason for that undoes the other."""
    peer = Peer(limit=100)
    connection: Any = peer.connection
    producer = connection.producer
    peer.transport.pauseReceiving()
    assert connection.producerState == "paused"
    producer.pauseProducing()
    producer.resumeProducing()
    assert connection.producerState == "paused", "because it reads it isn't to be read from"
    peer.transport.resumeReceiving()
    assert connection.producerState == "producing"
    producer.pauseProducing()
    peer.send(1, b"4" + b"a" * 90)
    peer.send(1, b"4" + b"a" * 90)
    assert connection.producerState == "paused"
    peer.transport.pauseReceiving()
    peer.transport.resumeReceiving()
    assert connection.producerState == "paused", "it has sent enough without reading"
    producer.resumeProducing()
    assert connection.producerState == "producing"
    peer.transport.resumeReceiving()
    assert peer.isOver()


def test_closingOneThatIsHeldBack(Peer: MakePeer) -> None:
    """Its close frame is read, so that it needn't be cut off."""
    peer = Peer()
    peer.transport.pauseReceiving()
    peer.transport.close(FORCED)
    assert peer.connection.producerState == "producing"
    peer.send(8, b"\x03\xe8")
    assert peer.connection.disconnecting
    assert peer.isOver()


def test_bytesThatAConnectionHolds(Peer: MakePeer) -> None:
    """Are counted where it is one of Twisted's own."""
    peer = Peer()
    assert peer.transport.bufferedAmount == 0
    plain = PlainConnection()
    plain.write(b"x" * 100)
    peer.transport.webSocket.transport = plain
    assert peer.transport.bufferedAmount == 100
    peer.transport.webSocket.transport = peer.connection
    assert peer.isOver()


def test_unsent() -> None:
    """Whatever is around a connection; of one that is lost nothing is waiting."""
    plain = PlainConnection()
    assert unsent(plain) == 0
    plain.socket.room = 30
    plain.write(b"x" * 100)
    assert unsent(plain) == 100
    plain.doWrite()
    assert unsent(plain) == 70
    wrapper: Any = ProtocolWrapper(WrappingFactory(None), Protocol())  # type: ignore[arg-type]
    wrapper.transport = plain
    wrapper._appSendBuffer = [b"12", b"345"]
    assert unsent(wrapper) == 75
    plain.connected = False
    assert unsent(plain) == 0
    assert unsent(object()) == 0
    assert unsent(None) == 0
