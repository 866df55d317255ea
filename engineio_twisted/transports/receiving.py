"""The half of polling by which a client sends: each POST is read, delivered to the session, and acknowledged."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import Closing, IPushReceiver
from ..protocol.errors import (
    BodyTimeout,
    CloseReason,
    DecodeError,
    HTTPRefusal,
    PayloadTooLarge,
    SessionClosing,
    TooManyPackets,
)
from ..protocol.packet import decodeText
from ..protocol.payload import Codec
from ..transport import Transport
from ..web.answers import AnswerHeaders
from ..web.writer import ResponseWriter
from .pushes import Push, packetsOf

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..observer import Counters
    from ..protocol.options import ServerOptions


_OK_HEADERS = AnswerHeaders({"Content-Type": "text/html", "Cache-Control": "no-store"})


XSS_PROTECTION = {"X-XSS-Protection": "0"}
"""The header that tells a browser not to look for cross-site scripting."""


@lru_cache(16)
def looksForScripts(agent: bytes) -> bool:
    """
    Return whether a browser would take a payload for an attempt at cross-site scripting, and change it.

    @param agent: its C{User-Agent}.
    """
    return b";MSIE" in agent or b"Trident/" in agent


@lru_cache(16)
def _isBinary(contentType: bytes) -> bool:
    return contentType.partition(b";")[0].strip().lower() == b"application/octet-stream"


@implementer(IPushReceiver)
class PushTransport(Transport):
    """
    The base of the polling transports: it owns the POST whose body is being read or delivered, at most one.

    @param clock: the reactor, by which a large payload is delivered in turns.
    @param writer: writes refusals, and adds to the headers of each response before it is written.
    @ivar isHeldBack: whether the session has paused receiving.
    """

    isHeldBack: bool = False
    _log = Logger()
    _isClosed = False
    # The request whose body is being read.
    _body: Request | None = None
    # The POST that is being delivered, or that is answered when the session goes on receiving.
    _push: Push | None = None
    # Whether a POST's body is the payload.
    _isPlain = True

    def __init__(
        self,
        codec: Codec,
        supportsBinary: bool,
        options: ServerOptions,
        clock: IReactorTime,
        writer: ResponseWriter,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(codec, supportsBinary, counters)
        self._options = options
        self._clock = clock
        self._writer = writer

    @property
    def heldBytes(self) -> int:
        """The bytes of a body that is being read, or whose packets the session does not have yet."""
        amount = self._push.size if self._push is not None and self._push.isDelivering else 0
        return amount if self._body is None else amount + getattr(self._body, "received", 0)

    @property
    def isDelivering(self) -> bool:
        """Whether packets of a POST wait to be delivered."""
        return self._push is not None and self._push.isDelivering

    @property
    def arriving(self) -> object:
        return None if self._body is None else (id(self._body), getattr(self._body, "received", None))

    @property
    def isReading(self) -> bool:
        """Whether the body of a POST is being read."""
        return self._body is not None

    # The body is read

    def pushStarted(self, request: Request) -> None:
        """
        Called when the body of a POST begins.

        @raise HTTPRefusal: the body of another is being read, or delivered. The session has ended.
        """
        if self._body is not None or self._push is not None:
            raise self._overlap()
        self._body = request

    def _overlap(self) -> HTTPRefusal:
        self._failed("overlapping POST requests")
        return HTTPRefusal("a POST of this session is being read already", name="OVERLAPPING_POST")

    def pushLost(self, request: Request) -> None:
        """Called when the connection is lost before the body of a POST is complete: the session ends."""
        if self._body is request:
            self._body = None
            self._failed("data request connection closed prematurely", isLoss=True)

    def pushEnded(self, request: Request) -> None:
        """Called when the body of a POST is complete."""
        if self._body is request:
            self._body = None

    def pushRefused(self, request: Request, refusal: HTTPRefusal) -> None:
        """Called when the body of a POST was refused before it was complete: the session ends. The caller answers."""
        self.pushEnded(request)
        self._failed(refusal.message, isLoss=isinstance(refusal, BodyTimeout))

    # The packets are delivered

    def push(self, exchange: Any) -> None:
        """
        Serve a POST: deliver its packets, one after the other, in turns if they are many.

        @param exchange: an L{IExchange}, whose body is complete.
        """
        limit = self._options.maxHttpBufferSize
        body = exchange.bodyUpTo(limit + 1)
        tooLarge = PayloadTooLarge.of(len(body), limit)
        if tooLarge is not None:
            # Only a site whose request class isn't ours lets such a body come this far.
            self._refuseAsTooMuch(exchange, tooLarge)
            return
        if self._push is not None:
            self._refuse(exchange, self._overlap())
            return
        payload: str | bytes | Generator[None, None, str | bytes]
        if self._isPlain and not self.isHeldBack:
            try:
                payload = self._payloadOf(exchange, body)
            except DecodeError as error:
                self._isBroken(exchange, error)
                return
            counters = self.counters
            message = None if counters.trafficObservers else self.codec.onlyMessage(payload)
            if message is not None:
                # Nearly always.
                counters.bytesReceived += len(body)
                counters.packetsReceived += 1
                refusal = self.owner.transportMessage(self, message)
                if refusal is not None:
                    self._refuse(exchange, refusal)
                elif self.isHeldBack:
                    # It is answered when receiving goes on.
                    self._push = Push(self, self._clock, exchange)
                    exchange.watch(self)
                else:
                    self._acknowledge(exchange)
                return
        else:
            payload = self._readPayload(exchange, body)
        count = partial(self.counters.addBytesReceived, self.owner, len(body))
        packets = packetsOf(payload, self.codec, self._options.maxPacketsPerPayload, count)
        self._push = push = Push(self, self._clock, exchange, packets, len(body))
        # What reads it holds it.
        del body, payload, packets
        push.deliver()
        if self._push is push:
            push.isLate = True
            exchange.watch(self)

    def requestLost(self, exchange: Any) -> None:
        """
        Called when the connection of a POST that is complete is lost: the session ends.

        @param exchange: the one that L{push} was called with.
        """
        push = self._push
        if push is not None and push.exchange is exchange:
            push.exchange = None
            if not push.isDelivering:
                self._push = None
                push.isOver = True
            self._failed("data request connection closed prematurely", isLoss=True)

    def deliveryEnded(self, push: Push) -> None:
        """Called when the session has all packets of a POST."""
        self._push = None
        if push.exchange is not None:
            self._acknowledge(push.exchange)
        if push.end is not None:
            self.owner.transportClosed(self, push.end)
        elif push.isLate:
            self.owner.transportDelivered(self)

    def deliveryStopped(self, push: Push, error: DecodeError | HTTPRefusal) -> None:
        """Called when nothing more of a POST is delivered, as it holds something else, or isn't taken."""
        self._push = None
        if isinstance(error, DecodeError):
            self._isBroken(push.exchange, error)
        elif push.exchange is not None:
            refuse = self._refuseAsTooMuch if isinstance(error, TooManyPackets) else self._refuse
            refuse(push.exchange, error)

    def _dropPush(self, refusal: HTTPRefusal | None = None) -> None:
        """Refuse the POST that is being delivered: the session is over, or takes no more."""
        push = self._push
        # One that is running finds out by itself.
        if push is not None and not push.isRunning:
            self._push = None
            push.isOver = True
            if push.exchange is not None:
                self._refuse(push.exchange, refusal or SessionClosing())

    def pauseReceiving(self) -> None:
        self.isHeldBack = True

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        self.isHeldBack = False
        if not isDelivered:
            self._dropPush()
        elif self._push is not None:
            self._push.deliverLater()

    # The payload

    def _readPayload(self, exchange: Any, body: bytes) -> Generator[None, None, str | bytes]:
        """
        Return the payload that a POST carries, after as many turns as that takes.

        @raise DecodeError: it carries none.
        """
        return self._payloadOf(exchange, body)
        yield

    def _payloadOf(self, exchange: Any, body: bytes) -> str | bytes:
        """
        Return the payload that a POST carries, if that is its body.

        @raise DecodeError: it carries none.
        """
        types = exchange.headerValues(b"content-type")
        return body if types and _isBinary(types[-1]) else decodeText(body)

    # Responses and failures

    def _acknowledge(self, exchange: Any) -> None:
        headers: Mapping[str, str] = _OK_HEADERS
        agents = exchange.headerValues(b"user-agent")
        if agents and looksForScripts(agents[-1]):
            headers = {**headers, **XSS_PROTECTION}
        exchange.respond(200, headers, b"ok", self._writer.announce)

    def _isBroken(self, exchange: Any, error: DecodeError) -> None:
        self.owner.transportClosed(self, Closing(CloseReason.PARSE_ERROR, str(error)))
        if exchange is not None:
            self._refuse(exchange, HTTPRefusal(str(error), name="PARSE_ERROR"))

    def _failed(self, description: str, isLoss: bool = False) -> None:
        closing = Closing(CloseReason.TRANSPORT_ERROR, description, isLoss=isLoss)
        push = self._push
        if push is None or not push.isDelivering:
            self.owner.transportClosed(self, closing)
        elif push.end is None and not self._isClosed:
            # Behind what came before it.
            push.end = closing

    def _refuseAsTooMuch(self, exchange: Any, refusal: HTTPRefusal) -> None:
        if self.counters.throttle.allows(refusal.name):
            self._log.warn(
                "POST of session {session} refused: {reason}",
                session=self.owner.logName,
                reason=refusal.message,
                name=refusal.name,
            )
        # What the client sent is lost, and it doesn't send it again.
        self._failed(refusal.message)
        self._refuse(exchange, refusal)

    def _refuse(self, exchange: Any, refusal: HTTPRefusal) -> None:
        self._writer.refuse(exchange, refusal, isUpgrade=False)
