"""
HTTP long-polling from the client's end: a GET waits for what the server sends, a POST carries what the client does.

docs/protocol.md, "Polling".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.web.http_headers import Headers
from zope.interface import implementer

from ..clock import cancel
from ..ends import CLOSE_TIMEOUT, attempt
from ..interfaces import Closing, ITransport
from ..protocol.errors import DecodeError, HTTPRefusal
from ..protocol.packet import Packet, PacketType
from ..protocol.payload import Codec
from ..transport import Transport
from ..transports.delivery import Delivery
from .agents import agentFor
from .bodies import CODINGS
from .connecting import Connecting
from .errors import ConnectionFailed, FailureType
from .failures import failureOf
from .payloads import BINARY, TEXT, NoSession, notEngineIO, openPacketOf, payloadOf, postedSize
from .requests import NAME, PollingRequest

HELD_PAYLOAD = 100
"""Bytes that a payload takes beside its own while it waits, counted for the bound of what waits."""

LAST_GET = 0.5
"""Seconds that the last GET has to be answered when the server has been told that the session is over."""

_CLOSE = Packet(PacketType.CLOSE)
_IN_SPITE_OF = (FailureType.PARSE, FailureType.TOO_LARGE, FailureType.HANDSHAKE)
"""Failures in spite of which a server may still be told that the session is over."""


@implementer(ITransport)
class PollingTransport(Transport):
    """
    The polling transport of a client.

    It has at most one GET and one POST at a time. The next GET begins when all that the last one brought is delivered;
    while receiving is paused at once, or the server would take the client for gone, until as many bytes wait as one
    response may have.

    @param codec: that of the revision.
    @param connecting: how to connect.
    @param maxPayload: how many bytes the server takes in a POST; None if it doesn't say.
    @ivar maxPayload: the same.
    @ivar failure: why it has ended; None until then, and if the owner has closed it.
    @ivar isHeldBack: whether the owner has paused receiving.
    """

    name = NAME
    isPolled = False
    isHeldBack: bool = False
    failure: ConnectionFailed | None = None
    _get: PollingRequest | None = None
    _post: PollingRequest | None = None
    # What GETs have brought, while packets of it wait.
    _delivery: Delivery | None = None
    _agent: Any = None
    # Whether the open packet was there.
    _isOpen = False
    # Whether the owner knows that this is over, or ended it.
    _isOver = False
    # Whether no request begins, and what is called when none runs.
    _isPaused = False
    _paused: Callable[[], object] | None = None
    # Until when the last requests are to be over.
    _deadline: IDelayedCall | None = None
    # Whether the server is still to be told that the session is over.
    _owesClose = False
    # Whether the owner has closed this, and whether the session goes on on another transport.
    _isClosed = _isLeft = False
    _isLeaving = _isGone = False

    def __init__(self, codec: Codec, connecting: Connecting, maxPayload: int | None = None) -> None:
        super().__init__(codec, codec.revision == 3 and not connecting.opts.forceBase64, connecting.counters)
        self._connecting = connecting
        self.maxPayload: int | None = maxPayload
        self._waiting: list[Deferred[None]] = []
        # The payloads that wait, each with its request if it is the first.
        self._payloads: deque[tuple[str | bytes, PollingRequest | None]] = deque()

    # What the session asks

    @property
    def writable(self) -> bool:
        return self._post is None and self._isOpen and not self._isPaused and self._mayGoOn

    @property
    def _mayGoOn(self) -> bool:
        """Whether nothing has failed, and nobody has ended this."""
        return self.failure is None and not self._isOver

    @property
    def bufferedAmount(self) -> int:
        """How many bytes the server hasn't said that it has."""
        return 0 if self._post is None else self._post.size

    @property
    def heldBytes(self) -> int:
        """The bytes of a payload that is being read, or whose packets the session does not have yet."""
        amount = 0 if self._get is None else self._get.received or 0
        return amount if self._delivery is None else amount + self._delivery.size

    @property
    def isDelivering(self) -> bool:
        """Whether packets of a payload wait to be delivered."""
        return self._delivery is not None

    @property
    def arriving(self) -> object:
        get = self._get
        return None if get is None or get.received is None else (id(get), get.received)

    def open(self, **more: str) -> None:
        """
        Begin with the first GET.

        @param more: further parameters of its URL.
        """
        connecting = self._connecting
        try:
            self._agent = agentFor(connecting)
        except Exception as error:
            # A policy of the application's may raise anything.
            self._fail(failureOf(error))
            return
        self._headers = Headers({"Accept": ["*/*"], "Accept-Encoding": [CODINGS.decode("ascii")]})
        for name, value in {**self._agent.headers, **connecting.opts.extraHeaders}.items():
            self._headers.setRawHeaders(name.encode("ascii"), [value.encode("latin-1")])
        self._postHeaders = {}
        for kind in (TEXT, BINARY):
            headers = self._postHeaders[kind] = self._headers.copy()
            headers.setRawHeaders(b"Content-Type", [kind])
        self._poll(**more)

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        counters = self.counters
        payload = None if counters.trafficObservers else self.codec.messagePayload(data)
        if payload is None:
            self._send((Packet(PacketType.MESSAGE, data, compress),))
        else:
            counters.packetsSent += 1
            self._push(payload.encode(), TEXT)

    def send(self, packets: Sequence[Packet]) -> int:
        batch = self._batchOf(packets)
        self._send(batch)
        return len(batch)

    def _batchOf(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        """Return the first of some packets: those that one POST carries. One at least, as no other could carry it."""
        packets = packets[: self._connecting.opts.maxPacketsPerPayload]
        limit = self.maxPayload
        if limit is None or len(packets) < 2:
            return packets
        size = 0
        for count, packet in enumerate(packets):
            size += postedSize(packet.data, self.codec, self.supportsBinary)
            if size > limit and count:
                return packets[:count]
            # In revision 4 there is a byte between two.
            size += 1
        return packets

    def _send(self, packets: Sequence[Packet]) -> None:
        payload = self.codec.encodePayload(packets, self.supportsBinary)
        counters = self.counters
        counters.packetsSent += len(packets)
        if counters.trafficObservers:
            counters.tell("packetsSent", self.owner, packets, self)
        if isinstance(payload, str):
            self._push(payload.encode(), TEXT)
        else:
            self._push(payload, BINARY)

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        if self._isClosed:
            return 0
        mayTake = self.writable
        self._isClosed = self._isOver = True
        clock = self._connecting.clock
        self._deadline = clock.callLater(max(CLOSE_TIMEOUT, closing.deadline - clock.seconds()), self._giveUp)
        taken = 0
        # If the session goes on, it gets what is being delivered; and the server ends a GET that waits.
        self._isLeft = closing.reason is None and self._isOpen and self.failure is None
        if not self._isLeft:
            self._dropDelivery()
            if closing.reason is None or closing.isByClient or not self._mayTell:
                self._giveUp()
            elif self._post is not None:
                self._owesClose = True
            else:
                batch = self._batchOf([*(packets if mayTake else ()), _CLOSE])
                self._owesClose = batch[-1] is not _CLOSE
                taken = len(batch) if self._owesClose else len(batch) - 1
                self._send(batch)
        self._leaveIfDone()
        return taken

    @property
    def _mayTell(self) -> bool:
        """Whether the server can be told that the session is over."""
        isThere = self.failure is None or self.failure.type in _IN_SPITE_OF
        return isThere and self._isOpen and self._connecting.sid is not None

    def whenGone(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing of this is left in the reactor, some time after L{close}."""
        gone: Deferred[None] = Deferred()
        if self._isGone:
            gone.callback(None)
        else:
            self._waiting.append(gone)
        return gone

    def pauseReceiving(self) -> None:
        self.isHeldBack = True
        self._poll()

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        self.isHeldBack = False
        if not isDelivered:
            self._dropDelivery()
        if self._delivery is not None:
            self._delivery.deliverLater()
        else:
            self._poll()

    # What an upgrade asks

    def pause(self, paused: Callable[[], object]) -> None:
        """
        Begin no further request.

        @param paused: called when none runs any more. It isn't if this ends, or goes on, before.
        """
        self._isPaused = True
        self._paused = paused
        self._callPaused()

    def unpause(self) -> None:
        """Go on."""
        self._isPaused = False
        self._paused = None
        self._poll()
        if self.writable:
            self.owner.transportReady(self)

    def _callPaused(self) -> None:
        if self._paused is not None and self._get is None and self._post is None and self._mayGoOn:
            paused, self._paused = self._paused, None
            paused()

    # Requests

    def _poll(self, **more: str) -> None:
        """Begin the next GET, if it may begin."""
        if self._get is None and self._mayGoOn and not self._isPaused and self._agent is not None and self._hasRoom:
            self._get = get = PollingRequest(self._connecting, None, self._polled)
            get.send(self._agent, self._headers, **more)

    @property
    def _hasRoom(self) -> bool:
        """Whether what another GET brings may wait, or need not."""
        delivery = self._delivery
        if delivery is None:
            return True
        held = delivery.size + HELD_PAYLOAD * len(self._payloads)
        return self.isHeldBack and held < self._connecting.opts.maxHttpBufferSize

    def _push(self, body: bytes, kind: bytes) -> None:
        """Begin a POST."""
        size = len(body)
        self.counters.bytesSent += size
        if self.counters.trafficObservers:
            self.counters.tell("bytesSent", self.owner, size)
        self._post = post = PollingRequest(self._connecting, body, self._pushed)
        post.send(self._agent, self._postHeaders[kind])

    def _pushed(self, post: PollingRequest) -> None:
        """Called when a POST is answered, or has failed."""
        self._post = None
        if self._isClosed:
            self._toldLast(post)
        elif post.failure is not None:
            self._fail(post.failure)
        else:
            self._callPaused()
            if self.writable:
                self.owner.transportReady(self)

    def _polled(self, get: PollingRequest) -> None:
        """Called when a GET is answered, or has failed."""
        self._get = None
        if self._isClosed:
            self._leaveIfDone()
            return
        failure, size = get.failure, get.bodySize
        if failure is not None:
            self._fail(failure)
        if not self._mayGoOn:
            return
        counters = self.counters
        counters.bytesReceived += size
        if counters.trafficObservers:
            counters.tell("bytesReceived", self.owner, size)
        try:
            payload = payloadOf(get, self.codec)
        except DecodeError as error:
            if self._isOpen:
                self._fail(ConnectionFailed(FailureType.PARSE, str(error)))
                return
            payload = None
        if payload is None:
            self._fail(notEngineIO(get))
            return
        delivery = self._delivery
        isPlain = self._isOpen and not self.isHeldBack and delivery is None and not counters.trafficObservers
        message = self.codec.onlyMessage(payload) if isPlain else None
        if message is not None:
            # Nearly always.
            counters.packetsReceived += 1
            self.owner.transportMessage(self, message)
            self._goOn()
            return
        self._payloads.append((payload, None if self._isOpen else get))
        # What reads it holds it.
        del payload, get
        if delivery is not None:
            delivery.size += size
        else:
            self._delivery = delivery = Delivery(self, self._connecting.clock, self._packets(), size)
            delivery.deliver()
            if self._delivery is not delivery:
                return
            delivery.isLate = True
        self._goOn()

    def _goOn(self) -> None:
        """Go on when a GET was answered, as far as there is room for more."""
        self._poll()
        self._callPaused()

    # What a GET brings

    def _packets(self) -> Iterator[Packet]:
        """
        Read the packets of all payloads.

        @raise DecodeError: on reaching something that isn't a packet.
        """
        while self._payloads:
            yield from self._packetsOf(*self._payloads.popleft())

    def _packetsOf(self, payload: str | bytes, get: PollingRequest | None) -> Iterator[Packet]:
        packets = self.codec.decodePayload(payload)
        if get is not None:
            packet = openPacketOf(packets, get)
            self._isOpen = True
            yield packet
        del payload, get
        for packet in packets:
            if packet.type is PacketType.CLOSE:
                self.failure = ConnectionFailed(FailureType.CLOSED, "close packet", NAME)
                self._isOver = True
            yield packet

    def deliveryEnded(self, delivery: Delivery) -> None:
        """Called when the owner has all packets of a payload."""
        self._delivery = None
        if delivery.end is not None:
            self._tell(delivery.end)
            return
        self._goOn()
        if delivery.isLate:
            self.owner.transportDelivered(self)

    def deliveryStopped(self, delivery: Delivery, error: DecodeError | HTTPRefusal) -> None:
        """Called when nothing more of a payload is delivered, as it holds something else, or isn't taken."""
        self._delivery = None
        self._payloads.clear()
        if isinstance(error, HTTPRefusal):
            self.deliveryEnded(delivery)
            return
        # What failed meanwhile is behind it; and a session that has moved to WebSocket ends by this too.
        self.failure = None
        self._isOver = self._isOver and not self._isLeft
        if isinstance(error, NoSession):
            self._fail(error.failure)
        else:
            self._fail(ConnectionFailed(FailureType.PARSE, str(error)))

    def _dropDelivery(self) -> None:
        delivery = self._delivery
        # One that is running finds out by itself.
        if delivery is not None and not delivery.isRunning:
            self._delivery = None
            self._payloads.clear()
            delivery.isOver = True

    # The end

    def _fail(self, failure: ConnectionFailed) -> None:
        """End, behind what is being delivered."""
        if self._isOver or self.failure is not None:
            return
        self.failure = failure
        failure.transport = NAME
        closing = Closing(failure.reason, failure.description)
        if self._delivery is None:
            self._tell(closing)
        else:
            self._delivery.end = closing

    def _tell(self, closing: Closing) -> None:
        """Let the owner know of the end."""
        if not self._isOver:
            self._isOver = True
            self.owner.transportClosed(self, closing)

    def _toldLast(self, post: PollingRequest) -> None:
        """Called when a POST is over that was running when this was closed, or that has told the server of it."""
        if post.failure is not None:
            self._giveUp()
        elif self._owesClose:
            self._owesClose = False
            self._send([_CLOSE])
        elif self._get is not None:
            cancel(self._deadline)
            self._deadline = self._connecting.clock.callLater(LAST_GET, self._giveUp)
        self._leaveIfDone()

    def _giveUp(self) -> None:
        """Abort what is running."""
        requests = self._get, self._post
        self._get = self._post = None
        for request in requests:
            if request is not None:
                attempt(request.abort, session=self.owner)
        if self._agent is not None:
            attempt(self._agent.abort, session=self.owner)
        self._leaveIfDone()

    def _leaveIfDone(self) -> None:
        if self._get is None and self._post is None and not self._isLeaving:
            self._isLeaving = True
            cancel(self._deadline)
            closed = succeed(None) if self._agent is None else self._agent.close()
            closed.addBoth(self._left)

    def _left(self, result: object) -> None:
        self._isGone = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
