"""
The client's end of a connection in memory: requests of HTTP and their answers, and a WebSocket.

It is strict, where real clients forgive: what a server may not send raises L{ProtocolViolation}.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha1

import attrs
from twisted.web.http_headers import Headers

from ..protocol.frames import NORMAL
from .network import MemoryConnection, Receiver

_KEY = b64encode(b"engineio_twisted")
_ACCEPT = b64encode(sha1(_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
_MASK = b"\x0f\x1e\x2d\x3c"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_MESSAGES = (_CONTINUATION, _TEXT, _BINARY)
_CONTROLS = (_CLOSE, _PING, _PONG)

Connect = Callable[[Receiver], MemoryConnection]


class ProtocolViolation(AssertionError):
    """The server sent what it may not."""


@attrs.frozen
class Response:
    """
    An answer to a request.

    @ivar headers: a L{twisted.web.http_headers.Headers}.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\Z")


def _takeHead(data: bytearray) -> tuple[int, Headers] | None:
    """Take the status and headers of an answer out of what came; None where they aren't all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).split(b"\r\n")
    del data[: end + 4]
    status = _STATUS.match(first)
    if status is None:
        raise ProtocolViolation(f"an answer that begins with {first[:64]!r}: expected a status of HTTP/1.1")
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise ProtocolViolation(f"an answer with the line {line[:64]!r}: expected a header")
        headers.addRawHeader(name, value.strip())
    return int(status[1]), headers


def _takeBody(status: int, headers: Headers, data: bytearray) -> bytes | None:
    """Take the body of an answer out of what came; None where that isn't all there."""
    if status in (204, 304):
        return b""
    if headers.getRawHeaders(b"transfer-encoding", []) == [b"chunked"]:
        return _takeChunks(data)
    lengths = headers.getRawHeaders(b"content-length", [])
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise ProtocolViolation(f"an answer with the Content-Length {lengths}: expected one number")
    length = int(lengths[0])
    if len(data) < length:
        return None
    body = bytes(data[:length])
    del data[:length]
    return body


def _takeChunks(data: bytearray) -> bytes | None:
    if not data.endswith(b"\r\n0\r\n\r\n"):
        # Nothing comes behind an answer before the next request.
        return None
    chunks = []
    rest = bytes(data)
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        length = int(line, 16)
        if rest[length : length + 2] != b"\r\n":
            if len(rest) < length + 2:
                # It ended in what looked like the end.
                return None
            raise ProtocolViolation(f"a chunk of {length} bytes that goes on")
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    data.clear()
    return b"".join(chunks)


class Requests:
    """Requests of a client, one after the other, on a connection that is kept for the next."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._data = bytearray()
        self._head: tuple[int, Headers] | None = None
        self._method = ""
        self._answered: Callable[[Response], object] | None = None
        self._lost: Callable[[], object] | None = None
        self.connection: MemoryConnection | None = None

    @property
    def isWaiting(self) -> bool:
        """Whether an answer is awaited."""
        return self._answered is not None

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        answered: Callable[[Response], object],
        lost: Callable[[], object],
    ) -> None:
        """
        Send a request.

        @param answered: called with the answer.
        @param lost: called where the connection is lost before it.
        """
        self._method, self._answered, self._lost = method, answered, lost
        if self.connection is None:
            self.connection = self._connect(self)
        self.connection.send(_written(method, target, headers, body if method == "POST" or body else None))

    def dataReceived(self, data: bytes) -> None:
        """
        Take bytes of an answer.

        @raise ProtocolViolation: they aren't any.
        """
        self._data += data
        if self._answered is None:
            raise ProtocolViolation(f"{data[:64]!r}, where nothing was asked")
        if self._head is None:
            self._head = _takeHead(self._data)
        body = None if self._head is None else self._takeBody(*self._head)
        if self._head is None or body is None:
            return
        (status, headers), self._head = self._head, None
        if self._data:
            raise ProtocolViolation(f"{bytes(self._data[:64])!r} behind an answer")
        coding = headers.getRawHeaders(b"content-encoding", [b"identity"])[-1]
        if coding != b"identity":
            # What zlib finds out by itself: gzip or deflate.
            body = zlib.decompress(body, 47)
        answered, self._answered = self._answered, None
        if b"close" in headers.getRawHeaders(b"connection", []):
            # The next request is not to meet its end.
            self.drop()
        answered(Response(status, headers, body))

    def _takeBody(self, status: int, headers: Headers) -> bytes | None:
        return b"" if self._method == "HEAD" else _takeBody(status, headers, self._data)

    def connectionLost(self) -> None:
        """Learn that the server has closed the connection, or cut it."""
        lost = self._lost if self.isWaiting else None
        self.forget()
        if lost is not None:
            lost()

    def drop(self) -> None:
        """Close the connection; nothing is awaited any more."""
        if self.connection is not None:
            if self.isWaiting:
                self.connection.lose()
            else:
                self.connection.finish()
        self.forget()

    def forget(self) -> None:
        """Have no connection any more, after it was lost: the next request makes one."""
        self.connection = self._answered = self._head = None
        self._data.clear()


def _written(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> bytes:
    """Return a request as it is sent."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1", *([] if "host" in given else ["Host: localhost"])]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@attrs.frozen
class Owner:
    """
    Whom a WebSocket of a client tells what happens.

    @ivar opened: called with the WebSocket when it is open.
    @ivar refused: called with it and the answer, a L{Response}, where it was refused.
    @ivar received: called with it and a message.
    @ivar over: called with it and what happened, when the server has closed it, or its connection is lost; maybe twice.
    """

    opened: Callable[[ClientWebSocket], object]
    refused: Callable[[ClientWebSocket, Response], object]
    received: Callable[[ClientWebSocket, str | bytes], object]
    over: Callable[[ClientWebSocket, str], object]


class ClientWebSocket:
    """A client's WebSocket: what it makes of frames, and strictly."""

    def __init__(self, owner: Owner, connect: Connect, target: str, headers: Sequence[tuple[str, str]]) -> None:
        self._owner = owner
        self._data = bytearray()
        self._head: tuple[int, Headers] | None = None
        self._pieces: list[bytes] = []
        self._opcode = 0
        self._isHTTP = True
        self.isOpen = False
        # The code of the server's close frame; 1005, as RFC 6455 has it, for one without a code.
        self.code: int | None = None
        opening = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", _KEY.decode()),
            ("Sec-WebSocket-Version", "13"),
            *headers,
        ]
        self.connection = connect(self)
        self.connection.send(_written("GET", target, opening, None))

    def send(self, data: str | bytes) -> None:
        """Send a message."""
        if isinstance(data, str):
            self._send(_TEXT, data.encode())
        else:
            self._send(_BINARY, data)

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = bytes([0x80 | 126]) + size.to_bytes(2)
        else:
            length = bytes([0x80 | 127]) + size.to_bytes(8)
        mask = (_MASK * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
        self.connection.send(bytes([0x80 | opcode]) + length + _MASK + masked)

    def close(self) -> None:
        """Begin to close it."""
        self._send(_CLOSE, NORMAL.to_bytes(2))
        self.isOpen = False

    def dataReceived(self, data: bytes) -> None:
        """
        Take bytes: of the answer, then of frames.

        @raise ProtocolViolation: the server may not send them.
        """
        self._data += data
        if self._isHTTP and not self._open():
            return
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def _open(self) -> bool:
        if self._head is None:
            self._head = _takeHead(self._data)
            if self._head is None:
                return False
        status, headers = self._head
        if status != 101:
            body = _takeBody(status, headers, self._data)
            if body is not None:
                self._owner.refused(self, Response(status, headers, body))
            return False
        if headers.getRawHeaders(b"sec-websocket-accept") != [_ACCEPT]:
            raise ProtocolViolation(f"a 101 with {list(headers.getAllRawHeaders())}: expected the key {_ACCEPT!r}")
        self._isHTTP = False
        self.isOpen = True
        self._owner.opened(self)
        return True

    def _frame(self) -> tuple[int, bool, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        opcode, isFinal = data[0] & 15, bool(data[0] & 0x80)
        if data[0] & 0x70 or data[1] & 0x80 or opcode not in (*_MESSAGES, *_CONTROLS):
            raise ProtocolViolation(f"a frame that begins with {bytes(data[:2])!r}: masked, reserved bits or opcode")
        size, start = data[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            return None
        if opcode in _CONTROLS and (size > 125 or not isFinal):
            raise ProtocolViolation(f"a control frame of {size} bytes: expected one of at most 125, in one piece")
        payload = bytes(data[start : start + size])
        del data[: start + size]
        return opcode, isFinal, payload

    def _take(self, opcode: int, isFinal: bool, payload: bytes) -> None:
        if self.code is not None:
            raise ProtocolViolation(f"a frame behind the close frame: {payload[:64]!r}")
        if opcode == _PING:
            self._send(_PONG, payload)
        elif opcode == _CLOSE:
            self.code = int.from_bytes(payload[:2]) if payload else 1005
            if self.isOpen:
                self._send(_CLOSE, payload[:2])
                self.isOpen = False
            self._owner.over(self, f"close frame with code {self.code}")
        elif opcode in _MESSAGES:
            if bool(self._pieces) is not (opcode == _CONTINUATION):
                where = "within a message" if self._pieces else "outside of a message"
                raise ProtocolViolation(f"a frame with the opcode {opcode} {where}")
            self._opcode = opcode or self._opcode
            self._pieces.append(payload)
            if isFinal:
                data, self._pieces = b"".join(self._pieces), []
                try:
                    self._owner.received(self, data.decode() if self._opcode == _TEXT else data)
                except UnicodeDecodeError:
                    raise ProtocolViolation(f"text that isn't UTF-8: {data[:64]!r}") from None

    def connectionLost(self) -> None:
        """Learn that the server has closed the connection, or cut it."""
        self.isOpen = False
        self._owner.over(self, "connection lost")
