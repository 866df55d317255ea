"""The control connection: messages with descriptors both ways, in pieces, questions, and its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted.workers.control import MAX_MESSAGE, PIECE, Assembler, Control, controlPair, packetsOf


class Reactor:
    """Reads and writes when it is told to."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers = [each for each in self.readers if each is not reader]

    def addWriter(self, writer: Any) -> None:
        self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers = [each for each in self.writers if each is not writer]

    def turn(self) -> None:
        for each in [*self.writers]:
            each.doWrite()
        for each in [*self.readers]:
            problem = each.doRead()
            if problem is not None:
                each.connectionLost(problem)


class Receiver:
    """Writes down what comes."""

    def __init__(self) -> None:
        self.came: list[tuple[str, dict[str, Any]]] = []
        self.descriptors: list[int] = []
        self.answer: Any = None
        self.isLost = False

    def messageReceived(self, kind: str, fields: dict[str, Any], descriptors: list[int]) -> object:
        self.came.append((kind, fields))
        self.descriptors += descriptors
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def controlLost(self) -> None:
        assert not self.isLost
        self.isLost = True


class Pair:
    def __init__(self) -> None:
        self.reactor = Reactor()
        self.clock: Any = Clock()
        self.here, self.there = Receiver(), Receiver()
        self.sockets = controlPair()
        self.a = Control(self.reactor, self.sockets[0], self.here, self.clock)
        self.b = Control(self.reactor, self.sockets[1], self.there, self.clock)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.a.close()
    pair.b.close()
    assert pair.reactor.readers == pair.reactor.writers == []
    assert pair.clock.getDelayedCalls() == []


def test_messages(pair: Pair) -> None:
    """They come as they were sent, in order, also one that is longer than a packet."""
    long = {"text": "é€" * PIECE}
    pair.a.send("first", {"number": 1})
    pair.a.send("long", long)
    pair.a.send("last")
    for _ in range(20):
        pair.reactor.turn()
    assert pair.there.came == [("first", {"number": 1}), ("long", long), ("last", {})]
    pair.b.send("back")
    pair.reactor.turn()
    assert pair.here.came == [("back", {})]


def test_descriptors(pair: Pair) -> None:
    """A descriptor that is given away is another process's, and closed here."""
    read, write = os.pipe()
    pair.a.give("pipe", {"number": 7}, write)
    with pytest.raises(OSError):
        os.fstat(write)
    pair.reactor.turn()
    assert pair.there.came == [("pipe", {"number": 7})]
    (descriptor,) = pair.there.descriptors
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"hello")
    assert os.read(read, 10) == b"hello"
    os.close(descriptor)
    pair.b.close()
    # Nobody gets it any more; it is closed all the same.
    pair.a.give("pipe", {}, read)
    pair.reactor.turn()
    with pytest.raises(OSError):
        os.fstat(read)


def test_questions(pair: Pair) -> None:
    """An answer finds its question, at once or later; in time, or never."""
    answers: list[Any] = []
    pair.there.answer = {"count": 3}
    pair.a.ask("stats", {"what": "x"}, timeout=1).addCallback(answers.append)
    pair.reactor.turn()
    pair.reactor.turn()
    assert pair.there.came == [("stats", {"what": "x"})]
    assert answers == [{"count": 3}]
    later: Deferred[Any] = Deferred()
    pair.there.answer = later
    pair.a.ask("stats", timeout=1).addBoth(answers.append)
    pair.reactor.turn()
    pair.clock.advance(1)
    assert answers[1].check(CancelledError)
    later.callback("too late")
    pair.reactor.turn()
    assert len(answers) == 2


def test_questionsOfOneThatIsGone(pair: Pair) -> None:
    """They fail, also those that are asked later."""
    failures: list[Any] = []
    pair.a.ask("stats", timeout=1).addErrback(failures.append)
    pair.b.close()
    pair.reactor.turn()
    assert pair.here.isLost
    pair.a.ask("stats", timeout=1).addErrback(failures.append)
    assert [each.check(ConnectionDone) for each in failures] == [ConnectionDone] * 2
    taken: list[bool] = []
    pair.a.send("x", sent=taken.append)
    assert taken == [False]


def test_end(pair: Pair) -> None:
    """What was sent before the end comes before it, and can be read at once when a process has ended."""
    pair.a.send("problem", {"problem": "no such module"})
    pair.a.close()
    pair.b.readAll()
    assert pair.there.came == [("problem", {"problem": "no such module"})]
    pair.reactor.turn()
    assert pair.there.isLost


def test_failingReceiver(pair: Pair, loggedErrors: list[LogEvent]) -> None:
    """It is logged, and the next message comes."""
    pair.there.answer = ValueError("no")
    pair.a.send("first")
    pair.a.send("second")
    pair.reactor.turn()
    assert [kind for kind, _ in pair.there.came] == ["first", "second"]
    assert len(loggedErrors) == 2
    loggedErrors.clear()


@pytest.mark.parametrize(
    "packet", [b"x{}", b".no JSON", b".[]", b'.{"kind":1}', b'.{"no":"kind"}', b"." + b"[" * 60000]
)
def test_noMessage(pair: Pair, packet: bytes, loggedErrors: list[LogEvent]) -> None:
    """What is no message ends the connection."""
    pair.sockets[0].send(packet)
    pair.reactor.turn()
    pair.reactor.turn()
    assert pair.there.isLost
    assert pair.here.isLost
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_tooLong() -> None:
    """A message without an end is refused before it takes all memory."""
    assembler = Assembler()
    piece = b"x" * PIECE
    for _ in range(MAX_MESSAGE // PIECE):
        assert assembler.feed(b"+" + piece) is None
    with pytest.raises(ValueError):
        assembler.feed(b"+x")
    assert len(packetsOf({"kind": "x" * 2 * PIECE})) == 3
