"""
Frames of WebSocket (RFC 6455, sections 5 to 8).

What frames are made of, what they can say, and how they are written; L{frame_reader} reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol, TypeAlias

import attrs

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""Opcodes (RFC 6455, 5.2)."""

NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
INVALID_PAYLOAD, POLICY_VIOLATION, TOO_LARGE, INTERNAL_ERROR = 1007, 1008, 1009, 1011
"""Codes of close frames (RFC 6455, 7.4.1)."""

NO_CODE = 1005
"""The code that stands for a close frame without one. It is never sent."""

FINAL = 0x80
"""The bit of the last frame of a message, in the first byte of a frame."""

WHOLE_TEXT, WHOLE_BINARY = FINAL | TEXT, FINAL | BINARY
"""The first byte of a frame that is a whole message, not compressed."""

COMPRESSED = 0x40
"""The bit of a compressed message (RFC 7692, 7.2.1), in the first byte of its first frame."""

MAX_CONTROL = 125
"""Maximum bytes of the payload of a control frame (RFC 6455, 5.5)."""

MASKED = 0x80
"""The bit of a frame that is masked, in the second byte of a frame."""

SHORT, MEDIUM, LONG = 125, 126, 127
"""The largest length in one byte, and what stands for a length in two bytes more, and in eight (RFC 6455, 5.2)."""

LENGTHS = {MEDIUM: 2, LONG: 8}
"""Bytes of a length that doesn't fit into one, by what stands for it."""

LEAST = {MEDIUM: SHORT + 1, LONG: 2**16}
"""The smallest length that may be written so, by what stands for it."""

MASK_SIZE = 4
"""Bytes of a mask."""


@attrs.define
class Ping:
    """A ping. Its payload is to come back in a pong (RFC 6455, 5.5.2)."""

    payload: bytes


@attrs.define
class Pong:
    """A pong, asked for or not (RFC 6455, 5.5.3)."""

    payload: bytes


@attrs.define
class Close:
    """
    A close frame (RFC 6455, 5.5.1). Nothing comes after it.

    @ivar code: why, a code that may be sent; None if there was none.
    @ivar reason: why, in the peer's words.
    """

    code: int | None
    reason: str = ""


@attrs.define
class Violation:
    """
    The peer broke the protocol or sent too much: the WebSocket has to be closed.

    @ivar code: for the close frame.
    @ivar reason: for the close frame and the log. None of it is the peer's text.
    """

    code: int
    reason: str


Event: TypeAlias = str | bytes | Ping | Pong | Close | Violation
"""What a frame says: a message, of text or bytes, or one of the others."""


class Inflater(Protocol):
    """What inflates the messages of one connection, in order (RFC 7692)."""

    def begin(self) -> None:
        """Called before each message."""

    def inflate(self, data: bytes, limit: int) -> bytes:
        """
        Inflate a part of a message.

        @param limit: maximum bytes to return.
        @raise FrameError: it isn't what the extension says, or inflates to more.
        """
        ...

    def end(self) -> None:
        """
        Called after each message.

        @raise FrameError: it isn't what the extension says.
        """


class FrameError(Exception):
    """
    What came breaks the protocol, or is too large.

    @ivar code: for the close frame.
    @ivar reason: for the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def tooLarge(limit: int) -> str:
    """Return why a message over the limit isn't taken: for the close frame, the log and the session."""
    return f"a message is larger than maxHttpBufferSize, {limit} bytes"


def unmask(mask: bytes, payload: bytes | bytearray) -> bytes | bytearray:
    """
    Return a masked payload without its mask, or a payload masked (RFC 6455, 5.3).

    @param mask: four bytes.
    """
    length = len(payload)
    repeated = (mask * (length // MASK_SIZE + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)


_SHORT_HEADERS = {
    first: [bytes((first, length)) for length in range(SHORT + 1)] for first in (WHOLE_TEXT, WHOLE_BINARY)
}

SHORT_TEXT_HEADERS = _SHORT_HEADERS[WHOLE_TEXT]
"""The headers of messages of text of up to 125 bytes, by their length."""


def frame(first: int, payload: bytes) -> bytes:
    """
    Return a frame of a server (RFC 6455, 5.2).

    @param first: its first byte, such as L{WHOLE_TEXT}.
    """
    length = len(payload)
    if length <= SHORT and first in _SHORT_HEADERS:
        return _SHORT_HEADERS[first][length] + payload
    return _header(first, length, 0) + payload


def maskedFrame(
    first: int, payload: bytes, mask: bytes, masked: Callable[[bytes, bytes], bytes | bytearray] = unmask
) -> bytes:
    """
    Return a frame of a client (RFC 6455, 5.2 and 5.3).

    @param first: its first byte, such as L{WHOLE_TEXT}.
    @param mask: four bytes that nobody can foresee.
    @param masked: does what L{unmask} does.
    """
    return b"".join((_header(first, len(payload), MASKED), mask, masked(mask, payload)))


def _header(first: int, length: int, masked: int) -> bytes:
    if length <= SHORT:
        return bytes((first, masked | length))
    if length < LEAST[LONG]:
        return struct.pack("!BBH", first, masked | MEDIUM, length)
    return struct.pack("!BBQ", first, masked | LONG, length)


def closePayload(code: int | None, reason: str = "") -> bytes:
    """
    Return the payload of a close frame.

    @param code: one of RFC 6455, 7.4.1; None for a close frame without one.
    @param reason: why. What is longer than a control frame can be is left out.
    """
    if code is None:
        return b""
    if not reason:
        return code.to_bytes(2)
    # Not in the middle of a character.
    return code.to_bytes(2) + reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore").encode()
