"""Timers that fire in time whatever the system's clock is set to, and timeouts that wait until the reactor has read."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from threading import enumerate as threads
from typing import Any, ClassVar

import pytest
from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock, LoopingCall
from zope.interface import implementer
from zope.interface.verify import verifyObject

from engineio_twisted import clock as module
from engineio_twisted.clock import TURNS, AfterReading, DeadlineQueue, SteadyClock, steadyClock
from engineio_twisted.server import Server

from .kit.clients import pythonPath

HOUR = 3600.0


@implementer(IReactorFromThreads)
class Wall(Clock):
    """A reactor on the system's clock, as seen by both: real time passes, and the system's clock may be set."""

    def __init__(self) -> None:
        super().__init__()
        self.setBy = 0.0
        self.passed = 0.0
        self.fromThreads: list[Callable[[], object]] = []

    def monotonic(self) -> float:
        return self.passed

    def seconds(self) -> float:
        return 1_700_000_000 + self.passed + self.setBy

    def callFromThread(self, callable: Callable[[], object]) -> None:  # type: ignore[override]  # noqa: A002
        self.fromThreads.append(callable)

    def pass_(self, seconds: float) -> None:
        """Let real time pass: what the reactor finds due is called."""
        self.passed += seconds
        while self.fromThreads:
            self.fromThreads.pop(0)()
        self.rightNow = self.seconds()
        self.advance(0)


class FakeThread:
    """The thread, which runs when it is told to: each round is a look at the clocks."""

    threads: ClassVar[list[FakeThread]] = []

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], name: str, daemon: bool) -> None:
        assert daemon, "it would keep the process from ending"
        self._look = target
        self._arguments = args
        self.isAlive = True
        self.threads.append(self)

    def start(self) -> None:
        pass

    def is_alive(self) -> bool:
        return self.isAlive


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wall]:
    """A reactor; a thread is made and doesn't run by itself."""
    reactor = Wall()
    monkeypatch.setattr(module, "monotonic", reactor.monotonic)
    monkeypatch.setattr(module, "Thread", FakeThread)
    FakeThread.threads = []
    yield reactor
    module._clockOf.cache_clear()


def compare(monkeypatch: pytest.MonkeyPatch, steps: list[Callable[[], object]]) -> bool:
    """Have the thread run, with something happening in each of its pauses; return whether it ended by itself."""
    pending = list(steps)

    class Enough(Exception):
        pass

    def pause(seconds: float) -> None:
        assert seconds == module.CHECK_INTERVAL
        if not pending:
            raise Enough
        pending.pop(0)()

    monkeypatch.setattr(module, "sleep", pause)
    thread = FakeThread.threads[-1]
    try:
        thread._look(*thread._arguments)
    except Enough:
        return False
    thread.isAlive = False
    return True


def test_itsOwnTime() -> None:
    """A clock that no thread can wake has a time of its own; each other reactor has one steady clock."""
    clock = Clock()
    assert steadyClock(clock) is clock
    assert Server(reactor=clock).clock is clock
    reactor = Wall()
    steady = steadyClock(reactor)
    assert steady is steadyClock(reactor) is Server(reactor=reactor).clock
    verifyObject(IReactorTime, steady)
    assert abs(steady.seconds() - reactor.seconds()) < HOUR * 1e9
    module._clockOf.cache_clear()


@pytest.mark.parametrize("setTo", [0.0, HOUR, -HOUR, 30 * 365 * 24 * HOUR, -2.0, 0.3, -0.3])
def test_timersFireInTime(wall: Wall, monkeypatch: pytest.MonkeyPatch, setTo: float) -> None:
    """Whatever the system's clock is set to while they are pending, timers fire in time, or within a second of it."""
    clock = SteadyClock(wall)
    fired: list[float] = []
    for seconds in (0.0, 5.0, 25.0):
        clock.callLater(seconds, lambda: fired.append(wall.passed))
    wall.pass_(1)
    assert fired == [1]
    wall.setBy = setTo
    compare(monkeypatch, [lambda: wall.pass_(1)] * 30)
    assert fired == [1, pytest.approx(5, abs=1), pytest.approx(25, abs=1)]
    assert (clock.getDelayedCalls(), wall.getDelayedCalls()) == ((), [])


def test_neverEarly(wall: Wall) -> None:
    """Without the thread, too, a clock set forward makes nothing fire early."""
    clock = SteadyClock(wall)
    fired: list[float] = []
    clock.callLater(5, lambda: fired.append(wall.passed))
    for _ in range(8):
        wall.setBy += HOUR
        wall.pass_(1)
    assert fired == [5]


def test_setForwardAndBack(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set anew when the clock was set forward is late again when it is set back to what it was."""
    clock = SteadyClock(wall)
    fired: list[float] = []
    clock.callLater(10, lambda: fired.append(wall.passed))

    def set_(to: float) -> None:
        wall.setBy = to
        wall.pass_(1)

    compare(monkeypatch, [lambda to=to: set_(to) for to in (0, HOUR, HOUR, 0, 0, -HOUR, HOUR, -HOUR, *[0] * 5)])
    assert fired == [pytest.approx(10, abs=1)]


def test_delayedCalls(wall: Wall) -> None:
    """They can be cancelled, moved and asked for their time, as those of a reactor."""
    clock = SteadyClock(wall)
    fired: list[Any] = []
    call = clock.callLater(5, fired.append, "moved")
    verifyObject(IDelayedCall, call)
    assert call.getTime() == pytest.approx(clock.seconds() + 5)
    call.reset(20)
    call.reset(2)
    other = clock.callLater(1, fired.append, "cancelled")
    assert set(clock.getDelayedCalls()) == {call, other}
    other.cancel()
    with pytest.raises(error.AlreadyCancelled):
        other.cancel()
    late = clock.callLater(1, lambda *args, **keywords: fired.append((args, keywords)), 1, two=2)
    late.delay(5)
    wall.pass_(1.5)
    assert fired == []
    wall.pass_(0.6)
    assert fired == ["moved"]
    with pytest.raises(error.AlreadyCalled):
        call.reset(1)
    wall.pass_(1)
    late.reset(0.5)
    wall.pass_(0.5)
    assert fired == ["moved", ((1,), {"two": 2})]
    assert (clock.getDelayedCalls(), wall.getDelayedCalls()) == ((), [])


def test_failing(wall: Wall) -> None:
    """What a timer raises is its reactor's to handle, and it is over."""
    clock = SteadyClock(wall)
    clock.callLater(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        wall.pass_(1)
    assert (clock.getDelayedCalls(), wall.getDelayedCalls()) == ((), [])


def test_loops(wall: Wall) -> None:
    """What is called again and again goes by the same time."""
    times: list[float] = []
    loop = LoopingCall(lambda: times.append(wall.passed))
    loop.clock = SteadyClock(wall)
    loop.start(1, now=False)
    for _ in range(4):
        wall.setBy += HOUR
        wall.pass_(1)
    loop.stop()
    assert times == [1, 2, 3, 4]


def test_oneThreadWhileSomethingWaits(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first timer starts the thread; it ends once there is none, and the next one starts another."""
    clock = SteadyClock(wall)
    assert FakeThread.threads == []
    calls = [clock.callLater(5, lambda: None) for _ in range(10)]
    assert len(FakeThread.threads) == 1
    assert not compare(monkeypatch, [lambda: None] * 3), "it ended before its time"
    for each in calls:
        each.cancel()
    assert compare(monkeypatch, [lambda: None] * 3)
    clock.callLater(5, lambda: None)
    assert len(FakeThread.threads) == 2
    # As in the child after a fork.
    FakeThread.threads[-1].isAlive = False
    clock.callLater(5, lambda: None)
    assert len(FakeThread.threads) == 3


def test_theThreadEnds() -> None:
    """A thread that is one, too."""
    reactor = Wall()
    clock = SteadyClock(reactor)
    before = set(threads())
    call = clock.callLater(5, lambda: None)
    (thread,) = set(threads()) - before
    assert thread.daemon
    call.cancel()
    thread.join(30)
    assert not thread.is_alive()


# Timeouts that wait until the reactor has read


def test_turns() -> None:
    """What waits is called after so many turns of the reactor, in order, each once; nothing of it is left."""
    clock = Clock()
    reading = AfterReading(clock)
    told: list[tuple[str, int]] = []
    turn = 0

    def next_() -> None:
        nonlocal turn
        turn += 1
        if turn < 100:
            clock.callLater(0, next_)

    def tell(name: str) -> None:
        told.append((name, turn))
        if told == [("first", TURNS), ("again", TURNS)]:
            reading.call(tell, "again")

    clock.callLater(0, next_)
    reading.call(tell, "first")
    cancelled = reading.call(tell, "cancelled")
    reading.call(tell, "again")
    reading.call(tell, "far", turns=40)
    # Not before one that was there before.
    reading.call(tell, "behind")
    cancelled.cancel()
    clock.advance(0)
    assert told == [("first", 16), ("again", 16), ("far", 40), ("behind", 40), ("again", 40)]
    assert clock.getDelayedCalls() == []


def test_cancelledByAnother() -> None:
    """One that was called before may cancel those behind it."""
    clock = Clock()
    reading = AfterReading(clock)
    told: list[str] = []
    reading.call(lambda: second.cancel())
    second = reading.call(told.append, "second")
    reading.call(told.append, "third")
    clock.advance(0)
    assert told == ["third"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit, GeneratorExit])
def test_aTimeoutThatFails(raised: type[BaseException], loggedErrors: Any) -> None:
    """It is logged, and the others are called."""

    def fail() -> None:
        raise raised

    clock = Clock()
    reading = AfterReading(clock)
    told: list[str] = []
    reading.call(fail)
    reading.call(told.append, "second")
    clock.advance(0)
    assert told == ["second"]
    (event,) = loggedErrors
    assert event["log_failure"].check(raised)
    loggedErrors.clear()


def test_timeoutsOfTheSameTime() -> None:
    """They share a timer; each is called when its time is over and the reactor has read, unless it is cancelled."""
    clock, told = Clock(), list[str]()
    reading = AfterReading(clock)
    cancelled, *late = [reading.callLater(5, told.append, each) for each in ("cancelled", "a", "b", "read meanwhile")]
    other = reading.callLater(3, told.append, "other")
    assert len(clock.getDelayedCalls()) == 2
    cancelled.cancel()
    other.cancel()
    assert (cancelled.active(), other.active(), len(clock.getDelayedCalls())) == (False, False, 1)
    # Not before the reactor has read, when one of them may be cancelled still.
    clock.callLater(5, late[2].cancel)
    clock.advance(4.9)
    assert told == []
    assert all(each.active() for each in late)
    clock.advance(0.1)
    assert told == ["a", "b"]
    assert not any(each.active() for each in late)
    assert clock.getDelayedCalls() == []
    # The time runs from when it was asked for.
    reading.callLater(5, told.append, "c")
    clock.advance(2)
    reading.callLater(5, told.append, "d")
    clock.advance(3)
    assert told == ["a", "b", "c"]
    clock.advance(2)
    assert told == ["a", "b", "c", "d"]


@pytest.mark.parametrize("isDue", [True, False])
def test_aCancelledTimeoutKeepsNothing(isDue: bool) -> None:
    """It lets go of what was to be called, which mostly keeps the timeout in turn."""

    class Caller:
        def call(self) -> None:
            """Be what is to be called."""

    clock = Clock()
    caller = Caller()
    gone = weakref.ref(caller)
    timeout = AfterReading(clock).callLater(5, caller.call)
    del caller
    if isDue:
        clock.callLater(5, timeout.cancel)
        clock.advance(5)
    else:
        timeout.cancel()
    assert gone() is None


READS_BETWEEN = """
    import socket, sys
    name = sys.argv[1]
    if name == "asyncio":
        from twisted.internet import asyncioreactor
        asyncioreactor.install()
    else:
        __import__(f"twisted.internet.{name}reactor", fromlist=["install"]).install()
    from twisted.internet import reactor, protocol
    from engineio_twisted.clock import AfterReading

    class Reads(protocol.Protocol):
        def dataReceived(self, data):
            print("read", data.decode())

    factory = protocol.Factory.forProtocol(Reads)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    reading = AfterReading(reactor)
    clients = []

    def begin():
        # All of it lies there before the reactor has a chance: a connection nobody accepted, with what was sent on it.
        for number in range(50):
            clients.append(socket.create_connection(("127.0.0.1", port.getHost().port)))
            clients[-1].sendall(b"%d" % number)
        # As after a time in which only one came.
        port.numberAccepts = 1
        reading.call(lambda: (print("timeout"), reactor.stop()))

    reactor.callLater(0, begin)
    reactor.run()
"""


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_eachReactorReadsBetween(reactor: str) -> None:
    """Before a timeout each reactor accepts what waits to be accepted, and reads what was sent on it."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READS_BETWEEN), reactor],
        env=os.environ | pythonPath(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[-1] == "timeout"
    assert sorted(lines[:-1]) == sorted(f"read {number}" for number in range(50))


# Waits that take the same time


def test_aQueueOfDeadlines() -> None:
    """Each is due when its time is over, by one timer; one that begins anew comes behind the others."""
    clock, due = Clock(), list[str]()
    queue = DeadlineQueue(clock, 10, due.append)
    for each in "abcd":
        queue.add(each)
        clock.advance(1)
    queue.add("a")
    queue.remove("c")
    queue.remove("nobody")
    assert (len(queue), len(clock.getDelayedCalls())) == (3, 1)
    for seconds, expected in ((6, ""), (1, "b"), (1, "b"), (1, "bd"), (1, "bda")):
        clock.advance(seconds)
        assert "".join(due) == expected
    assert (len(queue), clock.getDelayedCalls()) == (0, [])


def test_anEmptyQueueOfDeadlinesHasNoTimer() -> None:
    """It has one again with the next wait, also with one that begins when another is over."""
    clock, due = Clock(), list[str]()

    def again(each: str) -> None:
        due.append(each)
        if len(due) < 3:
            queue.add(each)

    queue = DeadlineQueue(clock, 1, again)
    queue.add("a")
    queue.remove("a")
    assert clock.getDelayedCalls() == []
    queue.add("a")
    clock.pump([1, 1, 1, 1])
    assert (due, clock.getDelayedCalls()) == (["a"] * 3, [])


def test_aWaitThatBeginsWhenAnotherIsOver() -> None:
    """It puts off none of those that began before it."""
    clock, due = Clock(), list[tuple[str, float]]()

    def over(each: str) -> None:
        due.append((each, clock.seconds()))
        if each == "a":
            queue.add("c")

    queue = DeadlineQueue(clock, 3, over)
    queue.add("a")
    clock.advance(1)
    queue.add("b")
    clock.pump([1] * 9)
    assert (due, clock.getDelayedCalls()) == ([("a", 3), ("b", 4), ("c", 6)], [])


def test_aDeadlineThatFails(loggedErrors: list[Any]) -> None:
    """It is logged, and the others are due all the same."""
    clock, due = Clock(), list[str]()
    queue = DeadlineQueue(clock, 1, lambda each: due.append(each) or 1 / (each != "a"))
    queue.add("a")
    queue.add("b")
    clock.advance(1)
    assert due == ["a", "b"]
    assert [each["log_failure"].type for each in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()
