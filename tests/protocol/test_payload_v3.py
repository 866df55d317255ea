"""Revision 3: packets and payloads, their bytes literally, and what a broken one delivers."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload import codecFor

from ..kit.packets import anyType, delivered, message

codec = codecFor(3)


decoded = partial(delivered, codec)

FRAMES = [
    (message("hello"), "4hello"),
    (message(""), "4"),
    (Packet(PacketType.PING), "2"),
    (Packet(PacketType.PING, "probe"), "2probe"),
    (message(b"\x01\x02\x03\x04"), b"\x04\x01\x02\x03\x04"),
    (message(b""), b"\x04"),
]


@pytest.mark.parametrize(("packet", "frame"), FRAMES)
def test_frames(packet: Packet, frame: str | bytes) -> None:
    """Bytes come behind the number of their packet, text behind its digit."""
    assert codec.encodePacket(packet) == frame
    assert codec.decodePacket(frame) == packet


@pytest.mark.parametrize(("data", "frame"), [(b"\x01\x02\x03\x04", "b4AQIDBA=="), (b"", "b4")])
def test_bytesAsText(data: bytes, frame: str) -> None:
    """For a client that can't take bytes they are base64 behind b4; such text is understood from any client."""
    assert codec.encodePacket(message(data), False) == frame
    assert codec.decodePacket(frame) == message(data)


@pytest.mark.parametrize("frame", [b"", b"4", b"\x02", b"\x00a", "", "b", "b2AQ==", "b4A", "b4AQ=", "b4####", "9", "x"])
def test_framesThatAreNoPacket(frame: str | bytes) -> None:
    """Each raises the one error, and says what was expected."""
    with pytest.raises(DecodeError, match="expected"):
        codec.decodePacket(frame)


TEXT = [
    ([message("hello")], "6:4hello"),
    ([message("hello"), message("€")], "6:4hello2:4€"),
    ([message("😀"), Packet(PacketType.PING)], "3:4😀1:2"),
    ([message(b"\x01\x02\x03\x04"), message("")], "10:b4AQIDBA==1:4"),
    ([message("4:4")], "4:44:4"),
    ([message("Ā:㨀㨺")], "5:4Ā:㨀㨺"),
]


@pytest.mark.parametrize(("packets", "payload"), TEXT)
def test_textPayloads(packets: list[Packet], payload: str) -> None:
    """Each packet has its length before it, in UTF-16 code units; bytes are base64."""
    assert codec.encodePayload(packets, False) == payload
    assert decoded(payload) == (packets, None)


BINARY = [
    ([message("€"), message(b"\x01\x02\x03\x04")], "0004ff34e282ac 0105ff0401020304"),
    ([message(b"")], "0101ff04"),
    ([message(b"x" * 9), Packet(PacketType.PING)], "010100ff04" + "78" * 9 + "0001ff32"),
]


@pytest.mark.parametrize(("packets", "payload"), BINARY)
def test_binaryPayloads(packets: list[Packet], payload: str) -> None:
    """As soon as one packet holds bytes: kind, length in bytes digit by digit, 255, packet."""
    assert codec.encodePayload(packets) == bytes.fromhex(payload)
    assert decoded(bytes.fromhex(payload)) == (packets, None)


def test_textStaysText() -> None:
    """A payload without bytes is text, also for a client that can take bytes."""
    assert codec.encodePayload([message("a"), Packet(PacketType.NOOP)]) == "2:4a1:6"


@pytest.mark.parametrize(
    ("payload", "before"),
    [
        ("", 0),
        (":", 0),
        ("4a", 0),
        ("2", 0),
        ("2:", 0),
        ("3:4a", 0),
        ("0:", 0),
        ("-2:4a", 0),
        ("+2:4a", 0),
        (" 2:4a", 0),
        ("2.0:4a", 0),
        ("0x2:4a", 0),
        ("٢:4a", 0),
        ("²:4a", 0),
        ("99999999999:4a", 0),
        ("9" * 100_000, 0),
        (":" * 100_000, 0),
        ("2:4a" * 3 + "1", 3),
        ("2:4a3:4b", 1),
        ("2:4a2:9b2:4c", 1),
        ("2:4😀", 0),
        ("2:4a2:4😀", 1),
        ("4:4😀", 0),
        ("2:4a:", 1),
    ],
)
def test_brokenTextDeliversWhatIsBeforeTheBreak(payload: str, before: int) -> None:
    """Decoding stops at the first packet that isn't one; those before it count."""
    delivered, error = decoded(payload)
    assert (delivered, error is None) == ([message("a")] * before, False)


def test_whatIsWrongIsSaid() -> None:
    """A length, what follows it, or what ends within it."""
    assert "expected a length" in str(decoded("x:4a")[1])
    assert decoded("5:4a😀")[1] == "a length of 5: 4 UTF-16 code units follow"
    assert decoded("2:4😀")[1] == "a length of 2: it ends in the middle of a surrogate pair"
    assert decoded(bytes.fromhex("0003ff3461"))[1] == "a length of 3: 2 bytes follow"


@pytest.mark.parametrize(
    ("payload", "before"),
    [
        ("", 0),
        ("00", 0),
        ("0002", 0),
        ("0002ff", 0),
        ("0002ff34", 0),
        ("00ff3461", 0),
        ("0202ff3461", 0),
        ("000aff3461", 0),
        ("0002fe3461", 0),
        ("0000ff", 0),
        ("0100ff", 0),
        ("0102ff0261", 0),
        ("0003ff34e282", 0),
        ("0002ff34ff", 0),
        ("00" + "09" * 11 + "ff3461", 0),
        ("00" + "09" * 10 + "ff3461", 0),
        ("0002ff3461" * 2 + "00", 2),
        ("0002ff3461" + "0102ff0361", 1),
        ("00" * 100_000, 0),
        ("ff" * 100_000, 0),
    ],
)
def test_brokenBytesDeliverWhatIsBeforeTheBreak(payload: str, before: int) -> None:
    """The same for payloads of bytes, cut in each part of their header."""
    delivered, error = decoded(bytes.fromhex(payload))
    assert (delivered, error is None) == ([message("a")] * before, False)


texts = st.text(st.characters(exclude_categories=["Cs"]))
packets = st.one_of(st.builds(Packet, anyType, texts), st.builds(message, st.binary()))


@given(st.lists(packets, min_size=1), st.booleans())
def test_whatIsEncodedDecodesToItself(payload: list[Packet], supportsBinary: bool) -> None:
    """Nothing is lost, changed or reordered on the way, in either format."""
    assert decoded(codec.encodePayload(payload, supportsBinary)) == (payload, None)


@given(st.one_of(texts, st.binary()))
def test_anythingDecodesOrRaisesTheOneError(payload: str | bytes) -> None:
    """No payload makes the decoder fail in another way."""
    decoded(payload)


nearlyText = st.lists(st.sampled_from(["2:4a", "3:4😀", ":", "1", "4", "😀", "0:", "-1:", "b4AQ==", "8:b4AQ=="])).map(
    "".join
)
nearlyBytes = st.lists(
    st.sampled_from([b"\x00\x02\xff4a", b"\x01\x02\xff\x04a", b"\x00", b"\xff", b"\x01\x09", b"4"])
).map(b"".join)


@given(st.one_of(nearlyText, nearlyBytes))
def test_nearlyRightPayloadsToo(payload: str | bytes) -> None:
    """Those that look right for a while neither."""
    decoded(payload)
