"""Connection state recovery: what a client that comes back gets, and what it costs to keep it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engineio_twisted import OptionError
from engineio_twisted.socketio import ConnectRefused, Kept, Socket, SocketIO
from engineio_twisted.socketio.testing import MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]


class Application:
    """What joins a room, and keeps what happens."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.sockets: list[Socket] = []

    def __call__(self, io: SocketIO) -> None:
        io.on("connection", self.connection)
        io.on("join", lambda socket, room: socket.join(room))

    def connection(self, socket: Socket) -> None:
        self.sockets.append(socket)
        self.happened.append("recovered" if socket.recovered else "connection")
        socket.on("disconnect", lambda reason, description: self.happened.append(str(reason)))
        if not socket.recovered:
            socket.data["visits"] = 1


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def start(application: Application) -> Iterator[Start]:
    kits = []

    def make(app: Any = application, recovery: Any = True, **options: Any) -> MemorySocketIO:
        kits.append(MemorySocketIO(app, connectionStateRecovery=recovery, **options))
        return kits[-1]

    yield make
    for kit in kits:
        kit.close()


def named(client: MemorySocket) -> list[tuple[Any, ...]]:
    """What a client received, without the offsets."""
    return [(each.name, *each.args[:-1]) for each in client.received]


def secretOf(kit: MemorySocketIO, client: MemorySocket) -> str | None:
    """By what a client that is connected may come back."""
    return kit.io.of(client.namespace).sockets[str(client.id)].pid


def test_whatWasMissed(start: Start, application: Application) -> None:
    """A client that comes back has its id, rooms and data, and gets in order what it missed."""
    kit = start()
    client = kit.connect(transport="websocket")
    client.emit("join", "lobby")
    kit.io.to("lobby").emit("first")
    kit.settle()
    client.drop()
    kit.io.to("lobby").emit("second", b"bytes")
    kit.io.to("elsewhere").emit("not for it")
    kit.io.except_("lobby").emit("not for it either")
    kit.io.emit("third", {"a": [1]})
    again = kit.connect(recover=client, transport="websocket")
    assert again.recovered
    assert again.id == client.id
    assert named(again) == [("second", b"bytes"), ("third", {"a": [1]})]
    old, new = application.sockets
    assert (new.id, new.rooms, new.data) == (old.id, {old.id, "lobby"}, {"visits": 1})
    assert application.happened == ["connection", "transport close", "recovered"]
    kit.io.to(client.id).emit("fourth")
    kit.settle()
    assert named(again)[2:] == [("fourth",)]
    assert kit.io.stats().recovered == 1


def test_volatileAndAcknowledgedEvents(start: Start) -> None:
    """Volatile events, and those with an acknowledgement, have no offset, and aren't sent again."""
    kit = start()
    client = kit.connect(transport="websocket")
    kit.io.volatile.emit("volatile")
    question = kit.io.sockets[str(client.id)].emitWithAck("asked")
    question.addErrback(lambda failure: None)
    kit.settle()
    assert [each.args for each in client.received] == [(), ()]
    client.drop()
    kit.io.volatile.emit("volatile")
    again = kit.connect(recover=client, transport="websocket")
    assert again.recovered
    assert again.received == []


def test_receivedNothing(start: Start) -> None:
    """A client that has received nothing comes back too: to the beginning of its session."""
    kit = start()
    kit.io.emit("before")
    client = kit.connect(transport="websocket")
    client.drop()
    kit.io.emit("after")
    again = kit.connect(recover=client, transport="websocket")
    assert again.recovered
    assert named(again) == [("after",)]


def test_offsetOfAnEarlierSession(start: Start) -> None:
    """An offset from before the session, which the stock client keeps, means the beginning of the session."""
    kit = start()
    first = kit.connect(transport="websocket")
    kit.io.emit("old")
    kit.settle()
    offset = first.received[0].args[-1]
    first.disconnect()
    kit.io.emit("between")
    pid = secretOf(kit, kit.connect(transport="websocket"))
    kit.io.emit("new")
    kit.settle()
    again = kit.connect(auth={"pid": pid, "offset": offset}, transport="websocket")
    assert named(again) == [("new",)]


def test_twice(start: Start) -> None:
    """What is sent again has its offset, so that a second cut loses nothing and repeats nothing."""
    kit = start()
    client = kit.connect(transport="websocket")
    client.drop()
    kit.io.emit("one")
    second = kit.connect(recover=client, transport="websocket")
    assert named(second) == [("one",)]
    second.drop()
    kit.io.emit("two")
    third = kit.connect(recover=second, transport="websocket")
    assert third.recovered
    assert named(third) == [("two",)]


def test_beforeTheServerKnows(start: Start, application: Application) -> None:
    """A client that comes back before the server noticed the loss takes over; the old connection is ended."""
    kit = start()
    client = kit.connect(transport="websocket")
    client.vanish()
    kit.io.emit("lost")
    again = kit.connect(recover=client, transport="websocket")
    assert again.recovered
    assert named(again) == [("lost",)]
    assert application.happened == ["connection", "transport close", "recovered"]
    assert len(kit.io.sockets) == 1


def test_theSameSecretTwice(start: Start) -> None:
    """Of two that come back with the same secret the first is ended; two sockets never share an id."""
    kit = start()
    client = kit.connect(transport="websocket")
    client.drop()
    one = kit.connect(recover=client, transport="websocket")
    other = kit.connect(recover=client, transport="websocket")
    assert (one.connected, one.disconnected) == (False, "transport close")
    assert other.recovered
    assert [*kit.io.sockets] == [other.id]


@pytest.mark.parametrize("how", ["client", "server"])
def test_namespaceLeft(start: Start, how: str) -> None:
    """Who leaves the namespace, or is disconnected from it, has nothing to come back to."""
    kit = start()
    client = kit.connect(transport="websocket")
    if how == "client":
        client.disconnect()
    else:
        kit.io.disconnectSockets()
        kit.settle()
    again = kit.connect(recover=client, transport="websocket")
    assert not again.recovered
    assert again.id != client.id
    assert kit.io.stats().notRecovered == {"unknown": 1}


def test_expired(start: Start) -> None:
    """A session is kept for a time, and forgotten then; the cause is counted."""
    kit = start(recovery={"maxDisconnectionDuration": 5000})
    client = kit.connect(transport="websocket")
    client.drop()
    kit.advance(4)
    assert kit.io.stats().waitingSessions == 1
    kit.advance(2)
    assert kit.io.stats().waitingSessions == 0
    assert not kit.connect(recover=client, transport="websocket").recovered
    assert kit.io.stats().notRecovered == {"expired": 1}


@pytest.mark.parametrize(
    ("settings", "payload"), [({"maxEvents": 2}, ""), ({"maxBytes": 1000}, "x" * 400)], ids=["events", "bytes"]
)
def test_evicted(start: Start, settings: dict[str, int], payload: str) -> None:
    """Only so many events, and bytes of them, are kept; who missed more gets a session of its own."""
    kit = start(recovery=settings)
    client, other = kit.connect(transport="websocket"), kit.connect(transport="websocket")
    client.drop()
    kit.io.emit("one", payload)
    kit.settle()
    other.drop()
    kit.io.emit("two", payload)
    kit.io.emit("three", payload)
    assert not kit.connect(recover=client, transport="websocket").recovered
    assert kit.io.stats().notRecovered == {"evicted": 1}
    again = kit.connect(recover=other, transport="websocket")
    assert again.recovered
    assert [each[0] for each in named(again)] == ["two", "three"]


def test_quietClient(start: Start) -> None:
    """A client comes back however much was sent to others while it was connected."""
    kit = start(recovery={"maxEvents": 2})
    client = kit.connect(transport="websocket")
    kit.io.to(str(client.id)).emit("for it")
    for _ in range(5):
        kit.io.to("elsewhere").emit("for others")
    kit.settle()
    client.drop()
    kit.io.emit("missed")
    again = kit.connect(recover=client, transport="websocket")
    assert again.recovered
    assert named(again) == [("missed",)]
    again.drop()
    for _ in range(3):
        kit.io.to("elsewhere").emit("for others")
    assert not kit.connect(recover=again, transport="websocket").recovered


def test_oldEvents(start: Start) -> None:
    """Events are kept no longer than sessions."""
    kit = start(recovery={"maxDisconnectionDuration": 5000})
    client = kit.connect(transport="websocket")
    kit.io.emit("old")
    kit.settle()
    kit.advance(6)
    secret = secretOf(kit, client)
    client.drop()
    kit.io.emit("new")
    again = kit.connect(auth={"pid": secret}, transport="websocket")
    assert not again.recovered
    assert kit.io.stats().notRecovered == {"evicted": 1}


def test_foreign(start: Start) -> None:
    """A secret and an offset of another process are known as such."""
    kit = start()
    client = kit.connect(auth={"pid": "a" * 24, "offset": "another.1"}, transport="websocket")
    assert not client.recovered
    assert kit.io.stats().notRecovered == {"foreign": 1}


@pytest.mark.parametrize("pid", [1, None, True, ["a"], {"a": 1}, ""])
@pytest.mark.parametrize("offset", [0, None, [], "", ".", "x.", "é.é", "a.9" * 999])
def test_wrongTypes(start: Start, pid: Any, offset: Any) -> None:
    """Whatever a client says as its secret and its offset, it gets a session."""
    kit = start()
    assert kit.connect(auth={"pid": pid, "offset": offset}, transport="websocket").connected
    known = kit.connect(transport="websocket")
    secret = secretOf(kit, known)
    known.drop()
    assert kit.connect(auth={"pid": secret, "offset": offset}, transport="websocket").id == known.id


def test_mostWaitingSessions(start: Start) -> None:
    """Only so many sessions wait; the oldest is forgotten for another."""
    kit = start(recovery={"maxWaitingSessions": 2})
    clients = [kit.connect(transport="websocket") for _ in range(3)]
    for each in clients:
        each.drop()
    assert kit.io.stats().waitingSessions == 2
    assert [kit.connect(recover=each, transport="websocket").recovered for each in clients] == [False, True, True]


def test_middlewares(start: Start) -> None:
    """Middlewares run for who comes back, and may refuse it; the session waits on."""
    allowed = {"a"}

    def application(io: SocketIO) -> None:
        @io.use
        def check(socket: Socket) -> None:
            if socket.auth["name"] not in allowed:
                raise ConnectRefused("no more")

    kit = start(application)
    client = kit.connect(auth={"name": "a"}, transport="websocket")
    client.drop()
    allowed.clear()
    with pytest.raises(Exception, match="no more"):
        kit.connect(auth={"name": "a"}, recover=client, transport="websocket")
    allowed.add("a")
    assert kit.connect(auth={"name": "a"}, recover=client, transport="websocket").recovered


def test_skipMiddlewares(start: Start) -> None:
    """Middlewares are left out for who comes back, if that is wanted, and for nobody else."""
    called: list[str] = []

    def application(io: SocketIO) -> None:
        io.use(lambda socket: called.append(socket.auth["name"]))

    kit = start(application, {"skipMiddlewares": True})
    client = kit.connect(auth={"name": "a"}, transport="websocket")
    client.drop()
    assert kit.connect(auth={"name": "b"}, recover=client, transport="websocket").recovered
    assert not kit.connect(auth={"name": "c", "pid": "unknown"}, transport="websocket").recovered
    assert called == ["a", "c"]


def test_sameUser(start: Start) -> None:
    """Another user who knows the secret gets a session of its own, and nothing of the first one's."""
    compared: list[tuple[Any, Any]] = []

    def sameUser(kept: Kept, socket: Socket) -> bool:
        compared.append((kept.data["name"], socket.data["name"]))
        return bool(kept.data["name"] == socket.data["name"])

    def application(io: SocketIO) -> None:
        @io.use
        def check(socket: Socket) -> None:
            socket.data["name"] = socket.auth["name"]

    kit = start(application, {"sameUser": sameUser})
    client = kit.connect(auth={"name": "a"}, transport="websocket")
    secret = secretOf(kit, client)
    client.drop()
    kit.io.emit("private")
    thief = kit.connect(auth={"name": "b"}, recover=client, transport="websocket")
    assert (thief.recovered, thief.received) == (False, [])
    assert secretOf(kit, thief) != secret
    assert kit.io.stats().notRecovered == {"other user": 1}
    again = kit.connect(auth={"name": "a"}, recover=client, transport="websocket")
    assert (again.recovered, named(again)) == (True, [("private",)])
    assert compared == [("a", "b"), ("a", "a")]


def test_anotherUserWhileConnected(start: Start) -> None:
    """Another user who knows the secret of a client that is connected doesn't cut it off."""

    def application(io: SocketIO) -> None:
        io.use(lambda socket: socket.data.update(name=socket.auth["name"]))

    kit = start(application, {"sameUser": lambda kept, socket: kept.data["name"] == socket.data["name"]})
    client = kit.connect(auth={"name": "a"}, transport="websocket")
    thief = kit.connect(auth={"name": "b", "pid": secretOf(kit, client)}, transport="websocket")
    assert not thief.recovered
    assert client.connected
    assert len(kit.io.sockets) == 2


def test_perNamespace(start: Start) -> None:
    """Each namespace recovers by itself, by settings of its own."""

    def application(io: SocketIO) -> None:
        io.of("/kept", connectionStateRecovery=True)

    kit = start(application, recovery=False)
    client = kit.connect(transport="websocket")
    kept = client.of("/kept")
    assert secretOf(kit, client) is None
    assert secretOf(kit, kept) is not None
    client.drop()
    kit.io.of("/kept").emit("missed")
    assert named(kit.connect(recover=kept, transport="websocket")) == [("missed",)]


def test_namespaceMadeForAClient(start: Start) -> None:
    """A namespace that was made for a client stays as long as one may come back, and no longer."""

    def application(io: SocketIO) -> None:
        io.of(re.compile("^/room-"))

    kit = start(application)
    client = kit.connect("/room-1", transport="websocket")
    client.drop()
    assert "/room-1" in kit.io.namespaces
    kit.advance(121)
    assert "/room-1" not in kit.io.namespaces


def test_protocol4(start: Start) -> None:
    """An older client, which knows nothing of this, has no session that waits."""
    kit = start(allowEIO3=True)
    client = kit.connect(protocol=4)
    client.drop()
    assert kit.io.stats().waitingSessions == 0


def test_theSecretIsNowhere(start: Start) -> None:
    """The secret of a client is in no remote socket."""
    kit = start()
    client = kit.connect(transport="websocket")
    secret = secretOf(kit, client)
    client.drop()
    kit.connect(recover=client, transport="websocket")
    (remote,) = kit.io.fetchSockets().result  # type: ignore[attr-defined]
    assert str(secret) not in repr(remote.handshake)


@pytest.mark.parametrize(
    "settings", [1, "yes", {"maxEvents": 0}, {"maxEvent": 1}, {"skipMiddlewares": 1}, {"sameUser": "name"}]
)
def test_wrongSettings(start: Start, settings: Any) -> None:
    """Settings that can't be are refused at once."""
    with pytest.raises(OptionError, match=r"connectionStateRecovery|maxEvent|skipMiddlewares|sameUser"):
        start(recovery=settings)


def test_roomJoinedLater(start: Start) -> None:
    """What a room got before the client was in it is not replayed, whether something else was missed or not."""
    kit = start()
    client = kit.connect(transport="websocket")
    kit.io.emit("first")
    kit.settle()
    assert client.received
    kit.io.to("admins").emit("secret")
    client.pauseReading()
    kit.io.emit("missed")
    client.socket.join("admins", "gone")
    client.socket.leave("gone")
    kit.io.except_("admins").emit("not for it")
    kit.io.to("admins").emit("for admins")
    client.drop()
    kit.io.to("gone").emit("no more")
    again = kit.connect(recover=client, transport="websocket")
    assert named(again) == [("missed",), ("for admins",)]
    again.drop()
    kit.io.to("admins").emit("after all")
    assert named(kit.connect(recover=again, transport="websocket")) == [("after all",)]


def test_quietClientTwice(start: Start) -> None:
    """One that has missed nothing comes back again and again, however much others are sent while it is connected."""
    kit = start(recovery={"maxEvents": 2})
    client = kit.connect(transport="websocket")
    kit.io.emit("for all")
    kit.settle()
    assert client.received
    for _ in range(3):
        for _ in range(5):
            kit.io.to("elsewhere").emit("for others")
        client.drop()
        client = kit.connect(recover=client, transport="websocket")
        assert (client.recovered, client.received) == (True, [])


@pytest.mark.parametrize("action", ["close", "drop", "raise"])
def test_moreThanMayBeBuffered(start: Start, action: str) -> None:
    """A client that can't be sent all that it missed gets none of it, and a new session the next time."""
    sockets: list[Socket] = []
    ends: list[Any] = []

    def application(io: SocketIO) -> None:
        io.on("connection", sockets.append)
        io.on("disconnect", lambda socket, reason, description: ends.append(reason))

    kit = start(application, maxBufferedPackets=5, bufferLimitAction=action)
    client = kit.connect(transport="websocket")
    client.drop()
    for number in range(20):
        kit.io.emit("missed", number)
    again = kit.connect(recover=client, wait=False, transport="polling", upgrade=False)
    kit.settle()
    assert (again.received, again.disconnected, len(sockets), len(ends)) == ([], "transport error", 1, 1)
    assert not kit.connect(recover=again, transport="websocket").recovered


def test_roomsOfOneThatIsLostAgain(start: Start) -> None:
    """The rooms are kept by a client whose connection is lost when it is told that it is back."""
    kit = start()
    client = kit.connect(transport="websocket")
    client.socket.join("lobby")
    client.drop()

    def opened(conn: Any) -> None:
        conn.once("packetCreate", lambda packet: conn.close(discard=True))

    kit.io.engine.once("connection", opened)
    lost = kit.connect(recover=client, wait=False, transport="websocket")
    kit.settle()
    assert not lost.connected
    kit.io.to("lobby").emit("missed")
    assert named(kit.connect(recover=client, transport="websocket")) == [("missed",)]
