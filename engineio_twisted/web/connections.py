"""What Twisted's connections keep to themselves: what is unsent, what is unread, writing at once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from ..clock import Cancellable, cancel

try:
    import fcntl
    import termios
except ImportError:
    # Not on Windows.
    fcntl = None  # type: ignore[assignment]

UNREAD_TIMEOUT = 60_000
"""
Milliseconds after which a connection, or a stream of HTTP/2, is aborted whose client takes nothing of a response, or
less than L{UNREAD_PROGRESS} bytes.

As long as it takes more the response goes on, however slow that is.
"""


def _isDirect(connection: Any) -> bool:
    """Return whether a connection is one of the reactor's without TLS, with nothing to write, and not closing."""
    return (
        isinstance(connection, tcp.Connection)
        and not connection.TLS
        and not connection.dataBuffer
        and not connection._tempDataBuffer
        and bool(connection.connected)
        and not connection.disconnecting
        and not connection._aborting
    )


def writeAtOnce(connection: Any, data: bytes) -> bool:
    """
    Write to a connection, and let the system have at once what it takes at once.

    Otherwise the reactor is asked to, which costs about twice what it takes to write. Only if that is the same: on
    a plain connection, without TLS, to which nothing is being written and which isn't closing.

    @return: whether the system has all of it.
    """
    if _isDirect(connection):
        try:
            taken = connection.socket.send(data)
        except OSError:
            # It takes nothing now; if that is because the connection is lost, the reactor is going to find out.
            taken = 0
        if taken == len(data):
            return True
        data = data[taken:]
    connection.write(data)
    return False


def flushAtOnce(connection: Any) -> None:
    """Let the system have at once what it takes of what was written to a plain connection of the reactor's."""
    if isinstance(connection, tcp.Connection) and connection.connected and not connection.disconnecting:
        # If the connection is lost, the reactor is going to find out.
        connection.doWrite()


_DONE = Failure(CONNECTION_DONE)
"""The end of all connections that are closed here, as reactors have one for all of theirs."""


def closeAtOnce(connection: Any) -> bool:
    """
    Close a connection now, if that comes to the same as to have the reactor do it.

    It asks the system whether there is room to write, although nothing is to be written, and closes in a later turn.

    @return: whether it is closed. Only one to which L{writeAtOnce} writes at once is.
    """
    if _isDirect(connection):
        connection.connectionLost(_DONE)
        return True
    return False


def unsent(connection: Any) -> int:
    """
    Return how many bytes that were written to a connection the system hasn't taken.

    What Twisted's own connections keep, with TLS and other wrappers around them, and its streams of HTTP/2; nothing is
    known of others.
    """
    amount = 0
    while isinstance(connection, ProtocolWrapper):
        # Of TLS: what waits for the client's part of a handshake, and what is written together.
        for each in getattr(connection, "_appSendBuffer", ()):
            amount += len(each)
        aggregator: Any = getattr(connection, "_aggregator", None)
        if isinstance(left := getattr(aggregator, "_bufferLeft", None), int):
            amount += aggregator.MAX_BUFFER_SIZE - left
        connection = connection.transport
    if isinstance(connection, FileDescriptor) and connection.connected:
        amount += len(connection.dataBuffer) - connection.offset + connection._tempDataLen
    else:
        # A stream of HTTP/2, or what carries a connection to another process.
        amount += getattr(connection, "unsent", 0)
    return amount


def unread(connection: Any) -> int:
    """
    Return how many bytes that were written to a connection its client hasn't taken, as far as that is known.

    Those are L{unsent} ones, and those that the system has sent and that were not acknowledged, or could not send.
    """
    amount = unsent(connection)
    while isinstance(connection, ProtocolWrapper):
        connection = connection.transport
    if fcntl is not None and isinstance(connection, tcp.Connection) and connection.connected:
        queued = bytearray(4)
        # Not every system knows it of every kind of socket, and one that is closed has no descriptor.
        with suppress(OSError, ValueError):
            fcntl.ioctl(connection.socket, termios.TIOCOUTQ, queued)
        amount += int.from_bytes(queued, sys.byteorder)
    return amount


UNREAD_PROGRESS = 1024
"""Bytes that a client has to take, of what it was sent, in the time of an L{UnreadDeadline}; or all that there is."""


UNREAD_CHECKS = 4
"""How often an L{UnreadDeadline} looks in its time."""


class UnreadDeadline:
    """
    The deadline of a client that doesn't read what it is sent. What it takes moves the deadline.

    A timer looks L{UNREAD_CHECKS} times in the time, so the end may come up to one of these intervals later.

    @param callLater: of a reactor.
    @param seconds: the time without progress after which C{cut} is called.
    @param left: returns how many bytes the client hasn't taken, such as L{unread} of a connection.
    @param cut: called once, when the client has taken less than L{UNREAD_PROGRESS} bytes in the time.
    """

    def __init__(
        self,
        callLater: Callable[..., Cancellable],
        seconds: float,
        left: Callable[[], int],
        cut: Callable[[], object],
    ) -> None:
        self._callLater = callLater
        self._interval = seconds / UNREAD_CHECKS
        self._left = left
        self._cut = cut
        self._isFull = False
        self._written = 0
        self._taken = 0
        self._checks = 0
        self._call: Cancellable | None = None

    def begin(self, isFull: bool) -> None:
        """
        Begin to watch the client, unless that goes on.

        @param isFull: whether it goes on until L{drained} says otherwise, and not only until nothing is left.
        """
        self._isFull = isFull
        if self._call is None:
            self._written = 0
            self._progress(-self._left())
            self._call = self._callLater(self._interval, self._check)

    def wrote(self, size: int) -> None:
        """Count bytes that are written meanwhile: the client may take as many and leave the same amount."""
        self._written += size

    def drained(self) -> None:
        """Called when the connection has room again."""
        self._isFull = False
        self._checks = 0

    def stop(self) -> None:
        """Stop to watch."""
        cancel(self._call)
        self._call = None

    def _progress(self, taken: int) -> None:
        self._taken = taken
        self._checks = 0

    def _check(self) -> None:
        self._call = None
        left = self._left()
        if not self._isFull and not left:
            return
        taken = self._written - left
        if not self._taken <= taken < self._taken + UNREAD_PROGRESS:
            # Less than before is no progress, but nothing that can be compared: something else has written.
            self._progress(taken)
        else:
            self._checks += 1
        if self._checks >= UNREAD_CHECKS:
            self._cut()
            return
        self._call = self._callLater(self._interval, self._check)


def forgetUnsent(connection: Any) -> None:
    """Let go of what was written to a connection that is lost: a session keeps that with its first request."""
    while isinstance(connection, ProtocolWrapper):
        connection = connection.transport
    if isinstance(connection, FileDescriptor):
        connection.dataBuffer = b""
        connection._tempDataBuffer.clear()


def connectionOf(request: Any) -> Any:
    """Return what an answer to a request is written to: a connection, or a stream of HTTP/2."""
    connection = getattr(request.channel, "transport", None)
    return request.channel if connection is None else connection


def handOver(channel: Any, protocol: Any) -> bytes:
    """
    Give the connection of a channel to a protocol, and let go of the channel. Reading is paused still.

    C{_dataBuffer} of C{HTTPChannel} is a private name, seen in Twisted 26.4 and 26.10. Without it this raises, and no
    WebSocket opens.

    @param channel: an C{HTTPChannel} whose request is being answered.
    @param protocol: an C{IProtocol}, of which C{makeConnection} is called.
    @return: what the client sent behind its request, without waiting for the response.
    """
    connection = channel.transport
    # What came behind is in the line buffer while the request is being read, and in the data buffer if it was
    # answered later.
    behind: bytes = b"".join(channel._dataBuffer) + channel.clearLineBuffer()
    channel._dataBuffer = []
    channel.setTimeout(None)
    # The channel registered itself, and as long as it is there, nobody else can.
    connection.unregisterProducer()
    released = getattr(channel, "released", None)
    if released is not None:
        released()
    if isinstance(connection, ProtocolWrapper):
        connection.wrappedProtocol = protocol
    else:
        connection.protocol = protocol
    protocol.makeConnection(connection)
    return behind


def isMovable(connection: Any) -> bool:
    """
    Return whether another process could go on with a connection just now.

    A plain one of the reactor's to which nothing is being written, and that isn't closing, is; so is one in memory that
    says so.
    """
    isDirect: bool = _isDirect(connection) or bool(getattr(connection, "isMovable", False))
    return isDirect


def detach(channel: Any) -> Any:
    """
    Take the connection of a channel out of its reactor, and let go of the channel, which hears of no end.

    @param channel: a channel of ours, with nothing that it has read and no request left, on a connection that
        L{isMovable}.
    @return: the socket, or what stands for it in memory.
    """
    connection = channel.transport
    channel.clearLineBuffer()
    channel.setTimeout(None)
    connection.unregisterProducer()
    channel.released()
    if not isinstance(connection, tcp.Connection):
        return connection.detach()
    connection.stopReading()
    connection.stopWriting()
    connection.connected, connection.disconnected = 0, 1
    found = connection.socket
    # As at its end: from here on it is none to the reactor either, which may be in the middle of reading it.
    del connection.protocol, connection.socket, connection.fileno
    return found


def attach(carrier: Any, factory: Any, reactor: Any) -> Any:
    """
    Make a connection of what L{detach} returned in another process, or in this one.

    @param carrier: is closed, as the connection has a descriptor of its own.
    @param factory: builds its protocol.
    @return: the connection, which is being read.
    @raise OSError: its client has gone, or the system has no descriptor left.
    """
    if not isinstance(carrier, socket.socket):
        return carrier.attach(factory)
    try:
        reactor.adoptStreamConnection(carrier.fileno(), carrier.family, factory)
    finally:
        carrier.close()
    return factory.channel.transport


def isStream(channel: Any) -> bool:
    """Return whether what a request came on is a stream of HTTP/2, which shares its connection with others."""
    return getattr(channel, "streamID", None) is not None
