"""The WebSocket transport of a client: connects, and names what fails. docs/architecture/engines.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.web.client import BrowserLikePolicyForHTTPS

from ..clock import cancel
from ..interfaces import Closing
from ..protocol.errors import CloseReason
from ..protocol.frames import NORMAL, TOO_LARGE
from ..protocol.payload import Codec
from ..transports.engine_opening import Opening, OpeningRequest, ResponseHead
from ..transports.websocket import WebSocketTransport
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
    _timer: IDelayedCall | None = None
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
        self._timer = connecting.clock.callLater(opts.connectTimeout / 1000, self._timedOut)
        request = OpeningRequest(
            connecting.target(self.name, **parameters),
            self._headers(connecting.url(self.name)),
            opts.protocols,
            opts.perMessageDeflate,
            opts.maxHttpBufferSize,
            MAX_BODY,
        )
        self._opening = Opening(connecting.reactor, request, self)
        self._attempt = self._endpoint().connect(_OpeningFactory(self._opening))
        self._attempt.addCallbacks(self._connected, self._notConnected)

    def whenGone(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing of this is left in the reactor."""
        deferred: Deferred[None] = Deferred()
        if self._isGone:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    # Connecting

    def _endpoint(self) -> Any:
        """Return what connects, with TLS if the URL says so."""
        connecting = self._connecting
        address, opts = connecting.address, connecting.opts
        endpoint = opts.endpoint
        if endpoint is None:
            seconds = opts.connectTimeout / 1000
            endpoint = HostnameEndpoint(connecting.reactor, address.host.encode(), address.port, timeout=seconds)
        if not address.isSecure:
            return endpoint
        policy = opts.contextFactory or BrowserLikePolicyForHTTPS()
        return wrapClientTLS(policy.creatorForNetloc(address.host.encode(), address.port), endpoint)

    def _headers(self, url: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of the request: an application may set any but those of WebSocket."""
        own = self._connecting.opts.extraHeaders
        given = {name.lower() for name in own}
        headers = [] if "host" in given else [("Host", self._connecting.address.netloc)]
        return (*headers, *own.items())

    def _connected(self, _: object) -> None:
        self._attempt = None

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

    # OpeningReceiver

    def responded(self, head: ResponseHead) -> None:
        cancel(self._timer)

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

    def _over(self, reason: CloseReason, description: str) -> None:
        type_ = FailureType.PARSE if reason is CloseReason.PARSE_ERROR else FailureType.CLOSED
        self._fail(ConnectionFailed(type_, description, self.name))

    def _fail(self, failure: ConnectionFailed) -> None:
        if not self._ended and self.failure is None:
            self.failure = failure
            self._giveUp()
            super()._over(failure.reason, failure.description)
