"""Several processes as one server: on a clock, with Redis in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent

from engineio_twisted import OptionError
from engineio_twisted.socketio import AckTimeout, AdapterError, RemoteTimeout, SocketIO, UnsendableValue
from engineio_twisted.socketio.redis import RedisAdapter

from ..kit.cluster import OWN, Cluster, Process, clusters, events


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with clusters() as start:
        yield start()


@pytest.fixture
def two(cluster: Cluster) -> tuple[Process, Process]:
    """Two processes that know of each other."""
    found = cluster.start(), cluster.start()
    assert [each.adapter.stats().processes for each in found] == [1, 1]
    return found


def resultOf(deferred: Deferred[Any]) -> Any:
    """Return the result that a Deferred has, or raise its failure."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    assert results, "nothing yet"
    return results[0]


# Events


def test_broadcasts(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Rooms, namespaces, exclusions and arguments are the same in all processes, and each client gets it once."""
    one, other = two
    a, b, c = one.connect("red"), other.connect("red", "blue"), other.connect("blue")
    admin = other.connect("red", namespace="/admin")
    io = one.io
    io.emit("all", 1, None, {"k": ["ü", True]})
    io.to("red").emit("red", b"\x00\xff", {"more": [b"2"]})
    io.to("red", "blue").emit("both")
    io.to("blue").except_("red").emit("blue only")
    io.of("/admin").to("red").emit("for admins")
    one.socketOf(a).to("red").emit("others")
    one.socketOf(a).broadcast.emit("all others")
    io.local.emit("here")
    io.volatile.emit("volatile", 1)
    io.compress(False).emit("as it is")
    io.to("nobody").emit("nobody")
    cluster.settle()
    both = ("both",), ("volatile", 1), ("as it is",)
    everybody = ("all", 1, None, {"k": ["ü", True]})
    red = ("red", b"\x00\xff", {"more": [b"2"]})
    assert events(a) == [everybody, red, both[0], ("here",), *both[1:]]
    assert sorted(events(b), key=str) == sorted([everybody, red, *both, ("others",), ("all others",)], key=str)
    assert sorted(events(c), key=str) == sorted([everybody, *both, ("blue only",), ("all others",)], key=str)
    assert events(admin) == [("for admins",)]
    assert [each.adapter.stats().invalid for each in two] == [0, 0]


def test_orderOfASender(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """What one process sends, by either channel, arrives in its order."""
    one, other = two
    client = other.connect("red")
    for number in range(20):
        (one.io if number % 3 else one.io.except_("blue")).emit("n", number)
    cluster.settle()
    assert events(client) == [("n", number) for number in range(20)]


def test_oneSocket(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """A socket is reached by its id wherever it is; for one of this process nothing is published."""
    one, other = two
    a, b = one.connect(), other.connect()
    before = len(cluster.redis.log)
    one.io.to(one.socketOf(a).id).emit("here")
    cluster.settle()
    assert len(cluster.redis.log) == before
    one.io.to(other.socketOf(b).id).emit("there")
    cluster.settle()
    assert events(a) == [("here",)]
    assert events(b) == [("there",)]


def test_aSenderThatHasGone(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """What a socket tells the others at its end reaches all of them, python-socketio's too, without its id."""
    one, other = two
    b = other.connect()
    one.io.on("disconnect", lambda socket, *_: socket.broadcast.emit("gone"))
    leaving = one.connect()
    secret = one.socketOf(leaving).id
    leaving.disconnect()
    cluster.settle()
    assert events(b) == [("gone",)]
    assert cluster.published()[-1]["event"] == "gone"
    assert secret not in str(cluster.redis.log)


def test_formatForPythonSocketIO(cluster: Cluster) -> None:
    """What python-socketio can say is said as it says it, and the rest goes by our own channel alone."""
    one = cluster.start()
    one.io.emit("all", 1, "x")
    one.io.of("/admin").to("red").emit("red", b"\x00", {"k": b"\xff"})
    one.io.to("red", "blue").emit("both")
    one.io.in_("red").socketsLeave("red")
    cluster.settle()
    first, second, third, fourth = cluster.published()
    host = first.pop("host_id")
    common = {"method": "emit", "callback": None, "skip_sid": None}
    assert first == {
        **common, "event": "all", "data": [1, "x"], "binary": False, "namespace": "/", "room": None
    }  # fmt: skip
    data = [[{"_placeholder": True, "num": 0}, {"k": {"_placeholder": True, "num": 1}}], "AA==", "/w=="]
    assert second == {
        **common, "event": "red", "data": data, "binary": True, "namespace": "/admin", "room": "red", "host_id": host
    }  # fmt: skip
    assert (third["room"], third["data"]) == (["blue", "red"], [])
    assert fourth == {"method": "close_room", "namespace": "/", "host_id": host, "room": "red"}
    one.io.to("red").except_("blue").emit("not for them")
    one.io.volatile.emit("not for them")
    cluster.settle()
    assert len(cluster.published()) == 4
    assert [each["event"] for each in cluster.published(OWN) if each["type"] == "event"] == 2 * ["not for them"]


def test_pythonSocketIO(cluster: Cluster) -> None:
    """What an emitter or a server of python-socketio sends is done."""
    one = cluster.start()
    a, b, admin = one.connect("red"), one.connect("blue"), one.connect("red", namespace="/admin")
    id = one.socketOf(a).id  # noqa: A001
    emit = {"method": "emit", "namespace": "/", "room": None, "skip_sid": None, "callback": None, "host_id": "x"}
    cluster.say({**emit, "event": "one", "data": [1], "binary": False})
    cluster.say({**emit, "event": "two", "data": [[{"_placeholder": True, "num": 0}], "AAE="], "binary": True})
    cluster.say({**emit, "event": "red", "data": [1, 2], "binary": False, "room": "red"})
    cluster.say({**emit, "event": "list", "data": [], "binary": False, "room": ["red", "blue"], "skip_sid": id})
    cluster.say({**emit, "event": "skips", "data": [], "skip_sid": [id, None]})
    cluster.say({**emit, "event": "null", "data": [None], "binary": False, "room": id})
    cluster.say({**emit, "event": "admin", "data": [], "namespace": "/admin"})
    cluster.say({**emit, "event": "nowhere", "data": [], "namespace": "/nowhere"})
    assert events(a) == [("one", 1), ("two", b"\x00\x01"), ("red", 1, 2), ("null", None)]
    assert events(b) == [("one", 1), ("two", b"\x00\x01"), ("list",), ("skips",)]
    assert events(admin) == [("admin",)]
    about = {"namespace": "/", "host_id": "x"}
    cluster.say({**about, "method": "enter_room", "sid": id, "room": "green"})
    cluster.say({**about, "method": "enter_room", "sid": "red", "room": "green"})
    cluster.say({**about, "method": "leave_room", "sid": id, "room": "red"})
    assert one.socketOf(a).rooms == {id, "green"}
    cluster.say({**about, "method": "close_room", "room": "blue"})
    assert one.socketOf(b).rooms == {one.socketOf(b).id}
    cluster.say({**about, "method": "disconnect", "sid": "green"})
    assert a.connected
    cluster.say({**about, "method": "disconnect", "sid": id})
    assert not a.connected
    assert b.connected
    assert one.adapter.stats().invalid == 0


def test_callbacksOfPythonSocketIO(cluster: Cluster) -> None:
    """An emit of python-socketio that wants an answer gets that of each client, as it comes."""
    one = cluster.start()
    a, b, silent = one.connect("red"), one.connect("red"), one.connect("red")
    a.on("ask", lambda *args: tuple(reversed(args)))
    b.on("ask", None)
    emit = {"method": "emit", "namespace": "/", "skip_sid": None, "host_id": "x", "event": "ask", "binary": False}
    cluster.say({**emit, "data": [1, 2], "room": "red", "callback": ["red", "/", 7]})
    answer = {"method": "callback", "host_id": "x", "sid": "red", "namespace": "/", "id": 7}
    assert cluster.published()[1:] == [{**answer, "args": [2, 1]}, {**answer, "args": []}] or (
        cluster.published()[1:] == [{**answer, "args": []}, {**answer, "args": [2, 1]}]
    )
    # Bytes can't be in it.
    a.on("ask", b"bytes")
    cluster.say({**emit, "data": [], "room": one.socketOf(a).id, "callback": ["red", "/", 8]})
    assert len(cluster.published()) == 4
    assert events(silent) == [("ask", 1, 2)]
    cluster.pass_(61)
    assert one.io.stats().acks == 0


# Acknowledgements


def test_answersOfAll(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """A broadcast with acknowledgements has those of the clients of all processes."""
    one, other = two
    third = cluster.start()
    for process, answer in ((one, 1), (other, (b"2", None)), (other, None), (third, {"k": [3]})):
        process.connect("red").on("ask", answer)
    third.connect().on("ask", "not asked")
    answers = one.io.to("red").emitWithAck("ask", b"what?")
    cluster.settle()
    assert sorted(resultOf(answers), key=str) == sorted([1, (b"2", None), None, {"k": [3]}], key=str)
    answers = one.io.to("nobody").emitWithAck("ask")
    cluster.settle()
    assert resultOf(answers) == []
    # With exclusions, and of this process alone.
    answers = one.io.except_("red").emitWithAck("ask")
    local = one.io.local.emitWithAck("ask")
    cluster.settle()
    assert resultOf(answers) == ["not asked"]
    assert resultOf(local) == [1]
    assert [each.adapter.stats().requests for each in cluster.processes] == [0, 0, 0]


def test_clientsThatDontAnswer(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Clients of other processes that don't answer in time, or leave, are missing by their ids."""
    one, other = two
    one.connect().on("ask", 1)
    other.connect().on("ask", 2)
    silent, leaving = other.connect(), other.connect()
    ids = {other.socketOf(each).id for each in (silent, leaving)}
    answers = one.io.timeout(3000).emitWithAck("ask")
    cluster.settle()
    leaving.disconnect()
    cluster.pass_(2.8)
    assert not answers.called
    cluster.pass_(0.4)
    with pytest.raises(AckTimeout) as caught:
        resultOf(answers)
    assert sorted(caught.value.answers) == [1, 2]
    assert {*caught.value.missing} == ids
    # Without a time, as long as it takes.
    answers = one.io.timeout(None).emitWithAck("ask")
    cluster.pass_(300)
    assert not answers.called
    silent.disconnect()
    cluster.settle()
    with pytest.raises(AckTimeout):
        resultOf(answers)
    assert [each.io.stats().acks for each in two] == [0, 0]


def test_processesThatDontAnswer(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """A process that hangs is waited for no longer than its clients and requestTimeout; then what came is there."""
    one, _ = two
    one.connect().on("ask", 1)
    cluster.say({"v": 1, "type": "alive", "host": "hangs"}, OWN)
    answers, sockets = one.io.timeout(1000).emitWithAck("ask"), one.io.fetchSockets()
    server = one.io.serverSideEmitWithAck("ask", timeout=500)
    two[1].io.onServerSide("ask", lambda: "here")
    cluster.pass_(0.6)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(server)
    assert caught.value.missing >= 1
    cluster.pass_(4.2)
    assert not sockets.called
    cluster.pass_(0.3)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(sockets)
    assert len(caught.value.answers) == 1
    assert caught.value.missing == 1
    cluster.pass_(1)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(answers)
    assert caught.value.answers == [1]
    assert one.adapter.stats().remoteTimeouts == 3


def test_processesThatEnd(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """If a process ends, or falls silent, whoever waits for it hears so at once."""
    one, other = two
    one.connect().on("ask", 1)
    other.connect()
    answers = one.io.timeout(None).emitWithAck("ask")
    cluster.settle()
    assert not answers.called
    other.memory.close()
    cluster.settle()
    with pytest.raises((AckTimeout, RemoteTimeout)) as caught:
        resultOf(answers)
    assert caught.value.answers == [1]
    assert one.adapter.stats().processes == 0
    # One that is killed says nothing.
    cluster.say({"v": 1, "type": "alive", "host": "killed"}, OWN)
    answers = one.io.timeout(None).emitWithAck("ask")
    cluster.pass_(9.8)
    assert one.adapter.stats().processes == 1
    cluster.pass_(0.3)
    assert one.adapter.stats().processes == 0
    with pytest.raises(RemoteTimeout):
        resultOf(answers)


def test_cancelling(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Whoever cancels forgets the answers, and nothing is left."""
    one, other = two
    one.connect()
    other.connect()
    for waiting in (
        one.io.emitWithAck("ask"),
        one.io.fetchSockets(),
        one.io.serverSideEmitWithAck("ask"),
    ):
        failures: list[Any] = []
        waiting.addErrback(failures.append)
        waiting.cancel()
        assert len(failures) == 1
    cluster.settle()
    assert one.adapter.stats().requests == 0
    assert one.io.stats().acks == 0
    cluster.pass_(61)
    assert other.io.stats().acks == 0


# Sockets of all processes


def test_fetchSockets(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """The sockets of all processes, with rooms, data and handshake; what can't be sent is left out."""
    one, other = two
    a, b, c = one.connect("red"), other.connect("red", "blue"), other.connect("green")
    other.socketOf(b).data = {"name": "Zoë", "key": b"\x01"}
    other.socketOf(c).data["object"] = object()
    found = one.io.fetchSockets()
    some = one.io.in_("red").except_(one.socketOf(a).id).fetchSockets()
    local = one.io.local.fetchSockets()
    cluster.settle()
    sockets = {each.id: each for each in resultOf(found)}
    assert sockets.keys() == {one.socketOf(a).id, other.socketOf(b).id, other.socketOf(c).id}
    remote = sockets[other.socketOf(b).id]
    assert remote.rooms == {"red", "blue", remote.id}
    assert remote.data == {"name": "Zoë", "key": b"\x01"}
    assert remote.handshake == other.socketOf(b).asRemote().handshake
    assert sockets[other.socketOf(c).id].data == {}
    assert [each.id for each in resultOf(some)] == [remote.id]
    assert [each.id for each in resultOf(local)] == [one.socketOf(a).id]
    # They can be used.
    b.on("mood?", lambda *words: (*words, "fine"))
    answer = remote.emitWithAck("mood?", "today")
    cluster.settle()
    assert resultOf(answer) == ("today", "fine")
    assert events(b) == [("mood?", "today")]
    remote.emit("hello")
    remote.join("yellow")
    remote.leave("blue")
    cluster.settle()
    assert events(b) == [("hello",)]
    assert other.socketOf(b).rooms == {"red", "yellow", remote.id}
    remote.disconnect()
    cluster.settle()
    assert not b.connected
    gone = remote.emitWithAck("mood?")
    cluster.settle()
    with pytest.raises(AckTimeout, match="ended"):
        resultOf(gone)


def test_manySockets(cluster: Cluster) -> None:
    """An answer that is larger than a message comes in parts; a socket that is larger alone makes it fail."""
    one, other = cluster.start(maxMessageBytes=5000), cluster.start(maxMessageBytes=5000)
    clients = [other.connect() for _ in range(40)]
    found = one.io.fetchSockets()
    cluster.settle()
    assert len({each.id for each in resultOf(found)}) == 40
    answers = [each for each in cluster.published(OWN) if each["type"] == "answer"]
    assert len(answers) > 2
    assert [each["isLast"] for each in answers] == [False] * (len(answers) - 1) + [True]
    assert max(len(each) for _, each in cluster.redis.log) <= 5000
    other.socketOf(clients[0]).data["large"] = 5000 * "x"
    found = one.io.fetchSockets()
    cluster.settle()
    with pytest.raises(RemoteTimeout):
        resultOf(found)
    assert other.adapter.stats().tooLarge == 1


def test_roomsAndDisconnecting(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Sockets of all processes join and leave rooms and are disconnected, by rooms, ids and exclusions."""
    one, other = two
    a, b, c = one.connect("red"), other.connect("red"), other.connect("blue")
    one.io.in_("red").socketsJoin("green", "yellow")
    one.io.in_(other.socketOf(c).id).socketsJoin("white")
    one.io.except_("blue").socketsJoin("not blue")
    cluster.settle()
    assert one.socketOf(a).rooms - {one.socketOf(a).id} == {"red", "green", "yellow", "not blue"}
    assert other.socketOf(b).rooms - {other.socketOf(b).id} == {"red", "green", "yellow", "not blue"}
    assert other.socketOf(c).rooms - {other.socketOf(c).id} == {"blue", "white"}
    one.io.in_("green").socketsLeave("yellow", "red")
    one.io.in_("white").socketsLeave("white")
    cluster.settle()
    assert other.socketOf(b).rooms - {other.socketOf(b).id} == {"green", "not blue"}
    assert other.socketOf(c).rooms - {other.socketOf(c).id} == {"blue"}
    one.io.except_("blue").disconnectSockets()
    cluster.settle()
    assert (a.connected, b.connected, c.connected) == (False, False, True)
    one.io.in_("blue").disconnectSockets(close=True)
    cluster.settle()
    assert not c.connected
    assert not other.memory.server.clients or len(other.memory.server.clients) == 1
    assert [each.adapter.stats().invalid for each in two] == [0, 0]


def test_olderClients(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Of a client of protocol 4, whose id is a secret, no other process and no message has the id."""
    one, other = two
    old, silent = other.connect("red", protocol=4), other.connect(namespace="/admin", protocol=4)
    one.connect()
    socket = other.socketOf(old)
    secrets = [socket.conn.id, other.socketOf(silent, "/admin").conn.id]
    socket.broadcast.emit("hello")
    socket.to("red").emit("hello")
    found = one.io.fetchSockets()
    asked = one.io.of("/admin").timeout(100).emitWithAck("ask")
    cluster.settle()
    (remote,) = [each for each in resultOf(found) if "red" in each.rooms]
    remote.emit("to you")
    one.io.except_(remote.id).emit("not you")
    cluster.pass_(0.2)
    assert ("to you",) in events(old)
    assert ("not you",) not in events(old)
    with pytest.raises(AckTimeout) as caught:
        resultOf(asked)
    assert caught.value.missing == [other.socketOf(silent, "/admin").remoteId]
    old.disconnect()
    one.io.to(remote.id).emit("gone")
    cluster.settle()
    for each in secrets:
        assert each not in str(cluster.redis.log)


# Other processes


def test_serverSideEvents(cluster: Cluster, two: tuple[Process, Process], loggedErrors: list[LogEvent]) -> None:
    """Events for other processes reach their handlers, and never clients or the sender."""
    one, other = two
    third = cluster.start()
    told: list[Any] = []
    for number, process in enumerate(cluster.processes):
        process.io.onServerSide("news", lambda *args, number=number: told.append((number, *args)))
        process.io.onServerSide("ask", lambda what, number=number: (number, what) if number else None)
    client = other.connect()
    one.io.serverSideEmit("news", 1, b"\x00")
    one.io.serverSideEmit("unknown")
    cluster.settle()
    assert sorted(told) == [(1, 1, b"\x00"), (2, 1, b"\x00")]
    answers = one.io.serverSideEmitWithAck("ask", "how")
    cluster.settle()
    assert sorted(resultOf(answers)) == [(1, "how"), (2, "how")]
    later: Deferred[Any] = Deferred()
    third.io.onServerSide("later", lambda: later)
    other.io.onServerSide("later", lambda: 1)
    answers = one.io.serverSideEmitWithAck("later")
    cluster.pass_(4)
    later.callback(2)
    cluster.settle()
    assert sorted(resultOf(answers)) == [1, 2]
    # Without a handler, or if that fails, the process doesn't answer.
    answers = one.io.serverSideEmitWithAck("unknown")
    other.io.onServerSide("fails", lambda: 1 / 0)
    third.io.onServerSide("fails", lambda: "well")
    failing = one.io.serverSideEmitWithAck("fails")
    cluster.settle()
    with pytest.raises(RemoteTimeout):
        resultOf(answers)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(failing)
    assert (caught.value.answers, caught.value.missing) == (["well"], 1)
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    for each in cluster.processes:
        each.memory.errors.clear()
    assert events(client) == []


def test_aloneInTheWorld(cluster: Cluster) -> None:
    """A process that is alone needs no answers."""
    one = cluster.start()
    one.connect().on("ask", 1)
    waiting = [one.io.emitWithAck("ask"), one.io.serverSideEmitWithAck("ask"), one.io.fetchSockets()]
    cluster.settle()
    assert resultOf(waiting[0]) == [1]
    assert resultOf(waiting[1]) == []
    assert len(resultOf(waiting[2])) == 1


# Redis


def test_withoutRedis(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """While Redis is away local clients are served; processes stay known; afterwards all is as before."""
    one, other = two
    a, b = one.connect(), other.connect()
    b.on("ask", 2)
    a.on("ask", 1)
    cluster.redis.stop()
    cluster.settle()
    one.io.emit("meanwhile")
    cluster.pass_(30)
    assert events(a) == [("meanwhile",)]
    assert one.adapter.stats().redis.dropped == 1
    assert one.adapter.stats().processes == 1
    answers = one.io.timeout(1000).emitWithAck("ask")
    cluster.pass_(6.2)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(answers)
    assert caught.value.answers == [1]
    cluster.redis.isDown = False
    cluster.pass_(7)
    assert events(b) == []
    one.io.emit("again")
    answers = one.io.emitWithAck("ask")
    cluster.settle()
    assert events(b) == [("again",), ("ask",)]
    assert sorted(resultOf(answers)) == [1, 2]
    cluster.pass_(20)
    assert one.adapter.stats().processes == 1


def test_metrics(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """The numbers of the adapter are beside those of its server, and say whether Redis is there."""
    one, _ = two
    one.io.emit("x")
    cluster.say({"method": "nonsense"})
    cluster.redis.stop()
    cluster.settle()
    one.io.emit("y")
    found = {each.name: each for each in one.io.engine.measures() if each.name.startswith("socketio_redis_")}
    values = {name.removeprefix("socketio_redis_"): each.value for name, each in found.items()}
    assert (values["connected"], values["processes"], values["invalid"], values["dropped"]) == (0, 1, 1, 0)
    assert values["queued_bytes"] > 50
    assert values["published"] == one.adapter.stats().redis.published > 0
    assert not found["socketio_redis_connected"].isCounter
    cluster.pass_(5.2)
    (dropped,) = [each for each in one.io.engine.measures() if each.name == "socketio_redis_dropped"]
    assert (dropped.value, dropped.isCounter) == (1, True)


def test_theEnd(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """A process that ends says so, closes its connections, and others go on."""
    one, other = two
    other.io.of("/admin")
    other.memory.close()
    cluster.settle()
    assert one.adapter.stats().processes == 0
    assert len(cluster.redis.connections) == 2
    assert cluster.published(OWN)[-1]["type"] == "gone"


def test_theEndWithoutAnAnswer(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """The end of a server doesn't wait for a Redis that hangs, nor for processes."""
    one, _ = two
    cluster.say({"v": 1, "type": "alive", "host": "hangs"}, OWN)
    waiting = one.io.timeout(None).emitWithAck("ask")
    waiting.addErrback(lambda _: None)
    cluster.redis.isHung = True
    closed = one.io.close()
    cluster.pass_(1)
    assert closed.called
    assert waiting.called
    cluster.redis.wake()


# What may not be


def test_tooLargeMessages(cluster: Cluster) -> None:
    """A message that is too large is refused where it is sent, before any client gets it."""
    one, other = cluster.start(maxMessageBytes=1000), cluster.start()
    a = one.connect("red")
    other.connect("red")
    large = 1000 * "x"
    for refused in (
        lambda: one.io.emit("large", large),
        lambda: one.io.except_("blue").emit("large", large),
        lambda: one.io.emitWithAck("large", large),
        lambda: one.io.serverSideEmit("large", large),
        lambda: one.io.serverSideEmitWithAck("large", large),
        lambda: one.io.in_(large).fetchSockets(),
        lambda: one.io.in_("red").socketsJoin(large),
        lambda: one.io.in_("red").socketsLeave(large),
        lambda: one.io.in_(large).disconnectSockets(),
    ):
        with pytest.raises(AdapterError, match="maxMessageBytes"):
            refused()
    one.io.local.emit("large", large)
    cluster.settle()
    assert events(a) == [("large", large)]
    assert one.adapter.stats().tooLarge == 9
    assert one.adapter.stats().requests == 0
    assert one.socketOf(a).rooms == {"red", one.socketOf(a).id}


def test_unsendableValues(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """A value that can't be sent is refused, and nothing is published."""
    one, _ = two
    before = len(cluster.redis.log)
    for refused in (one.io.emit, one.io.except_("x").emit, one.io.emitWithAck, one.io.serverSideEmit):
        with pytest.raises(UnsendableValue):
            refused("x", object())
    cluster.settle()
    assert len(cluster.redis.log) == before


def test_defaultOfValues(cluster: Cluster) -> None:
    """What the option `default` makes of a value is what clients of other processes get too."""
    one, other = cluster.start(options={"default": str}), cluster.start()
    client = other.connect()
    one.io.emit("path", 1 + 2j)
    cluster.settle()
    assert events(client) == [("path", "(1+2j)")]


VALID = {"method": "emit", "event": "x", "data": [1], "binary": False, "namespace": "/", "room": None, "host_id": "h"}
ABOUT = {"v": 1, "host": "h", "namespace": "/", "rooms": [], "except": []}
INVALID: dict[str, list[Any]] = {
    "socketio": [
        b"",
        b"\xff\xfe",
        b"no JSON",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"1" * 10_000,
        {},
        {"method": "emit"},
        {"method": "__init__", "host_id": "h"},
        {"method": ["emit"], "host_id": "h"},
        {**VALID, "host_id": None},
        {**VALID, "host_id": 7},
        {**VALID, "event": None},
        {**VALID, "event": 7},
        *({**VALID, "event": each} for each in ("connect", "disconnect", "connect_error", "newListener")),
        {**VALID, "data": None},
        {**VALID, "data": "text"},
        {**VALID, "data": {"a": 1}},
        {**VALID, "namespace": 7},
        {**VALID, "room": 7},
        {**VALID, "room": []},
        {**VALID, "room": [None]},
        {**VALID, "room": {"a": 1}},
        {**VALID, "skip_sid": 7},
        {**VALID, "skip_sid": [7]},
        {**VALID, "binary": 1},
        {**VALID, "binary": True, "data": []},
        {**VALID, "binary": True, "data": [1, "AA=="]},
        {**VALID, "binary": True, "data": [[{"_placeholder": True, "num": 1}], "AA=="]},
        {**VALID, "binary": True, "data": [[{"_placeholder": True, "num": -1}], "AA=="]},
        {**VALID, "binary": True, "data": [[{"_placeholder": True, "num": True}], "AA=="]},
        {**VALID, "binary": True, "data": [[{"_placeholder": True, "num": 0}], "no base64"]},
        {**VALID, "binary": True, "data": [[{"_placeholder": True, "num": 0}], 7]},
        {
            **VALID,
            "binary": True,
            "data": [[{"_placeholder": True, "num": number} for number in range(11)], *11 * [""]],
        },
        {**VALID, "callback": 7},
        {**VALID, "callback": ["a", "/"]},
        {**VALID, "callback": ["a", "/", "b"]},
        {**VALID, "callback": [None, "/", 1]},
        {**VALID, "callback": ["a", "/", 2**70]},
        {**VALID, "compress": "no"},
        {"method": "disconnect", "host_id": "h"},
        {"method": "enter_room", "host_id": "h", "sid": "a"},
        {"method": "close_room", "host_id": "h", "room": 7},
    ],
    OWN: [
        b"\x00",
        {"v": 2, "type": "hello", "host": "h"},
        {"type": "hello", "host": "h"},
        {"v": 1, "type": "nonsense", **ABOUT},
        {"v": 1, "type": "hello"},
        {**ABOUT, "type": "event", "event": "connect", "data": []},
        {**ABOUT, "type": "event", "event": "x", "data": 7},
        {**ABOUT, "type": "event", "event": "x", "data": [], "rooms": None},
        {**ABOUT, "type": "event", "event": "x", "data": [], "except": [7]},
        {**ABOUT, "type": "event", "event": "x", "data": [], "volatile": 7},
        {**ABOUT, "type": "event", "event": "x", "data": [], "id": "7"},
        {**ABOUT, "type": "event", "event": "x", "data": [], "id": -1},
        {**ABOUT, "type": "event", "event": "x", "data": [], "id": 1, "timeout": "long"},
        {**ABOUT, "type": "event", "event": "x", "data": [], "id": 1, "timeout": 0},
        {**ABOUT, "type": "sockets"},
        {**ABOUT, "type": "join"},
        {**ABOUT, "type": "join", "names": "red"},
        {**ABOUT, "type": "disconnect", "close": 1},
        {**ABOUT, "type": "server event", "event": 7, "data": []},
        {**ABOUT, "type": "answer", "to": "x", "id": 1, "items": [7], "isLast": True},
        {**ABOUT, "type": "answer", "to": None, "id": 1, "items": [], "isLast": True},
    ],
}


def test_invalidMessages(cluster: Cluster, warnings: list[str]) -> None:
    """What is no message, or none that may come, is ignored and counted, and the next one is received."""
    one = cluster.start()
    client = one.connect("red")
    count = 0
    for channel, messages in INVALID.items():
        for each in messages:
            cluster.say(each, channel)
            count += 1
            assert one.adapter.stats().invalid == count, each
    assert events(client) == []
    assert client.connected
    assert one.adapter.stats().processes == 0
    cluster.say({**VALID, "event": "still here"})
    assert events(client) == [("still here", 1)]
    assert any("ignored" in each for each in warnings)


def test_ownMessages(cluster: Cluster) -> None:
    """What comes back of this process is not done twice, however it is written."""
    one = cluster.start()
    client = one.connect("red")
    host = one.adapter._host
    cluster.say({**VALID, "host_id": host})
    cluster.say({**ABOUT, "type": "event", "event": "x", "data": [], "host": host}, OWN)
    cluster.say({"v": 1, "type": "alive", "host": host}, OWN)
    assert events(client) == []
    assert (one.adapter.stats().processes, one.adapter.stats().invalid) == (0, 0)


def test_forgedAnswers(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """Answers nobody asked for, of processes that weren't asked, and with wrong items change nothing."""
    one, other = two
    other.connect()
    (host,) = one.adapter._processes
    mine = one.adapter._host
    before = one.adapter.stats().invalid
    answer = {"v": 1, "type": "answer", "to": mine, "id": 1, "items": [{"data": [1]}], "isLast": True}
    cluster.say({**answer, "host": host}, OWN)
    answers = one.io.timeout(1000).emitWithAck("ask")
    cluster.settle()
    cluster.say({**answer, "host": "forged"}, OWN)
    cluster.say({**answer, "host": host, "to": "another"}, OWN)
    cluster.say({**answer, "host": host, "isLast": False, "items": [{}, {"data": 7}, {"missing": 7}]}, OWN)
    assert not answers.called
    assert one.adapter.stats().invalid == before + 3
    sockets = one.io.fetchSockets()
    wrong = [
        {"data": []},
        {"id": 7, "rooms": [], "data": [{}, {}]},
        {"id": "a", "rooms": [7], "data": [{}, {}]},
        {"id": "a", "rooms": [], "data": [{}]},
        {"id": "a", "rooms": [], "data": [{}, 7]},
    ]
    cluster.say({**answer, "id": 2, "host": host, "items": wrong}, OWN)
    assert resultOf(sockets) == []
    assert one.adapter.stats().invalid == before + 8
    cluster.pass_(7)
    with pytest.raises(AckTimeout):
        resultOf(answers)


def test_boundedProcesses(cluster: Cluster) -> None:
    """Anyone who can publish can pretend to be a process, but not to be any number of them."""
    one = cluster.start()
    for number in range(1100):
        cluster.redis.publish(OWN.encode(), b'{"v":1,"type":"alive","host":"%d"}' % number)
    cluster.settle()
    assert one.adapter.stats().processes == 1000
    assert one.adapter.stats().invalid == 100
    cluster.pass_(11)
    assert one.adapter.stats().processes == 0


@pytest.mark.no_cover
def test_boundedQuestions(cluster: Cluster) -> None:
    """No more than a thousand questions wait for clients at a time."""
    one = cluster.start()
    one.connect()
    question = {**ABOUT, "type": "event", "event": "ask", "data": [], "timeout": 1000}
    for number in range(1010):
        cluster.say({**question, "id": number}, OWN)
    assert one.adapter.stats().invalid == 10
    assert one.io.stats().acks == 1000
    cluster.pass_(1.1)
    assert one.io.stats().acks == 0
    cluster.say({**question, "id": 1, "namespace": "/nowhere"}, OWN)
    assert cluster.published(OWN)[-1]["items"] == []


def test_idsAreNoRooms(cluster: Cluster) -> None:
    """Nobody is put into the room of another socket from afar either."""
    one = cluster.start()
    a, b = one.connect(), one.connect("red")
    id = one.socketOf(a).id  # noqa: A001
    cluster.say({"method": "enter_room", "host_id": "h", "sid": one.socketOf(b).id, "room": id})
    cluster.say({**ABOUT, "type": "join", "rooms": ["red"], "names": [id]}, OWN)
    assert one.adapter.stats().invalid == 2
    one.io.to(id).emit("secret")
    cluster.settle()
    assert events(b) == []


@pytest.mark.parametrize("way", ["to", "except_"])
def test_secretIdsOfSocketsThatHaveEnded(cluster: Cluster, two: tuple[Process, Process], way: str) -> None:
    """The id of a client of protocol 4 is not published after its socket has ended: its session may go on."""
    one, _ = two
    admin = one.io.of("/admin")
    admin.on("disconnect", lambda socket, reason, description: getattr(admin, way)(socket.id).emit("left"))
    client = one.connect(namespace="/admin", protocol=4)
    sid = client.engine.sid
    client.sendRaw("1/admin,")
    cluster.settle()
    assert sid in one.io.engine.clients
    assert [each for each in cluster.redis.log if str(sid).encode() in each[1]] == []


def test_requestsThatCancelEachOther(cluster: Cluster, two: tuple[Process, Process]) -> None:
    """One whose failure cancels another keeps a process that goes from nothing else."""
    one, other = two
    other.io.onServerSide("ask", lambda: Deferred())
    asked = [one.io.serverSideEmitWithAck("ask") for _ in range(3)]
    failed: list[Any] = []
    asked[0].addErrback(lambda failure: asked[1].cancel())
    for each in asked:
        each.addErrback(lambda failure: failed.append(failure.type))
    cluster.settle()
    other.io.close()
    cluster.settle()
    assert failed == [CancelledError, RemoteTimeout]
    assert (one.adapter.stats().requests, one.adapter.stats().processes) == (0, 0)


def test_wrongServerSideEvents(two: tuple[Process, Process]) -> None:
    """A name that is no text, or a time that is none, is refused where it is sent."""
    io = two[0].io
    for emit in (io.serverSideEmit, io.serverSideEmitWithAck):
        with pytest.raises(TypeError, match="the name of an event"):
            emit(5)  # type: ignore[arg-type]
    for timeout, kind in ((-5, ValueError), ("5", TypeError)):
        with pytest.raises(kind, match="expected milliseconds"):
            io.serverSideEmitWithAck("x", timeout=timeout)  # type: ignore[arg-type]
    assert two[0].adapter.stats().requests == 0


# Options


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        (["http://localhost"], {}, "expected redis://"),
        (["redis://:s3cret@host:port"], {}, "expected redis://"),
        (["redis://localhost", ""], {}, "the name of a channel"),
        (["redis://localhost"], {"requestTimeout": 0}, "a whole number"),
        (["redis://localhost"], {"maxMessageBytes": "1"}, "a whole number"),
        (["redis://localhost"], {"maxQueuedByte": 1}, "maxQueuedBytes"),
    ],
)
def test_wrongOptions(arguments: list[Any], options: dict[str, Any], problem: str) -> None:
    """Wrong options are refused, without a password."""
    with pytest.raises(OptionError, match=problem) as caught:
        RedisAdapter(*arguments, **options)
    assert "s3cret" not in str(caught.value)


def test_oneSocketIO(cluster: Cluster) -> None:
    """An adapter is for one SocketIO alone."""
    one = cluster.start()
    other = cluster.start()
    with pytest.raises(OptionError, match="one for each"):
        one.adapter(other.io)
    assert "redis.example" in repr(one.adapter)
    assert isinstance(one.io, SocketIO)


def test_sharedConnection(cluster: Cluster) -> None:
    """A connection that is given serves others too, and stays open."""
    from engineio_twisted import Server
    from engineio_twisted.redis import RedisConnection

    connection = RedisConnection("redis://redis.example", endpoint=cluster.redis)
    received: list[bytes] = []
    connection.subscribe("mine", received.append)
    connection.start(cluster.clock)
    cluster.clock.advance(0)
    adapter = RedisAdapter(connection)
    io = SocketIO(Server(reactor=cluster.clock), adapter=adapter)
    cluster.clock.advance(0)
    other = cluster.start()
    assert other.adapter.stats().processes == 1
    closed = io.close()
    cluster.clock.advance(0)
    assert closed.called
    assert other.adapter.stats().processes == 0
    connection.publish("mine", b"still")
    cluster.clock.advance(0)
    assert received == [b"still"]
    with pytest.raises(OptionError, match="its own options"):
        RedisAdapter(connection, maxQueuedBytes=1)
    ended = connection.close()
    cluster.clock.advance(0)
    assert ended.called
