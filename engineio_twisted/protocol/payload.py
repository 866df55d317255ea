"""
Payloads: the body of a poll's answer or of a POST, holding one packet or more.

A transport asks for the codec of its client's revision by L{codecFor} and knows no other difference between
revisions. docs/protocol.md, "Payloads".
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

from . import packet as packets
from .errors import DecodeError
from .packet import Packet
from .payload_v3 import CodecV3

SEPARATOR = "\x1e"


class Codec(Protocol):
    """How one revision of the protocol writes packets and payloads."""

    revision: int

    def encodePacket(self, packet: Packet, supportsBinary: bool = True) -> str | bytes:
        """Write a packet as one WebSocket frame: text or bytes."""
        ...

    def decodePacket(self, frame: str | bytes) -> Packet:
        """
        Read a packet from one WebSocket frame.

        @raise DecodeError: it isn't one.
        """
        ...

    def encodePayload(self, payload: Sequence[Packet], supportsBinary: bool = True) -> str | bytes:
        """
        Write packets, at least one, as a payload: text or bytes.

        @param supportsBinary: False writes bytes as base64 in text.
        """
        ...

    def holdsMore(self, payload: str | bytes, count: int) -> Generator[None, None, bool]:
        """Return whether a payload holds more packets than that, without reading them, in as many steps as it takes."""
        ...

    def onlyMessage(self, payload: str | bytes) -> str | None:
        """Return the text of a payload that is one message of text, if that is easily seen; else None."""
        ...

    def messagePayload(self, data: str | bytes) -> str | None:
        """Write one message of text as a payload, if that is as easy; else return None."""
        ...

    def decodePayload(self, payload: str | bytes) -> Iterator[Packet]:
        """
        Read a payload, one packet after the other, so that those before a broken one are delivered.

        @param payload: bytes if it came as C{application/octet-stream}, else text.
        @raise DecodeError: on reaching something that isn't a packet.
        """
        ...


class CodecV4:
    """Revision 4: packets of text, joined by one separator byte."""

    revision = 4
    encodePacket = staticmethod(packets.encodePacket)
    decodePacket = staticmethod(packets.decodePacket)

    def encodePayload(self, payload: Sequence[Packet], supportsBinary: bool = True) -> str | bytes:
        if len(payload) == 1:
            return packets.encodePacket(payload[0], False)
        # Without binary every packet is text, which the type of encodePacket can't say.
        return SEPARATOR.join(str(packets.encodePacket(each, False)) for each in payload)

    def holdsMore(self, payload: str | bytes, count: int) -> Generator[None, None, bool]:
        yield
        return isinstance(payload, str) and payload.count(SEPARATOR) >= count

    def onlyMessage(self, payload: str | bytes) -> str | None:
        isOne = isinstance(payload, str) and payload[:1] == "4" and SEPARATOR not in payload
        return payload[1:] if isOne else None  # type: ignore[return-value]

    def messagePayload(self, data: str | bytes) -> str | None:
        return "4" + data if isinstance(data, str) else None

    def decodePayload(self, payload: str | bytes) -> Iterator[Packet]:
        if isinstance(payload, bytes):
            raise DecodeError(
                "content type application/octet-stream: expected text, as revision 4 has no other payload"
            )
        return _packetsOf(payload)


def _packetsOf(payload: str) -> Iterator[Packet]:
    # Not split at once: there may be half a million.
    start = 0
    while (end := payload.find(SEPARATOR, start)) >= 0:
        yield packets.decodePacket(payload[start:end])
        start = end + 1
    yield packets.decodePacket(payload[start:])


_CODECS: dict[int, Codec] = {each.revision: each for each in (CodecV3(), CodecV4())}


def codecFor(revision: int) -> Codec:
    """
    Return the codec of a revision of the protocol.

    @raise KeyError: the revision isn't supported.
    """
    return _CODECS[revision]
