"""WebSocket by Autobahn, the default C{wsEngine}. docs/architecture/engines.md and "Fast paths"."""

from __future__ import annotations

import codecs
import struct
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha1
from sys import getsizeof
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import USES_NVX
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..ends import Connections
from ..interfaces import IWebSocket, IWebSocketEngine
from ..logs import LogThrottle
from ..turns import TURN
from ..web.attributes import Lazily
from ..web.connections import writeAtOnce
from .deflate import Deflate, agreeOn
from .websocket import MANY_PIECES, NORMAL, TOO_LARGE, WebSocketConnection, begin, takeOver

if TYPE_CHECKING:
    from autobahn.websocket.compress import PerMessageDeflateOfferAccept
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from ..protocol.handshake import WebSocketHandshake
    from ..protocol.options import ServerOptions

_native: Any
try:
    # Of Autobahn, where its wheel has native code.
    import _nvx_xormasker as _native  # type: ignore[import-not-found,no-redef]
except ImportError:
    _native = None

TEXT, BINARY = 1, 2
"""Opcodes of data frames (RFC 6455, 5.2)."""

_OPEN = WebSocketServerProtocol.STATE_OPEN

_MASKED = 0x80
_SHORT, _MEDIUM, _LONG = 125, 126, 127
"""The largest length in one byte, and what stands for one in two bytes more, and in eight (RFC 6455, 5.2)."""

INTEGER_UNMASKED = 100
"""Up to so many bytes are unmasked as one integer, which takes 0.3 µs for 32; above, native code takes less."""

GATHERED = 65536
"""Bytes of answers to what one piece read brought that are written together."""

_MASKS_UNMASKED = INTEGER_UNMASKED // 4 + 1

COMPRESSED = 4
"""The reserved bit of a compressed message (RFC 7692, 7.2.1), as Autobahn has it."""

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What is appended to a client's key before it is hashed (RFC 6455, 1.3)."""


class AutobahnLog:
    """What Autobahn logs by. What clients do is left to L{WebSocketConnection.logFailure}, which names the session."""

    _log = Logger()

    def __init__(self) -> None:
        self._throttle = LogThrottle()

    def debug(self, message: str, /, **fields: object) -> None:
        """Say nothing."""

    trace = info = warn = debug

    def error(self, message: str, /, **fields: Any) -> None:
        """Log what Autobahn takes for an error: one of its own, or of TLS."""
        if self._throttle.allows("errors of WebSockets"):
            self._log.error(message, **fields)

    critical = error


@implementer(IWebSocketEngine)
class AutobahnEngine(WebSocketServerFactory):
    """
    WebSocket by Autobahn: the settings of all WebSockets of a server, and which are connected.

    What is common goes past Autobahn, in L{FastWebSocket}, unless a subclass sets options of Autobahn's.

    @ivar autobahnLog: what Autobahn logs by.
    @ivar deflate: how messages are compressed; None where they aren't.
    @ivar turn: stands for the present turn of the reactor, as far as anything was written at once in it.
    """

    supportsPerMessageDeflate = True

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
        self.autobahnLog = AutobahnLog()
        self._ownOptions = self._protocolOptions()
        self.turn = object()
        self._turnIsNoted = False

    @cached_property
    def _open(self) -> Callable[..., AutobahnWebSocket]:
        # When it is first needed: a subclass may set options of Autobahn's.
        # What those options ask for is Autobahn's to do.
        if self._protocolOptions() != self._ownOptions:
            return AutobahnWebSocket
        return type("FastWebSocket", (FastWebSocket,), _opened(self))

    def _protocolOptions(self) -> list[Any]:
        return [getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS if hasattr(self, name)]

    def accept(
        self, request: Request, handshake: WebSocketHandshake, headers: Mapping[str, Sequence[str]], receiver: Any
    ) -> None:
        protocol = self._open(self, receiver)
        behind = takeOver(request, protocol)
        deflate = None if self.deflate is None else agreeOn(handshake.extensions, self.deflate)
        protocol.answer(handshake, headers, deflate)
        try:
            begin(protocol, behind)
        finally:
            protocol.answered()

    def noteTurn(self) -> None:
        """Have L{turn} change when the reactor has gone round once."""
        if not self._turnIsNoted:
            self._turnIsNoted = True
            self.clock.callLater(0, self._turnIsOver)

    def _turnIsOver(self) -> None:
        self._turnIsNoted = False
        self.turn = object()


_SMALLEST = 6
"""Bytes of a frame that is masked and empty."""

_LENGTHS = {_MEDIUM: 2, _LONG: 8}
"""Bytes in which a length is written that doesn't fit into one."""

_LEAST = {_MEDIUM: _SHORT + 1, _LONG: 2**16}
"""The smallest length that is to be written so."""

_WHOLE_TEXT, _WHOLE_BINARY = 0x80 | TEXT, 0x80 | BINARY
"""The first byte of a frame that is a whole message, not compressed."""

_MUCH_LARGER, _SMALL_TEXT = 2, 1000
"""How many times as large as its UTF-8 a piece of text is kept, and bytes that make no difference."""

_newDecoder = codecs.getincrementaldecoder("utf-8")

_SHORT_HEADERS = {
    first: [bytes((first, length)) for length in range(_SHORT + 1)] for first in (_WHOLE_TEXT, _WHOLE_BINARY)
}
_SHORT_TEXT = _SHORT_HEADERS[_WHOLE_TEXT]


def _frame(first: int, payload: bytes) -> bytes:
    """Write a message as one frame (RFC 6455, 5.2)."""
    length = len(payload)
    if length <= _SHORT:
        return _SHORT_HEADERS[first][length] + payload
    if length < 2**16:
        return struct.pack("!BBH", first, _MEDIUM, length) + payload
    return struct.pack("!BBQ", first, _LONG, length) + payload


def _unmaskedByInteger(mask: bytes, payload: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)


def _unmaskedNatively(mask: bytes, payload: bytes) -> bytearray:
    # Autobahn makes an object for each mask, which takes five times as long as all of this.
    unmasked = bytearray(payload)
    masker = _native.lib.nvx_xormask_new(mask)
    _native.lib.nvx_xormask_process(masker, _native.ffi.from_buffer(unmasked), len(unmasked))
    _native.lib.nvx_xormask_free(masker)
    return unmasked


def _choose() -> Callable[[bytes, bytes], bytes | bytearray]:
    """Return what unmasks long payloads: native code, where Autobahn has it, uses it, and it does what is expected."""
    example = b"mask", b"a payload"
    try:
        isRight = USES_NVX and _unmaskedNatively(*example) == _unmaskedByInteger(*example)
    except Exception:
        # It is none of what Autobahn says that it has.
        isRight = False
    return _unmaskedNatively if isRight else _unmaskedByInteger


_unmaskedLong = _choose()


def _unmasked(mask: bytes, payload: bytes) -> bytes | bytearray:
    """Read the payload of a frame that is masked (RFC 6455, 5.3)."""
    return _unmaskedLong(mask, payload) if len(payload) > INTEGER_UNMASKED else _unmaskedByInteger(mask, payload)


@implementer(IWebSocket)
class AutobahnWebSocket(WebSocketConnection, WebSocketServerProtocol):  # type: ignore[misc]
    """
    A WebSocket by Autobahn, which calls the methods whose names begin with C{on}.

    It owns the connection, and the deadline by which that must be gone once one side has sent a close frame.
    """

    perMessageCompressionAccept: Any
    current_frame: Any
    _perMessageCompress: Any
    _isMessageCompressed: bool
    # Of the 101, while it is being written.
    _headers: Mapping[str, Sequence[str]] = MappingProxyType({})
    # Until when the client may take our close frame and answer it.
    _closesBy = 0.0
    # When this turn is over.
    _turnEnds = 0.0
    # The pieces of a compressed message, until it is complete.
    _compressed: list[bytes] | None = None

    def __init__(self, engine: AutobahnEngine, receiver: Any) -> None:
        WebSocketConnection.__init__(self, engine.clock, engine.maxHttpBufferSize, engine.connections, receiver)
        self.factory = engine
        WebSocketServerProtocol.__init__(self)

    def answer(
        self,
        handshake: WebSocketHandshake,
        headers: Mapping[str, Sequence[str]],
        deflate: PerMessageDeflateOfferAccept | None,
    ) -> None:
        """Write the 101."""
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
            headers = {**headers, "Sec-WebSocket-Protocol": [handshake.subprotocol]}
        if deflate is not None:
            # Once it is asked for, what is agreed on is up to this.
            opening.append(f"Sec-WebSocket-Extensions: {deflate.EXTENSION_NAME}")
            self.perMessageCompressionAccept = lambda _: deflate
        self._headers = headers
        super().dataReceived("\r\n".join([*opening, "", ""]).encode("ascii"))
        # They may be large, and come from the client.
        del self._headers
        self.http_response_data = ""
        if deflate is not None:
            # In place of what Autobahn has made for what was agreed on.
            self._perMessageCompress = Deflate.create_from_offer_accept(True, deflate)

    def answered(self) -> None:
        """Learn that the session has begun."""

    @property
    def log(self) -> AutobahnLog:
        """What Autobahn logs by."""
        log: AutobahnLog = self.factory.autobahnLog
        return log

    # IWebSocket

    @property
    def isOpen(self) -> bool:
        return bool(self.state == _OPEN)

    @property
    def arriving(self) -> object:
        frame = self.current_frame
        if frame is None and not self.data and not self.inside_message:
            return None
        size = self.message_data_total_length if self.inside_message else 0
        return len(self.data), size, None if frame is None else self.current_frame_masker.pointer()

    def send(self, data: str | bytes, compress: bool, shared: dict[Any, Any] | None = None) -> None:
        if isinstance(data, bytes):
            self._sendAs(BINARY, data, compress)
        else:
            self._sendAs(TEXT, data.encode(), compress)

    def sendText(self, utf8: bytes, compress: bool) -> None:
        self._sendAs(TEXT, utf8, compress)

    def _sendAs(self, opcode: int, payload: bytes, compress: bool) -> None:
        # Not sendMessage: it applies the limit on what clients may send to what we send.
        deflate = self._perMessageCompress
        if deflate is not None and compress and len(payload) >= self.factory.deflate.threshold:
            deflate.start_compress_message()
            payload = deflate.compress_message_data(payload) + deflate.end_compress_message()
            self.sendFrame(opcode=opcode, payload=payload, rsv=COMPRESSED)
        else:
            self.sendFrame(opcode=opcode, payload=payload)

    def close(self, code: int = NORMAL, deadline: float = 0.0) -> None:
        if self.isOpen:
            # Not sendClose, which leaves some codes to applications, and those that are left to nobody.
            self._closesBy = deadline
            self.sendCloseFrame(code)

    # From Autobahn

    def onFrameData(self, payload: bytes) -> None:
        """Take a piece of a frame; of a message, none once the client has sent what is wrong."""
        frame = self.current_frame
        if frame.opcode <= BINARY:
            # Where Autobahn can't inflate a message it takes nothing any more, not even the client's close frame, and
            # keeps all that comes.
            if self.failedByMe:
                self._compressed = None
                return
            if self._isMessageCompressed:
                whole = self._wholeOf(payload, frame.fin and self.current_frame_masker.pointer() == frame.length)
                if whole is None:
                    return
                payload = whole
        super().onFrameData(payload)

    def _wholeOf(self, piece: bytes, isLast: bool) -> bytes | None:
        """
        Keep a piece of a compressed message as it came: what it inflates to may be a thousand times as large.

        @return: the message, if this is its last piece.
        """
        pieces = self._compressed or []
        pieces.append(piece)
        if isLast:
            self._compressed = None
            return b"".join(pieces)
        self._compressed = [b"".join(pieces)] if len(pieces) > MANY_PIECES else pieces
        return None

    def onMessageFrameBegin(self, length: int) -> None:
        """Take the beginning of a frame of a message, by which its size is bounded."""
        if self._compressed and self.message_data_total_length + length > self._maxHttpBufferSize:
            # What is kept counts as it came. Inflated it may be less, and is what has to be within the limit.
            pieces, self._compressed = self._compressed, None
            self.frame_data: list[bytes] = []
            super().onFrameData(b"".join(pieces))
            super().onMessageFrameEnd()
        super().onMessageFrameBegin(length)

    def onFrameEnd(self) -> None:
        """Take the end of a frame."""
        if super().onFrameEnd() is False:
            self.inside_message = False
            self.current_frame = None

    def onConnect(self, request: object) -> Any:
        """Say which headers go out with the 101."""
        return None, self._headers

    def onMessageFrame(self, payload: Any) -> None:
        """Take a frame of a message, in pieces."""
        # Empty ones don't count against the size of the message, but would take memory without end.
        pieces: Any = [piece for piece in payload if piece]
        super().onMessageFrame(pieces)
        if len(self.message_data) > MANY_PIECES:
            self.message_data = [b"".join(self.message_data)]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Take a whole message, whose text Autobahn has found to be UTF-8."""
        # It isn't held any more.
        self.message_data = []
        self.receiver.received(payload if isBinary else payload.decode())

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a close frame: here every end passes that either side announces."""
        if code == TOO_LARGE and self.failedByMe:
            # Autobahn's own words name no option.
            reasonUtf8 = self.tooLarge.encode()
        # A reply has the client's own code (RFC 6455, 5.5.1).
        self.setDeadline(self._closesBy)
        super().sendCloseFrame(self.remoteCloseCode if isReply else code, reasonUtf8, isReply)
        if isReply:
            self.receiver.closed(f"close frame with code {self.remoteCloseCode or self.CLOSE_STATUS_CODE_NULL}")
        elif self.failedByMe and code is not None:
            reason = (reasonUtf8 or b"").decode()
            self.logFailure(code, reason)
            self.receiver.failed(reason if code == TOO_LARGE else f"close frame with code {code}: {reason}")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Learn that the connection is lost."""
        self.receiver.closed(reason or f"connection closed with code {code}")

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write what Autobahn sends: the 101, and frames."""
        if self.state != WebSocketServerProtocol.STATE_CONNECTING:
            self.countWritten(len(data))
        super().sendData(data, sync, chopsize)

    # From the connection

    def connectionMade(self) -> None:
        super().connectionMade()
        self.connectionBegan()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.connectionGone(reason)

    def lost(self, reason: Failure) -> None:
        WebSocketServerProtocol.connectionLost(self, reason)

    def dataReceived(self, data: bytes) -> None:
        self.countRead(data)
        if self._isStopped:
            self.keep(data)
        else:
            self.read(data, 0.0)

    def read(self, data: bytes, ends: float) -> None:
        self._turnEnds = ends or self._clock.seconds() + TURN
        WebSocketServerProtocol.dataReceived(self, data)

    def consumeData(self) -> None:
        """Read what there is as Autobahn does, and stop between frames where that is wanted."""
        if self.state not in (WebSocketServerProtocol.STATE_OPEN, WebSocketServerProtocol.STATE_CLOSING):
            super().consumeData()
            return
        isOver = self._isStopped
        while not isOver and self.processData() and self.state != WebSocketServerProtocol.STATE_CLOSED:
            isOver = self.current_frame is None and (self._isStopped or self._clock.seconds() >= self._turnEnds)
        if isOver and self.data:
            rest, self.data = self.data, b""
            self.keep(rest)

    @property
    def _incompleteBytes(self) -> int:
        # Of a message what Autobahn has, which makes these when it needs them.
        kept = [getattr(self, name, None) or () for name in ("message_data", "frame_data", "_compressed")]
        return len(self.data) + sum([len(piece) for pieces in kept for piece in pieces])

    def _closeConnection(self, abort: bool = False) -> None:
        # Aborting, as Autobahn wants to when both sides have sent their close frames, may throw ours away unsent.
        self.setDeadline()
        self.transport.loseConnection()


class _Nowhere:
    """A connection to nobody."""

    disconnecting = False

    def write(self, data: bytes) -> None:
        pass

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 0)

    getHost = getPeer


def _opened(engine: AutobahnEngine) -> dict[str, Any]:
    """
    Return what Autobahn sets on each WebSocket that it opens.

    Said once, of the class, it takes neither time nor memory for each of them.
    """
    nobody: Any = WebSocketServerProtocol()
    nobody.factory = engine
    nobody.onConnect = lambda _: None
    nobody.makeConnection(_Nowhere())
    nobody.dataReceived(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    engine.countConnections = 0
    isSame = (bool, int, float, str, bytes, type(None))
    own = {*vars(FastWebSocket), "connected"}
    return {name: value for name, value in vars(nobody).items() if isinstance(value, isSame) and name not in own}


class _IncompleteFrame:
    """
    A frame that is a whole message, of which not all has come: Autobahn would look at each byte of it.

    Text is read as it comes, as RFC 6455, 8.1 has what isn't UTF-8 end at once. That is left to Autobahn, which gets
    all that came.

    @param data: what there is of it, and nothing else.
    @param start: where its payload begins.
    @param missing: how many bytes are.
    @param first: its first byte.
    @ivar missing: how many bytes are.
    @ivar isWrong: whether it holds text that isn't UTF-8.
    @ivar size: how many bytes have come.
    """

    isWrong = False
    _rest = b""

    def __init__(self, data: bytes, start: int, missing: int, first: int) -> None:
        self.size = len(data)
        self.missing = missing
        self._isText = first == _WHOLE_TEXT
        # Of text what it says, and not decoded if that would be much larger than what came.
        self._pieces: list[Any] = [] if self._isText else [data]
        if self._isText:
            self._head = data[:start]
            self._decoder = _newDecoder()
            # As it is for the next byte.
            self._mask = data[start - 4 : start]
            self._read(data[start:])

    def add(self, data: bytes) -> bool:
        """Take what came next; return whether there is nothing to wait for any more."""
        self.size += len(data)
        if self._isText:
            if len(data) > self.missing:
                data, self._rest = data[: self.missing], data[self.missing :]
            self._read(data)
        else:
            self._pieces.append(data)
        self.missing -= len(data)
        if self.missing > 0 and len(self._pieces) > MANY_PIECES:
            self._pieces = [self._whole()]
        return self.missing <= 0 or self.isWrong

    def _read(self, payload: bytes) -> None:
        unmasked = _unmasked(self._mask, payload)
        try:
            text = self._decoder.decode(unmasked, len(payload) == self.missing)
        except UnicodeDecodeError:
            self.isWrong = True
            # With what the decoder had kept, the first bytes of a character.
            self._pieces += [self._decoder.getstate()[0], unmasked]
            return
        isWide = getsizeof(text) > _MUCH_LARGER * len(unmasked) + _SMALL_TEXT
        self._pieces.append(text.encode() if isWide else text)
        turned = len(payload) % 4
        self._mask = self._mask[turned:] + self._mask[:turned]

    def _whole(self) -> bytes:
        return b"".join([each.encode() if isinstance(each, str) else each for each in self._pieces])

    def taken(self) -> tuple[bytes, str | None]:
        """Return what is to be read next, and the message, if that isn't part of it."""
        if not self._isText:
            return self._whole(), None
        if not self.isWrong:
            return self._rest, "".join([each if isinstance(each, str) else each.decode() for each in self._pieces])
        # As it came.
        return self._head + _unmasked(self._head[-4:], self._whole()) + self._rest, None


class FastWebSocket(AutobahnWebSocket):
    """
    A WebSocket whose opening handshake, and frames that are a whole message, go past Autobahn, which does all else.

    What Autobahn would set when it opens one is set on the class, by L{AutobahnEngine}.
    """

    factory: AutobahnEngine
    transport: Any
    data: bytes
    # What the base asks its state for each time, and asked for with each message.
    isOpen = True
    writable = True
    _state = _OPEN
    # What is written while something is being read, to go out in one piece; None at other times.
    _gathered: list[bytes] | None = None
    _gatheredSize = 0
    # The turn of the reactor in which something was written at once.
    _turn: object = None
    _incomplete: _IncompleteFrame | None = None

    def __init__(self, engine: AutobahnEngine, receiver: Any) -> None:
        WebSocketConnection.__init__(self, engine.clock, engine.maxHttpBufferSize, engine.connections, receiver)
        self.factory = engine

    # What Autobahn makes for each WebSocket, and few need

    is_open = Lazily(lambda _: Deferred())
    is_closed = Lazily(lambda _: Deferred())
    send_queue = Lazily(lambda _: deque())
    trafficStats = Lazily(lambda _: TrafficStats())
    utf8validator = Lazily(lambda _: Utf8Validator())
    peer = Lazily(lambda self: peer2str(self.transport))

    @property
    def state(self) -> int:
        """The state, as Autobahn has it."""
        return self._state

    @state.setter
    def state(self, state: int) -> None:
        self._state = state
        self.isOpen = state == _OPEN
        self.writable = self.isOpen and self._allowance is None

    @property
    def arriving(self) -> object:
        return super().arriving if self._incomplete is None else self._incomplete.missing

    # The pace of the client

    @property
    def bufferedAmount(self) -> int:
        return super().bufferedAmount + self._gatheredSize

    def pauseProducing(self) -> None:
        super().pauseProducing()
        self.writable = False

    def resumeProducing(self) -> None:
        # Before anybody is told.
        self.writable = self.isOpen
        super().resumeProducing()

    # Opening and closing

    def connectionMade(self) -> None:
        self.factory.countConnections += 1
        self.connectionBegan()

    def answer(
        self,
        handshake: WebSocketHandshake,
        headers: Mapping[str, Sequence[str]],
        deflate: PerMessageDeflateOfferAccept | None,
    ) -> None:
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: WebSocket", "Connection: Upgrade"]
        lines += [f"{name}: {value}" for name, values in headers.items() for value in values]
        if handshake.subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {handshake.subprotocol}")
        accepted = b64encode(sha1(handshake.key + _ACCEPT_SUFFIX, usedforsecurity=False).digest()).decode("ascii")
        lines.append(f"Sec-WebSocket-Accept: {accepted}")
        if deflate is not None:
            lines.append(f"Sec-WebSocket-Extensions: {deflate.get_extension_string()}")
            self._perMessageCompress = Deflate.create_from_offer_accept(True, deflate)
        # With it goes what the session says first.
        # Not as what is written otherwise, which is counted.
        self._gathered = ["\r\n".join([*lines, "", ""]).encode()]

    def answered(self) -> None:
        self._release()

    def _closeConnection(self, abort: bool = False) -> None:
        try:
            self._release()
        finally:
            super()._closeConnection(abort)

    # Writing

    def write(self, data: bytes) -> None:
        """Write to the connection: at once, with what is written next, or after what is written already."""
        if self._gathered is not None:
            self._gathered.append(data)
            self._gatheredSize += len(data)
            if self._gatheredSize > GATHERED:
                self._release()
                self._gathered = []
            return
        self.countWritten(len(data))
        engine = self.factory
        if self._turn is engine.turn:
            # A second time in a turn of the reactor it costs less to leave it to that.
            self.transport.write(data)
        elif writeAtOnce(self.transport, data):
            self._turn = engine.turn
            engine.noteTurn()

    def _release(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            counters = self.counters
            counters.bytesSent += self._gatheredSize
            if counters.trafficObservers:
                counters.tell("bytesSent", self.receiver.owner, self._gatheredSize)
            self._gatheredSize = 0
            writeAtOnce(self.transport, gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def send(self, data: str | bytes, compress: bool, shared: dict[Any, Any] | None = None) -> None:
        if compress and self._perMessageCompress is not None:
            super().send(data, compress)
            return
        frame: bytes | None = None if shared is None else shared.get(data)
        if frame is None:
            frame = _frame(_WHOLE_TEXT, data.encode()) if isinstance(data, str) else _frame(_WHOLE_BINARY, data)
            if shared is not None:
                shared[data] = frame
        self.write(frame)

    def sendText(self, utf8: bytes, compress: bool) -> None:
        if compress and self._perMessageCompress is not None:
            super().sendText(utf8, compress)
            return
        length = len(utf8)
        frame = _SHORT_TEXT[length] + utf8 if length <= _SHORT else _frame(_WHOLE_TEXT, utf8)
        gathered = self._gathered
        if gathered is None or self._gatheredSize > GATHERED - len(frame):
            self.write(frame)
        else:
            # What that does.
            gathered.append(frame)
            self._gatheredSize += len(frame)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write what Autobahn sends."""
        self.write(data)

    # Reading

    @property
    def _incompleteBytes(self) -> int:
        incomplete = 0 if self._incomplete is None else self._incomplete.size
        return super()._incompleteBytes + incomplete

    def dataReceived(self, data: bytes, ends: float = 0.0, isNew: bool = True) -> None:
        """
        Read what came.

        One method reads it at once and later: to call another one takes a fiftieth of an echo.

        @param ends: as of L{read}.
        @param isNew: whether it wasn't counted and kept before.
        """
        if isNew:
            counters = self.counters
            if self._allowance is not None or counters.trafficObservers:
                self.countRead(data)
            else:
                counters.bytesReceived += len(data)
            if self._isStopped:
                self.keep(data)
                return
        message = None
        if self._incomplete is not None:
            if not self._incomplete.add(data):
                return
            data, message = self._incomplete.taken()
            self._incomplete = None
        # It is there where this came behind the request: the session is just about to begin.
        isNested = self._gathered is not None
        if not isNested:
            self._gathered = []
        try:
            if message is not None:
                ends = ends or self._clock.seconds() + TURN
                self.receiver.received(message)
                if self._isStopped:
                    self.keep(data)
                    return
            # Between messages; otherwise what came goes on with what Autobahn has begun to read.
            if self.current_frame is None and not self.data and not self.inside_message and self.isOpen:
                data = self._takeWholeMessages(data, ends)
            if data:
                AutobahnWebSocket.read(self, data, ends)
        finally:
            if not isNested:
                self._release()

    def read(self, data: bytes, ends: float) -> None:
        self.dataReceived(data, ends, False)

    def _takeWholeMessages(self, data: bytes, ends: float) -> bytes:
        """
        Take the messages at the beginning of what came that are one frame each, masked and right.

        @param ends: as of L{read}.
        @return: what comes behind them, for Autobahn: a control frame, a piece of a message, what is compressed,
            too large, wrong, or incomplete.
        """
        position = 0
        available = len(data)
        received = self.receiver.received
        if ends:
            seconds = self._clock.seconds
        while available - position >= _SMALLEST:
            if position:
                # Behind one that was taken; after the first there is nothing, nearly always.
                if self._isStopped or seconds() >= ends:
                    self.keep(data[position:])
                    return b""
                if not self.isOpen:
                    break
            first = data[position]
            length = data[position + 1] - _MASKED
            start = position + _SMALLEST
            if length > _SHORT:
                size = _LENGTHS[length]
                start += size
                if start > available:
                    break
                least = length
                length = int.from_bytes(data[position + 2 : position + 2 + size])
                if length < _LEAST[least]:
                    break
            end = start + length
            if length < 0 or length > self._maxHttpBufferSize:
                break
            if end > available:
                if first in _SHORT_HEADERS and start <= available:
                    incomplete = _IncompleteFrame(data[position:], start - position, end - available, first)
                    if not incomplete.isWrong:
                        self._incomplete = incomplete
                        return b""
                break
            if first == _WHOLE_TEXT:
                try:
                    if length > INTEGER_UNMASKED:
                        message: str | bytes = _unmaskedLong(data[start - 4 : start], data[start:end]).decode()
                    else:
                        # What _unmaskedByInteger does.
                        mask = int.from_bytes((data[start - 4 : start] * _MASKS_UNMASKED)[:length])
                        message = (int.from_bytes(data[start:end]) ^ mask).to_bytes(length).decode()
                except UnicodeDecodeError:
                    break
            elif first == _WHOLE_BINARY:
                message = bytes(_unmasked(data[start - 4 : start], data[start:end]))
            else:
                break
            if end < available and not ends:
                seconds = self._clock.seconds
                ends = seconds() + TURN
            position = end
            received(message)
        return data[position:] if position else data
