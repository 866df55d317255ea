"""What bytes pass in memory: one direction of a connection, and the end of a process that reads and writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER = FileDescriptor.bufferSize
"""Bytes that the other end hasn't read, from which on a producer is told to pause, as on a connection of Twisted's."""

_END = b""


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

    @property
    def isBlocked(self) -> bool:
        """Whether what was written stays with its writer, as the other end doesn't read."""
        return self.isHeld and self.size > 0

    @property
    def isFull(self) -> bool:
        """Whether a producer is told to pause."""
        return self.isHeld and self.size > BUFFER


class Process:
    """
    What serves a site: all that is lost together, and stands still together.

    @param clock: its clock.
    @param site: what makes the protocol of a connection to it.
    @ivar isStalled: whether it stands still: it reads nothing, and none of its timers runs.
    @ivar ends: its ends of connections that are open.
    """

    isStalled: bool = False

    def __init__(self, clock: Clock, site: Any) -> None:
        self.clock = clock
        self.site = site
        self.ends: dict[MemoryTransport, None] = {}


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    The end of a connection in memory at which a process is: a transport that does what one of the reactor does.

    @param process: whose end it is.
    @param incoming: what comes.
    @param outgoing: what is written.
    @param addresses: that of the other end, and of this one.
    @ivar isReading: whether what has arrived is read.
    """

    disconnecting: bool = False
    # As those of the reactor call them.
    connected: int = 1
    disconnected: int = 0
    producer: Any = None
    streamingProducer: bool = False
    producerPaused: bool = False
    protocol: Any = None
    isReading: bool = True
    _isWriting = False
    # What it is lost by, at the next turn of its process.
    _lostBy: Exception | None = None

    def __init__(self, process: Process, incoming: Way, outgoing: Way, addresses: tuple[Any, Any]) -> None:
        self.process = process
        self._incoming = incoming
        self._outgoing = outgoing
        self._peer, self._host = addresses

    def begin(self, protocol: Any) -> None:
        """Connect a protocol."""
        self.protocol = protocol
        self.process.ends[self] = None
        protocol.makeConnection(self)

    # What the network does

    def wake(self) -> None:
        """Called when there is something to do, so that the network looks at it next."""
        raise NotImplementedError

    def takeTurn(self) -> bool:
        """Read one piece, and do what a reactor would; return whether anything happened."""
        if self.disconnected or self.process.isStalled:
            return False
        if self._lostBy is not None:
            self._isLost(self._lostBy)
            return True
        if self._isWriting and not self._outgoing.isBlocked:
            self._isWriting = False
            if self.producer is not None and (self.producerPaused or not self.streamingProducer):
                self.producerPaused = False
                self.producer.resumeProducing()
                return True
            if self.disconnecting:
                self._isLost(ConnectionDone())
                return True
        piece = self._incoming.take() if self.isReading else None
        if piece is None:
            return False
        if piece == _END:
            self._isLost(ConnectionDone())
        else:
            self.protocol.dataReceived(piece)
        return True

    def loseBy(self, reason: Exception) -> None:
        """Be lost in the next turn."""
        self._lostBy = reason
        self.wake()

    def _isLost(self, reason: Exception) -> None:
        self._isGone()
        if not isinstance(reason, ConnectionDone):
            self._outgoing.clear()
        self._outgoing.end()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))

    def _isGone(self) -> None:
        self.connected, self.disconnected = 0, 1
        self.isReading = False
        self._incoming.clear()
        self.process.ends.pop(self, None)

    def die(self) -> None:
        """Be closed with its process, whose protocol hears nothing. What it wrote arrives still."""
        self._isGone()
        self._outgoing.end()
        self.wake()

    # What the protocol does

    def getPeer(self) -> Any:
        """Return the address of the other end."""
        return self._peer

    def getHost(self) -> Any:
        """Return the address of this end."""
        return self._host

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: nothing is ever held back for more to come."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Send bytes, if the connection isn't lost. A push producer is paused where the other end doesn't read them."""
        if self.disconnected or self._lostBy is not None or not data:
            return
        self._outgoing.put(data)
        self._startWriting()
        if self.producer is not None and self.streamingProducer and self._outgoing.isFull:
            self.producerPaused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send the bytes of several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when the other end has all, and no producer is left that waits to send more."""
        if not self.disconnected:
            self.disconnecting = True
            self.isReading = False
            self._startWriting()

    def abortConnection(self) -> None:
        """Cut the connection; what is under way doesn't arrive."""
        if not self.disconnected and self._lostBy is None:
            self.isReading = False
            self.loseBy(ConnectionAborted())

    def _startWriting(self) -> None:
        self._isWriting = True
        self.wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write at the pace at which the other end reads.

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
        """Read no more of what comes."""
        self.isReading = False

    def resumeProducing(self) -> None:
        """Read again what comes."""
        if not self.disconnected and not self.disconnecting and self._lostBy is None:
            self.isReading = True
            self.wake()

    def stopProducing(self) -> None:
        """Do what L{loseConnection} does."""
        self.loseConnection()


class LinkWay(Way):
    """One direction of a link: it holds so much, whatever the reason is why the other end doesn't read."""

    @property
    def isBlocked(self) -> bool:
        return self.size > BUFFER

    @property
    def isFull(self) -> bool:
        return self.size > BUFFER
