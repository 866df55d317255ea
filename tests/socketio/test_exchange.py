"""Workers as one Socket.IO server, with nothing to configure: on a clock, with an exchange in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent

from engineio_twisted import OptionError, Server
from engineio_twisted.socketio import AckTimeout, AdapterError, MemoryAdapter, RemoteTimeout, SocketIO, UnsendableValue
from engineio_twisted.socketio.exchange import CHANNEL, ExchangeAdapter

from ..kit.exchange import Worker, Workers, events, workersInMemory
from .test_redis import ABOUT, INVALID, OWN, resultOf


@pytest.fixture
def workers() -> Iterator[Workers]:
    with workersInMemory() as make:
        yield make()


@pytest.fixture
def three(workers: Workers) -> list[Worker]:
    return [workers.start() for _ in range(3)]


def say(worker: Worker, message: Any, origin: int = 2) -> None:
    """Let something come from another worker, as an object or as bytes."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    worker.exchange.channels[CHANNEL](origin, payload)


def test_nothingToConfigure(workers: Workers) -> None:
    """One of several workers has the adapter by itself; a server that is alone, or was given another, has not."""
    assert isinstance(workers.start().adapter, ExchangeAdapter)
    assert type(workers.start(adapter=MemoryAdapter).io.adapter) is MemoryAdapter
    assert type(SocketIO(Server(reactor=workers.clock)).adapter) is MemoryAdapter


def test_broadcasts(workers: Workers, three: list[Worker]) -> None:
    """Rooms, namespaces, exclusions and arguments are the same in all workers, and each client gets it once."""
    one, other, third = three
    a, b, c = one.connect("red"), other.connect("red", "blue"), third.connect("blue")
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
    io.to(third.socketOf(c).id).emit("you")
    workers.settle()
    everybody = ("all", 1, None, {"k": ["ü", True]})
    red = ("red", b"\x00\xff", {"more": [b"2"]})
    last = [("volatile", 1), ("as it is",)]
    assert events(a) == [everybody, red, ("both",), ("here",), *last]
    assert events(b) == [everybody, red, ("both",), ("others",), ("all others",), *last]
    assert events(c) == [everybody, ("both",), ("blue only",), ("all others",), *last, ("you",)]
    assert events(admin) == [("for admins",)]
    assert [each.adapter.stats().invalid for each in three] == [0, 0, 0]


def test_order(workers: Workers, three: list[Worker]) -> None:
    """What one worker sends, events and requests alike, arrives in its order."""
    client = three[1].connect("red")
    for number in range(20):
        (three[0].io if number % 3 else three[0].io.except_("blue")).emit("n", number)
    workers.settle()
    assert events(client) == [("n", number) for number in range(20)]


def test_onlyHere(workers: Workers, three: list[Worker]) -> None:
    """For a socket of the own worker nothing is sent to others."""
    client = three[0].connect()
    workers.settle()
    before = len(workers.frames)
    three[0].io.to(three[0].socketOf(client).id).emit("here")
    workers.settle()
    assert (len(workers.frames), events(client)) == (before, [("here",)])


def test_answersOfAll(workers: Workers, three: list[Worker]) -> None:
    """A broadcast with acknowledgements has those of the clients of all workers."""
    one, other, third = three
    for worker, answer in ((one, 1), (other, (b"2", None)), (other, None), (third, {"k": [3]})):
        worker.connect("red").on("ask", answer)
    third.connect().on("ask", "not asked")
    answers = one.io.to("red").emitWithAck("ask", b"what?")
    nobody = one.io.to("nobody").emitWithAck("ask")
    others = one.io.except_("red").emitWithAck("ask")
    local = one.io.local.emitWithAck("ask")
    workers.settle()
    assert sorted(resultOf(answers), key=str) == sorted([1, (b"2", None), None, {"k": [3]}], key=str)
    assert (resultOf(nobody), resultOf(others), resultOf(local)) == ([], ["not asked"], [1])
    assert [each.adapter.stats().requests for each in three] == [0, 0, 0]


def test_clientsThatDontAnswer(workers: Workers, three: list[Worker]) -> None:
    """Clients of other workers that don't answer in time, or leave, are missing by their ids."""
    one, other, _ = three
    one.connect().on("ask", 1)
    other.connect().on("ask", 2)
    silent, leaving = other.connect(), other.connect()
    ids = {other.socketOf(each).id for each in (silent, leaving)}
    answers = one.io.timeout(3000).emitWithAck("ask")
    workers.settle()
    leaving.disconnect()
    workers.pass_(2.8)
    assert not answers.called
    workers.pass_(0.4)
    with pytest.raises(AckTimeout) as caught:
        resultOf(answers)
    assert sorted(caught.value.answers) == [1, 2]
    assert {*caught.value.missing} == ids


def test_workersThatDontAnswer(workers: Workers, three: list[Worker]) -> None:
    """A worker that hangs is waited for as long as requestTimeout; then what came is there."""
    one, other, third = three
    one.connect().on("ask", 1)
    other.connect().on("ask", 2)
    other.io.onServerSide("ask", lambda: "here")
    workers.held = {(3, 1)}
    third.connect()
    answers, sockets = one.io.timeout(1000).emitWithAck("ask"), one.io.fetchSockets()
    server = one.io.serverSideEmitWithAck("ask", timeout=500)
    workers.pass_(0.6)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(server)
    assert (caught.value.answers, caught.value.missing) == (["here"], 1)
    workers.pass_(4.2)
    assert not sockets.called
    workers.pass_(0.3)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(sockets)
    assert (len(caught.value.answers), caught.value.missing) == (2, 1)
    workers.pass_(1)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(answers)
    assert sorted(caught.value.answers) == [1, 2]
    assert one.adapter.stats().remoteTimeouts == 3


def test_workersThatDie(workers: Workers, three: list[Worker]) -> None:
    """If a worker dies, whoever waits for it hears so at once, without any time passing."""
    one, other, third = three
    one.connect().on("ask", 1)
    other.connect()
    third.connect().on("ask", 3)
    answers = one.io.timeout(None).emitWithAck("ask")
    asked = [one.io.serverSideEmitWithAck("ask") for _ in range(3)]
    other.io.onServerSide("ask", lambda: Deferred())
    third.io.onServerSide("ask", lambda: 3)
    failed: list[Any] = []
    asked[0].addErrback(lambda failure: asked[1].cancel())
    for each in asked:
        each.addErrback(lambda failure: failed.append(failure.type))
    workers.settle()
    assert not answers.called
    workers.kill(other)
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(answers)
    assert sorted(caught.value.answers) == [1, 3]
    assert failed == [CancelledError, RemoteTimeout]
    assert (one.adapter.stats().processes, one.adapter.stats().requests) == (1, 0)
    # The others go on, and so does one that takes its place.
    new = workers.start()
    client = new.connect()
    one.io.emit("hello")
    workers.settle()
    assert events(client) == [("hello",)]


def test_fetchSockets(workers: Workers, three: list[Worker]) -> None:
    """The sockets of all workers, with rooms, data and handshake; they can be used from afar."""
    one, other, third = three
    a, b, c = one.connect("red"), other.connect("red", "blue"), third.connect("green")
    other.socketOf(b).data = {"name": "Zoë", "key": b"\x01"}
    third.socketOf(c).data["object"] = object()
    found, local = one.io.fetchSockets(), one.io.local.fetchSockets()
    some = one.io.in_("red").except_(one.socketOf(a).id).fetchSockets()
    workers.settle()
    sockets = {each.id: each for each in resultOf(found)}
    assert sockets.keys() == {one.socketOf(a).id, other.socketOf(b).id, third.socketOf(c).id}
    remote = sockets[other.socketOf(b).id]
    assert (remote.rooms, remote.data) == ({"red", "blue", remote.id}, {"name": "Zoë", "key": b"\x01"})
    assert remote.handshake == other.socketOf(b).asRemote().handshake
    assert sockets[third.socketOf(c).id].data == {}
    assert [each.id for each in resultOf(some)] == [remote.id]
    assert [each.id for each in resultOf(local)] == [one.socketOf(a).id]
    b.on("mood?", lambda *words: (*words, "fine"))
    answer = remote.emitWithAck("mood?", "today")
    remote.emit("hello")
    remote.join("yellow")
    remote.leave("blue")
    workers.settle()
    assert resultOf(answer) == ("today", "fine")
    assert events(b) == [("mood?", "today"), ("hello",)]
    assert other.socketOf(b).rooms == {"red", "yellow", remote.id}
    remote.disconnect()
    workers.settle()
    assert not b.connected


def test_roomsAndDisconnecting(workers: Workers, three: list[Worker]) -> None:
    """Sockets of all workers join and leave rooms and are disconnected, by rooms, ids and exclusions."""
    one, other, third = three
    clients = one.connect("red"), other.connect("red"), third.connect("blue")
    c = clients[2]

    def rooms() -> list[set[str]]:
        pairs = zip(three, clients, strict=True)
        return [{*each.socketOf(client).rooms} - {client.socket.id} for each, client in pairs]

    one.io.in_("red").socketsJoin("green", "yellow")
    one.io.in_(third.socketOf(c).id).socketsJoin("white")
    one.io.except_("blue").socketsJoin("not blue")
    workers.settle()
    red = {"red", "green", "yellow", "not blue"}
    assert rooms() == [red, red, {"blue", "white"}]
    third.io.in_("green").socketsLeave("yellow", "red")
    third.io.in_("white").socketsLeave("white")
    workers.settle()
    assert rooms() == [{"green", "not blue"}, {"green", "not blue"}, {"blue"}]
    other.io.except_("blue").disconnectSockets()
    workers.settle()
    assert [each.connected for each in clients] == [False, False, True]
    one.io.in_("blue").disconnectSockets(close=True)
    workers.settle()
    assert not c.connected
    assert not third.memory.server.clients


def test_serverSideEvents(workers: Workers, three: list[Worker], loggedErrors: list[LogEvent]) -> None:
    """Events for the other workers reach their handlers, and never clients or the sender."""
    told: list[Any] = []
    for number, worker in enumerate(three):
        worker.io.onServerSide("news", lambda *args, number=number: told.append((number, *args)))
        worker.io.onServerSide("ask", lambda what, number=number: (number, what) if number else None)
    client = three[1].connect()
    three[0].io.serverSideEmit("news", 1, b"\x00")
    three[0].io.of("/nowhere").serverSideEmit("news")
    answers = three[0].io.serverSideEmitWithAck("ask", "how")
    three[1].io.onServerSide("fails", lambda: 1 / 0)
    failing = three[0].io.serverSideEmitWithAck("fails")
    workers.settle()
    assert sorted(told) == [(1, 1, b"\x00"), (2, 1, b"\x00")]
    assert sorted(resultOf(answers)) == [(1, "how"), (2, "how")]
    with pytest.raises(RemoteTimeout) as caught:
        resultOf(failing)
    assert caught.value.missing == 2
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    for each in three:
        each.memory.errors.clear()
    assert events(client) == []


def test_olderClients(workers: Workers, three: list[Worker]) -> None:
    """Of a client of protocol 4, whose id is a secret, no other worker and no message has the id."""
    one, other, _ = three
    old = other.connect("red", protocol=4)
    secret = other.socketOf(old).conn.id
    other.socketOf(old).broadcast.emit("hello")
    found = one.io.fetchSockets()
    workers.settle()
    (remote,) = resultOf(found)
    remote.emit("to you")
    one.io.except_(remote.id).emit("not you")
    workers.settle()
    assert events(old) == [("to you",)]
    assert not [each for each in workers.frames if secret.encode() in each]


def test_cancelling(workers: Workers, three: list[Worker]) -> None:
    """Whoever cancels forgets the answers, and nothing is left."""
    io = three[0].io
    three[1].connect()
    for waiting in (io.emitWithAck("ask"), io.fetchSockets(), io.serverSideEmitWithAck("ask")):
        failures: list[Any] = []
        waiting.addErrback(failures.append)
        waiting.cancel()
        assert len(failures) == 1
    workers.settle()
    assert (three[0].adapter.stats().requests, io.stats().acks) == (0, 0)
    workers.pass_(61)
    assert three[1].io.stats().acks == 0


def test_theEnd(workers: Workers, three: list[Worker]) -> None:
    """A worker that ends completes what it waits for, and hears nothing more."""
    waiting = three[0].io.timeout(None).emitWithAck("ask")
    three[1].connect()
    workers.settle()
    waiting.addErrback(lambda failure: failure.trap(RemoteTimeout))
    three[0].io.close()
    workers.settle()
    assert waiting.called
    assert three[0].adapter.stats().requests == 0
    assert (three[0].exchange.channels.get(CHANNEL), three[0].exchange.watching[1:]) == (None, [])
    three[1].io.emit("x")
    workers.settle()
    assert three[1].adapter.stats().processes == 1


# Bounds, and what may not be


def test_tooLargeMessages(workers: Workers) -> None:
    """A message that is too large is refused where it is sent, before any client gets it."""
    one = workers.start(adapter=ExchangeAdapter(maxMessageBytes=1000))
    workers.start()
    client = one.connect("red")
    large = 1000 * "x"
    for refused in (
        lambda: one.io.emit("large", large),
        lambda: one.io.except_("blue").emit("large", large),
        lambda: one.io.emitWithAck("large", large),
        lambda: one.io.serverSideEmit("large", large),
        lambda: one.io.in_(large).fetchSockets(),
        lambda: one.io.in_("red").socketsJoin(large),
        lambda: one.io.in_(large).disconnectSockets(),
    ):
        with pytest.raises(AdapterError, match="maxMessageBytes"):
            refused()
    one.io.local.emit("large", large)
    assert events(client) == [("large", large)]
    assert (one.adapter.stats().tooLarge, one.adapter.stats().requests) == (7, 0)
    for io in (one.io, workers.start().io):
        with pytest.raises(UnsendableValue):
            io.emit("x", object())


def test_invalidMessages(workers: Workers, three: list[Worker], warnings: list[str]) -> None:
    """What is no message, or none that may come, is ignored and counted, and the next one is received."""
    one = three[0]
    client = one.connect("red")
    for count, each in enumerate(INVALID[OWN], 1):
        say(one, {**each, "host": "2"} if isinstance(each, dict) and "host" in each else each)
        assert one.adapter.stats().invalid == count, each
    # In the name of another.
    event = {**ABOUT, "type": "event", "event": "x", "data": []}
    for host in ("3", "1", "h", None):
        say(one, {**event, "host": host})
    assert one.adapter.stats().invalid == len(INVALID[OWN]) + 4
    say(one, {**event, "host": "2", "namespace": "/nowhere"})
    say(one, {**event, "host": "2", "event": "still here"})
    assert events(client) == [("still here",)]
    assert one.adapter.stats().invalid == len(INVALID[OWN]) + 4
    assert any("ignored" in each for each in warnings)


def test_boundedQuestions(workers: Workers, three: list[Worker]) -> None:
    """No more than a thousand questions wait for clients at a time."""
    one = three[0]
    one.connect()
    question = {**ABOUT, "host": "2", "type": "event", "event": "ask", "data": [], "timeout": 1000}
    for number in range(1010):
        say(one, {**question, "id": number})
    assert (one.adapter.stats().invalid, one.io.stats().acks) == (10, 1000)
    workers.pass_(1.1)
    assert one.io.stats().acks == 0


def test_metrics(workers: Workers, three: list[Worker]) -> None:
    """The numbers of the adapter are beside those of its server."""
    three[0].io.emit("x")
    workers.settle()
    say(three[1], b"nonsense")
    found = {each.name: each.value for each in three[1].io.engine.measures()}
    names = ("processes", "received", "invalid", "sent")
    assert [found[f"socketio_exchange_{each}"] for each in names] == [2, 2, 1, 0]


@pytest.mark.parametrize("options", [{"requestTimeout": 0}, {"maxMessageBytes": "1"}])
def test_wrongOptions(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="a whole number"):
        ExchangeAdapter(**options)


def test_oneSocketIO(workers: Workers) -> None:
    """An adapter is for one SocketIO alone."""
    one, other = workers.start(), workers.start()
    with pytest.raises(OptionError, match="one for each"):
        one.adapter(other.io)
    assert "1 other" in repr(one.adapter)
