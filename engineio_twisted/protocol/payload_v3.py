"""
Packets and payloads of revision 3, which clients before `engine.io-client` 4 speak.

Lengths of text are in UTF-16 code units, as JavaScript counts, so that text is cut in UTF-16. Each step of a
decoder consumes at least one byte of a body whose size is bounded. docs/protocol.md, "Revision 3".
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Iterable, Iterator

from . import packet as packets
from .errors import DecodeError
from .packet import Packet, PacketType, excerpt

LENGTH_DIGITS = 10
"""So many digits a length may have: more than the size of any body."""

_COUNTED_AT_ONCE = 256
"""Packets that are counted between two looks at the time, in less than a millisecond."""

_TEXT, _BINARY, _END_OF_LENGTH = 0, 1, 255
_MESSAGE = bytes([PacketType.MESSAGE])


def _utf16Length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


class CodecV3:
    """Revision 3: packets with their lengths before them, as text, or as bytes if one of them holds bytes."""

    revision = 3

    def onlyMessage(self, payload: str | bytes) -> str | None:
        return None

    def messagePayload(self, data: str | bytes) -> str | None:
        return None

    def encodePacket(self, packet: Packet, supportsBinary: bool = True) -> str | bytes:
        if isinstance(packet.data, str):
            return packets.encodePacket(packet)
        if supportsBinary:
            return _MESSAGE + packet.data
        return "b4" + b64encode(packet.data).decode("ascii")

    def decodePacket(self, frame: str | bytes) -> Packet:
        if isinstance(frame, bytes):
            # Only a message may hold bytes.
            if frame[:1] != _MESSAGE:
                raise DecodeError(f"packet {excerpt(frame)}: expected the byte 4 first, for a message")
            return Packet(PacketType.MESSAGE, frame[1:])
        if frame[:1] == "b":
            if frame[1:2] != "4":
                raise DecodeError(f"packet {excerpt(frame)}: expected b4 first, for a message")
            return Packet(PacketType.MESSAGE, packets.decodeBase64(frame[2:]))
        return packets.decodePacket(frame)

    def encodePayload(self, payload: Iterable[Packet], supportsBinary: bool = True) -> str | bytes:
        frames = [self.encodePacket(each, supportsBinary) for each in payload]
        if any(isinstance(each, bytes) for each in frames):
            return b"".join(_withHeader(each) for each in frames)
        texts = [str(each) for each in frames]
        return "".join(f"{_utf16Length(each)}:{each}" for each in texts)

    def holdsMore(self, payload: str | bytes, count: int) -> Generator[None, None, bool]:
        try:
            for before, _ in enumerate(_framesOf(payload)):
                if before >= count:
                    return True
                if not before % _COUNTED_AT_ONCE:
                    yield
        except DecodeError:
            # On the way, before there were as many.
            pass
        return False

    def decodePayload(self, payload: str | bytes) -> Iterator[Packet]:
        if not payload:
            raise DecodeError("an empty payload: expected a length")
        for frame in _framesOf(payload):
            yield self.decodePacket(frame)


def _framesOf(payload: str | bytes) -> Iterator[str | bytes]:
    return _framesOfBinary(payload) if isinstance(payload, bytes) else _framesOfText(payload)


def _withHeader(frame: str | bytes) -> bytes:
    kind = _TEXT if isinstance(frame, str) else _BINARY
    content = frame.encode() if isinstance(frame, str) else frame
    return bytes([kind, *(int(digit) for digit in str(len(content))), _END_OF_LENGTH]) + content


def _framesOfText(payload: str) -> Iterator[str]:
    # A lone surrogate cannot come out of UTF-8. Of text in ASCII a unit is a byte, which is faster by half.
    encoding, width = ("ascii", 1) if payload.isascii() else ("utf-16-le", 2)
    units = payload.encode(encoding)
    colonUnit = ":".encode(encoding)
    longest = width * (LENGTH_DIGITS + 1)
    start = 0
    while start < len(units):
        colon = units.find(colonUnit, start, start + longest)
        # Found between two units it is half of one character and half of the next.
        while colon > 0 and (colon - start) % width:
            colon = units.find(colonUnit, colon + 1, start + longest)
        digits = units[start : max(colon, start)].decode(encoding, "replace")
        if not (digits.isascii() and digits.isdigit()):
            here = units[start : start + 64].decode(encoding, "replace")
            raise DecodeError(f"payload at {excerpt(here)}: expected a length in digits, and a colon")
        start = colon + width
        end = start + width * int(digits)
        if end > len(units):
            raise DecodeError(f"a length of {digits}: {(len(units) - start) // width} UTF-16 code units follow")
        try:
            yield units[start:end].decode(encoding)
        except UnicodeDecodeError:
            raise DecodeError(f"a length of {digits}: it ends in the middle of a surrogate pair") from None
        start = end


def _framesOfBinary(payload: bytes) -> Iterator[str | bytes]:
    start = 0
    while start < len(payload):
        kind = payload[start]
        end = payload.find(_END_OF_LENGTH, start + 1, start + LENGTH_DIGITS + 2)
        digits = payload[start + 1 : max(end, start)]
        if kind not in (_TEXT, _BINARY) or not digits or max(digits) > 9:
            raise DecodeError(
                f"payload at {excerpt(payload[start : start + 64])}: expected the byte 0 or 1, the length in bytes of"
                " value 0 to 9, and the byte 255"
            )
        start = end + 1
        length = int("".join(map(str, digits)))
        frame = payload[start : start + length]
        if len(frame) < length:
            raise DecodeError(f"a length of {length}: {len(frame)} bytes follow")
        if kind == _BINARY:
            yield frame
        else:
            yield packets.decodeText(frame)
        start += length
