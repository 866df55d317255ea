"""What a WebSocket is sent goes to the system at once: in one piece for each piece read, and never out of order."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from engineio_twisted import AutobahnEngine, Packet, PacketType, ServerOptions
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.transports.websocket import WebSocketTransport
from engineio_twisted.web.exchange import RequestExchange

from ..kit.fakes import FakeOwner, PlainConnection
from ..kit.peers import HANDSHAKE, Channel
from ..kit.wire import makeFrame


class EchoOwner(FakeOwner):
    """A session that answers each message with as many as it says."""

    def transportPacket(self, transport: Any, packet: Packet) -> None:
        super().transportPacket(transport, packet)
        for each in str(packet.data).split(","):
            transport.send([Packet(PacketType.MESSAGE, each)])


class Engine(AutobahnEngine):
    """An engine on a clock."""

    def __init__(self, **options: Any) -> None:
        self.testClock = Clock()
        super().__init__(self.testClock, ServerOptions(**options))

    def goRound(self) -> None:
        """Let the reactor go round once."""
        self.testClock.advance(0)


class Peer:
    """A WebSocket on a plain connection, from the client."""

    def __init__(self, engine: Engine, behind: bytes = b"") -> None:
        self.engine = engine
        self.connection: Any = PlainConnection()
        self.system = self.connection.socket
        self.transport = WebSocketTransport(codecFor(4), True, self.begin)
        exchange = RequestExchange(type("Request", (), {"channel": Channel(self.connection, behind)})())
        engine.accept(exchange, HANDSHAKE, {}, self.transport)

    def begin(self) -> None:
        self.transport.owner = EchoOwner()
        self.send("open")

    def receive(self, data: bytes) -> None:
        self.connection.protocol.dataReceived(data)

    def send(self, text: str) -> None:
        self.transport.send([Packet(PacketType.MESSAGE, text)])


def frames(*texts: str) -> bytes:
    """What a server sends of messages of text."""
    return b"".join(bytes([0x81, len(text) + 1]) + b"4" + text.encode() for text in texts)


@pytest.fixture
def peer() -> Peer:
    peer = Peer(Engine())
    peer.system.taken.clear()
    return peer


def test_theOpeningIsOneWrite() -> None:
    """The 101, what the session says first, and the answers to what came behind the request."""
    peer = Peer(Engine(), behind=makeFrame("4a") + makeFrame("4b"))
    (written,) = peer.system.taken
    head, _, rest = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == frames("open", "a", "b")
    assert not peer.connection.isWriting


def test_oneWriteARead(peer: Peer) -> None:
    """All that one piece read brings about goes out together, in order, with the answers of Autobahn between."""
    peer.receive(makeFrame("41,2") + makeFrame(b"ping", 9) + makeFrame("43"))
    assert peer.system.taken == [frames("1", "2") + b"\x8a\x04ping" + frames("3")]
    peer.receive(makeFrame("44"))
    assert peer.system.taken[1:] == [frames("4")]
    assert not peer.connection.isWriting


def test_muchIsNotGathered(peer: Peer) -> None:
    """What is more than 64 KiB goes out before the next is made, so that the connection can say that it is full."""
    pauses = []
    peer.connection.producer.pauseProducing = lambda: pauses.append(len(peer.system.taken))
    peer.system.room = 0
    big = "x" * 50_000
    peer.receive(makeFrame(f"4{big},{big},{big},{big}"))
    assert pauses
    sizes = [len(each) for each in peer.system.taken]
    assert peer.connection.queued.count(b"\x81\x7e\xc3\x51") == 4
    assert all(size <= 100_100 for size in sizes)


def test_aHandlerThatFails(peer: Peer) -> None:
    """What was sent before goes out all the same."""
    owner = peer.transport.owner

    def fail(transport: Any, packet: Packet) -> bool:
        transport.send([packet])
        raise ZeroDivisionError

    owner.transportPacket = fail
    with pytest.raises(ZeroDivisionError):
        peer.receive(makeFrame("4a"))
    assert peer.system.taken == [frames("a")]
    del owner.transportPacket
    peer.receive(makeFrame("4b"))
    assert peer.system.taken[1:] == [frames("b")]


def test_closing(peer: Peer) -> None:
    """Nothing that was sent before a close frame is lost, nothing comes behind it, and the connection is closed."""
    peer.receive(makeFrame("4a") + makeFrame(b"\x03\xe8", 8) + makeFrame("4b"))
    assert peer.system.taken == [frames("a") + b"\x88\x02\x03\xe8"]
    assert (peer.system.isClosed, peer.connection.isWriting) == (True, False)
    assert len(peer.engine.connections) == 0
    peer.engine.goRound()
    assert peer.engine.testClock.getDelayedCalls() == []


def test_closingWhatIsFull(peer: Peer) -> None:
    """A connection that has something left to send is closed when it is sent, or aborted in time."""
    peer.system.room = 0
    peer.receive(makeFrame("4a") + makeFrame(b"\x03\xe8", 8))
    assert peer.connection.queued == frames("a") + b"\x88\x02\x03\xe8"
    assert (peer.system.isClosed, peer.connection.disconnecting) == (False, True)
    assert len(peer.engine.testClock.getDelayedCalls()) == 1
    aborted: list[bool] = []
    peer.connection.abortConnection = lambda: aborted.append(True)
    peer.engine.testClock.advance(CLOSE_TIMEOUT)
    assert aborted == [True]


def test_theFirstOfATurn(peer: Peer) -> None:
    """Sent from elsewhere, the first goes out at once; what comes in the same turn of the reactor goes out together."""
    peer.send("1")
    assert peer.system.taken == [frames("1")]
    peer.send("2")
    peer.send("3")
    assert peer.system.taken == [frames("1")]
    assert peer.connection.queued == frames("2", "3")
    peer.connection.drain()
    assert peer.system.taken == [frames("1"), frames("2", "3")]
    peer.send("4")
    assert peer.connection.queued == frames("4")
    peer.connection.drain()
    peer.engine.goRound()
    peer.send("5")
    assert peer.system.taken[-1] == frames("5")
    assert not peer.connection.queued
    assert len(peer.engine.testClock.getDelayedCalls()) == 1
    peer.engine.goRound()
    assert peer.engine.testClock.getDelayedCalls() == []


def test_turnsAreOfTheEngine() -> None:
    """Many clients that are sent something in a turn take one timer."""
    engine = Engine()
    peers = [Peer(engine) for _ in range(5)]
    for peer in peers:
        peer.system.taken.clear()
        peer.send("a")
    assert [peer.system.taken for peer in peers] == [[frames("a")]] * 5
    assert len(engine.testClock.getDelayedCalls()) == 1


@pytest.mark.parametrize("room", [0, 1, 3, BlockingIOError(errno.EAGAIN, "busy"), OSError(errno.ENOBUFS, "none")])
def test_aSystemThatTakesLittle(peer: Peer, room: Any) -> None:
    """What it doesn't take now goes out later, before all that comes after."""
    peer.system.room = room
    peer.receive(makeFrame("41") + makeFrame("42"))
    peer.receive(makeFrame("43"))
    peer.engine.goRound()
    peer.send("4")
    peer.system.room = 10**9
    peer.send("5")
    peer.connection.drain()
    peer.engine.goRound()
    peer.send("6")
    assert b"".join(peer.system.taken) == frames("1", "2", "3", "4", "5", "6")
    assert not peer.connection.isWriting


def test_aConnectionThatIsLost(peer: Peer) -> None:
    """The reactor finds out, as it does otherwise: nothing is raised where the message was sent."""
    peer.system.room = ConnectionResetError(errno.ECONNRESET, "gone")
    peer.receive(makeFrame("4a"))
    assert peer.connection.isWriting
    assert peer.connection.doWrite() is not None


def test_aborting(peer: Peer) -> None:
    """Behind an abort nothing goes out any more, as without writing at once."""
    owner = peer.transport.owner

    def abort(transport: Any, packet: Packet) -> bool:
        transport.send([packet])
        peer.connection._aborting = True
        transport.send([packet])
        return True

    owner.transportPacket = abort
    peer.receive(makeFrame("4a"))
    peer.engine.goRound()
    peer.send("b")
    assert peer.system.taken == []


def test_overTLS(peer: Peer) -> None:
    """On a connection that speaks TLS nothing is given to the system: it would go out in plaintext."""
    peer.connection.TLS = True
    written: list[bytes] = []
    peer.connection.write = written.append
    peer.receive(makeFrame("4secret"))
    peer.engine.goRound()
    peer.send("secret")
    assert peer.system.taken == []
    assert b"".join(written) == frames("secret", "secret")


@pytest_twisted.ensureDeferred
async def test_aClientThatSaysNoMore(serve: Callable[..., Any]) -> None:
    """What a client asked for before it closed its half of the connection, it gets."""
    here = await serve()

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", here.port)) as connection:
            connection.settimeout(10)
            connection.sendall(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while data := connection.recv(65536):
                received += data
            return received

    assert (await deferToThread(ask)).startswith(b"HTTP/1.1 200 OK")
