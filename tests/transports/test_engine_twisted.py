"""What Twisted's WebSocket lacks and its engine adds: the size of messages, and an orderly end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ..kit.engines import TwistedEngine, needsTwistedEngine
from ..kit.fakes import FORCED
from ..kit.peers import AcceptedPeer
from ..kit.wire import makeFrame

pytestmark = needsTwistedEngine

TOO_LARGE = b"\x88\x37\x03\xf1a message is larger than maxHttpBufferSize, 100 bytes"


def peerOf(limit: int = 100) -> AcceptedPeer:
    return AcceptedPeer(TwistedEngine, limit)


STREAMS: list[tuple[list[bytes], int | None]] = [
    ([makeFrame(b"x" * 100)], None),
    ([makeFrame(b"x" * 101)], 0),
    ([makeFrame(b"x" * 100), makeFrame(b"x" * 100), makeFrame(b"x" * 101)], 2),
    ([makeFrame(b"x" * 50, isFinal=False), makeFrame(b"x" * 50, 0)], None),
    ([makeFrame(b"x" * 50, isFinal=False), makeFrame(b"x" * 51, 0)], 1),
    ([makeFrame(b"x" * 50, isFinal=False), makeFrame(b"p" * 125, 9), makeFrame(b"x" * 50, 0)], None),
    ([makeFrame(b"x" * 126)], 0),
    ([makeFrame(b"x" * 70_000), makeFrame(b"x" * 101)], 0),
    ([makeFrame(b"", isFinal=False), *[makeFrame(b"x", 0, isFinal=False)] * 101], 101),
]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 5000)))
def test_sizesAreCountedByFrames(stream: tuple[list[bytes], int | None], cuts: list[int]) -> None:
    """However the bytes come, the frame is found with which a message is over the limit."""
    frames, tooLargeAt = stream
    data = b"".join(frames)
    expected = None if tooLargeAt is None else len(b"".join(frames[:tooLargeAt]))
    from engineio_twisted.transports.engine_twisted import MessageSizes

    sizes = MessageSizes(100)
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    found = None
    for start, end in pairwise(places):
        position = 0
        while position < end - start:
            frame, position = position, sizes.countFrame(data[start:end], position)
            if sizes.isTooLarge and found is None:
                found = (start, start + frame)
    if expected is None:
        assert found is None
    else:
        # A header that is cut is known with its last byte: what of it came before is passed on and does no harm.
        assert found is not None
        assert found[1] == expected or (found[1] == found[0] and expected < found[0] < expected + 10)
    assert not sizes.closeCame


def test_whatComesBeforeIsDelivered() -> None:
    """Of what comes at once, everything before the message that is too large."""
    peer = peerOf()
    peer.receive(makeFrame(b"4first") + makeFrame(b"y" * 101) + makeFrame(b"4late"))
    assert [packet.data for packet in peer.owner.packets] == [b"4first"]
    assert [reason for reason, _ in peer.owner.closes] == ["transport error"]
    assert peer.connection.value() == TOO_LARGE
    assert not peer.connection.disconnecting, "the client could not read why"
    peer.receive(makeFrame(b"4later"))
    peer.receive(makeFrame(b"\x03\xf1", 8))
    assert peer.connection.disconnecting
    assert len(peer.owner.packets) == 1
    assert peer.isOver()


def test_aMessageThatIsTooLargeBehindTheCloseFrame() -> None:
    """Nothing comes after a close frame."""
    peer = peerOf()
    peer.receive(makeFrame(b"\x03\xe8", 8) + makeFrame(b"y" * 101))
    assert [reason for reason, _ in peer.owner.closes] == ["transport close"]
    assert peer.connection.value() == b"\x88\x02\x03\xe8"
    peer.receive(b"anything")
    assert peer.isOver()


def test_aMessageThatIsTooLargeWhileClosing() -> None:
    """Isn't stored either, and changes nothing about the end."""
    peer = peerOf()
    peer.transport.close(FORCED)
    peer.receive(makeFrame(b"y" * 101))
    peer.receive(makeFrame(b"\x03\xe8", 8))
    assert peer.connection.value() == b"\x88\x02\x03\xe8"
    assert (peer.connection.disconnecting, peer.owner.closes) == (True, [])
    assert peer.isOver()


def test_aPingWhileClosing() -> None:
    """Isn't answered, and does no harm."""
    peer = peerOf()
    peer.transport.close(FORCED)
    peer.receive(makeFrame(b"there?", 9))
    peer.receive(makeFrame(b"\x03\xe8", 8))
    assert peer.connection.value() == b"\x88\x02\x03\xe8"
    assert peer.connection.disconnecting
    assert peer.isOver()


def test_pongsAreNoMessages() -> None:
    """A client may send one whenever it likes."""
    peer = peerOf()
    peer.receive(makeFrame(b"4", 10))
    assert (peer.owner.packets, peer.owner.closes, peer.connection.value()) == ([], [], b"")
    assert peer.isOver()
