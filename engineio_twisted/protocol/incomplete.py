"""
Frames and messages of WebSocket of which not all has come: what is kept of them, and how much of it.

L{frame_reader} gives the pieces.
"""

from __future__ import annotations

import codecs
from sys import getsizeof
from typing import Any

from .frames import FINAL, INVALID_PAYLOAD, TOO_LARGE, FrameError, Inflater, tooLarge

MANY_PIECES = 1024
"""Number of pieces of a message that are joined to one: each takes some fifty bytes more than its content."""

BEGINNING = 2
"""Bytes of a frame from which the size of its header follows."""

_MUCH_LARGER, _SMALL_TEXT = 2, 1000
"""How many times as large as its UTF-8 a piece of text is kept, and bytes that make no difference."""

_newDecoder = codecs.getincrementaldecoder("utf-8")


class IncompleteFrame:
    """
    A frame of which not all has come.

    @ivar header: what came of its header.
    @ivar headerSize: bytes of the header, as far as is known.
    @ivar left: bytes of the payload that are missing; None until the header is complete.
    @ivar mask: for the next byte; empty if the frame isn't masked.
    @ivar control: the payload of a control frame.
    @ivar size: bytes of the pieces that are kept as they came.
    """

    __slots__ = ("_pieces", "control", "header", "headerSize", "left", "mask", "size")

    def __init__(self) -> None:
        self.header: bytes = b""
        self.headerSize: int = BEGINNING
        self.left: int | None = None
        self.mask: bytes = b""
        self.control: bytes = b""
        self._pieces: list[bytes | memoryview] = []
        self.size: int = 0

    def keep(self, payload: bytes | memoryview) -> None:
        """Keep a piece of the payload as it came: unmasking all of them at once costs less."""
        self.size += len(payload)
        self._pieces.append(payload)
        if len(self._pieces) > MANY_PIECES:
            self._pieces = [b"".join(self._pieces)]

    def taken(self, payload: bytes) -> bytes | bytearray:
        """Return what is kept, and a last piece behind it; keep nothing any more."""
        pieces, self._pieces = self._pieces, []
        self.size = 0
        return bytearray().join([*pieces, payload]) if pieces else payload

    @property
    def opcode(self) -> int:
        return self.header[0] & 0x0F

    @property
    def isFinal(self) -> bool:
        return self.header[0] >= FINAL


class NotTextError(FrameError):
    """What came of a message of text isn't UTF-8."""


class IncompleteBinary:
    """
    A message of bytes of which not all has come.

    @ivar size: bytes that are kept.
    """

    __slots__ = ("_limit", "_pieces", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[Any] = []
        self.size: int = 0

    def expect(self, length: int) -> None:
        """
        Called before a frame of so many bytes.

        @raise FrameError: the message is too large with it.
        """
        if self.size + length > self._limit:
            raise FrameError(TOO_LARGE, tooLarge(self._limit))

    def add(self, payload: bytes | bytearray) -> None:
        """
        Take a piece.

        @raise FrameError: it is no text.
        """
        # Empty ones don't count against the size of a message, but would take memory without end.
        if payload:
            self.size += len(payload)
            self._pieces.append(self._kept(payload))
            if len(self._pieces) > MANY_PIECES:
                self._pieces = [self._joined()]

    def _kept(self, payload: bytes | bytearray) -> str | bytes | bytearray:
        return payload

    def _joined(self) -> bytes:
        return b"".join(self._pieces)

    def end(self) -> str | bytes:
        """
        Return the message.

        @raise FrameError: it is no text.
        """
        return self._joined()


class IncompleteText(IncompleteBinary):
    """
    A message of text of which not all has come.

    It is decoded as it comes, as RFC 6455, 8.1 wants text that isn't UTF-8 to fail at once.
    """

    __slots__ = ("_decoder",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._decoder = _newDecoder()

    def _kept(self, payload: bytes | bytearray) -> str | bytes:
        try:
            text = self._decoder.decode(payload)
        except UnicodeDecodeError as error:
            # With what the decoder had kept, the first bytes of a character.
            begin = self.size - len(error.object)
            place = begin + (error.start if error.reason == "invalid start byte" else error.end)
            raise NotTextError(
                INVALID_PAYLOAD,
                f"encountered invalid UTF-8 while processing text message at payload octet index {place}",
            ) from None
        # One character that takes four bytes makes text four times as large.
        isWide = getsizeof(text) > _MUCH_LARGER * len(payload) + _SMALL_TEXT
        return text.encode() if isWide else text

    def _joined(self) -> bytes:
        return b"".join([each.encode() if isinstance(each, str) else each for each in self._pieces])

    def end(self) -> str:
        if self._decoder.getstate()[0]:
            raise FrameError(
                INVALID_PAYLOAD,
                f"UTF-8 text message payload ended within Unicode code point at payload octet index {self.size}",
            )
        return "".join([each if isinstance(each, str) else each.decode() for each in self._pieces])


class IncompleteCompressed:
    """
    A compressed message of which not all has come. It is kept as it came: it may inflate to a thousand times as much.

    @ivar size: bytes that are kept.
    """

    __slots__ = ("_hasBegun", "_inflated", "_inflater", "_limit", "_raw")

    def __init__(self, limit: int, inflater: Inflater, inflated: IncompleteBinary) -> None:
        self._limit = limit
        self._inflater = inflater
        self._inflated = inflated
        self._raw = IncompleteBinary(limit)
        self._hasBegun = False

    @property
    def size(self) -> int:
        return self._raw.size + self._inflated.size

    def expect(self, length: int) -> None:
        if self._raw.size and self.size + length > self._limit:
            # What is kept counts as it came. Inflated it may be less, and is what has to be within the limit.
            self._inflate()
        self._inflated.expect(self._raw.size + length)

    def add(self, payload: bytes | bytearray) -> None:
        self._raw.add(payload)

    def _inflate(self) -> None:
        if not self._hasBegun:
            self._hasBegun = True
            self._inflater.begin()
        raw, self._raw = self._raw, IncompleteBinary(self._limit)
        inflated = self._inflater.inflate(bytes(raw.end()), self._limit - self._inflated.size)  # type: ignore[arg-type]
        self._inflated.expect(len(inflated))
        self._inflated.add(inflated)

    def end(self) -> str | bytes:
        self._inflate()
        self._inflater.end()
        return self._inflated.end()
