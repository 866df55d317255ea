"""Payloads of revision 4: the bytes, literally, and what a broken one delivers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.packet import Packet, PacketType, decodeText
from engineio_twisted.protocol.payload import SEPARATOR, codecFor

from ..kit.packets import anyType, delivered, message

codec = codecFor(4)


def decoded(body: bytes, isBinary: bool = False) -> tuple[list[Packet], str | None]:
    """What a body delivers, and the error at which it ends."""
    try:
        payload = body if isBinary else decodeText(body)
    except DecodeError as error:
        return [], str(error)
    return delivered(codec, payload)


LITERAL = [
    ([message("hello"), Packet(PacketType.PING), message(b"\x01\x02\x03\x04")], b"4hello\x1e2\x1ebAQIDBA=="),
    ([message("€"), message("😀")], b"4\xe2\x82\xac\x1e4\xf0\x9f\x98\x80"),
    ([message("")], b"4"),
    ([message(b"")], b"b"),
    ([message(""), message("")], b"4\x1e4"),
]


@pytest.mark.parametrize(("packets", "body"), LITERAL)
def test_literally(packets: list[Packet], body: bytes) -> None:
    """Each payload is on the wire what the protocol says."""
    assert codec.encodePayload(packets) == body.decode()
    assert decoded(body) == (packets, None)


@pytest.mark.parametrize(
    ("body", "before"),
    [
        (b"", 0),
        (b"\x1e", 0),
        (b"4a\x1e", 1),
        (b"\x1e4a", 0),
        (b"4a\x1e\x1e4b", 1),
        (b"4a\x1e4b\x1e9c\x1e4d", 2),
        (b"4a\x1eb###", 1),
        (b"4a\x1e4\xff", 0),
        (b"4\xed\xa0\x80", 0),
    ],
)
def test_brokenPayloadsDeliverWhatIsBeforeTheBreak(body: bytes, before: int) -> None:
    """Decoding stops at the first packet that isn't one; those before it count."""
    delivered, error = decoded(body)
    assert len(delivered) == before
    assert error is not None
    assert "expected" in error


def test_manySeparators() -> None:
    """100 000 separators are refused at the first."""
    assert decoded(b"\x1e" * 100_000)[0] == []


def test_binaryPayloadsAreAnError() -> None:
    """Revision 4 has only text; a body said to be binary isn't read."""
    delivered, error = decoded(b"4a", isBinary=True)
    assert delivered == []
    assert "application/octet-stream" in str(error)


def test_unknownRevision() -> None:
    """There is a codec for each revision that is served, and for no other."""
    assert codec.revision == 4
    with pytest.raises(KeyError):
        codecFor(2)


# The separator in the text of a message ends the packet: the protocol has no way to write it.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=SEPARATOR))
packets = st.one_of(st.builds(Packet, anyType, texts), st.builds(message, st.binary()))


@given(st.lists(packets, min_size=1))
def test_whatIsEncodedDecodesToItself(payload: list[Packet]) -> None:
    """Nothing is lost, changed or reordered on the way."""
    assert decoded(str(codec.encodePayload(payload)).encode()) == (payload, None)


@given(st.binary(), st.booleans())
def test_anythingDecodesOrRaisesTheOneError(body: bytes, isBinary: bool) -> None:
    """No body makes the decoder fail in another way."""
    decoded(body, isBinary)


@given(st.lists(st.sampled_from(["4a", "b", "bAQ==", "2", "", "9", "bx", "4😀"])).map(SEPARATOR.join))
def test_nearlyRightPayloadsToo(body: str) -> None:
    """Those that look right for a while neither."""
    decoded(body.encode())
