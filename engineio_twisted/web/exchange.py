"""
A request and its response, as the server sees them: around any request of twisted.web.

L{engineio_twisted.web.fast_exchange.FastExchange} is the same for a request that our own channel has read in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from zope.interface import implementer

from ..interfaces import IExchange, IRequestWatcher
from .answers import upgradeHeaders
from .connections import connectionOf, handOver, isStream
from .streams import adapt


@implementer(IExchange)
class RequestExchange:
    """
    Any request of twisted.web.

    @param request: a L{twisted.web.server.Request}. One on a stream of HTTP/2 gets a L{Stream} for its channel.
    """

    __slots__ = ("__weakref__", "openedId", "request")

    def __init__(self, request: Any) -> None:
        if isStream(getattr(request, "channel", None)):
            adapt(request)
        self.request: Any = request
        self.openedId: str | None = None

    @property
    def method(self) -> bytes:
        return bytes(self.request.method)

    @property
    def uri(self) -> bytes:
        return bytes(self.request.uri)

    @property
    def channel(self) -> Any:
        return getattr(self.request, "channel", None)

    @property
    def connection(self) -> Any:
        return connectionOf(self.request)

    @property
    def isStream(self) -> bool:
        return isStream(self.channel)

    @property
    def isAnswered(self) -> bool:
        channel = self.channel
        return bool(self.request.startedWriting) or channel is None or (isStream(channel) and channel.isOver)

    @property
    def client(self) -> Any:
        return getattr(self.request, "engineIOClient", None)

    @client.setter
    def client(self, client: Any) -> None:
        self.request.engineIOClient = client

    def headerValues(self, name: bytes) -> Sequence[bytes]:
        values: Sequence[bytes] = self.request.requestHeaders.getRawHeaders(name, ())
        return values

    def allHeaderValues(self) -> Mapping[bytes, Sequence[bytes]]:
        return {name.lower(): values for name, values in self.request.requestHeaders.getAllRawHeaders()}

    def bodyUpTo(self, size: int) -> bytes:
        # A middleware may have read it.
        self.request.content.seek(0)
        return bytes(self.request.content.read(size))

    def getClientAddress(self) -> Any:
        return self.request.getClientAddress()

    def isSecure(self) -> bool:
        # The request is asked first, which an application may have told; once it is answered, only the connection
        # knows.
        request = self.request
        return bool(request.isSecure()) or ISSLTransport.providedBy(getattr(request, "transport", None))

    def setHeader(self, name: str, value: str) -> None:
        self.request.setHeader(name, value)

    def addHeader(self, name: str, value: str) -> None:
        self.request.responseHeaders.addRawHeader(name, value)

    def removeHeader(self, name: str) -> None:
        self.request.responseHeaders.removeHeader(name)

    def joinCookies(self) -> None:
        # twisted.web would have them replace those in the headers.
        cookies, self.request.cookies = self.request.cookies, []
        for cookie in cookies:
            self.request.responseHeaders.addRawHeader(b"Set-Cookie", cookie)

    def upgradeHeaders(self) -> Mapping[str, Sequence[str]]:
        return upgradeHeaders(self.request.responseHeaders.getAllRawHeaders())

    def respond(self, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]) -> bool:
        request = self.request
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name, value)
        request.setHeader("Content-Length", str(len(body)))
        announce(self)
        request.write(body)
        request.finish()
        return False

    def watch(self, watcher: IRequestWatcher, isWaiting: bool = False) -> None:
        if isWaiting:
            # Its channel asks when the client sends nothing more.
            self.request.isWaiting = True
        self.request.notifyFinish().addErrback(lambda _: watcher.requestLost(self))

    def takeOver(self, protocol: Any) -> bytes:
        # From here on nothing of HTTP may be written.
        self.request.startedWriting = 1
        return handOver(self.request.channel, protocol)

    def accepted(self) -> None:
        self.request.code = 101
        site = getattr(self.request, "site", None)
        if site is not None:
            # Nobody else does, as the request is never finished.
            getattr(site, "requestLog", site).log(self.request)

    def drop(self) -> None:
        request, channel = self.request, self.channel
        if not request.finished and channel is not None and not (isStream(channel) and channel.isOver):
            request.loseConnection()

    def keepLittle(self) -> None:
        # Another class than ours keeps what it keeps.
        keepLittle = getattr(self.request, "keepLittle", None)
        if keepLittle is not None:
            keepLittle()
