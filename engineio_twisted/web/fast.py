"""
A fast path through twisted.web for the requests that polling is made of.

A request that comes whole, is for a server of ours and has nothing rare about it is read in one pass, and becomes a
L{FastExchange}. Every other one goes the way of twisted.web. docs/architecture/fast-paths.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure
from twisted.web import server

from ..interfaces import IEngineServer
from ..protocol.errors import PayloadTooLarge
from .channel import Channel
from .fast_exchange import FastExchange
from .group import ConnectionGroup
from .heads import HEADERS, REQUEST_LINE, RequestHead
from .requests import EngineIORequest
from .resource import CapturedPath, follow
from .site import Site

if TYPE_CHECKING:
    from twisted.web import resource


class FastChannel(Channel):
    """
    A connection that reads a request in one pass if it can, and leaves the others to L{Channel}.

    Private names besides those of L{Channel}, seen in Twisted 26.4 and 26.10: C{_savedTimeOut} of C{HTTPChannel}, the
    timeout while a request is answered. Without it the first request fails with an C{AttributeError}.
    """

    requests: list[Any]
    site: FastSite
    localAddress: Any = None
    _HTTPChannel__first_line: int
    # Whether there is anything to take, and how large its head may be.
    _mayTake = False
    _largestHead = _smallHead = 0
    # Of the last request that was read here.
    _head: RequestHead | None = None

    def released(self) -> None:
        self._head = None
        super().released()

    def getHost(self) -> Any:
        """Return the address of this end, which the system is asked for once."""
        return super().getHost() if self.localAddress is None else self.localAddress

    # Reading

    def connectionMade(self) -> None:
        super().connectionMade()
        self._mayTake = (
            self.site.isPlain and self.requestFactory is EngineIORequest and not self.site._parsePOSTFormSubmission
        )
        self._largestHead = min(self.totalHeadersSize, self.MAX_LENGTH)
        # With a head up to this, the address can't be too long.
        self._smallHead = min(self._largestHead, self.site.maxUrlLength)

    def dataReceived(self, data: bytes) -> None:
        if self._mayTake and not (
            self.requests
            or self._buffer
            or self._busyReceiving
            or self._HTTPChannel__first_line != 1
            or not self.line_mode
            or not self.persistent
            or self.paused
            or self.transport.disconnecting
        ):
            taken = self._requestOf(data)
            if taken is not None:
                try:
                    self._serve(*taken)
                except Exception:
                    self._cannotBeRead()
                return
        super().dataReceived(data)

    def _requestOf(self, data: bytes) -> tuple[FastExchange, IEngineServer, bool] | None:
        """Return the request that came, what serves it, and whether it asks for a WebSocket; None if it isn't taken."""
        match = REQUEST_LINE.match(data)
        if match is None:
            return None
        head, begin = self._head, match.end()
        if head is None or not data.startswith(head.whole, begin):
            headers = HEADERS.match(data, begin)
            if headers is None or headers.end() > self._largestHead:
                return None
            head = RequestHead(headers[0], self.maxHeaders)
            self._head = head if head.mayBeKept else None
        begin += len(head.whole)
        if not head.mayTake or begin > self._largestHead:
            return None
        method, uri = match.groups()
        if begin > self._smallHead and len(uri) > self.site.maxUrlLength:
            return None
        body = data[begin:]
        if method == b"GET":
            if head.length is not None or body:
                return None
        elif head.length != len(body):
            return None
        path = uri.partition(b"?")[0]
        root = self.site.resource
        if not isinstance(root, CapturedPath):
            return None
        root, isCaptured = follow(root, path)
        if not isCaptured:
            return None
        if self.localAddress is None:
            self.localAddress = self.transport.getHost()
            # From here on a head that comes whole is none that is awaited.
            self._headCame()
        exchange = FastExchange(self, method, uri, head, body)
        engineServer = root.engineServer
        if method == b"POST" and not self._mayBePushed(engineServer, exchange, body):
            return None
        return exchange, engineServer, head.isUpgrade

    def _mayBePushed(self, server: IEngineServer, exchange: FastExchange, body: bytes) -> bool:
        """Return whether there is nothing to find out about a body by those who count it as it comes."""
        if PayloadTooLarge.of(len(body), server.opts.maxHttpBufferSize) is not None:
            return False
        if not len(server.reading):
            return True
        # One of the same session may be among those that are being read.
        target = server.pushTarget(exchange, exchange.method, exchange.uri)
        return target is None or not target.isReading

    def _serve(self, exchange: FastExchange, engineServer: IEngineServer, isUpgrade: bool) -> None:
        if self._unread is not None:
            self._nextBegins()
        self.requests.append(exchange)
        self._handlingRequest = True
        # As the base does: what comes behind is kept until this is answered.
        self.line_mode = 0
        if self.timeOut:
            self._savedTimeOut, self.timeOut = self.timeOut, None
        try:
            engineServer.handle(exchange, isUpgrade)
        except BaseException:
            exchange.request.processingFailed(Failure())

    def requestDone(self, request: Any) -> None:
        if (
            self._dataBuffer
            or self._buffer
            or self._waitingForTransport
            or not self.persistent
            or request is not self.requests[0]
        ):
            super().requestDone(request)
            return
        del self.requests[0]
        # Code that was given the request may have stopped reading.
        if self.group is None or not self.group.isReading(self.transport):
            self._networkProducer.resumeProducing()
        self._handlingRequest = False
        self.line_mode = 1
        if self._savedTimeOut:
            self.setTimeout(self._savedTimeOut)


class FastSite(Site):
    """
    A L{Site} that takes a fast path for the requests that are plain enough. What is served is the same.

    If the reactor can watch files, it watches the connections of a site as if they were one.
    """

    protocol = FastChannel

    def __init__(
        self, root: resource.IResource | resource.Resource, requestFactory: Any = None, **options: Any
    ) -> None:
        super().__init__(root, requestFactory, **options)
        self.group = ConnectionGroup(self.reactor)
        self._isPlainClass = (
            type(self).getResourceFor is server.Site.getResourceFor
            and type(self).getChildWithDefault is server.Site.getChildWithDefault
        )
        self._hasOwnLog = type(self).log is not Site.log

    @property
    def isPlain(self) -> bool:
        """Whether nothing but the paths captured decides where a request goes."""
        own = self.__dict__
        return self._isPlainClass and "getResourceFor" not in own and "getChildWithDefault" not in own

    @property
    def isLogging(self) -> bool:
        """Whether anything comes of L{log}."""
        return self.accessLog is not None or self.logPath is not None or self._hasOwnLog or "log" in self.__dict__


def siteFor(
    root: resource.IResource | resource.Resource, reactor: Any, takesBodies: bool = False, **arguments: Any
) -> FastSite:
    """
    Return a site of ours for a server.

    @param takesBodies: whether what is beside the server does, as an application's pages may.
    @param arguments: of the site, besides.
    """
    site = FastSite(root, reactor=reactor, **arguments)
    site.takesBodies = takesBodies
    return site
