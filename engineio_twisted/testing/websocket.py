"""
A WebSocket at the client's end of a connection in memory.

It is stricter than real clients: what a server may not send raises L{ProtocolViolation}.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha1

import attrs
from twisted.web.http_headers import Headers

from ..protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FINAL,
    LENGTHS,
    MASKED,
    MAX_CONTROL,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    TEXT,
    maskedFrame,
)
from .requests import Connect, ProtocolViolation, Response, takeBody, takeHead, written

_KEY = b64encode(b"engineio_twisted")
_ACCEPT = b64encode(sha1(_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
_MASK = b"\x0f\x1e\x2d\x3c"
_MESSAGES = (CONTINUATION, TEXT, BINARY)
_CONTROLS = (CLOSE, PING, PONG)


@attrs.frozen
class Frame:
    """
    A frame of a server.

    @ivar isFinal: whether it is the last one of its message.
    @ivar reserved: its reserved bits, as a number of three bits; 4 is set in a compressed message.
    """

    opcode: int
    payload: bytes
    isFinal: bool = True
    reserved: int = 0

    @property
    def text(self) -> str:
        """
        The text in a frame of text.

        @raise ProtocolViolation: it is another frame.
        """
        if self.opcode != TEXT:
            raise ProtocolViolation(f"{self}: expected text")
        return self.payload.decode()

    @property
    def code(self) -> int | None:
        """
        The code in a close frame; None if it has none.

        @raise ProtocolViolation: it is another frame.
        """
        if self.opcode != CLOSE:
            raise ProtocolViolation(f"{self}: expected a close frame")
        return int.from_bytes(self.payload[:2]) if self.payload else None


def takeFrame(data: bytearray) -> Frame | None:
    """
    Take a frame out of what came.

    It isn't read by what reads frames in the server, whose faults would not show.

    @return: the frame; None if it isn't complete.
    @raise ProtocolViolation: it is masked.
    """
    if len(data) < 2:
        return None
    first = data[0]
    if data[1] & MASKED:
        raise ProtocolViolation(f"a frame that begins with {bytes(data[:2])!r}: masked")
    size, start = data[1], 2
    if size in LENGTHS:
        start += LENGTHS[size]
        if len(data) < start:
            return None
        size = int.from_bytes(data[2:start])
    if len(data) < start + size:
        return None
    payload = bytes(data[start : start + size])
    del data[: start + size]
    return Frame(first & 15, payload, first >= FINAL, first >> 4 & 7)


@attrs.frozen
class Owner:
    """
    Whom a WebSocket of a client tells what happens.

    @ivar opened: called with the WebSocket when it is open.
    @ivar refused: called with it and the L{Response} if it was refused.
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
        self.isOpen: bool = False
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
        self.connection.send(written("GET", target, opening, None))

    def send(self, data: str | bytes) -> None:
        """Send a message."""
        if isinstance(data, str):
            self._send(TEXT, data.encode())
        else:
            self._send(BINARY, data)

    def _send(self, opcode: int, payload: bytes) -> None:
        self.connection.send(maskedFrame(FINAL | opcode, payload, _MASK))

    def close(self) -> None:
        """Begin to close it."""
        self._send(CLOSE, NORMAL.to_bytes(2))
        self.isOpen = False

    def dataReceived(self, data: bytes) -> None:
        """
        Take bytes: of the answer, then of frames.

        @raise ProtocolViolation: the server may not send them.
        """
        self._data += data
        if self._isHTTP and not self._open():
            return
        while (frame := takeFrame(self._data)) is not None:
            self._take(frame)

    def _open(self) -> bool:
        if self._head is None:
            self._head = takeHead(self._data)
            if self._head is None:
                return False
        status, headers = self._head
        if status != 101:
            body = takeBody(status, headers, self._data)
            if body is not None:
                self._owner.refused(self, Response(status, headers, body))
            return False
        if headers.getRawHeaders(b"sec-websocket-accept") != [_ACCEPT]:
            raise ProtocolViolation(f"a 101 with {list(headers.getAllRawHeaders())}: expected the key {_ACCEPT!r}")
        self._isHTTP = False
        self.isOpen = True
        self._owner.opened(self)
        return True

    def _take(self, frame: Frame) -> None:
        opcode, payload = frame.opcode, frame.payload
        if frame.reserved or opcode not in (*_MESSAGES, *_CONTROLS):
            raise ProtocolViolation(f"{frame}: reserved bits or opcode")
        if opcode in _CONTROLS and (len(payload) > MAX_CONTROL or not frame.isFinal):
            raise ProtocolViolation(
                f"a control frame of {len(payload)} bytes: expected one of at most 125, in one piece"
            )
        if self.code is not None:
            raise ProtocolViolation(f"a frame behind the close frame: {payload[:64]!r}")
        if opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.code = NO_CODE if frame.code is None else frame.code
            if self.isOpen:
                self._send(CLOSE, payload[:2])
                self.isOpen = False
            self._owner.over(self, f"close frame with code {self.code}")
        else:
            if bool(self._pieces) is not (opcode == CONTINUATION):
                where = "within a message" if self._pieces else "outside of a message"
                raise ProtocolViolation(f"a frame with the opcode {opcode} {where}")
            self._opcode = opcode or self._opcode
            self._pieces.append(payload)
            if frame.isFinal:
                data, self._pieces = b"".join(self._pieces), []
                try:
                    self._owner.received(self, data.decode() if self._opcode == TEXT else data)
                except UnicodeDecodeError:
                    raise ProtocolViolation(f"text that isn't UTF-8: {data[:64]!r}") from None

    def connectionLost(self) -> None:
        """Called when the server has closed the connection, or cut it."""
        self.isOpen = False
        self._owner.over(self, "connection lost")
