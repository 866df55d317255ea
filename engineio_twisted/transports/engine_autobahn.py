"""
WebSocket by Autobahn, the default C{wsEngine}. docs/architecture/engines.md

Autobahn's factory has the settings, says how an opening handshake is answered, and compresses. Frames are read and
written here, by L{protocol.frame_reader} and L{protocol.frames}.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha1
from typing import TYPE_CHECKING, Any, ClassVar

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import USES_NVX
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ..interfaces import IWebSocket, IWebSocketEngine
from ..protocol.errors import OptionError
from ..protocol.frame_reader import FrameReader
from ..protocol.frames import (
    CLOSE,
    COMPRESSED,
    FINAL,
    NO_CODE,
    NORMAL,
    PONG,
    SHORT,
    SHORT_TEXT_HEADERS,
    TOO_LARGE,
    WHOLE_BINARY,
    WHOLE_TEXT,
    Close,
    Event,
    Ping,
    Violation,
    closePayload,
    frame,
    unmask,
)
from ..turns import TURN
from ..web.connections import closeAtOnce, writeAtOnce
from .connection import Turns, WebSocketConnection, WebSockets, begin
from .engine_deflate import Deflate, agreeOn

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..protocol.handshake import WebSocketHandshake
    from ..protocol.options import ServerOptions
    from ..protocol.packet import Form

_native: Any
try:
    # Of Autobahn 26.10, if its wheel has native code. Without it all payloads are unmasked in Python.
    import _nvx_xormasker as _native  # type: ignore[import-not-found,no-redef]
except ImportError:
    _native = None

GATHERED = 65536
"""Bytes of answers to what one piece read brought that are written together."""

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What is appended to a client's key before it is hashed (RFC 6455, 1.3)."""

_DROPPED = (
    'connection was closed uncleanly ("peer dropped the TCP connection without previous WebSocket closing handshake")'
)

_ACCEPT = b"Sec-WebSocket-Accept"

HONOURED = frozenset({"echoCloseCodeReason", "failByDrop"})
"""Autobahn's options that a subclass of L{AutobahnEngine} may set. The others are refused."""

INSTEAD = {
    "allowedOrigins": "cors or allowRequest",
    "autoPingInterval": "pingInterval",
    "autoPingTimeout": "pingTimeout",
    "maxConnections": "maxSessions",
    "maxFramePayloadSize": "maxHttpBufferSize",
    "maxMessagePayloadSize": "maxHttpBufferSize",
    "perMessageCompressionAccept": "perMessageDeflate",
    "trustXForwardedFor": "trustedProxies",
}
"""Options of a server that do what refused options of Autobahn's are for."""


@implementer(IWebSocketEngine)
class AutobahnEngine(Turns, WebSocketServerFactory):  # type: ignore[misc]
    """
    WebSocket by Autobahn: the settings of all WebSockets of a server, and which are connected.

    A subclass may set, by C{setProtocolOptions}, the options of Autobahn that are in L{HONOURED}, and, by
    C{setSessionParameters}, C{server} and C{headers}, which the 101 carries.

    @ivar deflate: how messages are compressed; None if they aren't.
    """

    supportsPerMessageDeflate = True
    _ownOptions: Mapping[str, Any] | None = None

    def __init__(self, clock: IReactorTime, options: ServerOptions) -> None:
        # Autobahn keeps a reactor only to start timers on it, and none is started.
        super().__init__(server="", reactor=clock)
        self.clock = clock
        self.maxHttpBufferSize: int = options.maxHttpBufferSize
        self.deflate = options.perMessageDeflate
        self.connections: WebSockets = WebSockets(clock)
        # A close frame tells the client what was wrong; a dropped connection doesn't.
        self.setProtocolOptions(failByDrop=False, webStatus=False, openHandshakeTimeout=0, closeHandshakeTimeout=0)
        self._ownOptions = self._protocolOptions()
        self.turn = object()

    def setProtocolOptions(self, *args: Any, **options: Any) -> None:
        """
        Set options of Autobahn's.

        @raise OptionError: one of them isn't in L{HONOURED}; it names the option.
        """
        super().setProtocolOptions(*args, **options)
        self._checkOptions()

    def _protocolOptions(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS if hasattr(self, name)}

    def _checkOptions(self) -> None:
        if self._ownOptions is None:
            return
        for name, value in self._protocolOptions().items():
            if value != self._ownOptions[name] and name not in HONOURED:
                instead = f"; set the server's {INSTEAD[name]}" if name in INSTEAD else ""
                raise OptionError(name, value, f"AutobahnEngine doesn't support this option of Autobahn{instead}")

    @cached_property
    def _answer(self) -> bytes:
        """The beginning of each 101, as Autobahn writes it with these settings."""
        # Not before: a subclass may set something after this was made.
        self._checkOptions()
        nobody: Any = WebSocketServerProtocol()
        nobody.factory = self
        nobody.onConnect = lambda _: None
        connection = Nowhere()
        nobody.makeConnection(connection)
        nobody.dataReceived(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.countConnections = 0
        answer, separator, _ = connection.written.partition(_ACCEPT)
        if not answer.startswith(b"HTTP/1.1 101 ") or not separator:
            raise ValueError(f"with these settings Autobahn opens no WebSocket: {connection.written[:100]!r}")
        return answer

    def accept(
        self, exchange: Any, handshake: WebSocketHandshake, headers: Mapping[str, Sequence[str]], receiver: Any
    ) -> None:
        own = "".join([f"{name}: {value}\r\n" for name, values in headers.items() for value in values])
        lines = [self._answer, own.encode()]
        if handshake.subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {handshake.subprotocol}\r\n".encode())
        proof = b2a_base64(sha1(handshake.key + _ACCEPT_SUFFIX, usedforsecurity=False).digest(), newline=False)
        lines.append(b"%b: %b\r\n" % (_ACCEPT, proof))
        deflate = None
        if self.deflate is not None and (agreed := agreeOn(handshake.extensions, self.deflate)) is not None:
            lines.append(f"Sec-WebSocket-Extensions: {agreed.get_extension_string()}\r\n".encode())
            deflate = Deflate.create_from_offer_accept(True, agreed)
            deflate.threshold = self.deflate.threshold
        lines.append(b"\r\n")
        protocol = AutobahnWebSocket(self, receiver, self.maxHttpBufferSize, deflate)
        behind = exchange.takeOver(protocol)
        protocol.open(b"".join(lines), behind)


class Nowhere:
    """
    A connection to nobody.

    @ivar written: all that was written to it.
    """

    disconnecting = False
    written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 0)

    getHost = getPeer


def _unmaskNatively(mask: bytes, payload: bytes | bytearray) -> bytearray:
    # Autobahn makes an object for each mask, which takes five times as long as all of this.
    unmasked = payload if isinstance(payload, bytearray) else bytearray(payload)
    masker = _native.lib.nvx_xormask_new(mask)
    _native.lib.nvx_xormask_process(masker, _native.ffi.from_buffer(unmasked), len(unmasked))
    _native.lib.nvx_xormask_free(masker)
    return unmasked


def _choose() -> Callable[[bytes, bytes], bytes | bytearray]:
    """Return what unmasks long payloads: native code, if Autobahn has it, uses it, and it does what is expected."""
    example = b"mask", b"a payload"
    try:
        isRight = USES_NVX and _unmaskNatively(*example) == unmask(*example)
    except Exception:
        # It is none of what Autobahn says that it has.
        isRight = False
    return _unmaskNatively if isRight else unmask


class NativeReader(FrameReader):
    """A reader of frames that unmasks long payloads by native code, if there is any."""

    __slots__ = ()
    unmaskLong = staticmethod(_choose())  # type: ignore[assignment]


@implementer(IWebSocket)
class AutobahnWebSocket(WebSocketConnection):
    """
    A WebSocket of L{AutobahnEngine}: reads and writes its frames, and does its part of the closing handshake.

    A base of the WebSocket of a client, L{engine_client.ClientWebSocket}.

    @param engine: what all WebSockets with the same settings share.
    @param limit: maximum bytes of a message that is received.
    @param deflate: compresses messages, and inflates those of the peer; None if that wasn't agreed on.
    @cvar readerClass: reads the frames of the peer.
    @cvar frame: makes a frame of its first byte and its payload.
    """

    readerClass: ClassVar[type[FrameReader]] = NativeReader
    frame: ClassVar[Any] = staticmethod(frame)

    # As attributes, since they are asked for with each message.
    isOpen = True
    writable = True
    # Whether nothing more is read, and the connection is closed when all is written.
    _isOver = False
    # What is written while something is being read, to go out in one piece; None at other times.
    _gathered: list[bytes] | None = None
    _gatheredSize = 0
    # The turn of the reactor in which something was written at once.
    _turn: object = None

    def __init__(self, engine: Any, receiver: Any, limit: int, deflate: Deflate | None = None) -> None:
        super().__init__(engine.clock, limit, engine.connections, receiver)
        self.engine = engine
        self._deflate = deflate
        self._reader = self.readerClass(limit, deflate)

    # Opening and closing

    def makeConnection(self, transport: Any) -> None:
        """Called with the connection when it is taken over."""
        self.transport = transport
        self.connectionBegan()

    def open(self, answer: bytes, behind: bytes) -> None:
        """
        Open the WebSocket.

        @param answer: the 101; empty at the end that asked for it.
        @param behind: what came behind the handshake.
        """
        # With it goes what the session says first. It isn't counted as what is sent on a WebSocket.
        self._gathered = [answer] if answer else []
        try:
            begin(self, behind)
        finally:
            self._release()

    def close(self, code: int = NORMAL, deadline: float = 0.0) -> None:
        if self.isOpen:
            self._sendClose(code, "", deadline)

    def _sendClose(self, code: int | None, reason: str = "", deadline: float = 0.0) -> None:
        """Send a close frame: here every end passes that either side announces."""
        self.isOpen = self.writable = False
        self._reader.close()
        if not self._isOver:
            self.setDeadline(deadline)
        self.write(self.frame(FINAL | CLOSE, closePayload(code, reason)))

    def _closed(self, close: Close) -> None:
        """The client has closed the WebSocket: answer with its own code (RFC 6455, 5.5.1)."""
        self._sendClose(close.code, close.reason if self.engine.echoCloseCodeReason else "")
        self.receiver.closed(f"close frame with code {NO_CODE if close.code is None else close.code}")

    def _violated(self, violation: Violation) -> None:
        """The client has broken the protocol, or sent too much: say so, and read on until it has closed."""
        code, reason = violation.code, violation.reason
        if self.engine.failByDrop:
            self.isOpen = self.writable = False
            self._isOver = True
        else:
            self._sendClose(code, reason)
        self.logFailure(code, reason)
        self.receiver.failed(reason if code == TOO_LARGE else f"close frame with code {code}: {reason}")

    def connectionLost(self, reason: Failure) -> None:
        """Called when the connection is lost."""
        self.connectionGone(reason)

    def lost(self, reason: Failure) -> None:
        # Otherwise the receiver was told already, or has closed it.
        if self.isOpen:
            self.isOpen = self.writable = False
            self.receiver.closed(_DROPPED)

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

    # Writing

    def send(self, payload: bytes, isText: bool, compress: bool, form: Form | None = None) -> None:
        if isText and form is None and self._deflate is None and (length := len(payload)) <= SHORT:
            # As frame does, without a call.
            made = SHORT_TEXT_HEADERS[length] + payload
        else:
            made = self._framed(payload, isText, compress, form)
        gathered = self._gathered
        if gathered is None or self._gatheredSize > GATHERED - len(made):
            self.write(made)
        else:
            # As that does.
            gathered.append(made)
            self._gatheredSize += len(made)

    def _framed(self, payload: bytes, isText: bool, compress: bool, form: Form | None) -> bytes:
        first = WHOLE_TEXT if isText else WHOLE_BINARY
        if compress and self._deflate is not None and len(payload) >= self._deflate.threshold:
            # With its own context for each connection: nothing can be shared.
            compressed: bytes = self.frame(first | COMPRESSED, self._deflate.compress(payload))
            return compressed
        if form is None:
            framed: bytes = self.frame(first, payload)
            return framed
        if form.made is None:
            form.made = self.frame(first, payload)
        made: bytes = form.made
        return made

    def write(self, data: bytes) -> None:
        """Write to the connection: at once, with what is written next, or after what is written already."""
        if self._gathered is not None:
            self._gathered.append(data)
            self._gatheredSize += len(data)
            if self._gatheredSize > GATHERED:
                self._writeGathered()
                self._gathered = []
            return
        self.countWritten(len(data))
        engine = self.engine
        if self._turn is engine.turn:
            # A second time in a turn of the reactor it costs less to leave it to that.
            self.transport.write(data)
        elif writeAtOnce(self.transport, data):
            self._turn = engine.turn
            engine.noteTurn()

    def _writeGathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            size, self._gatheredSize = self._gatheredSize, 0
            counters = self.counters
            counters.bytesSent += size
            if size and counters.trafficObservers:
                counters.tell("bytesSent", self.receiver.owner, size)
            writeAtOnce(self.transport, gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def _release(self) -> None:
        """Write what was gathered, and close the connection if that was the last of it."""
        try:
            self._writeGathered()
        finally:
            if self._isOver:
                self._closeConnection()

    def _closeConnection(self) -> None:
        # Over TLS nothing says goodbye while a producer is there.
        self.transport.unregisterProducer()
        if not closeAtOnce(self.transport):
            self.setDeadline()
            self.transport.loseConnection()

    # Reading

    @property
    def arriving(self) -> object:
        return self._reader.arriving

    @property
    def _incompleteBytes(self) -> int:
        return self._reader.held

    def dataReceived(self, data: bytes, ends: float = 0.0, isNew: bool = True) -> None:
        """
        Read what came.

        One method reads it at once and later: to call another one takes a fiftieth of an echo.

        @param ends: as of L{read}.
        @param isNew: whether it wasn't counted and kept before.
        """
        if self._isOver:
            return
        if isNew:
            counters = self.counters
            if self._allowance is not None or counters.trafficObservers:
                self.countRead(data)
            else:
                counters.bytesReceived += len(data)
            if self._isStopped:
                self.keep(data)
                return
        # It is there if this came behind the request: the session is just about to begin.
        isNested = self._gathered is not None
        if not isNested:
            self._gathered = []
        try:
            read = self._reader.read
            size = len(data)
            position, event = read(data, 0)
            if position < size:
                # Behind a single frame, which is what comes nearly always, time doesn't matter.
                seconds = self._clock.seconds
                ends = ends or seconds() + TURN
            while True:
                kind = event.__class__
                if kind is str or kind is bytes:
                    self.receiver.received(event)
                else:
                    self._heard(event)
                if position >= size or self._isOver:
                    break
                if self._isStopped or seconds() >= ends:
                    self.keep(data[position:])
                    break
                position, event = read(data, position)
        finally:
            if not isNested:
                self._release()

    def read(self, data: bytes, ends: float) -> None:
        if data:
            self.dataReceived(data, ends, False)

    def _heard(self, event: Event | None) -> None:
        """Take what is no message."""
        self._isOver = self._reader.isOver
        if isinstance(event, Ping):
            self.write(self.frame(FINAL | PONG, event.payload))
        elif isinstance(event, Close):
            self._closed(event)
        elif isinstance(event, Violation):
            self._violated(event)
