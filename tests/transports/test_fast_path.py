"""The shorter way for the most common frames: whatever a client sends, the same comes of it as of Autobahn alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted import AutobahnEngine, Packet, PacketType
from engineio_twisted.transports import engine_autobahn
from engineio_twisted.transports.engine_autobahn import INTEGER_UNMASKED

from ..kit.engines import ConfiguredAutobahn
from ..kit.wire import makeFrame
from .test_websocket import AcceptedPeer

LIMIT = 70_000

FRAMES = [
    makeFrame("4hello"),
    makeFrame("4€ 😀"),
    makeFrame(b"\x01\x02\x03"),
    makeFrame(b""),
    makeFrame("4" + "a" * 124),
    makeFrame("4" + "a" * 125),
    makeFrame(b"x" * (INTEGER_UNMASKED - 1)),
    makeFrame(b"x" * INTEGER_UNMASKED),
    makeFrame(b"x" * (INTEGER_UNMASKED + 1)),
    makeFrame(b"x" * 65_535),
    makeFrame(b"x" * 65_536),
    makeFrame("4" + "é😀" * 300),
    makeFrame("4" + "a" * 65_536),
    makeFrame("4pieces", isFinal=False),
    makeFrame(" of one", 0),
    makeFrame("", 0, isFinal=False),
    makeFrame(b"are you there", 9),
    makeFrame(b"yes", 10),
]

WRONG = [
    makeFrame("4\xff".encode("latin-1"), 1),
    makeFrame(b"4" + b"x" * 700 + b"\xff" + b"y" * 700, 1),
    makeFrame(b"4" + b"x" * 700 + b"\xe2\x82", 1),
    makeFrame(b"x" * (LIMIT + 1)),
    makeFrame("4a", reserved=4),
    makeFrame("4a", isMasked=False),
    makeFrame("9"),
    makeFrame(""),
    makeFrame("1"),
    makeFrame(b"\x03\xe8", 8),
    makeFrame(b"x", 3),
    # Lengths written longer than they are.
    b"\x82\xfe\x00\x05maskabcde",
    b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05maskabcde",
    b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask",
    b"nothing of the kind",
]


def outcome(engine: Any, data: bytes, cuts: list[int]) -> Any:
    """What the session was given and told, and what the client was sent, of bytes that come in pieces."""
    peer = AcceptedPeer(engine, LIMIT)
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    for start, end in itertools.pairwise(places):
        peer.receive(data[start:end])
    return peer.owner.packets, peer.owner.closes, peer.connection.value(), peer.connection.disconnecting


@pytest.mark.parametrize("engine", [AutobahnEngine, ConfiguredAutobahn])
@pytest.mark.parametrize("text", ["4" + "a" * 5000, "4" + "€" * 2000])
def test_textByteByByte(engine: Any, text: str) -> None:
    """However it comes, it arrives; and what comes behind it in one piece with its end."""
    peer = AcceptedPeer(engine, LIMIT)
    frame = makeFrame(text)
    for each in frame[:-1]:
        peer.receive(bytes([each]))
    assert peer.owner.packets == []
    peer.receive(frame[-1:] + makeFrame("4next"))
    assert [packet.data for packet in peer.owner.packets] == [text[1:], "next"]


@pytest.mark.parametrize("engine", [AutobahnEngine, ConfiguredAutobahn])
@pytest.mark.parametrize("before", [0, 10, 700])
def test_wrongTextEndsAtOnce(engine: Any, before: int) -> None:
    """A frame of text is refused at the byte that isn't UTF-8, however much of it is still to come."""
    peer = AcceptedPeer(engine, LIMIT)
    frame = makeFrame(b"4" + b"x" * before + b"\xff" + b"y" * 5000, 1)
    wrong = len(frame) - 5001
    for start in range(0, wrong, 100):
        peer.receive(frame[start : min(start + 100, wrong)])
    assert peer.closeCode() is None
    peer.receive(frame[wrong : wrong + 1])
    assert peer.closeCode() == 1007


def test_optionsOfAutobahn() -> None:
    """An engine that sets options of Autobahn's has them."""

    class Masking(AutobahnEngine):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.setProtocolOptions(maskServerFrames=True)

    peer = AcceptedPeer(Masking, LIMIT)
    peer.transport.send([Packet(PacketType.MESSAGE, "hello")])
    assert peer.connection.value()[:2] == b"\x81\x86"


@given(
    st.lists(st.sampled_from(FRAMES), max_size=8),
    st.lists(st.one_of(st.sampled_from(FRAMES + WRONG), st.binary(max_size=20)), max_size=3),
    st.lists(st.integers(0, 2**31), max_size=6),
)
def test_theSameComesOfIt(right: list[bytes], perhaps: list[bytes], cuts: list[int]) -> None:
    """Frames of every kind, right and wrong, whole and in pieces."""
    data = b"".join(right + perhaps)
    assert outcome(AutobahnEngine, data, cuts) == outcome(ConfiguredAutobahn, data, cuts)


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 65_534, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_theSameGoesOut(size: int, kind: Any) -> None:
    """Messages of every size, over the limit for clients too."""
    data = "x" * size if kind is str else b"x" * size
    sent = []
    for engine in (AutobahnEngine, ConfiguredAutobahn):
        peer = AcceptedPeer(engine, LIMIT)
        peer.transport.send([Packet(PacketType.MESSAGE, data)])
        sent.append(peer.connection.value())
    assert sent[0] == sent[1]


@pytest.mark.parametrize("engine", [AutobahnEngine, ConfiguredAutobahn])
def test_aSmallLimit(engine: Any) -> None:
    """A message over the limit is refused by its header, before it has come, however short it is."""
    peer = AcceptedPeer(engine, 10)
    peer.receive(makeFrame(b"x" * 100)[:-1])
    assert peer.closeCode() == 1009


def test_severalSettings() -> None:
    """What is set on all WebSockets of one server isn't on those of another."""
    small, large = AcceptedPeer(AutobahnEngine, 10), AcceptedPeer(AutobahnEngine, 1000)
    for peer in (small, large):
        peer.receive(makeFrame(b"x" * 50, isFinal=False))
    assert (small.closeCode(), large.closeCode()) == (1009, None)


@pytest.mark.parametrize("use", ["unmaskedLong", "integer"])
def test_withAndWithoutNativeCode(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Autobahn has no native code, long messages are read all the same."""
    if use == "integer":
        monkeypatch.setattr(engine_autobahn, "_unmaskedLong", engine_autobahn._unmaskedByInteger)
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    for size in (INTEGER_UNMASKED, INTEGER_UNMASKED + 1, 1000, 65_537):
        peer.receive(makeFrame(bytes(range(256)) * (size // 256 + 1)))
    assert [packet.data for packet in peer.owner.packets] == [
        bytes(range(256)) * (size // 256 + 1) for size in (INTEGER_UNMASKED, INTEGER_UNMASKED + 1, 1000, 65_537)
    ]


@pytest.mark.parametrize("engine", [AutobahnEngine, ConfiguredAutobahn])
def test_aHandlerThatClosesInTheMiddle(engine: Any) -> None:
    """What comes behind it is not delivered, and the client's close frame is still understood."""
    peer = AcceptedPeer(engine, LIMIT)
    take = peer.owner.transportPacket

    def closing(transport: Any, packet: Packet) -> bool:
        transport.close()
        return take(transport, packet)

    peer.owner.transportPacket = closing  # type: ignore[method-assign]
    peer.receive(makeFrame("4first") + makeFrame("4second") + makeFrame(b"\x03\xe8", 8))
    assert [packet.data for packet in peer.owner.packets] == ["first"]
    assert peer.connection.value() == b"\x88\x02\x03\xe8"
    assert peer.connection.disconnecting
    assert peer.isOver()
