"""The test kit: a server of the layer in memory, what its clients show of it, and that nothing gets past it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from engineio_twisted import OptionError, Server
from engineio_twisted.socketio import ConnectRefused, MemoryAdapter, SocketIO
from engineio_twisted.socketio.testing import Event, MemorySocketIO, NothingReceived, Refused
from engineio_twisted.testing import HandshakeRefused, ProtocolViolation

Start = Callable[..., MemorySocketIO]

KINDS: dict[str, dict[str, Any]] = {
    "polling": {"upgrade": False},
    "websocket": {"transport": "websocket"},
    "upgraded": {},
    "jsonp": {"jsonp": True, "upgrade": False},
    "polling 4": {"protocol": 4, "upgrade": False},
    "websocket 4": {"protocol": 4, "transport": "websocket"},
    "octet by octet": {"split": 1},
}


def application(io: SocketIO) -> None:
    """Serve two namespaces, and some that clients ask for."""
    for namespace in (io, io.of("/admin"), io.of(re.compile("^/room-"))):
        namespace.on("echo", lambda socket, *args: args)
        namespace.on("ask", ask)
        namespace.on("say", lambda socket, text: socket.namespace.emit("said", text))


async def ask(socket: Any, *args: Any) -> list[Any]:
    """Ask the client what it has asked, and return the answer."""
    return [await socket.emitWithAck("asked", *args)]


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


# A server


@pytest.mark.parametrize("parser", ["default", "msgpack"])
def test_allThere(socketio: Start, kind: dict[str, Any], parser: str) -> None:
    """Clients of both protocols, on all transports, with both parsers: events, answers, questions, bytes."""
    if parser == "msgpack":
        pytest.importorskip("msgpack")
    kit = socketio(application, allowEIO3=True, parser=parser)
    client = kit.connect("/admin", **kind)
    assert client.emitWithAck("echo", 1, b"\x00\xff", {"a": ["ä"]}) == (1, b"\x00\xff", {"a": ["ä"]})
    client.on("asked", lambda *args: args)
    assert client.emitWithAck("ask", 5, b"x") == [[5, b"x"]]
    room = client.of("/room-1")
    room.emit("say", "hi")
    assert (room.receive(), room.unread) == (Event("said", ["hi"]), [])
    assert kit.clients == [client]


def test_options(socketio: Start) -> None:
    """Those of the layer and those of the engine are told apart by their names."""
    kit = socketio(application, pingInterval=5000, ackTimeout=7000)
    assert (kit.io.opts.ackTimeout, kit.engine.server.opts.pingInterval) == (7000, 5000)
    assert kit.io.engine is kit.engine.server
    assert kit.io.engine.opts.path == "/socket.io"
    assert socketio(application, path="/chat").connect().connected
    for wrong in ({"pingIntervall": 1}, {"ackTimeout": -1}, {"pingInterval": "a"}):
        with pytest.raises(OptionError):
            socketio(application, **wrong)


def test_serverOfTheApplication(socketio: Start) -> None:
    """A SocketIO may be given instead, on a server that was made with a clock."""
    io = SocketIO(Server(reactor=Clock(), path="/socket.io"))
    application(io)
    kit = socketio(io)
    assert kit.io is io
    assert kit.connect().emitWithAck("echo", 1) == 1
    with pytest.raises(OptionError, match="expected none beside a SocketIO"):
        socketio(SocketIO(Server(reactor=Clock())), pingInterval=1)
    with pytest.raises(ValueError, match=r"expected one made with reactor=Clock\(\)"):
        socketio(SocketIO(Server()))


def test_coroutineAsApplication(socketio: Start) -> None:
    """The application may be a coroutine function."""

    async def start(io: SocketIO) -> None:
        io.on("q", lambda socket: 1)

    assert socketio(start).connect().emitWithAck("q") == 1


def test_time(socketio: Start) -> None:
    """Stands still until the test moves it; the clock is the server's reactor."""

    def slow(io: SocketIO) -> None:
        io.on("q", lambda socket: deferLater(io.engine.reactor, 10, lambda: "late"))

    kit = socketio(slow)
    assert kit.clock is kit.io.engine.reactor
    client = kit.connect()
    question = client.ask("q")
    kit.advance(9)
    assert not question.isAnswered
    client.advance(1)
    assert question.answer == "late"


def test_settle(socketio: Start) -> None:
    """What follows from a call on the server's side happens with the next look at a client, or when it is told to."""
    kit = socketio(application)
    client = kit.connect()
    kit.io.emit("x")
    assert client.receive() == Event("x")
    kit.io.disconnectSockets()
    assert client.connected
    kit.settle()
    assert client.disconnected == "io server disconnect"


def test_socket(socketio: Start, kind: dict[str, Any]) -> None:
    """The server's end of a client is at hand, also after its end."""
    kit = socketio(application, allowEIO3=True)
    client = kit.connect(**kind)
    admin = client.of("/admin")
    assert (client.socket.id, admin.socket.id) == (client.id, admin.id)
    assert (client.socket.namespace, admin.socket.namespace) == (kit.io, kit.io.of("/admin"))
    socket = client.socket
    client.drop()
    assert client.socket is socket
    assert not socket.connected
    with pytest.raises(AssertionError, match="the server has no socket of <MemorySocket None in /nope"):
        _ = kit.connect("/nope", wait=False).socket


def test_engine(socketio: Start) -> None:
    """A client that speaks no Socket.IO, and requests of no session."""
    kit = socketio(application)
    raw = kit.engine.connect("websocket")
    raw.send("0")
    raw.send('20["echo",1]')
    assert raw.received[1:] == ["30[1]"]
    assert kit.request("GET", "/").status == 404


# What a client is told


def test_refused(socketio: Start) -> None:
    """A refusal raises, of a middleware as of the engine."""

    def guarded(io: SocketIO) -> None:
        @io.use
        def refuse(socket: Any) -> None:
            raise ConnectRefused("who are you?", {"code": 401})

    with pytest.raises(Refused) as caught:
        socketio(guarded).connect()
    assert (caught.value.message, caught.value.data) == ("who are you?", {"code": 401})
    with pytest.raises(HandshakeRefused, match="403"):
        socketio(guarded, allowRequest=lambda request: False).connect()


def test_notAnswered(socketio: Start) -> None:
    """A middleware that takes its time is told of, unless the test waits for it."""
    kit = socketio(lambda io: io.use(lambda socket: deferLater(kit.clock, 5, lambda: None)))
    with pytest.raises(AssertionError, match=r"pass wait=False and advance\(\)"):
        kit.connect()
    client = kit.connect(wait=False)
    kit.advance(5)
    assert client.connected


def test_recover(socketio: Start) -> None:
    """A client that was cut off comes back with its id, its rooms, and what it has missed; others are new."""
    kit = socketio(application, connectionStateRecovery=True)
    client = kit.connect("/admin")
    client.socket.join("room")
    client.drop()
    kit.io.of("/admin").to("room").emit("missed", 1)
    back = kit.connect(recover=client)
    assert (back.recovered, back.id, back.namespace) == (True, client.id, "/admin")
    (event,) = back.received
    assert (event.name, event.args[0], len(event.args)) == ("missed", 1, 2)
    back.vanish()
    again = kit.connect(recover=back)
    assert (again.recovered, again.id, again.received) == (True, client.id, [])
    again.disconnect()
    new = kit.connect(recover=again)
    assert (new.recovered, new.id == client.id) == (False, False)


def test_violations(socketio: Start) -> None:
    """What a server may not send raises in the test, wherever it comes from."""

    def sloppy(io: SocketIO) -> None:
        io.on("bad", lambda socket: socket.conn.send("nonsense") and None)

    client = socketio(sloppy).connect()
    with pytest.raises(ProtocolViolation, match="nonsense"):
        client.emit("bad")


# The end of a test


def test_close(socketio: Start) -> None:
    """Clients that are left learn of the end; closing again does nothing."""
    kit = socketio(application)
    client = kit.connect()
    kit.close()
    kit.close()
    assert client.disconnected == "transport close"
    assert kit.io.stats().clients == 0


@pytest.mark.parametrize("end", ["vanish", "pauseReading", "delay"])
def test_closeWithSlowOnes(socketio: Start, end: str) -> None:
    """Nor do clients that say nothing any more keep it open."""
    kit = socketio(application)
    for transport in ("polling", "websocket"):
        client = kit.connect(transport=transport, upgrade=False)
        getattr(client, end)(*([5] if end == "delay" else []))
        kit.io.emit("x")
    kit.close()
    assert kit.io.stats().sockets == 0


def test_contextManager() -> None:
    """It is one, too."""
    with MemorySocketIO(application) as kit:
        client = kit.connect()
    assert client.disconnected == "transport close"


@pytest.mark.usefixtures("mayLog")
def test_failures() -> None:
    """What the application raises fails the test, in its end or beside what failed first, unless it was expected."""

    def failing(io: SocketIO) -> None:
        io.on("bad", lambda socket: {}["a"])

    kit = MemorySocketIO(failing)
    kit.connect().emit("bad")
    with pytest.raises(AssertionError, match=r"(?s)the application failed:.*KeyError"):
        kit.close()
    with (
        pytest.raises(NothingReceived, match=r"the application failed: KeyError\('a'\)") as caught,
        MemorySocketIO(failing) as kit,
    ):
        kit.connect().emitWithAck("bad")
    assert "KeyError" in caught.value.__notes__[0]
    with MemorySocketIO(failing) as kit:
        kit.connect().emit("bad")
        assert isinstance(kit.errors.pop(), KeyError)


@pytest.mark.parametrize("gauge", ["clients", "sockets", "rooms", "acks", "joining", "attachments"])
def test_leftInTheLayer(gauge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that forgets to let go of something fails the test."""
    kit = MemorySocketIO(application)
    stats = kit.io.stats
    monkeypatch.setattr(kit.io, "stats", lambda: attrs.evolve(stats(), **{gauge: 2}))
    with pytest.raises(AssertionError, match=rf"^2 {gauge} are left$"):
        kit.close()


def test_leftTimers() -> None:
    """So do timers of the application, unless it may have them."""

    def timing(io: SocketIO) -> None:
        io.on("start", lambda socket: io.engine.reactor.callLater(100, print) and None)

    kit = MemorySocketIO(timing)
    kit.connect().emit("start")
    with pytest.raises(AssertionError, match="a timer is left"):
        kit.close()
    with MemorySocketIO(timing, leavesTimers=True) as kit:
        kit.connect().emit("start")


def test_adapterThatDoesNotClose() -> None:
    """So does an adapter that never ends."""

    class Stuck(MemoryAdapter):
        def close(self) -> Deferred[None]:
            return Deferred()

    kit = MemorySocketIO(application, adapter=Stuck, leavesTimers=True)
    with pytest.raises(AssertionError, match="doesn't close"):
        kit.close()
