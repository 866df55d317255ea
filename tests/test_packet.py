"""Packets of revision 4: the bytes, literally."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.errors import DecodeError
from engineio_twisted.packet import Packet, PacketType, decodePacket, encodePacket, excerpt

LITERAL = [
    (Packet(PacketType.OPEN, "{}"), "0{}"),
    (Packet(PacketType.CLOSE), "1"),
    (Packet(PacketType.PING), "2"),
    (Packet(PacketType.PING, "probe"), "2probe"),
    (Packet(PacketType.PONG, "probe"), "3probe"),
    (Packet(PacketType.MESSAGE, "hello"), "4hello"),
    (Packet(PacketType.MESSAGE, ""), "4"),
    (Packet(PacketType.MESSAGE, "€😀"), "4€😀"),
    (Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04"), b"\x01\x02\x03\x04"),
    (Packet(PacketType.MESSAGE, b""), b""),
    (Packet(PacketType.UPGRADE), "5"),
    (Packet(PacketType.NOOP), "6"),
]


@pytest.mark.parametrize(("packet", "frame"), LITERAL)
def test_literally(packet: Packet, frame: str | bytes) -> None:
    """Each packet is on the wire what the protocol says."""
    assert encodePacket(packet) == frame
    assert decodePacket(frame) == packet


@pytest.mark.parametrize(("data", "frame"), [(b"\x01\x02\x03\x04", "bAQIDBA=="), (b"", "b"), (b"\xff", "b/w==")])
def test_binaryAsText(data: bytes, frame: str) -> None:
    """Where there is no binary, bytes go as base64."""
    assert encodePacket(Packet(PacketType.MESSAGE, data), supportsBinary=False) == frame
    assert decodePacket(frame) == Packet(PacketType.MESSAGE, data)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "7",
        "x",
        " 4",
        "-1",
        "４",
        "\x1e",
        "bA",
        "bAQ=",
        "bAQID=",
        "b AQID",
        "bAQ==ID",
        "b€",
        "b====",
        "bAQI-",
        "bAQI\n",
    ],
)
def test_whatIsNoPacketIsRefused(frame: str) -> None:
    """The error shows what came, and what was expected."""
    with pytest.raises(DecodeError, match="expected"):
        decodePacket(frame)


def test_errorsAreOfBoundedLength() -> None:
    """A client can't fill the log with one packet."""
    with pytest.raises(DecodeError) as caught:
        decodePacket("x" * 1_000_000)
    assert len(str(caught.value)) < 200
    assert excerpt("short") == "'short'"
    assert excerpt(b"x" * 33) == repr(b"x" * 32) + "…"


anyType = st.sampled_from(PacketType)
packets = st.one_of(
    st.builds(Packet, anyType, st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(Packet, st.just(PacketType.MESSAGE), st.binary()),
)


@given(packets, st.booleans())
def test_whatIsEncodedDecodesToItself(packet: Packet, supportsBinary: bool) -> None:
    """Nothing is lost or changed on the way."""
    assert decodePacket(encodePacket(packet, supportsBinary)) == packet


@given(st.one_of(st.text(), st.binary()))
def test_anythingDecodesOrRaisesTheOneError(frame: str | bytes) -> None:
    """No frame makes the decoder fail in another way."""
    try:
        decodePacket(frame)
    except DecodeError:
        pass
