"""The WebSocket of a client: masks, what is written at once, responses to an opening handshake, and the frames read."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass, verifyObject

from engineio_twisted.client.websocket import ClientWebSocketTransport
from engineio_twisted.interfaces import IOpeningReceiver, ITransport, IWebSocket, IWebSocketReceiver
from engineio_twisted.observer import Counters, ServerObserver
from engineio_twisted.protocol.frame_reader import ClientFrameReader
from engineio_twisted.protocol.frames import Close, Ping, Pong, Violation
from engineio_twisted.transports import engine_client
from engineio_twisted.transports.engine_client import ClientWebSocket, engineOn
from engineio_twisted.transports.engine_opening import bodyOf, readHead

from ..kit.fakes import FakeOwner, PlainConnection
from ..kit.rfc6455 import CASES, cuts
from ..kit.wire import makeFrame


class Receiver:
    """What is at the other side of a WebSocket: it remembers what it was told."""

    def __init__(self) -> None:
        self.owner = FakeOwner()
        self.counters = Counters()
        self.told: list[Any] = []
        self.webSocket: Any = None

    def opened(self, webSocket: Any) -> None:
        self.webSocket = webSocket

    def received(self, data: str | bytes) -> None:
        self.told.append(data)

    def ready(self) -> None:
        self.told.append("ready")

    def delivered(self) -> None:
        self.told.append("delivered")

    def closed(self, description: str) -> None:
        self.told.append(("closed", description))

    def failed(self, description: str) -> None:
        self.told.append(("failed", description))

    def gone(self) -> None:
        self.told.append("gone")


def onPlainConnection(deflate: Any = None) -> tuple[Clock, PlainConnection, Receiver]:
    """Return a WebSocket on a connection of the reactor's, whose masks are zeros."""
    clock, connection, receiver = Clock(), PlainConnection(), Receiver()
    engine = engineOn(clock)
    engine.nextMask = lambda: 0
    webSocket = ClientWebSocket(engine, receiver, 1000, deflate)
    webSocket.makeConnection(connection)
    webSocket.open(b"", b"")
    assert receiver.webSocket is webSocket
    return clock, connection, receiver


def test_interfaces() -> None:
    """What is said to provide an interface does."""
    verifyClass(IOpeningReceiver, ClientWebSocketTransport)
    verifyClass(IWebSocketReceiver, ClientWebSocketTransport)
    verifyClass(ITransport, ClientWebSocketTransport)
    _, _, receiver = onPlainConnection()
    verifyObject(IWebSocket, receiver.webSocket)


def test_whatIsWrittenAtOnce() -> None:
    """The first frame of a turn goes to the system at once, the next ones are left to the reactor, in one piece."""
    clock, connection, receiver = onPlainConnection()
    assert connection.socket.taken == []
    for text in (b"4a", b"4b", b"4c"):
        receiver.webSocket.send(text, True, True)
    assert connection.socket.taken == [b"\x81\x82\0\0\0\x004a"]
    assert connection.queued == b"\x81\x82\0\0\0\x004b\x81\x82\0\0\0\x004c"
    connection.drain()
    clock.advance(0)
    receiver.webSocket.send(b"4d", True, True)
    assert connection.socket.taken[-1] == b"\x81\x82\0\0\0\x004d"
    clock.advance(0)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("size", [*range(6), 99, 100, 101, 125, 126, 127, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("isText", [True, False])
def test_masking(size: int, isText: bool) -> None:
    """A frame is masked by RFC 6455, 5.3, whatever its length."""
    _, connection, receiver = onPlainConnection()
    receiver.webSocket._nextMask = lambda: 0x37FA213D
    payload = bytes(index % 251 for index in range(size))
    receiver.webSocket.send(payload, isText, True)
    written = b"".join(connection.socket.taken)
    assert written == expected(payload, 0x81 if isText else 0x82)
    receiver.webSocket.close(1001)
    assert connection.queued.endswith(expected(b"\x03\xe9", 0x88))


def expected(payload: bytes, first: int) -> bytes:
    key = b"\x37\xfa\x21\x3d"
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2)
        if size < 65_536
        else b"\xff" + size.to_bytes(8)
    )
    return bytes([first]) + length + key + bytes(each ^ key[index % 4] for index, each in enumerate(payload))


def test_anExampleOfTheRFC() -> None:
    """The masked hello of RFC 6455, 5.7, octet by octet."""
    _, connection, receiver = onPlainConnection()
    receiver.webSocket._nextMask = lambda: 0x37FA213D
    receiver.webSocket.send(b"Hello", True, True)
    assert connection.socket.taken == [bytes.fromhex("818537fa213d7f9f4d5158")]


def test_theMasksOfAnEngine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked for many masks at once, each is taken once, and none before it is needed."""
    blocks: list[bytes] = []

    def random(size: int) -> bytes:
        blocks.append(bytes((index + len(blocks)) % 256 for index in range(size)))
        return blocks[-1]

    monkeypatch.setattr(engine_client.os, "urandom", random)
    engine = engine_client.ClientEngine(Clock())
    assert blocks == []
    masks = [engine.nextMask() for _ in range(1500)]
    assert len(blocks) == 2
    words = [b"".join(blocks)[index : index + 4] for index in range(0, 6000, 4)]
    assert masks == [int.from_bytes(each, sys.byteorder) for each in words]


def test_aServerThatDoesNotRead() -> None:
    """What it doesn't take waits, and is counted; the receiver hears when there is room again."""
    clock, connection, receiver = onPlainConnection()
    webSocket = receiver.webSocket
    connection.socket.room = 100
    webSocket.send(b"x" * 200_000, False, True)
    assert webSocket.bufferedAmount == 200_008 + 6 - 100
    assert not webSocket.writable
    connection.socket.room = 10**9
    connection.drain()
    assert webSocket.bufferedAmount == 0
    assert webSocket.writable
    assert receiver.told == ["ready"]
    clock.advance(0)


def test_lostBehindWhatIsNotDelivered() -> None:
    """The receiver hears of the loss, and that nothing is left, when it has all that came before."""
    clock, _, receiver = onPlainConnection()
    webSocket = receiver.webSocket
    receiver.received = lambda data: receiver.told.append(data) or webSocket.pauseReceiving()  # type: ignore[method-assign, func-returns-value]
    webSocket.dataReceived(makeFrame("4a", isMasked=False) + makeFrame("4b", isMasked=False))
    webSocket.connectionLost(Failure(ConnectionLost()))
    assert receiver.told == ["4a"]
    webSocket.resumeReceiving()
    clock.advance(0)
    assert receiver.told[:2] == ["4a", "4b"]
    webSocket.resumeReceiving()
    clock.advance(0)
    assert [each[0] for each in receiver.told[2:]] == ["closed", "g"]
    assert not clock.getDelayedCalls()
    assert not len(engineOn(clock).connections)


def test_whyItIsLost(warnings: list[str]) -> None:
    """What the connection failed with is kept, and not logged: the failure of the client says it."""
    _, _, receiver = onPlainConnection()
    reason = Failure(ZeroDivisionError("TLS"))
    receiver.webSocket.connectionLost(reason)
    assert receiver.webSocket.loss is reason
    assert receiver.told[-1] == "gone"
    # One that is closed by us isn't lost.
    _, _, receiver = onPlainConnection()
    receiver.webSocket.close()
    receiver.webSocket.connectionLost(reason)
    assert receiver.webSocket.loss is None
    assert receiver.told == ["gone"]
    _, _, receiver = onPlainConnection()
    receiver.webSocket.dataReceived(makeFrame("4a"))
    assert receiver.told == [("failed", "close frame with code 1002: masked server-to-client frame")]
    assert warnings == []


def test_whatIsCounted() -> None:
    """Bytes both ways, the limit that was reached, and nothing of the handshake; observers hear of the same."""
    told: list[tuple[str, Any]] = []

    class Watch(ServerObserver):
        def bytesSent(self, socket: Any, size: int) -> None:
            told.append(("sent", size))

        def bytesReceived(self, socket: Any, size: int) -> None:
            told.append(("received", size))

        def limited(self, socket: Any, option: str) -> None:
            told.append(("limit", option))

    _, _, receiver = onPlainConnection()
    receiver.counters.add(Watch())
    receiver.webSocket.send(b"4hello", True, True)
    receiver.webSocket.dataReceived(makeFrame("4hi", isMasked=False))
    receiver.webSocket.dataReceived(makeFrame(b"x" * 1001, isMasked=False))
    assert told[:2] == [("sent", 12), ("received", 5)]
    assert ("limit", "maxHttpBufferSize") in told
    assert receiver.told == ["4hi", ("failed", "a message is larger than maxHttpBufferSize, 1000 bytes")]
    assert receiver.webSocket.violation == 1009


def test_enginesAreShared() -> None:
    """One serves all WebSockets on a reactor."""
    clock = Clock()
    assert engineOn(clock) is engineOn(clock)
    assert engineOn(clock) is not engineOn(Clock())


# Heads and bodies of responses


@pytest.mark.parametrize(
    ("head", "status", "headers"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nA: b", 101, {b"A": [b"b"]}),
        (b"HTTP/1.0 200", 200, {}),
        (b"HTTP/1.1 404 ", 404, {}),
        (b"HTTP/1.1 200 OK\r\na:b\r\nA : c \r\n: d\r\nno colon\r\n e: f\r\n\xc1: g", 200, {b"A": [b"b", b"c"]}),
        (b"HTTP/1.1 200 \xff\x85\r\nA: \xff\x00\x85", 200, {b"A": [b"\xff\x00\x85"]}),
        (b"HTTP/1.1 99 Low", None, {}),
        (b"HTTP/1.1 600 High", None, {}),
        (b"HTTP/2 200 OK", None, {}),
        (b"HTTP/1.1  200 OK", None, {}),
        (b"HTTP/1.1 +20 OK", None, {}),
        (b"HTTP/1.1 2000 OK", None, {}),
        (b"200 OK", None, {}),
        (b"", None, {}),
    ],
)
def test_heads(head: bytes, status: int | None, headers: dict[bytes, list[bytes]]) -> None:
    """What the head of a response says; lines that say nothing are left out."""
    found = readHead(head)
    if status is None:
        assert found is None
    else:
        assert found is not None
        assert found.status == status
        assert dict(found.headers.getAllRawHeaders()) == headers


CHUNKED = b"Transfer-Encoding: Chunked"


@pytest.mark.parametrize(
    ("header", "data", "body", "isWhole"),
    [
        (b"", b"abc", b"abc", False),
        (b"", b"a" * 20, b"a" * 10, True),
        (b"Content-Length: 3", b"abcdef", b"abc", True),
        (b"Content-Length: 3", b"ab", b"ab", False),
        (b"Content-Length: 0", b"", b"", True),
        (b"Content-Length: 99999999999999999999", b"ab", b"ab", False),
        (b"Content-Length: -1", b"ab", b"ab", False),
        (CHUNKED, b"", b"", False),
        (CHUNKED, b"3\r\nab", b"ab", False),
        (CHUNKED, b"3\r\nabc\r\n2 ; x=y\r\nde", b"abcde", False),
        (CHUNKED, b"3\r\nabc\r\n0\r\n\r\n", b"abc", True),
        (CHUNKED, b"A\r\n0123456789\r\n", b"0123456789", True),
        (CHUNKED, b"x\r\nabc", b"", True),
        (CHUNKED, b"-3\r\nabc", b"", True),
        (CHUNKED, b"\r\nabc", b"", True),
        (CHUNKED, b"fffffffff\r\nabc", b"", True),
    ],
)
def test_bodies(header: bytes, data: bytes, body: bytes, isWhole: bool) -> None:
    """As much of a body as came, up to ten bytes, and whether it is waited for any longer."""
    head = readHead(b"HTTP/1.1 500 No\r\n" + header)
    assert head is not None
    assert bodyOf(head, bytearray(data), 10) == (body, isWhole)


def test_withoutABody() -> None:
    """Some responses have none, whatever they say."""
    for status in (204, 304):
        head = readHead(b"HTTP/1.1 %d No\r\nContent-Length: 9" % status)
        assert head is not None
        for data in (b"", b"abc"):
            assert bodyOf(head, bytearray(data), 10) == (b"", True)


# Frames


def events(data: bytes, places: list[int]) -> list[Any]:
    """What the frames of a server say that come in pieces."""
    reader = ClientFrameReader(2000)
    found = []
    for start, end in itertools.pairwise(sorted({0, len(data), *(each % (len(data) + 1) for each in places)})):
        piece, position = data[start:end], 0
        while position < len(piece):
            position, event = reader.read(piece, position)
            if event is not None:
                found.append(event)
    return [*found, reader.isOver]


RIGHT: list[tuple[bytes, list[Any]]] = [
    (makeFrame("4hello", isMasked=False), ["4hello"]),
    (makeFrame("4€ 😀", isMasked=False), ["4€ 😀"]),
    (makeFrame(b"", isMasked=False), [b""]),
    (makeFrame("", isMasked=False), [""]),
    *[(makeFrame(b"x" * size, isMasked=False), [b"x" * size]) for size in (1, 125, 126, 127, 2000)],
    *[(makeFrame("é" * size, isMasked=False), ["é" * size]) for size in (62, 63, 1000)],
    (makeFrame(b"a" * 125, 9, isMasked=False), [Ping(b"a" * 125)]),
    (makeFrame(b"", 10, isMasked=False), [Pong(b"")]),
    (
        makeFrame("4a", isFinal=False, isMasked=False)
        + makeFrame(b"?", 9, isMasked=False)
        + makeFrame(b"", 0, isFinal=False, isMasked=False)
        + makeFrame(b"b", 0, isMasked=False),
        [Ping(b"?"), "4ab"],
    ),
]
"""Frames of a server, and what they say."""

ENDS: list[tuple[bytes, Any]] = [
    (makeFrame(b"\x03\xe8bye", 8, isMasked=False), Close(1000, "bye")),
    (makeFrame(b"", 8, isMasked=False), Close(None)),
    (makeFrame("4a"), Violation(1002, "masked server-to-client frame")),
    (makeFrame(b"a" * 200), Violation(1002, "masked server-to-client frame")),
    (makeFrame(b"a" * 70_000), Violation(1002, "masked server-to-client frame")),
    (makeFrame(b"", 9), Violation(1002, "masked server-to-client frame")),
    (
        makeFrame(b"a" * 2001, isMasked=False),
        Violation(1009, "a message is larger than maxHttpBufferSize, 2000 bytes"),
    ),
]
"""Frames behind which nothing more is said."""


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(RIGHT), max_size=6),
    st.sampled_from([None, *ENDS]),
    st.binary(max_size=20),
    st.lists(st.integers(0, 2**31), max_size=8),
)
def test_readingInAnyPieces(right: list[Any], end: Any, behind: bytes, places: list[int]) -> None:
    """What frames say doesn't depend on the pieces in which they come."""
    data = b"".join(each for each, _ in right)
    said = [event for _, each in right for event in each]
    assert events(data, places) == [*said, False]
    if end is not None:
        assert events(data + end[0] + behind, places)[: len(said) + 1] == [*said, end[1]]
        assert events(data + end[0] + behind, places) == events(data + end[0] + behind, [])


def test_whatClientsSayIsAViolation() -> None:
    """Of what a client says, rightly or not, a client takes nothing: it is masked."""
    for case in CASES:
        if case.section not in ("5.2", "5.4", "5.5", "5.6", "8.1"):
            continue
        for pieces in cuts(case.sent).values():
            reader = ClientFrameReader(10**6)
            said: list[Any] = []
            for piece in pieces:
                position = 0
                while position < len(piece) and not said:
                    position, event = reader.read(piece, position)
                    said += [] if event is None else [event]
            assert all(isinstance(each, Violation) for each in said), case
