"""Connections that are watched as one are served as a reactor would serve them."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted.connection_group import ConnectionGroup

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")


@attrs.define(eq=False)
class Recorder(Protocol):
    """Keeps what happens to it."""

    received: list[bytes] = attrs.field(factory=list)
    lost: list[type[BaseException] | None] = attrs.field(factory=list)
    does: Callable[[bytes], object] = attrs.field(default=lambda _: None)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        self.does(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.append(reason.type)


@attrs.define(eq=False)
class Watched:
    """A connection, and the other end of it."""

    connection: tcp.Server
    protocol: Any
    peer: socket.socket


class Bench:
    """A reactor that goes round when it is told to, with some connections."""

    def __init__(self, isGrouped: bool) -> None:
        from twisted.internet.epollreactor import EPollReactor

        self.reactor = EPollReactor()
        self.own = set(self.reactor.getReaders())
        self.group = ConnectionGroup(self.reactor) if isGrouped else None
        self.sockets: list[socket.socket] = []

    def connect(self, protocol: Any = None) -> Watched:
        """Make a connection, watched in one way or the other."""
        with socket.create_server(("127.0.0.1", 0)) as port:
            peer = socket.create_connection(port.getsockname())
            accepted, address = port.accept()
        accepted.setblocking(False)
        self.sockets += [peer, accepted]
        protocol = Recorder() if protocol is None else protocol
        connection = tcp.Server(accepted, protocol, address, None, 7, self.reactor)
        protocol.makeConnection(connection)
        if self.group is not None:
            self.group.adopt(connection)
            assert connection.reactor is self.group
        return Watched(connection, protocol, peer)

    def turn(self) -> None:
        """Let the reactor go round once; loopback has delivered by then what was sent."""
        self.reactor.doIteration(0)
        self.reactor.runUntilCurrent()

    @property
    def readers(self) -> list[Any]:
        """What the reactor watches of what isn't its own."""
        return [each for each in self.reactor.getReaders() if each not in self.own]

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        for reader in self.own:
            reader.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()


@pytest.fixture(params=["reactor", "group"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Both ways."""
    made = Bench(request.param == "group")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def grouped() -> Iterator[Bench]:
    """Connections watched as one."""
    made = Bench(True)
    try:
        yield made
    finally:
        made.close()


def test_reading(bench: Bench) -> None:
    """Each gets what was sent to it, and nothing where nothing was."""
    one, other, silent = bench.connect(), bench.connect(), bench.connect()
    one.peer.sendall(b"to one")
    other.peer.sendall(b"to another")
    bench.turn()
    assert [each.protocol.received for each in (one, other, silent)] == [[b"to one"], [b"to another"], []]
    one.peer.sendall(b"more")
    bench.turn()
    assert one.protocol.received == [b"to one", b"more"]


def test_writing(bench: Bench) -> None:
    """What a connection doesn't take at once goes out when the client reads."""
    one = bench.connect()
    message = b"x" * 8_000_000
    one.connection.write(message)
    one.peer.settimeout(10)
    size = 0
    while size < len(message):
        bench.turn()
        size += len(one.peer.recv(1_000_000))
    bench.turn()
    assert not one.connection.dataBuffer
    # Where it is asked for what isn't there, nothing happens.
    one.connection.stopWriting()
    one.peer.sendall(b"still heard")
    bench.turn()
    assert one.protocol.received == [b"still heard"]


def test_pausing(bench: Bench) -> None:
    """A connection that is paused isn't read, until it is resumed; saying either again changes nothing."""
    one = bench.connect()
    one.connection.pauseProducing()
    one.connection.pauseProducing()
    one.peer.sendall(b"later")
    bench.turn()
    assert one.protocol.received == []
    one.connection.resumeProducing()
    one.connection.resumeProducing()
    bench.turn()
    assert one.protocol.received == [b"later"]


def test_theClientCloses(bench: Bench) -> None:
    """It is noticed, after all that was sent before, and nothing of the connection stays."""
    one, other = bench.connect(), bench.connect()
    one.peer.sendall(b"last words")
    one.peer.close()
    bench.turn()
    bench.turn()
    assert (one.protocol.received, one.protocol.lost) == ([b"last words"], [ConnectionDone])
    assert other.protocol.lost == []
    other.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.peer.close()
    bench.turn()
    assert other.protocol.lost == [ConnectionLost]
    assert bench.readers == []


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Goes on when one direction is closed."""

    half = False

    def readConnectionLost(self) -> None:
        self.half = True

    def writeConnectionLost(self) -> None:
        """It isn't tried."""


def test_halfClosing(bench: Bench) -> None:
    """A client may say that it has nothing more to say, and still be answered."""
    one = bench.connect(HalfCloseable())
    one.peer.shutdown(socket.SHUT_WR)
    bench.turn()
    assert (one.protocol.half, one.protocol.lost) == (True, [])
    one.connection.write(b"goodbye")
    bench.turn()
    assert one.peer.recv(100) == b"goodbye"
    one.connection.loseConnection()
    bench.turn()
    assert one.protocol.lost == [ConnectionDone]


def test_closingAnother(bench: Bench) -> None:
    """One that closes all while it is served is the last that is served."""
    all_ = [bench.connect() for _ in range(3)]

    def closeAll(_: bytes) -> None:
        for each in all_:
            each.connection.abortConnection()
        bench.reactor.runUntilCurrent()

    for each in all_:
        each.protocol.does = closeAll
        each.peer.sendall(b"x")
    bench.turn()
    assert sorted(each.protocol.received for each in all_) == [[], [], [b"x"]]
    assert all(each.protocol.lost for each in all_)
    assert bench.readers == []


def test_failing(bench: Bench, loggedErrors: list[LogEvent]) -> None:
    """What a protocol raises is logged and ends its own connection; the others are served."""
    one, other = bench.connect(), bench.connect()

    def fail(_: bytes) -> None:
        raise ValueError("broken")

    one.protocol.does = fail
    for each in (one, other):
        each.peer.sendall(b"x")
    bench.turn()
    assert [each["failure"].type for each in loggedErrors] == [ValueError]
    loggedErrors.clear()
    assert (one.protocol.lost, other.protocol.lost) == ([ValueError], [])
    assert other.protocol.received == [b"x"]


def test_logging(bench: Bench) -> None:
    """What is logged while a connection is served names that connection."""
    one = bench.connect()
    one.protocol.does = lambda _: log.msg("read")
    seen: list[dict[str, Any]] = []
    log.addObserver(seen.append)
    try:
        one.peer.sendall(b"x")
        bench.turn()
    finally:
        log.removeObserver(seen.append)
    assert [(each["message"], each["system"]) for each in seen] == [(("read",), "Recorder,7,127.0.0.1")]


def test_resting(grouped: Bench) -> None:
    """With nobody to watch, the reactor has nothing to watch; and again with somebody."""
    assert grouped.readers == []
    for _ in range(2):
        one, other = grouped.connect(), grouped.connect()
        assert grouped.readers == [grouped.group]
        one.connection.abortConnection()
        assert grouped.readers == [grouped.group]
        other.protocol.does = lambda _, other=other: other.connection.loseConnection()
        other.peer.sendall(b"x")
        grouped.turn()
        grouped.turn()
        assert grouped.readers == []
        assert grouped.group is not None
        assert grouped.group.fileno() == -1


def test_timers(grouped: Bench) -> None:
    """All else that a connection asks of its reactor is the reactor's."""
    one = grouped.connect()
    calls: list[int] = []
    one.connection.reactor.callLater(0, calls.append, 1)
    grouped.turn()
    assert calls == [1]


def test_theReactorStops(grouped: Bench, loggedErrors: list[LogEvent]) -> None:
    """A reactor closes all it has when it stops, and so those that it has by way of this; whatever one of them does."""
    all_ = [grouped.connect() for _ in range(3)]

    def fail(reason: Failure) -> None:
        raise ValueError("broken")

    all_[1].protocol.connectionLost = fail
    for each in grouped.reactor.removeAll():
        if each is grouped.group:
            log.callWithLogger(each, each.connectionLost, Failure(CONNECTION_LOST))
    assert [each.protocol.lost for each in (all_[0], all_[2])] == [[ConnectionLost], [ConnectionLost]]
    assert [each["failure"].type for each in loggedErrors] == [ValueError]
    loggedErrors.clear()
    assert all(each.connection.fileno() == -1 for each in all_)


def test_whatIsLeftToTheReactor(grouped: Bench) -> None:
    """Connections over TLS, those of another reactor, those wrapped, and reactors that don't watch files."""
    plain = Bench(False)
    try:
        assert grouped.group is not None
        other = plain.connect()
        grouped.group.adopt(other.connection)
        assert other.connection.reactor is plain.reactor
        other.connection.TLS = True
        ConnectionGroup(plain.reactor).adopt(other.connection)
        assert other.connection.reactor is plain.reactor
        wrapper = ProtocolWrapper(WrappingFactory(Any), other.protocol)  # type: ignore[arg-type]
        wrapper.transport = other.connection
        ConnectionGroup(plain.reactor).adopt(wrapper)
        other.connection.TLS = False
        other.connection.reactor = clock = Clock()
        ConnectionGroup(clock).adopt(other.connection)
        assert other.connection.reactor is clock
        other.connection.reactor = plain.reactor
    finally:
        plain.close()
