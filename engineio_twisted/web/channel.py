"""A connection of our site: the time and size that the head of a request may take, and its end."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall
from twisted.web.http import HTTPChannel, Request

from ..clock import AfterReading, DeadlineQueue, cancel, steadyClock
from ..ends import CLOSE_TIMEOUT
from ..protocol.errors import HeadRefused
from .connections import forgetUnsent, unread
from .pace import PacedChannel
from .refusals import wholeForm
from .requests import LINGER_TIME

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from .group import ConnectionGroup

LONGEST_NAME = 256
"""Bytes of a header's name; a request with a longer one is refused as one whose head is too large."""

MANY_PIECES = 64
"""Of so many pieces of what came behind a request one is made: each takes some forty bytes more than what is in it."""

_ABSOLUTE_FORM = re.compile(rb"(?i:([!-~]+) https?://([^/?#\s]*)([^\s]*) (HTTP/1\.[01]))")
"""The first line of a request whose address is whole (RFC 9112, 3.2.2): method, host, path and query, version."""

_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]|"
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})*+)(?::[0-9]{0,5})?"
)


def isHost(value: bytes) -> bool:
    """Return whether a value is one that the header Host may have (RFC 9110, 7.2): a host, with a port or without."""
    return _HOST.fullmatch(value) is not None


class Channel(PacedChannel):
    """
    A connection of a L{Site} of ours, which knows those that are open.

    Private names, all seen in Twisted 26.4 and 26.10. C{__first_line}, C{_receivedHeaderSize} and C{_version} of
    C{HTTPChannel} say how far the head of a request was read; C{_busyReceiving} of C{LineReceiver} whether that is
    being done; C{_respondToBadRequestAndDisconnect} refuses what is none. Without one of the first four each request
    fails with an C{AttributeError}; without the last, a bad request gets the response of twisted.web.
    """

    # It is no stream of HTTP/2, which is asked for each request.
    streamID = None
    _HTTPChannel__first_line: int
    _receivedHeaderSize: int
    _busyReceiving: bool
    _version: bytes
    # What watches it in the reactor's place.
    group: ConnectionGroup | None = None
    _deadline: IDelayedCall | None = None
    _isLast = False
    # Whether there was something unread when the end of the connection was last looked at.
    _wasUnread = False
    # In which it waits for the head of a request; and what comes when the time is over.
    _heads: DeadlineQueue | None = None
    _headReading: IDelayedCall | None = None
    # Whether there was anything to read.
    _hasRead = False
    # The host in the address of the request that is being read; None if the address is a path.
    _target: bytes | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        site = self.site
        self.factory = site.requestLog
        site.channels.add(self)
        if self.totalHeadersSize == HTTPChannel.totalHeadersSize:
            self.totalHeadersSize = site.maxHeaderSize
        if self.MAX_LENGTH == HTTPChannel.MAX_LENGTH:
            self.MAX_LENGTH = site.maxHeaderSize
        self._awaitHead()
        if site.group is not None and site.group.adopt(self.transport):
            self.group = site.group

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Return whether another request may come on this connection."""
        return not self._isLast and bool(super().checkPersistence(request, version))

    def finish(self, until: float) -> None:
        """
        Close the connection once what is being asked is answered, and all is written.

        @param until: the time by which that has to be; as for L{Site.closeConnections}.
        """
        cancel(self._deadline)
        seconds = until - steadyClock(self.site.reactor).seconds()
        self._deadline = self.callLater(max(seconds, CLOSE_TIMEOUT), self.abort)
        if seconds > 0 and self.requests:
            self._isLast = True
            self.persistent = False
        elif not self.transport.disconnecting:
            self.loseConnection()

    def abort(self) -> None:
        """Abort the connection, whatever is left to send."""
        self.transport.abortConnection()

    # The head of a request: how large it may be, and when it has to be there

    def dataReceived(self, data: bytes) -> None:
        """Read what came: that is requests, or pieces of one."""
        if self._isRefused:
            return
        if data and self._turnEnds and not self._busyReceiving:
            self._turnEnds = 0.0
        self._hasRead = True
        try:
            super().dataReceived(data)
        except Exception:
            self._cannotBeRead()
        # Not for each piece: the time runs from the first.
        if self._heads is None and self._headReading is None and self._isInHead():
            self._awaitHead()

    def _cannotBeRead(self) -> None:
        """
        Refuse a request that couldn't be read, for a reason that nobody has thought of.

        Called while that is handled, which is raised again if the connection is no longer HTTP.
        """
        if self._isReleased:
            raise
        if self.site.throttle.allows("requests that could not be read"):
            self._log.failure("A request from {peer} could not be read", peer=self.transport.getPeer())
        self._isRefused = True
        self._respondToBadRequestAndDisconnect()

    def _isInHead(self) -> bool:
        """Return whether a request has begun whose headers aren't complete."""
        isGoingOn = self.line_mode and not self._isRefused and not self.paused and self._deadline is None
        return bool(isGoingOn and (self._buffer or not self._HTTPChannel__first_line))

    def lineReceived(self, line: bytes) -> None:
        """Take a line of the head of a request."""
        if self._HTTPChannel__first_line:
            if len(line) > self.site.maxUrlLength:
                address = line.partition(b" ")[2].rpartition(b" ")[0] or line
                if len(address) > self.site.maxUrlLength:
                    self._addressTooLong()
                    return
            line = self._withoutHost(line)
        try:
            super().lineReceived(line)
        except HeadRefused as refusal:
            self._answerRefusal(refusal, isComplete=self.length == 0)

    def _withoutHost(self, line: bytes) -> bytes:
        """Return the first line of a request with the path alone if it has a whole address; keep the host."""
        self._target = None
        match = _ABSOLUTE_FORM.fullmatch(line)
        if match is None:
            return line
        method, self._target, path, version = match.groups()
        return b"%b %b%b %b" % (method, b"" if path.startswith(b"/") else b"/", path, version)

    def headerReceived(self, line: bytes) -> bool:
        """Take a header; return whether it is one."""
        if len(line) > LONGEST_NAME and b":" not in line[: LONGEST_NAME + 1]:
            # twisted.web remembers thousands of names for good.
            self._headTooLarge()
            return False
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # Python makes no number of so many digits as this Content-Length has.
            self._respondToBadRequestAndDisconnect()
            return False

    def _checkHost(self) -> None:
        """Make sure that a request names one host (RFC 9112, 3.2), and have it be that of a whole address."""
        headers = self.requests[-1].requestHeaders
        hosts = headers.getRawHeaders(b"host", [])
        isMissing = not hosts and self._version == b"HTTP/1.1"
        if isMissing or len(hosts) > 1 or not all(map(isHost, hosts)):
            raise HeadRefused("expected one Host, and a valid one", 400, "INVALID_HOST")
        if self._target is not None:
            if not self._target or not isHost(self._target):
                raise HeadRefused("the address has no valid host", 400, "INVALID_HOST")
            headers.setRawHeaders(b"Host", [self._target])

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line, the first bytes of which are given, that is longer than the whole head may be."""
        if self._HTTPChannel__first_line and len(line) > self.site.maxUrlLength:
            self._addressTooLong()
        else:
            self._headTooLarge()

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of a body, or of what comes behind a request that is being answered."""
        super().rawDataReceived(data)
        if len(self._dataBuffer) > MANY_PIECES:
            self._dataBuffer = [b"".join(self._dataBuffer)]

    def allHeadersReceived(self) -> None:
        """Called when the head of a request is complete."""
        self._headCame()
        self._nextBegins()
        self._checkHost()
        super().allHeadersReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._receivedHeaderSize > self.totalHeadersSize:
            self._headTooLarge()
        else:
            super()._respondToBadRequestAndDisconnect()

    def _addressTooLong(self) -> None:
        limit = self.site.maxUrlLength
        self._refuse(HeadRefused(f"the address is longer than maxUrlLength, {limit} bytes", 414, "maxUrlLength"))

    def _headTooLarge(self) -> None:
        limit = min(self.totalHeadersSize, self.MAX_LENGTH)
        self._refuse(HeadRefused(f"the headers are larger than maxHeaderSize, {limit} bytes", 431, "maxHeaderSize"))

    def _awaitHead(self) -> None:
        timeout = self.site.headersTimeout
        if timeout is not None:
            self._heads = self.site.deadlines(timeout / 1000, _headDue)
            self._heads.add(self)

    def _headCame(self) -> None:
        if self._heads is not None:
            self._heads.remove(self)
            self._heads = None
        if self._headReading is not None:
            cancel(self._headReading)
            self._headReading = None

    def headDue(self) -> None:
        """Called when the head of a request should have come."""
        timeout = 0 if self._heads is None else round(self._heads.seconds * 1000)
        self._heads = None
        # What is missing may lie unread.
        self._headReading = AfterReading(self.site.reactor).call(self._headTooSlow, timeout)

    def _headTooSlow(self, timeout: int) -> None:
        self._headReading = None
        message = f"the headers did not come within headersTimeout, {timeout} ms"
        self._refuse(HeadRefused(message, 408, "headersTimeout"))

    def _refuse(self, refusal: HeadRefused) -> None:
        """Answer a request of which no more is known than that it is too much, and take nothing any more."""
        self.site.refused(refusal, self.transport.getPeer())
        self._answerRefusal(refusal, isComplete=False)

    def _answerRefusal(self, refusal: HeadRefused, isComplete: bool) -> None:
        """
        Answer a request with a refusal, and take nothing any more.

        @param isComplete: whether nothing of the request is still to come.
        """
        self._isRefused = True
        self.persistent = False
        self._headCame()
        self.setTimeout(None)
        self.clearLineBuffer()
        if not self._hasRead:
            # Nobody has asked, and a client that just begins would take it for the answer to that.
            self.loseConnection()
            return
        self.transport.write(wholeForm(refusal))
        if isComplete or refusal.status == HTTPStatus.REQUEST_TIMEOUT:
            self.loseConnection()
        elif self._deadline is None:
            # There is more to come, which would make the client's system discard the answer.
            self._deadline = self.callLater(LINGER_TIME, self.transport.abortConnection)

    def loseConnection(self) -> None:
        """Close the connection once all is written, and abort it if that takes too long."""
        self._headCame()
        super().loseConnection()
        if self._deadline is None:
            self._deadline = self.callLater(CLOSE_TIMEOUT, self._endIsDue)

    def _endIsDue(self) -> None:
        """Abort the connection, unless there is something that the client hasn't read, or was the last time."""
        isUnread = unread(self.transport) > 0
        if isUnread:
            self._watchClient(isFull=False)
        if isUnread or self._wasUnread:
            self._wasUnread = isUnread
            self._deadline = self.callLater(CLOSE_TIMEOUT, self._endIsDue)
        else:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        try:
            super().connectionLost(reason)
        finally:
            forgetUnsent(self.transport)

    def released(self) -> None:
        super().released()
        cancel(self._deadline)
        self._headCame()
        self.site.channels.remove(self)


def _headDue(channel: Channel) -> None:
    channel.headDue()
