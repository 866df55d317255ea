"""WebSocket by Autobahn: what a subclass may set, how the handshake is answered, and frames cut anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted import AutobahnEngine, Packet, PacketType
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import LEFT
from engineio_twisted.observer import ServerObserver
from engineio_twisted.protocol.errors import OptionError
from engineio_twisted.protocol.frame_reader import INTEGER_UNMASKED
from engineio_twisted.protocol.frames import unmask
from engineio_twisted.transports import engine_autobahn
from engineio_twisted.transports.engine_autobahn import HONOURED, NativeReader

from ..kit.frames import FRAMES, LIMIT, WRONG
from ..kit.peers import AcceptedPeer
from ..kit.wire import makeFrame


def outcome(data: bytes, cuts: list[int]) -> Any:
    """What the session was given and told, and what the client was sent, of bytes that come in pieces."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    for start, end in itertools.pairwise(places):
        peer.receive(data[start:end])
    return peer.owner.packets, peer.owner.closes, peer.connection.value(), peer.connection.disconnecting


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(FRAMES), max_size=8),
    st.lists(st.one_of(st.sampled_from(FRAMES + WRONG), st.binary(max_size=20)), max_size=3),
    st.lists(st.integers(0, 2**31), max_size=6),
)
def test_theSameComesOfIt(right: list[bytes], perhaps: list[bytes], cuts: list[int]) -> None:
    """Frames of every kind, right and wrong, whole and in pieces."""
    data = b"".join(right + perhaps)
    assert outcome(data, cuts) == outcome(data, [])


@pytest.mark.parametrize("text", ["4" + "a" * 5000, "4" + "€" * 2000])
def test_textByteByByte(text: str) -> None:
    """However it comes, it arrives; and what comes behind it in one piece with its end."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    frame = makeFrame(text)
    for each in frame[:-1]:
        peer.receive(bytes([each]))
    assert peer.owner.packets == []
    peer.receive(frame[-1:] + makeFrame("4next"))
    assert [packet.data for packet in peer.owner.packets] == [text[1:], "next"]


@pytest.mark.parametrize("before", [0, 10, 700])
def test_wrongTextEndsAtOnce(before: int) -> None:
    """A frame of text is refused at the byte that isn't UTF-8, however much of it is still to come."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    frame = makeFrame(b"4" + b"x" * before + b"\xff" + b"y" * 5000, 1)
    wrong = len(frame) - 5001
    for start in range(0, wrong, 100):
        peer.receive(frame[start : min(start + 100, wrong)])
    assert peer.closeCode() is None
    peer.receive(frame[wrong : wrong + 1])
    assert peer.closeCode() == 1007


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (124, b"\x7c"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (65_534, b"\x7e\xff\xfe"),
        (65_535, b"\x7e\xff\xff"),
        (65_536, b"\x7f\0\0\0\0\0\x01\0\0"),
        (100_000, b"\x7f\0\0\0\0\0\x01\x86\xa0"),
    ],
)
def test_whatGoesOut(size: int, header: bytes) -> None:
    """Messages of every size, over the limit for clients too: one frame each, with the shortest header."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    peer.transport.send([Packet(PacketType.MESSAGE, b"x" * size)])
    assert peer.connection.value() == b"\x82" + header + b"x" * size
    peer.connection.clear()
    if size:
        peer.transport.send([Packet(PacketType.MESSAGE, "x" * (size - 1))])
        assert peer.connection.value() == b"\x81" + header + b"4" + b"x" * (size - 1)


def test_anObserverIsToldOfNothingButBytes() -> None:
    """A 101 isn't counted: if it goes out alone, as that of an upgrade does, an observer isn't told of 0 bytes."""
    told: list[int] = []

    class Watch(ServerObserver):
        def bytesSent(self, socket: Any, size: int) -> None:
            told.append(size)

    class WatchedPeer(AcceptedPeer):
        def opened(self) -> None:
            super().opened()
            self.transport.counters.add(Watch())

    peer = WatchedPeer(AutobahnEngine, LIMIT)
    assert peer.answer
    assert told == []
    peer.send(0x9, b"ping")
    assert told == [6]


def test_aSmallLimit() -> None:
    """A message over the limit is refused by its header, before it has come, however short it is."""
    peer = AcceptedPeer(AutobahnEngine, 10)
    peer.receive(makeFrame(b"x" * 100)[:-1])
    assert peer.closeCode() == 1009


def test_severalSettings() -> None:
    """What is set on all WebSockets of one server isn't on those of another."""
    small, large = AcceptedPeer(AutobahnEngine, 10), AcceptedPeer(AutobahnEngine, 1000)
    for peer in (small, large):
        peer.receive(makeFrame(b"x" * 50, isFinal=False))
    assert (small.closeCode(), large.closeCode()) == (1009, None)


@pytest.mark.parametrize("isNative", [True, False])
def test_withAndWithoutNativeCode(isNative: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long messages are read all the same if Autobahn has no native code."""
    if not isNative:
        monkeypatch.setattr(NativeReader, "unmaskLong", staticmethod(unmask))
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    for size in (INTEGER_UNMASKED, INTEGER_UNMASKED + 1, 1000, 65_537):
        peer.receive(makeFrame(bytes(range(256)) * (size // 256 + 1)))
    assert [packet.data for packet in peer.owner.packets] == [
        bytes(range(256)) * (size // 256 + 1) for size in (INTEGER_UNMASKED, INTEGER_UNMASKED + 1, 1000, 65_537)
    ]


def test_nativeCodeIsTriedOut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code that does something else, or fails, isn't used."""
    assert engine_autobahn._choose() in (unmask, engine_autobahn._unmaskNatively)
    for broken in (lambda mask, payload: payload, lambda mask, payload: 1 / 0):
        monkeypatch.setattr(engine_autobahn, "_unmaskNatively", broken)
        assert engine_autobahn._choose() is unmask


def test_aHandlerThatClosesInTheMiddle() -> None:
    """What comes behind it is not delivered, and the client's close frame is still understood."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    take = peer.owner.transportPacket

    def closing(transport: Any, packet: Packet) -> bool:
        transport.close(LEFT)
        return take(transport, packet)

    peer.owner.transportPacket = closing  # type: ignore[method-assign]
    peer.receive(makeFrame("4first") + makeFrame("4second") + makeFrame(b"\x03\xe8", 8))
    assert [packet.data for packet in peer.owner.packets] == ["first"]
    assert peer.connection.value() == b"\x88\x02\x03\xe8"
    assert peer.connection.disconnecting
    assert peer.isOver()


@pytest.mark.parametrize(
    ("behind", "isClosed"),
    [
        (makeFrame("4x") + makeFrame(b"p", 9), False),
        (makeFrame(b"\xff", 1), False),
        (makeFrame(b"x" * (LIMIT + 1)), False),
        (makeFrame("4x", 3), True),
        (makeFrame("4x", isMasked=False), True),
        (makeFrame(b"\x03\xe8", 8), True),
        (makeFrame(b"\0\0", 8), True),
    ],
)
@pytest.mark.parametrize("how", ["wrong", "closed"])
def test_behindOurCloseFrame(how: str, behind: bytes, isClosed: bool) -> None:
    """Nothing is said any more; the client's close frame ends the connection, and so does one that is wrong again."""
    peer = AcceptedPeer(AutobahnEngine, LIMIT)
    if how == "wrong":
        peer.receive(makeFrame("4x", reserved=1))
    else:
        peer.transport.close(LEFT)
    sent = peer.connection.value()
    assert peer.closeCode() == (1002 if how == "wrong" else 1000)
    assert not peer.connection.disconnecting
    peer.receive(behind)
    assert peer.connection.value() == sent
    assert (peer.connection.disconnecting, peer.owner.packets) == (isClosed, [])
    assert len(peer.owner.closes) == (how == "wrong")
    peer.clock.advance(CLOSE_TIMEOUT)
    assert peer.connection.aborted
    assert peer.isOver()


# The handshake


def configured(configure: Callable[[Any], object]) -> Any:
    """An engine of an application that sets something."""

    class Configured(AutobahnEngine):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            configure(self)

    return Configured


def test_theAnswerIsAutobahns() -> None:
    """The 101 begins as Autobahn writes it, with what its factory was told to say."""
    plain = AcceptedPeer(AutobahnEngine, headers={"X-Own": ["a", "b"]}).answer.split(b"\r\n")
    assert plain == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: WebSocket",
        b"Connection: Upgrade",
        b"X-Own: a",
        b"X-Own: b",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]
    engine = configured(lambda it: it.setSessionParameters(server="mine", headers={"X-Frame": "DENY"}))
    lines = AcceptedPeer(engine).answer.split(b"\r\n")
    assert lines[1:5] == [b"Server: mine", *plain[1:3], b"X-Frame: DENY"]


# Options of Autobahn's

DIFFERENT = {
    "versions": [13],
    "webStatus": True,
    "utf8validateIncoming": False,
    "maskServerFrames": True,
    "requireMaskedClientFrames": False,
    "applyMask": False,
    "maxFramePayloadSize": 5,
    "maxMessagePayloadSize": 5,
    "autoFragmentSize": 5,
    "failByDrop": True,
    "echoCloseCodeReason": True,
    "openHandshakeTimeout": 5,
    "closeHandshakeTimeout": 5,
    "tcpNoDelay": False,
    "perMessageCompressionAccept": lambda _: None,
    "autoPingInterval": 5,
    "autoPingTimeout": 5,
    "autoPingSize": 20,
    "autoPingRestartOnAnyTraffic": False,
    "serveFlashSocketPolicy": True,
    "flashSocketPolicy": "none",
    "allowedOrigins": ["https://a.example"],
    "allowNullOrigin": True,
    "maxConnections": 5,
    "trustXForwardedFor": 1,
    "logOctets": True,
    "logFrames": True,
    "trackTimings": True,
}
"""Another value for each option than the engine's own."""


def test_everyOption() -> None:
    """Every option of Autobahn's is tried here but the one that follows from another."""
    assert {*DIFFERENT, "allowedOriginsPatterns"} == set(engine_autobahn.WebSocketServerProtocol.CONFIG_ATTRS)


@pytest.mark.parametrize("name", sorted(set(DIFFERENT) - HONOURED))
def test_optionsThatAreRefused(name: str) -> None:
    """An option that would change nothing is refused by its name, when it is set or before the first WebSocket."""
    engine = configured(lambda it: setattr(it, name, DIFFERENT[name]))
    with pytest.raises(OptionError, match=f"^{name}="):
        AcceptedPeer(engine)
    if name not in ("logOctets", "logFrames", "trackTimings"):
        with pytest.raises(OptionError, match=f"^{name}="):
            AcceptedPeer(configured(lambda it: it.setProtocolOptions(**{name: DIFFERENT[name]})))


def test_whatIsSaidOfThem() -> None:
    """The option of a server that is for the same is named."""
    with pytest.raises(OptionError) as raised:
        AcceptedPeer(configured(lambda it: it.setProtocolOptions(autoPingInterval=5)))
    assert str(raised.value) == (
        "autoPingInterval=5: AutobahnEngine doesn't support this option of Autobahn; set the server's pingInterval"
    )


def test_optionsThatAreTheSame() -> None:
    """To set what an engine has anyway is no error."""
    peer = AcceptedPeer(configured(lambda it: it.setProtocolOptions(webStatus=False, versions=[8, 13])))
    peer.receive(makeFrame("4x"))
    assert [each.data for each in peer.owner.packets] == ["x"]


def test_failByDrop() -> None:
    """A client that breaks the protocol gets no close frame."""
    peer = AcceptedPeer(configured(lambda it: it.setProtocolOptions(failByDrop=True)))
    peer.receive(makeFrame("4x") + makeFrame("4y", reserved=1) + makeFrame("4z"))
    assert [each.data for each in peer.owner.packets] == ["x"]
    assert peer.owner.closes == [("transport error", "close frame with code 1002: RSV = 1 and no extension negotiated")]
    assert (peer.connection.value(), peer.connection.disconnecting) == (b"", True)
    assert peer.isOver()


def test_echoCloseCodeReason() -> None:
    """The reply to a close frame has the client's words too."""
    peer = AcceptedPeer(configured(lambda it: it.setProtocolOptions(echoCloseCodeReason=True)))
    peer.receive(makeFrame(b"\x03\xe9bye", 8))
    assert peer.connection.value() == b"\x88\x05\x03\xe9bye"
    assert peer.isOver()
