"""
The time of a server, and timeouts that wait until the reactor has read what came in time.

Twisted's reactors run on the system's clock, which can be set: when it is set back by an hour, every timer fires an
hour late. L{steadyClock} returns a clock that no setting changes. A process that stood still finds its timeouts due
before it has read a byte: L{AfterReading} puts them behind that. docs/architecture/time.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, Protocol

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the system's clock, while a timer is pending."""

SET_BACK = 0.5
"""Seconds by which the system's clock has to be set back before the timers of a reactor are set anew."""

PRECISION = 0.001
"""Seconds by which a timer may fire early: the system's clock is slowed down and sped up all the time."""

TURNS = 16
"""
Turns of the reactor after which what had come is read.

In each turn a reactor reads once from every connection, and a port accepts connections: one, or as many as the last
time and twenty more. So 16 turns accept some 2000 connections and read from each.
"""


def steadyClock(reactor: Any) -> Any:
    """
    Return a clock for a reactor, which goes on as time does, whatever the system's clock is set to.

    @param reactor: an C{IReactorTime}. One that can't be woken from a thread, such as L{twisted.internet.task.Clock},
        has a time of its own, and is returned as it is.
    @return: an C{IReactorTime}, the same one for each call with the same reactor.
    """
    return _clockOf(reactor) if IReactorFromThreads.providedBy(reactor) else reactor


@implementer(IReactorTime)
class SteadyClock:
    """
    The time of a reactor, counted by the system's monotonic clock from the moment when this is made.

    Timers are timers of the reactor. One that the reactor fires early, as the system's clock was set forward, is set
    again. One that it would fire late, as the clock was set back, is found by a thread, which compares the two clocks
    once a second. The thread starts with the first timer, and ends within a second when none is left.

    @param reactor: an C{IReactorTime} and C{IReactorFromThreads}.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._began = self._difference()
        # The timers, each with that of the reactor.
        self._calls: dict[DelayedCall, IDelayedCall] = {}
        self._lock = Lock()
        self._watcher: Thread | None = None

    def seconds(self) -> float:
        """Return the time in seconds: what the reactor's would be if nobody had set the system's clock."""
        return monotonic() + self._began

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002
        """
        Call a function once some time has passed.

        @param delay: seconds.
        @return: an C{IDelayedCall}.
        """
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self._cancel, self._moved, self.seconds)
        self._arm(call)
        self._watch()
        return call

    def getDelayedCalls(self) -> tuple[DelayedCall, ...]:
        """Return the timers that are pending."""
        return tuple(self._calls)

    def _arm(self, call: DelayedCall) -> None:
        call.activate_delay()
        self._calls[call] = self._reactor.callLater(max(0.0, call.time - self.seconds()), self._fire, call)

    def _fire(self, call: DelayedCall) -> None:
        if call.getTime() - self.seconds() > PRECISION:
            # It was put off, or the system's clock was set forward.
            self._arm(call)
            return
        del self._calls[call]
        call.called = 1
        call.func(*call.args, **call.kw)

    def _cancel(self, call: DelayedCall) -> None:
        self._calls.pop(call).cancel()

    def _moved(self, call: DelayedCall) -> None:
        self._cancel(call)
        self._arm(call)

    # The thread

    def _difference(self) -> float:
        difference: float = self._reactor.seconds() - monotonic()
        return difference

    def _watch(self) -> None:
        """Start the thread unless it runs. After a fork the child has none."""
        with self._lock:
            if self._watcher is None or not self._watcher.is_alive():
                arguments = (self._difference(),)
                self._watcher = Thread(target=self._compare, args=arguments, name="engineio_twisted clock", daemon=True)
                self._watcher.start()

    def _compare(self, expected: float) -> None:
        """
        Be the thread.

        @param expected: what the two clocks differ by.
        """
        while True:
            # Not by waiting for an event, which some systems time by the clock that may be set.
            sleep(CHECK_INTERVAL)
            with self._lock:
                if not self._calls:
                    self._watcher = None
                    return
            difference = self._difference()
            if difference < expected - SET_BACK:
                expected = difference
                self._reactor.callFromThread(self._armAll)
            else:
                expected = max(expected, difference)

    def _armAll(self) -> None:
        """Set the timers of the reactor by its own clock as it is now."""
        for call in tuple(self._calls):
            self._moved(call)


_clockOf = cache(SteadyClock)


class DeadlineQueue:
    """
    Waits that take the same time, in the order in which they began. The reactor has one timer for all of them.

    @param clock: an C{IReactorTime} that is never set, such as that of L{steadyClock}.
    @ivar seconds: how long each takes.
    @param due: called with each whose time is over, and which doesn't wait any more then.
    """

    _log = Logger()

    def __init__(self, clock: Any, seconds: float, due: Callable[[Any], object]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._due = due
        # When each wait is over.
        self._ends: OrderedDict[object, float] = OrderedDict()
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, waiting: object) -> None:
        """Begin a wait, or begin it anew."""
        ends = self._ends
        ends[waiting] = self._clock.seconds() + self.seconds
        ends.move_to_end(waiting)
        if self._call is None:
            self._call = self._clock.callLater(self.seconds, self._look)

    def remove(self, waiting: object) -> None:
        """End a wait; one that there isn't is no error."""
        self._ends.pop(waiting, None)
        if not self._ends:
            cancel(self._call)
            self._call = None

    def _look(self) -> None:
        ends = self._ends
        now = self._clock.seconds() + PRECISION
        try:
            while ends and next(iter(ends.values())) <= now:
                waiting, _ = ends.popitem(last=False)
                try:
                    self._due(waiting)
                except BaseException:
                    # Whatever it is, the others are to be called too.
                    self._log.failure("A deadline failed")
        finally:
            # Until here the old timer stays: a wait that begins meanwhile is behind those that there are.
            if not ends:
                cancel(self._call)
                self._call = None
            elif self._call is None or not self._call.active():
                self._call = self._clock.callLater(max(0.0, next(iter(ends.values())) - now), self._look)


class Timeout:
    """
    What L{AfterReading.callLater} returns.

    @param queue: in which it waits for its time.
    """

    __slots__ = ("_args", "_call", "_function", "_queue")

    def __init__(self, queue: DeadlineQueue, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self._queue: DeadlineQueue | None = queue
        self._function: Callable[..., object] | None = function
        self._args = args
        # What is waited for once the time is over.
        self._call: IDelayedCall | None = None

    def active(self) -> bool:
        """Return whether the function is still to be called."""
        return self._queue is not None or (self._call is not None and bool(self._call.active()))

    def cancel(self) -> None:
        """Don't call the function."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.remove(self)
            self._forget()
        elif self._call is not None:
            self._call.cancel()

    def due(self, reading: AfterReading) -> None:
        """Called when the time is over."""
        assert self._function is not None
        self._queue = None
        self._call = reading.call(self._function, *self._args)
        self._forget()

    def _forget(self) -> None:
        # What is called mostly has this.
        self._function, self._args = None, ()


class AfterReading:
    """
    Functions to be called when the reactor has read what had come before: what ends something by timeout.

    One timer of the clock serves all that wait.

    @param clock: the reactor, or a L{steadyClock}.
    """

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self._clock: IReactorTime = steadyClock(clock)
        self._turn = 0
        # In the order in which they are due, each with its turn.
        self._waiting: dict[DelayedCall, None] = {}
        self._last = 0
        self._timer: IDelayedCall | None = None
        # What waits for its time, by seconds.
        self._queues: dict[float, DeadlineQueue] = {}

    def call(self, function: Callable[..., object], *args: object, turns: int = TURNS) -> IDelayedCall:
        """
        Call a function in a later turn, after those that were asked for before.

        @param turns: how many turns of the reactor later, of which all but the first read.
        @return: what may be cancelled. Its time is a turn.
        """
        self._last = max(self._last, self._turn + turns)
        call = DelayedCall(self._last, function, args, {}, self._waiting.__delitem__, self._keep, self._seconds)
        self._waiting[call] = None
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._next)
        return call

    def callLater(self, seconds: float, function: Callable[..., object], *args: object) -> Timeout:
        """
        Call a function when some time has passed, and the reactor has read what came in it.

        @param seconds: one of few values, as each has a L{DeadlineQueue} that stays.
        @return: what may be cancelled.
        """
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = DeadlineQueue(self._clock, seconds, self._due)
        timeout = Timeout(queue, function, args)
        queue.add(timeout)
        return timeout

    def _due(self, timeout: Timeout) -> None:
        timeout.due(self)

    def _seconds(self) -> float:
        return self._turn

    def _keep(self, call: DelayedCall) -> None:
        """Do nothing when its time is changed, which is looked at in each turn."""

    def _next(self) -> None:
        self._turn += 1
        self._timer = None
        try:
            while self._waiting:
                call = next(iter(self._waiting))
                if call.getTime() > self._turn:
                    break
                del self._waiting[call]
                call.called = 1
                try:
                    call.func(*call.args)
                except BaseException:
                    # Whatever it is, the others are to be called too.
                    self._log.failure("A timeout failed")
        finally:
            if self._waiting and self._timer is None:
                self._timer = self._clock.callLater(0, self._next)


class Cancellable(Protocol):
    """A timer."""

    def active(self) -> bool: ...
    def cancel(self) -> None: ...


def cancel(call: Cancellable | None) -> None:
    """Cancel a timer, if there is one and it hasn't run."""
    if call is not None and call.active():
        call.cancel()
