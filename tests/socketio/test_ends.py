"""The end of a socket: its reasons, what happens in which order, and from inside of what it may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from engineio_twisted.socketio import Disconnected, DisconnectReason, SocketIO
from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]


class Ends:
    """An application that notes how the sockets of `/` end, and what is left of them then."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.sockets: list[Any] = []

    def __call__(self, io: SocketIO) -> None:
        self.io = io
        io.of("/admin")
        io.on("connection", self._connection)

    def _connection(self, socket: Any) -> None:
        self.sockets.append(socket)
        socket.join("room")
        socket.on("disconnecting", lambda *args: self._note("disconnecting", socket, args))
        socket.on("disconnect", lambda *args: self._note("disconnect", socket, args))

    def _note(self, event: str, socket: Any, args: tuple[Any, ...]) -> None:
        self.log.append((event, args[0], "room" in socket.rooms))

    @property
    def reasons(self) -> list[Any]:
        """Why they have ended, by `disconnect`."""
        return [reason for event, reason, _ in self.log if event == "disconnect"]


def socketOf(kit: MemorySocketIO, client: MemorySocket) -> Any:
    """Return the server's socket of a client."""
    assert client.id is not None
    return kit.io.sockets[client.id]


def closeTheServer(kit: MemorySocketIO, client: MemorySocket) -> None:
    """Close it, and let that happen."""
    kit.io.close()
    kit.settle()


def vanish(kit: MemorySocketIO, client: MemorySocket) -> None:
    """Let the client be gone, and notice it."""
    client.vanish()
    kit.advance(50)


ENDS: dict[str, tuple[Callable[[MemorySocketIO, MemorySocket], object], str, str]] = {
    "client": (lambda kit, client: client.disconnect(), "client namespace disconnect", "io client disconnect"),
    "server": (
        lambda kit, client: socketOf(kit, client).disconnect(),
        "server namespace disconnect",
        "io server disconnect",
    ),
    "server, all": (
        lambda kit, client: socketOf(kit, client).disconnect(True),
        "server namespace disconnect",
        "io server disconnect",
    ),
    "close of the server": (closeTheServer, "server shutting down", "transport close"),
    "close of the session": (lambda kit, client: socketOf(kit, client).conn.close(), "forced close", "transport close"),
    "close of the client": (lambda kit, client: client.engine.close(), "transport close", "forced close"),
    "invalid packet": (lambda kit, client: client.sendRaw("nonsense"), "parse error", "transport close"),
    "vanish": (vanish, "ping timeout", ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_reasons(socketio: Start, end: str) -> None:
    """Both sides learn of it, each in its words; the server's is one of DisconnectReason."""
    application = Ends()
    kit = socketio(application)
    client = kit.connect(transport="websocket")
    act, reason, clients = ENDS[end]
    act(kit, client)
    kit.settle()
    assert application.reasons == [reason]
    assert application.reasons[0] is DisconnectReason(reason)
    assert client.disconnected == (clients or None)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_lost(socketio: Start, transport: str) -> None:
    """A connection that is lost has one of the engine's reasons."""
    application = Ends()
    kit = socketio(application)
    kit.connect(transport=transport, upgrade=False).drop()
    assert application.reasons in (["transport close"], ["transport error"])


def test_limits(socketio: Start) -> None:
    """A client that sends too much, or doesn't take what it is sent, is ended with the engine's reason."""
    application = Ends()
    kit = socketio(application, maxMessagesPerSecond=5, maxBufferedBytes=1000, bufferLimitAction="close")
    client = kit.connect(transport="websocket")
    for _ in range(20):
        if client.connected:
            client.emit("x")
    assert application.reasons == ["rate limit exceeded"]
    client = kit.connect(transport="polling", upgrade=False)
    client.pauseReading()
    for _ in range(5):
        client.socket.emit("x" * 1000)
        kit.settle()
    assert application.reasons[1:] == ["buffer limit exceeded"]


@pytest.mark.parametrize("end", ENDS)
def test_order(socketio: Start, end: str) -> None:
    """`disconnecting` while its rooms are there, then `disconnect` without them: once each, whatever the cause."""
    application = Ends()
    kit = socketio(application)
    client = kit.connect(transport="websocket")
    failed: list[Any] = []
    socket = socketOf(kit, client)
    socket.emitWithAck("q").addErrback(lambda failure: failed.append(failure.value))
    act, reason, _ = ENDS[end]
    act(kit, client)
    kit.settle()
    assert application.log == [("disconnecting", reason, True), ("disconnect", reason, False)]
    assert [type(each) for each in failed] == [Disconnected]
    assert (failed[0].reason, socket.connected, socket.rooms) == (reason, False, frozenset())
    assert (dict(kit.io.sockets), dict(kit.io.rooms)) == ({}, {})
    stats = kit.io.stats()
    assert (stats.sockets, stats.rooms, stats.acks, stats.attachments) == (0, 0, 0, 0)


def test_namespaceHears(socketio: Start) -> None:
    """Handlers of the namespace get the socket, the reason and the description."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        for event in ("disconnecting", "disconnect"):
            io.on(event, lambda socket, reason, description, event=event: heard.append((event, socket.id, reason)))

    client = socketio(application).connect()
    client.disconnect()
    reason = "client namespace disconnect"
    assert heard == [("disconnecting", client.id, reason), ("disconnect", client.id, reason)]


def test_description(socketio: Start) -> None:
    """The engine's, if the session has ended."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        io.on("disconnect", lambda socket, reason, description: heard.append(description))

    kit = socketio(application)
    client = kit.connect()
    described: list[Any] = []
    client.engine.socket.on("close", lambda reason, description: described.append(description))
    client.drop()
    assert heard == described != [None]


def test_allNamespaces(socketio: Start) -> None:
    """The end of a session ends every namespace of it."""
    ended: list[str] = []

    def application(io: SocketIO) -> None:
        for name in ("/", "/a", "/b"):
            io.of(name).on("disconnect", lambda socket, *_: ended.append(socket.namespace.name))

    kit = socketio(application)
    client = kit.connect()
    client.of("/a")
    client.of("/b")
    client.drop()
    assert sorted(ended) == ["/", "/a", "/b"]


def test_closeEndsAll(socketio: Start) -> None:
    """`disconnect(True)` leaves every namespace of the session, and then closes it."""
    ended: list[Any] = []

    def application(io: SocketIO) -> None:
        for name in ("/", "/a"):
            io.of(name).on("disconnect", lambda socket, reason, _: ended.append((socket.namespace.name, reason)))

    kit = socketio(application)
    client = kit.connect()
    other = client.of("/a")
    socketOf(kit, client).disconnect(True)
    kit.settle()
    assert sorted(ended) == [("/", "server namespace disconnect"), ("/a", "server namespace disconnect")]
    assert (client.disconnected, other.disconnected) == ("io server disconnect", "io server disconnect")
    assert client.engine.closed is not None


def test_oneNamespace(socketio: Start) -> None:
    """`disconnect()` leaves the others alone; what the client sent before it knew is ignored."""
    application = Ends()
    kit = socketio(application)
    client = kit.connect()
    admin = client.of("/admin")
    client.delay(1)
    socketOf(kit, client).disconnect()
    client.emit("late")
    client.sendRaw('20["late"]', '51-["late",{"_placeholder":true,"num":0}]', b"x", "30[]", "1")
    kit.advance(5)
    assert (admin.connected, client.disconnected) == (True, "io server disconnect")
    assert len(application.reasons) == 1
    again = client.of("/", wait=False)
    kit.advance(5)
    assert again.connected


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("where", ["connection", "event", "disconnecting", "disconnect", "onAny", "use", "outgoing"])
def test_disconnectFromInside(socketio: Start, where: str, close: bool) -> None:
    """A socket may be disconnected from inside anything; it ends once."""
    log: list[str] = []

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            def end(*_: Any) -> None:
                socket.disconnect(close)

            socket.on("disconnecting", lambda *_: log.append("disconnecting"))
            socket.on("disconnect", lambda *_: log.append("disconnect"))
            if where == "connection":
                end()
            elif where == "onAny":
                socket.onAny(end)
            elif where == "use":
                socket.use(end)
            elif where == "outgoing":
                socket.onAnyOutgoing(end)
                socket.on("x", lambda: socket.emit("y"))
            else:
                socket.on("x" if where == "event" else where, end)

    kit = socketio(application)
    client = kit.connect(wait=False)
    if client.connected:
        client.ask("x")
    client.disconnect()
    kit.settle()
    assert log == ["disconnecting", "disconnect"]
    stats = kit.io.stats()
    assert (stats.sockets, stats.rooms, stats.joining) == (0, 0, 0)


def test_closeFromInside(socketio: Start) -> None:
    """The engine's session may be closed from inside any handler."""
    application = Ends()
    kit = socketio(application)
    kit.io.on("x", lambda socket: socket.conn.close())
    client = kit.connect()
    client.emit("x")
    assert (application.reasons, kit.io.stats().clients) == (["forced close"], 0)


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("event", ["disconnecting", "disconnect"])
def test_handlersThatFail(socketio: Start, event: str) -> None:
    """One of an end that raises is logged; the other steps happen."""
    application = Ends()
    kit = socketio(application)
    client = kit.connect()
    socketOf(kit, client).on(event, lambda *_: {}["a"])
    client.disconnect()
    assert [each[0] for each in application.log] == ["disconnecting", "disconnect"]
    assert (dict(kit.io.sockets), dict(kit.io.rooms)) == ({}, {})
    assert [type(each) for each in kit.errors] == [KeyError]
    kit.errors.clear()


def test_emitInDisconnecting(socketio: Start) -> None:
    """The rooms are there to be told; the socket itself gets nothing."""

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            socket.join("room")

            @socket.on("disconnecting")
            def disconnecting(reason: Any, description: Any) -> None:
                socket.to(*socket.rooms).emit("left")

    kit = socketio(application)
    first, second = kit.connect(), kit.connect()
    first.disconnect()
    assert (first.received, second.received) == ([], [Event("left")])


def test_halfReceivedPacket(socketio: Start) -> None:
    """Attachments that haven't all come are dropped with the session."""
    application = Ends()
    kit = socketio(application)
    client = kit.connect()
    client.sendRaw('52-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"a")
    assert kit.io.stats().attachments == 1
    client.drop()
    assert (kit.io.stats().attachments, len(application.reasons)) == (0, 1)


def test_whenDisconnected(socketio: Start) -> None:
    """A Deferred of the reason, also if it is over already; cancelling it forgets it."""
    kit = socketio(Ends())
    client = kit.connect()
    socket = socketOf(kit, client)
    reasons: list[Any] = []
    socket.whenDisconnected().addCallback(reasons.append)
    forgotten = socket.whenDisconnected()
    forgotten.addErrback(lambda failure: None)
    forgotten.cancel()
    client.disconnect()
    socket.whenDisconnected().addCallback(reasons.append)
    assert reasons == ["client namespace disconnect"] * 2


def test_workThatEnds(socketio: Start) -> None:
    """What follows the socket is cancelled with it: coroutines, calls, loops."""
    ticks: list[str] = []
    cancelled: list[Any] = []
    kit = socketio(Ends())
    client = kit.connect()
    socket = socketOf(kit, client)

    async def work() -> None:
        await deferLater(kit.clock, 100, lambda: None)
        ticks.append("work")

    socket.follow(work())
    socket.follow(Deferred(cancelled.append))
    socket.callLater(2, lambda: ticks.append("later"))
    socket.callLater(100, lambda: ticks.append("never"))
    socket.callEvery(1, lambda: ticks.append("every"), now=False)
    kit.advance(2.5)
    assert sorted(ticks) == ["every", "every", "later"]
    client.of("/admin")
    client.disconnect()
    kit.advance(200)
    assert (len(ticks), len(cancelled)) == (3, 1)


@pytest.mark.usefixtures("mayLog")
def test_workThatFails(socketio: Start) -> None:
    """It is logged, and emitted as `error`."""
    errors: list[Any] = []
    kit = socketio(Ends())
    socket = socketOf(kit, kit.connect())
    socket.on("error", errors.append)

    async def work() -> None:
        raise KeyError("a")

    socket.follow(work())
    assert [type(each) for each in errors] == [KeyError]
    kit.errors.clear()


def test_disconnectAfterTheEnd(socketio: Start) -> None:
    """Then it does nothing, to other namespaces of the session neither."""
    kit = socketio(Ends())
    client = kit.connect()
    admin = client.of("/admin")
    socket = admin.socket
    admin.disconnect()
    socket.disconnect(close=True)
    kit.settle()
    assert client.connected
