"""Packets of revision 4: the bytes, literally."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.packet import Packet, PacketType, decodeBase64, decodePacket, encodePacket, excerpt
from engineio_twisted.protocol.payload_v3 import CodecV3

from ..kit.packets import anyType, inLines

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
        "b=",
        "bAQIDBA=",
        "bAQIDBA===",
        "bAQ\n=",
        "bA\n",
        "bAQI+_",
        "b-Q/DBA==",
        "bAQ\rID",
        "bAQI\t",
        "bAQI\u2028",
        "bAQ%3D",
        "b'AQID'",
    ],
)
def test_whatIsNoPacketIsRefused(frame: str) -> None:
    """The error shows what came, and what was expected."""
    with pytest.raises(DecodeError, match="expected"):
        decodePacket(frame)


def otherWritings(data: bytes) -> list[str]:
    """Bytes as base64 in every way that a client has been seen to write them, besides the usual one."""
    usual = b64encode(data).decode()
    forURLs = urlsafe_b64encode(data).decode()
    bare, bareForURLs = usual.rstrip("="), forURLs.rstrip("=")
    lines = [inLines(each, end) for each in (usual, forURLs, bare, bareForURLs) for end in ("\n", "\r\n")]
    return [forURLs, bare, bareForURLs, *lines, *(each.rstrip("\r\n") for each in lines)]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 56, 57, 58, 114, 171, 1000])
def test_base64OfOtherClients(size: int) -> None:
    """Line breaks every 76 characters and at the end, no padding, the alphabet for URLs: the same bytes."""
    for data in (b"\xfb\xff\xbe" * size, bytes(size), b"\xff" * size):
        for written in otherWritings(data[:size]):
            assert decodePacket("b" + written) == Packet(PacketType.MESSAGE, data[:size])
            assert CodecV3().decodePacket("b4" + written) == Packet(PacketType.MESSAGE, data[:size])


@given(st.binary(max_size=300))
def test_everyWritingIsTheSame(data: bytes) -> None:
    """Whatever the bytes are."""
    assert {decodeBase64(each) for each in otherWritings(data)} == {data}


@given(st.text("ABab01+/-_=\n\r \x0b", max_size=40))
def test_onlyBase64IsDecoded(text: str) -> None:
    """What is decoded consists of one alphabet, line breaks, and all or none of the padding."""
    try:
        decoded = decodeBase64(text)
    except DecodeError:
        return
    joined = text.replace("\r\n", "").replace("\n", "")
    digits = joined.rstrip("=")
    assert not {"+", "/"} & set(digits) or not {"-", "_"} & set(digits)
    assert set(digits) <= set("ABab01+/-_")
    assert len(decoded) == len(digits) * 3 // 4
    assert len(joined) - len(digits) in (0, -len(decoded) % 3)


def test_errorsAreOfBoundedLength() -> None:
    """A client can't fill the log with one packet."""
    with pytest.raises(DecodeError) as caught:
        decodePacket("x" * 1_000_000)
    assert len(str(caught.value)) < 200
    assert excerpt("short") == "'short'"
    assert excerpt(b"x" * 33) == repr(b"x" * 32) + "…"


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
