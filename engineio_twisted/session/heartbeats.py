"""
When the heartbeats of sessions are due. docs/architecture.md, "The states of a session".

A session waits for its next ping, for a pong or for a ping of the client's, each for a time that is the same in all
sessions of a server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..clock import TURNS, AfterReading, cancel
from ..protocol.options import ServerOptions

_log = Logger()

MAX_PER_TURN = 256
"""
Heartbeats in one turn of the reactor; if more are due, others are served in between.

With very many sessions it is C{1 / MIN_FRACTION} of them, or a server whose turns are long would fall behind.
"""

MIN_FRACTION = 64
"""In how many turns the heartbeats of all sessions get their turn, at most."""

MILLISECOND = 0.001
"""What the protocol counts in: sessions that begin to wait in the same one may be due at the same time."""

PER_TURN = 64
"""Sessions whose connections are read in a turn of the reactor, at least."""

# What comes of adding to numbers as large as the reactor's.
_ROUNDING = 1e-6


class Beating(Protocol):
    """The heartbeat of a session."""

    def heartbeatDue(self) -> None:
        """Called when its time is over."""
        ...


class HeartbeatTimer(Protocol):
    """
    The heartbeats of sessions that wait for the same.

    @ivar late: by how many seconds the one that is being called is late.
    """

    late: float

    def add(self, heartbeat: Beating) -> None:
        """Add one that doesn't wait. It is called when its time is over, and waits no longer then."""
        ...

    def left(self, heartbeat: Beating) -> float:
        """Return how many seconds one that waits has left; 0 if it is overdue."""
        ...

    def remove(self, heartbeat: Beating) -> None:
        """Remove one that waits."""
        ...


def _call(heartbeat: Beating) -> None:
    try:
        heartbeat.heartbeatDue()
    except BaseException:
        # Whatever it is, the others are to be called too.
        _log.failure("A heartbeat failed")


class HeartbeatQueue:
    """
    Heartbeats in the order in which they began to wait, which is the one in which they are due.

    The reactor has one timer for all of them. One that comes or goes in between doesn't change it.

    @param seconds: how long each waits.
    """

    late = 0.0

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._due: OrderedDict[Beating, float] = OrderedDict()
        # One number for all that are due at the same time, and not one in each session.
        self._newest = 0.0
        self._same = min(MILLISECOND, seconds / 2)
        self._call: IDelayedCall | None = None

    def add(self, heartbeat: Beating) -> None:
        due = self._clock.seconds() + self._seconds
        if not 0 <= due - self._newest < self._same:
            if due < self._newest:
                self._clockWentBack(due)
            self._newest = due
        self._due[heartbeat] = self._newest
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._look)

    def _clockWentBack(self, due: float) -> None:
        """Let none be due later than one that comes now: the reactor goes by a clock that may be set."""
        for heartbeat, before in self._due.items():
            self._due[heartbeat] = min(before, due)
        self._arm()

    def __len__(self) -> int:
        return len(self._due)

    def left(self, heartbeat: Beating) -> float:
        return max(0.0, self._due[heartbeat] - self._clock.seconds())

    def remove(self, heartbeat: Beating) -> None:
        del self._due[heartbeat]
        if not self._due:
            cancel(self._call)
            self._call = None

    def _look(self) -> None:
        """Call those that are due, and set the timer for the next one."""
        now = self._clock.seconds()
        try:
            for _ in range(max(MAX_PER_TURN, len(self._due) // MIN_FRACTION)):
                if not self._due:
                    break
                heartbeat, due = next(iter(self._due.items()))
                if due - now > _ROUNDING:
                    break
                self.late = now - due
                del self._due[heartbeat]
                _call(heartbeat)
        finally:
            self._arm()

    def _arm(self) -> None:
        """Set the timer for the first that is due."""
        # There may be one for one that has begun to wait meanwhile, which is too late for those before it.
        cancel(self._call)
        self._call = None
        for due in self._due.values():
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
            break


class Reading:
    """
    Heartbeats that are overdue, until the reactor has read what came before they were.

    @param reading: what counts the turns of the reactor.
    @param count: returns how many sessions there are.
    """

    late = 0.0

    def __init__(self, reading: AfterReading, count: Callable[[], int]) -> None:
        self._reading = reading
        self._count = count
        self._calls: dict[Beating, IDelayedCall] = {}

    def add(self, heartbeat: Beating) -> None:
        turns = TURNS + self._count() // PER_TURN
        self._calls[heartbeat] = self._reading.call(self._read, heartbeat, turns=turns)

    def left(self, heartbeat: Beating) -> float:
        return 0.0

    def remove(self, heartbeat: Beating) -> None:
        self._calls.pop(heartbeat).cancel()

    def _read(self, heartbeat: Beating) -> None:
        del self._calls[heartbeat]
        _call(heartbeat)


class Heartbeats:
    """
    The heartbeats of all sessions of a server.

    @ivar resting: where a session waits for its next ping.
    @ivar awaiting: where it waits for a pong.
    @ivar listening: where it waits for the client's ping.
    @ivar reading: where one that is overdue waits until the reactor has read.
    @ivar timeouts: what else ends by timeout, when the reactor has read.
    """

    def __init__(self, options: ServerOptions, clock: IReactorTime) -> None:
        self.resting = HeartbeatQueue(clock, options.pingInterval / 1000)
        self.awaiting = HeartbeatQueue(clock, options.pingTimeout / 1000)
        self.listening = HeartbeatQueue(clock, (options.pingInterval + options.pingTimeout) / 1000)
        self.timeouts = AfterReading(clock)
        self.reading = Reading(self.timeouts, self._count)

    def _count(self) -> int:
        return len(self.resting) + len(self.awaiting) + len(self.listening)
