"""
Messages with file descriptors between two processes, and another worker as one worker reaches it.

docs/architecture/workers.md, "Moving a connection".
"""

from __future__ import annotations

import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..ends import attempt
from ..logs import LogThrottle
from .frames import decodeMove, encodeMove
from .interfaces import IHandoverReceiver, INeighbour, IPacketReceiver

MAX_PACKET = 72 * 1024
"""Bytes of a message, at most: the 64 KiB that are read of a connection that moves, and what is told of it."""

MAX_DESCRIPTORS = 16
"""File descriptors that come with one message, at most."""

_ANCILLARY = socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)

MAX_MOVING = 256
"""Connections that wait to be moved to one worker, at most. Beyond that requests are relayed, on links of which as many
may wait to be opened."""

MAX_READ = 32
"""Messages that are received in one turn, at most: with each move comes a request, which is served at once."""

_REFUSED = {errno.EBADF, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}
# Errors of a message. Any other one is of the connection.

_log = Logger()
_throttle = LogThrottle()


class _Queued(NamedTuple):
    data: bytes
    descriptors: Sequence[int]
    sent: Callable[[bool], object] | None


@implementer(IReadWriteDescriptor)
class PacketConnection:
    """
    One end of a pair of C{SOCK_SEQPACKET} sockets, in the reactor: whole messages with file descriptors, in order.

    @param reactor: a L{twisted.internet.interfaces.IReactorFDSet}.
    @param end: the end, which is this object's from here on.
    @param receiver: an L{IPacketReceiver}.
    @param maxQueued: messages that wait for the system, at most.
    @ivar truncated: messages that came without some of their descriptors, as this process had no room for more.
    """

    truncated: int = 0

    def __init__(self, reactor: Any, end: socket.socket, receiver: IPacketReceiver, maxQueued: int = 256) -> None:
        self._reactor = reactor
        self._socket: socket.socket | None = end
        self._receiver = receiver
        self._maxQueued = maxQueued
        self._queue: deque[_Queued] = deque()
        self._isBroken = False
        end.setblocking(False)
        # The first message is read from the reactor: whoever makes this is ready for it then.
        reactor.addReader(self)

    @property
    def isConnected(self) -> bool:
        """Whether the peer may still get a message."""
        return self._socket is not None and not self._isBroken

    @property
    def queued(self) -> int:
        """How many messages wait."""
        return len(self._queue)

    @property
    def isFull(self) -> bool:
        """Whether as many messages wait as may."""
        return len(self._queue) >= self._maxQueued

    def send(self, data: bytes, descriptors: Sequence[int] = (), sent: Callable[[bool], object] | None = None) -> None:
        """
        Send a message, now or when the system has room for it.

        @param data: the message: one byte at least, L{MAX_PACKET} at most.
        @param descriptors: file descriptors to send along, L{MAX_DESCRIPTORS} at most. They must stay open until
            C{sent} is called.
        @param sent: called once, with whether the system has taken the message. If not, it never will. That may be
            before this returns.
        @raise ValueError: there is nothing in the message, or too much. Nothing is sent or called.
        """
        if not 0 < len(data) <= MAX_PACKET or len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"{len(data)} bytes with {len(descriptors)} descriptors are no message")
        message = _Queued(data, descriptors, sent)
        if not self.isConnected or self.isFull:
            _outcome(message, False)
        elif self._queue or (isTaken := self._give(message)) is None:
            self._queue.append(message)
            if self.isConnected:
                self._reactor.addWriter(self)
        else:
            _outcome(message, isTaken)

    def close(self) -> None:
        """
        End the connection. C{sent} of what is queued is called with False; nothing else is called after this.

        What was sent and is not received yet is received by the peer.
        """
        self._leave()
        self._fail()

    # The reactor's side

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 if it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what the reactor puts before lines of the log."""
        return "workers"

    def doRead(self) -> Any:
        """
        Receive what has come, some messages at a time.

        @return: an error if the peer is gone.
        """
        for _ in range(MAX_READ):
            if self._socket is None:
                return None
            try:
                data, ancillary, flags, _address = self._socket.recvmsg(MAX_PACKET, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                # The peer has closed with unread messages. Its own may follow.
                continue
            except OSError as error:
                return error
            descriptors = _descriptorsIn(ancillary)
            if not data:
                _close(descriptors)
                return CONNECTION_LOST
            self._received(data, descriptors, flags)
        return None

    def doWrite(self) -> None:
        """Give the system what is queued, as far as it has room."""
        while self._queue and self.isConnected:
            isTaken = self._give(self._queue[0])
            if isTaken is None:
                return
            _outcome(self._queue.popleft(), isTaken)
        if self._socket is not None:
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor when the peer is gone."""
        if self._socket is None:
            return
        self._leave()
        # Whoever gets a message back has to know that the peer is gone.
        attempt(self._receiver.packetsLost)
        self._fail()

    def _give(self, message: _Queued) -> bool | None:
        """Return whether the system has taken a message; None if it hasn't yet."""
        assert self._socket is not None
        try:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", message.descriptors))]
            self._socket.sendmsg([message.data], ancillary if message.descriptors else [], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            self._broke()
            return None
        return True

    def _broke(self) -> None:
        """Send nothing any more. What has come is received before the end, as nobody else has it."""
        self._isBroken = True
        self._reactor.removeWriter(self)
        assert self._socket is not None
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            # Without it the system says that the peer is gone.
            _log.debug("A connection to a process was not shut down: {error}", error=error)

    def _received(self, data: bytes, descriptors: list[int], flags: int) -> None:
        if flags & socket.MSG_TRUNC:
            _close(descriptors)
            if _throttle.allows("a message over the size"):
                _log.warn("A message of more than {size} bytes came from another process", size=MAX_PACKET)
            return
        if flags & socket.MSG_CTRUNC:
            self.truncated += 1
            if _throttle.allows("a lost descriptor"):
                _log.warn("A file descriptor from another process was lost: the limit of open ones is reached")
        try:
            self._receiver.packetReceived(data, descriptors)
        except Exception:
            _log.failure("A message from another process was not handled")

    def _leave(self) -> None:
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._socket.close()
            self._socket = None

    def _fail(self) -> None:
        while self._queue:
            _outcome(self._queue.popleft(), False)


def _descriptorsIn(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Return what C{recvmsg} got beside the data. C{recv_fds} of Python 3.11 ignores its flags."""
    found = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _outcome(message: _Queued, isTaken: bool) -> None:
    if message.sent is not None:
        attempt(message.sent, isTaken)


def _close(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        attempt(os.close, each)


_MOVE = b"M"
_LINK = b"L"


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: Any) -> Any:
        return self._protocol


def connectLink(reactor: Any, end: socket.socket, protocol: Any) -> None:
    """
    Connect a protocol to one end of a link.

    @param reactor: a L{twisted.internet.interfaces.IReactorSocket}.
    @param end: a connected UNIX stream socket. It is closed: the connection has a descriptor of its own.
    @param protocol: a L{twisted.internet.interfaces.IProtocol}.
    @raise OSError: no descriptor is left. The protocol is not connected.
    """
    with end:
        end.setblocking(False)
        reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, _LinkFactory(protocol))


@implementer(INeighbour, IPacketReceiver)
class Neighbour:
    """
    Another worker, over a socket between the two. Connections move over it, and links begin on it.

    @param reactor: the reactor.
    @param end: this worker's end of a C{SOCK_SEQPACKET} pair, which is this object's from here on.
    @param number: the other worker's number.
    @param slot: the other worker's slot.
    @param cluster: an L{IHandoverReceiver}, which hears what comes.
    @ivar lostConnections: connections that were moved here and lost, as no descriptor came with them.
    @ivar unknownMessages: messages that were not understood.
    """

    lostConnections: int = 0
    unknownMessages: int = 0

    def __init__(self, reactor: Any, end: socket.socket, number: int, slot: int, cluster: IHandoverReceiver) -> None:
        self.number = number
        self.slot = slot
        self._reactor = reactor
        self._cluster = cluster
        self._row = cluster.page.rowOf(number)
        self.connection = PacketConnection(reactor, end, self, 2 * MAX_MOVING)

    @property
    def takesConnections(self) -> bool:
        """Whether a connection may be moved to it now."""
        row = self._row
        return (
            row is not None
            and row.number == self.number
            and bool(row.takesConnections)
            and self.connection.isConnected
            and self.connection.queued < MAX_MOVING
        )

    def move(self, released: Any) -> None:
        """Give it a connection, as L{INeighbour.move} says."""

        def sent(isTaken: bool) -> None:
            if isTaken:
                released.forget()
            else:
                released.back()

        try:
            self.connection.send(_MOVE + encodeMove(released.facts, released.data), [released.carrier.fileno()], sent)
        except ValueError:
            # What was read of it is too much for a message.
            released.back()

    def openLink(self, kind: str, protocol: Any) -> None:
        """Connect a protocol to one that it makes, as L{INeighbour.openLink} says."""
        if self.connection.isFull:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connectLink(self._reactor, ours, protocol)
        except BaseException:
            theirs.close()
            raise

        def sent(_isTaken: bool) -> None:
            # If it wasn't, the protocol's connection ends with this, the only copy of the other end.
            theirs.close()

        self.connection.send(_LINK + kind.encode("ascii"), [theirs.fileno()], sent)

    def lose(self) -> None:
        """Let go of it, as L{INeighbour.lose} says."""
        self.connection.close()

    # What comes from it

    def packetReceived(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Take what it gives: a connection, or an end of a link."""
        if len(descriptors) != 1:
            _close(descriptors)
            self.lostConnections += 1
            if _throttle.allows("a message without its descriptor"):
                _log.warn("A connection from worker {number} was lost", number=self.number)
            return
        try:
            carrier = socket.socket(fileno=descriptors[0])
        except OSError:
            # No socket at all.
            _close(descriptors)
            self._notUnderstood("a file")
            return
        kind, rest = data[:1], data[1:]
        try:
            if kind == _MOVE:
                facts, unserved = decodeMove(rest)
            elif kind != _LINK:
                raise ValueError("a message of an unknown kind")
        except ValueError as error:
            carrier.close()
            self._notUnderstood(str(error))
            return
        if kind == _MOVE:
            self._cluster.connectionCame(self, carrier, facts, unserved)
        else:
            self._linkCame(carrier, rest.decode("ascii", "replace"))

    def packetsLost(self) -> None:
        """Called when it is gone."""
        self._cluster.neighbourLost(self)

    def _notUnderstood(self, why: str) -> None:
        self.unknownMessages += 1
        if _throttle.allows("a message that was not understood"):
            _log.warn("A message from worker {number} was not understood: {why}", number=self.number, why=why)

    def _linkCame(self, end: socket.socket, kind: str) -> None:
        with end:
            protocol = self._cluster.protocolForLink(self, kind)
            if protocol is not None:
                connectLink(self._reactor, end, protocol)
