"""
WebSocket: one packet a frame, on a connection taken over from twisted.web, whatever implements WebSocket.

L{WebSocketTransport} turns frames into packets. What turns bytes into frames is a C{wsEngine}: the interfaces
between the two are here, and what is the same for all engines. docs/protocol.md, "WebSocket"; docs/architecture.md,
"Engines" and "Taking over a connection".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from ..clock import cancel, steadyClock
from ..ends import CLOSE_TIMEOUT, Connections
from ..interfaces import ITransport, IWebSocketReceiver
from ..logs import DebugScope
from ..protocol.errors import CloseReason, DecodeError
from ..protocol.packet import Packet, PacketType, describe
from ..protocol.payload import Codec
from ..turns import inLaterTurn
from ..web.connections import unsent
from .base import Transport

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from ..observer import Counters

_debug = DebugScope("engine:ws")

_CLOSE = PacketType.CLOSE
_MESSAGE_DIGIT = b"%d" % PacketType.MESSAGE

REVISION = 4
"""The revision of the protocol whose messages on WebSocket are taken the shorter way."""

MANY_PIECES = 1024
"""Of so many pieces of a message engines make one: each takes some fifty bytes more than what is in it."""


NORMAL, GOING_AWAY, POLICY_VIOLATION, TOO_LARGE, INTERNAL_ERROR = 1000, 1001, 1008, 1009, 1011
"""
Codes of close frames (RFC 6455, 7.4.1): the session is over; the server is; the client does what it may not; it sent
a message over the limit; we failed.
"""

_CODES = {
    CloseReason.SERVER_SHUTTING_DOWN: GOING_AWAY,
    CloseReason.RATE_LIMIT_EXCEEDED: POLICY_VIOLATION,
}
"""What a client is told where a session ends for one of these reasons."""


def _nothing() -> None:
    pass


@implementer(ITransport, IWebSocketReceiver)
class WebSocketTransport(Transport):
    """
    The WebSocket transport of one session, or of one trying to upgrade.

    Its engine calls the methods of L{IWebSocketReceiver}, its session those of L{ITransport}.

    @param begin: called with the WebSocket open: it sets the transport's owner.
    """

    name = "websocket"
    takesAll = False
    webSocket: Any
    # Whether the owner knows that this is over, or ended it.
    _ended = False

    def __init__(
        self, codec: Codec, supportsBinary: bool, begin: Callable[[], None], counters: Counters | None = None
    ) -> None:
        super().__init__(codec, supportsBinary, counters)
        self._begin = begin
        # Whether a message is what there is to send, text behind a digit.
        self._isPlain = codec.revision == REVISION and supportsBinary

    # ITransport

    @property
    def writable(self) -> bool:
        return bool(self.webSocket.writable)

    @property
    def bufferedAmount(self) -> int:
        amount: int = self.webSocket.bufferedAmount
        return amount

    @property
    def arriving(self) -> object:
        arriving: object = self.webSocket.arriving
        return arriving

    @property
    def heldBytes(self) -> int:
        amount: int = self.webSocket.heldBytes
        return amount

    @property
    def isDelivering(self) -> bool:
        return bool(self.webSocket.isDelivering)

    def send(self, packets: Sequence[Packet]) -> int:
        webSocket = self.webSocket
        counters = self.counters
        taken = 0
        for packet in packets:
            # Sending may find out that the client takes no more now, or that the connection is lost.
            if not webSocket.writable and (taken or not webSocket.isOpen):
                return taken
            taken += 1
            if _debug.enabled:
                _debug.log(f"{self.owner.logName}: sending {describe(packet)}")
            counters.packetsSent += 1
            if counters.trafficObservers:
                counters.tell("packetsSent", self.owner, 1)
            shared = packet.shared
            if packet.utf8 is not None and shared is None:
                webSocket.sendText(_MESSAGE_DIGIT + packet.utf8, packet.compress)
                continue
            if shared is None:
                webSocket.send(self.codec.encodePacket(packet, self.supportsBinary), packet.compress)
                continue
            form = (self.codec, self.supportsBinary)
            message = shared.get(form)
            if message is None:
                shared[form] = message = self.codec.encodePacket(packet, self.supportsBinary)
            webSocket.send(message, packet.compress, shared)
        return taken

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        counters = self.counters
        if not self._isPlain or _debug.enabled or counters.trafficObservers:
            self.send((Packet(PacketType.MESSAGE, data, compress, utf8=utf8),))
            return
        counters.packetsSent += 1
        if isinstance(data, str):
            self.webSocket.sendText(_MESSAGE_DIGIT + (data.encode() if utf8 is None else utf8), compress)
        else:
            self.webSocket.send(data, compress)

    def close(self, packets: Sequence[Packet] = (), reason: CloseReason | None = None, deadline: float = 0.0) -> int:
        try:
            return self.send(packets) if packets and self.webSocket.writable else 0
        finally:
            self._ended = True
            self.webSocket.close(NORMAL if reason is None else _CODES.get(reason, NORMAL), deadline)

    def abandon(self, reason: CloseReason) -> None:
        self.close((), reason)

    def discard(self) -> None:
        # Nothing comes after a WebSocket that a session could go on with.
        self.close()

    def pauseReceiving(self) -> None:
        self.webSocket.pauseReceiving()

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        self.webSocket.resumeReceiving()

    # IWebSocketReceiver

    def opened(self, webSocket: Any) -> None:
        self.webSocket = webSocket
        begin, self._begin = self._begin, _nothing
        begin()

    def received(self, data: str | bytes) -> None:
        if self._ended:
            return
        counters = self.counters
        if self._isPlain and not counters.trafficObservers and not _debug.enabled:
            # Nearly always a message.
            if not isinstance(data, str):
                counters.packetsReceived += 1
                self.owner.transportMessage(self, data)
                return
            if data[:1] == "4":
                counters.packetsReceived += 1
                self.owner.transportMessage(self, data[1:])
                return
        try:
            packet = self.codec.decodePacket(data)
        except DecodeError as error:
            self._over(CloseReason.PARSE_ERROR, str(error))
            return
        counters.packetsReceived += 1
        if counters.trafficObservers:
            counters.tell("packetsReceived", self.owner, 1)
        if _debug.enabled:
            _debug.log(f"{self.owner.logName}: received {describe(packet)}")
        if packet.type is _CLOSE:
            self._over(CloseReason.TRANSPORT_CLOSE, "close packet")
        else:
            self.owner.transportPacket(self, packet)

    def ready(self) -> None:
        if not self._ended:
            self.owner.transportReady(self)

    def delivered(self) -> None:
        if not self._ended:
            self.owner.transportDelivered(self)

    def closed(self, description: str) -> None:
        self._over(CloseReason.TRANSPORT_CLOSE, description)

    def failed(self, description: str) -> None:
        self._over(CloseReason.TRANSPORT_ERROR, description)

    def _over(self, reason: CloseReason, description: str) -> None:
        if not self._ended:
            self._ended = True
            # Where the beginning failed there is none.
            if self.owner is not None:
                self.owner.transportClosed(self, reason, description)


# For engines


@implementer(IPushProducer)
class WebSocketConnection:
    """
    What a connection needs whatever implements WebSocket: a place in the list, the pace of the client, a bound on what
    is read, turns for what takes long, a deadline.

    A base of the protocols of engines, and half of an L{IWebSocket}. The connection calls C{pauseProducing},
    C{resumeProducing} and C{stopProducing}; the protocol of the engine everything else. That gives what comes to
    L{read}, or, while C{_isStopped}, to L{keep}; and it implements L{read} and L{lost}.

    @ivar transport: the connection, set before anything is called.
    @ivar counters: where bytes are counted.
    """

    _log = Logger()
    transport: Any
    isOpen: Any
    # Engines of others may not know.
    arriving: Any = None
    _deadline: IDelayedCall | None = None
    # How many bytes more are read from a client that doesn't read; None while it does.
    _allowance: int | None = None
    # Whether the session wants nothing to be read.
    _isHeldBack = False
    # Whether what comes is only kept, behind what is: while it is held back, and while something waits for its turn.
    _isStopped = False
    _unread = b""
    _isQueued = False
    # Why the connection was lost, while something that came before is unread.
    _loss: Failure | None = None

    def __init__(
        self, clock: IReactorTime, maxHttpBufferSize: int, connections: Connections[WebSocketConnection], receiver: Any
    ) -> None:
        self._clock = clock
        self._maxHttpBufferSize = maxHttpBufferSize
        self._connections = connections
        self.receiver = receiver
        self.counters: Counters = receiver.counters

    def connectionBegan(self) -> None:
        """Learn that the connection is there."""
        self._connections.add(self)
        # What a client doesn't read must not pile up here while more of what it sends is answered.
        self.transport.registerProducer(self, True)

    def connectionEnded(self) -> None:
        """Learn that the connection is lost."""
        cancel(self._deadline)
        self._connections.remove(self)

    def connectionGone(self, reason: Failure) -> None:
        """Tell the protocol of the engine that the connection is lost, once all that came before is read."""
        try:
            if self._unread:
                self._loss = reason
                # Nobody takes what is sent any more.
                self.pauseProducing()
            else:
                self.lost(reason)
        finally:
            self.connectionEnded()

    def lost(self, reason: Failure) -> None:
        """Called when the connection is lost and everything that came is read."""
        raise NotImplementedError

    def setDeadline(self, deadline: float = 0.0) -> None:
        """
        Abort the connection in a while, unless it is lost by then. An earlier deadline stays.

        @param deadline: the time for that; it isn't sooner than in L{CLOSE_TIMEOUT} seconds.
        """
        if self._loss is not None:
            self.resumeReceiving()
            return
        seconds = max(CLOSE_TIMEOUT, deadline - steadyClock(self._clock).seconds())
        if self._deadline is None:
            self._deadline = self._clock.callLater(seconds, self.abort)
        elif self._deadline.active() and self._deadline.getTime() > self._clock.seconds() + seconds:
            self._deadline.reset(seconds)
        # The client's part of a closing handshake is to be read; over TLS also what it says in the end.
        self.resumeReceiving()
        self._resume()

    def abort(self) -> None:
        """Abort the connection, whatever is left to send."""
        self.transport.abortConnection()

    @property
    def tooLarge(self) -> str:
        """Why a message over the limit isn't taken: what the client is told, the log and the session."""
        return f"a message is larger than maxHttpBufferSize, {self._maxHttpBufferSize} bytes"

    def logFailure(self, code: int, reason: str) -> None:
        """
        Log that the client broke the protocol, or sent too much, which the receiver is told next.

        @param code: that of the close frame it got.
        @param reason: why, in words that are not the client's.
        """
        owner = self.receiver.owner
        isTooLarge = code == TOO_LARGE
        if isTooLarge:
            self.counters.limitReached(owner, "maxHttpBufferSize")
        if self.counters.throttle.allows(f"WebSockets closed with {code}"):
            self._log.warn(
                "WebSocket of session {session} from {peer} closed with {code}: {reason}",
                session=getattr(owner, "logName", None),
                peer=self.transport.getPeer(),
                code=code,
                reason=reason,
                option="maxHttpBufferSize" if isTooLarge else None,
            )

    def countRead(self, data: bytes) -> None:
        """Count what a client sent, and stop reading where it has sent enough without reading itself."""
        self.counters.addBytesReceived(self.receiver.owner, len(data))
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0:
                self.transport.pauseProducing()

    def countWritten(self, size: int) -> None:
        """Count what is sent to a client, without the 101."""
        self.counters.addBytesSent(self.receiver.owner, size)

    @property
    def writable(self) -> bool:
        """Whether the WebSocket is open, and the client takes what is sent to it."""
        return bool(self.isOpen) and self._allowance is None

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of what was sent the connection has not given to the system."""
        return unsent(self.transport)

    @property
    def heldBytes(self) -> int:
        """How many bytes came that the receiver hasn't got."""
        return len(self._unread) + self._incompleteBytes

    @property
    def _incompleteBytes(self) -> int:
        """How many bytes there are of a message that is incomplete."""
        raise NotImplementedError

    @property
    def isDelivering(self) -> bool:
        """Whether something that was read waits."""
        return bool(self._unread)

    def pauseReceiving(self) -> None:
        """Read no more of what the client sends."""
        self._isHeldBack = self._isStopped = True
        self.transport.pauseProducing()

    def resumeReceiving(self) -> None:
        """Go on reading."""
        if self._isHeldBack:
            self._isHeldBack = False
            if self._unread:
                self._readLater()
            elif not self._isQueued:
                self._isStopped = False
                self._resume()

    def _resume(self) -> None:
        # There are three reasons not to.
        if not self._isStopped and (self._allowance is None or self._allowance >= 0):
            self.transport.resumeProducing()

    def read(self, data: bytes, ends: float) -> None:
        """
        Read what came, until the receiver holds the client back or time is over; give the rest to L{keep}.

        However little time there is, at least one step is done.

        @param ends: when it is, by the clock; 0 stands for L{turns.TURN} seconds from now.
        """
        raise NotImplementedError

    def keep(self, data: bytes) -> None:
        """Keep what can't be read now, behind what is kept already; it is read in a later turn, or when it may be."""
        self._unread += data
        self._isStopped = True
        if not self._isHeldBack:
            self._readLater()

    def _readLater(self) -> None:
        if not self._isQueued:
            self._isQueued = True
            self.transport.pauseProducing()
            inLaterTurn(self._clock, self._readOn)

    def _readOn(self, ends: float) -> None:
        self._isQueued = False
        if self._isHeldBack:
            return
        data, self._unread = self._unread, b""
        self._isStopped = False
        try:
            self.read(data, ends)
        except BaseException:
            # As the reactor does if it fails for what is just read.
            self._unread = b""
            self.transport.abortConnection()
            if self.counters.throttle.allows("WebSockets that could not be read"):
                self._log.failure("What {peer} sent could not be read", peer=self.transport.getPeer())
        if self._unread:
            return
        loss, self._loss = self._loss, None
        if loss is not None:
            self.lost(loss)
        elif not self._isStopped:
            if not getattr(self.transport, "disconnecting", False):
                self._resume()
            self.receiver.delivered()

    def pauseProducing(self) -> None:
        """
        Learn that the client doesn't read as fast as it is sent to.

        Its pongs are still read, and some more; but one that goes on and on is left to wait until it reads.
        """
        # Said again at every write that finds the buffer full.
        if self._allowance is None:
            self._allowance = self._maxHttpBufferSize

    def resumeProducing(self) -> None:
        """Learn that the client has taken what was sent to it."""
        self._allowance = None
        self._resume()
        self.receiver.ready()

    def stopProducing(self) -> None:
        """Learn that the connection is lost; the protocol is told too, and does what is to be done."""


def takeOver(request: Request, protocol: Any) -> bytes:
    """
    Give the connection of a request to a protocol, and let go of the channel.

    Reading is paused still: L{begin} goes on.

    @param protocol: an C{IProtocol}, of which C{makeConnection} is called.
    @return: what the client sent behind its request, without waiting for the answer.
    """
    channel: Any = request.channel
    connection = channel.transport
    # What came behind is in the line buffer while the request is being read, and in the data buffer if it was
    # answered later.
    behind: bytes = b"".join(channel._dataBuffer) + channel.clearLineBuffer()
    # From here on nothing of HTTP may be written.
    request.startedWriting = 1
    channel._dataBuffer = []
    channel.setTimeout(None)
    # The channel registered itself, and as long as it is there, nobody else can.
    connection.unregisterProducer()
    released = getattr(channel, "released", None)
    if released is not None:
        released()
    if isinstance(connection, ProtocolWrapper):
        connection.wrappedProtocol = protocol
    else:
        connection.protocol = protocol
    protocol.makeConnection(connection)
    return behind


def begin(protocol: Any, behind: bytes) -> None:
    """
    Let a WebSocket begin whose 101 is written. If that fails, it is logged, and the client told with 1011.

    @param protocol: a L{WebSocketConnection}, which provides L{IWebSocket} and C{IProtocol}.
    @param behind: as returned by L{takeOver}.
    """
    try:
        # The channel stops reading while a request is being answered. Before anything is sent: what is may stop it
        # again.
        if IPushProducer.providedBy(protocol.transport):
            protocol.transport.resumeProducing()
        protocol.receiver.opened(protocol)
        if behind:
            protocol.dataReceived(behind)
    except BaseException:
        if protocol.counters.throttle.allows("WebSockets that failed as they began"):
            protocol._log.failure("A WebSocket failed as it began")
        protocol.setDeadline()
        protocol.close(INTERNAL_ERROR)
