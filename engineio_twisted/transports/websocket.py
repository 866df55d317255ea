"""
WebSocket as a transport: one packet a message, whatever engine implements WebSocket.

L{WebSocketTransport} turns messages into packets. What turns bytes into messages is a C{wsEngine}. docs/protocol.md,
"WebSocket"; docs/architecture/engines.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from ..interfaces import Closing, ITransport, IWebSocketReceiver
from ..protocol.errors import CloseReason, DecodeError
from ..protocol.frames import GOING_AWAY, NORMAL, POLICY_VIOLATION
from ..protocol.packet import Form, Packet, PacketType, SharedPacket
from ..protocol.payload import Codec
from ..transport import Transport

if TYPE_CHECKING:
    from ..observer import Counters

_CLOSE = PacketType.CLOSE
_MESSAGE_DIGIT = b"%d" % PacketType.MESSAGE

REVISION = 4
"""The revision of the protocol in which a message on WebSocket is its text behind a digit, or its bytes."""

_CODES: dict[CloseReason | None, int] = {
    CloseReason.SERVER_SHUTTING_DOWN: GOING_AWAY,
    CloseReason.RATE_LIMIT_EXCEEDED: POLICY_VIOLATION,
}
"""Codes of close frames for sessions that end for one of these reasons."""


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
    isPolled = False
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
            if (taken or not webSocket.isOpen) and not webSocket.writable:
                return taken
            taken += 1
            counters.packetsSent += 1
            if counters.trafficObservers:
                counters.tell("packetsSent", self.owner, (packet,), self)
            if isinstance(packet, SharedPacket):
                key = (self.codec, self.supportsBinary)
                form = packet.forms.get(key)
                if form is None:
                    packet.forms[key] = form = Form(*self._encoded(packet))
                webSocket.send(form.payload, form.isText, packet.compress, form)
            else:
                payload, isText = self._encoded(packet)
                webSocket.send(payload, isText, packet.compress)
        return taken

    def _encoded(self, packet: Packet) -> tuple[bytes, bool]:
        """Return a packet as a message of WebSocket, and whether that is text."""
        encoded = self.codec.encodePacket(packet, self.supportsBinary)
        return (encoded.encode(), True) if isinstance(encoded, str) else (encoded, False)

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        counters = self.counters
        if not self._isPlain or counters.trafficObservers:
            self.send((Packet(PacketType.MESSAGE, data, compress),))
            return
        counters.packetsSent += 1
        if isinstance(data, str):
            self.webSocket.send(_MESSAGE_DIGIT + (data.encode() if utf8 is None else utf8), True, compress)
        else:
            self.webSocket.send(data, False, compress)

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        try:
            return self.send(packets) if packets and self.webSocket.writable else 0
        finally:
            self._ended = True
            self.webSocket.close(_CODES.get(closing.reason, NORMAL), closing.deadline)

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
        if self._isPlain and not counters.trafficObservers:
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
            self._over(Closing(CloseReason.PARSE_ERROR, str(error)))
            return
        counters.packetsReceived += 1
        if counters.trafficObservers:
            counters.tell("packetsReceived", self.owner, (packet,), self)
        if packet.type is _CLOSE:
            self._over(Closing(CloseReason.TRANSPORT_CLOSE, "close packet", isByClient=True))
        elif packet.type is PacketType.MESSAGE:
            self.owner.transportMessage(self, packet.data)
        else:
            self.owner.transportPacket(self, packet)

    def ready(self) -> None:
        if not self._ended:
            self.owner.transportReady(self)

    def delivered(self) -> None:
        if not self._ended:
            self.owner.transportDelivered(self)

    def closed(self, description: str) -> None:
        self._over(Closing(CloseReason.TRANSPORT_CLOSE, description, isLoss=True))

    def failed(self, description: str) -> None:
        self._over(Closing(CloseReason.TRANSPORT_ERROR, description))

    def _over(self, closing: Closing) -> None:
        if not self._ended:
            self._ended = True
            # If the beginning failed there is none.
            if self.owner is not None:
                self.owner.transportClosed(self, closing)
