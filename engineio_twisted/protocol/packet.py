"""
Packets, the only currency above a transport, and how one is written in revision 4.

docs/protocol.md, "Packets".
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from enum import IntEnum
from typing import Any

import attrs

from .errors import DecodeError


class PacketType(IntEnum):
    """The type of a packet; the value is its digit on the wire."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


@attrs.define
class Packet:
    """
    One packet, whatever the transport and the revision.

    @ivar type: what it is for.
    @ivar data: text or bytes; only a message may carry bytes. Without data it is the empty text.
    @ivar compress: whether the transport may compress it.
    """

    type: PacketType
    data: str | bytes = ""
    compress: bool = True


@attrs.define
class Form:
    """
    How a packet that goes to many is written for clients of one kind.

    @ivar payload: the message of WebSocket, bytes or text in UTF-8.
    @ivar isText: which of the two.
    @ivar made: what a WebSocket engine keeps that it has made of the payload.
    """

    payload: bytes
    isText: bool
    made: Any = None


@attrs.define
class SharedPacket(Packet):
    """
    A packet that goes to many sessions: what is made of it for one serves others too.

    @ivar forms: how it is written, by the kind of the client.
    """

    forms: dict[Any, Form] = attrs.field(factory=dict, eq=False, repr=False)


def describe(packet: Packet) -> str:
    """Return a description of a packet for a log: its type and its size, and nothing of its content."""
    unit = "bytes" if isinstance(packet.data, bytes) else "characters"
    return f"{packet.type.name.lower()}, {len(packet.data)} {unit}"


PROBE = "probe"
"""The data of the ping and the pong that try out a WebSocket before an upgrade."""

_MESSAGE = PacketType.MESSAGE
_TYPES = {str(int(each)): each for each in PacketType}
_DIGITS = {each: digit for digit, each in _TYPES.items()}


def excerpt(value: str | bytes) -> str:
    """Return the beginning of what a peer sent, fit for an error text of bounded length."""
    return repr(value[:32]) + ("…" if len(value) > 32 else "")


def decodeText(content: bytes) -> str:
    """
    Read text.

    @raise DecodeError: it isn't UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"text {excerpt(content)}: expected UTF-8 ({error.reason})") from None


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*+|[A-Za-z0-9_-]*+)={0,2}")


def decodeBase64(text: str) -> bytes:
    """
    Read bytes written as base64 (RFC 4648), with the ordinary alphabet or the one for URLs.

    Padding may be left out, and lines may be broken, as some clients do (docs/clients.md).

    @raise DecodeError: it is neither of the two.
    """
    # Python accepts some surplus padding.
    if len(text) % 4 == 0:
        try:
            return b64decode(text, validate=True)
        except ValueError:
            pass
    joined = text.replace("\r\n", "").replace("\n", "")
    if _BASE64.fullmatch(joined):
        digits = joined.rstrip("=").replace("-", "+").replace("_", "/")
        padding = -len(digits) % 4
        if padding < 3 and len(joined) - len(digits) in (0, padding):
            return b64decode(digits + "=" * padding)
    raise DecodeError(f"bytes {excerpt(text)}: expected base64")


def encodePacket(packet: Packet, supportsBinary: bool = True) -> str | bytes:
    """
    Write a packet as one WebSocket frame, or one element of a payload.

    @param supportsBinary: False writes bytes as base64 in text.
    @return: text for a text frame, bytes for a binary frame.
    """
    data = packet.data
    if isinstance(data, bytes):
        return data if supportsBinary else "b" + b64encode(data).decode("ascii")
    # Asking for the digit of the most common type would take longer than all else.
    return ("4" if packet.type is _MESSAGE else _DIGITS[packet.type]) + data


def decodePacket(frame: str | bytes) -> Packet:
    """
    Read a packet from one WebSocket frame, or one element of a payload.

    @raise DecodeError: it is empty, starts with no packet type, or its base64 isn't base64.
    """
    if isinstance(frame, bytes):
        return Packet(_MESSAGE, frame)
    first = frame[:1]
    type_ = _TYPES.get(first)
    if type_ is not None:
        return Packet(type_, frame[1:])
    if first == "b":
        return Packet(PacketType.MESSAGE, decodeBase64(frame[1:]))
    if not frame:
        raise DecodeError("an empty packet: expected a packet type, 0 to 6, or b")
    raise DecodeError(f"packet {excerpt(frame)}: expected it to start with a packet type, 0 to 6, or b")
