"""Namespaces: fixed ones, and those that come to be when a client asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from engineio_twisted.socketio import ConnectRefused, SocketIO
from engineio_twisted.socketio.testing import Event, MemorySocketIO, Refused

Start = Callable[..., MemorySocketIO]


def nothing(io: SocketIO) -> None:
    """Take what comes."""


def test_ownHandlers(socketio: Start) -> None:
    """Each namespace has its own sockets, handlers, rooms and broadcasts."""
    connected: list[str] = []

    def application(io: SocketIO) -> None:
        for name in ("/", "/admin"):
            namespace = io.of(name)
            namespace.on("connection", lambda socket: connected.append(socket.namespace.name))
            namespace.on("where", lambda socket: socket.namespace.name)

    kit = socketio(application)
    client = kit.connect()
    admin = client.of("/admin")
    assert connected == ["/", "/admin"]
    assert (client.emitWithAck("where"), admin.emitWithAck("where")) == ("/", "/admin")
    assert (len(kit.io.sockets), list(kit.io.of("/admin").sockets)) == (1, [admin.id])
    kit.io.emit("to all")
    kit.io.of("/admin").emit("to admins")
    assert (client.received, admin.received) == ([Event("to all")], [Event("to admins")])


def test_of(socketio: Start) -> None:
    """The same name is the same namespace; a slash is added; `/` is the server itself."""
    io = socketio(nothing).io
    assert io.of("/") is io
    assert io.of("admin") is io.of("/admin")
    assert (io.of("admin").name, io.name) == ("/admin", "/")


def test_unknown(socketio: Start) -> None:
    """A namespace that nobody has made is refused; the session goes on, and nothing is kept of the name."""
    kit = socketio(nothing)
    client = kit.connect()
    before = kit.io.stats().namespaces
    for name in ("/nope", "/__init__", "/ä", "/" + "x" * 10_000):
        with pytest.raises(Refused) as caught:
            client.of(name)
        assert (caught.value.message, caught.value.data) == ("Invalid namespace", None)
    assert (client.connected, kit.io.stats().namespaces) == (True, before)


def test_unknownInProtocol4(socketio: Start) -> None:
    """A text, as servers 2.x send."""
    kit = socketio(nothing, allowEIO3=True)
    client = kit.connect("/nope", protocol=4, wait=False)
    assert client.refused is not None
    assert (client.refused.message, client.refused.data) == ("Invalid namespace", None)


@pytest.mark.parametrize("name", ["/", "/a/b", "/ä€😀", "/a b", "/__proto__", "/[1]", "/1", '/"', "/a?b"])
def test_names(socketio: Start, name: str) -> None:
    """Any text is a name that has no comma."""
    kit = socketio(lambda io: io.of(name).on("echo", lambda socket, *args: args))
    client = kit.connect(name)
    assert client.emitWithAck("echo", 1, b"x") == (1, b"x")


def test_leavingOne(socketio: Start) -> None:
    """The others go on, and it can be joined again."""
    kit = socketio(lambda io: io.of("/admin"))
    client = kit.connect()
    admin = client.of("/admin")
    admin.disconnect()
    assert (client.connected, dict(kit.io.of("/admin").sockets)) == (True, {})
    again = client.of("/admin")
    assert again.id != admin.id
    assert list(kit.io.of("/admin").sockets) == [again.id]


def test_removeLater(socketio: Start) -> None:
    """Handlers of a namespace hold for sockets that are connected already, and until they are removed."""
    kit = socketio(nothing)
    client = kit.connect()

    def answer(socket: Any) -> int:
        return 1

    kit.io.on("q", answer)
    assert client.emitWithAck("q") == 1
    assert list(kit.io.listeners("q")) == [answer]
    kit.io.removeListener("q", answer)
    assert (list(kit.io.listeners("q")), client.ask("q").isAnswered) == ([], False)


# Made when a client asks


def test_pattern(socketio: Start) -> None:
    """A namespace for each name that the pattern matches, with what was registered for all of them."""
    made: list[str] = []
    connected: list[tuple[str, str]] = []

    def application(io: SocketIO) -> None:
        made.append("start")
        io.on("new_namespace", lambda namespace: made.append(namespace.name))
        parent = io.of(re.compile(r"^/room-\d+$"))
        parent.use(lambda socket: socket.data.update(checked=True))
        parent.on("connection", lambda socket: connected.append((socket.namespace.name, socket.data["checked"])))
        parent.on("where", lambda socket: socket.namespace.name)

    kit = socketio(application)
    first, second, third = kit.connect("/room-1"), kit.connect("/room-2"), kit.connect("/room-1")
    assert made == ["start", "/room-1", "/room-2"]
    assert connected == [("/room-1", True), ("/room-2", True), ("/room-1", True)]
    assert (first.emitWithAck("where"), second.emitWithAck("where")) == ("/room-1", "/room-2")
    for wrong in ("/room-x", "/rooms/room-1", "/room-1/"):
        with pytest.raises(Refused, match="Invalid namespace"):
            kit.connect(wrong)
    kit.io.of("/room-1").emit("here")
    assert [len(each.received) for each in (first, second, third)] == [1, 0, 1]


def test_parentEmits(socketio: Start) -> None:
    """What is emitted to a parent goes to all of its children."""
    parents: list[Any] = []
    kit = socketio(lambda io: parents.append(io.of(re.compile("^/room-"))))
    first, second, other = kit.connect("/room-1"), kit.connect("/room-2"), kit.connect()
    parents[0].emit("all")
    assert (first.received, second.received, other.received) == ([Event("all")], [Event("all")], [])


@pytest.mark.parametrize("way", ["plain", "coroutine", "Deferred", "late"])
def test_function(socketio: Start, way: str) -> None:
    """A function says whether a name is one, by the name and the client's auth, at once or later."""
    asked: list[Any] = []

    def plain(name: str, auth: Any) -> bool:
        asked.append((name, auth))
        return name == "/yes"

    async def coroutine(name: str, auth: Any) -> bool:
        return plain(name, auth)

    async def late(name: str, auth: Any) -> bool:
        await deferLater(kit.clock, 5, lambda: None)
        return plain(name, auth)

    def deferred(name: str, auth: Any) -> Deferred[bool]:
        return succeed(plain(name, auth))

    function: Any = {"plain": plain, "coroutine": coroutine, "Deferred": deferred, "late": late}[way]
    kit = socketio(lambda io: io.of(function))
    yes, no = kit.connect("/yes", {"a": 1}, wait=False), kit.connect("/no", wait=False)
    kit.advance(5)
    assert yes.connected
    assert no.refused is not None
    assert no.refused.message == "Invalid namespace"
    assert asked == [("/yes", {"a": 1}), ("/no", {})]
    assert kit.io.stats().joining == 0


def test_functionsInOrder(socketio: Start) -> None:
    """The first one that takes the name has it; the others aren't asked. A fixed namespace comes before all."""
    asked: list[str] = []

    def taking(label: str, result: bool) -> Any:
        def function(name: str, auth: Any) -> bool:
            asked.append(label)
            return result

        return function

    def application(io: SocketIO) -> None:
        io.of("/fixed")
        for label, result in (("a", False), ("b", True), ("c", True)):
            parent = io.of(taking(label, result))
            parent.on("whose", lambda socket, label=label: label)

    kit = socketio(application)
    assert kit.connect("/x").emitWithAck("whose") == "b"
    assert asked == ["a", "b"]
    assert kit.connect("/fixed").connected
    assert asked == ["a", "b"]


@pytest.mark.usefixtures("mayLog")
def test_functionThatFails(socketio: Start) -> None:
    """It refuses, and is logged; others aren't asked."""

    def failing(name: str, auth: Any) -> bool:
        raise KeyError(name)

    kit = socketio(lambda io: io.of(failing))
    with pytest.raises(Refused, match=r"^Invalid namespace$"):
        kit.connect("/x")
    assert [type(each) for each in kit.errors] == [KeyError]
    kit.errors.clear()


def test_leavingWhileAFunctionThinks(socketio: Start) -> None:
    """Nothing is left of the client, nor made for it."""
    gate: Deferred[bool] = Deferred()
    kit = socketio(lambda io: io.of(lambda name, auth: gate))
    before = kit.io.stats().namespaces
    kit.connect("/x", wait=False).drop()
    if not gate.called:
        gate.callback(True)
    kit.settle()
    stats = kit.io.stats()
    assert (stats.joining, stats.sockets, stats.clients, stats.namespaces) == (0, 0, 0, before)


def test_emptyChildrenEnd(socketio: Start) -> None:
    """A namespace that a client has brought about ends with its last socket, and comes to be again."""
    made: list[str] = []

    def application(io: SocketIO) -> None:
        io.on("new_namespace", lambda namespace: made.append(namespace.name))
        io.of(re.compile("^/room-"))

    kit = socketio(application)
    before = kit.io.stats().namespaces
    first, second = kit.connect("/room-1"), kit.connect("/room-1")
    assert kit.io.stats().namespaces == before + 1
    first.disconnect()
    assert kit.io.stats().namespaces == before + 1
    second.drop()
    assert kit.io.stats().namespaces == before
    kit.connect("/room-1")
    assert made == ["/room-1", "/room-1"]


def test_emptyChildOfARefusedClient(socketio: Start) -> None:
    """A client that is refused leaves no namespace either."""

    def refuse(socket: Any) -> None:
        raise ConnectRefused("no")

    kit = socketio(lambda io: io.of(re.compile("^/room-")).use(refuse))
    before = kit.io.stats().namespaces
    with pytest.raises(Refused, match=r"^no$"):
        kit.connect("/room-1")
    assert kit.io.stats().namespaces == before


def test_emptyChildThatIsBeingJoined(socketio: Start) -> None:
    """It stays for a client that still waits for a middleware when the last other one leaves."""
    gate: Deferred[None] = Deferred()
    kit = socketio(lambda io: io.of(re.compile("^/room-")).use(lambda socket: gate if socket.auth else None))
    first = kit.connect("/room-1")
    second = kit.connect("/room-1", {"is": "slow"}, wait=False)
    first.disconnect()
    gate.callback(None)
    kit.settle()
    assert second.connected
    assert list(kit.io.of("/room-1").sockets) == [second.id]


def test_childrenThatStay(socketio: Start) -> None:
    """Those that the application has asked for by name, and all with `cleanupEmptyChildNamespaces` off."""
    kit = socketio(lambda io: io.of(re.compile("^/room-")))
    before = kit.io.stats().namespaces
    client = kit.connect("/room-1")
    kept = kit.io.of("/room-1")
    client.disconnect()
    assert kit.io.stats().namespaces == before + 1
    assert kit.io.of("/room-1") is kept
    kit = socketio(lambda io: io.of(re.compile("^/room-")), cleanupEmptyChildNamespaces=False)
    before = kit.io.stats().namespaces
    kit.connect("/room-1").disconnect()
    assert kit.io.stats().namespaces == before + 1


def test_aMiddlewareForAll(socketio: Start) -> None:
    """Every namespace is told when it is made, by whomever, and once: so all can have a middleware."""
    made: list[str] = []

    def application(io: SocketIO) -> None:
        @io.on("new_namespace")
        def checked(namespace: Any) -> None:
            made.append(namespace.name)
            namespace.use(check)

        io.of("/news")
        io.of(re.compile("^/room-"))
        io.of("news")
        io.of("/")

    def check(socket: Any) -> None:
        if not socket.auth:
            raise ConnectRefused("no")

    kit = socketio(application)
    for name in ("/news", "/room-1"):
        with pytest.raises(Refused, match="no"):
            kit.connect(name)
        assert kit.connect(name, {"is": "known"}).connected
    assert kit.connect().connected
    assert made == ["/news", "/room-1", "/room-1"]


def test_namedBeforeAClientAsks(socketio: Start) -> None:
    """A namespace that the application names first is one of the pattern's too: no client gets in unchecked."""
    made: list[str] = []

    def application(io: SocketIO) -> None:
        io.on("new_namespace", lambda namespace: made.append(namespace.name))
        parent = io.of(re.compile("^/room-"), connectionStateRecovery={"maxEvents": 7})

        @parent.use
        def check(socket: Any) -> None:
            if not socket.auth:
                raise ConnectRefused("no")

        parent.on("q", lambda socket: "answer")
        io.of("/room-1").emit("nobody hears it")
        io.of("/room-2", connectionStateRecovery=False)
        io.of("/hall")

    kit = socketio(application)
    with pytest.raises(Refused, match="no"):
        kit.connect("/room-1")
    client = kit.connect("/room-1", {"is": "known"})
    assert client.emitWithAck("q") == "answer"
    client.disconnect()
    assert made == ["/room-1", "/room-2", "/hall"]
    assert [*kit.io.namespaces] == ["/", "/room-1", "/room-2", "/hall"]
    recoveries = [each.recovery for each in kit.io.namespaces.values()]
    assert [each and each.settings.maxEvents for each in recoveries] == [None, 7, None, None]


def test_handlersOfParentAndChild(socketio: Start) -> None:
    """What is registered for one namespace holds for it alone, beside what holds for all; the parent's come first."""
    order: list[str] = []

    def application(io: SocketIO) -> None:
        parent = io.of(re.compile("^/room-"))
        parent.use(lambda socket: order.append("parent"))
        parent.on("disconnect", lambda socket, *_: order.append(f"left {socket.namespace.name}"))
        parent.on("q", lambda socket: "parent")

        @io.on("new_namespace")
        def made(namespace: Any) -> None:
            if namespace.name == "/room-1":
                namespace.use(lambda socket: order.append("child"))
                namespace.on("q", lambda socket: "child")

    kit = socketio(application)
    first, second = kit.connect("/room-1"), kit.connect("/room-2")
    assert order == ["parent", "child", "parent"]
    assert (first.emitWithAck("q"), second.emitWithAck("q")) == ("child", "parent")
    first.disconnect()
    assert order[3:] == ["left /room-1"]


def test_maxNamespacesPerClient(socketio: Start) -> None:
    """One session joins no more than that many; one that it has left doesn't count."""
    kit = socketio(lambda io: io.of(re.compile("^/room-")), maxNamespacesPerClient=3)
    client = kit.connect()
    rooms = [client.of(f"/room-{number}") for number in range(2)]
    with pytest.raises(Refused):
        client.of("/room-2")
    assert all(each.connected for each in (client, *rooms))
    rooms[0].disconnect()
    assert client.of("/room-2").connected


def test_newNamespaceFromTheWire(socketio: Start) -> None:
    """A client that emits the names of the layer's own events reaches no handler of the layer's."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        for event in ("new_namespace", "connection", "error"):
            io.on(event, lambda *args: heard.append(args))

    kit = socketio(application)
    client = kit.connect()
    heard.clear()
    for event in ("new_namespace", "connection", "error"):
        client.emit(event, "forged")
    assert heard == []
    assert client.connected
