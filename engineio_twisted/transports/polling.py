"""
HTTP long-polling: a GET waits until there is something to send, a POST delivers what the client has to say.

docs/protocol.md, "Polling".
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..ends import attempt
from ..interfaces import IPushReceiver, ITransport, IUnreadAnswer
from ..logs import DebugScope
from ..protocol.errors import CloseReason, DecodeError, HTTPRefusal, PayloadTooLarge, SessionClosing, TooManyPackets
from ..protocol.headers import contentCoding
from ..protocol.packet import Packet, PacketType, decodeText, describe, excerpt
from ..protocol.payload import Codec
from ..turns import TURN, inLaterTurn
from ..web.answers import AnswerHeaders, headerValues, refuse, respond, watch
from ..web.connections import connectionOf, isStream, unsent
from .base import Transport

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..observer import Counters
    from ..protocol.option_parts import HttpCompression
    from ..protocol.options import ServerOptions

_debug = DebugScope("engine:polling")

COMPRESSED_AT_ONCE = 65536
"""
Bytes of a payload that are compressed without a pause. More goes out in pieces of this size.

A piece takes about a millisecond, a payload of ten megabytes a sixth of a second, in which nobody else would be
served (docs/architecture/compression.md).
"""


Announcement = Callable[[Any, str | None], object]

UNREAD = 65536
"""
Bytes of earlier answers that a client may leave unread and have its next GET answered all the same.

As many as Twisted writes to a connection before it stops a producer. A client that polls has read the answer before, so
there are none but of one that polls on ever new connections without reading.
"""

MAX_UNREAD = 16
"""On how many connections they may be."""


def _contentOf(request: Any, size: int) -> bytes:
    """Return so much of a request's body, from its beginning."""
    # One of ours has a shorter way.
    short = getattr(request, "bodyUpTo", None)
    if short is not None:
        return bytes(short(size))
    # A middleware may have read it.
    request.content.seek(0)
    return bytes(request.content.read(size))


def _compressor(coding: str, settings: HttpCompression) -> Any:
    # What tells zlib the format; either way its window has the largest size.
    windowBits = {"gzip": 31, "deflate": 15}[coding]
    return zlib.compressobj(settings.level, zlib.DEFLATED, windowBits, settings.memLevel)


@implementer(IPullProducer)
class CompressedBody:
    """
    A large body, compressed piece by piece as the connection asks for more.

    @param request: what is answered; its headers are written.
    @param compressor: of zlib.
    @param finished: called with it when all is written, or nobody is there to read it.
    @param answered: called when the request is answered.
    @param count: called with the size of each piece that is sent.
    @ivar channel: on which it is sent.
    @ivar connection: to which it is written.
    @ivar size: how many bytes were written.
    """

    def __init__(
        self,
        request: Request,
        body: bytes,
        compressor: Any,
        finished: Callable[[CompressedBody], object],
        answered: Callable[[], object],
        count: Callable[[int], object],
    ) -> None:
        self._request = request
        self.channel: Any = request.channel
        self.connection: Any = connectionOf(request)
        self.size = 0
        self._rest = memoryview(body)
        self._compressor = compressor
        self._finished = finished
        self._answered = answered
        self._count = count

    @property
    def left(self) -> int:
        """How many bytes are to be compressed yet."""
        return len(self._rest)

    def resumeProducing(self) -> None:
        """Write the next piece."""
        self._write(COMPRESSED_AT_ONCE)

    def hurry(self) -> None:
        """Write all that is left."""
        self._write(len(self._rest))

    def stopProducing(self) -> None:
        """Learn that the connection is lost."""
        self._finished(self)

    def _write(self, size: int) -> None:
        if self._request.channel is None:
            # The connection is lost. A channel that was closing doesn't say so, and would ask for more for ever.
            self.channel.unregisterProducer()
            self._finished(self)
            return
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._send(self._compressor.compress(piece))
        if not self._rest:
            self._send(self._compressor.flush())
            self._finished(self)
            self._request.unregisterProducer()
            self._request.finish()
            self._answered()

    def _send(self, piece: bytes) -> None:
        self.size += len(piece)
        self._count(len(piece))
        self._request.write(piece)


@implementer(IUnreadAnswer)
class UnreadAnswer:
    """
    An answer that the client may not have read yet.

    The connection may carry requests of others after it, where a proxy keeps it. What they don't read, and the GETs of
    theirs that wait on it, are none of this session's business.

    @param channel: on which it was given.
    @param connection: to which it was written.
    @param size: how many bytes it has.
    @param polling: whose it is; it is told when the answer is read, by a channel of ours.
    """

    def __init__(self, channel: Any, connection: Any, size: int, polling: PollingTransport) -> None:
        self.connection = connection
        self._channel = channel
        self._size = size
        tell = getattr(channel, "tellWhenRead", None)
        if tell is not None:
            # One of ours knows of each request that comes.
            tell(self)
        self._polling = polling

    # Whether another request has come on the connection, or all was read.
    isOver = False

    @property
    def left(self) -> int:
        """How many of its bytes the connection may not have given to the system."""
        return 0 if self.isOver else min(self._size, unsent(self.connection))

    def read(self) -> None:
        """Learn that the client has taken all that was written to the connection."""
        self.isOver = True
        self._polling.answerRead()

    def cut(self) -> None:
        """Cut the connection, unless it is somebody else's by now."""
        isAlone = isStream(self.connection) or (self.left and not getattr(self._channel, "requests", ()))
        if isAlone:
            _cut(self.connection)


def _cut(connection: Any) -> None:
    # Other than those of Twisted, where nothing is known of what is unread, may not be able to.
    abort = getattr(connection, "abortConnection", None)
    if abort is not None:
        abort()


class _Push:
    """
    A POST whose body is complete, and that isn't answered yet.

    @ivar request: the request; None once its connection is lost.
    @ivar packets: those of its packets that the session hasn't got, with None where others may have their turn; None
        once it has all.
    @ivar size: bytes of its body.
    @ivar end: how the session ends when it has all packets; None if it goes on.
    @ivar isRunning: whether packets are being delivered right now.
    @ivar isQueued: whether they are to be in a later turn.
    @ivar isLate: whether they took more than one turn.
    """

    __slots__ = ("end", "isLate", "isQueued", "isRunning", "packets", "request", "size")

    def __init__(self, request: Request, packets: Iterator[Packet | None] | None, size: int) -> None:
        self.request: Request | None = request
        self.packets = packets
        self.size = size
        self.end: tuple[CloseReason, str] | None = None
        self.isRunning = self.isQueued = self.isLate = False


@implementer(ITransport, IPushReceiver)
class PollingTransport(Transport):
    """
    The polling transport of one session.

    Three things call this: the server, with each GET (L{poll}) and POST (L{push}) of the session; the request class
    of our own site, while it reads the body of a POST (L{pushStarted}, L{pushEnded}, L{pushRefused}, L{pushLost}); and
    the session. It owns the GET that waits and the POST whose body is being read or delivered, at most one of each,
    answers being compressed, and knows where answers are that the client hasn't read.

    @param clock: the reactor, by which a large payload is delivered in turns.
    @param announce: called with each request that is about to be answered, when the headers of the response are set,
        and the id of the session if it is the response that opens one, otherwise None. It may change the headers.
    """

    name = "polling"
    takesAll = True
    _log = Logger()
    # Few sessions have one of these.
    _compressed: frozenset[CompressedBody] = frozenset()
    _unread: tuple[UnreadAnswer, ...] = ()
    _isClosed = False
    # Whether the session wants nothing to be received.
    _isHeldBack = False
    # The POST that is being delivered, or that is answered when the session goes on receiving.
    _push: _Push | None = None
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
        self._poll: Request | None = None
        self._body: Request | None = None

    @property
    def writable(self) -> bool:
        return self._hasPoll and (not (self._unread or self._compressed) or not self._isUnread())

    @property
    def _hasPoll(self) -> bool:
        """Whether a GET waits that can be answered. If its connection is lost, others may hear of it before we do."""
        channel: Any = None if self._poll is None else self._poll.channel
        return channel is not None and not (isStream(channel) and channel.isOver)

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of earlier answers the client hasn't taken."""
        if not self._unread and not self._compressed:
            return 0
        # While an answer is being compressed, its connection is nobody else's.
        compressed = sum([each.left + unsent(each.connection) for each in self._compressed])
        return compressed + sum([each.left for each in self._unread])

    @property
    def heldBytes(self) -> int:
        """How many bytes there are of a body that is being read, or whose packets the session hasn't got."""
        amount = 0 if self._push is None or self._push.packets is None else self._push.size
        return amount if self._body is None else amount + getattr(self._body, "received", 0)

    @property
    def isDelivering(self) -> bool:
        """Whether packets of a POST wait to be delivered."""
        return self._push is not None and self._push.packets is not None

    def _isUnread(self) -> bool:
        """Tell whether so much of earlier answers is unread that no other is given."""
        self._unread = tuple([each for each in self._unread if each.left])
        return len(self._unread) + len(self._compressed) > MAX_UNREAD or self.bufferedAmount > UNREAD

    @property
    def arriving(self) -> object:
        return None if self._body is None else (id(self._body), getattr(self._body, "received", None))

    @property
    def isReading(self) -> bool:
        """Whether the body of a POST is being read."""
        return self._body is not None

    def poll(self, request: Request) -> None:
        """Serve a GET: it waits until there is something to send. A second one while one waits ends the session."""
        if self._poll is not None:
            self._failed("overlapping GET requests")
            self._refuse(request, HTTPRefusal("a GET of this session is waiting already", name="OVERLAPPING_GET"))
            return
        self._wait(request)
        self.owner.transportReady(self)

    def open(self, request: Any, sid: str) -> None:
        """
        Let the GET wait that opens the session, which is about to send.

        @param sid: the id of the session, with which the response is announced.
        """
        self._opening = request, sid
        self._wait(request)

    def _wait(self, request: Any) -> None:
        self._poll = request
        # Its channel asks when the client sends nothing more.
        request.isWaiting = True
        watch(request, self)

    def requestLost(self, request: Request) -> None:
        """Learn that the connection of a GET, or of a POST that is complete, is lost. The session ends."""
        push = self._push
        if push is not None and push.request is request:
            push.request = None
            if push.packets is None:
                self._push = None
            self._failed("data request connection closed prematurely")
            return
        # One whose answer is still being compressed may be lost while another waits.
        if self._poll is request:
            self._poll = None
        self._failed("poll connection closed prematurely")

    def pushStarted(self, request: Request) -> None:
        """
        Learn that the body of a POST is being read.

        @raise HTTPRefusal: the body of another is. The session has ended.
        """
        if self._body is not None or self._push is not None:
            raise self._overlap()
        self._body = request

    def _overlap(self) -> HTTPRefusal:
        self._failed("overlapping POST requests")
        return HTTPRefusal("a POST of this session is being read already", name="OVERLAPPING_POST")

    def pushLost(self, request: Request) -> None:
        """Learn that the body of a POST will not be complete: its connection has gone. The session ends."""
        if self._body is request:
            self._body = None
            self._failed("data request connection closed prematurely")

    def pushEnded(self, request: Request) -> None:
        """Go on when the body of a POST is complete."""
        if self._body is request:
            self._body = None

    def pushRefused(self, request: Request, refusal: HTTPRefusal) -> None:
        """End the session, as the body of a POST was refused before it was complete. The caller answers."""
        self.pushEnded(request)
        self._failed(refusal.message)

    def push(self, request: Request) -> None:
        """Serve a POST, whose body is complete: deliver its packets, one after the other, in turns if they are many."""
        body = _contentOf(request, self._maxHttpBufferSize + 1)
        if len(body) > self._maxHttpBufferSize:
            # Only a site whose request class isn't ours lets such a body come this far.
            self._refuseAsTooMuch(request, PayloadTooLarge(self._maxHttpBufferSize))
            return
        if self._push is not None:
            self._refuse(request, self._overlap())
            return
        payload = None
        if self._isPlain and not self._isHeldBack:
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
                elif self._isHeldBack:
                    # It is answered when the application wants more.
                    self._push = _Push(request, None, 0)
                    watch(request, self)
                else:
                    self._acknowledge(request)
                return
        self._push = push = _Push(request, self._packetsOf(request, body, payload), len(body))
        self._deliver(0.0)
        if self._push is push:
            push.isLate = True
            watch(request, self)

    def _packetsOf(self, request: Request, body: bytes, payload: str | bytes | None) -> Iterator[Packet | None]:
        """
        Read the packets of a POST, with None in between where that takes long.

        @param payload: what the body holds, if that is known.
        @raise DecodeError: on reaching something that isn't a packet.
        @raise TooManyPackets: before the first, if there are more than may be.
        """
        size = len(body)
        if payload is None:
            payload = yield from self._readPayload(request, body)
        del body
        limit = self._maxPackets
        # The shortest packet is a byte.
        if limit is not None and len(payload) > limit:
            isTooMuch = yield from self.codec.holdsMore(payload, limit)
            if isTooMuch:
                raise TooManyPackets(limit)
        self.counters.addBytesReceived(self.owner, size)
        yield from self.codec.decodePayload(payload)

    def _deliverLater(self, push: _Push) -> None:
        if not push.isQueued and not push.isRunning:
            push.isQueued = True
            inLaterTurn(self._clock, partial(self._deliverOn, push))

    def _deliverOn(self, push: _Push, ends: float) -> None:
        push.isQueued = False
        # It may have been refused meanwhile.
        if push is self._push:
            self._deliver(ends)

    def _deliver(self, ends: float) -> None:
        """
        Deliver packets of the POST until the session has all, or wants no more, or time is over; then answer.

        @param ends: when it is, by the clock; 0 stands for L{TURN} seconds from now.
        """
        push = self._push
        assert push is not None
        push.isRunning = True
        try:
            isOver = self._isHeldBack or self._deliverUntil(push, ends or self._clock.seconds() + TURN)
        except DecodeError as error:
            self._push = None
            self._isBroken(push.request, error)
            return
        except HTTPRefusal as refusal:
            self._push = None
            if push.request is not None:
                refuse = self._refuseAsTooMuch if isinstance(refusal, TooManyPackets) else self._refuse
                refuse(push.request, refusal)
            return
        finally:
            push.isRunning = False
        if isOver:
            if not self._isHeldBack:
                self._deliverLater(push)
            return
        self._push = None
        if push.request is not None:
            self._acknowledge(push.request)
        if push.end is not None:
            self.owner.transportClosed(self, *push.end)
        elif push.isLate:
            self.owner.transportDelivered(self)

    def _deliverUntil(self, push: _Push, ends: float) -> bool:
        """
        Deliver packets, up to a close packet.

        @return: whether there may be more, and time is over or the session wants no more.
        @raise DecodeError: after what comes before something that isn't a packet.
        @raise HTTPRefusal: there are too many, or the session is closing. Nothing is acknowledged that nobody gets.
        """
        seconds = self._clock.seconds
        for packet in push.packets or ():
            if packet is not None:
                self._packetCame(packet)
                if packet.type is PacketType.CLOSE:
                    self.owner.transportClosed(self, CloseReason.TRANSPORT_CLOSE, "close packet")
                    return False
                refusal = self.owner.transportPacket(self, packet)
                if refusal is not None:
                    raise refusal
            if self._isHeldBack or seconds() >= ends:
                return True
        return False

    def _packetCame(self, packet: Packet) -> None:
        counters = self.counters
        counters.packetsReceived += 1
        if counters.trafficObservers:
            counters.tell("packetsReceived", self.owner, 1)
        if _debug.enabled:
            _debug.log(f"{self.owner.logName}: received {describe(packet)}")

    def _isBroken(self, request: Request | None, error: DecodeError) -> None:
        self.owner.transportClosed(self, CloseReason.PARSE_ERROR, str(error))
        if request is not None:
            self._refuse(request, HTTPRefusal(str(error), name="PARSE_ERROR"))

    def _letGoOfPush(self) -> None:
        """Refuse the POST that is being delivered: the session is over, or takes no more."""
        push = self._push
        # Within a delivery, that finds out by itself.
        if push is not None and not push.isRunning:
            self._push = None
            if push.request is not None:
                self._refuse(push.request, SessionClosing())

    def _acknowledge(self, request: Request) -> None:
        respond(request, 200, _headersFor(request, _OK_HEADERS), b"ok", self._announce)

    def pauseReceiving(self) -> None:
        self._isHeldBack = True

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        self._isHeldBack = False
        if not isDelivered:
            self._letGoOfPush()
        elif self._push is not None:
            self._deliverLater(self._push)

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
        """Answer the GET that waits with a payload of so many packets."""
        request, self._poll = self._poll, None
        if request is None:
            return
        common, body = self._bodyOf(payload)
        headers = _headersFor(request, common)
        self.counters.addPacketsSent(self.owner, count)
        coding = None
        if compression and len(body) >= compression.threshold:
            coding = contentCoding(headerValues(request, b"accept-encoding"))
        if compression and coding:
            headers = {**headers, "Content-Encoding": coding}
            compressor = _compressor(coding, compression)
            if len(body) > COMPRESSED_AT_ONCE:
                self._sendInPieces(request, headers, body, compressor)
                return
            body = compressor.compress(body) + compressor.flush()
        self._sentBytes(len(body))
        channel, connection = request.channel, connectionOf(request)
        respond(request, 200, headers, body, self._announce)
        # One of ours knows whether the system has taken all of it.
        if not getattr(request, "isTaken", False) and unsent(connection):
            self._unread += (UnreadAnswer(channel, connection, len(body), self),)

    def answerRead(self) -> None:
        """Learn that the client may have taken an answer that it hadn't read."""
        if self._poll is not None:
            self.owner.transportReady(self)

    def _sendInPieces(self, request: Request, headers: Mapping[str, str], body: bytes, compressor: Any) -> None:
        for name, value in headers.items():
            request.setHeader(name, value)
        self._announce(request)
        compressed = CompressedBody(request, body, compressor, self._isCompressed, self.answerRead, self._sentBytes)
        if self._isClosed:
            # By a handler that was to look at the headers.
            compressed.hurry()
        else:
            self._compressed |= {compressed}
            request.registerProducer(compressed, False)

    def _sentBytes(self, size: int) -> None:
        self.counters.addBytesSent(self.owner, size)

    def _isCompressed(self, body: CompressedBody) -> None:
        self._compressed -= {body}
        self._unread += (UnreadAnswer(body.channel, body.connection, body.size, self),)

    def close(self, packets: Sequence[Packet] = (), reason: CloseReason | None = None, deadline: float = 0.0) -> int:
        self._hurry()
        attempt(self._letGoOfPush, session=self.owner)
        # A client that has closed the session needs no close packet: its GET only has to end.
        isClosedByClient = reason is CloseReason.TRANSPORT_CLOSE
        self._sayGoodbye(packets, PacketType.NOOP if isClosedByClient else PacketType.CLOSE)
        return len(packets)

    def abandon(self, reason: CloseReason) -> None:
        self._isClosed = True
        for body in self._compressed:
            attempt(_cut, body.connection, session=self.owner)
        for answer in self._unread:
            attempt(answer.cut, session=self.owner)
        attempt(self._letGoOfPush, session=self.owner)
        self._sayGoodbye()

    def _sayGoodbye(self, packets: Sequence[Packet] = (), last: PacketType = PacketType.CLOSE) -> None:
        body, self._body = self._body, None
        if body is not None:
            attempt(body.loseConnection, session=self.owner)
        self._send([*packets, Packet(last)], None)

    def discard(self) -> None:
        self._hurry()
        self.send([Packet(PacketType.NOOP)])

    def _hurry(self) -> None:
        """Leave nothing for later: the connection may be closed next, and nobody tells this transport any more."""
        self._isClosed = True
        for compressed in self._compressed:
            attempt(compressed.hurry, session=self.owner)

    # What differs for clients that can't read answers themselves

    def _readPayload(self, request: Request, body: bytes) -> Generator[None, None, str | bytes]:
        """
        Return the payload that a POST carries, after as many turns as that takes.

        @raise DecodeError: it carries none.
        """
        return self._payloadOf(request, body)
        yield

    def _payloadOf(self, request: Request, body: bytes) -> str | bytes:
        """
        Return the payload that a POST carries, if that is its body.

        @raise DecodeError: it carries none.
        """
        types = headerValues(request, b"content-type")
        isBinary = types and types[-1].partition(b";")[0].strip().lower() == b"application/octet-stream"
        return body if isBinary else decodeText(body)

    def _bodyOf(self, payload: str | bytes) -> tuple[AnswerHeaders, bytes]:
        """Return the headers and the body of an answer that carries a payload."""
        if isinstance(payload, bytes):
            return _BINARY_HEADERS, payload
        return _TEXT_HEADERS, payload.encode()

    # The little that is left

    def _failed(self, description: str) -> None:
        push = self._push
        if push is None or push.packets is None:
            self.owner.transportClosed(self, CloseReason.TRANSPORT_ERROR, description)
        elif push.end is None and not self._isClosed:
            # Behind what came before it.
            push.end = CloseReason.TRANSPORT_ERROR, description

    def _announce(self, request: Request) -> None:
        opening = self._opening
        if opening is not None and opening[0] is request:
            self._opening = None
            self._announceHeaders(request, opening[1])
        else:
            self._announceHeaders(request, None)

    def _refuseAsTooMuch(self, request: Request, refusal: HTTPRefusal) -> None:
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

    def _refuse(self, request: Request, refusal: HTTPRefusal) -> None:
        self.counters.requestRefused(request, refusal)
        refuse(request, refusal, self._announce)


_OK_HEADERS = AnswerHeaders({"Content-Type": "text/html", "Cache-Control": "no-store"})
_TEXT_HEADERS = AnswerHeaders({"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store"})
_BINARY_HEADERS = AnswerHeaders({"Content-Type": "application/octet-stream", "Cache-Control": "no-store"})
_SCRIPT_HEADERS = AnswerHeaders(
    {
        "Content-Type": "text/javascript; charset=UTF-8",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
)


def _headersFor(request: Request, headers: AnswerHeaders) -> Mapping[str, str]:
    """Return the headers of the answer to a request."""
    userAgents = headerValues(request, b"user-agent")
    if userAgents and (b";MSIE" in userAgents[-1] or b"Trident/" in userAgents[-1]):
        # These take a payload for an attempt at cross-site scripting, and change it.
        return {**headers, "X-XSS-Protection": "0"}
    return headers


_MAX_FIELDS = 16
_UNQUOTED_AT_ONCE = 8192
"""Characters of a form that are read between two looks at the time, in about a millisecond."""

_STAND_IN = "\ud800"
"""What stands for something else for a moment: no text that came as UTF-8 holds it."""


def _unquoted(text: str) -> Generator[None, None, str]:
    """
    Read a name or a value of a form.

    @raise DecodeError: it isn't UTF-8.
    """
    pieces = []
    start = 0
    while start < len(text):
        end = start + _UNQUOTED_AT_ONCE
        # Not within an escape, of a percent sign and two digits.
        escape = text.find("%", end - 2, end)
        if escape >= 0:
            end = escape
        pieces.append(unquote_to_bytes(text[start:end].replace("+", " ")))
        start = end
        yield
    return decodeText(b"".join(pieces))


class JSONPTransport(PollingTransport):
    """
    The polling transport of a session whose client can't read answers: they are scripts, and a POST is a form.

    docs/protocol.md, "JSONP".

    @param index: the digits by which the script finds whom to call.
    """

    _isPlain = False

    def __init__(
        self,
        codec: Codec,
        options: ServerOptions,
        clock: IReactorTime,
        announce: Announcement,
        index: str,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(codec, False, options, clock, announce, counters)
        self._index = index

    def _readPayload(self, request: Request, body: bytes) -> Generator[None, None, str | bytes]:
        fields = decodeText(body).split("&", _MAX_FIELDS)
        if len(fields) > _MAX_FIELDS:
            raise DecodeError(f"form {excerpt(body)}: expected the field d, and no more than {_MAX_FIELDS} fields")
        values = []
        for field in fields:
            name, _, value = field.partition("=")
            unquotedName = yield from _unquoted(name)
            unquotedValue = yield from _unquoted(value)
            if unquotedName == "d":
                values.append(unquotedValue)
        if len(values) != 1:
            raise DecodeError(f"form {excerpt(body)}: expected the field d once, not {len(values)} times")
        # A newline is written "\\n" there, and a second backslash before it says that it isn't one. So a line break in
        # the form is what browsers make of a carriage return.
        text = values[0].replace("\r\n", "\r")
        return text.replace(r"\\n", _STAND_IN).replace(r"\n", "\n").replace(_STAND_IN, r"\n")

    def _bodyOf(self, payload: str | bytes) -> tuple[AnswerHeaders, bytes]:
        # Within a string, JSON allows two characters that end a line in a script.
        text = json.dumps(payload, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        return _SCRIPT_HEADERS, f"___eio[{self._index}]({text});".encode()
