"""WebSocket by Autobahn, the default C{wsEngine}. docs/architecture.md, "Engines"."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autobahn.exception import PayloadCorruptError
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate as AutobahnDeflate
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from .transport import Connections
from .websocket import MANY_PIECES, IWebSocket, IWebSocketEngine, WebSocketConnection, begin, takeOver

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from .handshake import WebSocketHandshake
    from .options import PerMessageDeflate, ServerOptions

TEXT, BINARY = 1, 2
"""Opcodes of data frames (RFC 6455, 5.2)."""

_FIRST_BYTES = {0x80 | TEXT: TEXT, 0x80 | BINARY: BINARY}
"""Of a frame that is a whole message, not compressed, by its opcode."""

_MASKED = 0x80
_SHORT, _MEDIUM = 125, 126
"""The largest length in one byte, and what stands for one in two bytes more (RFC 6455, 5.2)."""

INTEGER_UNMASKED = 1024
"""Up to so many bytes are unmasked as one integer, which takes 0.3 µs for 32; above, Autobahn's own way is faster."""

COMPRESSED = 4
"""The reserved bit of a compressed message (RFC 7692, 7.2.1), as Autobahn has it."""


@implementer(IWebSocketEngine)
class AutobahnEngine(WebSocketServerFactory):
    """
    WebSocket by Autobahn: the settings of all WebSockets of a server, and which are connected.

    @ivar deflate: how messages are compressed; None where they aren't.
    @cvar fastPath: whether frames that are a whole message are read and written without Autobahn, which does all
        that is rarer. It changes nothing but the speed.
    """

    supportsPerMessageDeflate = True
    fastPath: ClassVar[bool] = True

    def __init__(self, clock: IReactorTime, options: ServerOptions) -> None:
        # Autobahn keeps a reactor only to start timers on it, and the timers that it would start are off, below.
        super().__init__(server="", reactor=clock)
        self.clock = clock
        self.maxHttpBufferSize = options.maxHttpBufferSize
        self.deflate = options.perMessageDeflate
        self.connections: Connections[WebSocketConnection] = Connections()
        self.setProtocolOptions(
            maxFramePayloadSize=options.maxHttpBufferSize,
            # Of a compressed message this bounds what it inflates to, while it is inflated.
            maxMessagePayloadSize=options.maxHttpBufferSize,
            # A close frame tells the client what was wrong; a dropped connection doesn't.
            failByDrop=False,
            webStatus=False,
            # Its timers round to whole seconds and run on a reactor of Autobahn's choice. The opening handshake
            # is over as soon as it begins, and the closing one has a deadline of ours.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
        )

    def accept(
        self, request: Request, handshake: WebSocketHandshake, headers: Mapping[str, Sequence[str]], receiver: Any
    ) -> None:
        protocol = AutobahnWebSocket(self, receiver, handshake.subprotocol, headers)
        behind = takeOver(request, protocol)
        # Of the client's headers Autobahn sees only those that the opening handshake needs, each checked before:
        # it never parses what twisted.web has parsed.
        opening = [
            "GET / HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {handshake.key.decode('ascii')}",
            f"Sec-WebSocket-Version: {handshake.version.decode('ascii')}",
        ]
        if handshake.subprotocol is not None:
            opening.append(f"Sec-WebSocket-Protocol: {handshake.subprotocol}")
        deflate = None if self.deflate is None else agreeOn(handshake.extensions, self.deflate)
        if deflate is not None:
            # Once it is asked for, what is agreed on is up to this.
            opening.append(f"Sec-WebSocket-Extensions: {deflate.EXTENSION_NAME}")
            protocol.perMessageCompressionAccept = lambda _: deflate
        protocol.openBy("\r\n".join([*opening, "", ""]).encode("ascii"))
        if deflate is not None:
            protocol.deflateBy(Deflate.create_from_offer_accept(True, deflate))
        begin(protocol, behind)


LARGEST_WINDOW = 15
"""Bits of the largest window, which is what everybody has who isn't asked for another (RFC 7692, 7.1.2)."""


def agreeOn(extensions: Iterable[bytes], settings: PerMessageDeflate) -> PerMessageDeflateOfferAccept | None:
    """
    Return what is agreed on about compression: the first offer that can be accepted; or None (RFC 7692, 5.1).

    An offer with a parameter that is unknown, given twice or out of range is declined, as is one without a limit that
    the settings ask of the client.

    @param extensions: the values of the request's Sec-WebSocket-Extensions header.
    """
    for element in b",".join(extensions).decode("latin-1").split(","):
        parameters = _parametersOf(element)
        try:
            # Autobahn raises no other type where it doesn't like a parameter.
            offer = None if parameters is None else PerMessageDeflateOffer.parse(parameters)
        except Exception:
            offer = None
        if parameters is None or offer is None:
            continue
        clientBits = 0
        if settings.clientMaxWindowBits < LARGEST_WINDOW:
            if not offer.accept_max_window_bits:
                continue
            offered = parameters["client_max_window_bits"][0]
            clientBits = min(settings.clientMaxWindowBits, LARGEST_WINDOW if offered is True else int(offered))
        # A server may say these whether or not they are offered (RFC 7692, 7.1.1 and 7.1.2); Autobahn takes what it
        # says from the offer.
        offer.accept_no_context_takeover = True
        offer.request_no_context_takeover = offer.request_no_context_takeover or settings.serverNoContextTakeover
        serverBits = min(settings.serverMaxWindowBits, offer.request_max_window_bits or LARGEST_WINDOW)
        if serverBits < LARGEST_WINDOW:
            offer.request_max_window_bits = serverBits
        return PerMessageDeflateOfferAccept(
            offer,
            request_no_context_takeover=settings.clientNoContextTakeover,
            request_max_window_bits=clientBits,
            mem_level=settings.memLevel,
        )
    return None


_PARAMETER = re.compile(r"\s*([a-z_]+)\s*(?:=\s*(?:([1-9][0-9]*)|\"([1-9][0-9]*)\")\s*)?")


def _parametersOf(element: str) -> dict[str, list[Any]] | None:
    """Return the parameters of an offer to compress, each with all its values; None where it is no such offer."""
    name, *parameters = element.split(";")
    if name.strip() != PerMessageDeflateOffer.EXTENSION_NAME:
        return None
    values: dict[str, list[Any]] = {}
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None:
            return None
        values.setdefault(match[1], []).append(match[2] or match[3] or True)
    return values


class Deflate(AutobahnDeflate):
    """What compresses and inflates messages, also of a client that ends the compressed stream with a message."""

    _decompressor: Any

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        inflated: bytes = super().decompress_message_data(data, max_output_len)
        # Behind the end there may be one byte (RFC 7692, 7.2.3.4). zlib would keep whatever is there.
        if len(self._decompressor.unused_data) > 1:
            raise PayloadCorruptError("data behind the end of the compressed stream")
        return inflated

    def end_decompress_message(self) -> None:
        if self._decompressor.eof:
            self._decompressor = None
        else:
            super().end_decompress_message()


def _frame(opcode: int, payload: bytes) -> bytes:
    """Write a message as one frame (RFC 6455, 5.2)."""
    length = len(payload)
    if length <= _SHORT:
        return bytes((0x80 | opcode, length)) + payload
    if length < 2**16:
        return struct.pack("!BBH", 0x80 | opcode, _MEDIUM, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, _MEDIUM + 1, length) + payload


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    """Read the payload of a frame that is masked (RFC 6455, 5.3)."""
    length = len(payload)
    if length > INTEGER_UNMASKED:
        unmasked: bytes = create_xor_masker(mask, length).process(payload)
        return unmasked
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)


@implementer(IWebSocket)
class AutobahnWebSocket(WebSocketConnection, WebSocketServerProtocol):  # type: ignore[misc]
    """
    A WebSocket by Autobahn, which calls the methods whose names begin with C{on}.

    It owns the connection, and the deadline by which that must be gone once one side has sent a close frame.
    """

    perMessageCompressionAccept: Any
    current_frame: Any
    _perMessageCompress: Any

    def __init__(
        self, engine: AutobahnEngine, receiver: Any, subprotocol: str | None, headers: Mapping[str, Sequence[str]]
    ) -> None:
        WebSocketConnection.__init__(self, engine.clock, engine.maxHttpBufferSize, engine.connections, receiver)
        WebSocketServerProtocol.__init__(self)
        self.factory = engine
        self._opening = (subprotocol, headers)

    def openBy(self, request: bytes) -> None:
        """Answer a request with the 101."""
        super().dataReceived(request)

    def deflateBy(self, deflate: Deflate) -> None:
        """Use this in place of what Autobahn has made for what was agreed on."""
        self._perMessageCompress = deflate

    # IWebSocket

    @property
    def isOpen(self) -> bool:
        return bool(self.state == self.STATE_OPEN)

    def send(self, data: str | bytes, compress: bool) -> None:
        if isinstance(data, bytes):
            opcode, payload = BINARY, data
        else:
            opcode, payload = TEXT, data.encode()
        # Not sendMessage: it applies the limit on what clients may send to what we send.
        deflate = self._perMessageCompress
        if deflate is not None and compress and len(payload) >= self.factory.deflate.threshold:
            deflate.start_compress_message()
            payload = deflate.compress_message_data(payload) + deflate.end_compress_message()
            self.sendFrame(opcode=opcode, payload=payload, rsv=COMPRESSED)
        elif self.factory.fastPath:
            self.transport.write(_frame(opcode, payload))
        else:
            self.sendFrame(opcode=opcode, payload=payload)

    def close(self) -> None:
        if self.isOpen:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)

    # From Autobahn

    def onFrameData(self, payload: bytes) -> None:
        """Take a piece of a frame; of a message, none once the client has sent what is wrong."""
        # Where Autobahn can't inflate a message it takes nothing any more, not even the client's close frame, and keeps
        # all that comes.
        if not self.failedByMe or self.current_frame.opcode > BINARY:
            super().onFrameData(payload)

    def onFrameEnd(self) -> None:
        """Take the end of a frame."""
        if super().onFrameEnd() is False:
            self.inside_message = False
            self.current_frame = None

    def onConnect(self, request: object) -> Any:
        """Say which subprotocol is spoken, and which headers go out with the 101."""
        return self._opening

    def onMessageFrame(self, payload: Any) -> None:
        """Take a frame of a message, in pieces."""
        # Empty ones don't count against the size of the message, but would take memory without end.
        pieces: Any = [piece for piece in payload if piece]
        super().onMessageFrame(pieces)
        if len(self.message_data) > MANY_PIECES:
            self.message_data = [b"".join(self.message_data)]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Take a whole message, whose text Autobahn has found to be UTF-8."""
        self.receiver.received(payload if isBinary else payload.decode())

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a close frame: here every end passes that either side announces."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.setDeadline()
        if isReply:
            self.receiver.closed(f"close frame with code {self.remoteCloseCode or self.CLOSE_STATUS_CODE_NULL}")
        elif self.failedByMe:
            isTooLarge = code == self.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG
            reason = (reasonUtf8 or b"").decode()
            self.receiver.failed(self.messageTooLarge() if isTooLarge else f"close frame with code {code}: {reason}")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Learn that the connection is lost."""
        self.receiver.closed(reason or f"connection closed with code {code}")

    # From the connection

    def connectionMade(self) -> None:
        super().connectionMade()
        self.connectionBegan()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        self.connectionEnded()

    def dataReceived(self, data: bytes) -> None:
        self.countRead(data)
        if self.factory.fastPath and self.isOpen and self._isBetweenMessages():
            data = self._takeWholeMessages(data)
            if not data:
                return
        super().dataReceived(data)

    def _isBetweenMessages(self) -> bool:
        return not self.data and self.current_frame is None and not self.inside_message

    def _takeWholeMessages(self, data: bytes) -> bytes:
        """
        Take the messages at the beginning of what came that are one frame each, masked and right.

        @return: what comes behind them, for Autobahn: a control frame, a piece of a message, what is compressed,
            too large, wrong, or incomplete.
        """
        position = 0
        while len(data) - position >= 6:
            opcode = _FIRST_BYTES.get(data[position])
            length = data[position + 1] - _MASKED
            if opcode is None or length < 0:
                break
            start = position + 6
            if length > _SHORT:
                length = int.from_bytes(data[position + 2 : position + 4]) if length == _MEDIUM else 0
                if length <= _SHORT:
                    break
                start += 2
            end = start + length
            if end > len(data) or length > self._maxHttpBufferSize:
                break
            payload = _unmasked(data[start - 4 : start], data[start:end])
            if opcode == TEXT:
                try:
                    message: str | bytes = payload.decode()
                except UnicodeDecodeError:
                    break
            else:
                message = payload
            position = end
            self.receiver.received(message)
            if not self.isOpen:
                break
        return data[position:]

    def _closeConnection(self, abort: bool = False) -> None:
        # Aborting, as Autobahn wants to when both sides have sent their close frames, may throw ours away unsent.
        self.setDeadline()
        self.transport.loseConnection()
