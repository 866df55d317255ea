"""
Streams of HTTP/2, as requests use them.

A request of ours never touches a stream of Twisted's: it has a L{Stream} for its channel, which keeps away what Twisted
does wrong with streams that are closed, cut or not read (docs/http2.md).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ..clock import cancel
from ..ends import attempt
from ..logs import LogThrottle
from .connections import UNREAD_TIMEOUT, UnreadDeadline

PIECE = 16384
"""Bytes of an answer that are sent in a turn of the reactor, at most: a frame, as every client takes it."""

HIGH_MARK = 65536
"""Bytes that wait before a push producer is paused: as many as on a connection."""

LOOK_INTERVAL = 1.0
"""
Seconds between two looks whether there is room for what waits.

Twisted doesn't say when a client changes its settings, which may open the windows of its streams too.
"""

_OF_CONNECTIONS = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
"""Headers that no answer over HTTP/2 may have (RFC 9113, 8.2.2)."""

_throttle = LogThrottle()


def adapt(request: Any) -> None:
    """Give a request on a stream of Twisted's a L{Stream} for its channel, if it has none yet."""
    if not isinstance(request.channel, Stream):
        request.channel = Stream(request.channel)


class Stream:
    """
    A stream of HTTP/2 as the channel of a request, in place of Twisted's own.

    What is written waits here, and is sent in a turn of the reactor of its own: never while Twisted handles what a
    client has sent, and no more than the windows of the stream and of its connection take at that time. Twisted keeps
    none of it, as it doesn't expect that a client makes a window smaller. A stream whose client
    reads nothing is reset, as a connection is cut: after C{unreadTimeout} of the site, or L{UNREAD_TIMEOUT}.

    It rests on private names of C{twisted.web._http2}, seen in Twisted 26.4 and 26.10: of C{H2Stream} C{_conn} and
    C{_request}; of C{H2Connection} C{_consumerBlocked}, C{_streamCleanupCallbacks} and C{_stillProducing}.

    @param stream: Twisted's, an C{H2Stream}.
    """

    _log = Logger()
    # There is no connection that is this request's alone.
    transport = None
    # What waits, and how many bytes it has.
    _waiting: deque[memoryview] | tuple[()] = ()
    _size = 0
    _headers: tuple[bytes, bytes, bytes, Headers] | None = None
    _hasAnswered = False
    # Whether the answer is complete, and Twisted knows that; whether the stream is to be cut, and is gone.
    _isComplete = _isEnded = _isAborted = _isGone = False
    _isFollowed = _isGated = _isBlocked = False
    _turn: IDelayedCall | None = None
    _look: IDelayedCall | None = None
    _deadline: UnreadDeadline | None = None
    _producer: Any = None
    _isStreaming = _isPaused = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":
            raise AttributeError(name)
        return getattr(self._stream, name)

    @property
    def isOver(self) -> bool:
        """
        Whether it takes nothing any more: it is closed, or its connection is lost.

        Twisted may not have told its request: it tells those of several streams one after the other.
        """
        return self._isAborted or self._isClosed

    @property
    def _isClosed(self) -> bool:
        connection = self._stream._conn
        return self.streamID not in connection.streams or not connection._stillProducing or self.isReset

    @property
    def isReset(self) -> bool:
        """Whether its client has closed it, or the connection. That is known before Twisted knows of the stream."""
        connection = self._stream._conn.conn
        known = connection.streams.get(self.streamID)
        return known is None or known.closed or connection.state_machine.state.name == "CLOSED"

    @property
    def unsent(self) -> int:
        """How many bytes that were written to it weren't sent."""
        return self._size

    # What requests call

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Begin the answer."""
        headers = headers.copy()
        for name in _OF_CONNECTIONS:
            headers.removeHeader(name)
        self._hasAnswered = True
        self._headers = version, code, reason, headers
        self._wake()

    def write(self, data: bytes) -> None:
        """Write a piece of the answer's body."""
        if not data or self._isGone or self._isAborted:
            return
        if not self._waiting:
            self._waiting = deque()
        self._waiting.append(memoryview(data))
        self._size += len(data)
        if self._deadline is not None:
            self._deadline.wrote(len(data))
        if self._isStreaming and not self._isPaused and self._size > HIGH_MARK:
            self._isPaused = True
            self._producer.pauseProducing()
        self._wake()

    def writeSequence(self, pieces: Any) -> None:
        """Write some pieces."""
        for each in pieces:
            self.write(each)

    def requestDone(self, request: object) -> None:
        """End the stream when all is sent."""
        self._isComplete = True
        self._wake()

    def loseConnection(self) -> None:
        """End the stream when all is sent; cut it if nothing was answered, as it can't end without headers."""
        if self._hasAnswered:
            self.requestDone(None)
        else:
            self.abortConnection()

    def abortConnection(self) -> None:
        """Cut the stream, in a turn of the reactor of its own. Its request is told, which it isn't by Twisted."""
        if not self._isGone:
            self._isAborted = True
            self._drop()
            self._wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Register a producer, which writes the body at the pace of the client.

        @raise ValueError: there is one already.
        """
        if self._producer is not None:
            raise ValueError(f"registering producer {producer!r} before {self._producer!r} was unregistered")
        if self.isOver:
            producer.stopProducing()
            return
        self._producer, self._isStreaming, self._isPaused = producer, streaming, False
        self._wake()

    def unregisterProducer(self) -> None:
        """Let go of the producer, if there is one."""
        self._producer, self._isStreaming, self._isPaused = None, False, False

    # In turns of its own

    def _wake(self) -> None:
        if self._turn is None and not self._isGone:
            self._turn = self.site.reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._turn = None
        self._follow()
        try:
            if self._isAborted:
                self._cut()
            elif not self._isGone and not self._isClosed:
                self._send()
        except Exception:
            # The connections of others are no place for it.
            self._log.failure("An answer on a stream of HTTP/2 could not be sent")
            self.abortConnection()
        self._watch()

    def _follow(self) -> None:
        """Make sure that the end of the stream is noticed here; its request, once it is answered, isn't told."""
        if not self._isFollowed:
            self._isFollowed = True
            end = self._stream._conn._streamCleanupCallbacks.get(self.streamID)
            if end is None:
                # It is over, or never was known to its connection, as its headers were wrong.
                self._ended()
            else:
                end.addCallback(self._ended)

    def _cut(self) -> None:
        stream = self._stream
        request = stream._request
        if not self._isClosed:
            stream.abortConnection()
        self._ended()
        # One that is answered, while the answer waits to be read, has no channel any more.
        if getattr(request, "channel", None) is not None:
            request.connectionLost(Failure(ConnectionAborted()))

    def _send(self) -> None:
        """Send what the windows take, at most one piece in a turn: other streams have theirs."""
        stream = self._stream
        headers, self._headers = self._headers, None
        if headers is not None:
            # It cuts the connection of a client that reads nothing, and that is the end of this too.
            stream.writeHeaders(*headers)
        if self._isGone:
            return
        if self._waiting:
            if self._sendPiece():
                self._wake()
        elif self._isComplete:
            self._end()
        elif self._producer is not None:
            self._ask()

    def _sendPiece(self) -> bool:
        """Send a piece of what waits; return whether it was sent. Otherwise this is woken when one can be."""
        connection = self._stream._conn
        if connection._consumerBlocked is not None:
            if not self._isBlocked:
                self._isBlocked = True
                connection._consumerBlocked.addCallback(self._unblocked)
            return False
        room = min(connection.conn.local_flow_control_window(self.streamID), PIECE)
        if room <= 0:
            self._await()
            return False
        waiting: Any = self._waiting
        first = waiting[0]
        piece = first[:room]
        if len(piece) == len(first):
            waiting.popleft()
        else:
            waiting[0] = first[room:]
        self._size -= len(piece)
        connection.resetTimeout()
        connection.conn.send_data(self.streamID, bytes(piece))
        connection.transport.write(connection.conn.data_to_send())
        return True

    def _unblocked(self, result: object) -> object:
        self._isBlocked = False
        self._wake()
        return result

    def _await(self) -> None:
        """Be woken when a window is opened."""
        self._isGated = True
        # In place of Twisted's, which asks for the window of a stream that its client may have closed.
        self._stream.windowUpdated = self._windowOpened
        cancel(self._look)
        self._look = self.site.reactor.callLater(LOOK_INTERVAL, self._wake)

    def _windowOpened(self) -> None:
        if self._isGated:
            self._isGated = False
            self._wake()

    def _end(self) -> None:
        if not self._isEnded:
            self._isEnded = True
            self._stream.requestDone(self._stream._request)

    def _ask(self) -> None:
        """Ask the producer for more: all that it wrote is sent."""
        if not self._isStreaming:
            self._producer.resumeProducing()
            if self._producer is not None:
                self._wake()
        elif self._isPaused:
            self._isPaused = False
            self._producer.resumeProducing()

    # The client that doesn't read

    def _watch(self) -> None:
        if not self._isGone and self._left():
            if self._deadline is None:
                seconds = getattr(self.site, "unreadTimeout", UNREAD_TIMEOUT) / 1000
                self._deadline = UnreadDeadline(self.site.reactor.callLater, seconds, self._left, self._notRead)
            self._deadline.begin(isFull=False)

    def _left(self) -> int:
        # The end counts too: it isn't sent on a connection that isn't read.
        return 0 if self._isGone else self.unsent + self._isEnded

    def _notRead(self) -> None:
        if _throttle.allows("unread responses over HTTP/2"):
            self._log.info("A response over HTTP/2 was not read by {peer}", peer=self.getPeer())
        self.abortConnection()

    # The end

    def _drop(self) -> None:
        self._waiting = ()
        self._size = 0
        self._headers = None

    def _ended(self, result: object = None) -> object:
        self._isGone = True
        self._drop()
        cancel(self._turn)
        cancel(self._look)
        if self._deadline is not None:
            self._deadline.stop()
        producer = self._producer
        if producer is not None:
            self.unregisterProducer()
            attempt(producer.stopProducing)
        return result
