"""The WebSocket transport on a connection in memory, over each engine: frames in and out, closing, deadlines."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyClass, verifyObject

from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import Closing, ITransport, IWebSocket, IWebSocketEngine, IWebSocketReceiver
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.handshake import WebSocketHandshake
from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.engines import ENGINES, TwistedEngine, piecesOf
from ..kit.fakes import FORCED
from ..kit.peers import HANDSHAKE, AcceptedPeer, makeFrame

MakePeer = Callable[..., AcceptedPeer]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    """What implements WebSocket: every test here runs over each."""
    return request.param


@pytest.fixture
def Peer(engine: Any) -> MakePeer:
    """What makes a client that was accepted."""
    return partial(AcceptedPeer, engine)


def test_interfaces(Peer: MakePeer, engine: Any) -> None:
    """Each part is what the others expect of it."""
    peer = Peer()
    verifyClass(IWebSocketEngine, engine)
    verifyObject(IWebSocketEngine, peer.engine)
    verifyObject(ITransport, peer.transport)
    verifyObject(IWebSocketReceiver, peer.transport)
    verifyObject(IWebSocket, peer.transport.webSocket)
    verifyObject(IPushProducer, peer.connection.producer)


def test_accept(Peer: MakePeer) -> None:
    """The 101 answers the client's key; the connection is ours, and the channel isn't asked any more."""
    peer = Peer(headers={"X-Frame": ["a", "b"]})
    lines = peer.answer.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
    assert b"X-Frame: a" in lines
    assert b"X-Frame: b" in lines
    assert not [line for line in lines if line.lower().startswith((b"server", b"sec-websocket-extensions"))]
    assert peer.channel.isReleased
    assert peer.connection.producer is peer.transport.webSocket
    assert len(peer.engine.connections) == 1
    assert peer.clock.getDelayedCalls() == []
    assert peer.isOver()


def test_whatCameBehindTheRequestIsDelivered(Peer: MakePeer) -> None:
    """A client may talk before it has the 101."""
    peer = Peer(behind=makeFrame(1, b"4first") + makeFrame(1, b"4second"))
    assert [packet.data for packet in peer.owner.packets] == ["first", "second"]


def test_frames(Peer: MakePeer) -> None:
    """One packet a frame: text as text, bytes as they are, also over the limit for clients."""
    peer = Peer(limit=100)
    peer.transport.send(
        [Packet(PacketType.MESSAGE, "hi€"), Packet(PacketType.MESSAGE, b"\x01"), Packet(PacketType.PING)]
    )
    assert peer.connection.value() == b"\x81\x064hi\xe2\x82\xac\x82\x01\x01\x81\x012"
    peer.connection.clear()
    peer.transport.send([Packet(PacketType.MESSAGE, b"x" * 70_000)])
    assert peer.connection.value() == b"\x82\x7f" + struct.pack("!Q", 70_000) + b"x" * 70_000


def test_binaryAsText(Peer: MakePeer) -> None:
    """A client that asks for it gets bytes as base64."""
    peer = Peer(supportsBinary=False)
    peer.transport.send([Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04")])
    assert peer.connection.value() == b"\x81\x09bAQIDBA=="


def test_receiving(Peer: MakePeer) -> None:
    """Text, binary, empty, fragmented, with control frames between."""
    peer = Peer()
    peer.send(1, b"4hello")
    peer.send(2, b"\x01\x02")
    peer.send(2, b"")
    peer.send(1, b"4ab", isFinal=False)
    peer.send(9, b"are you there?")
    peer.send(0, b"cd")
    assert [packet.data for packet in peer.owner.packets] == ["hello", b"\x01\x02", b"", "abcd"]
    assert peer.connection.value() == b"\x8a\x0eare you there?"


@pytest.mark.parametrize("frame", [b"", b"9", b"x", b"b!"])
def test_aFrameThatIsNoPacket(Peer: MakePeer, frame: bytes) -> None:
    """Ends the session with `parse error`, and the WebSocket with it."""
    peer = Peer()
    peer.send(1, frame)
    assert [reason for reason, _ in peer.owner.closes] == ["parse error"]
    assert peer.closeCode() == 1000
    peer.send(1, b"4late")
    assert peer.owner.packets == []
    assert peer.isOver()


def test_closePacket(Peer: MakePeer) -> None:
    """Ends the session at once."""
    peer = Peer()
    peer.send(1, b"1")
    assert peer.owner.closes == [("transport close", "close packet")]
    assert peer.closeCode() == 1000


@pytest.mark.parametrize(
    ("frame", "code", "description"),
    [
        (makeFrame(1, b"4" + b"a" * 1000), 1009, "a message is larger than maxHttpBufferSize, 1000 bytes"),
        (makeFrame(1, b"4" + b"a" * 900, isFinal=False) + makeFrame(0, b"a" * 100), 1009, "maxHttpBufferSize"),
        (makeFrame(1, b"4\xff"), 1007, "1007"),
        (makeFrame(1, b"4\xe2", isFinal=True), 1007, "1007"),
        (b"\x81\x024a", 1002, "unmasked"),
        (makeFrame(1, b"4a", reserved=4), 1002, "RSV"),
        (makeFrame(3, b"4a"), 1002, "opcode 3"),
        (makeFrame(0, b"4a"), 1002, "continuation"),
        (makeFrame(9, b"a" * 126), 1002, "125"),
        (makeFrame(8, b"\x00\x01"), 1002, "close code 1"),
    ],
)
def test_framesThatBreakTheProtocol(Peer: MakePeer, engine: Any, frame: bytes, code: int, description: str) -> None:
    """The client is told with the right code, the session ends with `transport error`, and nothing is delivered."""
    peer = Peer()
    peer.receive(frame)
    assert [reason for reason, _ in peer.owner.closes] == ["transport error"]
    # Twisted's engine doesn't say what is wrong, but for what is counted here.
    says = description if engine is not TwistedEngine or code == 1009 else str(code)
    assert says in peer.owner.closes[0][1]
    assert peer.closeCode() == code
    assert peer.owner.packets == []
    assert peer.isOver()


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9going", b"\x0b\xb8"])
def test_aCloseFrameFromTheClient(Peer: MakePeer, engine: Any, payload: bytes) -> None:
    """Is answered with the client's own code, and the session ends with `transport close`."""
    peer = Peer()
    peer.send(8, payload)
    assert [reason for reason, _ in peer.owner.closes] == ["transport close"]
    # Twisted's engine sends the reason back too.
    reply = payload if engine is TwistedEngine else payload[:2]
    assert peer.connection.value() == bytes([0x88, len(reply)]) + reply
    assert peer.connection.disconnecting
    assert peer.isOver()


@pytest.mark.parametrize("clean", [True, False])
def test_aConnectionThatIsLost(Peer: MakePeer, clean: bool) -> None:
    """Ends the session with `transport close`, once."""
    peer = Peer()
    peer.lose(clean)
    assert [reason for reason, _ in peer.owner.closes] == ["transport close"]
    assert len(peer.engine.connections) == 0
    peer.transport.send([Packet(PacketType.PING)])
    peer.transport.close(FORCED)
    assert peer.connection.value() == b""


def test_close(Peer: MakePeer) -> None:
    """What is to be sent goes first, then a close frame; the owner isn't told of what it did."""
    peer = Peer()
    peer.transport.close(FORCED, [Packet(PacketType.MESSAGE, "bye")])
    peer.transport.close(FORCED)
    assert peer.connection.value() == b"\x81\x044bye\x88\x02\x03\xe8"
    assert not peer.transport.writable
    peer.send(1, b"4late")
    peer.send(8, b"\x03\xe8")
    assert (peer.connection.disconnecting, peer.connection.aborted) == (True, False)
    peer.lose()
    assert (peer.owner.packets, peer.owner.closes) == ([], [])
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize("by", ["us", "them", "error"])
def test_aClientThatDoesNotFinishClosing(Peer: MakePeer, by: str) -> None:
    """Is cut off when the time for it is over."""
    peer = Peer()
    if by == "us":
        peer.transport.close(FORCED)
    elif by == "them":
        peer.send(8, b"")
    else:
        peer.receive(b"\x81\x024a")
    peer.clock.advance(CLOSE_TIMEOUT - 0.01)
    assert not peer.connection.aborted
    peer.clock.advance(0.01)
    assert peer.connection.aborted
    assert peer.isOver()


def test_aClientThatDoesNotRead(Peer: MakePeer) -> None:
    """Is read from for as much as one message may hold, its pong among it; then not, until it has read itself."""
    peer = Peer(limit=100)
    for _ in range(3):
        peer.connection.producer.pauseProducing()
        peer.send(1, b"3")
        peer.connection.producer.pauseProducing()
        peer.send(1, b"4" + b"a" * 80)
        assert peer.connection.producerState == "producing"
        peer.send(1, b"4b")
        assert peer.connection.producerState == "paused"
        peer.connection.producer.resumeProducing()
        assert peer.connection.producerState == "producing"
    for _ in range(10):
        peer.send(1, b"4" + b"a" * 80)
    assert peer.connection.producerState == "producing", "a client that reads may send what it likes"
    assert len(peer.owner.packets) == 19
    peer.connection.producer.stopProducing()


def test_aSubprotocol(Peer: MakePeer) -> None:
    """A client that offers some gets the first; browsers take a 101 without one for a failure."""
    peer = Peer(handshake=WebSocketHandshake(HANDSHAKE.key, HANDSHAKE.version, "chat"))
    assert b"Sec-WebSocket-Protocol: chat" in peer.answer.split(b"\r\n")
    assert b"Sec-WebSocket-Protocol" not in Peer().answer


def test_aMessageInVeryManyPieces(Peer: MakePeer, engine: Any) -> None:
    """Is put together on the way, so that the pieces don't take many times its size."""
    peer = Peer(limit=100_000)
    peer.send(1, b"4", isFinal=False)
    for _ in range(50):
        peer.receive(makeFrame(0, b"x", isFinal=False) * 1000)
        if engine is not TwistedEngine:
            assert len(piecesOf(peer.transport.webSocket)) < 2000
    peer.send(0, b"!")
    assert peer.owner.packets[0].data == "x" * 50_000 + "!"


def test_aWebSocketNobodyWants(Peer: MakePeer) -> None:
    """One that was accepted only to be closed, because there is one already, tells nobody."""
    peer = Peer()
    peer.transport.close(FORCED)
    peer.send(1, b"4a")
    peer.send(8, b"\x03\xe8")
    assert peer.owner.closes == []
    assert peer.isOver()


def test_timeToTake(Peer: MakePeer) -> None:
    """A client that goes on reading has the time that it is given; once it has answered, only as long as any."""
    peer = Peer()
    peer.transport.close(Closing(CloseReason.SERVER_SHUTTING_DOWN, "", 20), [Packet(PacketType.MESSAGE, "last")])
    assert peer.closeCode() == 1001
    peer.clock.advance(19.9)
    assert not peer.connection.aborted
    peer.clock.advance(0.1)
    assert peer.connection.aborted
    assert peer.isOver()

    peer = Peer()
    peer.transport.close(Closing(CloseReason.SERVER_SHUTTING_DOWN, "", 20))
    peer.send(8, b"\x03\xe9")
    peer.clock.advance(CLOSE_TIMEOUT)
    assert peer.connection.aborted
    assert peer.isOver()


def test_whenEmpty(Peer: MakePeer) -> None:
    """The server can wait until no WebSocket is connected."""
    peer = Peer()
    waiting = peer.engine.connections.whenEmpty()
    assert not waiting.called
    peer.lose()
    assert waiting.called
    assert peer.engine.connections.whenEmpty().called
