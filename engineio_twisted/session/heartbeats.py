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

AT_ONCE = 256
"""
Sessions that are told in one turn of the reactor; where more are due, others are served in between.

With many sessions it is a part of them, or a server whose turns are long would never get round.
"""

PARTS = 64

MILLISECOND = 0.001
"""What the protocol counts in: sessions that begin to wait in the same one may be due at the same time."""

STOOD_STILL = 1.0
"""Seconds by which a reactor is late that stood still: what clients sent meanwhile may need some time to arrive."""

ARRIVING_TIMEOUT = 30.0
"""Seconds by which a session may be overdue while a message of its client's is arriving."""

QUIET_TIME = 5.0
"""Seconds in which nothing arrives of a message, after which it isn't waited for."""

STEP = 1.0
"""Seconds between two looks at a message that is arriving."""

GRACE = 5.0
"""Seconds that a client has at least, once, when receiving goes on: what it sent meanwhile was held up on its side."""

PER_TURN = 64
"""Sessions whose connections are read in a turn of the reactor, at least."""

# What comes of adding to numbers as large as the reactor's.
_ROUNDING = 1e-6


class Beating(Protocol):
    """What has a heartbeat."""

    def heartbeatDue(self) -> None:
        """Learn that it has waited for as long as it may."""
        ...


class Wait(Protocol):
    """
    Sessions that wait for the same.

    @ivar late: how many seconds late those are told that are being told.
    """

    late: float

    def add(self, session: Beating) -> None:
        """Have a session wait, which doesn't yet. It is told when the time is over, and doesn't wait any more then."""
        ...

    def left(self, session: Beating) -> float:
        """Return how many seconds a session that waits has left; 0 if it is overdue."""
        ...

    def remove(self, session: Beating) -> None:
        """Let a session wait no longer."""
        ...


def _tell(session: Beating) -> None:
    try:
        session.heartbeatDue()
    except BaseException:
        # Whatever it is, the others are to be told too.
        _log.failure("A heartbeat failed")


class Queue:
    """
    Sessions in the order in which they began to wait, which is the one in which they are due.

    The reactor has one call for all of them, of which a session that comes or goes in between changes nothing.

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

    def add(self, session: Beating) -> None:
        due = self._clock.seconds() + self._seconds
        if not 0 <= due - self._newest < self._same:
            if due < self._newest:
                self._clockWentBack(due)
            self._newest = due
        self._due[session] = self._newest
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._look)

    def _clockWentBack(self, due: float) -> None:
        """Have nobody be due later than one that comes now: the reactor goes by a clock that may be set."""
        for session, before in self._due.items():
            self._due[session] = min(before, due)
        self._arm()

    def __len__(self) -> int:
        return len(self._due)

    def left(self, session: Beating) -> float:
        return max(0.0, self._due[session] - self._clock.seconds())

    def remove(self, session: Beating) -> None:
        del self._due[session]
        if not self._due:
            cancel(self._call)
            self._call = None

    def _look(self) -> None:
        """Tell the sessions that are due, and come back for the next one."""
        now = self._clock.seconds()
        try:
            for _ in range(max(AT_ONCE, len(self._due) // PARTS)):
                if not self._due:
                    break
                session, due = next(iter(self._due.items()))
                if due - now > _ROUNDING:
                    break
                self.late = now - due
                del self._due[session]
                _tell(session)
        finally:
            self._arm()

    def _arm(self) -> None:
        """Be called when the first is due."""
        # There may be a call for one that has begun to wait meanwhile, which is too late for those before it.
        cancel(self._call)
        self._call = None
        for due in self._due.values():
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
            break


class Reading:
    """
    Sessions that are overdue, until the reactor has read what came before they were.

    @param reading: what counts the turns of the reactor.
    @param count: returns how many sessions there are.
    """

    late = 0.0

    def __init__(self, reading: AfterReading, count: Callable[[], int]) -> None:
        self._reading = reading
        self._count = count
        self._calls: dict[Beating, IDelayedCall] = {}

    def add(self, session: Beating) -> None:
        turns = TURNS + self._count() // PER_TURN
        self._calls[session] = self._reading.call(self._read, session, turns=turns)

    def left(self, session: Beating) -> float:
        return 0.0

    def remove(self, session: Beating) -> None:
        self._calls.pop(session).cancel()

    def _read(self, session: Beating) -> None:
        del self._calls[session]
        _tell(session)


class Patience:
    """
    What is out of the ordinary in the time that a client has for its heartbeat: it is over, or stands still.

    It is over, and the session is not, as long as a message of the client's is arriving. It stands still while the
    application receives nothing.

    @ivar isOverdue: whether the time is over.
    @ivar hasBegunAnew: whether it had begun anew by then, as the client sent something else.
    @ivar until: when nothing is waited for any more, however often the time stands still for a moment.
    """

    __slots__ = (
        "_arriving",
        "_beatsFrom",
        "_hadGrace",
        "_isBehind",
        "_left",
        "_pausedAt",
        "_quietSince",
        "hasBegunAnew",
        "isOverdue",
        "until",
    )

    def __init__(self) -> None:
        self.isOverdue = self.hasBegunAnew = self._hadGrace = False
        self._isBehind: bool | None = None
        self._arriving: object = None
        self._quietSince = self.until = self._pausedAt = self._beatsFrom = 0.0
        self._left: float | None = None

    def end(self, now: float, arriving: object, hasBegunAnew: bool) -> None:
        """
        Called when the time is over.

        @param arriving: of the session's transport.
        """
        self.isOverdue = True
        self.hasBegunAnew = hasBegunAnew
        self._arriving = arriving
        self._quietSince = now
        self.until = now + ARRIVING_TIMEOUT

    def more(self, now: float, arriving: object, isHeard: bool) -> float:
        """
        Return for how many seconds more a client is waited for whose time is over; 0 if it isn't.

        @param arriving: of the session's transport.
        @param isHeard: whether a message has come since this was asked the last time.
        """
        if isHeard or arriving != self._arriving:
            self._arriving = arriving
            self._quietSince = now
        elif arriving is None:
            return 0.0
        return max(0.0, min(STEP, self.until - now, self._quietSince + QUIET_TIME - now))

    def mayBeBehind(self) -> bool:
        """
        Return whether the heartbeat may be behind what waited to be delivered when this was first asked.

        A client that sends on and on always has something that waits, which keeps its session no longer than that.
        """
        if self._isBehind is None:
            self._isBehind = True
        return self._isBehind

    def delivered(self) -> None:
        """Called when everything that waited was delivered."""
        if self._isBehind:
            self._isBehind = False

    def mayBeat(self, now: float, interval: float) -> bool:
        """
        Return whether the client may be sent a heartbeat to which no answer is expected, and take it as sent.

        An application that pauses and resumes all the time would send many.

        @param interval: seconds between two heartbeats.
        """
        if now < self._beatsFrom:
            return False
        self._beatsFrom = now + min(GRACE, interval / 2)
        return True

    def pause(self, now: float, left: float) -> None:
        """
        Stop the time. A second call does nothing.

        @param left: how many seconds the client has left.
        """
        if self._left is None:
            self._pausedAt = now
            self._left = left

    def resume(self, now: float, timeout: float) -> float | None:
        """
        Let the time go on.

        @param timeout: seconds that the client has in all.
        @return: how many seconds it has left; None if the time didn't stand still.
        """
        left, self._left = self._left, None
        if left is None:
            return None
        self._quietSince += now - self._pausedAt
        self.until += now - self._pausedAt
        grace = min(GRACE, timeout)
        if left < grace and not self._hadGrace:
            self._hadGrace = True
            return grace
        return left


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
        self.resting = Queue(clock, options.pingInterval / 1000)
        self.awaiting = Queue(clock, options.pingTimeout / 1000)
        self.listening = Queue(clock, (options.pingInterval + options.pingTimeout) / 1000)
        self.timeouts = AfterReading(clock)
        self.reading = Reading(self.timeouts, self._count)

    def _count(self) -> int:
        return len(self.resting) + len(self.awaiting) + len(self.listening)
