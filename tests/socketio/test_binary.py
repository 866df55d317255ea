"""Packets with attachments: bytes out of the data and back into it, and what is refused."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.socketio.errors import InvalidPacket, UnsendableValue
from engineio_twisted.socketio.packet import IncompletePacket, JSONParser, Packet, PacketType

from ..kit.socketio_values import BINARY_VALUES, INPUTS, NAMES, nested, packetOrNone

EVENT, ACK = PacketType.EVENT, PacketType.ACK

PARSER = JSONParser()


def hole(number: Any) -> str:
    return f'{{"_placeholder":true,"num":{number}}}'


def decodeAll(messages: str | bytes | list[str | bytes], parser: JSONParser = PARSER) -> Packet:
    """Return the packet of messages, of which the last completes it."""
    first, *others = messages if isinstance(messages, list) else [messages]
    packet = parser.decode(first)
    for index, each in enumerate(others):
        assert isinstance(packet, IncompletePacket)
        assert (packet.expected, packet.received) == (len(others), index)
        added = packet.add(each)
        if index < len(others) - 1:
            assert added is None
        else:
            assert added is not None
            return added
    assert isinstance(packet, Packet)
    return packet


LITERAL = [
    (Packet(EVENT, data=["file", b"\1\2"]), [f'51-["file",{hole(0)}]', b"\1\2"]),
    (Packet(EVENT, "/admin", 12, ["file", b""]), [f'51-/admin,12["file",{hole(0)}]', b""]),
    (Packet(ACK, id=12, data=[b"a"]), [f"61-12[{hole(0)}]", b"a"]),
    (Packet(ACK, "/admin", 0, [b"a"]), [f"61-/admin,0[{hole(0)}]", b"a"]),
    (
        Packet(EVENT, data=["f", {"x": [b"a", 1], "y": b"b"}, b"c"]),
        [f'53-["f",{{"x":[{hole(0)},1],"y":{hole(1)}}},{hole(2)}]', b"a", b"b", b"c"],
    ),
    (Packet(EVENT, data=["é{}", b"a"]), [f'51-["é{{}}",{hole(0)}]', b"a"]),
]


@pytest.mark.parametrize(("packet", "messages"), LITERAL)
def test_literally(packet: Packet, messages: list[str | bytes]) -> None:
    """Attachments follow the text, numbered in the order of the walk, and come back as bytes in their places."""
    assert PARSER.encode(*packet) == messages
    assert decodeAll(messages) == packet


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"ab"),
        memoryview(b"ab"),
        memoryview(b"a-b-")[::2],
        array("B", b"ab"),
        array("H", [int.from_bytes(b"ab", "little")]),
        memoryview(array("H", [int.from_bytes(b"ab", "little")])),
    ],
)
@pytest.mark.parametrize("beside", [1, float("nan")])
def test_bytesLike(value: Any, beside: float) -> None:
    """Whatever is like bytes is sent as a copy of them, whether the rest is ordinary or not."""
    messages = PARSER.encode(EVENT, "/", None, ["a", value, beside])
    assert isinstance(messages, list)
    assert messages[1:] == [b"ab"]
    assert type(messages[1]) is bytes


def test_copied() -> None:
    """What is changed after it was sent is sent as it was."""
    data = bytearray(b"before")
    messages = PARSER.encode(EVENT, "/", None, ["a", data])
    data[:] = b"behind"
    assert messages[1] == b"before"


def test_sameTwice() -> None:
    """An object that stands at two places goes twice."""
    data = b"same"
    assert PARSER.encode(EVENT, "/", None, ["a", data, data]) == [f'52-["a",{hole(0)},{hole(1)}]', data, data]


def test_onePlacedTwice() -> None:
    """A client may place one attachment twice, in any order, and one nowhere."""
    messages: list[str | bytes] = [f'53-["a",{hole(2)},{{"b":{hole(0)}}},{hole(2)}]', b"0", b"1", b"2"]
    assert decodeAll(messages) == Packet(EVENT, data=["a", b"2", {"b": b"0"}, b"2"])
    assert decodeAll(['51-["a"]', b"0"]) == Packet(EVENT, data=["a"])


@pytest.mark.parametrize(
    "value",
    [
        {"_placeholder": False, "num": 0},
        {"_placeholder": 1, "num": 0},
        {"_placeholder": "true", "num": 0},
        {"num": 0},
        {"_placeholder": None},
        {'x"_placeholder': True},
        '"_placeholder":true',
    ],
)
def test_noPlaceholder(value: Any) -> None:
    """What only resembles a placeholder is ordinary data."""
    packet = Packet(EVENT, data=["a", value, b"b"])
    assert decodeAll(PARSER.encode(*packet)) == packet
    assert decodeAll(PARSER.encode(EVENT, "/", None, [*packet.data, 1e999])).data == [*packet.data, None]


def test_lookalike() -> None:
    """
    An object that the recipient would take for a placeholder can't go with bytes, whatever its number is.

    A client could otherwise place it into what the application sends to others, whose clients would disconnect.
    """
    lookalike = {"_placeholder": True, "num": 7}
    for data in (["a", b"b", {"c": lookalike}], ["a", {"c": lookalike}, b"b"], ["a", {"c": lookalike}, b"b", 1e999]):
        with pytest.raises(UnsendableValue) as caught:
            PARSER.encode(EVENT, "/", None, data)
        assert caught.value.path == f'args[{data.index({"c": lookalike}) - 1}]["c"]'
    assert PARSER.encode(EVENT, "/", None, ["a", lookalike]) == f'2["a",{hole(7)}]'


def test_reservedNames() -> None:
    """A binary event's name is checked as any, before an attachment is awaited."""
    for text in ('51-["connect"]', f"51-[{hole(0)}]", "51-[]", "51-{}", "51-", "61-1{}", "61-"):
        with pytest.raises(InvalidPacket):
            PARSER.decode(text)
    assert decodeAll(["51-[1]", b""]) == Packet(EVENT, data=["1"])


@pytest.mark.parametrize(
    "count", ["", "0", "00", "0000", "00001", "-1", "+1", " 1", "1 ", "1e1", "0x1", "1.0", "１", "x"]
)
@pytest.mark.parametrize("digit", "56")
def test_counts(digit: str, count: str) -> None:
    """The number of attachments is one to four ASCII digits and not 0."""
    for behind in ('-["a"]', '["a"]', ""):
        with pytest.raises(InvalidPacket):
            PARSER.decode(f"{digit}{count}{behind}")


def test_tooMany() -> None:
    """More attachments than may be are refused at once, and named by their option; so they are when sent."""
    for count in (4, 10, 9999):
        with pytest.raises(InvalidPacket) as caught:
            JSONParser(maxAttachments=3).decode(f'5{count}-["a"]')
        assert caught.value.option == "maxAttachments"
    assert isinstance(JSONParser(maxAttachments=3).decode('50003-["a"]'), IncompletePacket)
    packet = Packet(EVENT, data=["a", *[b"b"] * 10])
    assert decodeAll(PARSER.encode(*packet)) == packet
    with pytest.raises(UnsendableValue, match="maxAttachments"):
        PARSER.encode(EVENT, "/", None, ["a", *[b"b"] * 11])
    with pytest.raises(UnsendableValue, match="9999"):
        JSONParser(maxAttachments=100_000).encode(EVENT, "/", None, ["a", *[b"b"] * 10_000])


@pytest.mark.parametrize("number", ["true", "false", "0.0", "1.0", '"0"', "null", "-1", "2", "1e0", "[0]", "9" * 400])
def test_numbers(number: str) -> None:
    """A placeholder has the number of an attachment, wherever it stands."""
    for text in (f'52-["a",{hole(number)}]', f'52-["a",[{{"b":{hole(number)}}}]]', f"62-1[{hole(0)},{hole(number)}]"):
        with pytest.raises(InvalidPacket):
            PARSER.decode(text)
    with pytest.raises(InvalidPacket):
        PARSER.decode('51-["a",{"_placeholder":true}]')


def test_textInPlaceOfAnAttachment() -> None:
    """Nothing comes between a packet and its attachments."""
    for text in ("", '2["a"]', "0", "1"):
        incomplete = PARSER.decode('51-["a"]')
        assert isinstance(incomplete, IncompletePacket)
        with pytest.raises(InvalidPacket):
            incomplete.add(text)


def test_bytesTogether() -> None:
    """All attachments of a packet together are bounded, and what is too much isn't kept."""
    incomplete = JSONParser(maxBytes=10).decode('53-["a"]')
    assert isinstance(incomplete, IncompletePacket)
    assert incomplete.add(bytes(10)) is None
    assert incomplete.add(b"") is None
    with pytest.raises(InvalidPacket) as caught:
        incomplete.add(b"1")
    assert caught.value.option == "maxHttpBufferSize"
    assert (incomplete.size, incomplete.received) == (10, 2)
    unbounded = JSONParser(maxBytes=None).decode('51-["a"]')
    assert isinstance(unbounded, IncompletePacket)
    assert unbounded.add(bytes(2_000_000)) is not None


def test_apart() -> None:
    """Packets of two sessions are put together beside each other."""
    one, two = (PARSER.decode(f'51-["{name}",{hole(0)}]') for name in "ab")
    assert isinstance(one, IncompletePacket)
    assert isinstance(two, IncompletePacket)
    assert two.add(b"2") == Packet(EVENT, data=["b", b"2"])
    assert one.add(b"1") == Packet(EVENT, data=["a", b"1"])


def test_released() -> None:
    """A view whose bytes are gone can't be sent, and leaves nothing behind for the next packet."""
    view = memoryview(b"gone")
    view.release()
    with pytest.raises(UnsendableValue) as caught:
        PARSER.encode(EVENT, "/", None, ["a", b"first", view])
    assert caught.value.path == "args[1]"
    assert PARSER.encode(EVENT, "/", None, ["a"]) == '2["a"]'


def test_deep() -> None:
    """Bytes may stand some hundreds of levels deep; a message too deep for the decoder is refused."""
    value: Any = b"deep"
    for _ in range(300):
        value = {"a": [value]}
    packet = Packet(EVENT, data=["a", value])
    assert decodeAll(PARSER.encode(*packet)) == packet
    with pytest.raises(UnsendableValue):
        PARSER.encode(EVENT, "/", None, ["a", b"b", nested(100_000)])
    assert PARSER.encode(EVENT, "/", None, ["a"]) == '2["a"]'


@given(NAMES, st.lists(BINARY_VALUES, max_size=4), st.none() | st.integers(0, 2**53 - 1))
def test_roundTrip(name: str, arguments: list[Any], id: int | None) -> None:  # noqa: A002
    """What is sent arrives, bytes too."""
    parser = JSONParser(maxAttachments=100)
    for packet in (Packet(EVENT, "/a", id, [name, *arguments]), Packet(ACK, "/", id, arguments)):
        assert decodeAll(parser.encode(*packet), parser) == packet


@given(INPUTS, st.lists(INPUTS, max_size=3))
def test_anyInput(first: str | bytes, others: list[str | bytes]) -> None:
    """Whatever follows completes a packet or is refused."""
    packet: Packet | IncompletePacket | None = packetOrNone(PARSER.decode, first)
    for each in others:
        if isinstance(packet, IncompletePacket):
            packet = packetOrNone(packet.add, each) or packet
    if isinstance(packet, Packet):
        assert packet.type in (PacketType.CONNECT, PacketType.DISCONNECT, EVENT, ACK)
