"""Connection state recovery over several workers: a client that comes back to any of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted import Server
from engineio_twisted.socketio import Kept, Socket, SocketIO
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.testing import MemorySocket
from engineio_twisted.socketio.testing.client import connect
from engineio_twisted.testing.cluster import MemoryCluster

from ..kit.exchange import Worker, Workers, workersInMemory
from .test_redis import resultOf

Start = Callable[..., tuple[Workers, list[Worker]]]

PAIRS = [*permutations(range(3), 2)]
"""Every ordered pair of three workers."""


def application(io: SocketIO) -> None:
    io.on("join", lambda socket, room: socket.join(room))

    @io.on("connection")
    def connected(socket: Socket) -> None:
        if not socket.recovered:
            socket.data["visits"] = 1


@pytest.fixture
def start() -> Iterator[Start]:
    with workersInMemory() as make:

        def started(app: Any = application, recovery: Any = True, **options: Any) -> tuple[Workers, list[Worker]]:
            workers = make(app, connectionStateRecovery=recovery, **options)
            return workers, [workers.start() for _ in range(3)]

        yield started


def named(client: MemorySocket) -> list[tuple[Any, ...]]:
    """What a client received, without the offsets."""
    return [(each.name, *each.args[:-1]) for each in client.received]


def comeBack(workers: Workers, worker: Worker, client: MemorySocket, **options: Any) -> MemorySocket:
    """Let a client that is lost come back to a worker."""
    again = worker.begin(recover=client, **options)
    workers.settle()
    return again


def secretOf(worker: Worker, client: MemorySocket) -> Any:
    return worker.socketOf(client).pid


def nothingLeft(workers: Workers) -> bool:
    """Return whether nobody asks any more, and no worker keeps a session whose client is elsewhere."""
    waiting = [each.io.stats().waitingSessions for each in workers.alive.values()]
    return not any(waiting) and not any(each.adapter.stats().requests for each in workers.alive.values())


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_everyPair(start: Start, here: int, there: int) -> None:
    """A client that comes back to another worker has its id, rooms and data, and in order what all had sent it."""
    workers, found = start()
    one, other = found[here], found[there]
    (third,) = [each for each in found if each not in (one, other)]
    client = one.begin()
    workers.settle()
    client.emit("join", "lobby")
    one.io.to("lobby").emit("received")
    other.io.emit("received too")
    workers.settle()
    assert [each[0] for each in named(client)] == ["received", "received too"]
    client.drop()
    one.io.to("lobby").emit("1", b"bytes")
    workers.settle()
    other.io.to("lobby").emit("2", {"a": [1]})
    workers.settle()
    third.io.emit("3")
    third.io.except_("lobby").emit("not for it")
    third.io.to("elsewhere").emit("not for it either")
    workers.settle()
    other.io.to(str(client.id)).emit("4")
    workers.settle()
    again = comeBack(workers, other, client)
    assert (again.recovered, again.id) == (True, client.id)
    assert named(again) == [("1", b"bytes"), ("2", {"a": [1]}), ("3",), ("4",)]
    socket = other.socketOf(again)
    assert (socket.rooms, socket.data) == ({client.id, "lobby"}, {"visits": 1})
    assert nothingLeft(workers)
    # It is a socket of its new worker like any other.
    for number, each in enumerate(found):
        each.io.to("lobby").emit("after", number)
        workers.settle()
    assert named(again)[4:] == [("after", 0), ("after", 1), ("after", 2)]
    assert [each.io.stats().recovered for each in found] == [int(each is other) for each in found]


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_movesAgain(start: Start, here: int, there: int) -> None:
    """After a move the offset is valid: the next loss, at any worker, repeats nothing and loses nothing."""
    workers, found = start()
    client = found[here].begin()
    workers.settle()
    sent = 0
    for place in (there, there, here, 3 - here - there, there):
        client.drop()
        for each in found:
            sent += 1
            each.io.emit("n", sent)
            workers.settle()
        client = comeBack(workers, found[place], client)
        assert client.recovered
        assert named(client) == [("n", each) for each in range(sent - 2, sent + 1)]
        sent += 1
        found[here].io.emit("n", sent)
        workers.settle()
        assert named(client)[-1] == ("n", sent)
    assert nothingLeft(workers)


def test_lostWhileItIsSentWhatItMissed(start: Start) -> None:
    """A client that got a part of what it missed gets the other part at the next worker, and at the same."""
    for last in (1, 2, 0):
        workers, found = start()
        client = found[0].begin()
        workers.settle()
        client.drop()
        for number in range(6):
            found[number % 3].io.emit("n", number)
            workers.settle()
        again = comeBack(workers, found[1], client)
        assert [each[1] for each in named(again)] == [*range(6)]
        # As if the others had been under way.
        again.drop()
        again._offset = again.received[2].args[-1]
        found[2].io.emit("n", 6)
        workers.settle()
        third = comeBack(workers, found[last], again)
        assert third.recovered
        assert [each[1] for each in named(third)] == [3, 4, 5, 6]
        third.drop()
        found[0].io.emit("n", 7)
        workers.settle()
        fourth = comeBack(workers, found[1], third)
        assert [each[1] for each in named(fourth)] == [7]


def test_receivedNothing(start: Start) -> None:
    """A client that has received nothing comes back too, and one that missed nothing."""
    workers, found = start()
    found[2].io.emit("before")
    workers.settle()
    client = found[0].begin()
    workers.settle()
    client.drop()
    again = comeBack(workers, found[1], client)
    assert (again.recovered, again.received) == (True, [])
    again.drop()
    found[2].io.emit("after")
    workers.settle()
    assert named(comeBack(workers, found[2], again)) == [("after",)]


@pytest.mark.parametrize("late", [(2, 0), (2, 1), (0, 1), (1, 0)])
def test_eventsOnTheirWay(start: Start, late: tuple[int, int]) -> None:
    """What is on its way between two workers while a client moves reaches it once, and in the order of each sender."""
    workers, found = start()
    client = found[0].begin()
    workers.settle()
    client.drop()
    for each in found:
        each.io.emit("early", found.index(each))
    workers.settle()
    workers.held = {(late[0] + 1, late[1] + 1)}
    for number in range(2):
        for each in found:
            each.io.emit("late", found.index(each), number)
            workers.settle()
    again = found[1].begin(recover=client)
    workers.settle()
    for each in found:
        each.io.emit("later", found.index(each))
        workers.settle()
    held = workers.held
    workers.held = set()
    for pair in held:
        workers.release(pair)
    workers.settle()
    assert again.recovered
    got = named(again)
    for number in range(3):
        expected = [("early", number), ("late", number, 0), ("late", number, 1), ("later", number)]
        assert [each for each in got if each[1] == number] == expected
    assert len(got) == 12
    again.drop()
    assert comeBack(workers, found[2], again).received == []


def test_beforeTheWorkerKnows(start: Start) -> None:
    """A client that comes back before its worker noticed the loss takes over; the old connection is ended."""
    ends: list[str] = []

    def watched(io: SocketIO) -> None:
        application(io)
        io.on("disconnect", lambda socket, reason, description: ends.append(str(reason)))

    workers, found = start(watched)
    client = found[0].begin()
    workers.settle()
    client.vanish()
    found[1].io.emit("lost")
    workers.settle()
    again = comeBack(workers, found[2], client)
    assert again.recovered
    assert named(again) == [("lost",)]
    assert ends == ["transport close"]
    assert [len(each.io.sockets) for each in found] == [0, 0, 1]


def test_theSameSecretTwice(start: Start) -> None:
    """A secret restores once: of two that come with it at a time one is recovered, and ids are never shared."""
    workers, found = start()
    client = found[0].begin()
    workers.settle()
    client.drop()
    two = [each.begin(recover=client) for each in found[1:]]
    workers.settle()
    assert sorted(each.recovered for each in two) == [False, True]
    # The next one takes it away from the one that has it.
    last = comeBack(workers, found[0], client)
    assert last.recovered
    assert last.id == client.id
    assert len({each.id for each in [*two, last]}) == 2
    assert sum(client.id in each.io.sockets for each in found) == 1


def test_unknownExpiredAndEvicted(start: Start) -> None:
    """Who can't be recovered gets a session of its own, at once, and the cause is counted where it came."""
    workers, found = start(recovery={"maxDisconnectionDuration": 5000, "maxEvents": 2})
    clients = [found[0].begin() for _ in range(3)]
    workers.settle()
    for each in clients:
        each.drop()
    for number in range(3):
        found[0].io.emit("n", number)
    workers.settle()
    assert not comeBack(workers, found[1], clients[0]).recovered
    assert found[1].io.stats().notRecovered == {"evicted": 1}
    workers.pass_(6)
    again = comeBack(workers, found[1], clients[1])
    assert (again.recovered, again.received) == (False, [])
    assert again.connected
    invented = found[1].begin(auth={"pid": "a" * 24, "offset": "x.1"})
    workers.settle()
    assert invented.connected
    assert found[1].io.stats().notRecovered == {"evicted": 1, "expired": 1, "foreign": 1}
    assert found[0].io.stats().notRecovered == {}


def test_sameUser(start: Start) -> None:
    """Another user gets nothing, and the session stays for its own user, wherever that comes back."""
    compared: list[Any] = []

    def sameUser(kept: Kept, socket: Socket) -> bool:
        compared.append((kept.data["name"], kept.auth["name"], sorted(kept.rooms), socket.data["name"]))
        return bool(kept.data["name"] == socket.data["name"])

    def checked(io: SocketIO) -> None:
        io.use(lambda socket: socket.data.update(name=socket.auth["name"]))
        io.on("join", lambda socket, room: socket.join(room))

    workers, found = start(checked, {"sameUser": sameUser})
    client = found[0].begin(auth={"name": "a"})
    workers.settle()
    client.emit("join", "private")
    secret = secretOf(found[0], client)
    thief = comeBack(workers, found[1], client, auth={"name": "b"})
    assert (thief.recovered, client.connected) == (False, True)
    client.drop()
    found[2].io.to("private").emit("secret")
    workers.settle()
    thief = comeBack(workers, found[1], client, auth={"name": "b"})
    assert (thief.recovered, thief.received) == (False, [])
    assert secretOf(found[1], thief) != secret
    assert found[1].io.stats().notRecovered == {"other user": 2}
    again = comeBack(workers, found[2], client, auth={"name": "a"})
    assert (again.recovered, named(again)) == (True, [("secret",)])
    assert compared == [("a", "a", ["private"], "b"), ("a", "a", ["private"], "b"), ("a", "a", ["private"], "a")]


@pytest.mark.parametrize("skips", [False, True])
def test_middlewares(start: Start, skips: bool) -> None:
    """Middlewares of the new worker run before, unless they are to be left out."""
    called: list[str] = []

    def checked(io: SocketIO) -> None:
        io.use(lambda socket: called.append(socket.auth["name"]))

    workers, found = start(checked, {"skipMiddlewares": skips})
    client = found[0].begin(auth={"name": "a"})
    workers.settle()
    client.drop()
    assert comeBack(workers, found[1], client, auth={"name": "b"}).recovered
    assert called == (["a"] if skips else ["a", "b"])


def test_aWorkerThatDoesNotAnswer(start: Start) -> None:
    """A worker that hangs delays a client by a second; one that hangs, and isn't needed, by nothing."""
    workers, found = start()
    clients = [found[0].begin() for _ in range(2)]
    workers.settle()
    for each in clients:
        each.drop()
    workers.held = {(2, 3), (3, 2)}
    again = comeBack(workers, found[1], clients[0])
    assert again.recovered
    workers.held = {(1, 2)}
    again = found[1].begin(recover=clients[1])
    workers.pass_(0.9)
    assert not again.connected
    workers.pass_(0.2)
    assert (again.connected, again.recovered) == (True, False)
    assert found[1].io.stats().notRecovered == {"no answer": 1}
    workers.held = set()
    workers.pass_(1)
    assert found[1].adapter.stats().requests == 0


def test_aWorkerThatDies(start: Start) -> None:
    """The sessions of a worker die with it: their clients get others at once. What it had sent isn't lost."""
    workers, found = start()
    stays, goes = found[1].begin(), found[0].begin()
    workers.settle()
    stays.drop()
    goes.drop()
    found[0].io.emit("last words")
    workers.held = {(1, 2), (2, 1)}
    waiting = found[1].begin(recover=goes)
    workers.settle()
    assert not waiting.connected
    workers.held = set()
    found[0].exchange.channels.clear()
    workers.kill(found[0])
    assert (waiting.connected, waiting.recovered) == (True, False)
    again = comeBack(workers, found[2], stays)
    assert (again.recovered, named(again)) == (True, [("last words",)])


def test_theClientLeavesMeanwhile(start: Start) -> None:
    """A client that is lost while its session moves finds it at the next attempt."""
    workers, found = start()
    client = found[0].begin()
    workers.settle()
    client.drop()
    found[2].io.emit("missed")
    workers.settle()
    workers.held = {(1, 2)}
    lost = found[1].begin(recover=client)
    workers.settle()
    lost.drop()
    workers.settle()
    workers.held = set()
    workers.settle()
    assert [each.io.stats().waitingSessions for each in found] == [0, 1, 0]
    again = comeBack(workers, found[2], client)
    assert (again.recovered, named(again)) == (True, [("missed",)])


def test_whatCannotMove(start: Start, warnings: list[str]) -> None:
    """Data that can't be sent keeps a session at its worker, which takes its client back."""
    workers, found = start()
    client = found[0].begin()
    workers.settle()
    found[0].socketOf(client).data["object"] = object()
    client.drop()
    again = comeBack(workers, found[1], client)
    assert (again.connected, again.recovered) == (True, False)
    assert found[1].io.stats().notRecovered == {"unsendable": 1}
    assert any("can't move" in each for each in warnings)
    assert comeBack(workers, found[0], client).recovered


def test_namespaces(start: Start) -> None:
    """Each namespace moves by itself, also one that is made when a client asks for it."""

    def dynamic(io: SocketIO) -> None:
        io.of(re.compile("^/room-"))

    workers, found = start(dynamic)
    client = found[0].begin("/room-1")
    workers.settle()
    client.drop()
    found[0].io.namespaces["/room-1"].emit("missed")
    workers.settle()
    again = comeBack(workers, found[1], client, namespace="/room-1")
    assert (again.recovered, named(again)) == (True, [("missed",)])
    assert "/room-1" not in found[0].io.namespaces
    found[2].io.of("/room-1").emit("after")
    workers.settle()
    assert named(again)[1:] == [("after",)]


def test_aNewWorker(start: Start) -> None:
    """A worker that started later recovers sessions of the others, and isn't sent what was before them."""
    workers, found = start()
    for each in found:
        each.io.emit("before")
    workers.settle()
    client = found[0].begin()
    workers.settle()
    client.drop()
    found[1].io.emit("missed")
    workers.settle()
    new = workers.start()
    again = comeBack(workers, new, client)
    assert (again.recovered, named(again)) == (True, [("missed",)])
    again.drop()
    new.io.emit("missed too")
    workers.settle()
    assert named(comeBack(workers, found[1], again)) == [("missed too",)]


def test_firstEventOnItsWay(start: Start) -> None:
    """What is on its way to a new worker, which nobody has sent anything yet, isn't lost with a client that moves."""
    workers, found = start()
    found[2].io.emit("before")
    workers.settle()
    new = workers.start()
    client = new.begin()
    workers.settle()
    client.drop()
    workers.held = {(3, 4)}
    found[2].io.emit("missed")
    workers.settle()
    again = comeBack(workers, found[1], client)
    assert (again.recovered, named(again)) == (True, [("missed",)])


def test_evictedWhereItComesBack(start: Start) -> None:
    """If an event that was on its way to the old worker is kept no more at the new one, nothing is sent in part."""
    workers, found = start(recovery={"maxEvents": 2})
    client = found[0].begin()
    workers.settle()
    client.drop()
    workers.held = {(3, 1)}
    for number in range(3):
        found[2].io.emit("n", number)
    workers.settle()
    again = comeBack(workers, found[1], client)
    assert (again.connected, again.recovered, again.received) == (True, False, [])
    assert found[1].io.stats().notRecovered == {"evicted": 1}


def test_backlogsAreBounded(start: Start) -> None:
    """What is kept for clients that moved is bounded in bytes and time; who has received it all needs none of it."""
    workers, found = start(recovery={"maxBytes": 4000, "maxDisconnectionDuration": 5000})
    clients = [found[0].begin() for _ in range(5)]
    workers.settle()
    for each in clients:
        each.drop()
    found[0].io.emit("large", 1500 * "x")
    workers.settle()
    moved = [comeBack(workers, found[1], each) for each in clients]
    assert [each.recovered for each in moved] == 5 * [True]
    recovery: Any = found[1].io.recovery
    assert recovery._backlogSize <= 4000
    for each in moved:
        each.drop()
    first, second = moved[:2]
    assert comeBack(workers, found[1], first).recovered
    # As if it had received nothing.
    second._offset = None
    assert not comeBack(workers, found[1], second).recovered
    assert found[1].io.stats().notRecovered == {"evicted": 1}
    workers.pass_(6)
    found[1].io.emit("later")
    assert (recovery._backlogSize, len(recovery._backlogs)) == (0, 0)


def test_theSecretIsNowhere(start: Start) -> None:
    """The secret goes to the other workers in a question alone, when its client has come back."""
    workers, found = start()
    client = found[0].begin()
    workers.settle()
    secret = secretOf(found[0], client).encode()
    found[1].io.fetchSockets()
    found[0].io.emit("x")
    workers.settle()
    assert not [each for each in workers.frames if secret in each]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(0, 2)),
        st.tuples(st.just("emit"), st.integers(0, 2)),
        st.tuples(st.sampled_from(("hold", "release")), st.permutations(range(1, 4)).map(lambda each: tuple(each[:2]))),
        st.tuples(st.just("drop"), st.none()),
        st.tuples(st.just("back"), st.integers(0, 2)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_anySchedule(steps: list[tuple[str, Any]]) -> None:
    """Whatever is late, and wherever a client comes back: it gets each event once, in the order of each sender."""
    with workersInMemory() as make:
        workers = make(application, connectionStateRecovery=True)
        found = [workers.start() for _ in range(3)]
        client: MemorySocket | None = found[0].begin()
        workers.settle()
        lost = client
        got: list[Any] = []
        sent = [0, 0, 0]

        def take(client: MemorySocket) -> None:
            nonlocal got
            got += named(client)

        for what, which in [*steps, ("all", None), ("back", 1), ("all", None)]:
            if what == "emit":
                sent[which] += 1
                found[which].io.emit("n", which, sent[which])
            elif what == "hold":
                workers.held.add(which)
            elif what == "release":
                workers.release(which)
            elif what == "all":
                workers.held.clear()
            elif what == "drop" and client is not None:
                workers.settle()
                take(client)
                client.drop()
                lost, client = client, None
            elif what == "back" and client is None:
                client = found[which].begin(recover=lost)
                workers.settle()
                if not client.connected:
                    # What it waits for comes before a second is over.
                    workers.held.clear()
                    workers.settle()
                assert client.recovered
            workers.settle()
        assert client is not None
        take(client)
        for number in range(3):
            assert [each[2] for each in got if each[1] == number] == [*range(1, sent[number] + 1)]


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_theKitsCluster(here: int, there: int) -> None:
    """The same with the exchange that workers have: a client comes back to another one, and all reach it there."""
    ios: list[SocketIO] = []

    def serve(server: Server) -> None:
        ios.append(SocketIO(server, connectionStateRecovery=True))
        application(ios[-1])

    with MemoryCluster(serve, workers=3, path="/socket.io") as cluster:
        servers: Any = cluster

        def begin(at: int, **options: Any) -> MemorySocket:
            client = connect(servers, JSONParser(fromServer=True), transport="websocket", worker=at + 1, **options)
            cluster.settle()
            return client

        client = begin(here)
        client.emit("join", "lobby")
        client.drop()
        for number, io in enumerate(ios):
            io.to("lobby").emit("missed", number)
            cluster.settle()
        again = begin(there, recover=client)
        ios[here].to("lobby").emit("after")
        asked = ios[here].in_("lobby").fetchSockets()
        cluster.settle()
        assert named(again) == [("missed", 0), ("missed", 1), ("missed", 2), ("after",)]
        assert (again.recovered, len(ios[there].sockets), len(ios[here].sockets)) == (True, 1, 0)
        assert [each.id for each in resultOf(asked)] == [client.id]
