"""
The opening handshake of a client's WebSocket. docs/architecture/engines.md

L{Opening} is the protocol of a connection until the server has answered. It reads the head of the response itself, so
that its size is bounded, and nothing behind it is lost. Autobahn writes the request, and checks a 101.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.types import ConnectingRequest
from twisted.internet import protocol
from twisted.internet.interfaces import IDelayedCall
from twisted.web.http_headers import Headers

from ..clock import cancel, steadyClock
from .engine_autobahn import Nowhere
from .engine_client import ClientWebSocket, engineOn
from .engine_deflate import LARGEST_WINDOW, Deflate

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..protocol.option_parts import PerMessageDeflate

MAX_HEAD = 32768
"""Bytes that the heads of all responses to one opening handshake may have."""

BODY_TIMEOUT = 2.0
"""Seconds for the body of a response that refuses a WebSocket, from its head on."""

MAX_FAULT = 200
"""Characters of what is said about a response that is wrong, which may quote it."""


@attrs.frozen
class OpeningRequest:
    """
    What is asked for in an opening handshake.

    @ivar target: the path and the query.
    @ivar headers: all headers, those of WebSocket apart; C{Host} among them. Text in Latin-1, of one line each.
    @ivar protocols: the subprotocols that are offered.
    @ivar deflate: how messages are compressed if the server agrees; None if that isn't offered.
    @ivar limit: maximum bytes of a message that is received.
    @ivar maxBody: maximum bytes that are kept of the body of a response that refuses.
    """

    target: str
    headers: tuple[tuple[str, str], ...]
    protocols: tuple[str, ...]
    deflate: PerMessageDeflate | None
    limit: int
    maxBody: int


@attrs.frozen
class ResponseHead:
    """
    The head of a response.

    @ivar version: that of HTTP, with its name.
    @ivar status: the HTTP status.
    @ivar headers: the headers.
    """

    version: bytes
    status: int
    headers: Headers


_STATUS = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(.*)", re.DOTALL)

_WITHOUT_BODY = (204, 304)

_OURS = (b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol")
"""The headers of a 101 that say whether it is right."""


def readHead(head: bytes) -> ResponseHead | None:
    """
    Return what the head of a response says; None if it is none.

    @param head: without the empty line at its end.
    """
    line, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(line)
    if status is None:
        return None
    headers = Headers()
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is not None:
            headers.addRawHeader(header[1], header[2].strip())
    return ResponseHead(status[1], int(status[2]), headers)


_CHUNK_SIZE = re.compile(rb"\s*([0-9A-Fa-f]{1,8})\s*(?:;.*)?", re.DOTALL)


def _withoutChunks(data: bytearray) -> tuple[bytearray, bool]:
    """Return as much of a body as came in chunks (RFC 9112, 7.1), and whether that is all."""
    body = bytearray()
    position = 0
    while (end := data.find(b"\r\n", position)) >= 0:
        size = _CHUNK_SIZE.fullmatch(data, position, end)
        length = 0 if size is None else int(size[1], 16)
        if not length:
            return body, True
        position = end + 2 + length
        body += data[end + 2 : position]
        position += 2
    return body, False


def bodyOf(head: ResponseHead, data: bytearray, most: int) -> tuple[bytes, bool]:
    """
    Return the body of a response.

    @param data: what came behind the head.
    @param most: maximum bytes to return.
    @return: as much of the body as came, and whether that is all that there will be, or may be returned.
    """
    isWhole = head.status in _WITHOUT_BODY
    body = data
    if isWhole:
        body = bytearray()
    elif any(b"chunked" in each.lower() for each in head.headers.getRawHeaders(b"transfer-encoding", ())):
        body, isWhole = _withoutChunks(data)
    else:
        for each in head.headers.getRawHeaders(b"content-length", ()):
            if each.isdigit():
                length = int(each[:12])
                body, isWhole = data[:length], len(data) >= length
    return bytes(body[:most]), isWhole or len(body) >= most


class _Handshake(WebSocketClientProtocol):
    """
    Autobahn's part of an opening handshake: it writes the request, and checks the head of a 101.

    @ivar fault: what is wrong with the 101; None if it is right.
    @ivar compression: what was agreed on, if messages are compressed.
    """

    # It has all options when it begins. Autobahn would ask for each, and write them out for a log.
    CONFIG_ATTRS: list[str] = []  # noqa: RUF012
    request: OpeningRequest
    perMessageCompressionOffers: list[PerMessageDeflateOffer]
    perMessageCompressionAccept: Callable[[Any], Any]
    fault: str | None = "it says nothing"
    compression: PerMessageDeflateResponseAccept | None = None

    def onConnecting(self, transport_details: Any) -> ConnectingRequest:
        return ConnectingRequest(resource=self.request.target, protocols=list(self.request.protocols))

    def onConnect(self, response: Any) -> None:
        self.fault = None

    def failHandshake(self, reason: str) -> None:
        self.fault = reason

    def accept(self, response: Any) -> PerMessageDeflateResponseAccept | None:
        """Return with what compression is agreed on; None if it isn't."""
        deflate = self.request.deflate
        if deflate is None or not isinstance(response, PerMessageDeflateResponse):
            return None
        # What was asked of the server is to be promised (RFC 7692, 7.1.1.1 and 7.1.2.1).
        if deflate.serverNoContextTakeover and not response.server_no_context_takeover:
            return None
        if (response.server_max_window_bits or LARGEST_WINDOW) > deflate.serverMaxWindowBits:
            return None
        self.compression = PerMessageDeflateResponseAccept(
            response,
            no_context_takeover=response.client_no_context_takeover or deflate.clientNoContextTakeover,
            window_bits=min(response.client_max_window_bits or LARGEST_WINDOW, deflate.clientMaxWindowBits),
            mem_level=deflate.memLevel,
        )
        return self.compression


@lru_cache(maxsize=16)
def _factoryFor(protocols: tuple[str, ...]) -> tuple[WebSocketClientFactory, dict[str, Any]]:
    """Return a factory of handshakes, and its options."""
    # Autobahn keeps a reactor only to start timers on it, and none is started.
    factory = WebSocketClientFactory(protocols=list(protocols), useragent=None, reactor=object())
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    return factory, {name: getattr(factory, name) for name in WebSocketClientProtocol.CONFIG_ATTRS}


def _begun(request: OpeningRequest) -> tuple[_Handshake, bytes]:
    """Return a handshake that has begun, and its request."""
    handshake = _Handshake()
    handshake.factory, options = _factoryFor(request.protocols)
    vars(handshake).update(options)
    handshake.request = request
    # Options of one connection, as far as they differ.
    deflate = request.deflate
    handshake.perMessageCompressionOffers = [] if deflate is None else [_offerOf(deflate)]
    handshake.perMessageCompressionAccept = handshake.accept
    nowhere = Nowhere()
    handshake.makeConnection(nowhere)
    line, *lines = nowhere.written.split(b"\r\n")
    # Autobahn writes a Host with the port, whichever it is, and headers in UTF-8.
    own = [f"{name}: {value}".encode("latin-1") for name, value in request.headers]
    return handshake, b"\r\n".join([line, *own, *(each for each in lines if not each.startswith(b"Host:"))])


def _offerOf(deflate: PerMessageDeflate) -> PerMessageDeflateOffer:
    return PerMessageDeflateOffer(
        accept_no_context_takeover=True,
        accept_max_window_bits=True,
        request_no_context_takeover=deflate.serverNoContextTakeover,
        request_max_window_bits=deflate.serverMaxWindowBits if deflate.serverMaxWindowBits < LARGEST_WINDOW else 0,
    )


class Opening(protocol.Protocol):
    """
    The opening handshake of a client, on a connection of its own.

    When it is over well, the connection is that of a L{ClientWebSocket}; otherwise it is aborted.

    @param clock: the reactor.
    @param receiver: an L{IOpeningReceiver}.
    """

    _handshake: _Handshake | None = None
    _isOver = False
    # What came of the head of a response, and how much came of heads before.
    _skipped = 0
    # The head of a response that refuses, and what came of its body.
    _head: ResponseHead | None = None
    _timer: IDelayedCall | None = None

    def __init__(self, clock: Any, request: OpeningRequest, receiver: Any) -> None:
        self._clock = clock
        self._request = request
        self._receiver = receiver
        self._data = bytearray()

    def abort(self) -> None:
        """Give up: the receiver only hears when the connection is gone."""
        self._isOver = True
        cancel(self._timer)
        connection: Any = self.transport
        if connection is not None:
            connection.abortConnection()

    def connectionMade(self) -> None:
        connection: Any = self.transport
        if self._isOver:
            # Whatever connected it couldn't be stopped.
            connection.abortConnection()
            return
        with suppress(AttributeError, OSError):
            # Sockets that aren't TCP's have no such thing.
            connection.setTcpNoDelay(True)
        self._handshake, written = _begun(self._request)
        connection.write(written)

    def dataReceived(self, data: bytes) -> None:
        if self._isOver:
            return
        self._data += data
        if self._head is not None:
            self._readBody()
            return
        start = max(0, len(self._data) - len(data) - 3)
        while not self._isOver and self._head is None:
            if not self._data.startswith(b"HTTP/"[: len(self._data)]):
                self._fail(f"it begins with {bytes(self._data[:20])!r}", None)
                return
            end = self._data.find(b"\r\n\r\n", start)
            if self._skipped + (len(self._data) if end < 0 else end) > MAX_HEAD:
                self._fail(f"its head is larger than {MAX_HEAD} bytes", None)
                return
            if end < 0:
                return
            raw, behind = bytes(self._data[:end]), self._data[end + 4 :]
            self._data = behind
            self._skipped += end
            start = 0
            self._respond(raw)

    def _respond(self, raw: bytes) -> None:
        """Take the head of a response."""
        head = readHead(raw)
        if head is None:
            self._fail(f"it begins with {raw[:40]!r}", None)
        elif head.status == 101:
            self._receiver.responded(head)
            # That may give up.
            if not self._isOver:
                self._switch(head)
        elif head.status >= 200:
            self._receiver.responded(head)
            if not self._isOver:
                self._head = head
                self._timer = steadyClock(self._clock).callLater(BODY_TIMEOUT, self._refuse)
                self._readBody()
        # Otherwise the response is still to come (RFC 9110, 15.2).

    def _switch(self, head: ResponseHead) -> None:
        """Take a 101: from here on the connection is that of the WebSocket, if it is right."""
        handshake, self._handshake = self._handshake, None
        assert handshake is not None
        lines = [head.version + b" 101"]
        for name in _OURS:
            lines += [name + b": " + value for value in head.headers.getRawHeaders(name, ())]
        try:
            handshake.dataReceived(b"\r\n".join([*lines, b"", b""]))
        except Exception as error:
            # Autobahn doesn't expect everything that a server can say.
            handshake.fault = str(error)
        if handshake.fault is not None:
            self._fail(handshake.fault, head)
            return
        deflate = None
        if handshake.compression is not None and self._request.deflate is not None:
            deflate = Deflate.create_from_response_accept(False, handshake.compression)
            deflate.threshold = self._request.deflate.threshold
        self._isOver = True
        behind, self._data = bytes(self._data), bytearray()
        webSocket = ClientWebSocket(engineOn(self._clock), self._receiver, self._request.limit, deflate)
        # Whatever wraps the connection has this as its protocol.
        self.dataReceived = webSocket.dataReceived  # type: ignore[method-assign]
        self.connectionLost = webSocket.connectionLost  # type: ignore[method-assign]
        del self._request, self._receiver
        webSocket.makeConnection(self.transport)
        webSocket.open(b"", behind)

    def _readBody(self) -> None:
        """Refuse with the response if its body is there, or as much of it as is wanted."""
        if self._body()[1] or len(self._data) > MAX_HEAD:
            self._refuse()

    def _body(self) -> tuple[bytes, bool]:
        assert self._head is not None
        return bodyOf(self._head, self._data, self._request.maxBody)

    def _refuse(self) -> None:
        self.abort()
        self._receiver.refused(self._head, self._body()[0])

    def _fail(self, fault: str, head: ResponseHead | None) -> None:
        self.abort()
        fault = "".join([each if each.isprintable() else "?" for each in fault])
        self._receiver.mistaken(fault[:MAX_FAULT], head)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if not self._isOver:
            self._isOver = True
            cancel(self._timer)
            if self._head is None:
                self._receiver.unanswered(reason)
            else:
                # A body without a length ends so.
                self._receiver.refused(self._head, self._body()[0])
        self._receiver.gone()
