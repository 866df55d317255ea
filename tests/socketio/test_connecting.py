"""How a client connects to a namespace: CONNECT, middlewares, refusals, and who leaves meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from engineio_twisted.socketio import ConnectRefused, SocketIO, UnsendableValue
from engineio_twisted.socketio.testing import Event, MemorySocketIO, Refused

Start = Callable[..., MemorySocketIO]

KINDS: dict[str, dict[str, Any]] = {
    "polling": {"upgrade": False},
    "websocket": {"transport": "websocket"},
    "upgraded": {},
    "jsonp": {"jsonp": True, "upgrade": False},
    "polling 4": {"protocol": 4, "upgrade": False},
    "websocket 4": {"protocol": 4, "transport": "websocket"},
}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


def nothing(io: SocketIO) -> None:
    """Take what comes."""


class Heard:
    """An application that notes what happens to the sockets of `/`."""

    def __init__(self, *middlewares: Callable[[Any], Any]) -> None:
        self.events: list[Any] = []
        self.sockets: list[Any] = []
        self._middlewares = middlewares

    def __call__(self, io: SocketIO) -> None:
        self.io = io
        for each in self._middlewares:
            io.use(each)
        io.on("connection", self._connection)
        io.on("disconnecting", lambda socket, reason, description: self.events.append("disconnecting"))
        io.on("disconnect", lambda socket, reason, description: self.events.append("disconnect"))

    def _connection(self, socket: Any) -> None:
        self.sockets.append(socket)
        self.events.append("connection")


# CONNECT


def test_connect(socketio: Start, kind: dict[str, Any]) -> None:
    """The client gets an id; the handler of `connection` is called once, with a socket that is connected."""
    application = Heard()
    kit = socketio(application, allowEIO3=True)
    client = kit.connect(**kind)
    (socket,) = application.sockets
    assert application.events == ["connection"]
    assert (socket.id, socket.connected, socket.recovered, socket.data) == (client.id, True, False, {})
    assert (dict(kit.io.sockets), socket.namespace, socket.rooms) == ({client.id: socket}, kit.io, {client.id})


def test_ids(socketio: Start) -> None:
    """A socket's id is random text, and not that of the engine's session, with which one could take it over."""
    kit = socketio(nothing)
    ids = {kit.connect().id for _ in range(3)}
    sids = {each.engine.sid for each in kit.clients}
    assert len(ids) == 3
    assert not ids & sids
    assert {len(each or "") for each in ids} == {20}


def test_idsInProtocol4(socketio: Start) -> None:
    """There they are the engine's, as such clients compute them."""
    application = Heard()
    kit = socketio(application, allowEIO3=True)
    client = kit.connect(protocol=4)
    assert [each.id for each in application.sockets] == [client.engine.sid]


def test_whatConnectionEmitsComesAfterConnect(socketio: Start, kind: dict[str, Any]) -> None:
    """CONNECT is the first packet, whatever the handler of `connection` sends."""

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            socket.emit("first")
            io.emit("second")

    client = socketio(application, allowEIO3=True).connect(**kind)
    assert client.received == [Event("first"), Event("second")]
    assert str(client.engine.received[0]).startswith("0")


def test_handshake(socketio: Start) -> None:
    """A socket knows how its client came."""
    application = Heard()
    kit = socketio(application, cors={"origin": "https://a.example"})
    kit.advance(1.5)
    headers = {"Origin": "https://a.example", "User-Agent": "Browser"}
    kit.connect(auth={"token": "t"}, query={"x": "y"}, headers=headers, address="192.0.2.1")
    (socket,) = application.sockets
    handshake = socket.handshake
    assert (handshake.auth, socket.auth) == ({"token": "t"}, {"token": "t"})
    assert (handshake.address, handshake.secure, handshake.crossDomain) == ("192.0.2.1", False, True)
    assert (handshake.query["x"], handshake.headers["user-agent"]) == ("y", "Browser")
    assert handshake.url.startswith("/socket.io/?EIO=4&transport=polling")
    assert (socket.conn.remoteAddress, socket.request.getHeader("user-agent")) == ("192.0.2.1", "Browser")


@pytest.mark.parametrize("auth", [None, {}])
def test_noAuth(socketio: Start, auth: dict[str, Any] | None) -> None:
    """A client that says nothing about itself has an empty auth."""
    application = Heard()
    socketio(application).connect(auth=auth)
    assert application.sockets[0].auth == {}


def test_connectTimeout(socketio: Start) -> None:
    """A session that joins no namespace is closed after `connectTimeout`; one that has joined isn't."""
    kit = socketio(nothing, connectTimeout=3000)
    idle, client = kit.engine.connect(), kit.connect()
    kit.advance(2.9)
    assert idle.closed is None
    kit.advance(0.2)
    assert idle.closed is not None
    kit.advance(60)
    assert client.connected
    assert kit.io.stats().clients == 1


def test_connectTimeoutByDefault(socketio: Start) -> None:
    """45 seconds."""
    kit = socketio(nothing)
    idle = kit.engine.connect()
    kit.advance(44.9)
    assert idle.closed is None
    kit.advance(0.2)
    assert idle.closed is not None


def test_connectTimeoutAfterLeaving(socketio: Start) -> None:
    """A session that has left all of its namespaces goes on: some clients keep it, and join again later."""
    kit = socketio(nothing, connectTimeout=3000)
    raw = kit.engine.connect()
    raw.send("0")
    kit.advance(10)
    raw.send("1")
    kit.advance(10)
    assert raw.closed is None
    raw.send("0")
    assert len(kit.io.sockets) == 1


# Middlewares


def test_middlewaresInOrder(socketio: Start, kind: dict[str, Any]) -> None:
    """They are called in the order of registration, each when the one before is through, then `connection`."""
    called: list[Any] = []

    def plain(socket: Any) -> None:
        called.append("plain")
        socket.data["user"] = "Ada"

    async def coroutine(socket: Any) -> None:
        called.append("coroutine")
        await deferLater(kit.clock, 2, lambda: None)
        called.append("waited")

    def deferred(socket: Any) -> Deferred[None]:
        called.append("deferred")
        return deferLater(kit.clock, 3, lambda: called.append("fired"))

    application = Heard(plain, coroutine, deferred)
    kit = socketio(application, allowEIO3=True)
    client = kit.connect(wait=False, **kind)
    assert (called, client.connected, kit.io.stats().joining) == (["plain", "coroutine"], False, 1)
    kit.advance(2)
    assert (called[2:], client.connected, application.events) == (["waited", "deferred"], False, [])
    kit.advance(3)
    assert (called[4:], client.connected, application.events) == (["fired"], True, ["connection"])
    assert application.sockets[0].data == {"user": "Ada"}
    assert kit.io.stats().joining == 0


@pytest.mark.parametrize("way", ["plain", "coroutine", "Deferred", "late"])
def test_refuse(socketio: Start, way: str) -> None:
    """ConnectRefused, raised in any way, refuses with its message and data; nothing else is called."""
    called: list[Any] = []

    def refuse(*_: Any) -> Any:
        raise ConnectRefused("who are you?", {"code": 401})

    async def coroutine(socket: Any) -> None:
        refuse()

    async def late(socket: Any) -> None:
        await deferLater(kit.clock, 5, lambda: None)
        refuse()

    def deferred(socket: Any) -> Deferred[Any]:
        return deferLater(kit.clock, 0, refuse)

    middleware = {"plain": refuse, "coroutine": coroutine, "Deferred": deferred, "late": late}[way]
    application = Heard(middleware, called.append)
    kit = socketio(application)
    client = kit.connect(wait=False)
    kit.advance(5)
    assert client.refused is not None
    assert (client.refused.message, client.refused.data) == ("who are you?", {"code": 401})
    assert (called, application.events) == ([], [])
    stats = kit.io.stats()
    assert (stats.refused, stats.sockets, stats.joining, stats.rooms) == (1, 0, 0, 0)


def test_refuseWithoutData(socketio: Start) -> None:
    """There is nothing but the message then."""

    def refuse(socket: Any) -> None:
        raise ConnectRefused("no")

    client = socketio(Heard(refuse)).connect(wait=False)
    assert client.engine.received == ['4{"message":"no"}']


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("protocol", [5, 4])
def test_refuseWithWhatCannotBeSent(socketio: Start, protocol: int) -> None:
    """It is logged; the client gets the message."""

    def refuse(socket: Any) -> None:
        raise ConnectRefused("no", {"when": object()})

    kit = socketio(Heard(refuse), allowEIO3=True)
    client = kit.connect(protocol=protocol, wait=False)
    assert client.refused is not None
    assert (client.refused.message, client.refused.data) == ("no", None)
    assert [type(each) for each in kit.errors] == [UnsendableValue]
    kit.errors.clear()


@pytest.mark.usefixtures("mayLog")
def test_whatAMiddlewareWantedFails(socketio: Start) -> None:
    """What is kept until the client is accepted may fail then: it is logged, and the client is connected."""
    kit = socketio(lambda io: io.use(lambda socket: socket.join(*io.sockets, "room")))
    first, second = kit.connect(), kit.connect()
    assert (first.connected, second.connected) == (True, True)
    assert ["it is the id of another socket" in str(each) for each in kit.errors] == [True]
    kit.errors.clear()


def test_protocol4NamesItsQuery(socketio: Start) -> None:
    """Clients 2.x go on naming a namespace with the query by which they joined it, or without: both are understood."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        admin = io.of("/admin")
        admin.on("connection", lambda socket: heard.append(socket.auth))
        admin.on("q", lambda socket, *args: args)
        admin.on("disconnect", lambda socket, reason, _: heard.append(str(reason)))

    kit = socketio(application, allowEIO3=True)
    raw = kit.engine.connect(protocol=3)
    raw.send("0/admin?token=a%20b&token=c&empty=,")
    raw.send('2/admin?token=a%20b&token=c&empty=,1["q",1]')
    raw.send('2/admin,2["q",2]')
    raw.send("3/admin?token=x,9[]")
    assert raw.received == ["0", "0/admin,", "3/admin,1[1]", "3/admin,2[2]"]
    assert (heard, kit.io.stats().lateAcks) == ([{"token": "c", "empty": ""}], 1)
    raw.send("1/admin?token=a%20b")
    assert heard[1:] == ["client namespace disconnect"]
    assert raw.closed is None


@pytest.mark.parametrize("data", [None, {"code": 401}])
def test_refuseInProtocol4(socketio: Start, data: Any) -> None:
    """A client of protocol 4 gets the data, or else the message as a text."""

    def refuse(socket: Any) -> None:
        raise ConnectRefused("no", data)

    client = socketio(Heard(refuse), allowEIO3=True).connect(protocol=4, wait=False)
    assert client.refused is not None
    assert (client.refused.message, client.refused.data) == (("no", None) if data is None else ("", data))


def test_othersGoOn(socketio: Start) -> None:
    """A refusal ends nothing but the attempt: other namespaces of the session stay, and it may be tried again."""

    def refuse(socket: Any) -> None:
        if socket.auth.get("token") != "t":
            raise ConnectRefused("no")

    kit = socketio(lambda io: io.of("/admin").use(refuse))
    client = kit.connect()
    with pytest.raises(Refused):
        client.of("/admin")
    assert client.connected
    assert client.of("/admin", {"token": "t"}).connected


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("isLate", [False, True])
def test_middlewareThatFails(socketio: Start, isLate: bool) -> None:
    """Anything else that is raised refuses without its text, which is for the log."""

    async def middleware(socket: Any) -> None:
        if isLate:
            await deferLater(kit.clock, 1, lambda: None)
        raise KeyError("secret")

    application = Heard(middleware)
    kit = socketio(application)
    client = kit.connect(wait=False)
    kit.advance(1)
    assert client.engine.received == ['4{"message":"Connection refused"}']
    assert [repr(each) for each in kit.errors] == ["KeyError('secret')"]
    kit.errors.clear()
    assert application.events == []


def test_middlewareThatNeverEnds(socketio: Start) -> None:
    """It is given 30 seconds; then it is cancelled, and the client refused."""
    cancelled: list[Any] = []
    application = Heard(lambda socket: Deferred(cancelled.append))
    kit = socketio(application)
    client = kit.connect(wait=False)
    kit.advance(29.9)
    assert (client.refused, cancelled) == (None, [])
    kit.advance(0.2)
    assert client.refused is not None
    assert (client.refused.message, len(cancelled), application.events) == ("Connection refused", 1, [])
    assert kit.io.stats().joining == 0


def test_notThereDuringAMiddleware(socketio: Start) -> None:
    """A socket that is not accepted yet is in no room, and no broadcast reaches it."""
    gate: Deferred[None] = Deferred()
    seen: list[Any] = []

    def middleware(socket: Any) -> Deferred[None]:
        seen.append((socket.connected, dict(io.sockets), dict(io.rooms)))
        return gate

    io: Any = None

    def application(given: SocketIO) -> None:
        nonlocal io
        io = given
        io.use(middleware)

    kit = socketio(application)
    client = kit.connect(wait=False)
    io.emit("early")
    io.to("room").emit("early")
    kit.settle()
    assert seen == [(False, {}, {})]
    gate.callback(None)
    io.emit("now")
    assert client.received == [Event("now")]


def test_joinAndEmitDuringAMiddleware(socketio: Start) -> None:
    """They take effect when the client is accepted: after CONNECT."""
    gate: Deferred[None] = Deferred()

    def middleware(socket: Any) -> Deferred[None]:
        socket.join("room", "other")
        socket.leave("other")
        socket.emit("kept", 1)
        return gate

    application = Heard(middleware)
    kit = socketio(application)
    client = kit.connect(wait=False)
    assert (dict(kit.io.rooms), client.engine.received) == ({}, [])
    gate.callback(None)
    assert client.received == [Event("kept", [1])]
    assert application.sockets[0].rooms == {client.id, "room"}
    kit.io.to("room").emit("there")
    assert client.received[1:] == [Event("there")]


def test_joinAndEmitOfARefusedOne(socketio: Start) -> None:
    """They come to nothing."""

    def middleware(socket: Any) -> None:
        socket.join("room")
        socket.emit("kept")
        raise ConnectRefused("no")

    kit = socketio(Heard(middleware))
    client = kit.connect(wait=False)
    assert client.engine.received == ['4{"message":"no"}']
    assert (dict(kit.io.rooms), kit.io.stats().rooms) == ({}, 0)


@pytest.mark.parametrize("way", ["drop", "close", "server"])
def test_leavingDuringAMiddleware(socketio: Start, way: str) -> None:
    """What is waited for is cancelled; nothing more is called; nothing is left."""
    cancelled: list[Any] = []
    called: list[Any] = []
    application = Heard(lambda socket: Deferred(cancelled.append), called.append)
    kit = socketio(application)
    client = kit.connect(wait=False)
    if way == "drop":
        client.drop()
    elif way == "close":
        client.engine.close()
    else:
        client.engine.socket.close()
    kit.settle()
    assert (len(cancelled), called, application.events) == (1, [], [])
    stats = kit.io.stats()
    assert (stats.clients, stats.sockets, stats.joining, stats.rooms) == (0, 0, 0, 0)


def test_leavingDuringAMiddlewareThatGoesOn(socketio: Start) -> None:
    """One that takes no cancelling may end as it likes: its client is gone, and nothing more is called."""
    called: list[Any] = []

    async def middleware(socket: Any) -> None:
        try:
            await Deferred()
        except CancelledError:
            socket.join("room")
            socket.emit("late")
            called.append("went on")

    application = Heard(middleware, called.append)
    kit = socketio(application)
    kit.connect(wait=False).drop()
    kit.settle()
    assert (called, application.events, dict(kit.io.rooms), kit.io.stats().joining) == (["went on"], [], {}, 0)


@pytest.mark.parametrize("close", [False, True])
def test_disconnectInAMiddleware(socketio: Start, close: bool) -> None:
    """A middleware may send the client away; it is never connected, and nothing is left."""
    called: list[Any] = []
    application = Heard(lambda socket: socket.disconnect(close), called.append)
    kit = socketio(application)
    client = kit.connect(wait=False)
    assert (client.connected, client.id, application.events, called) == (False, None, [], [])
    stats = kit.io.stats()
    assert (stats.sockets, stats.joining, stats.rooms) == (0, 0, 0)


def test_closeInAMiddleware(socketio: Start) -> None:
    """The session may be closed from inside one."""
    application = Heard(lambda socket: socket.conn.close())
    kit = socketio(application)
    client = kit.connect(wait=False)
    assert (client.disconnected, application.events, kit.io.stats().clients) == ("transport close", [], 0)


def test_connectInTheMiddleOfAMiddleware(socketio: Start) -> None:
    """Other namespaces of the session don't wait for it."""
    gate: Deferred[None] = Deferred()

    def application(io: SocketIO) -> None:
        io.of("/slow").use(lambda socket: gate)

    kit = socketio(application)
    client = kit.connect("/slow", wait=False)
    assert client.of("/").connected
    assert not client.connected
    gate.callback(None)
    kit.settle()
    assert client.connected


def test_whatASlowOneSendsMeanwhile(socketio: Start) -> None:
    """Events before CONNECT is answered are a violation: no client sends them."""
    application = Heard(lambda socket: Deferred())
    kit = socketio(application)
    raw = kit.engine.connect()
    raw.send("0")
    raw.send('2["early"]')
    assert raw.closed is not None
    assert (application.events, kit.io.stats().invalidPackets, kit.io.stats().joining) == ([], 1, 0)


@pytest.mark.usefixtures("mayLog")
def test_connectionThatFails(socketio: Start) -> None:
    """A handler of `connection` that raises is logged; the client stays connected."""

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            raise KeyError("a")

    kit = socketio(application)
    client = kit.connect()
    assert client.connected
    assert [type(each) for each in kit.errors] == [KeyError]
    kit.errors.clear()


def test_asynchronousConnection(socketio: Start) -> None:
    """A handler of `connection` may be a coroutine function; events aren't held up by it."""
    order: list[str] = []

    def application(io: SocketIO) -> None:
        @io.on("connection")
        async def connection(socket: Any) -> None:
            socket.on("say", order.append)
            await deferLater(kit.clock, 1, lambda: None)
            order.append("through")

    kit = socketio(application)
    client = kit.connect()
    client.emit("say", "a")
    kit.advance(1)
    assert order == ["a", "through"]


# What is hardly meant


def test_middlewareThatReturnsFalse(socketio: Start, mayLog: None) -> None:
    """It means to refuse, and does; the log says how that is written."""

    def application(io: SocketIO) -> None:
        io.use(lambda socket: False)

    kit = socketio(application)
    with pytest.raises(Refused, match="Connection refused"):
        kit.connect()
    (error,) = kit.errors
    assert "raise ConnectRefused to refuse a client" in str(error)
    kit.errors.clear()


@pytest.mark.parametrize("message", [{"code": 5}, 5, None, b"no"])
def test_refusalWithoutText(message: Any) -> None:
    """The message of a refusal is text: a client could not show anything else."""
    with pytest.raises(TypeError, match="expected text for the client; what else it is told is data"):
        ConnectRefused(message)


def test_middlewareThatDisconnectsAndWaits(socketio: Start) -> None:
    """What a middleware waits for after it has disconnected its socket is cancelled."""
    cancelled: list[Any] = []

    def application(io: SocketIO) -> None:
        @io.use
        async def middleware(socket: Any) -> None:
            socket.disconnect()
            await Deferred(cancelled.append)

    with pytest.raises(Refused):
        socketio(application).connect()
    assert len(cancelled) == 1
