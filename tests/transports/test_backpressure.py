"""WebSockets whose clients don't read, or are held back, over each engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.web.connections import unsent

from ..kit.engines import ENGINES
from ..kit.fakes import FORCED, PlainConnection
from ..kit.peers import AcceptedPeer

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
