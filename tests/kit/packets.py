"""Packets for tests that any packet will do for."""

from __future__ import annotations

from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload import Codec


def message(data: str | bytes) -> Packet:
    return Packet(PacketType.MESSAGE, data)


def delivered(codec: Codec, payload: str | bytes) -> tuple[list[Packet], str | None]:
    """What a payload delivers, and the error at which it ends."""
    packets = []
    try:
        for packet in codec.decodePayload(payload):
            packets.append(packet)
    except DecodeError as error:
        return packets, str(error)
    return packets, None


def inLines(text: str, end: str = "\n") -> str:
    """Break text into lines, with a break at the end too, as Android's encoder does."""
    return "".join(text[start : start + 76] + end for start in range(0, len(text), 76))


anyType = st.sampled_from(PacketType)
