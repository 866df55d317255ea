"""
The requests of a site, whose bodies are counted as they come.

twisted.web stores the whole body of a POST before it asks a resource. On our L{Site}, and on any site that
L{Server.attach} may give L{EngineIORequest}, the body is counted as it comes instead, and a POST on a session that
reads one already is refused as soon as its headers are there (docs/architecture/requests.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.logger import Logger
from twisted.web import resource, server
from twisted.web.http import RESPONSES, parse_qs
from twisted.web.http_headers import Headers

from ..clock import AfterReading, cancel
from ..ends import attempt
from ..interfaces import IEngineServer, IPushReceiver
from ..logs import ThrottledLogger
from ..protocol.errors import BodyTimeout, HTTPRefusal, PayloadTooLarge
from .connections import isStream
from .exchange import RequestExchange
from .refusals import plainForm
from .request_headers import RequestHeaders
from .resource import serverAt
from .streams import Stream

if TYPE_CHECKING:
    from twisted.python.failure import Failure

LINGER_TIME = 2.0
"""
Seconds to go on reading, and dropping, a body that was refused before its end.

Closing at once would make the client's system discard the answer, as it finds the connection reset under it.
"""


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


class _Derived:
    """
    An attribute of a class that is made each time it is asked for, unless an instance has one of its own.

    @param make: makes it, of the instance.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else self._make(instance)


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
    A request whose body, if it is for a server of ours, is counted as it comes and has a deadline.

    For what is beside the servers of a L{Site} hold C{maxBodySize} and C{httpRequestBodyTimeout}
    of that.

    The channel calls it with the headers complete, with each piece of the body, and when the connection is lost. A
    stream of HTTP/2 calls it with the length while the headers are still being added to it.

    @ivar received: how many bytes of a body have come.
    """

    # What twisted.web says of a request, such as one by HEAD, which any client can send.
    _log = ThrottledLogger()
    _ownLog = Logger()
    _engineServer: IEngineServer | None = None
    _limit: int | None = None
    _polling: IPushReceiver | None = None
    channel: Any
    received: int = 0
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

    path: Any = _Derived(lambda self: self._target and self._target.partition(b"?")[0])
    args: Any = _MadeOfHead(lambda self: self._target and parse_qs(self._target.partition(b"?")[2], True))
    prepath: Any = _MadeOfHead(lambda self: self._segments()[: self._depth])
    postpath: Any = _MadeOfHead(lambda self: self._segments()[self._depth :])
    received_cookies: Any = _MadeOfHead(lambda self: _cookiesOf(self.requestHeaders))

    def _segments(self) -> list[bytes]:
        path = (self._target or b"").partition(b"?")[0]
        return [unquote_to_bytes(each) for each in path[1:].split(b"/")]

    def cameWhole(self, method: bytes, uri: bytes, head: bytes, body: bytes) -> None:
        """
        Set what a channel and C{process} set otherwise: the request came whole, for a server whose path was captured.

        @param head: the lines of its headers.
        """
        self.method, self.uri, self.clientproto = method, uri, b"HTTP/1.1"
        self._target = uri
        self._depth = 1
        self.requestHeaders = RequestHeaders(head)
        self.content = BytesIO(body)
        self.site = self.channel.site
        # As a site sets it on the way to a resource.
        self.sitepath: list[bytes] = []

    def wasServed(self, status: int, length: int) -> None:
        """
        Set what is left of a request that was served before this was made of it.

        @param status: of the response; 0 if the connection was lost before there was one.
        @param length: of its body.
        """
        self.content = None
        if status:
            self.setResponseCode(status)
            self.startedWriting = 1
            self.sentLength = length
            self.finished = int(status != HTTPStatus.SWITCHING_PROTOCOLS)
        else:
            self._disconnected = True
        self.channel = None
        self._forgetAnswer()

    def isSecure(self) -> bool:
        """Return whether the connection has TLS, or the application has said so; when it was answered too."""
        return bool(super().isSecure()) or ISSLTransport.providedBy(getattr(self, "transport", None))

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
        if self.code == HTTPStatus.SWITCHING_PROTOCOLS:
            # It carries HTTP no more, and a request that is finished has none either.
            self.channel = None
        if self.finished or self.channel is None:
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
        engineServer = serverAt(site.resource, uri.partition(b"?")[0]) if hasBody else None
        timeout: int | None
        if engineServer is not None:
            self._engineServer = engineServer
            self._limit = engineServer.opts.maxHttpBufferSize
            timeout = engineServer.opts.httpRequestBodyTimeout
        elif length != 0 and hasattr(site, "bodyLimits"):
            self._limit, timeout = site.bodyLimits
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
        if self._engineServer is not None:
            self._engineServer.reading.add(self)
        try:
            polling = (
                None
                if self._engineServer is None
                else self._engineServer.pushTarget(RequestExchange(self), method, uri)
            )
            if polling is not None:
                polling.pushStarted(self)
                self._polling = polling
            tooLarge = PayloadTooLarge.of(length or 0, self._limit)
            if tooLarge is not None:
                raise tooLarge
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
        self.received += len(data)
        tooLarge = PayloadTooLarge.of(self.received, self._limit)
        if tooLarge is not None:
            self._refuse(tooLarge)
            return
        super().handleContentChunk(data)

    def _bodyDue(self, timeout: int) -> None:
        # What is missing may lie unread.
        self._timer = AfterReading(self.channel.site.reactor).call(self._tooSlow, timeout)

    def _tooSlow(self, timeout: int) -> None:
        if self._refused:
            # It is still being decided which pages may read the refusal.
            self.abort()
        else:
            self._refuse(BodyTimeout(timeout))

    def abort(self) -> None:
        """Abort the connection; of HTTP/2 the stream, which no other request has."""
        connection = self.channel if isStream(self.channel) else self.channel.transport
        connection.abortConnection()

    def _refuse(self, refusal: HTTPRefusal) -> None:
        """Answer before the body is complete. What is still to come of it is dropped, for a short time."""
        self._refused = True
        # The channel would ask for more, with "100 Continue".
        self.requestHeaders.removeHeader(b"expect")
        headers, body = plainForm(refusal)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.responseHeaders.setRawHeaders(name, [value])
        if not isStream(self.channel):
            self.responseHeaders.setRawHeaders("Connection", ["close"])
        if self._engineServer is None:
            self.channel.site.refused(refusal, self.client)
            self._writeRefusal(refusal.status, body)
            return
        self._deciding = Deferred.fromCoroutine(self._engineServer.refuseEarly(RequestExchange(self), refusal))
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
        if self._engineServer is not None:
            self._engineServer.reading.remove(self)
