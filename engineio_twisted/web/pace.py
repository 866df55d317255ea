"""
The pace of a connection: that of the client, who may read slowly, send many requests at once, or send nothing more.

Nothing is read from a client that doesn't read, and nothing is looked at of what it sent behind a request that is
being answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from ..clock import AfterReading, DeadlineQueue, cancel
from ..interfaces import IUnreadAnswer
from ..turns import TURN, inLaterTurn
from .connections import UnreadDeadline, unread

if TYPE_CHECKING:
    from twisted.python.failure import Failure

PROGRESS_TIMEOUT = 30.0
"""Seconds in which the answer to a client that has closed its side of the connection has to go on."""


@implementer(IHalfCloseableProtocol)
class PacedChannel(HTTPChannel):
    """
    A connection that goes on at the pace of its client, and is closed if nothing happens on it.

    Private names, all seen in Twisted 26.4 and 26.10. C{_buffer} of C{LineReceiver} and C{_dataBuffer} of
    C{HTTPChannel} are what came and wasn't read; C{_waitingForTransport} whether the transport takes nothing more;
    C{_networkProducer} what stops and resumes reading; C{_handlingRequest} whether a request is being answered. Without
    one of them the first request fails with an C{AttributeError}.
    """

    site: Any
    callLater: Any
    transport: Any
    _log = Logger()
    _buffer: bytes
    _dataBuffer: list[bytes]
    # When requests that came at once have had their part of a turn; 0 until there are several.
    _turnEnds = 0.0
    # The last response, if the client hadn't read it when it was given.
    _unread: IUnreadAnswer | None = None
    # The deadline of a client that doesn't read, once there was something that it hadn't.
    _unreadDeadline: UnreadDeadline | None = None
    # In which it waits for anything to happen; and what comes when the time is over.
    timeOut: Any
    _idles: DeadlineQueue | None = None
    _idleReading: IDelayedCall | None = None
    # Whether a request was refused before it was known what it wants.
    _isRefused = False
    # Whether it is no longer HTTP.
    _isReleased = False
    # What looks whether the response to a client that sends nothing more goes on.
    _progressCall: IDelayedCall | None = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        try:
            super().connectionLost(reason)
        finally:
            self.released()

    def released(self) -> None:
        """Called when the connection is no longer HTTP: it is lost, or has become a WebSocket."""
        self._isReleased = True
        if self._idles is not None:
            self._idles.remove(self)
            self._idles = None
        cancel(self._idleReading)
        cancel(self._progressCall)
        if self._unreadDeadline is not None:
            self._unreadDeadline.stop()

    @property
    def isFull(self) -> bool:
        """Whether the transport takes nothing more of a response for now."""
        return self._waitingForTransport

    # The pace of the client: nothing is read from one that doesn't read, and nothing it sent behind is looked at

    def tellWhenRead(self, answer: IUnreadAnswer) -> None:
        """Tell a response when it is read, or when the connection has gone on to another request."""
        self._nextBegins()
        self._unread = answer

    def _nextBegins(self) -> None:
        if self._unread is not None:
            self._unread.isOver = True
            self._unread = None

    def requestDone(self, request: Request) -> None:
        """Called when a request is answered."""
        isFull = self._waitingForTransport
        isOver = not isFull and self._isTurnOver()
        isHeldBack = self.paused = isFull or isOver
        super().requestDone(request)
        if isHeldBack:
            self._networkProducer.pauseProducing()
        if isOver:
            inLaterTurn(self.site.reactor, self._readOn)

    def _isTurnOver(self) -> bool:
        """Return whether there are more requests, and others have waited long enough for those before them."""
        if not (self._buffer or self._dataBuffer):
            return False
        now = self.site.reactor.seconds()
        if not self._turnEnds:
            self._turnEnds = now + TURN
        return bool(now >= self._turnEnds)

    def _readOn(self, ends: float) -> None:
        if self.paused and not (self._waitingForTransport or self._isReleased or self.transport.disconnecting):
            self._networkProducer.resumeProducing()
            self.paused = False
            self._turnEnds = ends
            self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """Called when the client takes less than is written."""
        super().pauseProducing()
        self._watchClient(isFull=True)

    def resumeProducing(self) -> None:
        """Called when the client has taken what was written."""
        if self._unreadDeadline is not None:
            self._unreadDeadline.drained()
        super().resumeProducing()
        answer, self._unread = self._unread, None
        if answer is not None:
            answer.read()
        if self.paused and not self._waitingForTransport:
            self.paused = False
            self.dataReceived(b"")

    def _watchClient(self, isFull: bool) -> None:
        """Abort the connection later if the client reads nothing of what it is sent."""
        if self._unreadDeadline is None:
            transport, seconds = self.transport, self.site.unreadTimeout / 1000
            self._unreadDeadline = UnreadDeadline(self.callLater, seconds, lambda: unread(transport), self._notRead)
        self._unreadDeadline.begin(isFull)

    def _notRead(self) -> None:
        self.site.limitReached(
            "unreadTimeout",
            "A response was not read by {peer} for {seconds} s",
            peer=self.transport.getPeer(),
            seconds=self.site.unreadTimeout / 1000,
        )
        self.transport.abortConnection()

    def write(self, data: bytes) -> None:
        """Write a piece of a response."""
        if self._unreadDeadline is not None:
            self._unreadDeadline.wrote(len(data))
        super().write(data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """Write some pieces of a response."""
        if self._unreadDeadline is not None:
            self._unreadDeadline.wrote(sum(map(len, iovec)))
        super().writeSequence(iovec)

    def timeoutConnection(self) -> None:
        """Called when nothing came for some time: close the connection, unless the client is still reading."""
        if self._waitingForTransport or unread(self.transport):
            self._watchClient(self._waitingForTransport)
            self.setTimeout(self.timeOut)
        else:
            # The base would log each.
            self.loseConnection()

    # A client that sends nothing more, and reads what it has asked for

    def readConnectionLost(self) -> None:
        """
        Called when the client has closed its side of the connection.

        A client that goes away does the same, so a GET that waits for something to happen isn't answered any more.
        """
        # Said again whenever reading is resumed, as when a request is answered.
        if not self._handlingRequest or self._isRefused or getattr(self.requests[0], "isWaiting", False):
            self.loseConnection()
        elif self._progressCall is None:
            self._awaitProgress(None)

    def writeConnectionLost(self) -> None:
        """Called when our side is closed, which it never is alone."""

    def _awaitProgress(self, before: object) -> None:
        """Abort the connection, whose end can't be noticed, if the answer hasn't gone on since this was called last."""
        request = self.requests[0] if self.requests else None
        now = id(request), getattr(request, "sentLength", 0), unread(self.transport)
        if now == before:
            self.transport.abortConnection()
        else:
            self._progressCall = self.callLater(PROGRESS_TIMEOUT, self._awaitProgress, now)

    # The timeout of connections on which nothing happens

    def setTimeout(self, period: Any) -> Any:
        """Set the seconds in which something has to happen, or None; return what they were."""
        previous, self.timeOut = self.timeOut, period
        if period is not None and not self._isReleased:
            if self._idleReading is not None:
                cancel(self._idleReading)
                self._idleReading = None
            if self._idles is None or self._idles.seconds != period:
                if self._idles is not None:
                    self._idles.remove(self)
                self._idles = self.site.deadlines(period, _idle)
            self._idles.add(self)
        return previous

    def resetTimeout(self) -> None:
        """Begin the time anew."""
        if self.timeOut is None:
            return
        # The latter if something came before the connection was closed.
        if self._idles is not None or self._idleReading is not None:
            self.setTimeout(self.timeOut)

    def idle(self) -> None:
        """Called when nothing has happened for as long as may be."""
        self._idles = None
        if self.timeOut is not None:
            # A request may lie unread, as after a time in which the process stood still.
            self._idleReading = AfterReading(self.site.reactor).call(self._stillIdle)

    def _stillIdle(self) -> None:
        self._idleReading = None
        # Unless a request has come, and is answered or being answered.
        if self._idles is None and self.timeOut is not None:
            self.timeoutConnection()


def _idle(channel: PacedChannel) -> None:
    channel.idle()
