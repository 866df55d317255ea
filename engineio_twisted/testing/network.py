"""
A network in memory: connections to a site, on a clock, between whose ends are nothing but bytes.

Nothing is read inside of what writes it, as on any network: L{MemoryNetwork.settle} delivers what has arrived. That
may be made to take its time, to come in pieces, or to be lost. L{engineio_twisted.testing} is what uses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER = FileDescriptor.bufferSize
"""Bytes that a client hasn't read, from which on a producer is told to pause, as on a connection of Twisted's."""

ROUNDS = 1_000_000
"""So often may something happen without time passing. What goes on longer goes on for ever."""

_END = b""


class Receiver(Protocol):
    """What is at the client's end of a connection."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        ...

    def connectionLost(self) -> None:
        """Called when the server has closed the connection, or cut it. Not told of what the client does itself."""
        ...


class Way:
    """
    One direction of a connection: what is under way, in order. Its end is an empty piece.

    @ivar delay: seconds that what is put in takes from then on.
    @ivar pieceSize: bytes of the pieces in which it arrives; None leaves it as it is written.
    @ivar isHeld: whether nothing arrives for now.
    @ivar size: how many bytes are under way.
    """

    delay: float = 0.0
    pieceSize: int | None = None
    isHeld = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pieces: deque[tuple[float, bytes]] = deque()
        self.size: int = 0

    def put(self, data: bytes) -> None:
        """Send bytes, at least one, on their way."""
        size = self.pieceSize or len(data)
        for start in range(0, len(data), size):
            self._put(data[start : start + size])
        self.size += len(data)

    def end(self) -> None:
        """Let nothing come any more after what is under way."""
        self._put(_END)

    def _put(self, piece: bytes) -> None:
        due = self._clock.seconds() + self.delay
        # What was sent first arrives first, also where the delay was longer then.
        self._pieces.append((max(due, self._pieces[-1][0]) if self._pieces else due, piece))

    @property
    def due(self) -> float | None:
        """The time at which the next piece arrives; None where none is going to."""
        return self._pieces[0][0] if self._pieces and not self.isHeld else None

    def take(self) -> bytes | None:
        """Return the next piece, if it has arrived."""
        due = self.due
        if due is None or due > self._clock.seconds():
            return None
        _, piece = self._pieces.popleft()
        self.size -= len(piece)
        return piece

    def clear(self) -> None:
        """Lose what is under way."""
        self._pieces.clear()
        self.size = 0


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryConnection:
    """
    A connection: to the server a transport that does what one of the reactor does, to the client two ways for bytes.

    @ivar toServer: what the client has sent.
    @ivar toClient: what the server has sent.
    @ivar isReading: whether the server reads what has arrived.
    @ivar isOver: whether it is closed, at both ends.
    """

    disconnecting: bool = False
    # As those of the reactor call them.
    connected: int = 1
    disconnected: int = 0
    producer: Any = None
    streamingProducer: bool = False
    producerPaused: bool = False
    isOver: bool = False
    protocol: Any = None
    isReading: bool = True
    _isWriting = False
    _isVanished = False
    # What it is lost by, at the server's next turn.
    _lostBy: Exception | None = None

    def __init__(self, network: MemoryNetwork, receiver: Receiver, address: str, port: int) -> None:
        self._network = network
        self._receiver = receiver
        isIPv6 = ":" in address
        self._peer = (IPv6Address if isIPv6 else IPv4Address)("TCP", address, port)
        self._host = (IPv6Address if isIPv6 else IPv4Address)("TCP", "::1" if isIPv6 else "127.0.0.1", 80)
        self.toServer: Way = Way(network.clock)
        self.toClient: Way = Way(network.clock)

    # What the client does

    def send(self, data: bytes) -> None:
        """Send bytes to the server."""
        if not self.isOver and not self._isVanished:
            self.toServer.put(data)
            self._network.wake(self)

    def finish(self) -> None:
        """Close the connection in order: the server reads what is under way, and then the end."""
        if not self.isOver and not self._isVanished:
            self.toServer.end()
            # Nobody is there to read any more.
            self.toClient.clear()
            if self.disconnected:
                self.toClient.end()
            self.toClient.isHeld = False
            self._receiver = _NOBODY
            self._network.wake(self)

    def lose(self) -> None:
        """Lose the connection: what is under way doesn't arrive, and the server learns of it."""
        self._receiver = _NOBODY
        self.toServer.clear()
        self.toClient.clear()
        self.toClient.isHeld = False
        if self.disconnected:
            self.toClient.end()
        else:
            self._lostBy = ConnectionLost()
        self._network.wake(self)

    def vanish(self) -> None:
        """Let nothing arrive any more, at either end, without a notice to either."""
        self._isVanished = True
        self.toServer.clear()
        self.toClient.isHeld = True

    def turn(self) -> bool:
        """Let each end read one piece, and the server do what a reactor would have it do; tell if anything happened."""
        happened = self._turnOfServer()
        piece = self.toClient.take()
        if piece is None:
            return happened
        if piece == _END:
            self.isOver = True
            self._receiver.connectionLost()
        else:
            self._receiver.dataReceived(piece)
        return True

    def _turnOfServer(self) -> bool:
        if self.disconnected:
            return False
        if self._lostBy is not None:
            self._isLost(self._lostBy)
            return True
        if self._isWriting and not (self.toClient.isHeld and self.toClient.size):
            self._isWriting = False
            if self.producer is not None and (self.producerPaused or not self.streamingProducer):
                self.producerPaused = False
                self.producer.resumeProducing()
                return True
            if self.disconnecting:
                self._isLost(ConnectionDone())
                return True
        piece = self.toServer.take() if self.isReading else None
        if piece is None:
            return False
        if piece == _END:
            self._isLost(ConnectionDone())
        else:
            self.protocol.dataReceived(piece)
        return True

    def _isLost(self, reason: Exception) -> None:
        self.connected, self.disconnected = 0, 1
        self.isReading = False
        self.toServer.clear()
        if not isinstance(reason, ConnectionDone):
            self.toClient.clear()
        self.toClient.end()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))

    # What the server does

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return self._peer

    def getHost(self) -> Any:
        """Return the address that it connected to."""
        return self._host

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: nothing is ever held back for more to come."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Send bytes, if the connection isn't lost. A push producer is paused where the client doesn't read them."""
        if self.disconnected or self._lostBy is not None or not data:
            return
        self.toClient.put(data)
        self._startWriting()
        if (
            self.producer is not None
            and self.streamingProducer
            and self.toClient.isHeld
            and self.toClient.size > BUFFER
        ):
            self.producerPaused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send the bytes of several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when the client has been sent all, and no producer is left that waits to send more."""
        if not self.disconnected:
            self.disconnecting = True
            self.isReading = False
            self._startWriting()

    def abortConnection(self) -> None:
        """Cut the connection; what is under way doesn't arrive."""
        if not self.disconnected and self._lostBy is None:
            self.isReading = False
            self._lostBy = ConnectionAborted()
            self._network.wake(self)

    def _startWriting(self) -> None:
        self._isWriting = True
        self._network.wake(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write at the pace at which the client reads.

        @raise RuntimeError: there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(f"producer {producer!r}: {self.producer!r} is registered already")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streamingProducer, self.producerPaused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Let go of the producer; where L{loseConnection} waits for it, it goes on."""
        self.producer = None
        if self.disconnecting and not self.disconnected:
            self._startWriting()

    def pauseProducing(self) -> None:
        """Read no more of what the client sends."""
        self.isReading = False

    def resumeProducing(self) -> None:
        """Read again what the client sends."""
        if not self.disconnected and not self.disconnecting and self._lostBy is None:
            self.isReading = True
            self._network.wake(self)

    def stopProducing(self) -> None:
        """Do what L{loseConnection} does."""
        self.loseConnection()


class _Nobody:
    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self) -> None:
        pass


_NOBODY = _Nobody()


class MemoryNetwork:
    """
    Connections to a site, and the clock by which all happens.

    @param clock: the clock of all that serves.
    @param site: what makes the protocol of a connection.
    @ivar connections: those that are open.
    @ivar connectionClass: the class of connections, a L{MemoryConnection}; one of your own may watch what is written.
    """

    connectionClass: type[MemoryConnection] = MemoryConnection
    _firstPort = 49152

    def __init__(self, clock: Clock, site: Any) -> None:
        self.clock = clock
        self._site = site
        self._port = self._firstPort
        self.connections: dict[MemoryConnection, None] = {}
        # Those of which something is under way, or to be done.
        self._awake: dict[MemoryConnection, None] = {}
        self._whenQuiet: deque[Callable[[], object]] = deque()
        self._isSettling = False

    def connect(self, receiver: Receiver, address: str) -> MemoryConnection:
        """
        Connect to the site.

        @param receiver: what is at the client's end.
        @param address: the client's IP address.
        """
        self._port += 1
        connection = self.connectionClass(self, receiver, address, self._port)
        self.connections[connection] = None
        connection.protocol = self._site.buildProtocol(connection.getPeer())
        connection.protocol.makeConnection(connection)
        return connection

    def wake(self, connection: MemoryConnection) -> None:
        """Mark a connection, so that it is looked at next."""
        self._awake[connection] = None

    def whenQuiet(self, what: Callable[[], object]) -> None:
        """Call something when nothing else happens without time passing."""
        self._whenQuiet.append(what)

    def settle(self) -> None:
        """
        Deliver what has arrived, and what is sent because of it, until nothing happens without time passing.

        Called from inside itself, it leaves that to the one that runs.

        @raise AssertionError: it doesn't end.
        """
        if self._isSettling:
            return
        self._isSettling = True
        try:
            for _ in range(ROUNDS):
                happened = [self._turn(each) for each in list(self._awake)]
                if not self.runDue() and not any(happened):
                    if not self._whenQuiet:
                        return
                    self._whenQuiet.popleft()()
            raise AssertionError(f"something happens for ever without time passing: {self.clock.getDelayedCalls()[:3]}")
        finally:
            self._isSettling = False

    def _turn(self, connection: MemoryConnection) -> bool:
        happened = connection.turn()
        if connection.isOver:
            self.connections.pop(connection, None)
        if not happened and connection.toServer.due is None and connection.toClient.due is None:
            self._awake.pop(connection, None)
        return happened

    def runDue(self) -> bool:
        """
        Run the calls that are due, and not those that come to be by it: C{Clock.advance} might never end.

        @return: whether there were any.
        """
        due = [each for each in self.clock.calls if each.getTime() <= self.clock.seconds()]
        for call in due:
            if call.active():
                self.clock.calls.remove(call)
                call.called = True
                call.func(*call.args, **call.kw)
        return bool(due)

    def advance(self, seconds: float) -> None:
        """
        Let time pass, stopping whenever something is due or arrives: what comes of it happens at that time.

        @raise ValueError: the time is negative.
        """
        if seconds < 0:
            raise ValueError(f"{seconds} seconds: expected time to go forwards")
        until = self.clock.seconds() + seconds
        while True:
            self.settle()
            due = self.due
            if due is None or due >= until:
                self.clock.rightNow = until
                self.settle()
                return
            self.clock.rightNow = due

    @property
    def due(self) -> float | None:
        """The time at which something is due or arrives, later than now; None if nothing is going to."""
        times = [call.getTime() for call in self.clock.getDelayedCalls()]
        times += [due for each in self._awake for due in (each.toServer.due, each.toClient.due) if due is not None]
        # What has arrived and isn't read, as its reader has stopped, is no reason to stop.
        return min((each for each in times if each > self.clock.seconds()), default=None)


class Line:
    """
    The connections of one client, and what becomes of what is sent on them.

    @ivar delay: seconds that it takes, in both directions.
    @ivar pieceSize: bytes of the pieces in which it arrives; None for pieces as they are written.
    @ivar isHeld: whether the client reads nothing.
    @ivar isVanished: whether nothing arrives any more.
    """

    delay: float = 0.0
    pieceSize: int | None = None
    isHeld = False
    isVanished: bool = False

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._connections: list[MemoryConnection] = []

    def connect(self, receiver: Receiver) -> MemoryConnection:
        """Connect to the site."""
        self._connections = [each for each in self._connections if not each.isOver]
        connection = self._network.connect(receiver, self._address)
        self._connections.append(connection)
        self._arrange(connection)
        return connection

    def arrange(self) -> None:
        """Apply what was changed to the connections that there are."""
        for each in self._connections:
            self._arrange(each)

    def _arrange(self, connection: MemoryConnection) -> None:
        for way in (connection.toServer, connection.toClient):
            way.delay, way.pieceSize = self.delay, self.pieceSize
        connection.toClient.isHeld = self.isHeld
        if self.isVanished:
            connection.vanish()
        self._network.wake(connection)

    def vanish(self) -> None:
        """Let nothing arrive any more, at either end, without a notice to either."""
        self.isVanished = True
        for each in self._connections:
            each.vanish()

    def lose(self) -> None:
        """Lose all connections."""
        for each in self._connections:
            each.lose()
