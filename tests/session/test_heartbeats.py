"""When sessions are told that their heartbeats are due: in time, in order, each once, with one call of the reactor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.session.heartbeats import MAX_PER_TURN, MILLISECOND, MIN_FRACTION, HeartbeatQueue, Heartbeats


class Sleeper:
    """What waits, and remembers when it was told."""

    def __init__(self, clock: Clock, name: int = 0, told: list[Any] | None = None) -> None:
        self.clock = clock
        self.name = name
        self.told = [] if told is None else told

    def heartbeatDue(self) -> None:
        self.told.append((self.name, round(self.clock.seconds(), 6)))


def test_inTime() -> None:
    """Each is told once, when it has waited for as long as it may."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    told: list[Any] = []
    for name in range(3):
        wait.add(Sleeper(clock, name, told))
        clock.advance(1)
    clock.advance(21.9)
    assert told == []
    clock.pump([0.1, 0.5, 0.5, 1, 100])
    assert told == [(0, 25), (1, 26), (2, 27)]
    assert clock.getDelayedCalls() == []


def test_removed() -> None:
    """One that waits no longer is not told, and of the last nothing is left."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    first, second, third = (Sleeper(clock) for _ in range(3))
    for each in (first, second, third):
        wait.add(each)
        clock.advance(1)
    wait.remove(first)
    wait.remove(third)
    clock.advance(23)
    assert (first.told, second.told, third.told) == ([], [(0, 26)], [])
    wait.add(first)
    wait.remove(first)
    assert clock.getDelayedCalls() == []


def test_oneCall() -> None:
    """However many sessions there are, and however often they begin anew, the reactor has one call."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    sleepers = [Sleeper(clock) for _ in range(1000)]
    for each in sleepers:
        wait.add(each)
        clock.advance(0.01)
    (call,) = clock.getDelayedCalls()
    for each in sleepers:
        wait.remove(each)
        wait.add(each)
    assert clock.getDelayedCalls() == [call]
    clock.advance(24.9)
    assert not any(each.told for each in sleepers)
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0.1)
    assert all(len(each.told) == 1 for each in sleepers)
    assert clock.getDelayedCalls() == []


def test_manyAtOnce() -> None:
    """Where many are due in the same moment, others are served in between, and of very many a part is told."""
    for count, atOnce in ((MAX_PER_TURN + 1, MAX_PER_TURN), (MAX_PER_TURN * MIN_FRACTION * 2, MAX_PER_TURN * 2)):
        clock = Clock()
        wait = HeartbeatQueue(clock, 25)
        told: list[Any] = []
        for name in range(count):
            wait.add(Sleeper(clock, name, told))
        turns: list[int] = []
        clock.callLater(25, lambda told=told, turns=turns: turns.append(len(told)))
        clock.advance(25)
        assert turns == [atOnce]
        clock.pump([0] * MIN_FRACTION * 2)
        assert [name for name, _ in told] == list(range(count))


def test_failing(loggedErrors: Any) -> None:
    """What the heartbeat of one raises is logged, and the others are told."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    first, second = Sleeper(clock), Sleeper(clock)

    def fail() -> None:
        raise ZeroDivisionError

    first.heartbeatDue = fail  # type: ignore[method-assign]
    wait.add(first)
    wait.add(second)
    clock.advance(25)
    assert second.told == [(0, 25)]
    (event,) = loggedErrors
    assert event["log_failure"].check(ZeroDivisionError)
    loggedErrors.clear()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_failingWorse(error: type[BaseException], loggedErrors: list[Any]) -> None:
    """What isn't an Exception stops nobody's heartbeat either, of those that wait and of those that come later."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    first, second, third = (Sleeper(clock) for _ in range(3))

    def fail() -> None:
        raise error

    first.heartbeatDue = fail  # type: ignore[method-assign]
    wait.add(first)
    clock.advance(1)
    wait.add(second)
    clock.advance(24)
    assert [each["log_failure"].type for each in loggedErrors] == [error]
    loggedErrors.clear()
    wait.add(third)
    clock.pump([1, 24])
    assert (second.told, third.told) == ([(0, 26)], [(0, 50)])


def test_clockGoesBack() -> None:
    """Where the clock is set back an hour, who comes after that is told in time, whoever waits since before."""
    clock = Clock()
    clock.rightNow = 10_000.0
    wait = HeartbeatQueue(clock, 25)
    old, new = Sleeper(clock), Sleeper(clock)
    wait.add(old)
    clock.rightNow -= 3600
    wait.add(new)
    clock.pump([24.9, 0.1])
    assert new.told == [(0, 6425)]
    assert old.told == [(0, 6425)]


def test_shortWait() -> None:
    """Who waits anew each time it is told, for as short as can be, is told each time after that."""
    clock = Clock()
    clock.advance(1_700_000_000.123)
    wait = HeartbeatQueue(clock, 0.001)
    times: list[float] = []

    class Again(Sleeper):
        def heartbeatDue(self) -> None:
            times.append(clock.seconds())
            wait.add(self)

    wait.add(Again(clock))
    clock.pump([0.0001] * 100)
    assert 9 <= len(times) <= 20


def test_comingAndGoingWhileTold() -> None:
    """One that is told may wait again, and have others wait no longer."""
    clock = Clock()
    wait = HeartbeatQueue(clock, 25)
    told: list[Any] = []
    second = Sleeper(clock, 2, told)

    class Meddler(Sleeper):
        def heartbeatDue(self) -> None:
            super().heartbeatDue()
            wait.remove(second)
            if len(told) < 3:
                wait.add(self)
                wait.add(second)

    wait.add(Meddler(clock, 1, told))
    wait.add(second)
    wait.add(Sleeper(clock, 3, told))
    clock.pump([25, 25, 25, 25])
    assert told == [(1, 25), (3, 25), (1, 50)]
    assert clock.getDelayedCalls() == []


class Calls:
    """The plain way: a call of the reactor for each session."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.calls: dict[Any, Any] = {}

    def add(self, session: Sleeper) -> None:
        self.calls[session] = self.clock.callLater(self.seconds, session.heartbeatDue)

    def remove(self, session: Sleeper) -> None:
        self.calls.pop(session).cancel()


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5, 7.0])), max_size=60))
def test_bothTellTheSame(steps: list[tuple[int, float]]) -> None:
    """Whatever comes and goes, with one call for all each is told within a millisecond of when it is with its own."""
    results = []
    for kind in (HeartbeatQueue, Calls):
        clock = Clock()
        clock.advance(1_700_000_000.123)
        wait: Any = kind(clock, 2.5)
        told: list[Any] = []
        waiting: set[int] = set()

        class Known(Sleeper):
            def heartbeatDue(self, waiting: set[int] = waiting) -> None:
                super().heartbeatDue()
                waiting.remove(self.name)

        sleepers = [Known(clock, name, told) for name in range(5)]
        for name, seconds in steps:
            if name in waiting:
                wait.remove(sleepers[name])
                waiting.remove(name)
            else:
                wait.add(sleepers[name])
                waiting.add(name)
            clock.pump([0.1] * round(seconds / 0.1))
        clock.pump([0.1] * 30)
        results.append(told)
        assert (waiting, clock.getDelayedCalls()) == (set(), [])
    ours, theirs = results
    assert sorted(name for name, _ in ours) == sorted(name for name, _ in theirs)
    for (_, at), (_, due) in zip(ours, theirs, strict=True):
        assert abs(at - due) <= MILLISECOND


def test_waits() -> None:
    """Each wait is as long as the options say."""
    clock = Clock()
    waits = Heartbeats(ServerOptions(pingInterval=5000, pingTimeout=2000), clock)
    told: list[Any] = []
    for name, wait in enumerate((waits.resting, waits.awaiting, waits.listening)):
        wait.add(Sleeper(clock, name, told))
    clock.pump([1.0] * 8)
    assert told == [(1, 2), (0, 5), (2, 7)]
