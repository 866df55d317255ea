"""Rooms: joining, leaving, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from engineio_twisted.socketio import IAdapter, MemoryAdapter, SocketIO
from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]


def nothing(io: SocketIO) -> None:
    """Take what comes."""


def socketOf(kit: MemorySocketIO, client: MemorySocket) -> Any:
    """Return the server's socket of a client."""
    assert client.id is not None
    return kit.io.sockets[client.id]


def test_join(socketio: Start) -> None:
    """A socket is in the rooms that it has joined, and in that of its id."""
    kit = socketio(nothing)
    client = kit.connect()
    socket = socketOf(kit, client)
    socket.join("a")
    socket.join("a", "b")
    assert socket.rooms == {client.id, "a", "b"}
    assert {room: set(sockets) for room, sockets in kit.io.rooms.items()} == {
        each: {socket} for each in (client.id, "a", "b")
    }


def test_leave(socketio: Start) -> None:
    """It leaves those that it is in; a room that is empty is gone."""
    kit = socketio(nothing)
    first, second = (socketOf(kit, kit.connect()) for _ in range(2))
    first.join("a", "b", "c")
    second.join("a")
    first.leave("a", "b", "unknown")
    assert first.rooms == {first.id, "c"}
    assert {room: set(sockets) for room, sockets in kit.io.rooms.items()} == {
        first.id: {first},
        second.id: {second},
        "a": {second},
        "c": {first},
    }


def test_roomOfItsId(socketio: Start) -> None:
    """It is always in that, and nobody else ever is."""
    kit = socketio(nothing)
    first, second = kit.connect(), kit.connect()
    socket = socketOf(kit, first)
    socket.leave(first.id)
    assert socket.rooms == {first.id}
    try:
        socketOf(kit, second).join(first.id)
    except ValueError:
        pass
    kit.io.to(first.id or "").emit("private")
    assert (first.received, second.received) == ([Event("private")], [])


@pytest.mark.parametrize("room", ["", " ", "ä😀", "__proto__", "a,b", "x" * 10_000])
def test_anyText(socketio: Start, room: str) -> None:
    """Any text is the name of a room."""
    kit = socketio(nothing)
    client, other = kit.connect(), kit.connect()
    socketOf(kit, client).join(room)
    kit.io.to(room).emit("there")
    assert (client.received, other.received) == ([Event("there")], [])


@pytest.mark.parametrize("room", [5, None, b"a", ["a"]])
def test_onlyText(socketio: Start, room: Any) -> None:
    """Anything else is a mistake that is told at once."""
    kit = socketio(nothing)
    socket = socketOf(kit, kit.connect())
    with pytest.raises(TypeError):
        socket.join(room)
    assert socket.rooms == {socket.id}


def test_goneWithTheSocket(socketio: Start) -> None:
    """A socket that has ended is in no room, joins none, and leaves no empty one."""
    kit = socketio(nothing)
    client, other = kit.connect(), kit.connect()
    socket = socketOf(kit, client)
    socket.join("a", "b")
    socketOf(kit, other).join("b")
    client.disconnect()
    assert socket.rooms == frozenset()
    assert set(kit.io.rooms) == {other.id, "b"}
    socket.join("c")
    assert (socket.rooms, kit.io.stats().rooms) == (frozenset(), 1)


def test_oneNamespaceOnly(socketio: Start) -> None:
    """A room of the same name in another namespace is another room."""
    kit = socketio(lambda io: io.of("/admin"))
    client = kit.connect()
    admin = client.of("/admin")
    socketOf(kit, client).join("a")
    assert "a" not in kit.io.of("/admin").rooms
    kit.io.of("/admin").to("a").emit("nobody")
    kit.io.to("a").emit("one")
    assert (client.received, admin.received) == ([Event("one")], [])


def test_readOnly(socketio: Start) -> None:
    """The mappings of sockets and rooms are for reading."""
    kit = socketio(nothing)
    socket = socketOf(kit, kit.connect())
    socket.join("a")
    for mapping in (kit.io.sockets, kit.io.rooms):
        with pytest.raises((TypeError, AttributeError)):
            mapping["x"] = None  # type: ignore[index]


def test_interface(socketio: Start) -> None:
    """What the layer asks of an adapter is in its interface, such as the rooms that it counts."""
    adapter = socketio(lambda io: None).io.adapter
    verifyObject(IAdapter, adapter)
    assert {each for each in dir(MemoryAdapter) if each[0] != "_"} | {"namespace"} == set(IAdapter.names())


def test_fromTheHandlers(socketio: Start) -> None:
    """Joining and leaving are common answers to events, and take effect at once."""

    def application(io: SocketIO) -> None:
        io.on("join", lambda socket, room: socket.join(room))
        io.on("leave", lambda socket, room: socket.leave(room))
        io.on("say", lambda socket, room, text: socket.to(room).emit("said", text))

    kit = socketio(application)
    first, second = kit.connect(), kit.connect()
    for each in (first, second):
        each.emit("join", "a")
    first.emit("say", "a", "hi")
    second.emit("leave", "a")
    first.emit("say", "a", "anyone?")
    assert (first.received, second.received) == ([], [Event("said", ["hi"])])
