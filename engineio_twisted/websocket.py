"""
WebSocket: one packet a frame, on a connection taken over from twisted.web.

Autobahn speaks the protocol; what is ours is the way in (L{accept}) and the way between frames and packets
(L{WebSocketTransport}). docs/protocol.md, "WebSocket"; docs/architecture.md, "Taking over a connection".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from .debug import DebugScope
from .errors import CloseReason, DecodeError
from .handshake import WebSocketHandshake
from .packet import Packet, PacketType
from .payload import Codec
from .transport import CLOSE_TIMEOUT, Connections, ITransport, Transport, cancel

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

_debug = DebugScope("engine:ws")

MANY_PIECES = 1024
"""Of so many pieces of a message one is made: each takes some fifty bytes more than what is in it."""

TEXT, BINARY = 1, 2
"""Opcodes of data frames (RFC 6455, 5.2)."""


class WebSocketFactory(WebSocketServerFactory):
    """
    The settings of all WebSockets of a server, and which are connected.

    @ivar connections: those whose connection isn't lost yet.
    """

    def __init__(self, clock: IReactorTime, maxHttpBufferSize: int) -> None:
        # Autobahn keeps a reactor only to start timers on it, and the timers that it would start are off, below.
        super().__init__(server="", reactor=clock)
        self.clock = clock
        self.maxHttpBufferSize = maxHttpBufferSize
        self.connections: Connections[WebSocketTransport] = Connections()
        self.setProtocolOptions(
            maxFramePayloadSize=maxHttpBufferSize,
            maxMessagePayloadSize=maxHttpBufferSize,
            # A close frame tells the client what was wrong; a dropped connection doesn't.
            failByDrop=False,
            webStatus=False,
            # Its timers round to whole seconds and run on a reactor of Autobahn's choice. The opening handshake
            # is over as soon as it begins, and the closing one has a deadline of ours.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
        )


@implementer(ITransport, IPushProducer)
class WebSocketTransport(Transport, WebSocketServerProtocol):  # type: ignore[misc]
    """
    The WebSocket transport of one session, or of one trying to upgrade.

    Autobahn calls its C{on} methods, the session those of L{ITransport}. It owns the connection, and the deadline
    by which it must be gone once one side has sent a close frame.
    """

    name = "websocket"
    _log = Logger()
    _deadline: IDelayedCall | None = None
    # How many bytes more are read from a client that doesn't read; None while it does.
    _allowance: int | None = None
    transport: Any
    # Whether the owner knows that this is over, or ended it.
    _ended = False

    def __init__(
        self,
        factory: WebSocketFactory,
        codec: Codec,
        supportsBinary: bool,
        handshake: WebSocketHandshake,
        responseHeaders: Mapping[str, Sequence[str]],
    ) -> None:
        Transport.__init__(self, codec, supportsBinary)
        WebSocketServerProtocol.__init__(self)
        self.factory = factory
        self.handshake = handshake
        self._responseHeaders = responseHeaders

    # ITransport

    @property
    def writable(self) -> bool:
        return bool(self.state == self.STATE_OPEN)

    def send(self, packets: Sequence[Packet]) -> None:
        if not self.writable:
            return
        for packet in packets:
            if _debug.enabled:
                _debug.log(f"sending {packet}")
            frame = self.codec.encodePacket(packet, self.supportsBinary)
            # Not sendMessage: it applies the limit on what clients may send to what we send.
            if isinstance(frame, bytes):
                self.sendFrame(opcode=BINARY, payload=frame)
            else:
                self.sendFrame(opcode=TEXT, payload=frame.encode())

    def close(self, packets: Sequence[Packet] = ()) -> None:
        self.send(packets)
        self._ended = True
        if self.writable:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)

    # Nothing comes after a WebSocket that a session could go on with.
    discard = close

    # From Autobahn

    def onConnect(self, request: object) -> Any:
        """Say which subprotocol is spoken, and which headers go out with the 101."""
        return self.handshake.subprotocol, self._responseHeaders

    def onMessageFrame(self, payload: Any) -> None:
        """Take a frame of a message, in pieces."""
        # Empty ones don't count against the size of the message, but would take memory without end.
        pieces: Any = [piece for piece in payload if piece]
        super().onMessageFrame(pieces)
        if len(self.message_data) > MANY_PIECES:
            self.message_data = [b"".join(self.message_data)]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Take a whole message, whose text Autobahn has found to be UTF-8."""
        if self._ended:
            return
        try:
            packet = self.codec.decodePacket(payload if isBinary else payload.decode())
        except DecodeError as error:
            self._over(CloseReason.PARSE_ERROR, str(error))
            return
        if _debug.enabled:
            _debug.log(f"received {packet}")
        if packet.type is PacketType.CLOSE:
            self._over(CloseReason.TRANSPORT_CLOSE, "close packet")
        else:
            self.owner.transportPacket(self, packet)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a close frame: here every end passes that either side announces."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._setDeadline()
        if isReply:
            self._over(CloseReason.TRANSPORT_CLOSE, f"close frame with code {self.remoteCloseCode}")
        elif self.failedByMe:
            self._over(CloseReason.TRANSPORT_ERROR, self._whatFailed(code, (reasonUtf8 or b"").decode()))

    def _whatFailed(self, code: int | None, reason: str) -> str:
        if code != self.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG:
            return f"close frame with code {code}: {reason}"
        reason = f"a message is larger than maxHttpBufferSize, {self.factory.maxHttpBufferSize} bytes"
        self._log.warn("WebSocket of {peer} closed with 1009: {reason}", peer=self.peer, reason=reason)
        return reason

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Learn that the connection is lost."""
        self._over(CloseReason.TRANSPORT_CLOSE, reason or f"connection closed with code {code}")

    def _over(self, reason: CloseReason, description: str) -> None:
        if not self._ended:
            self._ended = True
            self.owner.transportClosed(self, reason, description)

    # From the connection

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.connections.add(self)
        # What a client doesn't read must not pile up here while more of what it sends is answered.
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        cancel(self._deadline)
        super().connectionLost(reason)
        self.factory.connections.remove(self)

    def _closeConnection(self, abort: bool = False) -> None:
        # Aborting, as Autobahn wants to when both sides have sent their close frames, may throw ours away unsent.
        self._setDeadline()
        self.transport.loseConnection()

    def _setDeadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.factory.clock.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sent, and stop reading where it has sent enough without reading itself."""
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0:
                self.transport.pauseProducing()
        super().dataReceived(data)

    def pauseProducing(self) -> None:
        """
        Learn that the client doesn't read as fast as it is sent to.

        Its pongs are still read, and some more; but one that goes on and on is left to wait until it reads.
        """
        # Said again at every write that finds the buffer full.
        if self._allowance is None:
            self._allowance = self.factory.maxHttpBufferSize

    def resumeProducing(self) -> None:
        """Learn that the client has taken what was sent to it."""
        self._allowance = None
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Learn that the connection is lost; L{connectionLost} does what is to be done."""


def accept(request: Request, transport: WebSocketTransport, opened: Callable[[], None]) -> None:
    """
    Take the connection of a request over, make it a WebSocket, and answer 101.

    @param opened: called when the 101 is written, before anything is read: it sets the transport's owner.
    """
    channel: Any = request.channel
    connection = channel.transport
    # Both are empty unless the client went on sending without waiting for the 101: what it sent behind its request
    # is in the line buffer while the request is being read, and in the data buffer if it was answered later.
    behind = b"".join(channel._dataBuffer) + channel.clearLineBuffer()
    channel._dataBuffer = []
    channel.setTimeout(None)
    # The channel registered itself, and as long as it is there, nobody else can.
    connection.unregisterProducer()
    released = getattr(channel, "released", None)
    if released is not None:
        released()
    if isinstance(connection, ProtocolWrapper):
        connection.wrappedProtocol = transport
    else:
        connection.protocol = transport
    transport.makeConnection(connection)
    # Of the client's headers Autobahn sees only those that the opening handshake needs, each checked before:
    # it never parses what twisted.web has parsed.
    handshake = transport.handshake
    opening = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\n" % (handshake.key, handshake.version)
    )
    if handshake.subprotocol is not None:
        opening += b"Sec-WebSocket-Protocol: %b\r\n" % handshake.subprotocol.encode("ascii")
    transport.dataReceived(opening + b"\r\n")
    # The channel stops reading while a request is being answered. Before anything is sent: what is may stop it again.
    if IPushProducer.providedBy(connection):
        connection.resumeProducing()
    opened()
    if behind:
        transport.dataReceived(behind)
