"""
HTTP long-polling: a GET waits until there is something to send, a POST delivers what the client sends.

docs/protocol.md, "Polling".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..ends import attempt
from ..interfaces import Closing, IPushReceiver, ITransport
from ..logs import DebugScope
from ..protocol.errors import CloseReason, DecodeError, HTTPRefusal, PayloadTooLarge, SessionClosing, TooManyPackets
from ..protocol.packet import Packet, PacketType, decodeText, describe
from ..protocol.payload import Codec
from ..web.answers import AnswerHeaders, refuse
from ..web.connections import unsent
from .base import Transport
from .compression import CompressedBody, codingFor, compressedAtOnce, compressorFor
from .pushes import Push, packetsOf
from .unread import UnreadAnswer, UntakenResponses

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..observer import Counters
    from ..protocol.option_parts import HttpCompression
    from ..protocol.options import ServerOptions

_debug = DebugScope("engine:polling")

Announcement = Callable[[Any, str | None], object]

_OK_HEADERS = AnswerHeaders({"Content-Type": "text/html", "Cache-Control": "no-store"})
_TEXT_HEADERS = AnswerHeaders({"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store"})
_BINARY_HEADERS = AnswerHeaders({"Content-Type": "application/octet-stream", "Cache-Control": "no-store"})


@implementer(ITransport, IPushReceiver)
class PollingTransport(Transport):
    """
    The polling transport of one session.

    The router calls it with each GET (L{poll}) and POST (L{push}) of the session; the request class of our own site
    while it reads the body of a POST (L{pushStarted}, L{pushEnded}, L{pushRefused}, L{pushLost}); and the session. It
    owns the GET that waits, the POST whose body is being read or delivered, at most one of each, and the responses
    that its client has not taken.

    @param clock: the reactor, by which a large payload is delivered in turns.
    @param announce: called with each request that is about to be answered, when the headers of the response are set,
        and the id of the session if it is the response that opens one, otherwise None. It may change the headers.
    @ivar isHeldBack: whether the session wants nothing to be received.
    """

    name = "polling"
    isPolled = True
    isHeldBack = False
    _log = Logger()
    _isClosed = False
    # Few sessions ever have one of these.
    _untaken: UntakenResponses | None = None
    # The POST that is being delivered, or that is answered when the session goes on receiving.
    _push: Push | None = None
    # Whether a POST's body is the payload.
    _isPlain = True
    # The request that opens the session, and the id of that, until the response to it.
    _opening: tuple[Any, str] | None = None

    def __init__(
        self,
        codec: Codec,
        supportsBinary: bool,
        options: ServerOptions,
        clock: IReactorTime,
        announce: Announcement,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(codec, supportsBinary, counters)
        self._clock = clock
        self._announceHeaders = announce
        self._maxHttpBufferSize = options.maxHttpBufferSize
        self._maxPackets = options.maxPacketsPerPayload
        self._compression = options.httpCompression
        self._poll: Any = None
        self._body: Request | None = None

    @property
    def writable(self) -> bool:
        return self._hasPoll and (self._untaken is None or not self._untaken.isTooMuch)

    @property
    def _hasPoll(self) -> bool:
        """Whether a GET waits that can be answered. If its connection is lost, others may hear of it before we do."""
        return self._poll is not None and not self._poll.isAnswered

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of earlier responses the client has not taken."""
        return 0 if self._untaken is None else self._untaken.bufferedAmount

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

    # GET

    def open(self, request: Any, sid: str) -> None:
        """
        Let the GET wait that opens the session, which is about to send.

        @param sid: the id of the session, with which the response is announced.
        """
        self._opening = request, sid
        self._wait(request)

    def poll(self, request: Any) -> None:
        """Serve a GET: it waits until there is something to send. A second one while one waits ends the session."""
        if self._poll is not None:
            self._failed("overlapping GET requests")
            self._refuse(request, HTTPRefusal("a GET of this session is waiting already", name="OVERLAPPING_GET"))
            return
        self._wait(request)
        self.owner.transportReady(self)

    def _wait(self, request: Any) -> None:
        self._poll = request
        request.watch(self, isWaiting=True)

    def requestLost(self, request: Any) -> None:
        """Called when the connection of a GET, or of a POST that is complete, is lost: the session ends."""
        push = self._push
        if push is not None and push.request is request:
            push.request = None
            if not push.isDelivering:
                self._push = None
                push.isOver = True
            self._failed("data request connection closed prematurely")
            return
        # One whose response is still being compressed may be lost while another waits.
        if self._poll is request:
            self._poll = None
        self._failed("poll connection closed prematurely")

    # POST: its body is read

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
            self._failed("data request connection closed prematurely")

    def pushEnded(self, request: Request) -> None:
        """Called when the body of a POST is complete."""
        if self._body is request:
            self._body = None

    def pushRefused(self, request: Request, refusal: HTTPRefusal) -> None:
        """Called when the body of a POST was refused before it was complete: the session ends. The caller answers."""
        self.pushEnded(request)
        self._failed(refusal.message)

    # POST: its packets are delivered

    def push(self, request: Any) -> None:
        """Serve a POST, whose body is complete: deliver its packets, one after the other, in turns if they are many."""
        body = request.bodyUpTo(self._maxHttpBufferSize + 1)
        if len(body) > self._maxHttpBufferSize:
            # Only a site whose request class isn't ours lets such a body come this far.
            self._refuseAsTooMuch(request, PayloadTooLarge(self._maxHttpBufferSize))
            return
        if self._push is not None:
            self._refuse(request, self._overlap())
            return
        payload: str | bytes | Generator[None, None, str | bytes]
        if self._isPlain and not self.isHeldBack:
            try:
                payload = self._payloadOf(request, body)
            except DecodeError as error:
                self._isBroken(request, error)
                return
            counters = self.counters
            message = None if counters.trafficObservers or _debug.enabled else self.codec.onlyMessage(payload)
            if message is not None:
                # Nearly always.
                counters.bytesReceived += len(body)
                counters.packetsReceived += 1
                refusal = self.owner.transportMessage(self, message)
                if refusal is not None:
                    self._refuse(request, refusal)
                elif self.isHeldBack:
                    # It is answered when the application wants more.
                    self._push = Push(self, self._clock, request)
                    request.watch(self)
                else:
                    self._acknowledge(request)
                return
        else:
            payload = self._readPayload(request, body)
        count = partial(self.counters.addBytesReceived, self.owner, len(body))
        packets = packetsOf(payload, self.codec, self._maxPackets, count)
        self._push = push = Push(self, self._clock, request, packets, len(body))
        # What reads it holds it.
        del body, payload, packets
        push.deliver()
        if self._push is push:
            push.isLate = True
            request.watch(self)

    def pushDelivered(self, push: Push) -> None:
        """Called when the session has all packets of a POST."""
        self._push = None
        if push.request is not None:
            self._acknowledge(push.request)
        if push.end is not None:
            self.owner.transportClosed(self, push.end)
        elif push.isLate:
            self.owner.transportDelivered(self)

    def pushStopped(self, push: Push, error: DecodeError | HTTPRefusal) -> None:
        """Called when nothing more of a POST is delivered, as it holds something else, or isn't taken."""
        self._push = None
        if isinstance(error, DecodeError):
            self._isBroken(push.request, error)
        elif push.request is not None:
            answer = self._refuseAsTooMuch if isinstance(error, TooManyPackets) else self._refuse
            answer(push.request, error)

    def _isBroken(self, request: Any, error: DecodeError) -> None:
        self.owner.transportClosed(self, Closing(CloseReason.PARSE_ERROR, str(error)))
        if request is not None:
            self._refuse(request, HTTPRefusal(str(error), name="PARSE_ERROR"))

    def _dropPush(self, refusal: HTTPRefusal | None = None) -> None:
        """Refuse the POST that is being delivered: the session is over, or takes no more."""
        push = self._push
        # One that is running finds out by itself.
        if push is not None and not push.isRunning:
            self._push = None
            push.isOver = True
            if push.request is not None:
                self._refuse(push.request, refusal or SessionClosing())

    def _acknowledge(self, request: Any) -> None:
        request.respond(200, _headersFor(request, _OK_HEADERS), b"ok", self._announce)

    def pauseReceiving(self) -> None:
        self.isHeldBack = True

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        self.isHeldBack = False
        if not isDelivered:
            self._dropPush()
        elif self._push is not None:
            self._push.deliverLater()

    # Sending

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        payload = None if _debug.enabled else self.codec.messagePayload(data)
        if payload is None:
            self.send((Packet(PacketType.MESSAGE, data, compress),))
        else:
            self._answer(payload, 1, self._compression if compress else None)

    def send(self, packets: Sequence[Packet]) -> int:
        self._send(packets, self._compression)
        return len(packets)

    def _send(self, packets: Sequence[Packet], compression: HttpCompression | None) -> None:
        if _debug.enabled:
            _debug.log(f"{self.owner.logName}: sending {'; '.join(map(describe, packets))}")
        if self._hasPoll:
            payload = self.codec.encodePayload(packets, self.supportsBinary)
            wanted = compression if any(packet.compress for packet in packets) else None
            self._answer(payload, len(packets), wanted)

    def _answer(self, payload: str | bytes, count: int, compression: HttpCompression | None) -> None:
        """
        Answer the GET that waits.

        @param count: the number of packets in the payload.
        @param compression: the settings; None if nobody asked for compression.
        """
        request, self._poll = self._poll, None
        if request is None:
            return
        common, body = self._bodyOf(payload)
        headers = _headersFor(request, common)
        self.counters.addPacketsSent(self.owner, count)
        if compression and (coding := codingFor(request, len(body), compression)):
            headers = {**headers, "Content-Encoding": coding}
            compressor = compressorFor(coding, compression)
            compressed = compressedAtOnce(body, compressor)
            if compressed is None:
                self._sendInPieces(request, headers, body, compressor)
                return
            body = compressed
        self._sentBytes(len(body))
        channel, connection = request.channel, request.connection
        if not request.respond(200, headers, body, self._announce) and unsent(connection):
            self._responses().add(UnreadAnswer(channel, connection, len(body), self._responseTaken))

    def _responses(self) -> UntakenResponses:
        if self._untaken is None:
            self._untaken = UntakenResponses()
        return self._untaken

    def _responseTaken(self) -> None:
        """Called when the client may have taken a response that it had not read."""
        if self._poll is not None:
            self.owner.transportReady(self)

    def _sendInPieces(self, request: Any, headers: Mapping[str, str], body: bytes, compressor: Any) -> None:
        for name, value in headers.items():
            request.setHeader(name, value)
        # A request of twisted.web has producers; from here on the response is its own.
        given = request.request
        self._announce(request)
        responses = self._responses()
        finished = partial(responses.compressed, taken=self._responseTaken)
        compressed = CompressedBody(given, body, compressor, finished, self._responseTaken, self._sentBytes)
        if self._isClosed:
            # By a handler that was to look at the headers.
            compressed.hurry()
        else:
            responses.compress(compressed)
            given.registerProducer(compressed, False)

    def _sentBytes(self, size: int) -> None:
        self.counters.addBytesSent(self.owner, size)

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
        last = PacketType.NOOP if reason is CloseReason.TRANSPORT_CLOSE else PacketType.CLOSE
        self._send([*packets, Packet(last)], None)
        return len(packets)

    # What differs for clients of JSONP

    def _readPayload(self, request: Any, body: bytes) -> Generator[None, None, str | bytes]:
        """
        Return the payload that a POST carries, after as many turns as that takes.

        @raise DecodeError: it carries none.
        """
        return self._payloadOf(request, body)
        yield

    def _payloadOf(self, request: Any, body: bytes) -> str | bytes:
        """
        Return the payload that a POST carries, if that is its body.

        @raise DecodeError: it carries none.
        """
        types = request.headerValues(b"content-type")
        isBinary = types and types[-1].partition(b";")[0].strip().lower() == b"application/octet-stream"
        return body if isBinary else decodeText(body)

    def _bodyOf(self, payload: str | bytes) -> tuple[AnswerHeaders, bytes]:
        """Return the headers and the body of a response that carries a payload."""
        if isinstance(payload, bytes):
            return _BINARY_HEADERS, payload
        return _TEXT_HEADERS, payload.encode()

    # Failures and refusals

    def _failed(self, description: str) -> None:
        push = self._push
        if push is None or not push.isDelivering:
            self.owner.transportClosed(self, Closing(CloseReason.TRANSPORT_ERROR, description))
        elif push.end is None and not self._isClosed:
            # Behind what came before it.
            push.end = Closing(CloseReason.TRANSPORT_ERROR, description)

    def _announce(self, request: Any) -> None:
        opening = self._opening
        if opening is not None and opening[0] is request:
            self._opening = None
            self._announceHeaders(request, opening[1])
        else:
            self._announceHeaders(request, None)

    def _refuseAsTooMuch(self, request: Any, refusal: HTTPRefusal) -> None:
        if self.counters.throttle.allows(refusal.name):
            self._log.warn(
                "POST of session {session} refused: {reason}",
                session=self.owner.logName,
                reason=refusal.message,
                name=refusal.name,
            )
        # What the client sent is lost, and it doesn't send it again.
        self._failed(refusal.message)
        self._refuse(request, refusal)

    def _refuse(self, request: Any, refusal: HTTPRefusal) -> None:
        self.counters.requestRefused(request, refusal)
        refuse(request, refusal, self._announce)


def _headersFor(request: Any, headers: AnswerHeaders) -> Mapping[str, str]:
    """Return the headers of the response to a request."""
    userAgents = request.headerValues(b"user-agent")
    if userAgents and (b";MSIE" in userAgents[-1] or b"Trident/" in userAgents[-1]):
        # These take a payload for an attempt at cross-site scripting, and change it.
        return {**headers, "X-XSS-Protection": "0"}
    return headers
