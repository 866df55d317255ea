"""Applications of Socket.IO whose handlers, middlewares and listeners raise, end sockets, or never come to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from engineio_twisted.socketio import (
    ConnectRefused,
    SocketIO,
)
from engineio_twisted.socketio.testing import MemorySocketIO

Start = Callable[..., MemorySocketIO]


def nothing(io: SocketIO) -> None:
    """An application that does nothing."""


def onSocket(setup: Callable[[Any], object]) -> Callable[[SocketIO], object]:
    """Make an application that sets each socket of `/` up."""
    return lambda io: io.on("connection", setup)


def empty(kit: MemorySocketIO) -> None:
    """Make sure that nothing is left of clients, without one to be connected."""
    stats = kit.io.stats()
    left = (stats.clients, stats.sockets, stats.rooms, stats.acks, stats.joining, stats.attachments)
    assert left == (0, 0, 0, 0, 0, 0)
    for each in kit.io.namespaces.values():
        assert dict(each.outgoing) == {}
        assert each.joiningHere == 0
    assert kit.clock.getDelayedCalls() == []


def test_lostAcknowledgementsCancelOthers(socketio: Start) -> None:
    """A callback of one that a socket owes may cancel another: each ends once, and none is left."""
    happened: list[str] = []

    def setup(socket: Any) -> None:
        waiting = {name: socket.emitWithAck(name) for name in "abc"}
        waiting["d"] = socket.namespace.emitWithAck("d")

        def failed(failure: Any, name: str) -> None:
            happened.append(f"{name} {failure.type.__name__}")
            for each in waiting.values():
                each.cancel()

        for name, each in waiting.items():
            each.addErrback(failed, name)

    kit = socketio(onSocket(setup))
    kit.connect().disconnect()
    assert happened == ["a Disconnected", "b CancelledError", "c CancelledError", "d CancelledError"]
    empty(kit)


@pytest.mark.parametrize("way", ["refused", "lost", "recovered", "late"])
def test_listenersOfOutgoingAreNotLeft(socketio: Start, way: str) -> None:
    """Listeners of what is sent go with the socket, wherever in its life they were added."""
    heard: list[Any] = []
    gates: list[Deferred[None]] = []
    sockets: list[Any] = []

    def application(io: SocketIO) -> None:
        @io.use
        def middleware(socket: Any) -> Any:
            sockets.append(socket)
            socket.onAnyOutgoing(lambda *arguments: heard.append(arguments[0]))
            if way == "refused":
                raise ConnectRefused("no")
            if way == "lost":
                gates.append(Deferred())
                return gates[-1]
            return None

    kit = socketio(application, connectionStateRecovery=True)
    client = kit.connect(wait=False)
    if way == "recovered":
        client.drop()
        client = kit.connect(recover=client)
        assert client.recovered
    if way in ("recovered", "late"):
        kit.io.emit("x")
        assert heard == ["x"]
    if way == "lost":
        client.drop()
    else:
        client.disconnect()
    if way == "late":
        sockets[0].onAnyOutgoing(print)
    kit.advance(1000)
    empty(kit)


@pytest.mark.usefixtures("mayLog")
def test_sameUserThatFails(socketio: Start) -> None:
    """The client is refused, what failed is logged, and the session may still be had."""
    fails = [True]

    def sameUser(kept: Any, socket: Any) -> bool:
        if fails[0]:
            raise ZeroDivisionError
        return True

    kit = socketio(nothing, connectionStateRecovery={"sameUser": sameUser})
    client = kit.connect()
    client.drop()
    again = kit.connect(recover=client, wait=False)
    assert str(again.refused) == "Connection refused"
    assert [type(each) for each in kit.errors] == [ZeroDivisionError]
    kit.errors.clear()
    fails[0] = False
    assert kit.connect(recover=client).recovered


def test_acceptedAfterTheClientHasLeft(socketio: Start) -> None:
    """A function that lets a namespace in when its client has left leaves no namespace."""
    made: list[str] = []

    async def accepts(name: str, auth: Any) -> bool:
        try:
            await Deferred()
        except CancelledError:
            pass
        return True

    def application(io: SocketIO) -> None:
        io.of(accepts)
        io.on("new_namespace", lambda namespace: made.append(namespace.name))

    kit = socketio(application)
    client = kit.connect("/any", wait=False)
    client.drop()
    assert set(kit.io.namespaces) == {"/"}
    empty(kit)


@pytest.mark.parametrize("isLater", [False, True])
@pytest.mark.parametrize("close", [False, True])
def test_asynchronousMiddlewareEndsItself(socketio: Start, isLater: bool, close: bool) -> None:
    """A coroutine that disconnects its own socket, before or after it has waited, ends it once."""
    gate: Deferred[None] = Deferred()
    after: list[str] = []

    def application(io: SocketIO) -> None:
        @io.use
        async def middleware(socket: Any) -> None:
            if isLater:
                await gate
            socket.disconnect(close)
            after.append("first")
            await Deferred()
            after.append("second")

        io.on("connection", lambda socket: after.append("connection"))

    kit = socketio(application)
    client = kit.connect(wait=False)
    gate.callback(None)
    kit.settle()
    assert str(client.refused) == "Connection refused"
    assert after == ["first"]
    empty(kit)


@pytest.mark.parametrize("isLater", [False, True])
@pytest.mark.parametrize("close", [False, True])
def test_asynchronousEventMiddlewareEndsItself(socketio: Start, isLater: bool, close: bool) -> None:
    """The same with a middleware of events."""
    gate: Deferred[None] = Deferred()
    after: list[str] = []

    def setup(socket: Any) -> None:
        @socket.use
        async def middleware(event: str, arguments: list[Any]) -> None:
            if isLater:
                await gate
            socket.disconnect(close)
            after.append(event)
            await Deferred()
            after.append("never")

        socket.on("x", after.append)
        socket.on("error", after.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.sendRaw('2["x",1]')
    gate.callback(None)
    kit.settle()
    assert after == ["x"]
    assert client.disconnected == "io server disconnect"
    empty(kit)


@pytest.mark.usefixtures("mayLog")
def test_roomOfOneWhoIsAway(socketio: Start) -> None:
    """Nobody joins the room of an id whose socket may be recovered; when it can't any more, the name is free."""

    def application(io: SocketIO) -> None:
        io.on("join", lambda socket, room: socket.join(room))

    kit = socketio(application, connectionStateRecovery=True)
    client, other = kit.connect(), kit.connect()
    client.drop()
    other.emit("join", client.id)
    assert [type(each) for each in kit.errors] == [ValueError]
    kit.errors.clear()
    again = kit.connect(recover=client)
    kit.io.to(str(client.id)).emit("secret")
    assert [each.name for each in again.received] == ["secret"]
    assert other.received == []
    again.disconnect()
    other.emit("join", client.id)
    assert other.socket.rooms == {other.id, client.id}


def test_otherUserWithoutMiddlewares(socketio: Start) -> None:
    """A client that is not of the same user goes through the middlewares, even if they are skipped for others."""
    seen: list[Any] = []
    recovery = {"skipMiddlewares": True, "sameUser": lambda kept, socket: kept.auth == socket.auth}
    kit = socketio(
        lambda io: io.use(lambda socket: seen.append(socket.auth.get("name"))), connectionStateRecovery=recovery
    )
    client = kit.connect(auth={"name": "a"})
    client.drop()
    again = kit.connect(recover=client, auth={"name": "b"})
    assert (again.recovered, seen) == (False, ["a", "b"])


@pytest.mark.parametrize("isSame", [False, True])
def test_sameUserThatTakesTime(socketio: Start, isSame: bool) -> None:
    """What it returns later counts, not that it returned something; two that come back at once share no id."""
    gates: list[Deferred[bool]] = []

    async def sameUser(kept: Any, socket: Any) -> bool:
        gates.append(Deferred())
        return await gates[-1]

    kit = socketio(nothing, connectionStateRecovery={"sameUser": sameUser})
    client = kit.connect()
    client.drop()
    first, second = [kit.connect(recover=client, wait=False) for _ in range(2)]
    for each in gates:
        each.callback(isSame)
    kit.settle()
    # The second one of the same user is the one who is there.
    assert (first.connected, second.connected) == (not isSame, True)
    assert (first.recovered, second.recovered) == (isSame, isSame)
    assert (first.id == second.id) == isSame
    assert set(kit.io.sockets) == {each.id for each in (first, second)}
    assert kit.io.stats().notRecovered == ({} if isSame else {"other user": 2})
