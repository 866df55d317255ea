"""A message to everybody: it reaches each session once, in its own form, whatever happens to the others."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import FastPaths, Packet, PacketType, ServerOptions
from engineio_twisted import engine_autobahn as engine
from engineio_twisted.factory import SocketFactory
from engineio_twisted.payload import codecFor
from engineio_twisted.websocket import WebSocketTransport

from .engines import ENGINES
from .fakes import FakeHost, FakeRequest, FakeTransport
from .test_transports import WebSocket, pollingSession
from .test_websocket import AcceptedPeer

PATHS = [True, False]


class Room:
    """Sessions on transports without a network."""

    def __init__(self, size: int = 3, **options: Any) -> None:
        self.host = FakeHost(**options)
        self.factory = SocketFactory(self.host, Clock())
        self.transports = [FakeTransport() for _ in range(size)]
        self.sockets = [
            self.factory.open(str(place), transport, FakeRequest(), 4)
            for place, transport in enumerate(self.transports)
        ]

    def got(self) -> list[list[str | bytes]]:
        return [transport.texts() for transport in self.transports]


@pytest.fixture(params=PATHS, ids=["fast", "plain"], autouse=True)
def fastPaths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Encoded once, or once for each: the same comes of it."""
    monkeypatch.setenv("ENGINEIO_FAST_PATHS", "frames,writes,http,broadcast" if request.param else "frames,writes,http")
    monkeypatch.setattr(FakeHost, "hearsSending", False)
    return bool(request.param)


@pytest.mark.parametrize("data", ["text", "€ 😀", b"\x00\x01", ""])
def test_everybodyGetsIt(data: str | bytes) -> None:
    """Once, and the number of them is returned."""
    room = Room()
    assert room.factory.broadcast(data, (), True) == 3
    assert room.got() == [[data]] * 3


def test_notThoseExcluded() -> None:
    """One or several, by whatever collection."""
    room = Room(4)
    first, second, third, _ = room.sockets
    assert room.factory.broadcast("a", (first,), True) == 3
    assert room.factory.broadcast("b", {second, third}, True) == 2
    assert room.factory.broadcast("c", room.sockets, True) == 0
    assert room.got() == [["b"], ["a"], ["a"], ["a", "b"]]


def test_notThoseThatAreClosing() -> None:
    """Who is not open is left out, and not counted."""
    room = Room()
    room.transports[1].writable = False
    room.sockets[1].close()
    assert room.sockets[1].readyState == "closing"
    room.sockets[2].close(discard=True)
    assert room.factory.broadcast("a", (), True) == 1
    assert room.got() == [["a"], [], []]


def test_oneThatFailsStopsNobody(loggedErrors: list[LogEvent]) -> None:
    """It is logged with its session, and the others get theirs."""
    room = Room()
    room.transports[1].send = lambda packets: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    assert room.factory.broadcast("a", (), True) == 2
    assert room.got() == [["a"], [], ["a"]]
    (event,) = loggedErrors
    assert event["log_failure"].check(ZeroDivisionError)
    loggedErrors.clear()


def test_oneWhoCannotTakeItNow() -> None:
    """It waits in that session's buffer."""
    room = Room()
    room.transports[0].writable = False
    assert room.factory.broadcast("a", (), True) == 3
    assert [packet.data for packet in room.sockets[0].writeBuffer] == ["a"]
    room.transports[0].ready()
    assert room.got() == [["a"]] * 3


def test_closingMeanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that closes a session on the way does so to that one alone."""
    monkeypatch.setattr(FakeHost, "hearsSending", True)
    room = Room()
    room.sockets[0].on("flush", lambda _: room.sockets[2].close(discard=True))
    assert room.factory.broadcast("a", (), True) == 2
    assert room.got() == [["a"], ["a"], []]


def test_aHandlerThatChangesThePacket() -> None:
    """A handler of C{packetCreate} has the packet of its own session."""
    room = Room()

    def shout(packet: Packet) -> None:
        packet.data = str(packet.data).upper()

    room.sockets[1].on("packetCreate", shout)
    room.factory.broadcast("a", (), True)
    assert room.got() == [["a"], ["A"], ["a"]]


def test_aPacketThatIsChangedInABuffer() -> None:
    """What waits for one client is changed for that one alone."""
    room = Room()
    for transport in room.transports[:2]:
        transport.writable = False
    room.factory.broadcast("a", (), True)
    room.sockets[0].writeBuffer[0].data = "changed"
    for transport in room.transports[:2]:
        transport.ready()
    assert room.got() == [["changed"], ["a"], ["a"]]


def test_aLoneSurrogate() -> None:
    """What no encoding can carry is refused before anybody gets anything."""
    room = Room()
    with pytest.raises(ValueError, match="lone surrogate"):
        room.factory.broadcast("\ud800", (), True)
    assert room.got() == [[]] * 3


@pytest.mark.parametrize("engineClass", ENGINES)
@pytest.mark.parametrize("data", ["text", "€ 😀", b"\x00\x01", "a" * 70_000])
def test_frames(engineClass: Any, data: str | bytes) -> None:
    """What goes out is what a message of one's own would be, to clients that take binary and to one that doesn't."""
    alone = [AcceptedPeer(engineClass, supportsBinary=supportsBinary) for supportsBinary in (True, True, False)]
    together = [AcceptedPeer(engineClass, supportsBinary=supportsBinary) for supportsBinary in (True, True, False)]
    shared = Packet(PacketType.MESSAGE, data, shared={})
    for peer in alone:
        peer.transport.send([Packet(PacketType.MESSAGE, data)])
    for peer in together:
        peer.transport.send([shared])
    assert [peer.connection.value() for peer in together] == [peer.connection.value() for peer in alone]


def test_encodedOnce(fastPaths: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a frame is made once."""
    framed = []
    frame = engine._frame
    monkeypatch.setattr(engine, "_frame", lambda *args: framed.append(args) or frame(*args))
    peers = [AcceptedPeer(engine.AutobahnEngine) for _ in range(5)]
    factory = SocketFactory(FakeHost(), Clock())
    for place, peer in enumerate(peers):
        transport = WebSocketTransport(codecFor(4), True, lambda: None)
        transport.opened(peer.transport.webSocket)
        factory.open(str(place), transport, FakeRequest(), 4)
    framed.clear()
    factory.broadcast("once", (), True)
    assert len(framed) == (1 if fastPaths else 5)
    assert all(peer.connection.value().endswith(b"\x81\x054once") for peer in peers)


@pytest_twisted.ensureDeferred
async def test_overTheNetwork(serve: Any) -> None:
    """Real clients on both transports get it, and the sender doesn't."""
    running = await serve()
    first, sender = WebSocket(running.port), WebSocket(running.port)
    await first.open()
    opening = await sender.open()
    excluded = running.server.clients[opening["sid"]]
    async with pollingSession(running) as polling:
        await polling.open()
        for data in ("to all", "€ 😀" * 1000):
            assert running.server.broadcast(data, excluded) == 2
            assert await polling.receive() == "4" + data
            assert await first.receive() == "4" + data
        assert running.server.broadcast(b"\x00\xff") == 3
        assert await polling.receive() == "bAP8="
        assert await first.receive() == b"\x00\xff"
        assert await sender.receive() == b"\x00\xff"
    await first.close()
    await sender.close()


def test_theOption() -> None:
    """What this module turns on and off is the option."""
    assert ServerOptions(fastPaths={"broadcast": False}).fastPaths == FastPaths(broadcast=False)
