"""Producers that write to a session at the pace of its client."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IPullProducer
from twisted.logger import LogEvent
from twisted.protocols.basic import FileSender
from zope.interface import implementer
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.producing import HIGH_MARK

from ..kit.fakes import Pusher
from ..kit.sessions import Session, onEachTransport, slow
from ..kit.turns import turn


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
    turn(session.clock)
    assert producer.asked == 1
    turn(session.clock, 20)
    # Those that the transport took, and those that fit into 64 KiB.
    waiting = producer.asked
    assert waiting == (4 if name == "polling" else 2 + 4)
    turn(session.clock, 20)
    assert producer.asked == waiting
    session.transport.ready()
    turn(session.clock)
    assert producer.asked == waiting + 1
    session.socket.unregisterProducer()
    turn(session.clock, 20)
    assert producer.asked == waiting + 1
    session.socket.close(discard=True)
    assert not producer.isStopped


def test_aPullProducerThatHasNothingNow() -> None:
    """Isn't asked again and again: when it has written by itself, it is."""
    session = Session()
    producer = Puller(session.socket, 0)
    session.socket.registerProducer(producer, False)
    turn(session.clock, 5)
    assert producer.asked == 1
    session.socket.write(b"late")
    turn(session.clock, 5)
    assert producer.asked == 2
    session.socket.close(discard=True)


def test_aPullProducerAndAClientThatStopsReading() -> None:
    """It isn't asked where there was room when it was to be, and isn't any more."""
    session = Session()
    producer = Puller(session.socket, 10)
    session.socket.registerProducer(producer, False)
    session.transport.writable = False
    session.transport.bufferedAmount = 100_000
    turn(session.clock)
    assert producer.asked == 0
    session.transport.bufferedAmount = 0
    session.transport.ready()
    turn(session.clock)
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
        turn(session.clock, 20)
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
