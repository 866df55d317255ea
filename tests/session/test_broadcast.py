"""A message to everybody: it reaches each session once, in its own form, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import Packet, PacketType
from engineio_twisted.protocol.packet import SharedPacket
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.session.factory import SocketFactory
from engineio_twisted.testing import MemoryServer
from engineio_twisted.transports import engine_autobahn as engine
from engineio_twisted.transports.websocket import WebSocketTransport

from ..kit.engines import ENGINES
from ..kit.fakes import FakeHost, FakeRequest
from ..kit.peers import AcceptedPeer


class Room:
    """Clients in memory, on polling, upgraded and on WebSocket by turns."""

    WAYS: tuple[dict[str, Any], ...] = ({"upgrade": False}, {}, {"transport": "websocket"})

    def __init__(self, engineio: Callable[..., MemoryServer], size: int = 3) -> None:
        self.kit = engineio(lambda server: None)
        self.clients = [self.kit.connect(**self.WAYS[place % 3]) for place in range(size)]
        self.sockets = [each.socket for each in self.clients]

    def broadcast(self, data: object, exclude: Any = ()) -> int:
        return self.kit.server.broadcast(data, exclude)

    def got(self) -> list[list[str | bytes]]:
        return [each.received for each in self.clients]


Engine = Callable[..., MemoryServer]


@pytest.fixture(autouse=True)
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listen to nothing that happens while a message is sent: it would take another way."""
    monkeypatch.setattr(FakeHost, "_hasSendListeners", False)


@pytest.mark.parametrize("data", ["text", "€ 😀", b"\x00\x01", ""])
def test_everybodyGetsIt(engineio: Engine, data: str | bytes) -> None:
    """Once, and the number of them is returned."""
    room = Room(engineio)
    assert room.broadcast(data) == 3
    assert room.got() == [[data]] * 3


@pytest.mark.parametrize(("exclude", "kind"), [({"a": 1}, "dict"), ([None], "NoneType"), ([("a", 1)], "tuple")])
def test_whatIsNoSocketCannotBeExcluded(engineio: Engine, exclude: Any, kind: str) -> None:
    """The data of an event behind its name isn't one; the error doesn't show it, and nothing is sent."""
    room = Room(engineio)
    with pytest.raises(TypeError) as caught:
        room.broadcast("hello", exclude)
    assert str(caught.value) == f"exclude with something of type {kind}: expected sockets, or ids of sessions"
    assert room.got() == [[], [], []]


def test_idsThatAreExcluded(engineio: Engine) -> None:
    """By themselves and beside sockets. One that no session has, or has any more, excludes nobody."""
    room = Room(engineio, 4)
    first, second, third, _ = room.sockets
    assert room.broadcast("a", first.id) == 3
    assert room.broadcast("b", (each for each in (second, third.id, "unknown", "\ud800"))) == 2
    third.close(discard=True)
    assert room.broadcast("c", {third.id, first.id}) == 2
    assert room.got() == [["b"], ["a", "c"], ["a"], ["a", "b", "c"]]


def test_notThoseExcluded(engineio: Engine) -> None:
    """One or several, by whatever collection."""
    room = Room(engineio, 4)
    first, second, third, _ = room.sockets
    assert room.broadcast("a", first) == 3
    assert room.broadcast("b", {second, third}) == 2
    assert room.broadcast("c", room.sockets) == 0
    assert room.got() == [["b"], ["a"], ["a"], ["a", "b"]]


def test_toSome(engineio: Engine) -> None:
    """Those given get it, each once and in whatever collection; none is none."""
    room = Room(engineio, 4)
    first, second, third, _ = room.sockets
    broadcast = room.kit.server.broadcast
    assert broadcast("a", to=(each for each in (first, second, first))) == 2
    assert broadcast("b", second, to={second, third}) == 1
    assert broadcast("c", to=[]) == 0
    assert room.got() == [["a"], ["a"], ["b"], []]


def test_toThoseThatHaveEnded(engineio: Engine) -> None:
    """They are left out, and not counted."""
    room = Room(engineio)
    room.sockets[2].close(discard=True)
    assert room.kit.server.broadcast("a", to=room.sockets) == 2
    assert room.got() == [["a"], ["a"], []]


@pytest.mark.parametrize("to", ["id", [None], [object]])
def test_toWhatIsNoSocket(engineio: Engine, to: Any) -> None:
    """It is an error that shows neither an id nor data, and nothing is sent."""
    room = Room(engineio)
    wrong = "type" if to == [object] else "NoneType" if to == [None] else "str"
    if to == "id":
        to = [*room.sockets, room.sockets[0].id]
    with pytest.raises(TypeError, match=f"^to with something of type {wrong}: expected sockets$"):
        room.kit.server.broadcast("hello", to=to)
    assert room.got() == [[], [], []]


def test_severalMessages(engineio: Engine) -> None:
    """They come together and in their order, on each transport."""
    room = Room(engineio)
    assert room.broadcast(["text", b"\x01", "€"]) == 3
    assert room.broadcast(("a", "b"), room.sockets[0]) == 2
    assert room.broadcast([]) == 0
    several = ["text", b"\x01", "€"]
    assert room.got() == [several, [*several, "a", "b"], [*several, "a", "b"]]


@pytest.mark.parametrize("action", ["drop", "raise"])
def test_severalMessagesOverALimit(engineio: Engine, action: str) -> None:
    """A client that can't take all of them gets none of them."""
    kit = engineio(lambda server: None, maxBufferedPackets=2, bufferLimitAction=action)
    slow, quick = kit.connect(upgrade=False), kit.connect(upgrade=False)
    slow.pauseReading()
    slow.socket.send("answers the GET")
    slow.socket.send("waits")
    assert kit.server.broadcast(["a", b"b"]) == 1
    assert kit.server.broadcast(["c"]) == 2
    slow.resumeReading()
    assert (slow.received, quick.received) == (["answers the GET", "waits", "c"], ["a", b"b", "c"])


def test_volatile(engineio: Engine) -> None:
    """Who would have to wait doesn't get it, whether something waits there already or not."""
    room = Room(engineio)
    polling = room.clients[0]
    polling.pauseReading()
    polling.socket.send("answers the GET")
    assert room.kit.server.broadcast("now", volatile=True) == 2
    assert room.kit.server.broadcast(["now", "or never"], volatile=True) == 2
    assert polling.socket.writeBuffer == []
    polling.resumeReading()
    room.kit.settle()
    assert room.kit.server.broadcast("again", volatile=True) == 3
    both = ["now", "now", "or never", "again"]
    assert room.got() == [["answers the GET", "again"], both, both]


def test_volatileWithListeners(engineio: Engine) -> None:
    """A session that hears what is sent gets it too, if it doesn't have to wait."""
    room = Room(engineio)
    heard: list[Packet] = []
    room.sockets[1].on("packetCreate", heard.append)
    assert room.kit.server.broadcast(["a", "b"], volatile=True) == 3
    assert [each.data for each in heard] == ["a", "b"]
    assert room.got() == [["a", "b"]] * 3


def test_notThoseThatAreClosing(engineio: Engine) -> None:
    """Who is not open is left out, and not counted."""
    room = Room(engineio)
    polling = room.clients[0]
    polling.pauseReading()
    polling.socket.send("answers the GET")
    polling.socket.close()
    assert polling.socket.readyState == "closing"
    room.sockets[2].close(discard=True)
    assert room.broadcast("a") == 1
    polling.resumeReading()
    assert room.got() == [["answers the GET"], ["a"], []]


def test_oneThatFailsStopsNobody(engineio: Engine, loggedErrors: list[LogEvent]) -> None:
    """It is logged with its session, and the others get theirs."""
    room = Room(engineio)
    room.sockets[1].transport.send = lambda packets: 1 / 0
    assert room.broadcast("a") == 2
    assert room.got() == [["a"], [], ["a"]]
    (event,) = loggedErrors
    assert event["log_failure"].check(ZeroDivisionError)
    assert room.sockets[1].id[:6] in event["session"]
    loggedErrors.clear()
    room.kit.errors.clear()
    del room.sockets[1].transport.send


def test_manyThatFail(engineio: Engine, loggedErrors: list[LogEvent]) -> None:
    """The log has one line a second of it."""
    room = Room(engineio, 6)
    for socket in room.sockets:
        socket.transport.send = lambda packets: 1 / 0
    assert room.broadcast("a") == 0
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    room.kit.errors.clear()
    for socket in room.sockets:
        del socket.transport.send


def test_oneWhoCannotTakeItNow(engineio: Engine) -> None:
    """It waits in that session's buffer."""
    room = Room(engineio)
    polling = room.clients[0]
    polling.pauseReading()
    polling.socket.send("answers the GET")
    assert room.broadcast("a") == 3
    assert [packet.data for packet in polling.socket.writeBuffer] == ["a"]
    polling.resumeReading()
    assert room.got() == [["answers the GET", "a"], ["a"], ["a"]]


def test_closingMeanwhile(engineio: Engine) -> None:
    """A handler that closes a session on the way does so to that one alone."""
    room = Room(engineio)
    room.sockets[0].on("flush", lambda _: room.sockets[2].close(discard=True))
    assert room.broadcast("a") == 2
    assert room.got() == [["a"], ["a"], []]


def test_aHandlerThatChangesThePacket(engineio: Engine) -> None:
    """A handler of C{packetCreate} has the packet of its own session."""
    room = Room(engineio)

    def shout(packet: Packet) -> None:
        packet.data = str(packet.data).upper()

    room.sockets[1].on("packetCreate", shout)
    room.broadcast("a")
    assert room.got() == [["a"], ["A"], ["a"]]


def test_aPacketThatIsChangedInABuffer(engineio: Engine) -> None:
    """What waits for one client is changed for that one alone."""
    room = Room(engineio, 4)
    waiting = [room.clients[0], room.clients[3]]
    for each in waiting:
        each.pauseReading()
        each.socket.send("answers the GET")
    room.broadcast("a")
    waiting[0].socket.writeBuffer[0].data = "changed"
    for each in waiting:
        each.resumeReading()
    assert [each.received[-1] for each in room.clients] == ["changed", "a", "a", "a"]


def test_aLoneSurrogate(engineio: Engine) -> None:
    """What no encoding can carry is refused before anybody gets anything."""
    room = Room(engineio)
    with pytest.raises(ValueError, match="lone surrogate"):
        room.broadcast("\ud800")
    assert room.got() == [[]] * 3


@pytest.mark.parametrize("engineClass", ENGINES)
@pytest.mark.parametrize("data", ["text", "€ 😀", b"\x00\x01", "a" * 70_000])
def test_frames(engineClass: Any, data: str | bytes) -> None:
    """What goes out is what a message of one's own would be, to clients that take binary and to one that doesn't."""
    alone = [AcceptedPeer(engineClass, supportsBinary=supportsBinary) for supportsBinary in (True, True, False)]
    together = [AcceptedPeer(engineClass, supportsBinary=supportsBinary) for supportsBinary in (True, True, False)]
    shared = SharedPacket(PacketType.MESSAGE, data)
    for peer in alone:
        peer.transport.send([Packet(PacketType.MESSAGE, data)])
    for peer in together:
        peer.transport.send([shared])
    assert [peer.connection.value() for peer in together] == [peer.connection.value() for peer in alone]


def test_encodedOnce(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a frame is made once."""
    framed = []
    frame = engine.frame
    counting = staticmethod(lambda *args: framed.append(args) or frame(*args))
    monkeypatch.setattr(engine.AutobahnWebSocket, "frame", counting)
    peers = [AcceptedPeer(engine.AutobahnEngine) for _ in range(5)]
    factory = SocketFactory(host := FakeHost(clock := Clock()), clock, host.addressOf)
    for place, peer in enumerate(peers):
        transport = WebSocketTransport(codecFor(4), True, lambda: None)
        transport.opened(peer.transport.webSocket)
        factory.open(str(place), transport, FakeRequest().exchange, 4)
    framed.clear()
    factory.broadcast("once", (), None, True, False)
    factory.broadcast(["one", b"two"], (), list(factory.clients.values()), True, False)
    assert len(framed) == 3
    assert all(peer.connection.value().endswith(b"\x81\x054once\x81\x044one\x82\x03two") for peer in peers)
