"""
WebSocket by L{twisted.web.websocket}, a C{wsEngine} for those who want no more than Twisted.

Needs the extra C{wsproto}, and Twisted 26.10. What it lacks is here: a limit on the size of a message, headers and a
subprotocol in the 101. It can't compress. docs/architecture/engines.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.websocket import WebSocketResource
from wsproto.utilities import LocalProtocolError
from zope.interface import implementer

from twisted import __version__ as twistedVersion

from ..interfaces import IWebSocket, IWebSocketEngine
from ..protocol.frames import (
    CLOSE,
    FINAL,
    INVALID_PAYLOAD,
    LENGTHS,
    MASK_SIZE,
    NO_CODE,
    NORMAL,
    PROTOCOL_ERROR,
    TOO_LARGE,
    tooLarge,
)
from ..protocol.incomplete import MANY_PIECES
from ..turns import TURN
from .connection import WebSocketConnection, WebSockets, begin

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..protocol.handshake import WebSocketHandshake
    from ..protocol.options import ServerOptions
    from ..protocol.packet import Form

if tuple(int(each) for each in twistedVersion.split(".")[:2]) < (26, 10):
    # Before, twisted.web.websocket delivered each piece of a message as a message.
    raise ImportError(
        f"engineio_twisted.transports.engine_twisted needs Twisted 26.10 or newer; this is {twistedVersion}"
    )

_SHORT_HEADER = 2
"""Bytes of a frame's header without an extended length and the mask (RFC 6455, 5.2)."""


@implementer(IWebSocketEngine)
class TwistedEngine:
    """WebSocket by Twisted's own implementation, which rests on wsproto."""

    supportsPerMessageDeflate: ClassVar[bool] = False

    def __init__(self, clock: IReactorTime, options: ServerOptions) -> None:
        self.clock = clock
        self.maxHttpBufferSize: int = options.maxHttpBufferSize
        self.connections: WebSockets = WebSockets(clock)

    def accept(
        self, exchange: Any, handshake: WebSocketHandshake, headers: Mapping[str, Sequence[str]], receiver: Any
    ) -> None:
        protocol = TwistedWebSocket(self, receiver)
        opening = _Opening(exchange, handshake, protocol)
        if handshake.subprotocol is not None:
            headers = {**headers, "Sec-WebSocket-Protocol": [handshake.subprotocol]}
        protocol.headers = headers
        stock: Any = WebSocketResource(opening)
        stock.render(opening)
        # They may be large, and come from the client.
        del protocol.headers
        begin(protocol, opening.behind)


class _Opening:
    """
    What L{WebSocketResource} sees in place of a request, its channel, and a factory of protocols.

    Of the client's headers it sees only those that the opening handshake needs, each checked before.
    """

    method = b"GET"
    path = b"/"
    behind = b""

    def __init__(self, exchange: Any, handshake: WebSocketHandshake, protocol: TwistedWebSocket) -> None:
        self.channel = self
        self.transport = protocol
        self._exchange = exchange
        self._protocol = protocol
        self.requestHeaders = Headers(
            {
                "Host": ["localhost"],
                "Upgrade": ["websocket"],
                "Connection": ["Upgrade"],
                "Sec-WebSocket-Key": [handshake.key.decode("ascii")],
                "Sec-WebSocket-Version": ["13"],
            }
        )

    def buildProtocol(self, request: object) -> Any:
        return self._protocol

    def _protocolUpgradeForWebsockets(self, wire: Any) -> None:
        self._protocol.wire = wire
        wire._textBuffer, wire._bytesBuffer = _Pieces(""), _Pieces(b"")
        self.behind = self._exchange.takeOver(self._protocol)
        wire.makeConnection(self._protocol)


class _Pieces:
    """The pieces of a message until it is complete. Twisted's own copies all that it has for each piece that comes."""

    def __init__(self, nothing: str | bytes) -> None:
        self._nothing: Any = nothing
        self._pieces: list[Any] = []

    def add(self, new: str | bytes) -> None:
        if new:
            self._pieces.append(new)
        if len(self._pieces) > MANY_PIECES:
            self._pieces = [self._nothing.join(self._pieces)]

    def done(self) -> Any:
        pieces, self._pieces = self._pieces, []
        return self._nothing.join(pieces)


class MessageSizes:
    """
    Counts the size of each message by the headers of its frames (RFC 6455, 5.2), before anything of it is stored.

    @ivar isTooLarge: whether a message is over the limit.
    @ivar closeCame: whether there was a close frame.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._header = bytearray()
        self._left = 0
        self._size = 0
        self._isComplete = True
        self.isTooLarge: bool = False
        self.closeCame: bool = False

    @property
    def arriving(self) -> object:
        """What changes with each byte of a message that isn't complete; None if there is none."""
        if not self._left and not self._header and self._isComplete:
            return None
        return self._size, self._left, len(self._header)

    @property
    def incomplete(self) -> int:
        """How many bytes there are of a message that is incomplete."""
        return 0 if self._isComplete and not self._left else max(0, self._size - self._left)

    def countFrame(self, data: bytes, position: int) -> int:
        """Count what came of one frame at most, from a position in it, and return the position behind that."""
        if not self._left:
            missing = self._missing()
            while missing and position < len(data):
                self._header += data[position : position + missing]
                position += missing
                missing = self._missing()
            if missing:
                return len(data)
            self._countHeader()
        step = min(self._left, len(data) - position)
        self._left -= step
        return position + step

    def _missing(self) -> int:
        """Return how many bytes of a frame's header are missing, as far as is known; without the mask."""
        header = self._header
        if len(header) < _SHORT_HEADER:
            return _SHORT_HEADER - len(header)
        return _SHORT_HEADER + LENGTHS.get(header[1] & 0x7F, 0) - len(header)

    def _countHeader(self) -> None:
        header, self._header = self._header, bytearray()
        length = header[1] & 0x7F
        if length in LENGTHS:
            length = int.from_bytes(header[_SHORT_HEADER:])
        self._left = length + MASK_SIZE
        opcode = header[0] & 0x0F
        if opcode >= CLOSE:
            self.closeCame = self.closeCame or opcode == CLOSE
            return
        self._size = length if opcode else self._size + length
        self._isComplete = bool(header[0] & FINAL)
        self.isTooLarge = self.isTooLarge or self._size > self._limit


@implementer(IWebSocket)
class TwistedWebSocket(WebSocketConnection):
    """
    A WebSocket by Twisted: it stands between the connection and Twisted's own protocol, as each other's end.

    @ivar wire: Twisted's own protocol, which calls the methods of L{twisted.web.websocket.WebSocketProtocol} and,
        as its connection, C{write} and C{loseConnection}.
    @ivar headers: that the 101 carries besides.
    """

    wire: Any
    headers: Mapping[str, Sequence[str]]
    isOpen = False
    _closeCode: int | None = None
    _closeReason = ""
    # Whether the close frame sent is our own, to which the client is to reply.
    _isClosing = False
    _isTooLarge = False
    _isOver = False
    # Until when the client may take our close frame and answer it.
    _closesBy = 0.0

    def __init__(self, engine: TwistedEngine, receiver: Any) -> None:
        super().__init__(engine.clock, engine.maxHttpBufferSize, engine.connections, receiver)
        self._sizes = MessageSizes(engine.maxHttpBufferSize)

    # IWebSocket

    @property
    def arriving(self) -> object:
        return self._sizes.arriving

    def send(self, payload: bytes, isText: bool, compress: bool, form: Form | None = None) -> None:
        if isText:
            self.wire.sendTextMessage(payload.decode())
        else:
            self.wire.sendBytesMessage(payload)

    def close(self, code: int = NORMAL, deadline: float = 0.0) -> None:
        if self.isOpen:
            self._closesBy = deadline
            self._close(code)

    def _close(self, code: int, reason: str = "") -> None:
        self._isClosing = True
        self.wire.loseConnection(code, reason)

    # From the connection

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionBegan()

    def dataReceived(self, data: bytes) -> None:
        self.countRead(data)
        if self._isStopped:
            self.keep(data)
        else:
            self.read(data, 0.0)

    def read(self, data: bytes, ends: float) -> None:
        ends = ends or self._clock.seconds() + TURN
        position = 0
        # One frame at a time, as Twisted's protocol doesn't stop within what it is given.
        while position < len(data) and not self._isOver:
            if position and (self._isStopped or self._clock.seconds() >= ends):
                self.keep(data[position:])
                return
            start, position = position, self._sizes.countFrame(data, position)
            self._readFrame(data[start:position])

    def _readFrame(self, data: bytes) -> None:
        """Read a frame, or a piece of one."""
        if not self._isClosing:
            if self._sizes.isTooLarge:
                self._isTooLarge = True
                if self.isOpen:
                    self._close(TOO_LARGE, tooLarge(self._maxHttpBufferSize))
                self.logFailure(TOO_LARGE, tooLarge(self._maxHttpBufferSize))
                self.receiver.failed(tooLarge(self._maxHttpBufferSize))
            else:
                # If a handler has closed it, it would answer a ping behind its close frame.
                with suppress(LocalProtocolError):
                    self.wire.dataReceived(data)
        # Behind our close frame nothing is read any more but the client's.
        if self._isClosing and self._sizes.closeCame and not self._isOver:
            self.loseConnection()

    @property
    def _incompleteBytes(self) -> int:
        return self._sizes.incomplete

    def connectionLost(self, reason: Failure) -> None:
        self.connectionGone(reason)

    def lost(self, reason: Failure) -> None:
        self.isOpen = False
        self._isOver = True
        self.receiver.closed(f"connection lost: {reason.getErrorMessage()}")

    # From Twisted's protocol

    def write(self, data: bytes) -> None:
        """Send what Twisted's protocol writes: the 101, and then one frame at a time."""
        if not self.isOpen and self._closeCode is None:
            lines = [f"{name}: {value}\r\n" for name, values in self.headers.items() for value in values]
            self.transport.write(data[: -len(b"\r\n")] + "".join(lines).encode() + b"\r\n")
            return
        if data[0] == FINAL | CLOSE:
            self._closeCode = int.from_bytes(data[2:4]) if len(data) > _SHORT_HEADER else NO_CODE
            self._closeReason = data[4:].decode("utf-8", "replace")
            self.isOpen = False
        self.countWritten(len(data))
        self.transport.write(data)

    def loseConnection(self) -> None:
        """Called when Twisted's protocol has sent a close frame: ours, a reply, or one that says what is wrong."""
        if self._isClosing and not self._sizes.closeCame:
            self.setDeadline(self._closesBy)
            return
        self.setDeadline()
        self._isOver = True
        # Over TLS nothing says goodbye while a producer is there.
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if self._isTooLarge:
            # Told already, or just about to be.
            return
        code = self._closeCode
        description = f"close frame with code {code}: {self._closeReason}".removesuffix(": ")
        if code not in (PROTOCOL_ERROR, INVALID_PAYLOAD):
            self.receiver.closed(description)
        else:
            # A reply has the code of the client's, and its words; one that finds wrong with us is an error too.
            self.logFailure(code, "about a close frame" if self._sizes.closeCame else self._closeReason)
            self.receiver.failed(description)

    def negotiationStarted(self, transport: object) -> None:
        pass

    def negotiationFinished(self) -> None:
        self.isOpen = True

    def textMessageReceived(self, message: str) -> None:
        self.receiver.received(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.receiver.received(bytes(data))

    def pongReceived(self, payload: bytes) -> None:
        pass
