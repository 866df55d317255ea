"""What workers say to each other: in order, once, whatever one of them does."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from engineio_twisted import IServerExchange
from engineio_twisted.exchange import LocalExchange
from engineio_twisted.testing import MemoryCluster, MemoryServer
from engineio_twisted.workers.exchange import MAX_QUEUED, FrameReader, LinkExchange, encodeFrame
from engineio_twisted.workers.handover import connectLink
from engineio_twisted.workers.owners import ownerOf, prefixOf

Engine = Callable[..., MemoryServer]


class End:
    """One end of a link in memory: what is written arrives when L{Machine.settle} is called."""

    ROOM = 65536

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.other: Any = None
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.isStalled = self.isOver = self.isFinishing = False
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.isOver or self.isFinishing:
            return
        self.waiting.append(data)
        self.size += len(data)
        if self.producer is not None and self.size > self.ROOM:
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        assert self.producer is None, "a connection with a producer is never lost"
        self.isFinishing = True

    def abortConnection(self) -> None:
        for each in (self, self.other):
            if not each.isOver:
                each.isOver = True
                each.waiting.clear()
                each.protocol.connectionLost(Failure(ConnectionAbortedError()))

    def turn(self, size: int) -> bool:
        """Let the other end read what was written, in pieces."""
        if self.isOver or self.other.isStalled:
            return False
        if not self.waiting:
            if self.isFinishing:
                self.abortConnection()
            return False
        data, self.size = b"".join(self.waiting), 0
        self.waiting.clear()
        for start in range(0, len(data), size):
            if not self.other.isOver:
                self.other.protocol.dataReceived(data[start : start + size])
        if self.producer is not None:
            self.producer.resumeProducing()
        return True


class Neighbour:
    """A worker as another one reaches it."""

    def __init__(self, machine: Machine, owner: int, number: int) -> None:
        self.machine, self.owner, self.number = machine, owner, number
        self.slot = number

    def openLink(self, kind: str, protocol: Any) -> None:
        assert kind == "exchange"
        self.machine.opened += 1
        if self.machine.isFull:
            raise OSError(24, "Too many open files")
        self.machine.coming.append((self, protocol))


class Machine:
    """Workers and what connects them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.workers: dict[int, LinkExchange] = {}
        self.ends: list[End] = []
        self.coming: list[tuple[Neighbour, Any]] = []
        self.got: dict[int, list[tuple[int, bytes]]] = {}
        self.pieces = 1 << 20
        self.opened = 0
        self.isFull = False

    def start(self, number: int, exchange: LinkExchange | None = None) -> LinkExchange:
        """Start a worker, beside those that live."""
        exchange = exchange or LinkExchange(number, self.clock)
        got = self.got[number] = []
        exchange.subscribe("test", lambda origin, frame: got.append((origin, frame)))
        exchange.start()
        for other, each in self.workers.items():
            each.addNeighbour(Neighbour(self, other, number))  # type: ignore[arg-type]
            exchange.addNeighbour(Neighbour(self, number, other))  # type: ignore[arg-type]
        self.workers[number] = exchange
        return exchange

    def settle(self) -> None:
        """Let everything arrive."""
        isBusy = True
        while isBusy:
            coming, self.coming = self.coming, []
            for neighbour, protocol in coming:
                there = self.workers[neighbour.number].linkFor(neighbour.owner)
                ours, theirs = End(protocol), End(there)
                ours.other, theirs.other = theirs, ours
                self.ends += [ours, theirs]
                for end in (ours, theirs):
                    end.protocol.makeConnection(end)
            isBusy = sum(each.turn(self.pieces) for each in self.ends) > 0 or bool(self.coming)

    def endsOf(self, number: int) -> Iterator[End]:
        """The ends of links that a worker has open."""
        return (each for each in self.ends if not each.isOver and each.protocol._exchange is self.workers[number])

    def kill(self, number: int) -> None:
        """End a worker as a signal does."""
        for end in list(self.endsOf(number)):
            end.abortConnection()
        del self.workers[number]
        for each in self.workers.values():
            each.neighbourLost(number)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Three workers; nothing is left of them afterwards."""
    made = Machine()
    for number in (1, 2, 5):
        made.start(number)
    made.settle()
    yield made
    for each in made.workers.values():
        each.stop()
    made.clock.advance(1)
    assert made.clock.getDelayedCalls() == []
    assert all(each.isOver for each in made.ends)


def test_interface(machine: Machine) -> None:
    """Both are what layers are promised."""
    assert verifyObject(IServerExchange, machine.workers[1])
    assert verifyObject(IServerExchange, LocalExchange())


def test_theOnlyProcess() -> None:
    """It has an exchange too, that goes nowhere."""
    exchange = LocalExchange()
    exchange.start()
    end = exchange.subscribe("a", print)
    with pytest.raises(ValueError, match="has a subscriber"):
        exchange.subscribe("a", print)
    end()
    exchange.subscribe("a", print)
    exchange.send(None, "a", b"x")
    exchange.whenPeersChange(print)()
    assert (exchange.isConnected, exchange.number, [*exchange.peers], exchange.dropped) == (True, 0, [], 0)
    exchange.stop()


def test_toOthers(machine: Machine) -> None:
    """To all others or to some, each once, and never within the call."""
    one = machine.workers[1]
    assert [*one.peers] == [2, 5]
    one.send(None, "test", b"all")
    one.send((5, 5, 1, 99), "test", b"one")
    assert machine.got == {1: [], 2: [], 5: []}
    machine.settle()
    assert machine.got == {1: [], 2: [(1, b"all")], 5: [(1, b"all"), (1, b"one")]}
    # One link for each two.
    assert machine.opened == 3


@pytest.mark.parametrize("pieces", [1, 7, 65536])
def test_pieces(machine: Machine, pieces: int) -> None:
    """However it arrives, frames are what they were, empty ones too."""
    machine.pieces = pieces
    frames = [b"", b"a", bytes(range(256)) * 3, b""]
    for each in frames:
        machine.workers[2].send(None, "test", each)
    machine.settle()
    assert machine.got[1] == machine.got[5] == [(2, each) for each in frames]


def test_order(machine: Machine) -> None:
    """10 000 of each worker, in its order, with pauses between."""
    machine.pieces = 1000
    for count in range(10_000):
        for number, each in machine.workers.items():
            each.send(None, "test", b"%d %d" % (number, count))
    machine.settle()
    for number in machine.workers:
        for origin in {1, 2, 5} - {number}:
            got = [frame for each, frame in machine.got[number] if each == origin]
            assert got == [b"%d %d" % (origin, count) for count in range(10_000)]
    assert not any(each.dropped for each in machine.workers.values())


def test_large(machine: Machine) -> None:
    """As large as may wait, and no larger, which sends nothing at all."""
    one = machine.workers[1]
    room = MAX_QUEUED - len(encodeFrame("test", b""))
    with pytest.raises(ValueError, match=f"{MAX_QUEUED + 1} bytes for another worker: expected {MAX_QUEUED} at most"):
        one.send(None, "test", bytes(room + 1))
    one.send(None, "test", bytes(room))
    one.send(None, "test", b"next")
    machine.settle()
    assert [len(frame) for _, frame in machine.got[5]] == [room, 4]


def test_oneThatDoesNotRead(machine: Machine, loggedErrors: list[LogEvent]) -> None:
    """16 MiB wait for it, and the rest is dropped and counted; the others get theirs, and so does it again."""
    one = machine.workers[1]
    (stalled,) = [each for each in machine.endsOf(2) if each.protocol._peer.number == 1]
    stalled.isStalled = True
    for count in range(40):
        one.send(None, "test", b"%d" % count + bytes(2**20))
        machine.settle()
    assert len(machine.got[5]) == 40
    assert one.dropped == 40 - 1 - 15
    assert one._peers[2].queued <= MAX_QUEUED
    stalled.isStalled = False
    machine.settle()
    assert [frame.rstrip(b"\0") for _, frame in machine.got[2]] == [b"%d" % count for count in range(16)]
    one.send(None, "test", b"after")
    machine.settle()
    assert machine.got[2][-1] == (1, b"after")
    machine.clock.advance(1)


def test_killed(machine: Machine) -> None:
    """It is no peer any more at once, who watches hears of it, and nobody else loses anything."""
    changes: list[list[int]] = []
    one = machine.workers[1]
    end = one.whenPeersChange(lambda: changes.append([*one.peers]))
    one.send(None, "test", b"before")
    machine.kill(2)
    one.send(None, "test", b"behind")
    machine.settle()
    assert machine.got[2] == []
    assert [frame for _, frame in machine.got[5]] == [b"before", b"behind"]
    machine.start(6)
    one.send(None, "test", b"to its successor")
    machine.settle()
    assert machine.got[6] == [(1, b"to its successor")]
    end()
    machine.kill(5)
    assert changes == [[5], [5, 6]]


def test_whatADeadOneSaidLast(machine: Machine) -> None:
    """What was on its way is read before it leaves; a link that never ends is ended after a second."""
    one = machine.workers[1]
    machine.workers[2].send(None, "test", b"goodbye")
    one.neighbourLost(2)
    assert [*one.peers] == [2, 5]
    machine.settle()
    assert machine.got[1] == [(2, b"goodbye")]
    machine.clock.advance(1)
    assert [*one.peers] == [5]


def test_stop(machine: Machine) -> None:
    """What was sent goes out first, and there is nobody left; a receiver that doesn't read delays it for a second."""
    one, over = machine.workers[1], []
    (stalled,) = [each for each in machine.endsOf(2) if each.protocol._peer.number == 1]
    stalled.isStalled = True
    one.send(None, "test", b"goodbye")
    one.stop().addCallback(over.append)
    assert (one.isConnected, [*one.peers]) == (False, [])
    machine.settle()
    assert (machine.got[5], machine.got[2], over) == ([(1, b"goodbye")], [], [])
    machine.clock.advance(1)
    assert over == [None]


def test_aLinkThatFails(machine: Machine, loggedErrors: list[LogEvent]) -> None:
    """Garbage ends it; another follows after a second, with what was sent meanwhile."""
    (end,) = [each for each in machine.endsOf(2) if each.protocol._peer.number == 1]
    end.write(b"\xff" * 10)
    machine.settle()
    assert end.isOver
    for number in (1, 2):
        machine.workers[number].send((3 - number,), "test", b"waits")
    machine.settle()
    assert machine.got[1] == machine.got[2] == []
    machine.isFull = True
    machine.clock.advance(1)
    machine.isFull = False
    machine.clock.advance(1)
    machine.settle()
    assert (machine.got[1], machine.got[2]) == ([(2, b"waits")], [(1, b"waits")])
    assert [each["number"] for each in loggedErrors] == [2, 2]
    loggedErrors.clear()


def test_aSubscriberThatFails(machine: Machine, loggedErrors: list[LogEvent]) -> None:
    """It is logged, once a second, and what comes behind is delivered."""
    got: list[bytes] = []

    def deliver(origin: int, frame: bytes) -> None:
        got.append(frame)
        raise SystemExit

    machine.workers[2].subscribe("fails", deliver)
    for count in range(3):
        machine.workers[1].send((2,), "fails", b"%d" % count)
    machine.workers[1].send((2,), "test", b"behind")
    machine.settle()
    assert (got, machine.got[2]) == ([b"0", b"1", b"2"], [(1, b"behind")])
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    machine.clock.advance(1)


def test_withoutSubscriber(machine: Machine) -> None:
    """What comes before there is one is dropped."""
    machine.workers[1].send(None, "later", b"1")
    machine.settle()
    got: list[Any] = []
    end = machine.workers[2].subscribe("later", lambda *args: got.append(args))
    with pytest.raises(ValueError, match="has a subscriber"):
        machine.workers[2].subscribe("later", print)
    machine.workers[1].send(None, "later", b"2")
    machine.settle()
    end()
    machine.workers[1].send(None, "later", b"3")
    machine.settle()
    assert got == [(1, b"2")]


@pytest.mark.parametrize("name", ["", "a" * 256, "ä"])
def test_noChannel(machine: Machine, name: str) -> None:
    """A name that is none is refused when it is used."""
    for call in (lambda: machine.workers[1].send(None, name, b""), lambda: LocalExchange().subscribe(name, print)):
        with pytest.raises(ValueError, match="expected 1 to 255 characters of ASCII"):
            call()


def test_bytes() -> None:
    """The frame of a link is what it is documented to be."""
    assert encodeFrame("ab", b"cde") == b"\0\0\0\x06\x02abcde"
    assert [*FrameReader().frames(b"\0\0\0\x06\x02abcde\0\0\0\x02\x01x")] == [("ab", b"cde"), ("x", b"")]


@pytest.mark.parametrize("data", [b"\0\0\0\x06\0abcde", b"\0\0\0\x02\x02ab", b"\x01\0\0\0\x01a", b"\0\0\0\x02\x01\xff"])
def test_garbage(data: bytes) -> None:
    """Without a channel, with a name longer than the frame, too large, not ASCII."""
    with pytest.raises(ValueError):
        [*FrameReader().frames(data)]


@pytest_twisted.ensureDeferred
async def test_overSockets(machine: Machine) -> None:
    """Over real ones too: more than they take at once arrives, in order, before a link that is stopped ends."""
    from twisted.internet import reactor

    pair = {number: LinkExchange(number, reactor) for number in (3, 4)}
    got: list[bytes] = []
    pair[4].subscribe("test", lambda origin, frame: got.append(frame))
    for number, each in pair.items():
        neighbour: Any = Neighbour(machine, number, 7 - number)
        neighbour.openLink = lambda kind, protocol: None
        each.start()
        each.addNeighbour(neighbour)
    frames = [b"%d" % count for count in range(1000)] + [bytes(2**20), b"last"]
    ends = socket.socketpair()
    for end, exchange, number in zip(ends, pair.values(), (4, 3), strict=True):
        connectLink(reactor, end, exchange.linkFor(number))
    for frame in frames:
        pair[3].send(None, "test", frame)
    gone: Deferred[None] = Deferred()
    pair[4].whenPeersChange(lambda: gone.callback(None) if not pair[4].peers else None)
    await pair[3].stop()
    pair[4].neighbourLost(3)
    await gone
    assert got == frames
    await pair[4].stop()


# Servers of several workers


class Servers:
    """Servers in memory that an exchange joins, with two clients each."""

    def __init__(self, engineio: Engine) -> None:
        self.machine = Machine()
        self.kits: dict[int, MemoryServer] = {}
        self.clients: dict[int, list[Any]] = {}
        for number in (1, 2, 3):
            kit = self.kits[number] = engineio(lambda server: None, idPrefix=prefixOf(number, ""))
            exchange = LinkExchange(number, kit.server.clock)
            kit.server._joinExchange(exchange, lambda sid: ownerOf(sid, ""))
            self.machine.start(number, exchange)
            self.clients[number] = [kit.connect(transport="websocket") for _ in range(2)]
        self.seen = [0] * 6
        self.settle()

    def settle(self) -> None:
        self.machine.settle()
        for each in self.kits.values():
            each.settle()

    def got(self) -> list[list[Any]]:
        """What each client got since the last look."""
        self.settle()
        everything = [client.received for clients in self.clients.values() for client in clients]
        news = [messages[seen:] for messages, seen in zip(everything, self.seen, strict=True)]
        self.seen = [len(each) for each in everything]
        return news


@pytest.fixture
def servers(engineio: Engine) -> Iterator[Servers]:
    """Three servers. What joins them ends before them, as nothing lets their links end later."""
    made = Servers(engineio)
    yield made
    for each in made.machine.workers.values():
        each.stop()
    made.settle()


def test_broadcastToAll(servers: Servers) -> None:
    """To every session once, own ones at the call; some are excluded by id; local and C{to} stay here."""
    server, own = servers.kits[1].server, servers.clients[1]
    assert server.broadcast("a") == 2
    assert [each.received for each in servers.clients[1] + servers.clients[2]] == [["a"], ["a"], [], []]
    assert servers.got() == [["a"]] * 6
    assert server.broadcast(["€", b"\xff"], [own[0].socket, servers.clients[2][1].sid, "nobody"]) == 1
    both = ["€", b"\xff"]
    assert servers.got() == [[], both, both, [], both, both]
    assert server.broadcast("c", local=True) == 2
    assert server.broadcast("d", to=[own[0].socket]) == 1
    assert servers.got() == [["c", "d"], ["c"], [], [], [], []]


def test_orderOfCalls(servers: Servers) -> None:
    """What a handler sends while a message goes out arrives behind that, elsewhere too."""
    server = servers.kits[1].server
    server.once("flush", lambda *_: server.broadcast("answer"))
    server.broadcast("question")
    assert servers.got()[2:] == [["question", "answer"]] * 4


@pytest.mark.parametrize("data", [object(), "\ud800", ["a", None]])
def test_whatCannotBeSent(servers: Servers, data: Any) -> None:
    """It raises at the call, and nobody anywhere gets anything."""
    server, there = servers.kits[1].server, servers.clients[2][0].sid
    with pytest.raises((TypeError, ValueError)):
        server.broadcast(data)
    for sid in (there, "nobody", servers.clients[1][0].sid):
        with pytest.raises((TypeError, ValueError)):
            server.sendTo(sid, data)
    assert servers.got() == [[]] * 6


def test_tooLarge(servers: Servers) -> None:
    """What the way to others doesn't take goes to nobody."""
    with pytest.raises(ValueError, match="for another worker"):
        servers.kits[1].server.broadcast(bytes(MAX_QUEUED))
    assert servers.got() == [[]] * 6


def test_sendToAndClose(servers: Servers) -> None:
    """To one session, wherever it is; its result says whether it was open."""
    server, results = servers.kits[1].server, []
    for sid in (servers.clients[1][0].sid, servers.clients[3][1].sid, "3-unknown", "9-gone", "1-no", "no", "3-\ud800"):
        server.sendTo(sid, ["a", b"b"]).addCallback(results.append)
    assert results == [True, False, False, False]
    assert servers.got() == [["a", b"b"], [], [], [], [], ["a", b"b"]]
    assert results == [True, False, False, False, True, False, False]
    results.clear()
    closed = servers.clients[3][1]
    for discard in (False, True):
        server.closeSession(closed.sid, discard).addCallback(results.append)
    servers.settle()
    assert (results, closed.readyState) == ([True, False], "closed")


def test_ownerThatDies(servers: Servers) -> None:
    """Who waits for it is answered at once, and who waits for one that says nothing after ten seconds."""
    kit, results = servers.kits[1], []
    kit.server.sendTo(servers.clients[2][0].sid, "a").addCallback(lambda done: results.append((2, done)))
    kit.server.sendTo(servers.clients[3][0].sid, "a").addCallback(lambda done: results.append((3, done)))
    cancelled = kit.server.closeSession(servers.clients[3][0].sid)
    cancelled.addCallback(lambda done: results.append((0, done)))
    cancelled.cancel()
    servers.machine.kill(2)
    assert results == [(0, False), (2, False)]
    kit.advance(9.9)
    assert len(results) == 2
    kit.advance(0.2)
    assert results[2:] == [(3, False)]
    # Its answer, which comes too late, is no garbage.
    servers.settle()
    assert kit.server._others.ignored == 0  # type: ignore[union-attr]


def test_garbageOfOthers(servers: Servers) -> None:
    """It is counted and ignored, an answer to another's call too."""
    results: list[bool] = []
    server = servers.kits[1].server
    server.sendTo(servers.clients[3][0].sid, "a").addCallback(results.append)
    forged = b"\x04\x08" + (1).to_bytes(8) + bytes(4)
    for frame in (b"", b"\xff" * 20, forged):
        servers.machine.workers[2].send((1,), "engineio", frame)
    for end in servers.machine.endsOf(3):
        end.isStalled = True
    servers.machine.settle()
    assert (results, server._others.ignored) == ([], 3)  # type: ignore[union-attr]
    for end in servers.machine.endsOf(3):
        end.isStalled = False
    servers.settle()
    assert results == [True]
    servers.kits[1].advance(1)


def test_cluster() -> None:
    """Each worker reaches the sessions of all, and of a successor; a link that is lost is replaced."""
    results: list[bool] = []
    with MemoryCluster(lambda server: None, workers=3) as cluster:
        clients = [cluster.connect(transport="websocket") for _ in range(6)]
        for number, worker in cluster.workers.items():
            assert worker.server.broadcast(f"from {number}") == 2
            for client in clients:
                worker.server.sendTo(client.sid, f"to you from {number}").addCallback(results.append)
            cluster.settle()
        everything = [text for number in (1, 2, 3) for text in (f"from {number}", f"to you from {number}")]
        assert (results, [each.received for each in clients]) == ([True] * 18, [everything] * 6)
        dead = next(each for each in clients if each.sid.startswith("2-"))
        cluster.kill(2)
        server = cluster.workers[1].server
        assert [*server.exchange.peers] == [3, 4]
        server.sendTo(dead.sid, "lost").addCallback(results.append)
        assert results[-1] is False
        cluster.links.drop()
        server.broadcast("waits for a link")
        cluster.advance(2)
        here = [each for each in clients if not each.sid.startswith("2-")]
        assert [each.received[-1] for each in here] == ["waits for a link"] * 4
