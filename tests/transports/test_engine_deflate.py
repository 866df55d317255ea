"""Compressed WebSocket messages: what is agreed on, what is compressed, and what a message may inflate to."""

from __future__ import annotations

import zlib
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import OptionError
from engineio_twisted.protocol.handshake import WebSocketHandshake
from engineio_twisted.protocol.option_parts import PerMessageDeflate
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.transports.engine_autobahn import AutobahnEngine
from engineio_twisted.transports.engine_deflate import agreeOn

from ..kit.engines import TwistedEngine, needsTwistedEngine
from ..kit.peers import HANDSHAKE, AcceptedPeer
from ..kit.wire import framesOf, makeFrame

RSV1 = 4


def accept(offer: str | None, deflate: Any = True, limit: int = 100_000) -> AcceptedPeer:
    extensions = () if offer is None else (offer.encode("latin-1"),)
    handshake = WebSocketHandshake(HANDSHAKE.key, HANDSHAKE.version, None, extensions)
    return AcceptedPeer(AutobahnEngine, limit, handshake=handshake, perMessageDeflate=deflate)


def agreed(offer: str | None, deflate: Any = True) -> str | None:
    """What the 101 says about extensions."""
    lines = accept(offer, deflate).answer.decode().split("\r\n")
    found = [line.partition(": ")[2] for line in lines if line.lower().startswith("sec-websocket-extensions")]
    return found[0] if found else None


PLAIN = "permessage-deflate"
CLIENT_BITS = f"{PLAIN}; client_max_window_bits"


@pytest.mark.parametrize(
    ("offer", "deflate", "answer"),
    [
        (None, True, None),
        (PLAIN, False, None),
        (PLAIN, True, PLAIN),
        (f"{PLAIN}; client_max_window_bits", True, PLAIN),
        (f"{PLAIN};client_max_window_bits=12", True, PLAIN),
        (f'{PLAIN}; client_max_window_bits="12"', True, PLAIN),
        (f"{PLAIN}; server_no_context_takeover", True, f"{PLAIN}; server_no_context_takeover"),
        (f"{PLAIN}; server_max_window_bits=10", True, f"{PLAIN}; server_max_window_bits=10"),
        (PLAIN, {"clientNoContextTakeover": True}, f"{PLAIN}; client_no_context_takeover"),
        (PLAIN, {"serverNoContextTakeover": True}, f"{PLAIN}; server_no_context_takeover"),
        (PLAIN, {"serverMaxWindowBits": 10}, f"{PLAIN}; server_max_window_bits=10"),
        (f"{PLAIN}; server_max_window_bits=12", {"serverMaxWindowBits": 10}, f"{PLAIN}; server_max_window_bits=10"),
        (f"{PLAIN}; server_max_window_bits=10", {"serverMaxWindowBits": 12}, f"{PLAIN}; server_max_window_bits=10"),
        (f"{PLAIN}; client_max_window_bits", {"clientMaxWindowBits": 10}, f"{PLAIN}; client_max_window_bits=10"),
        # Never more than the client itself offers, which it would refuse (RFC 7692, 7.1.2.2).
        (f"{CLIENT_BITS}=10", {"clientMaxWindowBits": 12}, f"{CLIENT_BITS}=10"),
        (f"{CLIENT_BITS}=12", {"clientMaxWindowBits": 10}, f"{CLIENT_BITS}=10"),
        (f"{CLIENT_BITS}=10", True, PLAIN),
        # It can't be told to use a smaller window.
        (PLAIN, {"clientMaxWindowBits": 10}, None),
        (
            f"{PLAIN}, {PLAIN}; client_max_window_bits",
            {"clientMaxWindowBits": 10},
            f"{PLAIN}; client_max_window_bits=10",
        ),
        # Offers that can't be accepted are declined, and the next one counts (RFC 7692, 5.1).
        (f"{PLAIN}; server_max_window_bits=8", True, None),
        (f"{PLAIN}; server_max_window_bits=x", True, None),
        (f"{PLAIN}; client_max_window_bits=99", True, None),
        (f"{PLAIN}; surprise", True, None),
        (f"{PLAIN}; server_no_context_takeover=1", True, None),
        (f"{PLAIN}; server_no_context_takeover; server_no_context_takeover", True, None),
        (f"{PLAIN}; surprise, {PLAIN}; server_max_window_bits=9", True, f"{PLAIN}; server_max_window_bits=9"),
        ("permessage-bzip2, permessage-snappy", True, None),
        ("x-webkit-deflate-frame", True, None),
        (",,;;==,", True, None),
        ("\xff\xfe; \x00", True, None),
    ],
)
def test_whatIsAgreedOn(offer: str | None, deflate: Any, answer: str | None) -> None:
    """The first acceptable offer, with the limits of both sides; without one the connection isn't compressed."""
    assert agreed(offer, deflate) == answer


@example([b"permessage-deflate"])
@given(st.lists(st.binary(), max_size=3))
def test_anyOffer(extensions: list[bytes]) -> None:
    """No header makes the choice fail. One of these may be an offer: then what is agreed on can be answered."""
    found = agreeOn(extensions, PerMessageDeflate())
    assert found is None or found.get_extension_string().startswith(PLAIN)


@given(st.lists(st.binary(max_size=5), max_size=2), st.lists(st.binary(max_size=5), max_size=2))
def test_anyHeaderWithAnOffer(before: list[bytes], behind: list[bytes]) -> None:
    """An offer between anything else is found, and nothing else is taken for a part of it."""
    found = agreeOn([*before, b"x", PLAIN.encode(), *behind], PerMessageDeflate())
    assert found is not None
    assert found.get_extension_string() == PLAIN


PARAMETERS = ["client_max_window_bits", "=10", "=8", "server_max_window_bits", ";", ",", '"', "=", " ", PLAIN]


@given(st.lists(st.sampled_from(PARAMETERS)).map("".join))
def test_nearlyRightOffers(extensions: str) -> None:
    """Whatever is accepted can be answered."""
    assert agreed(PLAIN + extensions) in (None, PLAIN, f"{PLAIN}; server_max_window_bits=10")


def frames(peer: AcceptedPeer) -> list[tuple[bool, bytes]]:
    """The frames sent: whether each is compressed, and its payload."""
    return [(bool(each.reserved & 4), each.payload) for each in framesOf(peer.connection.value())]


def inflate(payload: bytes, inflator: Any = None) -> bytes:
    data: bytes = (inflator or zlib.decompressobj(-15)).decompress(payload + b"\x00\x00\xff\xff")
    return data


def message(data: str | bytes, compress: bool = True) -> Packet:
    return Packet(PacketType.MESSAGE, data, compress)


def test_whatIsCompressed() -> None:
    """Messages from the threshold on, unless they aren't to be."""
    peer = accept(PLAIN)
    peer.transport.send(
        [message("x" * 1022), message("y" * 1023), message(b"z" * 1024), message("y" * 2000, compress=False)]
    )
    sent = frames(peer)
    assert [each for each, _ in sent] == [False, True, True, False]
    inflator = zlib.decompressobj(-15)
    assert inflate(sent[1][1], inflator) == b"4" + b"y" * 1023
    assert inflate(sent[2][1], inflator) == b"z" * 1024
    assert len(sent[1][1]) < 50


def test_threshold() -> None:
    """Of zero compresses everything."""
    peer = accept(PLAIN, {"threshold": 0})
    peer.transport.send([message("a"), Packet(PacketType.PING)])
    assert [each for each, _ in frames(peer)] == [True, True]


@pytest.mark.parametrize(
    ("offer", "deflate", "isAlike"),
    [
        (PLAIN, {"threshold": 0}, False),
        (PLAIN, {"threshold": 0, "serverNoContextTakeover": True}, True),
        (f"{PLAIN}; server_no_context_takeover", {"threshold": 0}, True),
    ],
)
def test_contextTakeover(offer: str, deflate: Any, isAlike: bool) -> None:
    """Without it each message is compressed by itself; with it the next refers to the one before."""
    peer = accept(offer, deflate)
    peer.transport.send([message("Some text to be repeated")] * 2)
    first, second = (payload for _, payload in frames(peer))
    assert (first == second) is isAlike
    assert len(second) <= len(first)


def test_aClientThatDoesNotCompress() -> None:
    """Gets and sends messages as they are."""
    peer = accept(None)
    peer.transport.send([message("x" * 5000)])
    assert [each for each, _ in frames(peer)] == [False]
    peer.send(1, b"4plain")
    assert [packet.data for packet in peer.owner.packets] == ["plain"]


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_receiving() -> None:
    """Compressed and not, whole and in pieces."""
    peer = accept(PLAIN)
    whole = deflate(b"4" + b"a" * 5000)
    peer.receive(makeFrame(whole, 1, reserved=RSV1))
    peer.send(1, b"4plain")
    peer.receive(makeFrame(whole[:5], 1, isFinal=False, reserved=RSV1) + makeFrame(whole[5:], 0))
    assert [packet.data for packet in peer.owner.packets] == ["a" * 5000, "plain", "a" * 5000]
    assert peer.owner.closes == []


def bombs() -> dict[str, tuple[bytes, int]]:
    large = deflate(b"4" + b"a" * 50_000_000)
    twice = deflate(b"4" + b"a" * 60_000)
    again = deflate(b"a" * 60_000)
    return {
        "one frame": (makeFrame(large, 1, reserved=RSV1), 1009),
        "cut in two": (makeFrame(large[:100], 1, isFinal=False, reserved=RSV1) + makeFrame(large[100:], 0), 1009),
        "two that are large together": (
            makeFrame(twice + b"\x00\x00\xff\xff", 1, isFinal=False, reserved=RSV1) + makeFrame(again, 0),
            1009,
        ),
        "not deflated": (makeFrame(b"\xff" * 100, 1, reserved=RSV1), 1007),
        "not UTF-8": (makeFrame(deflate(b"4\xff"), 1, reserved=RSV1), 1007),
        "a control frame": (makeFrame(deflate(b"x"), 9, reserved=RSV1), 1002),
        "a continuation": (
            makeFrame(deflate(b"4x"), 1, isFinal=False, reserved=RSV1) + makeFrame(b"", 0, reserved=RSV1),
            1002,
        ),
    }


@pytest.mark.parametrize("what", bombs())
def test_bombs(what: str) -> None:
    """No message inflates to more than maxHttpBufferSize; what is broken closes with the right code."""
    data, code = bombs()[what]
    peer = accept(PLAIN)
    peer.receive(data)
    assert [reason for reason, _ in peer.owner.closes] == ["transport error"]
    assert (peer.closeCode(), peer.owner.packets) == (code, [])
    assert ("maxHttpBufferSize" in peer.owner.closes[0][1]) is (code == 1009)
    assert peer.isOver()


def test_compressedWithoutAgreement() -> None:
    """Breaks the protocol."""
    peer = accept(None)
    peer.receive(makeFrame(deflate(b"4a"), 1, reserved=RSV1))
    assert peer.closeCode() == 1002


@needsTwistedEngine
def test_twistedCanNotCompress() -> None:
    """Asking for both is an error, and says which."""
    with pytest.raises(OptionError, match="wsEngine TwistedEngine can't compress"):
        ServerOptions(wsEngine=TwistedEngine, perMessageDeflate=True)


@pytest.mark.parametrize("over", [1, 2, 100, 257, 258, 259, 1000])
@pytest.mark.parametrize("size", [1000, 100_000])
def test_justOverTheLimit(size: int, over: int) -> None:
    """A message that inflates to a little more than the limit is refused, not cut: zlib may hold the rest back."""
    peer = accept(PLAIN, limit=size)
    peer.receive(makeFrame(deflate(b"4" * size), 1, reserved=RSV1))
    assert [packet.data for packet in peer.owner.packets] == ["4" * (size - 1)]
    peer.receive(makeFrame(deflate(b"4" * (size + over)), 1, reserved=RSV1))
    assert len(peer.owner.packets) == 1
    assert peer.closeCode() == 1009


@pytest.mark.parametrize(("size", "isTaken"), [(999, True), (1000, False)])
def test_aMessageThatDeflateMakesLarger(size: int, isTaken: bool) -> None:
    """A frame has to be within the limit as it comes too, as with the reference; the same message uncompressed is."""
    content = Random(7).randbytes(size)
    deflated = deflate(content)
    assert len(deflated) == size + 6
    peer = accept(PLAIN, limit=1005)
    peer.receive(makeFrame(content, 2))
    peer.receive(makeFrame(deflated, 2, reserved=RSV1))
    assert [packet.data for packet in peer.owner.packets] == [content] * (1 + isTaken)
    assert peer.closeCode() == (None if isTaken else 1009)
