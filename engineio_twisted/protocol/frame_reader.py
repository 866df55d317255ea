"""
Reads the frames of WebSocket (RFC 6455, sections 5 to 8) that one end of a connection sends.

L{FrameReader} knows no connection and no time: it is given bytes, and returns what they say, one frame a call, so that
its caller can stop between two frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, ClassVar

from .frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FINAL,
    INVALID_PAYLOAD,
    LEAST,
    LENGTHS,
    MASK_SIZE,
    MASKED,
    MAX_CONTROL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    SHORT,
    TEXT,
    TOO_LARGE,
    WHOLE_BINARY,
    WHOLE_TEXT,
    Close,
    Event,
    FrameError,
    Inflater,
    Ping,
    Pong,
    Violation,
    tooLarge,
    unmask,
)
from .incomplete import BEGINNING, IncompleteBinary, IncompleteCompressed, IncompleteFrame, IncompleteText, NotTextError

INTEGER_UNMASKED = 100
"""Maximum bytes that are unmasked as one integer, which takes 0.3 µs for 32. Above, native code takes less."""

_REPEATED = [int.from_bytes(b"\0\0\0\1" * -(-length // MASK_SIZE)) for length in range(INTEGER_UNMASKED + 1)]
"""What a mask is multiplied with to cover a payload, by the length of that."""

_SURPLUS = [8 * (-length % MASK_SIZE) for length in range(INTEGER_UNMASKED + 1)]
"""Bits by which it is longer than the payload then."""

_integer = int.from_bytes

_WHOLE = (WHOLE_TEXT, WHOLE_BINARY, FINAL | PING, FINAL | PONG, FINAL | CLOSE)
"""The first byte of frames that are a whole message, or a control frame."""

_MESSAGES = (WHOLE_TEXT, WHOLE_BINARY)

_SMALLEST = BEGINNING + MASK_SIZE
"""Bytes of a frame that is masked and empty."""

_LARGEST_HEADER = 14
"""Bytes of the largest header of a frame (RFC 6455, 5.2)."""

_CODES_IN_USE = frozenset({*range(1000, 1004), *range(1007, 1014), *range(3000, 5000)})
"""Codes of close frames that a peer may send (RFC 6455, 7.4)."""

_EXTENSION = "permessage-deflate"


class FrameReader:
    """
    Reads the frames of one end of a connection, from the first byte to the close frame.

    A message is bounded by its declared size before anything of it is stored. Text is decoded as it comes, and fails at
    the first byte that can't be UTF-8. After a L{Violation}, or L{close}, it keeps nothing, and reads on only to find
    the peer's close frame, or something else that is wrong.

    @param limit: maximum bytes of a message; of a compressed one, of what it inflates to.
    @param inflater: inflates compressed messages; None if they weren't agreed on.
    @cvar isServer: whether it reads what a client sends, which is masked. L{ClientFrameReader} reads what a server
        sends.
    @ivar limit: as given.
    @ivar isOver: whether nothing more is read: the peer's close frame has come, right or wrong; or, after a violation
        or L{close}, something that is wrong, or the rest of text that isn't UTF-8.
    """

    __slots__ = (
        *("_frame", "_inflater", "_isClosing", "_isIdle", "_isInside", "_isNoText", "_message", "isOver", "limit"),
    )

    isServer: ClassVar[bool] = True

    def __init__(self, limit: int, inflater: Inflater | None = None) -> None:
        self.limit = limit
        self.isOver: bool = False
        self._inflater = inflater
        # Whether the next byte is the first of a message or a control frame, and wanted.
        self._isIdle = True
        # Whether the next frame of a message is to be a continuation.
        self._isInside = False
        # Whether what came of a message can't be text.
        self._isNoText = False
        # Whether only the close frame is wanted.
        self._isClosing = False
        self._frame: IncompleteFrame | None = None
        self._message: IncompleteBinary | IncompleteCompressed | None = None

    @staticmethod
    def unmaskLong(mask: bytes, payload: bytes | bytearray) -> bytes | bytearray:
        """Unmask as L{unmask} does; a C{bytearray} may be changed in place."""
        return unmask(mask, payload)

    @property
    def held(self) -> int:
        """How many bytes there are of what isn't complete."""
        held = 0 if self._message is None else self._message.size
        incomplete = self._frame
        if incomplete is not None:
            held += (
                len(incomplete.control)
                + incomplete.size
                + (0 if incomplete.left is not None else len(incomplete.header))
            )
        return held

    @property
    def arriving(self) -> object:
        """What changes with each byte of what isn't complete; None if there is nothing."""
        incomplete = self._frame
        if incomplete is None:
            return None if self._message is None else self._message.size
        return len(incomplete.header), incomplete.left, 0 if self._message is None else self._message.size

    def close(self) -> None:
        """Called when the peer was sent a close frame: all that is wanted of it now is its own."""
        self._isClosing = True
        self._isIdle = False
        self._message = None
        if self._frame is not None:
            self._frame.taken(b"")

    def read(self, data: bytes, position: int) -> tuple[int, Event | None]:
        """
        Read one frame, or what there is of it.

        @param data: what came, of which there is something at the position.
        @param position: of the first byte that wasn't read.
        @return: the position behind what was read, and what the frame says; None if that isn't known yet, or nothing
            of interest.
        """
        if self._isIdle:
            start = position + _SMALLEST
            available = len(data)
            if start <= available:
                length = data[position + 1] - MASKED
                if length > SHORT:
                    size = LENGTHS[length]
                    least = LEAST[length]
                    start += size
                    length = int.from_bytes(data[start - size - MASK_SIZE : start - MASK_SIZE])
                    if length < least:
                        # What is wrong with it is found out below.
                        length = -1
                end = start + length
                # Nearly always it is a message, and has come whole.
                if 0 <= length <= self.limit and end <= available:
                    first = data[position]
                    if first in _WHOLE:
                        if length > INTEGER_UNMASKED:
                            payload = self.unmaskLong(data[start - MASK_SIZE : start], data[start:end])
                        else:
                            # As unmask does, in two thirds of the time.
                            mask = _integer(data[start - MASK_SIZE : start]) * _REPEATED[length] >> _SURPLUS[length]
                            payload = (_integer(data[start:end]) ^ mask).to_bytes(length)
                        if first == WHOLE_TEXT:
                            try:
                                return end, payload.decode()
                            except UnicodeDecodeError:
                                # Where it is wrong is found out below.
                                pass
                        elif first == WHOLE_BINARY:
                            return end, bytes(payload)
                        elif length <= MAX_CONTROL and (length != 1 or first != FINAL | CLOSE):
                            return end, self._said(first & 0x0F, bytes(payload))
                elif 0 <= length <= self.limit and start <= available and data[position] in _MESSAGES:
                    # The beginning of a message that is right so far.
                    self._begin(data[position:start], length)
                    position = start
        return self._readOn(data, position)

    def _begin(self, header: bytes, length: int) -> None:
        """Take the header of a frame that is a whole message, and of which not all has come."""
        incomplete = self._frame = IncompleteFrame()
        incomplete.header = header
        if self.isServer:
            incomplete.mask = header[-MASK_SIZE:]
        incomplete.left = length
        self._isIdle = False
        self._isInside = True
        self._message = (IncompleteText if header[0] == WHOLE_TEXT else IncompleteBinary)(self.limit)

    def _readOn(self, data: bytes, position: int) -> tuple[int, Event | None]:
        """Read any frame, or what there is of it."""
        if self.isOver:
            return len(data), None
        incomplete = self._frame
        if incomplete is None:
            self._isIdle = False
            incomplete = self._frame = IncompleteFrame()
        violation = None
        if incomplete.left is None:
            position, violation = self._readHeader(incomplete, data, position)
            if incomplete.left is None:
                return position, violation
        available = len(data) - position
        if 0 < available < incomplete.left and self._isGathered(incomplete):
            # Without a copy if little else is in what came.
            incomplete.keep(memoryview(data)[position:] if position <= _LARGEST_HEADER else data[position:])
            incomplete.left -= available
            return len(data), violation
        payload = data[position : position + incomplete.left]
        position += len(payload)
        incomplete.left -= len(payload)
        if not incomplete.left:
            self._frame = None
        elif not payload:
            return position, violation
        if self._isClosing:
            if not incomplete.left:
                self._skipped(incomplete)
            return position, violation
        try:
            return position, self._take(incomplete, self._unmasked(incomplete, incomplete.taken(payload)))
        except FrameError as error:
            self._isNoText = isinstance(error, NotTextError)
            violation = self._violate(error.code, error.reason)
            if not incomplete.left:
                self._skipped(incomplete)
            return position, violation

    def _isGathered(self, incomplete: IncompleteFrame) -> bool:
        """Return whether the payload of a frame is kept as it comes; text is looked at as it comes."""
        return not self._isClosing and incomplete.opcode < CLOSE and type(self._message) is not IncompleteText

    def _readHeader(self, incomplete: IncompleteFrame, data: bytes, position: int) -> tuple[int, Violation | None]:
        violation = None
        while (missing := incomplete.headerSize - len(incomplete.header)) > 0:
            piece = data[position : position + missing]
            if not piece:
                return position, violation
            incomplete.header += piece
            position += len(piece)
            if len(incomplete.header) == BEGINNING:
                for reason in [*self._faults(incomplete)]:
                    violation = self._violate(PROTOCOL_ERROR, reason) or violation
        try:
            self._open(incomplete)
        except FrameError as error:
            violation = self._violate(error.code, error.reason) or violation
        return position, violation

    def _faults(self, incomplete: IncompleteFrame) -> Iterator[str]:
        """Take the first two bytes of a frame; return what is wrong with them."""
        first, second = incomplete.header
        isMasked = second >= MASKED
        length = second & ~MASKED
        incomplete.headerSize += LENGTHS.get(length, 0) + (MASK_SIZE if isMasked else 0)
        opcode = incomplete.opcode
        reserved = first >> 4 & 7
        isCompressed = first & 0x70 == COMPRESSED and self._inflater is not None
        if reserved and not isCompressed:
            yield f"RSV = {reserved} and no extension negotiated"
        if self.isServer and not isMasked:
            yield "unmasked client-to-server frame"
        if isMasked and not self.isServer:
            yield "masked server-to-client frame"
        if opcode >= CLOSE:
            if not incomplete.isFinal:
                yield "fragmented control frame"
            if length > MAX_CONTROL:
                yield "control frame with payload length > 125 octets"
            if opcode > PONG:
                yield f"control frame using reserved opcode {opcode}"
            if opcode == CLOSE and length == 1:
                yield "received close control frame with payload len 1"
            if isCompressed:
                yield f"received compressed control frame [{_EXTENSION}]"
            return
        if opcode > BINARY:
            yield f"data frame using reserved opcode {opcode}"
        if opcode == CONTINUATION and not self._isInside:
            yield "received continuation data frame outside fragmented message"
        if opcode != CONTINUATION and self._isInside:
            yield "received non-continuation data frame while inside fragmented message"
        if isCompressed and self._isInside:
            yield f"received continuation data frame with compress bit set [{_EXTENSION}]"

    def _open(self, incomplete: IncompleteFrame) -> None:
        """
        Take a complete header.

        @raise FrameError: it is wrong, or its message too large.
        """
        header = incomplete.header
        short = header[1] & ~MASKED
        length = short if short <= SHORT else int.from_bytes(header[BEGINNING : BEGINNING + LENGTHS[short]])
        incomplete.left = length
        if header[1] >= MASKED:
            incomplete.mask = header[-MASK_SIZE:]
        isMessage = incomplete.opcode < CLOSE
        self._isInside = self._isInside or isMessage
        if length >= 2**63:
            raise FrameError(PROTOCOL_ERROR, "invalid data frame length (>2^63)")
        if short > SHORT and length < LEAST[short]:
            raise FrameError(PROTOCOL_ERROR, "invalid data frame length (not using minimal length encoding)")
        if isMessage and not self._isClosing:
            if self._message is None:
                message = (IncompleteText if incomplete.opcode == TEXT else IncompleteBinary)(self.limit)
                inflater = self._inflater if header[0] & COMPRESSED else None
                self._message = message if inflater is None else IncompleteCompressed(self.limit, inflater, message)
            self._message.expect(length)

    def _skipped(self, incomplete: IncompleteFrame) -> None:
        """Take the end of a frame that isn't wanted."""
        if incomplete.opcode >= CLOSE:
            self.isOver = self.isOver or incomplete.opcode == CLOSE
        elif incomplete.isFinal:
            self._isInside = False
            self.isOver = self.isOver or self._isNoText

    def _unmasked(self, incomplete: IncompleteFrame, payload: bytes | bytearray) -> bytes | bytearray:
        mask = incomplete.mask
        if not mask or not payload:
            return payload
        turned = len(payload) % MASK_SIZE
        incomplete.mask = mask[turned:] + mask[:turned]
        return self.unmaskLong(mask, payload) if len(payload) > INTEGER_UNMASKED else unmask(mask, payload)

    def _take(self, incomplete: IncompleteFrame, payload: bytes | bytearray) -> Event | None:
        """Take a piece of a payload; return what its frame says, if that is known."""
        opcode = incomplete.opcode
        if opcode >= CLOSE:
            incomplete.control += payload
            if incomplete.left:
                return None
            self._isIdle = self._message is None
            return self._said(opcode, incomplete.control)
        message: Any = self._message
        message.add(payload)
        if incomplete.left or not incomplete.isFinal:
            return None
        self._message = None
        self._isInside = False
        self._isIdle = True
        event: str | bytes = message.end()
        return event

    def _said(self, opcode: int, payload: bytes) -> Event | None:
        """Return what a control frame says."""
        if opcode != CLOSE:
            return Ping(payload) if opcode == PING else Pong(payload)
        self.isOver = True
        code = int.from_bytes(payload[:2]) if payload else None
        if code is not None and code not in _CODES_IN_USE:
            return self._violate(PROTOCOL_ERROR, f"invalid close code {code}")
        try:
            reason = payload[2:].decode()
        except UnicodeDecodeError:
            return self._violate(INVALID_PAYLOAD, "invalid close reason (non-UTF8 payload)")
        self.close()
        return Close(code, reason)

    def _violate(self, code: int, reason: str) -> Violation | None:
        """Return what is wrong, the first time."""
        if self._isClosing:
            self.isOver = True
            return None
        self.close()
        return Violation(code, tooLarge(self.limit) if code == TOO_LARGE else reason)


class ClientFrameReader(FrameReader):
    """Reads the frames of a server, which are not masked (RFC 6455, 5.1)."""

    __slots__ = ()
    isServer = False

    def read(self, data: bytes, position: int) -> tuple[int, Event | None]:
        if self._isIdle:
            start = position + BEGINNING
            available = len(data)
            if start <= available:
                length = data[position + 1]
                if length > SHORT:
                    # What is wrong with one that is masked, or written too long, is found out below.
                    least = LEAST.get(length, inf)
                    start += LENGTHS.get(length, 0)
                    length = _integer(data[position + BEGINNING : start])
                    if length < least:
                        length = -1
                end = start + length
                if 0 <= length <= self.limit and start <= available:
                    first = data[position]
                    # As for a client's frames, without a mask.
                    if end > available:
                        if first in _MESSAGES:
                            self._begin(data[position:start], length)
                            position = start
                    elif first == WHOLE_TEXT:
                        try:
                            return end, data[start:end].decode()
                        except UnicodeDecodeError:
                            # Where it is wrong is found out below.
                            pass
                    elif first == WHOLE_BINARY:
                        return end, data[start:end]
                    elif first in _WHOLE and length <= MAX_CONTROL and (length != 1 or first != FINAL | CLOSE):
                        return end, self._said(first & 0x0F, data[start:end])
        return self._readOn(data, position)
