"""
HTTP long-polling: a GET waits until there is something to send, a POST delivers what the client sends.

docs/protocol.md, "Polling".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from ..ends import attempt
from ..interfaces import Closing, ITransport
from ..protocol.errors import CloseReason, HTTPRefusal
from ..protocol.headers import contentCoding
from ..protocol.packet import Packet, PacketType
from ..web.answers import AnswerHeaders
from ..web.connections import unsent
from .compression import CompressedBody, compressedAtOnce, compressorFor
from .receiving import XSS_PROTECTION, PushTransport, looksForScripts
from .unread import UnreadAnswer, UntakenResponses

if TYPE_CHECKING:
    from ..protocol.option_parts import HttpCompression


_TEXT_HEADERS = AnswerHeaders({"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store"})
_BINARY_HEADERS = AnswerHeaders({"Content-Type": "application/octet-stream", "Cache-Control": "no-store"})


@implementer(ITransport)
class PollingTransport(PushTransport):
    """
    The polling transport of one session.

    The router calls it with each GET (L{poll}) and POST (L{push}) of the session; the request class of our own site
    while it reads the body of a POST (L{pushStarted}, L{pushEnded}, L{pushRefused}, L{pushLost}); and the session. It
    owns the GET that waits, at most one, and the responses that its client has not taken.
    """

    name = "polling"
    isPolled = True
    # The exchange of the GET that waits.
    _poll: Any = None
    # Few sessions ever have one of these.
    _untaken: UntakenResponses | None = None

    @property
    def writable(self) -> bool:
        poll = self._poll
        # If its connection is lost, others may hear of it before this does.
        return poll is not None and not poll.isAnswered and (self._untaken is None or not self._untaken.isTooMuch)

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of earlier responses the client has not taken."""
        return 0 if self._untaken is None else self._untaken.bufferedAmount

    # GET

    def open(self, exchange: Any, sid: str) -> None:
        """
        Let the GET wait that opens the session, which is about to send.

        @param exchange: an L{IExchange}.
        @param sid: the id of the session, with which the response is announced.
        """
        exchange.openedId = sid
        self.waits(exchange)

    def waits(self, exchange: Any) -> None:
        """Let a GET wait whose session is about to send. There is no other."""
        self._poll = exchange
        exchange.watch(self, isWaiting=True)

    def poll(self, exchange: Any) -> None:
        """
        Serve a GET: it waits until there is something to send. A second one while one waits ends the session.

        @param exchange: an L{IExchange}.
        """
        if self._poll is not None:
            self._failed("overlapping GET requests")
            self._refuse(exchange, HTTPRefusal("a GET of this session is waiting already", name="OVERLAPPING_GET"))
            return
        self._poll = exchange
        exchange.watch(self, isWaiting=True)
        self.owner.transportReady(self)

    def requestLost(self, exchange: Any) -> None:
        """Called when the connection of a GET, or of a POST that is complete, is lost: the session ends."""
        if self._push is not None and self._push.exchange is exchange:
            super().requestLost(exchange)
            return
        # One whose response is still being compressed may be lost while another waits.
        if self._poll is exchange:
            self._poll = None
        self._failed("poll connection closed prematurely", isLoss=True)

    # Sending

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        counters = self.counters
        payload = None if counters.trafficObservers else self.codec.messagePayload(data)
        if payload is None:
            self.send((Packet(PacketType.MESSAGE, data, compress),))
        else:
            counters.packetsSent += 1
            self._answer(payload, self._options.httpCompression if compress else None)

    def send(self, packets: Sequence[Packet]) -> int:
        compression = None
        for packet in packets:
            if packet.compress:
                compression = self._options.httpCompression
                break
        self._send(packets, compression)
        return len(packets)

    def _send(self, packets: Sequence[Packet], compression: HttpCompression | None) -> None:
        if self._poll is not None and not self._poll.isAnswered:
            payload = self.codec.encodePayload(packets, self.supportsBinary)
            counters = self.counters
            counters.packetsSent += len(packets)
            if counters.trafficObservers:
                counters.tell("packetsSent", self.owner, packets, self)
            self._answer(payload, compression)

    def _answer(self, payload: str | bytes, compression: HttpCompression | None) -> None:
        """
        Answer the GET that waits.

        @param compression: the settings; None if nobody asked for compression.
        """
        exchange, self._poll = self._poll, None
        if exchange is None:
            return
        headers: Mapping[str, str]
        headers, body = self._bodyOf(payload)
        agents = exchange.headerValues(b"user-agent")
        if agents and looksForScripts(agents[-1]):
            headers = {**headers, **XSS_PROTECTION}
        counters = self.counters
        size = len(body)
        if (
            compression is not None
            and size >= compression.threshold
            and (coding := contentCoding(exchange.headerValues(b"accept-encoding")))
        ):
            headers = {**headers, "Content-Encoding": coding}
            compressor = compressorFor(coding, compression)
            compressed = compressedAtOnce(body, compressor)
            if compressed is None:
                self._sendInPieces(exchange, headers, body, compressor)
                return
            body, size = compressed, len(compressed)
        counters.bytesSent += size
        if counters.trafficObservers:
            counters.tell("bytesSent", self.owner, size)
        channel, connection = exchange.channel, exchange.connection
        if not exchange.respond(200, headers, body, self._writer.announce) and unsent(connection):
            self._responses().add(UnreadAnswer(channel, connection, size, self._responseTaken))

    def _sendInPieces(
        self,
        exchange: Any,
        headers: Mapping[str, str],
        body: bytes,
        compressor: Any,
    ) -> None:
        for name, value in headers.items():
            exchange.setHeader(name, value)
        # A request of twisted.web has producers; from here on the response is its own.
        request = exchange.request
        self._writer.announce(exchange)
        responses = self._responses()
        finished = partial(responses.compressed, taken=self._responseTaken)
        count = partial(self.counters.addBytesSent, self.owner)
        compressed = CompressedBody(request, body, compressor, finished, self._responseTaken, count)
        if self._isClosed:
            # By a handler that was to look at the headers.
            compressed.hurry()
        else:
            responses.compress(compressed)
            request.registerProducer(compressed, False)

    def _responses(self) -> UntakenResponses:
        if self._untaken is None:
            self._untaken = UntakenResponses()
        return self._untaken

    def _responseTaken(self) -> None:
        """Called when the client may have taken a response that it had not read."""
        if self._untaken is not None and self._untaken.isEmpty:
            self._untaken = None
        if self._poll is not None:
            self.owner.transportReady(self)

    def _bodyOf(self, payload: str | bytes) -> tuple[AnswerHeaders, bytes]:
        """Return the headers and the body of a response that carries a payload."""
        if isinstance(payload, bytes):
            return _BINARY_HEADERS, payload
        return _TEXT_HEADERS, payload.encode()

    # The end

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        self._isClosed = True
        reason, untaken = closing.reason, self._untaken
        if untaken is not None:
            if reason is CloseReason.BUFFER_LIMIT_EXCEEDED:
                untaken.abort(self.owner)
            else:
                # Nothing is left for later: the connection may be closed next, and this is not called any more.
                untaken.hurry(self.owner)
        if reason is None:
            self.send([Packet(PacketType.NOOP)])
            return 0
        attempt(self._dropPush, closing.refusal, session=self.owner)
        body, self._body = self._body, None
        if body is not None:
            attempt(body.loseConnection, session=self.owner)
        # A client that has closed the session needs no close packet: its GET only has to end.
        last = PacketType.NOOP if closing.isByClient else PacketType.CLOSE
        self._send([*packets, Packet(last)], None)
        return len(packets)
