"""
A session, at either end, as the transport of any protocol of Twisted's: a stream of bytes made of messages.

docs/protocols.md; why it is as it is: docs/architecture/endpoints.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from codecs import getincrementaldecoder
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IDelayedCall, IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import cancel
from ..protocol.errors import CloseReason
from .states import ReadyState

MESSAGE_SIZE = 65536
"""
Bytes of a message at most: what is written at once beyond that goes out as several.

That is as much as waits on a connection before a producer is paused. A client reads the next one only when it has all
of one, and may have a limit.
"""

_ORDERLY_ENDS = frozenset({CloseReason.FORCED_CLOSE, CloseReason.SERVER_SHUTTING_DOWN})


@implementer(ITransport, IConsumer, IPushProducer)
class StreamTransport(ABC):
    """
    A session as the transport of a protocol.

    Its protocol calls this, and so do producers; its session does, with messages and with its end. Half of it can't be
    closed (C{IHalfCloseableProtocol}): a session has no end of one direction.

    Subclasses know the addresses.

    @ivar socket: the session.
    @ivar connected: whether the session lasts.
    @ivar disconnecting: whether it was to end, or has ended.
    """

    connected: bool = True
    disconnecting: bool = False
    _messageSize = MESSAGE_SIZE
    _isAborted = False
    # There is a producer, which may write after loseConnection; it is one that is asked for more.
    _isProducing = False
    _isPulling = False
    _failure: Failure | None = None
    _resumption: IDelayedCall | None = None
    _closeCall: IDelayedCall | None = None
    # A session, with a `close`.
    socket: Any
    _protocol: IProtocol

    def __init__(self, socket: Any, isText: bool = False) -> None:
        self.socket = socket
        # A write may end in the middle of a character.
        self._decoder = getincrementaldecoder("utf-8")() if isText else None

    def begin(self, protocol: IProtocol) -> None:
        """Connect a protocol."""
        self._protocol = protocol
        self.socket.on("message", self._received)
        self.socket.on("close", self._closed)
        try:
            protocol.makeConnection(self)
        except BaseException:
            self._failed("makeConnection")

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send bytes: as one message, or, above 64 KiB or what the other end takes at once, as several.

        After L{loseConnection}, and when the session has ended, this does nothing.

        @raise TypeError: it isn't bytes.
        @raise ValueError: it isn't UTF-8, although it is sent as text. That ends the session, as its stream has a gap.
        """
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        if not isinstance(data, bytes):
            raise TypeError(f"{type(data).__name__} can't be written: expected bytes")
        if self.disconnecting:
            if not self._isProducing:
                return
            self._closeSoon()
        size = self._messageSize
        message: str | bytes = data
        if self._decoder is not None:
            try:
                message = self._decoder.decode(data)
            except ValueError:
                self._failed("write")
                raise
            if not message.isascii():
                # No character takes more than four bytes.
                size = max(1, size // 4)
        if len(data) <= self._messageSize:
            # An empty message would be one.
            if message:
                self.socket.send(message)
            return
        for start in range(0, len(message), size):
            self.socket.send(message[start : start + size])

    def writeSequence(self, iovec: Any) -> None:
        """Send the bytes of several pieces, as L{write} does with one."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """
        End the session when what was written has gone out: what comes from here on isn't delivered.

        A producer is let finish first: it may write until it is unregistered. A pull producer may take as long as it
        likes; of a push producer, which may be one that never says that it is done, such as a connection that is lost
        itself, the end is also when all that it has written is taken, and it has written nothing more in a turn of the
        reactor.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self._isProducing:
                self._close()
            elif not self._isPulling:
                self.socket.on("drain", self._closeSoon)
                self._closeSoon()

    def _closeSoon(self) -> None:
        if self._isProducing and not self._isPulling:
            cancel(self._closeCall)
            # A producer that writes turn by turn may come behind this in each of them.
            self._closeCall = self.socket.callLater(0, self._closeInATurn)

    def _closeInATurn(self) -> None:
        self._closeCall = self.socket.callLater(0, self._closeIfDrained)

    def _closeIfDrained(self) -> None:
        # Asked so, the socket says when it is.
        if self.socket.writable:
            self._close()

    def _close(self) -> None:
        # It isn't cut short, whether it knows that or not.
        self._isProducing = self._isPulling = False
        if self._decoder is not None:
            try:
                self._decoder.decode(b"", True)
            except ValueError:
                # Of the last character there is only a part. What is before that goes out.
                self._failure = Failure()
                self.socket.handlerFailed("loseConnection", (), self._failure)
        self.socket.close()

    def abortConnection(self) -> None:
        """End the session at once; what hasn't gone out is dropped."""
        if self.connected:
            self.disconnecting = self._isAborted = True
            self.socket.close(discard=True)

    abort = abortConnection

    @abstractmethod
    def getPeer(self) -> IAddress:
        """Return the address of the other end."""

    @abstractmethod
    def getHost(self) -> IAddress:
        """Return the address of this end."""

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write at the pace of the other end (L{Socket.registerProducer}).

        @raise RuntimeError: there is one already.
        """
        self.socket.registerProducer(producer, streaming)
        self._isProducing = self.socket.readyState is ReadyState.OPEN
        self._isPulling = self._isProducing and not streaming

    def unregisterProducer(self) -> None:
        """Unregister the producer. A L{loseConnection} that waited for it goes on."""
        self._isProducing = self._isPulling = False
        self.socket.unregisterProducer()
        if self.disconnecting and self.connected:
            self._close()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Hold the other end back: nothing is delivered until L{resumeProducing} (L{Socket.pauseReceiving})."""
        cancel(self._resumption)
        self.socket.pauseReceiving()

    def resumeProducing(self) -> None:
        """Deliver again what the other end sends, in a turn of the reactor."""
        cancel(self._resumption)
        # Not at once: protocols that go on in the middle of what they do with a message count on not getting the next.
        self._resumption = self.socket.callLater(0, self.socket.resumeReceiving)

    def stopProducing(self) -> None:
        """Call L{loseConnection}."""
        self.loseConnection()

    # From the session

    def _received(self, data: str | bytes) -> None:
        if self.disconnecting:
            return
        try:
            self._protocol.dataReceived(data.encode() if isinstance(data, str) else data)
        except BaseException:
            self._failed("dataReceived")

    def _failed(self, method: str) -> None:
        self._failure = Failure()
        self.socket.handlerFailed(method, (), self._failure)
        self.abortConnection()

    def _closed(self, reason: CloseReason, description: str) -> None:
        self.connected, self.disconnecting = False, True
        failure = self._failure or Failure(self._endOf(reason, description))
        self._isProducing = self._isPulling = False
        # Never inside of what the protocol does, such as a write that is too much: no reactor calls back in there.
        self.socket._host.clock.callLater(0, self._lost, failure)

    def _lost(self, failure: Failure) -> None:
        try:
            self._protocol.connectionLost(failure)
        except BaseException:
            self.socket.handlerFailed("connectionLost", (), Failure())

    def _endOf(self, reason: CloseReason, description: str) -> Exception:
        if self._isAborted:
            return ConnectionAborted()
        isOrderly = (
            # What a client that has gone left in the buffer never arrived; nor did what a producer was stopped in.
            not self.socket.writeBuffer and not self._isProducing
            if reason in _ORDERLY_ENDS
            else reason is CloseReason.TRANSPORT_CLOSE and description.startswith(("close packet", "close frame"))
        )
        return ConnectionDone() if isOrderly else ConnectionLost(f"{reason}: {description}")
