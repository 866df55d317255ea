"""
Work that takes too long for one turn of the reactor, done in pieces of about ten milliseconds.

What waits is served in order of arrival, one piece each, and all of it together gets L{TURN} seconds of a turn. So the
more there is, the longer it takes, and everybody else waits no longer. docs/architecture/turns.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .clock import steadyClock

TURN = 0.01
"""Seconds of work after which the rest of it waits for a later turn of the reactor."""

Work = Callable[[float], object]
"""A piece of work: called with the time, by the clock, at which it stops."""


class _Queue:
    """The work that waits on one reactor."""

    _log = Logger()

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()
        self._isScheduled = False

    def add(self, clock: IReactorTime, work: Work) -> None:
        self._waiting.append(work)
        if not self._isScheduled:
            self._isScheduled = True
            steadyClock(clock).callLater(0, self._run, clock)

    def _run(self, clock: IReactorTime) -> None:
        self._isScheduled = False
        ends = clock.seconds() + TURN
        try:
            # Work that is added meanwhile is for the next turn.
            for _ in range(len(self._waiting)):
                try:
                    self._waiting.popleft()(ends)
                except BaseException:
                    self._log.failure("A piece of work failed")
                if clock.seconds() >= ends:
                    break
        finally:
            if self._waiting and not self._isScheduled:
                self._isScheduled = True
                steadyClock(clock).callLater(0, self._run, clock)


_queues: WeakKeyDictionary[IReactorTime, _Queue] = WeakKeyDictionary()


def inLaterTurn(clock: IReactorTime, work: Work) -> None:
    """
    Call a function once, in a later turn of the reactor, when it is its turn.

    @param clock: the reactor; all that waits on it shares the time.
    @param work: does a piece of work until the time that it is called with, and calls this again if there is more. What
        it raises is logged.
    """
    queue = _queues.get(clock)
    if queue is None:
        queue = _queues[clock] = _Queue()
    queue.add(clock, work)
