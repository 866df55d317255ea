"""Draining and closing a server: handlers end, clients come back to another one, nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from engineio_twisted.socketio import SocketIO
from engineio_twisted.socketio.testing import MemorySocketIO, Refused
from engineio_twisted.testing import HandshakeRefused

Start = Callable[..., MemorySocketIO]


class Slow:
    """An application with a handler that takes ten seconds, and one that never ends."""

    def __init__(self) -> None:
        self.reasons: list[Any] = []
        self.through: list[Any] = []

    def __call__(self, io: SocketIO) -> None:
        io.of("/admin")
        io.on("disconnect", lambda socket, reason, description: self.reasons.append(reason))

        @io.on("work")
        async def work(socket: Any) -> str:
            await deferLater(io.engine.reactor, 10, lambda: None)
            self.through.append(socket.connected)
            return "done"

        @io.on("hang")
        def hang(socket: Any) -> Deferred[None]:
            return Deferred()


def test_drainWaitsForHandlers(socketio: Start) -> None:
    """They end, and their answers go out; then the sessions are closed."""
    application = Slow()
    kit = socketio(application, drainTimeout=30_000)
    client = kit.connect()
    question = client.ask("work")
    drained: list[Any] = []
    kit.io.drain().addCallback(drained.append)
    kit.advance(9)
    assert (client.connected, drained, application.reasons) == (True, [], [])
    kit.advance(2)
    assert (question.answer, application.through) == ("done", [True])
    kit.advance(30)
    assert len(drained) == 1
    assert (application.reasons, client.disconnected) == (["server shutting down"], "transport close")
    assert kit.io.stats().clients == 0


def test_drainWaitsForOtherHandlers(socketio: Start) -> None:
    """Handlers of connection, and middlewares of events with the handler behind them, are waited for too."""

    def application(io: SocketIO) -> None:
        async def takesTime(*arguments: Any) -> None:
            await deferLater(io.engine.reactor, 5, lambda: None)

        @io.on("connection")
        async def connection(socket: Any) -> None:
            socket.use(takesTime)
            await takesTime()
            socket.emit("welcome")

        io.on("ask", lambda socket: "answer")

    kit = socketio(application, drainTimeout=30_000)
    client = kit.connect()
    kit.advance(3)
    question = client.ask("ask")
    drained: list[Any] = []
    kit.io.drain().addCallback(drained.append)
    kit.advance(10)
    assert [each.name for each in client.received] == ["welcome"]
    assert question.answer == "answer"
    assert len(drained) == 1


def test_drainTimeout(socketio: Start) -> None:
    """A handler that never ends isn't waited for longer than `drainTimeout`."""
    application = Slow()
    kit = socketio(application, drainTimeout=5000)
    client = kit.connect()
    client.ask("hang")
    drained: list[Any] = []
    kit.io.drain().addCallback(drained.append)
    kit.advance(4)
    assert (drained, client.connected) == ([], True)
    kit.advance(2)
    assert (len(drained), application.reasons) == (1, ["server shutting down"])


def test_noNewOnes(socketio: Start) -> None:
    """While it drains, no namespace is joined, and no session opened."""
    application = Slow()
    kit = socketio(application, drainTimeout=30_000)
    client = kit.connect()
    client.ask("work")
    kit.io.drain()
    kit.settle()
    with pytest.raises(Refused, match=r"^Server is closing$"):
        client.of("/admin")
    with pytest.raises(HandshakeRefused):
        kit.connect()
    kit.advance(60)
    assert client.disconnected == "transport close"


@pytest.mark.parametrize("way", ["drain", "close"])
def test_clientsComeBack(socketio: Start, way: str) -> None:
    """No packet tells a client that the server wants it to be gone: it sees a closed connection, and reconnects."""
    application = Slow()
    kit = socketio(application, drainTimeout=1000)
    clients = [kit.connect(transport=each, upgrade=False) for each in ("polling", "websocket")]
    getattr(kit.io, way)()
    kit.advance(5)
    assert application.reasons == ["server shutting down"] * 2
    for each in clients:
        assert each.disconnected == "transport close"
        assert [str(message)[0] for message in each.engine.received] == ["0"]


def test_close(socketio: Start) -> None:
    """It waits for nothing; its Deferred fires when nothing is left. A second one changes nothing."""
    application = Slow()
    kit = socketio(application)
    client = kit.connect()
    client.ask("work")
    closed: list[Any] = []
    kit.io.close().addCallback(closed.append)
    kit.io.close().addCallback(closed.append)
    kit.settle()
    assert (len(closed), application.reasons) == (2, ["server shutting down"])
    stats = kit.io.stats()
    assert (stats.clients, stats.sockets, stats.rooms, stats.acks, stats.joining) == (0, 0, 0, 0, 0)
    kit.advance(20)
    assert application.through == [False]


def test_closeDuringAMiddleware(socketio: Start) -> None:
    """A client that is being connected is no reason to wait; what it waits for is cancelled."""
    cancelled: list[Any] = []
    kit = socketio(lambda io: io.use(lambda socket: Deferred(cancelled.append)))
    client = kit.connect(wait=False)
    closed: list[Any] = []
    kit.io.close().addCallback(closed.append)
    kit.settle()
    assert (len(cancelled), len(closed), client.connected) == (1, 1, False)


@pytest.mark.parametrize("way", ["drain", "close"])
def test_fromInsideAHandler(socketio: Start, way: str) -> None:
    """A handler may close its own server; its answer still goes out if it drains."""
    application = Slow()
    kit = socketio(application, drainTimeout=1000)
    kit.io.on("stop", lambda socket: getattr(kit.io, way)() and None)
    client = kit.connect()
    question = client.ask("stop")
    kit.advance(5)
    assert application.reasons == ["server shutting down"]
    assert question.isAnswered is (way == "drain")


def test_closeOfTheEngine(socketio: Start) -> None:
    """Closing the engine's server ends the sockets too."""
    application = Slow()
    kit = socketio(application)
    client = kit.connect()
    kit.io.engine.close()
    kit.settle()
    assert (len(application.reasons), client.disconnected) == (1, "transport close")
