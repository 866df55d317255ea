"""Messages with descriptors between two processes: over real sockets, by hand or on the reactor."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from engineio_twisted.workers.frames import Facts
from engineio_twisted.workers.handover import (
    MAX_DESCRIPTORS,
    MAX_PACKET,
    MAX_READ,
    Neighbour,
    PacketConnection,
)
from engineio_twisted.workers.page import RowState, SharedPage

FACTS = Facts(("TCP", "127.0.0.1", 4000), ("TCP", "127.0.0.1", 80), moves=1, acceptedAt=1.5, served=3)


@pytest.fixture(autouse=True)
def descriptorsAreClosed(runningReactor: Any) -> Iterator[None]:
    """Every descriptor that a test opens is closed again, wherever it has gone."""
    before = openDescriptors()
    yield
    assert openDescriptors() == before


def openDescriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class ByHand:
    """A reactor that does what a test says, when it says it."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers = [each for each in self.readers if each is not reader]

    def addWriter(self, writer: Any) -> None:
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers = [each for each in self.writers if each is not writer]

    def turn(self) -> None:
        """Read once from each connection, and write once to each that has something to write."""
        for each in list(self.readers):
            reason = each.doRead()
            if reason is not None:
                each.connectionLost(reason)
        for each in list(self.writers):
            each.doWrite()


class Receiver:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.descriptors: list[list[int]] = []
        self.events: list[Any] = []
        self.lost = 0
        self.then: Callable[[], object] = lambda: None

    def packetReceived(self, data: bytes, descriptors: Sequence[int]) -> None:
        self.data.append(data)
        self.descriptors.append(list(descriptors))
        self.then()

    def packetsLost(self) -> None:
        self.lost += 1
        self.events.append("lost")

    def close(self) -> None:
        for each in self.descriptors:
            for descriptor in each:
                os.close(descriptor)


class Pair:
    """Two ends, of which the second is driven by hand too."""

    def __init__(self) -> None:
        self.reactor = ByHand()
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.receivers = [Receiver(), Receiver()]
        self.first, self.second = (
            PacketConnection(self.reactor, end, receiver)
            for end, receiver in zip(self.ends, self.receivers, strict=True)
        )
        self.outcomes: list[tuple[int, bool]] = []

    def sent(self, number: int) -> Callable[[bool], object]:
        """Return what notes the outcome of a message."""
        return lambda isTaken: self.outcomes.append((number, isTaken))

    def fill(self) -> int:
        """Send messages until one is queued. Return how many were sent in all."""
        count = 0
        while not self.reactor.writers:
            self.first.send(b"%d" % count, (), self.sent(count))
            count += 1
        return count


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for each in pair.receivers:
        each.close()
    pair.first.close()
    pair.second.close()
    assert (pair.reactor.readers, pair.reactor.writers) == ([], [])


def test_messagesStayWhole(pair: Pair) -> None:
    """Messages arrive one by one, of any size, both ways, and in order."""
    sizes = [1, 2, 1000, 65536, MAX_PACKET]
    for size in sizes:
        pair.first.send(b"a" * size)
        pair.second.send(b"b" * size)
        pair.reactor.turn()
    assert [receiver.data for receiver in pair.receivers] == [[sign * size for size in sizes] for sign in (b"b", b"a")]


def test_descriptorsTravel(pair: Pair) -> None:
    """What comes is another descriptor of the same file, and no child process inherits it."""
    here, there = os.pipe()
    outcomes: list[bool] = []
    pair.first.send(b"pipe", [there], outcomes.append)
    assert outcomes == [True]
    os.close(there)
    pair.reactor.turn()
    [[came]] = pair.receivers[1].descriptors
    assert fcntl.fcntl(came, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.write(came, b"through")
    assert os.read(here, 10) == b"through"
    os.close(here)


@pytest.mark.parametrize(("size", "count"), [(0, 0), (MAX_PACKET + 1, 0), (1, MAX_DESCRIPTORS + 1)])
def test_noMessage(pair: Pair, size: int, count: int) -> None:
    """What can't be a message is refused at the call, and nothing is sent."""
    with pytest.raises(ValueError, match="no message"):
        pair.first.send(b"a" * size, [0] * count, pair.sent(1))
    pair.reactor.turn()
    assert (pair.outcomes, pair.receivers[1].data) == ([], [])


def test_queue(pair: Pair) -> None:
    """What the system has no room for waits in order, up to a bound, and is sent when there is room."""
    count = pair.fill()
    assert count > 20
    while not pair.first.isFull:
        pair.first.send(b"%d" % count, (), pair.sent(count))
        count += 1
    pair.first.send(b"one too many", (), pair.sent(-1))
    assert pair.outcomes.pop() == (-1, False)
    assert len(pair.outcomes) == count - 256
    while pair.reactor.writers:
        pair.reactor.turn()
    while len(pair.receivers[1].data) < count:
        pair.reactor.turn()
    assert pair.receivers[1].data == [b"%d" % number for number in range(count)]
    assert pair.outcomes == [(number, True) for number in range(count)]
    assert not pair.first.isFull


def test_oneTurnIsBounded(pair: Pair) -> None:
    """A turn receives some messages only, so that other connections get theirs."""
    for number in range(MAX_READ + 5):
        pair.first.send(b"%d" % number)
    pair.reactor.turn()
    assert len(pair.receivers[1].data) == MAX_READ
    pair.reactor.turn()
    assert len(pair.receivers[1].data) == MAX_READ + 5


def test_peerCloses(pair: Pair) -> None:
    """What the peer had sent is received before its end; that is told once."""
    pair.first.send(b"last words")
    pair.first.close()
    pair.reactor.turn()
    assert (pair.receivers[1].data, pair.receivers[1].lost) == ([b"last words"], 1)
    assert (pair.receivers[0].lost, pair.second.isConnected) == (0, False)
    pair.second.send(b"too late", (), pair.sent(1))
    assert pair.outcomes == [(1, False)]


def test_peerClosesUnread(pair: Pair) -> None:
    """A peer that closes without having read what was sent loses nothing of what it has sent itself."""
    pair.second.send(b"for nobody")
    pair.first.send(b"last words")
    pair.first.close()
    pair.reactor.turn()
    assert (pair.receivers[1].data, pair.receivers[1].lost) == ([b"last words"], 1)


def test_sendingFindsOut(pair: Pair) -> None:
    """If sending fails, what has come is received first; then the peer is gone, and then the message comes back."""
    receiver = pair.receivers[1]
    pair.first.send(b"last words")
    pair.first.close()
    pair.second.send(b"for nobody", (), lambda isTaken: receiver.events.append(isTaken))
    assert (receiver.events, pair.second.isConnected, pair.reactor.writers) == ([], False, [])
    pair.reactor.turn()
    assert (receiver.data, receiver.events) == ([b"last words"], ["lost", False])


def test_queueComesBack(pair: Pair) -> None:
    """When the peer ends, whatever is queued for it comes back, whoever fails meanwhile."""
    count = pair.fill()
    pair.first.send(b"another", (), pair.sent(count))
    done = len(pair.outcomes)
    pair.second.close()
    pair.reactor.turn()
    assert pair.outcomes[done:] == [(count - 1, False), (count, False)]
    assert (pair.receivers[0].lost, pair.receivers[1].lost) == (1, 0)


def test_closingReturnsTheQueue(pair: Pair) -> None:
    """Closing calls nothing but the outcomes of what is queued; the peer gets what was sent."""
    count = pair.fill()
    pair.first.close()
    pair.first.close()
    assert pair.outcomes[-1] == (count - 1, False)
    while not pair.receivers[1].lost:
        pair.reactor.turn()
    assert len(pair.receivers[1].data) == count - 1
    assert pair.receivers[0].lost == 0


def test_closingInsideAMessage(pair: Pair) -> None:
    """A receiver may close the connection: it gets nothing more."""
    pair.receivers[1].then = pair.second.close
    pair.first.send(b"1")
    pair.first.send(b"2")
    pair.reactor.turn()
    assert (pair.receivers[1].data, pair.receivers[1].lost) == ([b"1"], 0)


def test_receiverFails(pair: Pair, mayLog: None) -> None:
    """A receiver that raises gets the next message all the same."""

    def fail() -> None:
        raise RuntimeError("no")

    pair.receivers[1].then = fail
    pair.first.send(b"1")
    pair.first.send(b"2")
    pair.reactor.turn()
    assert pair.receivers[1].data == [b"1", b"2"]


def test_closedDescriptor(pair: Pair) -> None:
    """A message whose descriptor is closed comes back, and the connection goes on."""
    closed = os.dup(0)
    os.close(closed)
    pair.first.send(b"bad", [closed], pair.sent(1))
    pair.first.send(b"good", (), pair.sent(2))
    pair.reactor.turn()
    assert (pair.outcomes, pair.receivers[1].data) == ([(1, False), (2, True)], [b"good"])


def test_overTheSizeFromElsewhere(pair: Pair, warnings: list[str]) -> None:
    """A message over the size is left out, with its descriptors."""
    socket.send_fds(pair.ends[0], [b"a" * (MAX_PACKET + 1)], [0])
    pair.first.send(b"next")
    pair.reactor.turn()
    assert pair.receivers[1].data == [b"next"]
    assert len(warnings) == 1


def test_fullTable(pair: Pair) -> None:
    """With no descriptor left the message comes without, which is counted."""
    pair.first.send(b"lost", [0])
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    opened = [os.dup(0)]
    while opened[-1] < highest + 1:
        opened.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1] + 1, former[1]))
    try:
        pair.reactor.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
        for each in opened:
            os.close(each)
    assert (pair.receivers[1].data, pair.receivers[1].descriptors, pair.second.truncated) == ([b"lost"], [[]], 1)


# Neighbours, on the reactor


class Echo(Protocol):
    """Answers what comes, and notes its end."""

    def __init__(self) -> None:
        self.received = b""
        self.isLost = False
        self.answers = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.answers:
            self.transport.write(data.upper())  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.isLost = True


class FakeCluster:
    """Keeps what neighbours bring."""

    def __init__(self, page: SharedPage, row: Any) -> None:
        self.page = page
        self.came: list[tuple[Any, bytes]] = []
        self.lost = 0
        self.links: list[Echo] = []
        self.then: Callable[[], object] = lambda: None

    def connectionCame(self, neighbour: Any, carrier: Any, facts: Any, data: bytes) -> None:
        self.came.append((facts, data))
        carrier.close()
        self.then()

    def protocolForLink(self, neighbour: Any, kind: str) -> Any:
        if kind != "relay":
            return None
        self.links.append(Echo())
        return self.links[-1]

    def neighbourLost(self, neighbour: Any) -> None:
        self.lost += 1


class FakeReleased:
    """A connection that moves, and what becomes of it."""

    def __init__(self, carrier: socket.socket, data: bytes = b"GET") -> None:
        self.carrier = carrier
        self.data = data
        self.facts = FACTS
        self.outcome: list[str] = []

    def forget(self) -> None:
        self.carrier.close()
        self.outcome.append("forgotten")

    def back(self) -> None:
        self.carrier.close()
        self.outcome.append("back")


class Two:
    """Two workers in this process."""

    def __init__(self, reactor: Any) -> None:
        self.page = SharedPage(bytearray(SharedPage.sizeOf(4)), 4)
        rows = [self.page.claim(0, 1), self.page.claim(1, 2)]
        for row in rows:
            row.state, row.takesConnections = RowState.READY, 1
        self.rows = rows
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.here, self.there = FakeCluster(self.page, rows[0]), FakeCluster(self.page, rows[1])
        self.toThere = Neighbour(reactor, self.ends[0], 2, 1, self.here)
        self.toHere = Neighbour(reactor, self.ends[1], 1, 0, self.there)


@pytest.fixture
def two(runningReactor: Any) -> Iterator[Two]:
    two = Two(runningReactor)
    yield two
    two.toThere.lose()
    two.toHere.lose()
    pytest_twisted.blockon(deferLater(runningReactor, 0))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the reactor is about to do."""
    from twisted.internet import reactor

    for _ in range(5000):
        if condition():
            return
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]
    raise AssertionError("it didn't happen")


def aClient() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection."""
    return socket.socketpair()


@pytest_twisted.ensureDeferred
async def test_moves(two: Two) -> None:
    """Connections arrive in order with their facts and bytes, and none of their descriptors is left."""
    before = openDescriptors()
    moved = []
    for number in range(500):
        client, carrier = aClient()
        client.close()
        moved.append(FakeReleased(carrier, b"%d" % number))
        two.toThere.move(moved[-1])
        if number % 100 == 99:
            await until(lambda: len(two.there.came) == len(moved))
    assert two.there.came == [(FACTS, b"%d" % number) for number in range(500)]
    assert all(each.outcome == ["forgotten"] for each in moved)
    assert openDescriptors() == before


def test_whoTakesConnections(two: Two) -> None:
    """A neighbour takes connections as long as its row says so, the queue has room, and it lives."""
    assert two.toThere.takesConnections
    two.rows[1].takesConnections = 0
    assert not two.toThere.takesConnections
    two.rows[1].takesConnections = 1
    count = 0
    while two.toThere.takesConnections:
        two.toThere.connection.send(b"?")
        count += 1
    assert count > 256
    two.toThere.lose()
    assert not two.toThere.takesConnections


def test_rowOfAnother(two: Two) -> None:
    """The row of a worker that is gone says nothing about it when another has it."""
    two.rows[1].clear()
    two.page.claim(1, 7).takesConnections = 1
    assert not two.toThere.takesConnections


def test_lostNeighbourTakesNothing(two: Two) -> None:
    """A connection that is moved to a neighbour that was let go of is served here."""
    client, carrier = aClient()
    two.toThere.lose()
    released = FakeReleased(carrier)
    two.toThere.move(released)
    assert released.outcome == ["back"]
    assert (two.here.lost, two.there.lost) == (0, 0)
    client.close()


def test_tooMuchWasRead(two: Two) -> None:
    """A connection of which too much was read for a message is served here."""
    client, carrier = aClient()
    released = FakeReleased(carrier, b"a" * MAX_PACKET)
    two.toThere.move(released)
    assert released.outcome == ["back"]
    client.close()


@pytest_twisted.ensureDeferred
async def test_neighbourDies(two: Two) -> None:
    """What the neighbour had sent is served; whoever is queued for it comes back after it is known to be gone."""
    client, carrier = aClient()
    while not two.toThere.connection.isFull:
        two.toThere.connection.send(b"?")
    early = FakeReleased(carrier.dup())
    two.toThere.move(early)
    assert early.outcome == ["back"]
    two.toHere.move(FakeReleased(carrier, b"last"))
    two.toHere.lose()
    await until(lambda: two.here.lost == 1)
    assert two.here.came == [(FACTS, b"last")]
    client.close()


@pytest_twisted.ensureDeferred
async def test_unknownMessages(two: Two, warnings: list[str]) -> None:
    """What can't be understood is closed and counted, and the next connection arrives."""
    files = [os.dup(0), os.open("/dev/null", os.O_RDONLY)]
    client, carrier = aClient()
    for data in (b"?", b"M", b"Mnonsense" * 10, b"M" + b"\xff" * 60):
        two.toThere.connection.send(data, [carrier.fileno()])
    two.toThere.connection.send(b"M", [files[1]])
    two.toThere.connection.send(b"M")
    two.toThere.connection.send(b"M", [carrier.fileno(), files[1]])
    two.toThere.move(FakeReleased(carrier))
    await until(lambda: len(two.there.came) == 1)
    assert (two.toHere.unknownMessages, two.toHere.lostConnections) == (5, 2)
    assert 1 <= len(warnings) <= 7
    # Every copy of the connection is closed.
    assert client.recv(1) == b""
    client.close()
    for each in files:
        os.close(each)


@pytest_twisted.ensureDeferred
async def test_links(two: Two) -> None:
    """A link connects a protocol here to one there; either side ends it."""
    link = Echo()
    link.answers = False
    two.toThere.openLink("relay", link)
    link.transport.write(b"hello")  # type: ignore[union-attr]
    await until(lambda: link.received == b"HELLO")
    two.there.links[0].transport.loseConnection()  # type: ignore[union-attr]
    await until(lambda: link.isLost and two.there.links[0].isLost)


@pytest_twisted.ensureDeferred
async def test_refusedLinks(two: Two) -> None:
    """A link of an unknown kind, and one to a neighbour that is gone, lose their connection."""
    unknown, gone = Echo(), Echo()
    two.toThere.openLink("telegraph", unknown)
    await until(lambda: unknown.isLost)
    two.toThere.lose()
    two.toThere.openLink("relay", gone)
    await until(lambda: gone.isLost)
    assert two.there.links == []


@pytest_twisted.ensureDeferred
async def test_linksOutliveTheirNeighbour(two: Two) -> None:
    """Letting go of a neighbour ends no link."""
    link = Echo()
    link.answers = False
    two.toThere.openLink("relay", link)
    await until(lambda: len(two.there.links) == 1)
    two.toThere.lose()
    await until(lambda: two.there.lost == 1)
    link.transport.write(b"still")  # type: ignore[union-attr]
    await until(lambda: link.received == b"STILL")
    link.transport.loseConnection()  # type: ignore[union-attr]
    await until(lambda: link.isLost and two.there.links[0].isLost)


def test_noDescriptorForALink(two: Two) -> None:
    """Without a descriptor left opening a link raises, and the protocol hears of nothing."""
    link = Echo()
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for spare in (0, 1, 2):
            opened = [os.dup(0)]
            while opened[-1] <= max(each.fileno() for each in two.ends):
                opened.append(os.dup(0))
            highest = max(int(each) for each in os.listdir("/proc/self/fd")[:-1])
            while opened[-1] < highest:
                opened.append(os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1] + 1 + spare, former[1]))
            with pytest.raises(OSError, match="Too many open files"):
                two.toThere.openLink("relay", link)
            resource.setrlimit(resource.RLIMIT_NOFILE, former)
            for each in opened:
                os.close(each)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert (link.transport, link.isLost) == (None, False)
