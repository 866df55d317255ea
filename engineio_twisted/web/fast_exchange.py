"""A request that came whole and its response, of which a request of twisted.web is made if somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import OK, RESPONSES, datetimeToString
from zope.interface import implementer

from ..ends import attempt
from ..interfaces import IExchange, IRequestWatcher
from .answers import AnswerHeaders, linesOf, upgradeHeaders
from .connections import handOver, writeAtOnce
from .exchange import RequestExchange
from .heads import CACHED_HEADERS, RequestHead, headersOf
from .requests import EngineIORequest


class _Present:
    """What is the same in all responses of one second."""

    _second = 0
    _date = b""
    _beginning = b""
    _headers: Mapping[str, Sequence[str]] = {}

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

    def headers(self) -> Mapping[str, Sequence[str]]:
        """Return the headers that all responses have, as text by name."""
        if int(time()) != self._second:
            self._begin()
        return self._headers

    def _begin(self) -> None:
        self._second = int(time())
        self._date = datetimeToString(self._second)
        self._beginning = self._beginningOf(OK)
        self._headers = MappingProxyType({"Server": (server.version.decode(),), "Date": (self._date.decode(),)})

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

    @param channel: the L{FastChannel} on which it came.
    @param method: its method.
    @param uri: its address.
    @param head: its headers.
    @param body: its body.
    """

    __slots__ = (
        "__weakref__",
        "_added",
        "_body",
        "_channel",
        "_client",
        "_head",
        "_headers",
        "_host",
        "_isAllKnown",
        "_known",
        "_length",
        "_made",
        "_method",
        "_set",
        "_site",
        "_status",
        "_uri",
        "_watcher",
        "connection",
        "isWaiting",
        "openedId",
    )

    # What its channel asks of each request.
    sentLength = 0
    isStream = False

    def __init__(self, channel: Any, method: bytes, uri: bytes, head: RequestHead, body: bytes) -> None:
        # Until this is answered, or a request is made of it, which has it from there on.
        self._channel: Any = channel
        self.connection: Any = channel.transport
        self._method = method
        self._uri = uri
        self.isWaiting: bool = False
        self.openedId: str | None = None
        self._site = channel.site
        # Not when it is asked for: a connection that is lost doesn't know any more.
        self._host = channel.localAddress
        self._head = head.whole
        self._known: Mapping[bytes, Sequence[bytes]] | None = head.known
        self._isAllKnown = head.isUpgrade
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

    def whole(self) -> bytes:
        """Return the bytes that came, of which this was made."""
        return b"%b %b HTTP/1.1\r\n%b%b" % (self._method, self._uri, self._head, self._body)

    # The request of twisted.web

    @property
    def request(self) -> Any:
        if self._made is None:
            self._made = RequestExchange(self._make())
        return self._made.request

    def _make(self) -> EngineIORequest:
        channel = self._channel
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
        # The request has all of it from here on.
        self._ended()
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
    def channel(self) -> Any:
        return self._channel if self._made is None else self._made.channel

    @property
    def isAnswered(self) -> bool:
        if self._made is not None:
            return self._made.isAnswered
        return self._channel is None or self._status == _TAKEN_OVER

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
        if self._known is not None and (self._isAllKnown or name in CACHED_HEADERS):
            return self._known.get(name, ())
        return headersOf(self._head).get(name, ())

    def allHeaderValues(self) -> Mapping[bytes, Sequence[bytes]]:
        if self._made is not None:
            return self._made.allHeaderValues()
        return self._known if self._known is not None and self._isAllKnown else headersOf(self._head)

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

    def upgradeHeaders(self) -> Mapping[str, Sequence[str]]:
        if self._made is not None:
            return self._made.upgradeHeaders()
        if self._set is None and self._added is None:
            return _present.headers()
        headers = {b"Server": [server.version], b"Date": [_present.date()]}
        for name, value in [*(self._set or {}).items(), *(self._added or ())]:
            headers.setdefault(name.encode(), []).append(value.encode())
        return upgradeHeaders(headers.items())

    def respond(self, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]) -> bool:
        if self._made is not None:
            return self._made.respond(status, headers, body, lambda _: announce(self))
        channel = self._channel
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
        self._channel = self._watcher = self._set = self._added = self._headers = None
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
        self._status = _TAKEN_OVER
        return handOver(self._channel, protocol)

    def accepted(self) -> None:
        if self._made is not None:
            self._made.accepted()
            return
        self._ended()
        if self._site.isLogging:
            self._site.requestLog.log(self.request)

    def passed(self) -> None:
        """Called when others answer it."""
        self._ended()

    def drop(self) -> None:
        # Otherwise its response wasn't begun.
        if self._made is not None:
            self._made.drop()

    def keepLittle(self) -> None:
        # They are in the head too.
        self._known = None
        if self._made is not None:
            self._made.keepLittle()
            self._head = b""

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
