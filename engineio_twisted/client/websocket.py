"""The WebSocket transport of a client: connects, and names what fails. docs/architecture/engines.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from zope.interface import implementer

from ..clock import Timeout, cancel
from ..interfaces import LEFT, Closing, IOpeningReceiver
from ..protocol.errors import CloseReason
from ..protocol.frames import NORMAL, TOO_LARGE
from ..protocol.payload import Codec
from ..transports.engine_opening import Opening, OpeningRequest, ResponseHead
from ..transports.websocket import WebSocketTransport
from .agents import endpointOf
from .connecting import Connecting
from .errors import MAX_BODY, ConnectionFailed, FailedResponse, FailureType
from .failures import failureOf, failureOfResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from ..protocol.packet import Packet


class _NotOpen:
    """Stands for a WebSocket that isn't open yet."""

    isOpen = writable = isDelivering = False
    bufferedAmount = heldBytes = 0
    arriving = violation = loss = None

    def close(self, code: int = NORMAL, deadline: float = 0.0) -> None:
        pass

    def pauseReceiving(self) -> None:
        pass

    def resumeReceiving(self) -> None:
        pass


_NOT_OPEN = _NotOpen()


class _OpeningFactory(Factory):
    """Builds the protocol of one connection."""

    noisy = False

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    def buildProtocol(self, addr: object) -> Opening:
        return self._opening


@implementer(IOpeningReceiver)
class ClientWebSocketTransport(WebSocketTransport):
    """
    The WebSocket transport of a client.

    L{open} connects. When the WebSocket is open, the transport is writable, and its owner is told that it is ready.
    What fails, before that or after, is the C{failure} when the owner is told that the transport is closed.

    @param connecting: how the client connects.
    @ivar failure: what has failed; None if nothing has.
    """

    failure: ConnectionFailed | None = None
    webSocket: Any = _NOT_OPEN
    # What connects; then the protocol of the connection, until the WebSocket is open.
    _attempt: Deferred[Any] | None = None
    _opening: Opening | None = None
    _timer: Timeout | None = None
    _isGone = True

    def __init__(self, codec: Codec, connecting: Connecting) -> None:
        super().__init__(codec, not connecting.opts.forceBase64, self._isReady, connecting.counters)
        self._connecting = connecting
        self._waiting: list[Deferred[None]] = []

    def open(self, **parameters: str) -> None:
        """
        Connect. Call this once.

        @param parameters: of the request, besides those that each has.
        """
        connecting = self._connecting
        opts = connecting.opts
        self._isGone = False
        self._timer = connecting.timeouts.callLater(opts.connectTimeout / 1000, self._timedOut)
        try:
            headers = self._headers()
        except Exception as error:
            # A jar of the application's may raise anything.
            self._fail(failureOf(error, self.name))
            self.gone()
            return
        request = OpeningRequest(
            connecting.target(self.name, **parameters),
            headers,
            opts.protocols,
            opts.perMessageDeflate,
            opts.maxHttpBufferSize,
            MAX_BODY,
        )
        self._opening = opening = Opening(connecting.reactor, request, self)
        self._attempt = maybeDeferred(self._connect, _OpeningFactory(opening))
        self._attempt.addCallbacks(self._connected, self._notConnected, callbackArgs=(opening,))

    def whenGone(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing of this is left in the reactor."""
        deferred: Deferred[None] = Deferred()
        if self._isGone:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    # Connecting

    def _headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers of the request. An application may set any but those of WebSocket."""
        connecting = self._connecting
        headers = connecting.opts.extraHeaders
        named = {name.lower(): name for name in headers}
        if "host" not in named:
            headers = {"Host": connecting.address.netloc, **headers}
        cookie = None if connecting.cookies is None else connecting.cookies.header(connecting.url(self.name))
        if cookie is not None:
            # A request has one such header (RFC 6265, 5.4).
            name = named.get("cookie", "Cookie")
            headers = {**headers, name: "; ".join([*filter(None, [headers.get(name)]), cookie.decode("latin-1")])}
        return tuple(headers.items())

    def _connect(self, factory: Factory) -> Any:
        return endpointOf(self._connecting).connect(factory)

    def _connected(self, _: object, opening: Opening) -> None:
        self._attempt = None
        if opening.transport is None:
            # An endpoint of the application's may say so of what it hasn't done.
            self._fail(ConnectionFailed(FailureType.CONNECT, "the endpoint has made no connection", self.name))
            self.gone()

    def _notConnected(self, reason: Failure) -> None:
        self._attempt = None
        if self.failure is None:
            self._fail(failureOf(reason, self.name))
        self.gone()

    def _timedOut(self) -> None:
        seconds = self._connecting.opts.connectTimeout / 1000
        what = "no connection" if self._attempt is not None else "no response to the opening handshake"
        self._fail(ConnectionFailed(FailureType.TIMEOUT, f"{what} within {seconds:g} s", self.name))

    def _giveUp(self) -> None:
        """Stop to connect."""
        cancel(self._timer)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.abort()
        if self._attempt is not None:
            self._attempt.cancel()

    # IOpeningReceiver

    def responded(self, head: ResponseHead) -> None:
        cancel(self._timer)
        cookies = self._connecting.cookies
        if cookies is not None:
            try:
                cookies.store(self._connecting.url(self.name), head.headers.getRawHeaders(b"set-cookie", ()))
            except Exception as error:
                self._fail(failureOf(error, self.name))

    def refused(self, head: ResponseHead, body: bytes) -> None:
        self._fail(failureOfResponse(head.status, head.headers, body, self.name))

    def mistaken(self, fault: str, head: ResponseHead | None) -> None:
        type_ = FailureType.NOT_ENGINEIO if head is None else FailureType.HANDSHAKE
        response = None if head is None else FailedResponse(head.status, head.headers)
        self._fail(
            ConnectionFailed(type_, f"the response to the opening handshake is wrong: {fault}", self.name, response)
        )

    def unanswered(self, reason: Failure) -> None:
        failure = failureOf(reason, self.name)
        if failure.type is FailureType.LOST:
            words = f"the connection was lost before the response to the opening handshake: {failure.description}"
            failure = ConnectionFailed(FailureType.LOST, words, self.name)
        self._fail(failure)

    def gone(self) -> None:
        """Called when the connection is lost, and everything that had come is delivered."""
        if self._isGone:
            return
        self._isGone = True
        cancel(self._timer)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    # IWebSocketReceiver

    def _isReady(self) -> None:
        self._opening = None
        self.owner.transportReady(self)

    def closed(self, description: str) -> None:
        loss = self.webSocket.loss
        self._fail(
            ConnectionFailed(FailureType.LOST, description, self.name) if loss is None else failureOf(loss, self.name)
        )

    def failed(self, description: str) -> None:
        type_ = FailureType.TOO_LARGE if self.webSocket.violation == TOO_LARGE else FailureType.PARSE
        self._fail(ConnectionFailed(type_, description, self.name))

    # The end

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        taken = super().close(closing, packets)
        self._giveUp()
        return taken

    def _over(self, closing: Closing) -> None:
        type_ = FailureType.PARSE if closing.reason is CloseReason.PARSE_ERROR else FailureType.CLOSED
        self._fail(ConnectionFailed(type_, closing.description, self.name), closing)

    def _fail(self, failure: ConnectionFailed, closing: Closing = LEFT) -> None:
        if not self._ended and self.failure is None:
            self.failure = failure
            self._giveUp()
            super()._over(closing._replace(reason=failure.reason, description=failure.description))
