"""Packets of Socket.IO as JSON: the text, literally, and what is refused."""

from __future__ import annotations

import json
import re
from array import array
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from math import inf, nan
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engineio_twisted.socketio.errors import RESERVED_EVENTS, InvalidPacket, UnsendableValue
from engineio_twisted.socketio.packet import IncompletePacket, JSONParser, Packet, PacketType

from ..kit.socketio_values import INPUTS, NAMES, VALUES, nested, packetOrNone

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = PacketType

PARSER = JSONParser()
CLIENT = JSONParser(fromServer=True)

LITERAL = [
    (Packet(CONNECT), "0"),
    (Packet(CONNECT, data={"token": "x"}), '0{"token":"x"}'),
    (Packet(CONNECT, "/admin", data={"token": "x"}), '0/admin,{"token":"x"}'),
    (Packet(CONNECT, "/admin"), "0/admin,"),
    (Packet(DISCONNECT), "1"),
    (Packet(DISCONNECT, "/admin"), "1/admin,"),
    (Packet(EVENT, data=["say", "hi"]), '2["say","hi"]'),
    (Packet(EVENT, "/admin", 12, ["say", "hi"]), '2/admin,12["say","hi"]'),
    (Packet(EVENT, id=0, data=["say"]), '20["say"]'),
    (Packet(EVENT, id=2**53 - 1, data=["say"]), '29007199254740991["say"]'),
    (Packet(EVENT, data=["", "€😀\u2028\x7f", '\\"\n\x1f']), '2["","€😀\u2028\x7f","\\\\\\"\\n\\u001f"]'),
    (Packet(EVENT, data=["n", 1, -2.5, True, None, [], {}]), '2["n",1,-2.5,true,null,[],{}]'),
    (Packet(EVENT, data=["a", {"b": [{"c": 1}]}]), '2["a",{"b":[{"c":1}]}]'),
    (Packet(EVENT, data=["a", {"_placeholder": True, "num": 5}]), '2["a",{"_placeholder":true,"num":5}]'),
    (Packet(EVENT, data=["__proto__", "*", "emit"]), '2["__proto__","*","emit"]'),
    (Packet(ACK, "/admin", 12, [True]), "3/admin,12[true]"),
    (Packet(ACK, id=12, data=[]), "312[]"),
    (Packet(ACK, id=1, data=["connect"]), '31["connect"]'),
]
"""What both sides may send."""

FROM_SERVER = [
    (Packet(CONNECT, "/admin", data={"sid": "x", "pid": "y"}), '0/admin,{"sid":"x","pid":"y"}'),
    (Packet(CONNECT_ERROR, "/admin", data={"message": "no"}), '4/admin,{"message":"no"}'),
    (Packet(CONNECT_ERROR, data="no"), '4"no"'),
]


@pytest.mark.parametrize(("packet", "text"), LITERAL)
def test_literally(packet: Packet, text: str) -> None:
    """Each packet is on the wire what the protocol says."""
    assert PARSER.encode(*packet) == text
    assert PARSER.decode(text) == packet
    assert CLIENT.decode(text) == packet


@pytest.mark.parametrize(("packet", "text"), FROM_SERVER)
def test_fromServer(packet: Packet, text: str) -> None:
    """What only servers send is understood by a client."""
    assert PARSER.encode(*packet) == text
    assert CLIENT.decode(text) == packet


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("0/admin", Packet(CONNECT, "/admin")),
        ("1/admin", Packet(DISCONNECT, "/admin")),
        ("0/", Packet(CONNECT)),
        ("0/admin?token=x&name=y", Packet(CONNECT, "/admin?token=x&name=y")),
        ("0/admin?token=x,", Packet(CONNECT, "/admin?token=x")),
        ('2/,["a"]', Packet(EVENT, data=["a"])),
        ('2["a"] \n', Packet(EVENT, data=["a"])),
        ('2[ "a" , 1 ]', Packet(EVENT, data=["a", 1])),
        ('2007["a"]', Packet(EVENT, id=7, data=["a"])),
        ('29007199254740990["a"]', Packet(EVENT, id=2**53 - 2, data=["a"])),
        ("2[1]", Packet(EVENT, data=["1"])),
        ("2[1.0]", Packet(EVENT, data=["1"])),
        ("2[-1.5]", Packet(EVENT, data=["-1.5"])),
        ("2[1e25]", Packet(EVENT, data=["1e+25"])),
        ('2["a",1e999,-1e999]', Packet(EVENT, data=["a", inf, -inf])),
        ('2["a",{"b":1,"b":2}]', Packet(EVENT, data=["a", {"b": 2}])),
        ('2["\\ud83d"]', Packet(EVENT, data=["\ud83d"])),
        ("3[1]", Packet(ACK, data=[1])),
    ],
)
def test_alsoDecoded(text: str, packet: Packet) -> None:
    """What the server doesn't write so, and takes."""
    assert PARSER.decode(text) == packet


def test_types() -> None:
    """A packet names its type, and its arguments may be changed."""
    for text in ('2["a"]', '21["a"]', '2/a,["a"]', "31[]", "0", "1"):
        packet = PARSER.decode(text)
        assert isinstance(packet, Packet)
        assert type(packet.type) is PacketType
    assert isinstance(packet, Packet)


DEEP = 100_000
INVALID = {
    "empty message": ["", b""],
    "type": ["7", "9[]", "x", " 2", "-1", "２[]", "٢", "\ufeff2[]", "[]", "\n", "a" * 100_000],
    "bytes that nobody awaits": [b"2", b'2["a"]', b"\x00" * 1000],
    "attachments of what has none": ['21-["a"]', "31-[]", "01-", '01-{"a":1}'],
    "EVENT without an array": ["2", "2/admin,", "212", "2{}", '2"a"', "2null", "2[]", "2/admin,1[]"],
    "EVENT's name": ["2[null]", "2[true]", "2[[]]", "2[{}]", '2[["a"]]', "2/admin,1[false]"],
    "reserved name": [f'2{where}["{name}",1]' for where in ("", "/a,", "1") for name in RESERVED_EVENTS],
    "ACK without an array": ["3", "31", "3{}", '31"a"', "3null", "3/admin,1{}"],
    "CONNECT with other data": ["0null", "0[]", '0"a"', "0/admin,null", "0/admin,[]", "0true", '0/admin,"x"'],
    "DISCONNECT with data": ["1{}", "1[]", '1/admin,"x"', "1null"],
    "CONNECT_ERROR from a client": ["4", '4{"message":"no"}', '4/admin,"no"'],
    "id where none belongs": ["012", "0/admin,1{}", "11"],
    "too large an id": [
        f'2{2**53}["a"]',
        f'2/a,{2**53}["a"]',
        f'2{"9" * 17}["a"]',
        f'2{"0" * 16}1["a"]',
        f"3{'1' * 6000}[]",
        f"2{'1' * 6000}",
        f"3{'1' * 6000}]",
    ],
    "an id of other digits": ['2+1["a"]', '2-1["a"]', '2 1["a"]', '2１["a"]', '21.0["a"]', '21 ["a"]', '20x1["a"]'],
    "namespace without a slash": ['2admin,["a"]', "0admin", '2,["a"]'],
    "JSON": [
        *('2["a"', '2["a",', '2["a"]x', '2["a"]]', "2['a']", '2["a",]', '2["a",,1]', '2["a",NaN]', '2["a",Infinity]'),
        *('2["a",-Infinity]', '2["a",01]', '2["a",+1]', '2["a",.5]', '2["a",undefined]', '2["a",tru]', '2["a\n"]'),
        *('2["a\x00"]', '2["\\x"]', '2["\\u12"]', '2\ufeff["a"]', '2["a"]\ufeff', '2 ["a"]', '2["a"]\x00', '2["a"]\v'),
        *('2["a",{1:2}]', '2["a",{"b"}]', '2["a",{"b":1,}]', '2["a"]2["a"]', '0{"a":1}0', "0{", '2["a",1_0]'),
    ],
    "nested too deeply": ["2" + "[" * DEEP, '2["a",' + '{"a":' * DEEP, '21["a",' + "[" * DEEP + "]" * DEEP + "]"],
    "too many digits": [f'2["a",{"1" * 5000}]', f'2/a,["a",-{"1" * 5000}]'],
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid(kind: str) -> None:
    """Each violation is an InvalidPacket, and its text doesn't quote the client at length."""
    for message in INVALID[kind]:
        with pytest.raises(InvalidPacket) as caught:
            PARSER.decode(message)
        assert 0 < len(str(caught.value)) < 120
        assert caught.value.option is None


@pytest.mark.parametrize("text", ["4", "4[]", "4null", "0[]", "1{}", '2["connect"]', "41"])
def test_invalidFromServer(text: str) -> None:
    """A client refuses what servers may not send."""
    with pytest.raises(InvalidPacket):
        CLIENT.decode(text)


PAGE = (Path(__file__).parents[2] / "docs" / "socketio-protocol.md").read_text(encoding="utf-8")


def test_examplesOfThePage() -> None:
    """The packets that the page shows are of the types that it says."""
    rows = re.findall(r"^\| ([0-6]) \| ([A-Z_]+) \|.*\| `(.*)` \|$", PAGE, re.MULTILINE)
    assert [(int(number), name) for number, name, _ in rows] == [(each, each.name) for each in PacketType]
    for number, _, text in rows:
        packet = CLIENT.decode(text)
        if int(number) < BINARY_EVENT:
            assert isinstance(packet, Packet)
            assert packet.type == int(number)
            assert PARSER.encode(*packet) == text
        else:
            assert isinstance(packet, IncompletePacket)
            packet = packet.add(b"attached")
            assert packet is not None
            assert PARSER.encode(*packet) == [text, b"attached"]


def test_violationsOfThePage() -> None:
    """The violations that the page shows are refused."""
    section = PAGE.partition("## Violations")[2].partition("The following are no violations")[0]
    examples = [text for row in re.findall(r"\|([^|]*)\|\n", section) for text in re.findall(r"`([^`]*)`", row)]
    assert len(examples) > 30
    for text in examples:
        with pytest.raises(InvalidPacket):
            PARSER.decode(text)


def test_whatIsSaid() -> None:
    """The problem is named."""
    for text, problem in {
        "": "an empty message",
        "9": "a message that does not begin with a type, 0 to 6",
        "2[]": "an EVENT without an array of its name and arguments",
        '2["disconnect"]': "an EVENT with the reserved name disconnect",
        '2["a",NaN]': "invalid JSON: NaN",
        '2["a"': "invalid JSON",
        '2["a"]x': "invalid JSON: something follows it",
        "2" + "[" * DEEP: "JSON that is nested too deeply",
        "0[]": "a CONNECT whose data is no object",
        f'2{2**53}["a"]': "an id over 2**53 - 1",
    }.items():
        with pytest.raises(InvalidPacket) as caught:
            PARSER.decode(text)
        assert caught.value.problem == problem


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    A = "a"


class Other(Enum):
    A = "a"


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (nan, "null"),
        ([inf, {"a": -inf}], '[null,{"a":null}]'),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e22, "1e+22"),
        (10**30, "1" + "0" * 30),
        ((1, (2,)), "[1,[2]]"),
        (Pair(1, 2), "[1,2]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (Number.ONE, "1"),
        (Word.A, '"a"'),
        ({Word.A: Text("b")}, '{"a":"b"}'),
        (True, "true"),
        ("\ud83d", '"\\ud83d"'),
        ("a\\\udfff€", '"a\\\\\\udfff€"'),
        ({"\ud800": nan}, '{"\\ud800":null}'),
        ("</script>\u2029/", '"</script>\u2029/"'),
    ],
)
def test_values(value: Any, text: str) -> None:
    """Values become what JavaScript's serializer makes of them, but for the digits of floats."""
    assert PARSER.encode(EVENT, "/", None, ["a", value]) == f'2["a",{text}]'
    assert PARSER.encode(ACK, "/", 1, [value]) == f"31[{text}]"
    assert PARSER.encode(CONNECT_ERROR, "/", None, {"data": value}) == f'4{{"data":{text}}}'


def test_surrogatesMakeAPair() -> None:
    """Two halves of a character are written as such, and read as the character."""
    text = PARSER.encode(EVENT, "/", None, ["\ud83d\ude00"])
    assert text == '2["\\ud83d\\ude00"]'
    assert PARSER.decode(text) == Packet(EVENT, data=["😀"])


def cycle() -> list[Any]:
    made: list[Any] = [1]
    made.append({"again": made})
    return made


NOW = datetime.now(UTC)
UNSENDABLE = [
    (["a", {1: 2}], "args[0]"),
    (["a", 0, {"b": [{None: 1}]}], 'args[1]["b"][0]'),
    (["a", {True: 1}], "args[0]"),
    (["a", {1.5: 1}], "args[0]"),
    (["a", {("b",): 1}], "args[0]"),
    (["a", 1, {"when": NOW}], 'args[1]["when"]'),
    (["a", Decimal(1)], "args[0]"),
    (["a", ({1, 2},)], "args[0][0]"),
    (["a", SimpleNamespace()], "args[0]"),
    (["a", MappingProxyType({})], "args[0]"),
    (["a", Other.A], "args[0]"),
    (["a", 1j], "args[0]"),
    (["a", 10**5000], "args[0]"),
    (["a", nan, {"b": -(10**5000)}], 'args[1]["b"]'),
    (["a", cycle()], 'args[0][1]["again"]'),
    (["a", 1, nested(DEEP)], "args"),
    ([NOW], "event"),
    (["a", {"k" * 100: NOW}], 'args[0]["' + "k" * 40 + '…"]'),
]


@pytest.mark.parametrize(("data", "path"), UNSENDABLE, ids=[str(index) for index in range(len(UNSENDABLE))])
def test_unsendable(data: list[Any], path: str) -> None:
    """What JSON can't carry is refused, with its place."""
    with pytest.raises(UnsendableValue) as caught:
        PARSER.encode(EVENT, "/", None, data)
    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)
    assert PARSER.encode(EVENT, "/", None, ["a", b"b"]) == ['51-["a",{"_placeholder":true,"num":0}]', b"b"]


def test_unsendableElsewhere() -> None:
    """Of an acknowledgement the first argument is args[0]; other data is `data`."""
    for type_, data, path in [
        (ACK, [NOW], "args[0]"),
        (CONNECT_ERROR, {"data": {"b": NOW}}, 'data["data"]["b"]'),
        (CONNECT_ERROR, {"data": b"bytes"}, 'data["data"]'),
        (CONNECT, {"a": array("B", b"x")}, 'data["a"]'),
    ]:
        with pytest.raises(UnsendableValue) as caught:
            PARSER.encode(type_, "/", None, data)
        assert caught.value.path == path


def test_default() -> None:
    """An application may say what becomes of other values; that may be bytes too."""

    def default(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, set):
            return sorted(value)
        if isinstance(value, Decimal):
            return bytes(3)
        if isinstance(value, SimpleNamespace):
            return {1: 2}
        if isinstance(value, complex):
            return value
        raise TypeError("something else")

    parser = JSONParser(default=default)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    assert (
        parser.encode(EVENT, "/", None, ["a", {"when": when}, {2, 1}])
        == '2["a",{"when":"2026-01-02T00:00:00+00:00"},[1,2]]'
    )
    assert parser.encode(EVENT, "/", None, ["a", {when}]) == '2["a",["2026-01-02T00:00:00+00:00"]]'
    assert parser.encode(EVENT, "/", None, ["a", Decimal(1)]) == ['51-["a",{"_placeholder":true,"num":0}]', bytes(3)]
    for value, problem in [
        (Other.A, "default raised TypeError"),
        (SimpleNamespace(), "a key of type int"),
        (1j, "contains itself"),
    ]:
        with pytest.raises(UnsendableValue, match=problem) as caught:
            parser.encode(EVENT, "/", None, ["a", [value]])
        assert caught.value.path == "args[0][0]"


def test_deepIsSentAndTaken() -> None:
    """Some hundreds of levels are no problem."""
    text = PARSER.encode(EVENT, "/", None, ["a", nested(300)])
    assert PARSER.decode(text) == Packet(EVENT, data=["a", nested(300)])


@given(NAMES, st.lists(VALUES, max_size=4), st.none() | st.integers(0, 2**53 - 1), st.sampled_from(["/", "/a", "/é b"]))
def test_roundTrip(name: str, arguments: list[Any], id: int | None, namespace: str) -> None:  # noqa: A002
    """What is sent arrives."""
    for packet in (Packet(EVENT, namespace, id, [name, *arguments]), Packet(ACK, namespace, id, arguments)):
        text = PARSER.encode(*packet)
        assert isinstance(text, str)
        assert PARSER.decode(text) == packet
        text.encode()
        # It is JSON, compactly.
        written = text[text.index("[") :]
        assert json.loads(written) == packet.data
        assert written == json.dumps(json.loads(written), ensure_ascii=False, separators=(",", ":"))


@given(INPUTS)
@example("")
@example(b"")
def test_anyInput(message: str | bytes) -> None:
    """Whatever comes is a packet, or the beginning of one, or refused."""
    for parser in (PARSER, CLIENT):
        decoded = packetOrNone(parser.decode, message)
        if isinstance(decoded, Packet):
            assert decoded.type < BINARY_EVENT
            assert decoded.namespace.startswith("/")
            again = PARSER.encode(*decoded)
            assert isinstance(again, str)
            # Infinities become null.
            if "null" not in again:
                assert parser.decode(again) == decoded
