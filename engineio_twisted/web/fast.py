"""
A shorter way through twisted.web for the requests that polling is made of.

A request that comes whole, is for a server of ours and has nothing rare about it is read in one pass, and becomes a
L{FastRequest}, which makes what a request of twisted.web has only for those who ask for it. Every other one goes the
way of twisted.web. docs/architecture/fast-paths.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES, OK, RESPONSES, datetimeToString
from twisted.web.http_headers import Headers

from ..ends import attempt
from ..interfaces import IEngineServer
from .answers import KNOWN_HEADERS, AnswerHeaders, Watcher, writtenHeaders
from .attributes import Lazily
from .channel import LONGEST_NAME, Channel, isHost
from .connections import writeAtOnce
from .group import ConnectionGroup
from .request_headers import RequestHeaders, linesOf, prefixOf, valuesOf
from .requests import EngineIORequest
from .resource import CapturedPath
from .site import Site

if TYPE_CHECKING:
    from twisted.web import resource

_REQUEST_LINE = re.compile(rb"(GET|POST) ([!-~]++) HTTP/1\.1\r\n")
"""The first line of a request (RFC 9112, 3), of those that are taken: its method and address."""

_HEADERS = re.compile(rb"(?:[!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,%d}+:[^\x00\r\n]*+\r\n)*+\r\n" % LONGEST_NAME)
"""The headers of a request (RFC 9112, 5), and the empty line behind them."""

_MANY_DIGITS = 16
"""Of so many a Content-Length is not that of a request that came whole."""


_KNOWN = [(name, prefixOf(name)) for name in KNOWN_HEADERS]
_CONTENT_LENGTH, _CONNECTION, _UPGRADE, _TRANSFER_ENCODING, _EXPECT, _HOST = map(
    prefixOf, (b"content-length", b"connection", b"upgrade", b"transfer-encoding", b"expect", b"host")
)

LARGEST_KEPT = 2048
"""Bytes of a head that a connection keeps for its next request, which mostly has the same."""


class RequestHead:
    """
    The headers of a request, and what is asked of them with each one.

    Those that come on one connection are mostly the same: what was found out about one head serves the next too.

    @param whole: the lines, each with its end, and the empty one behind them.
    @ivar known: the values of L{KNOWN_HEADERS}, by name.
    @ivar mayTake: whether a request with these headers can be one that L{FastChannel} takes.
    @ivar length: the length of the body; None without one.
    @ivar asksForUpgrade: whether there is the header Upgrade.
    """

    __slots__ = ("asksForUpgrade", "known", "length", "mayTake", "whole")

    def __init__(self, whole: bytes, maxHeaders: int) -> None:
        self.whole = whole
        lines = linesOf(whole)
        # Requests share it.
        self.known: Mapping[bytes, Sequence[bytes]] = MappingProxyType(
            {name: tuple(valuesOf(whole, lines, prefix)) for name, prefix in _KNOWN}
        )
        lengths = valuesOf(whole, lines, _CONTENT_LENGTH)
        connection = valuesOf(whole, lines, _CONNECTION)
        hosts = valuesOf(whole, lines, _HOST)
        # Python refuses to read numbers of thousands of digits.
        isLength = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < _MANY_DIGITS
        self.length = int(lengths[0]) if isLength else None
        self.asksForUpgrade = _UPGRADE in lines
        self.mayTake = (
            _TRANSFER_ENCODING not in lines
            and _EXPECT not in lines
            and len(connection) < 2
            and (not connection or b"close" not in connection[0].lower())
            and (isLength or not lengths)
            and len(hosts) == 1
            and isHost(hosts[0])
            # Two line feeds are those before the first line and of the empty one.
            and lines.count(b"\n") <= maxHeaders + 2
        )

    @property
    def mayBeKept(self) -> bool:
        """Whether a connection may keep it: it takes little more memory than what was sent."""
        return len(self.whole) <= LARGEST_KEPT and max(map(len, self.known.values())) < 2


class _Present:
    """What the present second brings to answers, made once a second."""

    _second = 0
    _date = b""
    _beginning = b""

    def date(self) -> bytes:
        """Return the value of the header Date."""
        if int(time()) != self._second:
            self._begin()
        return self._date

    def beginning(self, status: int, reason: bytes) -> bytes:
        """Return the beginning of an answer: the status, and the headers that all have."""
        if int(time()) != self._second:
            self._begin()
        return self._beginning if status == OK else self._beginningOf(status, reason)

    def _begin(self) -> None:
        self._second = int(time())
        self._date = datetimeToString(self._second)
        self._beginning = self._beginningOf(OK, RESPONSES[OK])

    def _beginningOf(self, status: int, reason: bytes) -> bytes:
        return b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n" % (status, reason, server.version, self._date)


_present = _Present()


class FastRequest(EngineIORequest):
    """
    A request that came whole. What few ask for is made when they do.

    @param head: its headers.
    """

    site: Any
    transport: Any
    clientproto = b"HTTP/1.1"
    queued = False
    _parsePOSTFormSubmission = False
    # The headers of the answer, and the length of its body.
    _answer: Mapping[str, str] = MappingProxyType({})
    _length: int | None = None
    _watcher: Watcher | None = None
    _requestHeaders: Headers | None = None
    # How much of its path was followed to get to the server.
    _depth = 1
    _responseHeaders: Headers | None = None
    _content: Any = None
    _client: Any = None
    addedCookies: list[bytes] | None = None
    # Whether the system has all of the answer.
    isTaken = False
    # Whether its end is nobody's business.
    _isSimple = True
    # What an application has put in the place of our own.
    _isWatched = False
    _write: Any = None
    _finish: Any = None

    def __init__(
        self,
        channel: FastChannel,
        method: bytes,
        uri: bytes,
        head: RequestHead,
        body: bytes,
    ) -> None:
        self.channel = channel
        self.transport = channel.transport
        self.site = channel.site
        # Not when it is asked for: a connection that is lost doesn't know any more.
        self.host = channel.localAddress
        self.method, self.uri = method, uri
        # An application may change the other before anything is made of it.
        self._target = uri
        self._head = head.whole
        self.knownHeaders: Mapping[bytes, Sequence[bytes]] | None = head.known
        self._body = body

    # What the bases set on each request

    sitepath = Lazily(lambda _: [])
    _adapterCache = Lazily(lambda _: {})

    @property
    def client(self) -> Any:
        """The address of the connection's other end, which an application may replace."""
        if self._client is None:
            self._client = self.transport.getPeer()
        return self._client

    @client.setter
    def client(self, client: Any) -> None:
        self._client = client

    def getClientAddress(self) -> Any:
        """Return the address of the connection's other end."""
        # Not made to stay: each session keeps its first request.
        return self._client or self.transport.getPeer()

    @property
    def content(self) -> Any:
        """The body; None once the request is answered, or has opened a session."""
        if self._content is None and not self.finished and not self._isKept:
            self.content = BytesIO(self._body)
        return self._content

    @content.setter
    def content(self, content: Any) -> None:
        self._isSimple = False
        self._content = content

    @content.deleter
    def content(self) -> None:
        self._content = None

    @Lazily
    def notifications(self) -> list[Any]:
        """Who wants to know of the end of the request."""
        self._isSimple = False
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return []
        # Who asked first is told first.
        first: Deferred[None] = Deferred()
        first.addErrback(lambda _: watcher.requestLost(self))
        return [first]

    @property
    def write(self) -> Any:
        """What writes a piece of the answer, which an application may replace."""
        return self._write or super().write

    @write.setter
    def write(self, write: Any) -> None:
        self._isWatched = True
        self._write = write

    @write.deleter
    def write(self) -> None:
        self._write = None

    @property
    def finish(self) -> Any:
        """What ends the answer, which an application may replace."""
        return self._finish or super().finish

    @finish.setter
    def finish(self, finish: Any) -> None:
        self._isWatched = True
        self._finish = finish

    @finish.deleter
    def finish(self) -> None:
        self._finish = None

    @property
    def cookies(self) -> list[bytes]:
        """The cookies that the answer sets."""
        if self.addedCookies is None:
            self.addedCookies = []
        return self.addedCookies

    @cookies.setter
    def cookies(self, cookies: list[bytes]) -> None:
        self.addedCookies = cookies

    @property
    def responseHeaders(self) -> Headers:
        """The headers of the answer."""
        if self._responseHeaders is None:
            self._responseHeaders = Headers()
            self._responseHeaders.setRawHeaders(b"Server", [server.version])
            self._responseHeaders.setRawHeaders(b"Date", [_present.date()])
            self._addAnswer(self._responseHeaders)
        return self._responseHeaders

    @responseHeaders.setter
    def responseHeaders(self, headers: Headers) -> None:
        self._responseHeaders = headers

    def _addAnswer(self, headers: Headers) -> None:
        for name, value in self._answer.items():
            headers.setRawHeaders(name, [value])
        if self._length is not None:
            headers.setRawHeaders(b"Content-Length", [b"%d" % self._length])

    @property
    def requestHeaders(self) -> Headers:
        """The headers that came."""
        if self._requestHeaders is None:
            # From here on they may be changed.
            self.knownHeaders = None
            self._requestHeaders = RequestHeaders(self._head)
            self._head = b""
        return self._requestHeaders

    @requestHeaders.setter
    def requestHeaders(self, headers: Headers) -> None:
        self.knownHeaders = None
        self._requestHeaders = headers

    # The answer

    def respond(self, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]) -> bool:
        """
        Answer in one piece, with the headers given, those set before, and the length of the body.

        @param announce: called before that.
        @return: whether that could be done; if not, nothing was.
        """
        if self._disconnected or self._isWatched or status in NO_BODY_CODES:
            return False
        if type(headers) is not AnswerHeaders:
            headers = AnswerHeaders(headers)
        self._answer = headers
        self._length = length = len(body)
        if status != self.code:
            self.code, self.code_message = status, RESPONSES.get(status, b"Unknown Status")
        if self._responseHeaders is not None:
            self._addAnswer(self._responseHeaders)
        announce(self)
        if self.etag is not None or self.lastModified is not None or self.addedCookies or self._isChanged():
            # That is the base's to see to.
            self.write(body)
            self.finish()
            return True
        self.startedWriting = 1
        self.sentLength = length
        if self._responseHeaders is None:
            beginning = _present.beginning(status, self.code_message)
            answer = b"%b%bContent-Length: %d\r\n\r\n%b" % (beginning, headers.lines, length, body)
        else:
            # Somebody looked at them, and may have changed them.
            beginning = b"HTTP/1.1 %d %b\r\n" % (self.code, self.code_message)
            answer = b"%b%b\r\n%b" % (beginning, writtenHeaders(self._responseHeaders), body)
        self.isTaken = writeAtOnce(self.transport, answer)
        self.site.log(self)
        self.finished = 1
        self._cleanup()
        return True

    def _isChanged(self) -> bool:
        """Tell whether somebody has begun to answer, or has taken the length from the headers."""
        headers = self._responseHeaders
        return bool(self.startedWriting) or (headers is not None and not headers.hasHeader(b"content-length"))

    def bodyUpTo(self, size: int) -> bytes:
        """Return so much of the body, from its beginning."""
        if self._content is None:
            return self._body[:size]
        # A middleware may have read it, or replaced it.
        self._content.seek(0)
        body: bytes = self._content.read(size)
        return body

    def _cleanup(self) -> None:
        # What is kept as long as its session, if it opened one, is to be little.
        self._body = b""
        self._watcher = None
        if self._isSimple and self.producer is None:
            self.channel.requestDone(self)
            del self.channel
            self._forgetAnswer()
        else:
            super()._cleanup()

    def _forgetAnswer(self) -> None:
        if self._responseHeaders is not None:
            super()._forgetAnswer()

    def keepLittle(self) -> None:
        # They are in the headers too.
        self.knownHeaders = None
        # Nearly always nothing was made of what came.
        isAsItCame = self._requestHeaders is None and self._made is None and self._content is None
        if not (isAsItCame and self.finished and self._responseHeaders is None):
            super().keepLittle()

    # Losing the connection

    def watchedBy(self, watcher: Watcher) -> None:
        """Have somebody told where the connection is lost before this is answered."""
        if self._isSimple:
            self._watcher = watcher
        else:
            self.notifyFinish().addErrback(lambda _: watcher.requestLost(self))

    def connectionLost(self, reason: Failure) -> None:
        watcher, self._watcher = self._watcher, None
        super().connectionLost(reason)
        if watcher is not None:
            attempt(watcher.requestLost, self)


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

    def _requestOf(self, data: bytes) -> tuple[FastRequest, CapturedPath, bool] | None:
        """Return the request that came, where it goes, and whether it has Upgrade, if it is one to be served here."""
        match = _REQUEST_LINE.match(data)
        if match is None:
            return None
        head, begin = self._head, match.end()
        if head is None or not data.startswith(head.whole, begin):
            headers = _HEADERS.match(data, begin)
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
        while type(root) is CapturedPath and not root.captures(path):
            root = root.rest
        if type(root) is not CapturedPath:
            return None
        if self.localAddress is None:
            self.localAddress = self.transport.getHost()
            # From here on a head that comes whole is none that is awaited.
            self._headCame()
        request = FastRequest(self, method, uri, head, body)
        if method == b"POST" and not self._mayBePushed(root.engineServer, request):
            return None
        return request, root, head.asksForUpgrade

    def _mayBePushed(self, server: IEngineServer, request: FastRequest) -> bool:
        """Tell whether there is nothing to find out about a body by those who count it as it comes."""
        if len(request._body) > server.opts.maxHttpBufferSize:
            return False
        if not len(server.reading):
            return True
        # One of the same session may be among those that are being read.
        target = server.pushTarget(request, request.method, request.uri)
        return target is None or not target.isReading

    def _serve(self, request: FastRequest, root: CapturedPath, asksForUpgrade: bool) -> None:
        if self._unread is not None:
            self._nextBegins()
        self.requests.append(request)
        self._handlingRequest = True
        # As the base does: what comes behind is kept until this is answered.
        self.line_mode = 0
        if self.timeOut:
            self._savedTimeOut, self.timeOut = self.timeOut, None
        try:
            if asksForUpgrade:
                root.render(request)
            else:
                root.engineServer.handleRequest(request)
        except BaseException:
            request.processingFailed(Failure())

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
            if self._idleCall is None:
                # It was due while this was being answered.
                self.setTimeout(self._savedTimeOut)
            else:
                # What that does.
                self.timeOut = self._savedTimeOut
                self._idleCall.reset(self.timeOut)


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

    @property
    def isPlain(self) -> bool:
        """Whether nothing but the paths captured decides where a request goes."""
        own = self.__dict__
        return self._isPlainClass and "getResourceFor" not in own and "getChildWithDefault" not in own


def siteFor(root: resource.IResource, reactor: Any, takesBodies: bool = False, **arguments: Any) -> FastSite:
    """
    Return a site of ours for a server.

    @param takesBodies: whether what is beside the server does, as an application's pages may.
    @param arguments: of the site, besides.
    """
    site = FastSite(root, reactor=reactor, **arguments)
    site.takesBodies = takesBodies
    return site
