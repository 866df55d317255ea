"""Work in turns: what a client sent at once is read in turns of the reactor, and not at all while it is held back."""

from __future__ import annotations

import gc
import itertools
import re
import string
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from engineio_twisted import AutobahnEngine, FastSite, Packet, PacketType, Site
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.handshake import WebSocketHandshake
from engineio_twisted.protocol.payload import SEPARATOR
from engineio_twisted.transports.engine_deflate import Deflate
from engineio_twisted.turns import inLaterTurn

from .kit.engines import ENGINES
from .kit.frames import FRAMES, LIMIT, WRONG
from .kit.memory import Memory
from .kit.peers import AcceptedPeer
from .kit.polling import inRevision4
from .kit.turns import STEP, Takes, texts, turn
from .kit.wire import CLOSE, CONTINUATION, PING, TEXT, makeFrame, target, upgrade

# The queue


class Works:
    """Pieces of work that take their time by a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.done: list[str] = []

    def add(self, name: str, seconds: float, pieces: int = 1) -> None:
        inLaterTurn(self.clock, partial(self._work, name, seconds, pieces))

    def _work(self, name: str, seconds: float, pieces: int, ends: float) -> None:
        self.done.append(name)
        self.clock.rightNow += seconds
        if pieces > 1:
            self.add(name, seconds, pieces - 1)

    def turn(self) -> str:
        """Return what is done in a turn of the reactor."""
        self.done.clear()
        turn(self.clock)
        return "".join(self.done)


def test_oneTurn() -> None:
    """Nothing is done at once, and what takes little time is all done in the next turn, in order."""
    works = Works()
    for name in "abc":
        works.add(name, 0.001)
    assert works.done == []
    assert works.turn() == "abc"
    assert works.clock.getDelayedCalls() == []


def test_theTimeIsShared() -> None:
    """However many wait, a turn takes no longer; each gets a piece before one gets another."""
    works = Works()
    for name in "abcde":
        works.add(name, STEP / 2, pieces=2)
    assert [works.turn() for _ in range(6)] == ["ab", "cd", "ea", "bc", "de", ""]


def test_workThatComesMeanwhile() -> None:
    """Is done in the next turn, even if there is time."""
    works = Works()
    works.add("a", 0, pieces=3)
    assert [works.turn() for _ in range(4)] == ["a", "a", "a", ""]


@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_workThatFails(raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """Whatever is raised is logged, and what waits behind it is done."""
    works = Works()

    def fail(_: float) -> None:
        raise raised

    inLaterTurn(works.clock, fail)
    works.add("a", 0)
    assert works.turn() == "a"
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_severalReactors() -> None:
    """Each has a queue of its own."""
    one, other = Works(), Works()
    one.add("a", 0)
    other.add("b", 0)
    assert (one.turn(), one.turn(), other.turn()) == ("a", "", "b")


# WebSocket


class Peer(Takes, AcceptedPeer):
    """A client on a WebSocket."""

    def __init__(self, engine: Any, limit: int = LIMIT, **options: Any) -> None:
        super().__init__(engine, limit, **options)
        self.begin()

    @property
    def isReading(self) -> bool:
        return self.connection.producerState == "producing"

    def resume(self) -> None:
        self.transport.resumeReceiving()
        turn(self.clock)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


def frames(count: int) -> bytes:
    return b"".join([makeFrame("4" + each) for each in texts(count)])


def test_oneMessage(engine: Any) -> None:
    """However long it takes, nothing waits behind it."""
    peer = Peer(engine)
    peer.seconds = 1
    peer.receive(makeFrame("4a"))
    peer.receive(makeFrame("4b"))
    assert (peer.data, peer.isReading, peer.turns()) == (["a", "b"], True, [2])
    assert peer.isOver()


@pytest.mark.parametrize(("seconds", "each"), [(STEP, 1), (STEP / 2, 2), (STEP / 2.5, 3), (0, 20)])
def test_manyMessages(engine: Any, seconds: float, each: int) -> None:
    """They are taken in turns, in order, while nothing more is read; then reading goes on."""
    peer = Peer(engine)
    peer.seconds = seconds
    peer.receive(frames(20))
    assert len(peer.data) == each
    assert (peer.isReading, peer.transport.isDelivering) == (each == 20, each < 20)
    assert peer.transport.heldBytes == len(frames(20)) - len(frames(each))
    assert [after - before for before, after in itertools.pairwise(peer.turns())] == [
        min(each, 20 - done) for done in range(each, 20, each)
    ]
    assert (peer.data, peer.isReading, peer.transport.heldBytes) == (texts(20), True, 0)
    assert (peer.owner.deliveries, peer.owner.closes) == (int(each < 20), [])
    assert peer.isOver()


@pytest.mark.parametrize("size", [10, 200, 70_000])
def test_messagesOfEverySize(engine: Any, size: int) -> None:
    """Whichever way a message is read."""
    peer = Peer(engine, 100_000)
    peer.seconds = STEP
    sent = [each.ljust(size) for each in texts(5)]
    peer.receive(b"".join([makeFrame("4" + each) for each in sent]))
    assert peer.turns() == [1, 2, 3, 4, 5]
    assert peer.data == sent
    assert peer.isOver()


def test_piecesAndControlFrames(engine: Any) -> None:
    """What is in pieces, and what is between them, is in order."""
    peer = Peer(engine)
    peer.seconds = STEP
    piece = makeFrame("4a", isFinal=False) + makeFrame(b"!", PING) + makeFrame("b", CONTINUATION)
    peer.receive(piece * 3 + makeFrame("4c")[:-1])
    assert peer.turns()[:3] == [1, 2, 3]
    assert peer.connection.value() == b"\x8a\x01!" * 3
    assert 0 < peer.transport.heldBytes < 10, "the beginning of a message that isn't complete"
    peer.receive(makeFrame("4c")[-1:])
    assert (peer.data, peer.transport.heldBytes) == (["ab"] * 3 + ["c"], 0)
    assert peer.isOver()


def test_whatComesMeanwhile(engine: Any) -> None:
    """A connection over TLS gives what it has decrypted all the same: that comes behind."""
    peer = Peer(engine)
    peer.seconds = STEP
    peer.receive(frames(2))
    peer.receive(makeFrame("4more"))
    assert peer.data == ["0"]
    assert peer.turns() == [1, 2, 3]
    assert peer.data == ["0", "1", "more"]
    assert peer.isOver()


def test_theRestOfTwo(engine: Any) -> None:
    """Two clients share a turn: everybody else waits no longer because there are two."""
    one = Peer(engine)
    other = Peer(engine)
    # On one reactor.
    other.clock = one.clock
    other.engine.clock = one.clock
    other.transport.webSocket._clock = one.clock
    for peer in (one, other):
        peer.seconds = STEP
        peer.receive(frames(3))
    counts = []
    while one.clock.getDelayedCalls():
        turn(one.clock)
        counts.append((len(one.data), len(other.data)))
    assert counts == [(2, 1), (2, 2), (3, 2), (3, 3)]
    assert one.isOver()
    assert other.isOver()


def test_aConnectionThatIsLost(engine: Any) -> None:
    """What came before is delivered before that is told, and nobody can be sent anything meanwhile."""
    peer = Peer(engine)
    peer.seconds = STEP
    peer.receive(frames(3))
    peer.lose()
    assert (peer.owner.closes, peer.transport.writable) == ([], False)
    assert len(peer.engine.connections) == 0
    assert peer.turns() == [1, 2, 3]
    assert peer.data == texts(3)
    assert [reason for reason, _ in peer.owner.closes] == ["transport close"]
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize("isLost", [False, True])
def test_closingOneInTheMiddle(engine: Any, isLost: bool) -> None:
    """Nothing more is delivered, and the close frame of the client is still understood."""
    peer = Peer(engine)
    peer.seconds = STEP
    peer.receive(frames(3) + makeFrame(b"\x03\xe8", CLOSE))
    if isLost:
        peer.lose()
    peer.transport.close(Closing(CloseReason.FORCED_CLOSE))
    turn(peer.clock)
    turn(peer.clock)
    assert (peer.data, peer.owner.closes) == (["0"], [])
    if not isLost:
        assert peer.connection.value() == b"\x88\x02\x03\xe8"
        assert peer.connection.disconnecting
        peer.lose()
    assert peer.clock.getDelayedCalls() == []
    assert len(peer.engine.connections) == 0


@pytest.mark.parametrize(
    ("behind", "reason", "code"),
    [
        (makeFrame(b"\x03\xe8", CLOSE), "transport close", 1000),
        (makeFrame("4a", isMasked=False), "transport error", 1002),
        (makeFrame("4\xff".encode("latin-1"), 1), "transport error", 1007),
        (makeFrame(b"x" * (LIMIT + 1)), "transport error", 1009),
        (makeFrame("1"), "transport close", 1000),
        (makeFrame("9"), "parse error", 1000),
    ],
    ids=["close frame", "not masked", "not UTF-8", "too large", "close packet", "no packet"],
)
@pytest.mark.parametrize("how", ["turns", "paused"])
def test_anEndBehind(engine: Any, behind: bytes, reason: str, code: int, how: str) -> None:
    """It comes when it is its turn."""
    peer = Peer(engine)
    peer.seconds, peer.pauses = STEP, how == "paused"
    peer.receive(frames(3) + behind + makeFrame("4never"))
    for count in (1, 2, 3):
        assert (peer.data, peer.owner.closes) == (texts(count), [])
        peer.resume()
    assert peer.data == texts(3)
    assert [each for each, _ in peer.owner.closes] == [reason]
    assert peer.closeCode() == code
    assert peer.isOver()


def test_pausingInAHandler(engine: Any) -> None:
    """No other message is delivered, the rest is kept as it came, and nothing is read, until receiving goes on."""
    peer = Peer(engine)
    peer.pauses = True
    peer.receive(frames(20))
    for count in range(1, 21):
        assert (peer.data, peer.isReading) == (texts(count), False)
        assert peer.transport.heldBytes == len(frames(20)) - len(frames(count))
        assert peer.clock.getDelayedCalls() == []
        peer.pauses = count < 19
        peer.resume()
        if count == 19:
            break
    assert (peer.data, peer.isReading, peer.transport.heldBytes) == (texts(20), True, 0)
    assert peer.isOver()


def test_pausingWhileOthersHaveTheirTurn(engine: Any) -> None:
    """Stops what would have gone on; what comes meanwhile is kept behind it."""
    peer = Peer(engine)
    peer.seconds = STEP
    peer.receive(frames(2))
    peer.transport.pauseReceiving()
    peer.receive(makeFrame("4more"))
    assert peer.turns() == [1, 1]
    peer.transport.resumeReceiving()
    assert peer.data == ["0"]
    assert peer.turns() == [1, 2, 3]
    assert (peer.data, peer.isReading) == (["0", "1", "more"], True)
    assert peer.isOver()


def test_pausingAndResumingInAHandler(engine: Any) -> None:
    """Changes nothing."""
    peer = Peer(engine)
    take = peer.owner.transportPacket

    def both(transport: Any, packet: Packet) -> bool:
        transport.pauseReceiving()
        transport.resumeReceiving()
        return take(transport, packet)

    peer.owner.transportPacket = both  # type: ignore[method-assign]
    peer.receive(frames(5))
    assert (peer.data, peer.isReading) == (texts(5), True)
    assert peer.clock.getDelayedCalls() == []
    assert peer.isOver()


@pytest.mark.parametrize("isPausedAgain", [False, True])
def test_oneThatIsLostWhilePaused(engine: Any, isPausedAgain: bool) -> None:
    """What came before is delivered when receiving goes on, and then the end."""
    peer = Peer(engine)
    peer.pauses = True
    peer.receive(frames(3))
    peer.lose()
    assert (peer.data, peer.owner.closes) == (["0"], [])
    peer.pauses = isPausedAgain
    for _ in range(1 + isPausedAgain):
        peer.resume()
    assert peer.data == texts(3)
    assert [reason for reason, _ in peer.owner.closes] == ["transport close"]
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, GeneratorExit])
def test_aReaderThatFails(engine: Any, raised: type[BaseException], loggedErrors: list[Any]) -> None:
    """As with what is read at once: it is logged, and the connection is cut."""
    peer = Peer(engine)
    peer.seconds = STEP
    peer.receive(frames(3))

    def fail(*_: Any) -> None:
        raise raised

    peer.transport.received = fail  # type: ignore[method-assign]
    turn(peer.clock)
    assert (peer.connection.aborted, peer.transport.isDelivering, len(loggedErrors)) == (True, False, 1)
    loggedErrors.clear()
    assert peer.isOver()


def outcome(engine: Any, data: bytes, cuts: list[int], pauses: list[bool], seconds: float) -> Any:
    """What comes of bytes, if the application takes its time, and pauses with some of the messages."""
    peer = Peer(engine)
    peer.seconds = seconds
    take = peer.owner.transportPacket
    remaining = iter(pauses)

    def pausing(transport: Any, packet: Packet) -> bool:
        if next(remaining, False):
            transport.pauseReceiving()
            peer.clock.callLater(0, transport.resumeReceiving)
        return take(transport, packet)

    peer.owner.transportPacket = pausing  # type: ignore[method-assign]
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    for start, end in itertools.pairwise(places):
        # As much as is read of a connection, when that is.
        while not peer.isReading and peer.clock.getDelayedCalls() and not peer.connection.disconnecting:
            turn(peer.clock)
            if peer.owner.closes:
                break
        peer.receive(data[start:end])
    while peer.clock.getDelayedCalls() and peer.clock.getDelayedCalls()[0].getTime() <= peer.clock.seconds():
        turn(peer.clock)
    return peer.owner.packets, peer.owner.closes, peer.connection.value(), peer.connection.disconnecting


@settings(deadline=None)
@given(
    st.sampled_from(ENGINES),
    st.lists(st.sampled_from(FRAMES), max_size=8),
    st.lists(st.one_of(st.sampled_from(FRAMES + WRONG), st.binary(max_size=20)), max_size=3),
    st.lists(st.integers(0, 2**31), max_size=6),
    st.lists(st.booleans(), max_size=10),
    st.sampled_from([0, STEP / 3, STEP]),
)
def test_theSameComesOfIt(
    implementation: Any, right: list[bytes], perhaps: list[bytes], cuts: list[int], pauses: list[bool], seconds: float
) -> None:
    """Whatever it is, however often receiving is paused, and however long it takes."""
    data = b"".join(right + perhaps)
    assert outcome(implementation, data, cuts, pauses, seconds) == outcome(implementation, data, cuts, [], 0)


# Compressed messages

DEFLATING = [AutobahnEngine]


class DeflatingPeer(Peer):
    """A client whose messages may be compressed."""

    def __init__(self, engine: Any, limit: int) -> None:
        handshake = WebSocketHandshake(b"dGhlIHNhbXBsZSBub25jZQ==", b"13", extensions=(b"permessage-deflate",))
        super().__init__(engine, limit, handshake=handshake, perMessageDeflate=True)


def deflated(data: bytes) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packing.compress(data) + packing.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = deflated(b"4" + b"x" * 999_998)


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was inflated."""
    sizes: list[int] = []
    inflate = Deflate.decompress_message_data

    def counting(self: Any, data: bytes, max_output_len: int | None = None) -> bytes:
        inflated = inflate(self, data, max_output_len)
        sizes.append(len(inflated))
        return inflated

    monkeypatch.setattr(Deflate, "decompress_message_data", counting)
    return sizes


@pytest.mark.parametrize("engine", DEFLATING)
def test_inflatingStops(engine: Any, inflated: list[int]) -> None:
    """When receiving does: of 64 KB in which 65 messages of a megabyte came, the rest is kept as it came."""
    peer = DeflatingPeer(engine, 1_000_000)
    frame = makeFrame(BOMB, TEXT, reserved=4)
    assert len(frame) < 1010
    peer.pauses = True
    peer.receive(frame * 65)
    assert (len(peer.data), inflated) == (1, [999_999])
    assert peer.transport.heldBytes == len(frame) * 64
    peer.resume()
    assert (len(peer.data), len(inflated), peer.transport.heldBytes) == (2, 2, len(frame) * 63)
    peer.pauses = False
    peer.resume()
    assert (len(peer.data), peer.transport.heldBytes, peer.isReading) == (65, 0, True)
    assert {len(each) for each in peer.data} == {999_998}
    assert peer.isOver()


@pytest.mark.parametrize("engine", DEFLATING)
def test_inflatingInTurns(engine: Any, inflated: list[int]) -> None:
    """What takes long is inflated in turns."""
    peer = DeflatingPeer(engine, 1_000_000)
    peer.seconds = STEP / 2
    peer.receive(makeFrame(BOMB, TEXT, reserved=4) * 10)
    assert len(inflated) == 2
    assert peer.turns() == [2, 4, 6, 8, 10]
    assert peer.isOver()


@pytest.mark.parametrize("engine", DEFLATING)
@pytest.mark.parametrize("size", [1, 10, 100, 1000])
def test_anIncompleteMessage(engine: Any, size: int, inflated: list[int]) -> None:
    """Is kept as it came until it is complete, and no byte more, in however many frames and pieces it is."""
    peer = DeflatingPeer(engine, 1_000_000)
    parts = [BOMB[start : start + size] for start in range(0, len(BOMB), size)]
    for number, part in enumerate(parts):
        peer.receive(makeFrame(part, CONTINUATION if number else TEXT, reserved=0 if number else 4, isFinal=False))
        assert peer.transport.heldBytes == sum(map(len, parts[: number + 1]))
    last = makeFrame(b"", CONTINUATION)
    for start in range(len(last)):
        assert inflated == []
        peer.receive(last[start : start + 1])
    assert ([len(each) for each in peer.data], inflated, peer.transport.heldBytes) == ([999_998], [999_999], 0)
    assert peer.isOver()


@pytest.mark.parametrize("engine", DEFLATING)
def test_memory(engine: Any) -> None:
    """What is held takes as much memory as came, and little more; docs/options.md says what compression takes."""
    peer = DeflatingPeer(engine, 1_000_000)

    def taken(does: Callable[[], object]) -> int:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        does()
        peer.owner.packets.clear()
        peer.connection.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    words = Random(1).choices(string.ascii_letters, k=5000)
    tracemalloc.start()
    try:
        assert taken(lambda: peer.receive(makeFrame(deflated(b"4" + b"x" * 5000), TEXT, reserved=4))) < 64 * 1024
        answer = Packet(PacketType.MESSAGE, "".join(words))
        assert taken(lambda: peer.transport.send([answer])) < 288 * 1024
        assert taken(lambda: peer.receive(makeFrame(BOMB, TEXT, reserved=4, isFinal=False))) < 8 * 1024
        peer.receive(makeFrame(b"", CONTINUATION))
        peer.pauses = True
        assert taken(lambda: peer.receive(makeFrame(BOMB, TEXT, reserved=4) * 65)) < 72 * 1024
    finally:
        tracemalloc.stop()
    assert peer.isOver()


@pytest.mark.parametrize("engine", DEFLATING)
def test_moreAsItCameThanInflated(engine: Any) -> None:
    """The limit is for what a message inflates to: one in frames may be larger as it comes, if none of them is."""
    peer = DeflatingPeer(engine, 1000)
    nothing = b"\0\0\0\xff\xff" * 20
    peer.receive(makeFrame(deflated(b"4" + b"x" * 300) + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False))
    for _ in range(100):
        peer.receive(makeFrame(nothing, CONTINUATION, isFinal=False))
        # What came inflated, or as it was.
        assert peer.transport.heldBytes <= 2000
    peer.receive(makeFrame(b"\0", CONTINUATION))
    assert peer.data == ["x" * 300]
    peer.receive(makeFrame(deflated(b"4" + b"x" * 900) + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False))
    peer.receive(makeFrame(deflated(b"y" * 200), CONTINUATION))
    assert peer.closeCode() == 1009
    assert peer.isOver()


def test_uncompressedIncompleteMessages(engine: Any) -> None:
    """Count, whole frames and fragments alike."""
    peer = Peer(engine)
    frame = makeFrame("4" + "x" * 30_000)
    for start in range(0, 20_000, 1000):
        peer.receive(frame[start : start + 1000])
        assert abs(peer.transport.heldBytes - (start + 1000)) < 20
    peer.receive(frame[20_000:])
    assert peer.transport.heldBytes == 0
    peer.receive(makeFrame("4" + "x" * 9999, isFinal=False) + makeFrame("y" * 5000, CONTINUATION)[:-1])
    assert abs(peer.transport.heldBytes - 15_000) < 20
    peer.receive(makeFrame("y", CONTINUATION)[-1:])
    assert peer.transport.heldBytes == 0
    assert peer.isOver()


@pytest.mark.parametrize("piece", ["x" * 50_000 + "\U0001f600", "é" * 25_000, "\u4e16" * 15_000], ids=ascii)
@pytest.mark.parametrize("size", [1000, 60_000])
def test_memoryOfIncompleteText(piece: str, size: int) -> None:
    """One character that takes four bytes makes text four times as large: that is kept as it came."""
    peer = Peer(AutobahnEngine, 1_000_000)
    text = piece * 4
    frame = makeFrame("4" + text)
    peer.receive(makeFrame("4first"))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, len(frame) - 1, size):
        peer.receive(bytes(bytearray(frame[start : min(start + size, len(frame) - 1)])))
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before < 2 * len(frame)
    tracemalloc.stop()
    peer.receive(frame[-1:])
    assert peer.data == ["first", text]
    assert peer.isOver()


# Sessions


def opened(memory: Memory, protocol: int = 4) -> tuple[Any, Any, bytes]:
    """Open a session by polling; return its connection, the L{Socket} and the address."""
    connection = memory.connect(f"GET {target(EIO=str(protocol))} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    found = re.search(rb'"sid":"([^"]+)"', connection.taken())
    assert found is not None
    sid = found[1].decode()
    return connection, memory.server.clients[sid], target(sid=sid, EIO=str(protocol)).encode()


def postOf(where: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (where, len(body), body)


class Slow(Memory):
    """A server whose application takes a turn for each message."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.messages: list[Any] = []
        self.ends: list[Any] = []

    def _opened(self, socket: Any) -> None:
        socket.on("message", self._take)
        socket.on("close", lambda *args: self.ends.append(args))

    def _take(self, data: Any) -> None:
        self.clock.rightNow += STEP
        self.messages.append(data)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            turn(self.clock)
            self.settle()


def probe(memory: Memory, where: bytes) -> Any:
    """Try a WebSocket out, up to the last packet of the upgrade."""
    socket = memory.connect(upgrade(where.decode().replace("polling", "websocket")))
    socket.say(makeFrame("2probe"))
    assert socket.taken().endswith(b"3probe")
    return socket


def test_upgradingInTheMiddle() -> None:
    """What comes on the WebSocket is behind the POST, and isn't read before; what is sent goes there at once."""
    memory = Slow()
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    posts = memory.connect(postOf(where, b"4a\x1e4b\x1e4c"))
    assert memory.messages == ["a"]
    webSocket.say(makeFrame("5") + makeFrame("4d") + makeFrame("4e"))
    webSocket.say(makeFrame("4f"))
    assert (socket.upgraded, socket.transport.name, memory.messages) == (True, "websocket", ["a"])
    assert socket.heldBytes == 8 + len(makeFrame("4d") + makeFrame("4e"))
    assert memory.server.stats().heldBytes == socket.heldBytes
    socket.send("at once")
    assert webSocket.taken() == b"\x81\x084at once"
    memory.turn(3)
    assert posts.taken().endswith(b"ok")
    memory.turn(10)
    assert (memory.messages, socket.heldBytes, memory.ends) == (list("abcdef"), 0, [])
    socket.close(discard=True)
    memory.end()


@pytest.mark.parametrize("when", ["before", "after", "resumed first"])
def test_pausingAroundAnUpgrade(when: str) -> None:
    """Stops both transports, and neither overtakes the other when receiving goes on."""
    memory = Slow()
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    posts = memory.connect(postOf(where, b"4a\x1e4b\x1e4c"))
    if when == "before":
        socket.pauseReceiving()
    webSocket.say(makeFrame("5") + makeFrame("4d") + makeFrame("4e"))
    if when != "before":
        socket.pauseReceiving()
    if when == "resumed first":
        socket.resumeReceiving()
        socket.pauseReceiving()
    memory.turn(5)
    assert (memory.messages, socket.upgraded) == (["a"], True)
    assert posts.taken() == b""
    socket.resumeReceiving()
    memory.turn(10)
    assert memory.messages == list("abcde")
    assert posts.taken().endswith(b"ok")
    webSocket.say(makeFrame("4f"))
    assert memory.messages[-1] == "f"
    socket.close(discard=True)
    memory.end()


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b"4a\x1e4b\x1e9", "parse error"),
        (b"4a\x1e4b\x1e1", "transport close"),
        (b"4a\x1e4b\x1e2", "transport error"),
    ],
    ids=["broken", "close packet", "ping"],
)
def test_anUpgradeBeforeTheEnd(body: bytes, end: str) -> None:
    """An end that was in a POST is the session's, whatever transport it is on by then."""
    memory = Slow()
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    posts = memory.connect(postOf(where, body))
    webSocket.say(makeFrame("5") + makeFrame("4never"))
    assert socket.upgraded
    memory.turn(5)
    assert (memory.messages, [reason for reason, _ in memory.ends]) == (["a", "b"], [end])
    assert posts.taken()
    memory.end()


def test_theWebSocketGoesInTheMiddle() -> None:
    """All that came before is delivered first."""
    memory = Slow()
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    memory.connect(postOf(where, b"4a\x1e4b\x1e4c"))
    webSocket.say(makeFrame("5"))
    webSocket.lose()
    assert (socket.upgraded, memory.ends) == (True, [])
    memory.turn(5)
    assert memory.messages == list("abc")
    assert [reason for reason, _ in memory.ends] == ["transport close"]
    memory.end()


def test_limitsAroundAnUpgrade() -> None:
    """What is left of a POST counts as ever."""
    memory = Slow(maxMessagesPerSecond=3)
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    posts = memory.connect(postOf(where, b"4a\x1e4b\x1e4c\x1e4d\x1e4e"))
    webSocket.say(makeFrame("5"))
    assert socket.upgraded
    memory.turn(5)
    assert memory.messages == ["a", "b", "c"]
    assert [str(reason) for reason, _ in memory.ends] == ["rate limit exceeded"]
    assert posts.taken().startswith(b"HTTP/1.1 429 ")
    memory.end()


@pytest.mark.parametrize("how", ["close", "discard", "timeout"])
def test_anEndInTheMiddleOfAnUpgrade(how: str) -> None:
    """The POST is refused, and nothing more is delivered."""
    memory = Slow()
    _, socket, where = opened(memory)
    webSocket = probe(memory, where)
    posts = memory.connect(postOf(where, b"4a\x1e4b\x1e4c"))
    webSocket.say(makeFrame("5") + makeFrame("4d"))
    if how == "timeout":
        socket._end(Closing(CloseReason.PING_TIMEOUT, "of the test"))
    else:
        socket.close(discard=how == "discard")
    memory.turn(5)
    assert posts.taken().startswith(b"HTTP/1.1 400 ")
    assert (memory.messages, len(memory.ends)) == (["a"], 1)
    memory.end()


# HTTP


class SlowToOpen(Memory):
    """A server whose application takes a turn for each session that opens."""

    def _opened(self, socket: Any) -> None:
        self.clock.rightNow += STEP


@pytest.fixture(params=[FastSite, Site])
def requests(request: pytest.FixtureRequest) -> Any:
    """A server that was sent ten requests in one piece."""
    memory = SlowToOpen(request.param)
    get = f"GET {target()} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    refused = b"GET /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n"
    memory.connect(b"".join([get, *[get, refused] * 4, get]))
    return memory


def _count(memory: Memory) -> int:
    return len(memory.server.clients)


def _endAll(memory: Memory) -> None:
    for each in list(memory.server.clients.values()):
        each.close(discard=True)
    memory.end()


def test_requestsThatCameAtOnce(requests: Any) -> None:
    """They are answered in turns, in order, and nothing is read meanwhile; another client is served in between."""
    (connection,) = requests.connections
    assert (_count(requests), connection.isReading) == (2, False)
    other = requests.connect(b"GET /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert other.taken().startswith(b"HTTP/1.1 400 ")
    for count in (3, 4, 5, 6):
        turn(requests.clock)
        assert _count(requests) == count
    assert connection.isReading
    statuses = re.findall(rb"HTTP/1.1 (\d+)", connection.taken())
    assert statuses == [b"200", *[b"200", b"400"] * 4, b"200"]
    connection.say(b"GET /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.taken().startswith(b"HTTP/1.1 400 ")
    _endAll(requests)


def test_requestsBehindTheOthers(requests: Any) -> None:
    """What is read later is answered behind what waits."""
    (connection,) = requests.connections
    connection.say(b"OPTIONS /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(6):
        turn(requests.clock)
        connection.turn()
    statuses = re.findall(rb"HTTP/1.1 (\d+)", connection.taken())
    assert (len(statuses), statuses[:3]) == (11, [b"200", b"200", b"400"])
    _endAll(requests)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
@pytest.mark.parametrize("siteClass", [FastSite, Site])
def test_aClockThatIsSetAmongRequests(siteClass: type[Site], seconds: float) -> None:
    """
    Set back, it has what had come answered in fewer turns, and set forward, in more; the next piece has its own time.
    """
    memory = SlowToOpen(siteClass)
    sessions: list[Any] = []

    def opened(socket: Any) -> None:
        sessions.append(socket)
        if len(sessions) == 1:
            memory.clock.rightNow += seconds

    memory.server.on("connection", opened)
    get = f"GET {target()} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    connection = memory.connect(get * 6)
    for _ in range(6):
        turn(memory.clock)
        connection.turn()
    assert (len(sessions), connection.isReading) == (6, True)
    connection.say(get * 6)
    assert (len(sessions), connection.isReading) == (8, False)
    for _ in range(6):
        turn(memory.clock)
    assert (len(sessions), connection.isReading) == (12, True)
    _endAll(memory)


@pytest.mark.parametrize("how", ["lost", "closed"])
def test_anEndAmongRequests(requests: Any, how: str) -> None:
    """Nothing more is answered, and nothing is left."""
    (connection,) = requests.connections
    if how == "lost":
        connection.lose()
    else:
        requests.site.closeConnections(0)
        connection.turn()
    for _ in range(5):
        turn(requests.clock)
    assert (_count(requests), connection.isLost) == (2, True)
    _endAll(requests)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_drainingInTheMiddle(transport: str) -> None:
    """All that came is delivered before the client is told to go."""
    memory = Slow()
    if transport == "polling":
        connection, socket, where = opened(memory)
        connection.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
        posts = memory.connect(postOf(where, b"4a\x1e4b\x1e4c"))
    else:
        connection = memory.connect(upgrade())
        (socket,) = memory.server.clients.values()
        connection.taken()
        connection.say(makeFrame("4a") + makeFrame("4b") + makeFrame("4c"))
    socket.goAway(memory.clock.seconds() + 20)
    assert (memory.messages, memory.ends) == (["a"], [])
    memory.turn(5)
    assert memory.messages == list("abc")
    assert [str(reason) for reason, _ in memory.ends] == ["server shutting down"]
    if transport == "polling":
        assert posts.taken().endswith(b"ok")
        assert connection.taken().endswith(b"1")
    else:
        assert connection.taken() == b"\x88\x02\x03\xe9"
    memory.end()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [2, 5])
def test_drainingOneThatPausesWithEachMessage(engine: Any, count: int) -> None:
    """The client is told to go when the last of what it sent is taken, and not when time is over."""
    memory = Slow(wsEngine=engine)
    connection = memory.connect(upgrade())
    (socket,) = memory.server.clients.values()
    connection.taken()

    def pause(_: object) -> None:
        socket.pauseReceiving()
        memory.clock.callLater(0, socket.resumeReceiving)

    connection.say(makeFrame("4first"))
    socket.on("message", pause)
    connection.say(frames(count))
    memory.turn()
    socket.goAway(memory.clock.seconds() + 20)
    memory.turn(3 * count)
    assert memory.messages == ["first", *texts(count)]
    assert [str(reason) for reason, _ in memory.ends] == ["server shutting down"]
    assert connection.taken() == b"\x88\x02\x03\xe9"
    memory.end()


def test_drainingOneThatIsPaused() -> None:
    """What is held is dropped, as ever: the application doesn't want it."""
    memory = Slow()
    _, socket, where = opened(memory)
    posts = memory.connect(postOf(where, b"4a\x1e4b"))
    socket.pauseReceiving()
    socket.goAway(memory.clock.seconds() + 20)
    get = memory.connect(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
    assert get.taken().endswith(b"1")
    assert posts.taken().startswith(b"HTTP/1.1 400 ")
    assert memory.messages == ["a"]
    memory.end()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_heartbeatsWhileDelivering(transport: str) -> None:
    """A client whose pong is behind what is being delivered isn't given up."""
    memory = Slow(pingInterval=100, pingTimeout=50)
    body = [f"4{each}" for each in range(100)]
    if transport == "polling":
        connection, socket, where = opened(memory)
        connection.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
        memory.connect(postOf(where, SEPARATOR.join([*body, "3"]).encode()))
    else:
        connection = memory.connect(upgrade())
        (socket,) = memory.server.clients.values()
        connection.say(b"".join([makeFrame(each) for each in [*body, "3"]]))
    for _ in range(110):
        memory.turn()
        if transport == "polling" and connection.taken():
            connection.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
    assert len(memory.messages) == 100
    assert memory.clock.seconds() >= 1
    assert memory.ends == []
    socket.close(discard=True)
    memory.end()


@pytest.mark.parametrize("isPausing", [False, True])
@pytest.mark.parametrize("protocol", [4, 3])
@pytest.mark.parametrize("transport", ["polling", *ENGINES])
def test_sendingOnAndOnWithoutAHeartbeat(transport: Any, protocol: int, isPausing: bool) -> None:
    """Keeps no session: something always waits, but what waited when the heartbeat was due is delivered."""
    options = {} if transport == "polling" else {"wsEngine": transport}
    memory = Slow(pingInterval=1000, pingTimeout=500, allowEIO3=True, **options)
    if transport == "polling":
        polls, socket, where = opened(memory, protocol)
        connection = memory.connect()
        payload = inRevision4(["a"] * 5) if protocol == 4 else b"2:4a" * 5
        data = postOf(where, payload)
    else:
        polls = connection = memory.connect(upgrade(f"/engine.io/?EIO={protocol}&transport=websocket"))
        (socket,) = memory.server.clients.values()
        where = b""
        data = makeFrame("4a") * 5
    if isPausing:

        def pause(_: object) -> None:
            socket.pauseReceiving()
            memory.clock.callLater(0, socket.resumeReceiving)

        socket.on("message", pause)
    heartbeats: list[Packet] = []
    socket.on("packetCreate", lambda packet: heartbeats.append(packet))
    isWaiting = False
    while not memory.ends and memory.clock.seconds() < 60:
        if polls.taken():
            isWaiting = False
        if where and not isWaiting:
            polls.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
            isWaiting = True
        if connection.isReading and not socket.heldBytes:
            connection.say(data)
        memory.turn()
        memory.clock.rightNow += STEP / 5
    assert [str(reason) for reason, _ in memory.ends] == ["ping timeout"]
    # The time in which receiving is paused doesn't count.
    assert 30 < memory.clock.seconds() < 45
    assert len(heartbeats) < 10, "not one for each pause"
    memory.end()


def test_deliveringForLong() -> None:
    """However long what a client sent in one POST takes, its session doesn't end before it could be heard of."""
    memory = Slow(pingInterval=1000, pingTimeout=500)
    polls, socket, where = opened(memory)
    polls.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
    count = int(60 / STEP)
    posts = memory.connect(postOf(where, inRevision4([""] * count)))
    while not (answer := posts.taken()) and not memory.ends:
        memory.turn()
        if polls.taken():
            polls.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % where)
    assert answer.endswith(b"ok")
    assert (len(memory.messages), memory.ends) == (count, [])
    posts.say(postOf(where, b"3"))
    memory.turn(5)
    assert memory.ends == []
    socket.close(discard=True)
    memory.end()


def test_heldBytes() -> None:
    """Of a session: a POST that isn't complete, or waits; of a server: those of all sessions."""
    memory = Slow()
    _, socket, where = opened(memory)
    _other, second, elsewhere = opened(memory)
    assert (socket.heldBytes, memory.server.stats().heldBytes) == (0, 0)
    head = postOf(where, b"4" * 100)[:-100]
    posts = memory.connect(head + b"4" * 60)
    assert socket.heldBytes == 60
    memory.connect(postOf(elsewhere, b"4a\x1e4b"))
    assert (second.heldBytes, memory.server.stats().heldBytes) == (5, 65)
    assert (socket.bufferedAmount, memory.server.stats().bufferedBytes) == (0, 0)
    posts.say(b"4" * 40)
    memory.turn(3)
    assert memory.server.stats().heldBytes == 0
    for each in (socket, second):
        each.close(discard=True)
    memory.end()
