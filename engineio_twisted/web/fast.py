"""
A fast path through twisted.web for the requests that polling is made of.

A request that comes whole, is for a server of ours and has nothing rare about it is read in one pass, and becomes a
L{FastExchange}. Every other one goes the way of twisted.web. docs/architecture/fast-paths.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES, OK, RESPONSES, datetimeToString
from zope.interface import implementer

from ..ends import attempt
from ..interfaces import IEngineServer, IExchange, IRequestWatcher
from .answers import AnswerHeaders, linesOf
from .channel import Channel
from .connections import handOver, writeAtOnce
from .exchange import RequestExchange
from .group import ConnectionGroup
from .heads import CACHED_HEADERS, HEADERS, REQUEST_LINE, RequestHead, headersOf
from .requests import EngineIORequest
from .resource import CapturedPath, follow
from .site import Site

if TYPE_CHECKING:
    from twisted.web import resource


class _Present:
    """What is the same in all responses of one second."""

    _second = 0
    _date = b""
    _beginning = b""

    def date(self) -> bytes:
        """Return the value of the header Date."""
        if int(time()) != self._second:
            self._begin()
        return self._date

    def beginning(self, status: int) -> bytes:
        """Return the beginning of a response: the status, and the headers that all have."""
        if int(time()) != self._second:
            self._begin()
        return self._beginning if status == OK else self._beginningOf(status)

    def _begin(self) -> None:
        self._second = int(time())
        self._date = datetimeToString(self._second)
        self._beginning = self._beginningOf(OK)

    def _beginningOf(self, status: int) -> bytes:
        reason = RESPONSES.get(status, b"Unknown Status")
        return b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n" % (status, reason, server.version, self._date)


_present = _Present()


_TAKEN_OVER = 101


@implementer(IExchange)
class FastExchange:
    """
    A request that came whole, and its response.

    A request of twisted.web is made of it when an application asks for one. The connection then serves that in its
    place, and the response goes through it.

    @param channel: on which it came.
    @param method: its method.
    @param uri: its address.
    @param head: its headers.
    @param body: its body.
    """

    __slots__ = (
        "__weakref__",
        "_added",
        "_body",
        "_client",
        "_head",
        "_headers",
        "_host",
        "_known",
        "_length",
        "_made",
        "_method",
        "_set",
        "_site",
        "_status",
        "_uri",
        "_watcher",
        "channel",
        "connection",
        "isWaiting",
        "openedId",
    )

    # What its channel asks of each request.
    sentLength = 0
    isStream = False

    def __init__(self, channel: FastChannel, method: bytes, uri: bytes, head: RequestHead, body: bytes) -> None:
        self.channel: FastChannel | None = channel
        self.connection = channel.transport
        self._method = method
        self._uri = uri
        self.isWaiting = False
        self.openedId: str | None = None
        self._site = channel.site
        # Not when it is asked for: a connection that is lost doesn't know any more.
        self._host = channel.localAddress
        self._head = head.whole
        self._known: Mapping[bytes, Sequence[bytes]] | None = head.known
        self._body = body
        self._client: Any = None
        self._watcher: IRequestWatcher | None = None
        # Around the request that was made of this.
        self._made: RequestExchange | None = None
        # Headers that were set before the response was given, and those that were added to it.
        self._set: dict[str, str] | None = None
        self._added: list[tuple[str, str]] | None = None
        # Of the response, once it is given; its headers until it is written.
        self._status = 0
        self._headers: Mapping[str, str] | None = None
        self._length = 0

    # The request of twisted.web

    @property
    def request(self) -> Any:
        if self._made is None:
            self._made = RequestExchange(self._make())
        return self._made.request

    def _make(self) -> EngineIORequest:
        channel = self.channel
        request = EngineIORequest(channel or _Gone(self.connection, self._host, self._site))
        request.cameWhole(self._method, self._uri, self._head, self._body)
        request.setHeader(b"Server", server.version)
        request.setHeader(b"Date", _present.date())
        if self._client is not None:
            RequestExchange(request).client = self._client
        if channel is None:
            request.wasServed(self._status, self._length)
            return request
        self._copyResponse(request)
        request.startedWriting = int(self._status == _TAKEN_OVER)
        request.isWaiting = self.isWaiting
        channel.requests[channel.requests.index(self)] = request
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            request.notifyFinish().addErrback(lambda _: watcher.requestLost(self))
        # That has them from here on.
        self._body = b""
        return request

    def _copyResponse(self, request: EngineIORequest) -> None:
        for name, value in (self._set or {}).items():
            request.setHeader(name, value)
        if self._headers is not None:
            request.setResponseCode(self._status)
            for name, value in self._headers.items():
                request.setHeader(name, value)
            request.setHeader("Content-Length", str(self._length))
        for name, value in self._added or ():
            request.responseHeaders.addRawHeader(name, value)

    # What is asked of the request

    @property
    def method(self) -> bytes:
        return self._method if self._made is None else self._made.method

    @property
    def uri(self) -> bytes:
        return self._uri if self._made is None else self._made.uri

    @property
    def isAnswered(self) -> bool:
        if self._made is not None:
            return self._made.isAnswered
        return self.channel is None or self._status == _TAKEN_OVER

    @property
    def client(self) -> Any:
        return self._client if self._made is None else self._made.client

    @client.setter
    def client(self, client: Any) -> None:
        if self._made is None:
            self._client = client
        else:
            self._made.client = client

    def headerValues(self, name: bytes) -> Sequence[bytes]:
        if self._made is not None:
            return self._made.headerValues(name)
        if self._known is not None and name in CACHED_HEADERS:
            return self._known.get(name, ())
        return headersOf(self._head).get(name, ())

    def allHeaderValues(self) -> Mapping[bytes, Sequence[bytes]]:
        return headersOf(self._head) if self._made is None else self._made.allHeaderValues()

    def bodyUpTo(self, size: int) -> bytes:
        return self._body[:size] if self._made is None else self._made.bodyUpTo(size)

    def getClientAddress(self) -> Any:
        # Not made to stay: each session keeps its first request.
        return self.connection.getPeer() if self._made is None else self._made.getClientAddress()

    def isSecure(self) -> bool:
        return ISSLTransport.providedBy(self.connection) if self._made is None else self._made.isSecure()

    # The response

    def setHeader(self, name: str, value: str) -> None:
        if self._made is not None:
            self._made.setHeader(name, value)
        elif self._set is None:
            self._set = {name: value}
        else:
            self._set[name] = value

    def addHeader(self, name: str, value: str) -> None:
        if self._made is not None:
            self._made.addHeader(name, value)
        else:
            self._added = [*(self._added or ()), (name, value)]

    def removeHeader(self, name: str) -> None:
        if self._made is not None:
            self._made.removeHeader(name)
        else:
            self._set = {each: value for each, value in (self._set or {}).items() if each != name} or None
            self._added = [each for each in self._added or () if each[0] != name] or None

    def joinCookies(self) -> None:
        if self._made is not None:
            self._made.joinCookies()

    def responseHeaders(self) -> Iterable[tuple[bytes, Sequence[bytes]]]:
        if self._made is not None:
            return self._made.responseHeaders()
        headers: dict[bytes, list[bytes]] = {b"Server": [server.version], b"Date": [_present.date()]}
        for name, value in [*(self._set or {}).items(), *(self._added or ())]:
            headers.setdefault(name.encode(), []).append(value.encode())
        return headers.items()

    def respond(self, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]) -> bool:
        if self._made is None and status in NO_BODY_CODES:
            # That is twisted.web's to see to.
            self._made = RequestExchange(self._make())
        if self._made is not None:
            return self._made.respond(status, headers, body, lambda _: announce(self))
        channel = self.channel
        if channel is None:
            # The client has gone.
            return True
        self._status, self._headers, self._length = status, headers, len(body)
        announce(self)
        if self._made is not None:
            self.request.write(body)
            self.request.finish()
            return False
        if self._set is not None:
            headers = {**self._set, **headers}
        lines = headers.lines if type(headers) is AnswerHeaders else linesOf(headers.items())
        added = b"" if self._added is None else linesOf(self._added)
        beginning = _present.beginning(status)
        response = b"%b%bContent-Length: %d\r\n%b\r\n%b" % (beginning, lines, len(body), added, body)
        isTaken = writeAtOnce(self.connection, response)
        if self._site.isLogging:
            # The line is about a request of twisted.web, which has been answered but for its end.
            request = self.request
            request.startedWriting, request.sentLength = 1, len(body)
            request.finish()
        else:
            self._ended()
            channel.requestDone(self)
        return isTaken

    def _ended(self) -> None:
        # What is kept as long as its session, if it opened one, is to be little.
        self.channel = self._watcher = self._set = self._added = self._headers = None
        self._body = b""

    def watch(self, watcher: IRequestWatcher, isWaiting: bool = False) -> None:
        if isWaiting:
            self.isWaiting = True
        if self._watcher is None and self._made is None:
            self._watcher = watcher
        else:
            self.request.isWaiting = self.isWaiting
            self.request.notifyFinish().addErrback(lambda _: watcher.requestLost(self))

    def takeOver(self, protocol: Any) -> bytes:
        if self._made is not None:
            return self._made.takeOver(protocol)
        channel = self.channel
        self._status = _TAKEN_OVER
        return handOver(channel, protocol)

    def accepted(self) -> None:
        if self._made is not None:
            self._made.accepted()
            return
        self._ended()
        if self._site.isLogging:
            self._site.log(self.request)

    def drop(self) -> None:
        # Otherwise its response wasn't begun.
        if self._made is not None:
            self._made.drop()

    def keepLittle(self) -> None:
        # They are in the head too.
        self._known = None
        if self._made is not None:
            self._made.keepLittle()
            # It has them.
            self._head = b""
            if self._made.isAnswered:
                self._ended()

    # What its channel calls

    def connectionLost(self, reason: Failure) -> None:
        """Called when the connection is lost before this is answered."""
        watcher = self._watcher
        self._ended()
        if watcher is not None:
            attempt(watcher.requestLost, self)


class _Gone:
    """The channel of a request that is made when it was answered, or its connection is lost."""

    def __init__(self, transport: Any, host: Any, site: Any) -> None:
        self.transport = transport
        self.site = site
        self._host = host

    def getPeer(self) -> Any:
        """Return the address of the other end."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Return the address of this end."""
        return self._host


class FastChannel(Channel):
    """
    A connection that reads a request in one pass where it can, and leaves the others to L{Channel}.

    It rests on what L{twisted.web.http.HTTPChannel} and L{twisted.protocols.basic.LineReceiver} keep to themselves.
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
        if len(body) > server.opts.maxHttpBufferSize:
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
        # Whoever looked at the request may have stopped it.
        if self.group is None or not self.group.isReading(self.transport):
            self._networkProducer.resumeProducing()
        self._handlingRequest = False
        self.line_mode = 1
        if self._savedTimeOut:
            self.setTimeout(self._savedTimeOut)


class FastSite(Site):
    """
    A L{Site} that takes the shorter way for the requests that it can. What is served is the same.

    If the reactor can watch files, it watches the connections of a site as if they were one.
    """

    protocol = FastChannel

    def __init__(self, root: resource.IResource, requestFactory: Any = None, **options: Any) -> None:
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


def siteFor(root: resource.IResource, reactor: Any, takesBodies: bool = False, **arguments: Any) -> FastSite:
    """
    Return a site of ours for a server.

    @param takesBodies: whether what is beside the server does, as an application's pages may.
    @param arguments: of the site, besides.
    """
    site = FastSite(root, reactor=reactor, **arguments)
    site.takesBodies = takesBodies
    return site
