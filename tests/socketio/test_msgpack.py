"""Packets as MessagePack: what the peers' libraries write is read, and the same refusals as for JSON."""

from __future__ import annotations

import sys
from array import array
from datetime import UTC, datetime
from math import inf, isnan, nan
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.socketio.errors import RESERVED_EVENTS, InvalidPacket, UnsendableValue
from engineio_twisted.socketio.msgpack import MsgpackParser
from engineio_twisted.socketio.packet import Packet, PacketType

from ..kit.socketio_values import BINARY_VALUES, NAMES, nested, packetOrNone

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = PacketType

PARSER = MsgpackParser()
CLIENT = MsgpackParser(fromServer=True)

# Written by socket.io-msgpack-parser 3.0, and by python-socketio's packets of this kind.
WRITTEN_BY_OTHERS = [
    ("83a47479706500a464617461d40000a36e7370a12f", Packet(CONNECT)),
    (
        "83a47479706500a46461746181a5746f6b656ea178a36e7370a62f61646d696e",
        Packet(CONNECT, "/admin", data={"token": "x"}),
    ),
    ("82a47479706501a36e7370a62f61646d696e", Packet(DISCONNECT, "/admin")),
    (
        (
            "85a47479706502a46461746198a16da2c3a9cb3ff8000000000000ffc3c0c40301020381a16190a76f7074696f6e"
            "7381a8636f6d7072657373c3a269640ca36e7370a12f"
        ),
        Packet(EVENT, id=12, data=["m", "é", 1.5, -1, True, None, b"\1\2\3", {"a": []}]),
    ),
    ("84a47479706503a46461746190a2696400a36e7370a12f", Packet(ACK, id=0, data=[])),
    ("83a47479706502a46461746193a175d40000cf0000010000000000a36e7370a12f", Packet(EVENT, data=["u", None, 2**40])),
    ("83a47479706501a464617461c0a36e7370a12f", Packet(DISCONNECT)),
    ("83a47479706500a46461746180a36e7370a12f", Packet(CONNECT, data={})),
]


@pytest.mark.parametrize(("written", "packet"), WRITTEN_BY_OTHERS)
def test_writtenByOthers(written: str, packet: Packet) -> None:
    """What the clients' libraries write is understood."""
    assert PARSER.decode(bytes.fromhex(written)) == packet


@pytest.mark.parametrize(
    ("packet", "content"),
    [
        (Packet(CONNECT, data={"sid": "x"}), {"type": 0, "nsp": "/", "data": {"sid": "x"}}),
        (Packet(CONNECT), {"type": 0, "nsp": "/"}),
        (Packet(DISCONNECT, "/a"), {"type": 1, "nsp": "/a"}),
        (Packet(EVENT, data=["m", b"\1"]), {"type": 2, "nsp": "/", "data": ["m", b"\1"]}),
        (Packet(ACK, "/a", 0, []), {"type": 3, "nsp": "/a", "id": 0, "data": []}),
        (Packet(CONNECT_ERROR, data={"message": "no"}), {"type": 4, "nsp": "/", "data": {"message": "no"}}),
    ],
)
def test_written(packet: Packet, content: dict[str, Any]) -> None:
    """A packet is a map, without what there isn't: the client takes null for something."""
    message = PARSER.encode(*packet)
    assert msgpack.unpackb(message) == content
    assert CLIENT.decode(message) == packet


def packed(**content: Any) -> bytes:
    message: bytes = msgpack.packb({"type": 2, "nsp": "/", "data": ["a"], **content}, strict_types=False)
    return message


DEEP = b"\x91" * 100_000
INVALID = {
    "text": "2",
    "nothing": b"",
    "no map": msgpack.packb([2]),
    "never used": b"\xc1",
    "cut off": packed()[:-1],
    "trailing": packed() + b"\0",
    "invalid text": packed().replace(b"\xa1a", b"\xa1\xff"),
    "nested too deeply": DEEP,
    "data nested too deeply": b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data" + DEEP,
    "binary types": packed(type=5),
    "negative type": packed(type=-1),
    "true type": packed(type=True),
    "float type": packed(type=2.0),
    "text type": packed(type="2"),
    "list type": packed(type=[2]),
    "no type": msgpack.packb({"nsp": "/", "data": ["a"]}),
    "no namespace": msgpack.packb({"type": 2, "data": ["a"]}),
    "namespace of bytes": packed(nsp=b"/"),
    "namespace without a slash": packed(nsp="a"),
    "too large an id": packed(id=2**53),
    "negative id": packed(id=-1),
    "float id": packed(id=1.0),
    "true id": packed(id=True),
    "text id": packed(id="1"),
    "event without data": packed(data=None),
    "event of a map": packed(data={}),
    "event without a name": packed(data=[]),
    "name of bytes": packed(data=[b"a"]),
    "true name": packed(data=[True]),
    **{f"named {name}": packed(data=[name]) for name in RESERVED_EVENTS},
    "ack of a map": packed(type=3, data={}),
    "ack without data": packed(type=3, data=None),
    "connect with a list": packed(type=0, data=[]),
    "connect with text": packed(type=0, data="x"),
    "connect with bytes": packed(type=0, data=b""),
    "connect with an id": packed(type=0, data={}, id=1),
    "disconnect with data": packed(type=1, data={}),
    "error from a client": packed(type=4, data={"message": "no"}),
    "number as key": packed(data=["a", {1: 2}]),
    "bytes as key": packed(data=["a", {b"b": 2}]),
    "extension": packed(data=["a", msgpack.ExtType(5, b"x")]),
    "extension 0": packed(data=["a", msgpack.ExtType(0, b"12345678")]),
    "extension 1": packed(data=["a", msgpack.ExtType(1, b"\0")]),
    "timestamp": packed(data=["a", [{"b": msgpack.Timestamp(1)}]]),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid(name: str) -> None:
    """Each violation is an InvalidPacket, and its text doesn't quote the client at length."""
    with pytest.raises(InvalidPacket) as caught:
        PARSER.decode(INVALID[name])
    assert 0 < len(str(caught.value)) < 120


@pytest.mark.parametrize("header", [b"\xdd\x00\x00\x40\x00", b"\xdc\x40\x00", b"\xdf\x00\x00\x20\x00", b"\xde\x20\x00"])
def test_lengthsThatAreNone(header: bytes) -> None:
    """
    Arrays in arrays that all say they are as long as the message are refused before room is made for them.

    It would be 500 times what the message takes.
    """
    key = b"\xa0" if header[0] >= 0xDE else b""
    message = (header + key) * 500
    message += bytes(20_000 - len(message))
    # The library makes no room for maps.
    with pytest.raises(InvalidPacket, match="it ends too soon" if header[0] < 0xDE else "invalid"):
        PARSER.decode(message)


def test_manyArrays() -> None:
    """Many arrays that are as long as they say are taken, whatever is between them."""
    row = [
        *range(20),
        "ü" * 100,
        "x",
        -1,
        1.5,
        None,
        True,
        2**40,
        -(2**40),
        b"\xdc\xdd" * 200,
        {"k": 1, "l": {}},
        "y" * 300,
    ]
    wide = {f"k{index}": index for index in range(20)}
    packet = Packet(EVENT, data=["a", *[row] * 20, wide, ["z" * 70_000, bytes(70_000)]])
    assert PARSER.decode(PARSER.encode(*packet)) == packet
    undefined = msgpack.packb({"type": 2, "nsp": "/", "data": ["a", msgpack.ExtType(0, b"\0"), b"\xdd" * 20]})
    assert PARSER.decode(undefined) == Packet(EVENT, data=["a", None, b"\xdd" * 20])
    for kind in (b"\xd5\x05xx", b"\xc7\x03\x05xxx"):
        with pytest.raises(InvalidPacket, match="extension"):
            PARSER.decode(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1a" + kind + b"\xc4\x14" + b"\xdd" * 20)


def test_numbersAndInfinities() -> None:
    """MessagePack has what JSON hasn't."""
    decoded = PARSER.decode(PARSER.encode(EVENT, "/", None, ["a", inf, nan]))
    assert decoded.data[1] == inf
    assert isnan(decoded.data[2])
    assert PARSER.decode(PARSER.encode(EVENT, "/", None, ["a", inf, array("B")])).data[1:] == [inf, b""]
    assert PARSER.decode(packed(data=[1.5])) == Packet(EVENT, data=["1.5"])


@pytest.mark.parametrize(
    "value",
    [bytearray(b"ab"), memoryview(b"ab"), memoryview(b"a-b-")[::2], array("B", b"ab")],
    ids=["bytearray", "view", "sliced", "array"],
)
def test_bytesLike(value: Any) -> None:
    """Whatever is like bytes arrives as bytes."""
    packet = Packet(EVENT, data=["a", {"b": value}])
    assert PARSER.decode(PARSER.encode(*packet)) == Packet(EVENT, data=["a", {"b": b"ab"}])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({1: 2}, "args[0]"),
        ([{"b": {b"c": 1}}], 'args[0][0]["b"]'),
        (datetime.now(UTC), "args[0]"),
        ({"a": {1}}, 'args[0]["a"]'),
        (2**64, "args[0]"),
        ([-(2**63) - 1], "args[0][0]"),
        ({"a": "\ud800"}, 'args[0]["a"]'),
        ({"\ud800": 1}, "args[0]"),
    ],
)
def test_unsendable(value: Any, path: str) -> None:
    """What it can't carry is refused, with its place."""
    with pytest.raises(UnsendableValue) as caught:
        PARSER.encode(EVENT, "/", None, ["a", value])
    assert caught.value.path.startswith(path)
    assert len(caught.value.path) < 100


def test_unsendableWhole() -> None:
    """A value that contains itself, or is nested too deeply, is refused."""
    cycle: list[Any] = []
    cycle.append(cycle)
    usual = sys.getrecursionlimit()
    # With room for the walk it is the library that finds it too deep.
    for depth, room in ((100_000, usual), (2000, 10_000)):
        sys.setrecursionlimit(room)
        try:
            with pytest.raises(UnsendableValue, match="nested too deeply"):
                PARSER.encode(EVENT, "/", None, ["a", nested(depth)])
            with pytest.raises(UnsendableValue, match="nested too deeply"):
                PARSER.encode(CONNECT_ERROR, "/", None, {"data": nested(depth)})
        finally:
            sys.setrecursionlimit(usual)
    with pytest.raises(UnsendableValue, match="contains itself"):
        PARSER.encode(EVENT, "/", None, ["a", cycle])


def test_default() -> None:
    """An application may say what becomes of other values."""
    parser = MsgpackParser(default=lambda value: sorted(value))
    assert parser.decode(parser.encode(EVENT, "/", None, ["a", {2, 1}])) == Packet(EVENT, data=["a", [1, 2]])


def test_notInstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package one is told which extra brings it."""
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r"engineio_twisted\[msgpack\]"):
        MsgpackParser()


@given(NAMES, st.lists(BINARY_VALUES, max_size=4), st.none() | st.integers(0, 2**53 - 1))
def test_roundTrip(name: str, arguments: list[Any], id: int | None) -> None:  # noqa: A002
    """What is sent arrives."""
    for packet in (Packet(EVENT, "/a", id, [name, *arguments]), Packet(ACK, "/", id, arguments)):
        assert PARSER.decode(PARSER.encode(*packet)) == packet


@given(st.binary(max_size=50) | st.binary(max_size=20).map(lambda data: packed(data=["a"])[:-1] + data))
def test_anyInput(message: bytes) -> None:
    """Whatever comes is a packet or refused."""
    for parser in (PARSER, CLIENT):
        packet = packetOrNone(parser.decode, message)
        assert packet is None or packet.type < BINARY_EVENT
