"""Operators: to whom an event goes, how, and what can be done to many sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from engineio_twisted import OptionError
from engineio_twisted.socketio import AckTimeout, NotSupported, ReservedEvent, SocketIO, UnsendableValue
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]


def nothing(io: SocketIO) -> None:
    """Take what comes."""


class Room:
    """Clients by names, each in the rooms that its name says: `ab` is in `a` and `b`."""

    def __init__(self, socketio: Start, names: Iterable[str] = ("a", "b", "ab", "c"), **options: Any) -> None:
        self.kit = socketio(nothing, **options)
        self.io = self.kit.io
        self.clients: dict[str, MemorySocket] = {}
        self.sockets: dict[str, Any] = {}
        for name in names:
            client = self.clients[name] = self.kit.connect(transport="websocket")
            assert client.id is not None
            socket = self.sockets[name] = self.io.sockets[client.id]
            socket.data["name"] = name
            socket.join(*name)

    def heard(self) -> list[str]:
        """Return the names of those that got an event since this was asked, each as often as it got one."""
        return sorted(name for name, client in self.clients.items() for _ in client.receiveAll())


def result(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that gets the result of a Deferred, or what it failed with."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


TARGETS: dict[str, tuple[Callable[[Room], Any], list[str]]] = {
    "all": (lambda room: room.io, ["a", "ab", "b", "c"]),
    "a room": (lambda room: room.io.to("a"), ["a", "ab"]),
    "in_": (lambda room: room.io.in_("a"), ["a", "ab"]),
    "rooms": (lambda room: room.io.to("a", "b"), ["a", "ab", "b"]),
    "chain": (lambda room: room.io.to("a").to("b"), ["a", "ab", "b"]),
    "empty room": (lambda room: room.io.to("nowhere"), []),
    "except": (lambda room: room.io.except_("a"), ["b", "c"]),
    "except two": (lambda room: room.io.except_("a", "b"), ["c"]),
    "except chain": (lambda room: room.io.to("a").except_("b"), ["a"]),
    "id": (lambda room: room.io.to(room.sockets["c"].id), ["c"]),
    "except id": (lambda room: room.io.to("a").except_(room.sockets["ab"].id), ["a"]),
    "local": (lambda room: room.io.local, ["a", "ab", "b", "c"]),
    "socket broadcast": (lambda room: room.sockets["a"].broadcast, ["ab", "b", "c"]),
    "socket to": (lambda room: room.sockets["a"].to("a"), ["ab"]),
    "socket to rooms": (lambda room: room.sockets["ab"].to("a", "b"), ["a", "b"]),
    "socket except": (lambda room: room.sockets["a"].except_("b"), ["c"]),
    "socket to its id": (lambda room: room.sockets["a"].to(room.sockets["a"].id), []),
    "socket local": (lambda room: room.sockets["a"].local, ["ab", "b", "c"]),
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(socketio: Start, target: str) -> None:
    """A union of rooms without the excluded ones, each recipient once; behind a socket, without itself."""
    room = Room(socketio)
    make, expected = TARGETS[target]
    make(room).emit("x", 1)
    assert room.heard() == expected


def test_immutable(socketio: Start) -> None:
    """Each call makes an operator; the one before stays as it is, as does the socket."""
    room = Room(socketio)
    toA = room.io.to("a")
    toA.to("b")
    toA.except_("b")
    toA.emit("x")
    assert room.heard() == ["a", "ab"]
    assert room.sockets["a"].volatile is not None
    room.sockets["a"].emit("x")
    assert room.heard() == ["a"]


def test_whatIsSent(socketio: Start) -> None:
    """Every argument arrives at everybody, bytes too; `send` emits `message`."""
    room = Room(socketio)
    room.io.to("a", "b").emit("x", b"\x00\xff", {"a": [1, None, b"y"]})
    for name in ("a", "b", "ab"):
        assert room.clients[name].receiveAll() == [Event("x", [b"\x00\xff", {"a": [1, None, b"y"]}])]
    room.io.send("hello")
    room.sockets["a"].send("you")
    assert room.clients["a"].receiveAll() == [Event("message", ["hello"]), Event("message", ["you"])]


@pytest.mark.parametrize("name", ["connect", "connect_error", "disconnect", "disconnecting"])
def test_reserved(socketio: Start, name: str) -> None:
    """Names that the protocol keeps for itself are a mistake."""
    room = Room(socketio, ["a"])
    for each in (room.io, room.io.to("a"), room.sockets["a"], room.sockets["a"].broadcast):
        with pytest.raises(ReservedEvent):
            each.emit(name)


def test_unsendable(socketio: Start) -> None:
    """It raises where it is sent, and reaches nobody."""
    room = Room(socketio)
    with pytest.raises(UnsendableValue, match=r"args\[0\]"):
        room.io.emit("x", object())
    assert room.heard() == []


def test_volatile(socketio: Start) -> None:
    """It is dropped for those that would have to wait for it, and counted; the others get it."""
    room = Room(socketio)
    polling = room.clients["polling"] = room.kit.connect(upgrade=False)
    polling.pauseReading()
    room.io.emit("not read")
    room.kit.settle()
    room.io.volatile.emit("volatile")
    polling.resumeReading()
    assert [each.name for each in polling.receiveAll()] == ["not read"]
    assert [each.name for each in room.clients["a"].receiveAll()] == ["not read", "volatile"]
    assert room.io.stats().volatileDropped == 1


def test_compress(socketio: Start) -> None:
    """`compress(False)` changes nothing that a client sees."""
    room = Room(socketio)
    room.io.compress(False).to("a").emit("x", "y" * 5000)
    assert room.heard() == ["a", "ab"]
    room.sockets["c"].compress(False).emit("x")
    assert room.heard() == ["c"]


def test_socketAsItIs(socketio: Start) -> None:
    """Behind a socket, flags are of that one call; it gets the event itself."""
    room = Room(socketio)
    socket = room.sockets["a"]
    socket.volatile.emit("x")
    socket.compress(False).volatile.send("x")
    assert room.heard() == ["a", "a"]
    results = result(socket.timeout(500).emitWithAck("q"))
    room.kit.advance(0.6)
    assert [type(each) for each in results] == [AckTimeout]
    socket.volatile.to("b").emit("x")
    assert room.heard() == ["a", "ab", "b"]


def test_volatileToOne(socketio: Start) -> None:
    """A socket that would have to wait doesn't get it; what isn't volatile waits for it."""
    kit = socketio(nothing)
    client = kit.connect(upgrade=False)
    client.pauseReading()
    for name in ("first", "second"):
        client.socket.emit(name)
        kit.settle()
    client.socket.volatile.emit("volatile")
    client.socket.emit("third")
    client.resumeReading()
    assert [each.name for each in client.received] == ["first", "second", "third"]
    assert kit.io.stats().volatileDropped == 1


@pytest.mark.parametrize("rooms", [(5,), (None,), (["a"],), ("a", b"b")])
def test_roomsAreText(socketio: Start, rooms: Any) -> None:
    """Anything else is a mistake that is told at once."""
    room = Room(socketio, ["a"])
    for each in (room.io, room.sockets["a"], room.io.to("a")):
        for method in (each.to, each.in_, each.except_):
            with pytest.raises(TypeError, match="expected the name of a room"):
                method(*rooms)
    with pytest.raises(TypeError):
        room.io.socketsJoin(*rooms)


def test_duringABroadcast(socketio: Start) -> None:
    """A listener of what is sent may end sockets, its own and others: they get nothing any more, the others all."""
    room = Room(socketio)
    room.io.of("/other")
    for name in ("a", "b"):
        room.clients[name].of("/other")
    ended: list[str] = []

    def end(event: str) -> None:
        for name in ("a", "b"):
            if room.sockets[name].connected:
                ended.append(name)
                room.sockets[name].disconnect()

    room.sockets["a"].onAnyOutgoing(end)
    room.io.emit("x")
    assert (room.heard(), ended) == (["ab", "c"], ["a", "b"])


# With answers


def test_emitWithAck(socketio: Start) -> None:
    """A list of all answers, each as of one socket; the id is the same for all."""
    room = Room(socketio)
    for number, client in enumerate(room.clients.values()):
        client.on("q", number or None)
    results = result(room.io.to("a", "b").emitWithAck("q", b"x"))
    room.kit.settle()
    assert len(results) == 1
    assert sorted(results[0], key=repr) == [1, 2, None]
    assert (room.heard(), room.io.stats().acks) == (["a", "ab", "b"], 0)


def test_emitWithAckToNobody(socketio: Start) -> None:
    """An empty list at once."""
    room = Room(socketio)
    assert result(room.io.to("nowhere").emitWithAck("q")) == [[]]


def test_emitWithAckThatTakesTime(socketio: Start) -> None:
    """It fires when the last one has answered."""
    room = Room(socketio)
    results = result(room.io.emitWithAck("q"))
    for name, client in room.clients.items():
        assert results == []
        client.receive().answer(name)
    assert [sorted(each) for each in results] == [["a", "ab", "b", "c"]]


@pytest.mark.parametrize("isOperator", [False, True])
def test_emitWithAckTimeout(socketio: Start, isOperator: bool) -> None:
    """It fails with the answers that came, and the ids of those that are missing."""
    room = Room(socketio, **({} if isOperator else {"ackTimeout": 1000}))
    target = room.io.timeout(1000) if isOperator else room.io.to("a", "b", "c")
    results = result(target.emitWithAck("q"))
    for name in ("a", "c"):
        room.clients[name].receive().answer(name)
    room.kit.advance(1.1)
    (error,) = results
    assert isinstance(error, AckTimeout)
    assert sorted(error.answers) == ["a", "c"]
    assert sorted(error.missing) == sorted(room.sockets[each].id for each in ("b", "ab"))
    assert room.io.stats().acks == 0
    room.clients["b"].receive().answer("late")
    assert room.io.stats().lateAcks == 1


def test_emitWithAckVolatile(socketio: Start) -> None:
    """One that would have to wait isn't asked, and is missing at once."""
    room = Room(socketio, ["a"])
    slow = room.kit.connect(upgrade=False)
    slow.pauseReading()
    for name in ("first", "second"):
        slow.socket.emit(name)
        room.kit.settle()
    results = result(room.io.volatile.emitWithAck("q"))
    room.clients["a"].receive().answer(1)
    (error,) = results
    assert isinstance(error, AckTimeout)
    assert (error.answers, error.missing) == ([1], [slow.id])
    slow.resumeReading()
    assert [each.name for each in slow.received] == ["first", "second"]


def test_emitWithAckCancelled(socketio: Start) -> None:
    """Cancelling forgets all of it; answers are late then."""
    room = Room(socketio)
    deferred = room.io.emitWithAck("q")
    results = result(deferred)
    room.kit.settle()
    assert room.io.stats().acks == 4
    deferred.cancel()
    room.clients["a"].receive().answer(1)
    assert ([type(each) for each in results], room.io.stats().acks, room.io.stats().lateAcks) == (
        [CancelledError],
        0,
        1,
    )


def test_whoLeavesIsMissing(socketio: Start) -> None:
    """When the others have answered, one that has left isn't waited for."""
    room = Room(socketio)
    results = result(room.io.to("a").emitWithAck("q"))
    room.clients["a"].receive().answer(1)
    assert results == []
    room.clients["ab"].disconnect()
    (error,) = results
    assert isinstance(error, AckTimeout)
    assert (error.answers, error.missing) == ([1], [room.sockets["ab"].id])


def test_socketTimeout(socketio: Start) -> None:
    """`timeout` before `emitWithAck` is for what one socket, or the others, are asked."""
    room = Room(socketio)
    results = result(room.sockets["a"].to("b").timeout(500).emitWithAck("q"))
    room.kit.advance(0.6)
    assert [sorted(each.missing) for each in results] == [sorted(room.sockets[each].id for each in ("b", "ab"))]


# Many sockets


def test_fetchSockets(socketio: Start) -> None:
    """What can be said of sockets, wherever they are: id, rooms, data, handshake."""
    room = Room(socketio)
    ((found,),) = [result(room.io.in_("a").fetchSockets())]
    assert sorted(each.data["name"] for each in found) == ["a", "ab"]
    (other,) = [each for each in found if each.data["name"] == "ab"]
    socket = room.sockets["ab"]
    assert (other.id, other.rooms) == (socket.id, {socket.id, "a", "b"})
    assert other.handshake["address"] == "127.0.0.1"
    ((everybody,),) = [result(room.io.fetchSockets())]
    assert len(everybody) == 4
    ((others,),) = [result(room.sockets["a"].broadcast.fetchSockets())]
    assert sorted(each.data["name"] for each in others) == ["ab", "b", "c"]


def test_fetchedSocketsAct(socketio: Start) -> None:
    """They emit, join, leave and disconnect."""
    room = Room(socketio)
    ((found,),) = [result(room.io.in_(room.sockets["c"].id).fetchSockets())]
    (remote,) = found
    remote.emit("x", 1)
    remote.join("new")
    remote.leave("c")
    room.kit.settle()
    assert room.heard() == ["c"]
    assert room.sockets["c"].rooms == {remote.id, "new"}
    remote.disconnect()
    room.kit.settle()
    assert room.clients["c"].disconnected == "io server disconnect"


def test_fetchedSocketsAreAsked(socketio: Start) -> None:
    """They answer as one socket does; one that has ended doesn't."""
    room = Room(socketio)
    ((found,),) = [result(room.io.in_(room.sockets["c"].id).fetchSockets())]
    (remote,) = found
    room.clients["c"].on("mood?", lambda *words: (*words, "fine"))
    answers = result(remote.emitWithAck("mood?", "today"))
    room.kit.settle()
    assert answers == [("today", "fine")]
    silent = result(remote.emitWithAck("age?", timeout=500))
    room.kit.advance(0.4)
    assert silent == []
    room.kit.advance(0.2)
    assert (type(silent[0]), silent[0].missing) == (AckTimeout, [remote.id])
    leaving = result(remote.emitWithAck("age?", timeout=None))
    room.clients["c"].disconnect()
    assert [type(each) for each in leaving] == [AckTimeout]
    (gone,) = result(remote.emitWithAck("mood?"))
    assert (type(gone), gone.missing) == (AckTimeout, [remote.id])


def test_socketsJoinAndLeave(socketio: Start) -> None:
    """For all of the namespace, or of the target."""
    room = Room(socketio)
    room.io.in_("a").socketsJoin("x", "y")
    room.io.to("x").emit("x")
    assert room.heard() == ["a", "ab"]
    room.io.in_("b").socketsLeave("x")
    room.io.to("x").emit("x")
    assert room.heard() == ["a"]
    room.io.socketsLeave("y", "x")
    assert not {"x", "y"} & set(room.io.rooms)
    room.io.except_("a").socketsJoin("z")
    room.io.to("z").emit("x")
    assert room.heard() == ["b", "c"]


@pytest.mark.parametrize("close", [False, True])
def test_disconnectSockets(socketio: Start, close: bool) -> None:
    """Those of the target leave; with `close`, their sessions end."""
    room = Room(socketio)
    room.io.of("/admin")
    other = room.clients["a"].of("/admin")
    room.io.in_("a").disconnectSockets(close)
    room.kit.settle()
    assert [name for name, each in room.clients.items() if each.connected] == ["b", "c"]
    assert room.clients["a"].disconnected == "io server disconnect"
    assert other.connected is not close


def test_disconnectAll(socketio: Start) -> None:
    """Without a target, all of the namespace."""
    room = Room(socketio)
    room.io.disconnectSockets()
    room.kit.settle()
    assert (dict(room.io.sockets), dict(room.io.rooms)) == ({}, {})


def test_serverSideEmit(socketio: Start) -> None:
    """In memory there are no other processes, which is said."""
    room = Room(socketio)
    with pytest.raises(NotSupported):
        room.io.serverSideEmit("x")
    assert [type(each) for each in result(room.io.serverSideEmitWithAck("x"))] == [NotSupported]


def test_oneThatFailsIsLeftOut(socketio: Start) -> None:
    """One whose buffer is full keeps nobody else from getting a broadcast."""
    room = Room(socketio, maxBufferedBytes=1000, bufferLimitAction="close")
    room.clients["a"].pauseReading()
    for _ in range(3):
        room.io.emit("x" * 100_000)
    room.kit.settle()
    assert [name for name, each in room.clients.items() if len(each.received) == 3] == ["b", "ab", "c"]


def test_reprHidesRooms(socketio: Start) -> None:
    """An operator in a log shows no rooms: an id of protocol 4 is one, and a secret."""
    kit = socketio(lambda io: None)
    assert "secret" not in repr(kit.io.to("secret").except_("secret too"))


@pytest.mark.parametrize("parser", [1, b"default", "json", object()])
def test_wrongParsers(socketio: Start, parser: Any) -> None:
    """A parser that has not what it needs is refused."""
    with pytest.raises(OptionError, match="parser"):
        socketio(lambda io: None, parser=parser)


def test_ownParser(socketio: Start) -> None:
    """A parser of the layer's own, with other settings, is one."""
    kit = socketio(lambda io: io.on("a", lambda socket, value: value), parser=JSONParser(maxAttachments=1))
    client = kit.engine.connect("websocket")
    client.send("0")
    client.send('21["a",2]')
    assert client.receiveAll()[1] == "31[2]"
