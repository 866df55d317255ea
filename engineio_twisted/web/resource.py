"""
The way in through twisted.web: a resource, the capture of a path on a site, and a site that reads bodies with care.

twisted.web stores the whole body of a POST before it asks a resource. On our L{Site}, and on any site that
L{Server.attach} may give L{EngineIORequest}, the body is counted as it comes instead, and a POST on a session that
reads one already is refused as soon as its headers are there (docs/architecture.md, "Bodies are counted as they come").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.web import resource, server
from twisted.web.http import RESPONSES, HTTPChannel, Request, combinedLogFormatter, datetimeToLogString, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAccessLogFormatter
from zope.interface import implementer, provider

from ..clock import AfterReading, cancel, steadyClock
from ..ends import CLOSE_TIMEOUT, Connections, attempt
from ..logs import LogThrottle, ThrottledLogger, beginningOfId
from ..protocol.errors import BodyTimeout, HeadRefused, HTTPRefusal, PayloadTooLarge
from ..protocol.handshake import asksForWebSocket
from ..protocol.options import ServerOptions
from ..turns import TURN, inLaterTurn
from .attributes import Derived
from .connections import UNREAD_TIMEOUT, UnreadDeadline, forgetUnsent, isStream, unread
from .request_headers import RequestHeaders
from .streams import Stream

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..observer import Counters
    from ..transports.polling import PollingTransport, UnreadAnswer
    from .access_log import AccessLog
    from .group import ConnectionGroup

_OPTIONS: dict[str, Any] = attrs.fields_dict(ServerOptions)

PROGRESS_TIMEOUT = 30.0
"""Seconds in which the answer to a client that has closed its side of the connection has to go on."""

LINGER_TIME = 2.0
"""
Seconds to go on reading, and dropping, a body that was refused before its end.

Closing at once would make the client's system discard the answer, as it finds the connection reset under it.
"""


LONGEST_NAME = 256
"""Bytes of a header's name; a request with a longer one is refused as one whose head is too large."""

MANY_PIECES = 64
"""Of so many pieces of what came behind a request one is made: each takes some forty bytes more than what is in it."""


class Engine(Protocol):
    """A server, as far as it matters here."""

    opts: ServerOptions
    reading: Connections[EngineIORequest]
    counters: Counters

    def handleRequest(self, request: server.Request) -> None:
        """Answer a plain request, now or later."""
        ...

    def handleUpgrade(self, request: server.Request) -> None:
        """Answer a request for a WebSocket, now or later."""
        ...

    async def announceEarlyHeaders(self, request: server.Request) -> None:
        """Add what belongs to the headers of an answer that is given before the request is complete."""
        ...

    def pushTarget(self, request: server.Request, method: bytes, uri: bytes) -> PollingTransport | None:
        """Return the transport to which a request with a body would deliver it, if there is one."""
        ...


def isUpgrade(request: server.Request) -> bool:
    """Tell whether a request asks for a WebSocket."""
    headers = request.requestHeaders
    upgrade = headers.getRawHeaders(b"upgrade")
    if upgrade is None or request.clientproto == b"HTTP/1.0":
        return False
    return asksForWebSocket(upgrade, headers.getRawHeaders(b"connection", ()))


class EngineIOResource(resource.Resource):
    """
    Engine.IO as a resource: C{root.putChild(b"engine.io", EngineIOResource(server))}.

    It serves the path it is put at with and without a slash at its end, and everything below.

    @param engine: the L{Server} that opens and holds the sessions.
    """

    isLeaf = True

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def render(self, request: server.Request) -> int:
        """Hand a request to the server, which answers it now or later."""
        if isUpgrade(request):
            self.engine.handleUpgrade(request)
        else:
            self.engine.handleRequest(request)
        return server.NOT_DONE_YET


class CapturedPath(resource.Resource):
    """
    The root of a site on which a server was attached: one path is the server's, the rest is what the site had.

    @param engine: the server.
    @param path: the path, without a slash at its end.
    @param below: whether what is below the path is the server's too.
    @param rest: the resource that was the site's root before.
    @param foreignUpgrade: called with each request for a WebSocket that no server attached is going to get.
    """

    def __init__(
        self,
        engine: Engine,
        path: str,
        below: bool,
        rest: resource.IResource,
        foreignUpgrade: Callable[[server.Request], None],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.rest = rest
        self._path = path.encode("ascii")
        self._exactly = {self._path, self._path + b"/"}
        self._below = below
        self._foreignUpgrade = foreignUpgrade
        self._engineIO = EngineIOResource(engine)

    def render(self, request: server.Request) -> int:
        """Hand a request for the path to the server."""
        return self._engineIO.render(request)

    def captures(self, path: bytes) -> bool:
        """Tell whether a path is the server's."""
        return path in self._exactly or (self._below and path.startswith(self._path + b"/"))

    def getChildWithDefault(self, name: bytes, request: server.Request) -> resource.IResource:
        if self.captures(request.path):
            return self._engineIO
        if isUpgrade(request) and not isinstance(self.rest, CapturedPath):
            self._foreignUpgrade(request)
        if self.rest.isLeaf:
            # It is to see the whole path, as if it were asked itself.
            path: Any = request
            path.prepath.pop()
            path.postpath.insert(0, name)
            return self.rest
        child: resource.IResource = self.rest.getChildWithDefault(name, request)
        return child

    def putChild(self, path: bytes, child: resource.IResource) -> None:
        """Add a resource to what the site had."""
        self.rest.putChild(path, child)


def serverAt(root: object, path: bytes) -> Engine | None:
    """
    Return the server that will get the requests for a path, where that can be told without asking any resource.

    Only captured paths and resources that were put are followed; those that a resource would make on demand aren't.
    """
    segments = [unquote_to_bytes(each) for each in path.split(b"/")[1:]]
    while True:
        if isinstance(root, EngineIOResource):
            return root.engine
        if isinstance(root, CapturedPath):
            if root.captures(path):
                return root.engine
            root = root.rest
        elif isinstance(root, resource.Resource) and segments:
            root = root.children.get(segments.pop(0))
        else:
            return None


class _WithoutBody:
    """A resource that answers HEAD: as it does otherwise, with the length of the body in place of the body."""

    def __init__(self, resource: resource.IResource) -> None:
        self._resource = resource

    def render(self, request: server.Request) -> int | bytes:
        """Answer."""
        body: int | bytes = self._resource.render(request)
        if isinstance(body, bytes) and body:
            request.setHeader(b"Content-Length", b"%d" % len(body))
            return b""
        return body


class _MadeOfHead:
    """
    An attribute of an L{EngineIORequest} that is made of what came, when it is first asked for.

    @param make: makes it, of the request.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, request: Any, owner: type[Any]) -> Any:
        if request is None:
            return self
        if request._made is None:
            request._made = {}
        if self._name not in request._made:
            request._made[self._name] = self._make(request)
        return request._made[self._name]

    def __set__(self, request: Any, value: Any) -> None:
        if request._made is None:
            request._made = {}
        request._made[self._name] = value


def _cookiesOf(headers: Headers) -> dict[bytes, bytes]:
    """Return the cookies of a request, by name, as twisted.web reads them."""
    pairs = [
        each.lstrip().partition(b"=") for value in headers.getRawHeaders(b"cookie", ()) for each in value.split(b";")
    ]
    return {name: value for name, equals, value in pairs if equals}


class EngineIORequest(server.Request):
    """
    A request whose body, where it is for a server of ours, is counted as it comes and has a deadline.

    For what is beside the servers of a L{Site} hold C{maxBodySize} and C{httpRequestBodyTimeout}
    of that.

    The channel calls it with the headers complete, with each piece of the body, and when the connection is lost. A
    stream of HTTP/2 calls it with the length while the headers are still being added to it.

    @ivar received: how many bytes of a body for a server have come.
    """

    # What twisted.web says of a request, such as one by HEAD, which any client can send.
    _log = ThrottledLogger()
    _ownLog = Logger()
    _engine: Engine | None = None
    _limit: int | None = None
    _polling: PollingTransport | None = None
    channel: Any
    received = 0
    _refused = False
    # Whether it is a GET that waits until there is something to send.
    isWaiting = False
    _isComplete = False
    _isRefusalWritten = False
    _deciding: Deferred[None] | None = None
    _timer: IDelayedCall | None = None
    # Begins with the body; of a stream, which may still come to nothing while its headers are read, a little later.
    _start: Callable[[], None] | None = None
    _awaitsStart = False

    # The address that came, and how many segments of its path led to the server.
    _target: bytes | None = None
    _depth = 0
    # What was made of the head, by name.
    _made: dict[str, Any] | None = None
    # Whether a session keeps this, which isn't answered yet.
    _isKept = False

    def __init__(self, channel: Any, *args: Any, **keywords: Any) -> None:
        super().__init__(Stream(channel) if isStream(channel) else channel, *args, **keywords)
        self.requestHeaders = RequestHeaders()
        # Cookies, of which there are none yet.
        self._made = None

    # What is made of the head when it is asked for: most of it never is, and it takes several times the memory

    path: Any = Derived(lambda self: self._target and self._target.partition(b"?")[0])
    args: Any = _MadeOfHead(lambda self: self._target and parse_qs(self._target.partition(b"?")[2], True))
    prepath: Any = _MadeOfHead(lambda self: self._segments()[: self._depth])
    postpath: Any = _MadeOfHead(lambda self: self._segments()[self._depth :])
    received_cookies: Any = _MadeOfHead(lambda self: _cookiesOf(self.requestHeaders))

    def _segments(self) -> list[bytes]:
        path = (self._target or b"").partition(b"?")[0]
        return [unquote_to_bytes(each) for each in path[1:].split(b"/")]

    def parseCookies(self) -> None:
        """Forget the cookies: they are read from the headers when they are asked for."""
        if self._made is not None:
            self._made.pop("received_cookies", None)
        if isStream(self.channel) and self.channel.isReset:
            # Twisted answers with "100 Continue" next, which fails on a closed stream and drops the connection.
            self.requestHeaders.removeHeader(b"expect")

    def keepLittle(self) -> None:
        """
        Keep no more of what came than its bytes, as a session that this has opened keeps it as long as it lives.

        What was made of them is made again when it is asked for. What an application has changed stays.
        """
        self._isKept = not self.finished
        if isinstance(self.requestHeaders, RequestHeaders):
            self.requestHeaders.pack()
        made, self._made = self._made, None
        if made:
            self._depth = len(made.get("prepath") or ()) or self._depth
            changed = {name: value for name, value in made.items() if value != getattr(self, name)}
            self._made = changed or None
        if self.content is not None:
            # Of a WebSocket nobody else does it, and what comes with a GET is for nobody.
            self.content.close()
            self.content = None
        if self.finished or self.code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._forgetAnswer()

    def _forgetAnswer(self) -> None:
        # There may be much of the request in it, such as its origin.
        self.responseHeaders = Headers()

    def _cleanup(self) -> None:
        super()._cleanup()
        if self._isKept:
            self._forgetAnswer()

    def gotLength(self, length: int | None) -> None:
        # What the request line said is known here to the channel alone.
        names = ("command", "path") if isStream(self.channel) else ("_command", "_path")
        method, uri = [getattr(self.channel, each, None) or b"" for each in names]
        # Twisted says of each GET on a stream that it has no body, which isn't known yet.
        hasBody = length != 0 or method == b"POST" or isStream(self.channel)
        site = self.channel.site
        engine = serverAt(site.resource, uri.partition(b"?")[0]) if hasBody else None
        timeout: int | None
        if engine is not None:
            self._engine = engine
            self._limit = engine.opts.maxHttpBufferSize
            timeout = engine.opts.httpRequestBodyTimeout
        elif length != 0 and isinstance(site, Site):
            self._limit = site.maxBodySize
            timeout = site.httpRequestBodyTimeout
        else:
            super().gotLength(length)
            return
        if self._limit is None:
            super().gotLength(length)
        else:
            # Never more than maxHttpBufferSize, so there is no need for a file.
            self.content = BytesIO()
        # An answer may be given, and handlers asked, before the request is complete.
        self.method = method
        self.uri = self._target = uri
        begin = partial(self._begin, method, uri, length, timeout)
        if not isStream(self.channel):
            begin()
            return
        # The length may come twice.
        self._start = begin
        if not self._awaitsStart:
            self._awaitsStart = True
            self._callLater(0, self._startLate)

    def _startLate(self) -> None:
        """Begin with a body of which nothing has come, if the stream is one that its connection knows."""
        if self._start is not None and self.channel is not None and not self.channel.isOver:
            self._start()

    def _begin(self, method: bytes, uri: bytes, length: int | None, timeout: int | None) -> None:
        """Find out for whom the body is, or refuse it. From here on there is an end that takes away what is kept."""
        self._start = None
        if timeout is not None:
            self._timer = self._callLater(timeout / 1000, self._bodyDue, timeout)
        if self._engine is not None:
            self._engine.reading.add(self)
        try:
            polling = None if self._engine is None else self._engine.pushTarget(self, method, uri)
            if polling is not None:
                polling.pushStarted(self)
                self._polling = polling
            if length is not None and self._limit is not None and length > self._limit:
                raise PayloadTooLarge(self._limit)
        except HTTPRefusal as refusal:
            self._refuse(refusal)

    def _callLater(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        call: IDelayedCall = self.channel.site.reactor.callLater(seconds, function, *args)
        return call

    @property
    def _isCut(self) -> bool:
        """Whether it came on a stream that takes no answer any more."""
        return isStream(self.channel) and self.channel.isOver

    def handleContentChunk(self, data: bytes) -> None:
        if self._isCut:
            return
        if self._start is not None:
            self._start()
        if self._refused:
            return
        if self._limit is not None:
            self.received += len(data)
            if self.received > self._limit:
                self._refuse(PayloadTooLarge(self._limit))
                return
        super().handleContentChunk(data)

    def _bodyDue(self, timeout: int) -> None:
        # What is missing may lie unread.
        self._timer = AfterReading(self.channel.site.reactor).call(self._tooSlow, timeout)

    def _tooSlow(self, timeout: int) -> None:
        if self._refused:
            # Who may read the refusal is still being decided.
            self.abort()
        else:
            self._refuse(BodyTimeout(timeout))

    def abort(self) -> None:
        """Cut the connection; of HTTP/2 the stream, which no other request has."""
        connection = self.channel if isStream(self.channel) else self.channel.transport
        connection.abortConnection()

    def _refuse(self, refusal: HTTPRefusal) -> None:
        """Answer before the body is complete. What is still to come of it is dropped, for a short time."""
        self._refused = True
        if self._engine is None:
            self.channel.site.refused(refusal, self.client)
        else:
            if self._engine.counters.throttle.allows(refusal.name):
                self._ownLog.warn(
                    "A body from {peer} was refused: {reason}",
                    peer=self.client,
                    reason=refusal.message,
                    name=refusal.name,
                )
            self._engine.counters.requestRefused(self, refusal)
        # The channel would ask for more, with "100 Continue".
        self.requestHeaders.removeHeader(b"expect")
        body = refusal.asJSON().encode()
        self.responseHeaders.setRawHeaders("Content-Type", ["application/json"])
        self.responseHeaders.setRawHeaders("Cache-Control", ["no-store"])
        self.responseHeaders.setRawHeaders("Content-Length", [str(len(body))])
        if not isStream(self.channel):
            self.responseHeaders.setRawHeaders("Connection", ["close"])
        if self._engine is None:
            self._writeRefusal(refusal.status, body)
            return
        self._deciding = Deferred.fromCoroutine(self._engine.announceEarlyHeaders(self))
        self._deciding.addErrback(self._notDecided)
        self._deciding.addCallback(lambda _: self._writeRefusal(refusal.status, body))
        if self._polling is not None:
            # Last, as a client that is told why learns more than one that reads a close packet first.
            self._polling.pushRefused(self, refusal)

    def _notDecided(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._ownLog.failure("The headers of a refusal could not be decided on", failure)

    def _writeRefusal(self, status: int, body: bytes) -> None:
        if self.channel is None:
            return
        self._isRefusalWritten = True
        self.channel.writeHeaders(b"HTTP/1.1", b"%d" % status, RESPONSES[status], self.responseHeaders)
        if self.method != b"HEAD":
            self.channel.write(body)
        cancel(self._timer)
        # Not just closed: over TLS that waits for the client to agree.
        self._timer = self._callLater(LINGER_TIME, self.abort)
        if self._isComplete:
            self._endRefused()

    def _endRefused(self) -> None:
        if isStream(self.channel):
            # It is over, and nobody says so.
            self._bodyEnded()
        # Otherwise the timer goes on, for a client that doesn't let go.
        self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._isCut:
            # Its end is about to be told.
            return
        if self._start is not None and command == b"POST":
            self._start()
        # A GET has no body after all.
        self._start = None
        if self._refused:
            self._isComplete = True
            if self._isRefusalWritten:
                self._endRefused()
            return
        self._bodyEnded()
        if self._polling is not None:
            self._polling.pushEnded(self)
        self._target = path
        if command == b"POST" and self._parsePOSTFormSubmission:
            # There may be a form in its body.
            super().requestReceived(command, path, version)
            return
        self.method, self.uri, self.clientproto = command, path, version
        content: Any = self.content
        content.seek(0)
        self.process()

    def render(self, resrc: Any) -> None:
        """Let a resource answer."""
        # twisted.web logs a line about each body that it leaves out.
        super().render(_WithoutBody(resrc) if self.method == b"HEAD" else resrc)

    def connectionLost(self, reason: Failure) -> None:
        self._bodyEnded()
        attempt(super().connectionLost, reason)
        if self._deciding is not None:
            attempt(self._deciding.cancel)
        if self._polling is not None:
            attempt(self._polling.pushLost, self)

    def _bodyEnded(self) -> None:
        cancel(self._timer)
        if self._engine is not None:
            self._engine.reading.remove(self)


_ABSOLUTE_FORM = re.compile(rb"(?i:([!-~]+) https?://([^/?#\s]*)([^\s]*) (HTTP/1\.[01]))")
"""The first line of a request whose address is whole (RFC 9112, 3.2.2): method, host, path and query, version."""

_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]|"
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)


def isHost(value: bytes) -> bool:
    """Return whether a value is one that the header Host may have (RFC 9110, 7.2): a host, with a port or without."""
    return _HOST.fullmatch(value) is not None


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """A connection of our L{Site}, which knows those that are open."""

    site: Site
    callLater: Any
    transport: Any
    _log = Logger()
    # It is no stream of HTTP/2, which is asked for each request.
    streamID = None
    # Private names of the base.
    _HTTPChannel__first_line: int
    _receivedHeaderSize: int
    _buffer: bytes
    _dataBuffer: list[bytes]
    _busyReceiving: bool
    # When requests that came at once have had their part of a turn; 0 until there are several.
    _turnEnds = 0.0
    # What watches it in the reactor's place.
    group: ConnectionGroup | None = None
    _deadline: IDelayedCall | None = None
    _isLast = False
    # The last answer, if the client hadn't read it when it was given.
    _unread: UnreadAnswer | None = None
    # The deadline of a client that doesn't read, once there was something that it hadn't.
    _unreadDeadline: UnreadDeadline | None = None
    # Whether there was something unread when the end of the connection was last looked at.
    _wasUnread = False
    _headDeadline: IDelayedCall | None = None
    timeOut: Any
    _idleCall: IDelayedCall | None = None
    # Once it was due.
    _idleReading: IDelayedCall | None = None
    # Whether there was anything to read; whether a request was refused before it was known what it wants.
    _hasRead = False
    _isRefused = False
    # Whether it is no longer HTTP.
    _isReleased = False
    # The host in the address of the request that is being read; None if the address is a path.
    _target: bytes | None = None
    _version: bytes
    # What looks whether the answer to a client that sends nothing more goes on.
    _progressCall: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        site = self.site
        site.channels.add(self)
        if self.totalHeadersSize == HTTPChannel.totalHeadersSize:
            self.totalHeadersSize = site.maxHeaderSize
        if self.MAX_LENGTH == HTTPChannel.MAX_LENGTH:
            self.MAX_LENGTH = site.maxHeaderSize
        self._awaitHead()
        if site.group is not None and site.group.adopt(self.transport):
            self.group = site.group

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Tell whether another request may come on this connection."""
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

    # The pace of the client: nothing is read from one that doesn't read, and nothing it sent behind is looked at

    def tellWhenRead(self, answer: UnreadAnswer) -> None:
        """Have an answer told when it is read, or when the connection has gone on to another request."""
        self._nextBegins()
        self._unread = answer

    def _nextBegins(self) -> None:
        if self._unread is not None:
            self._unread.isOver = True
            self._unread = None

    def requestDone(self, request: Request) -> None:
        """Learn that a request is answered."""
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
        """Learn that the client has taken what was written."""
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
        """Cut the connection, whose end can't be noticed, if the answer hasn't gone on since this was called last."""
        request = self.requests[0] if self.requests else None
        now = id(request), getattr(request, "sentLength", 0), unread(self.transport)
        if now == before:
            self.transport.abortConnection()
        else:
            self._progressCall = self.callLater(PROGRESS_TIMEOUT, self._awaitProgress, now)

    # The timeout of connections on which nothing happens: one call, that is moved and never made anew

    def setTimeout(self, period: Any) -> Any:
        """Set the seconds in which something has to happen, or None; return what they were."""
        previous, self.timeOut = self.timeOut, period
        if period is not None:
            self.resetTimeout()
            if self._idleCall is None:
                self._idleCall = self.callLater(period, self._idle)
        return previous

    def resetTimeout(self) -> None:
        """Begin the time anew."""
        if self.timeOut is None:
            return
        if self._idleCall is not None:
            self._idleCall.reset(self.timeOut)
        elif self._idleReading is not None:
            # Something came before the connection was closed.
            cancel(self._idleReading)
            self._idleReading = None
            self._idleCall = self.callLater(self.timeOut, self._idle)

    def _idle(self) -> None:
        self._idleCall = None
        if self.timeOut is not None:
            # A request may lie unread, as after a time in which the process stood still.
            self._idleReading = AfterReading(self.site.reactor).call(self._stillIdle)

    def _stillIdle(self) -> None:
        self._idleReading = None
        # Unless a request has come, and is answered or being answered.
        if self._idleCall is None and self.timeOut is not None:
            self.timeoutConnection()

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
        if self._headDeadline is None and self._isInHead():
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
        """Tell whether a request has begun whose headers aren't complete."""
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
        """Return the first line of a request with the path alone, where it has a whole address; keep the host."""
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
        """Learn that the head of a request is complete."""
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
            self._headDeadline = self.callLater(timeout / 1000, self._headDue, timeout)

    def _headCame(self) -> None:
        cancel(self._headDeadline)
        self._headDeadline = None

    def _headDue(self, timeout: int) -> None:
        # What is missing may lie unread.
        self._headDeadline = AfterReading(self.site.reactor).call(self._headTooSlow, timeout)

    def _headTooSlow(self, timeout: int) -> None:
        self._headDeadline = None
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
        body = refusal.asJSON().encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.transport.write(
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n{head}\r\n".encode() + body
        )
        if isComplete or refusal.status == HTTPStatus.REQUEST_TIMEOUT:
            self.loseConnection()
        elif self._deadline is None:
            # There is more to come, which would make the client's system discard the answer.
            self._deadline = self.callLater(LINGER_TIME, self.transport.abortConnection)

    def loseConnection(self) -> None:
        """Close the connection once all is written, and cut it if that takes too long."""
        self._headCame()
        super().loseConnection()
        if self._deadline is None:
            self._deadline = self.callLater(CLOSE_TIMEOUT, self._endIsDue)

    def _endIsDue(self) -> None:
        """Cut the connection, unless there is something that the client hasn't read, or was the last time."""
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
            self.released()
            forgetUnsent(self.transport)

    def released(self) -> None:
        """Learn that the connection is no longer HTTP: it is lost, or has become a WebSocket."""
        self._isReleased = True
        cancel(self._deadline)
        cancel(self._idleCall)
        cancel(self._idleReading)
        cancel(self._progressCall)
        self._headCame()
        if self._unreadDeadline is not None:
            self._unreadDeadline.stop()
        self.site.channels.remove(self)


@provider(IAccessLogFormatter)
def formatAccess(timestamp: str, request: Any, address: str | None = None, idPrefix: str = "") -> str:
    """
    Return a line of an access log, in the combined format; of a session id, which is a secret, the beginning.

    @param address: who sent the request, where it isn't who connected.
    @param idPrefix: what ids begin with that is no secret.
    """
    line: str = combinedLogFormatter(timestamp, _Logged(request, address, idPrefix.encode()))
    return line


class _Logged:
    """A request as it may stand in a log."""

    def __init__(self, request: Any, address: str | None, idPrefix: bytes) -> None:
        self._request = request
        self._address = address
        self._idPrefix = idPrefix

    def getClientAddress(self) -> Any:
        if self._address is None:
            return self._request.getClientAddress()
        return (IPv6Address if ":" in self._address else IPv4Address)("TCP", self._address, 0)

    @property
    def uri(self) -> bytes:
        return self._withoutIds(self._request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        value: bytes | None = self._request.getHeader(name)
        return self._withoutIds(value) if name == b"referer" and value is not None else value

    def _withoutIds(self, address: bytes) -> bytes:
        path, mark, query = address.partition(b"?")
        return bytes(path + mark + b"&".join([self._shortened(each) for each in query.split(b"&")]))

    def _shortened(self, parameter: bytes) -> bytes:
        name, mark, value = parameter.partition(b"=")
        if unquote_to_bytes(name.replace(b"+", b" ")) != b"sid" or not value:
            return parameter
        return name + mark + beginningOfId(value, self._idPrefix) + b"..."

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def _largest(limits: Sequence[int | None]) -> int | None:
    """Return the largest of some limits; None is none."""
    return None if None in limits else max(each for each in limits if each is not None)


class Site(server.Site):
    """
    A site for L{Server.attach} that stores no more of a body for a server than C{maxHttpBufferSize}.

    What is beside the servers may take bodies of any size and in any time, in memory or a file, as twisted.web does it.
    Where it takes none, as beside a server by L{listen}, C{takesBodies} is False: then the limit of the servers holds
    there too, and their time.

    Speaks HTTP/1.1. Parses no forms unless asked to, and writes no access log unless it has a path for it; in that,
    session ids are shortened.

    @param root: the resource of everything outside the paths of the servers attached.
    @ivar channels: the connections that are open, without those that have become WebSockets.
    @ivar maxHeaderSize: bytes of a request's line and headers.
    @ivar maxUrlLength: bytes of its address.
    @ivar headersTimeout: milliseconds in which those have to come; None is no limit.
    @ivar timeOut: seconds after which a connection is closed on which nothing is asked: C{timeout}, if it was given,
        or else C{keepAliveTimeout} of the servers; None is no limit.
    @ivar unreadTimeout: milliseconds after which a connection is cut whose client reads nothing of a response.
    @ivar accessLog: the access log in place of C{logPath}, open already.
    @ivar takesBodies: whether what is beside the servers does; to be set before a server is attached.
    @ivar maxBodySize: bytes of a body there; None is no limit.
    @ivar httpRequestBodyTimeout: milliseconds in which such a body has to come; None is no limit.
    @ivar engines: the servers attached.
    @ivar group: what watches the connections in the reactor's place; None where the reactor does.
    @ivar throttle: says whether a line that clients can cause may be logged: that of the first server attached.
    """

    _log = Logger()
    requestFactory = EngineIORequest
    protocol = Channel  # type: ignore[assignment]
    group: ConnectionGroup | None = None
    accessLog: AccessLog | None = None
    unreadTimeout = UNREAD_TIMEOUT
    takesBodies = True
    maxBodySize: int | None = None
    httpRequestBodyTimeout: int | None = None

    def __init__(self, root: resource.IResource, requestFactory: Any = None, **options: Any) -> None:
        ours = {"parsePOSTFormSubmission": False, "logFormatter": formatAccess}
        super().__init__(root, requestFactory, **{**ours, **options})
        self.channels: Connections[Channel] = Connections()
        self.maxHeaderSize: int = _OPTIONS["maxHeaderSize"].default
        self.maxUrlLength: int = _OPTIONS["maxUrlLength"].default
        self.headersTimeout: int | None = _OPTIONS["headersTimeout"].default
        self._hasOwnTimeout = "timeout" in options
        if not self._hasOwnTimeout:
            self.timeOut = _OPTIONS["keepAliveTimeout"].default / 1000
        self.engines: tuple[Engine, ...] = ()
        self.throttle = LogThrottle(lambda: self.reactor)

    def addEngine(self, engine: Engine) -> None:
        """
        Have the limits of a server on the heads of requests hold here, and on bodies that are for no server.
        L{Server.attach} does.

        Whose a request is isn't known before its head has come: of several servers, the largest of each holds.

        @param engine: the L{Server}.
        """
        if engine in self.engines:
            return
        self.engines += (engine,)
        self.throttle = self.engines[0].counters.throttle
        options = [each.opts for each in self.engines]
        self.maxHeaderSize = max(each.maxHeaderSize for each in options)
        self.maxUrlLength = max(each.maxUrlLength for each in options)
        self.headersTimeout = _largest([each.headersTimeout for each in options])
        if not self._hasOwnTimeout:
            keepAlive = _largest([each.keepAliveTimeout for each in options])
            self.timeOut = None if keepAlive is None else keepAlive / 1000
        if not self.takesBodies:
            self.maxBodySize = max(each.maxHttpBufferSize for each in options)
            self.httpRequestBodyTimeout = max(each.httpRequestBodyTimeout for each in options)

    def refused(self, refusal: HTTPRefusal, peer: object) -> None:
        """Count a request that is refused, and isn't known to be for one server, with each of them, and log it."""
        for engine in self.engines:
            engine.counters.limitReached(None, refusal.name)
        if self.throttle.allows(refusal.name):
            self._log.warn(
                "A request from {peer} was refused: {reason}", peer=peer, reason=refusal.message, name=refusal.name
            )

    def limitReached(self, name: str, message: str, **values: object) -> None:
        """
        Count a limit that a connection has reached with each server, and log it.

        @param name: of the limit.
        @param message: what is logged, with the names of C{values} in braces.
        """
        for engine in self.engines:
            engine.counters.limitReached(None, name)
        if self.throttle.allows(name):
            self._log.info(message, **values)

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone: the deadlines and limits here are those of its channel."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Write a line of the access log, if there is one."""
        if self.accessLog is not None:
            # As the base does; but it writes no more once no port is open, while requests are still answered.
            self.accessLog.write(self._logFormatter(self._logTime(), request) + "\n")
        elif self.logPath is not None:
            super().log(request)

    def _logTime(self) -> str:
        if self._logDateTimeCall is not None and self._logDateTime is not None:
            return self._logDateTime
        now: str = datetimeToLogString(self.reactor.seconds())
        return now

    def closeConnections(self, until: float = 0.0) -> Deferred[None]:
        """
        Close every open connection; what was written to it goes out first, if it can.

        @param until: the time by which requests that have come have to be answered, by the L{steadyClock} of the
            reactor; answers may be cut off without it. For what was written there are three seconds anyway.
        @return: a Deferred that fires when none is left.
        """
        for channel in self.channels:
            attempt(channel.finish, until)
        return self.channels.whenEmpty()
