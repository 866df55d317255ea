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

from .options import ServerOptions
from .transport import cancel

AT_ONCE = 256
"""
Sessions that are told in one turn of the reactor; where more are due, others are served in between.

With many sessions it is a part of them, or a server whose turns are long would never get round.
"""

PARTS = 64

MILLISECOND = 0.001
"""What the protocol counts in: sessions that begin to wait in the same one may be due at the same time."""

# What comes of adding to numbers as large as the reactor's.
_ROUNDING = 1e-6


class Beating(Protocol):
    """What has a heartbeat."""

    def heartbeatDue(self) -> None:
        """Learn that it has waited for as long as it may."""
        ...


class Wait(Protocol):
    """Sessions that wait for the same."""

    def add(self, session: Beating) -> None:
        """Have a session wait, which doesn't yet. It is told when the time is over, and doesn't wait any more then."""
        ...

    def remove(self, session: Beating) -> None:
        """Let a session wait no longer."""
        ...


class Queue:
    """
    Sessions in the order in which they began to wait, which is the one in which they are due.

    The reactor has one call for all of them, of which a session that comes or goes in between changes nothing.

    @param seconds: how long each waits.
    """

    _log = Logger()

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
                del self._due[session]
                try:
                    session.heartbeatDue()
                except Exception:
                    # Whatever it is, the others are to be told too.
                    self._log.failure("A heartbeat failed")
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


class Calls:
    """The same with a call of the reactor for each session."""

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._calls: dict[Beating, IDelayedCall] = {}

    def add(self, session: Beating) -> None:
        self._calls[session] = self._clock.callLater(self._seconds, self._due, session)

    def remove(self, session: Beating) -> None:
        self._calls.pop(session).cancel()

    def _due(self, session: Beating) -> None:
        del self._calls[session]
        session.heartbeatDue()


class Heartbeats:
    """
    The heartbeats of all sessions of a server.

    @ivar resting: where a session waits for its next ping.
    @ivar awaiting: where it waits for a pong.
    @ivar listening: where it waits for the client's ping.
    """

    def __init__(self, options: ServerOptions, clock: IReactorTime) -> None:
        make: Callable[[IReactorTime, float], Wait] = Queue if options.fastPaths.heartbeats else Calls
        self.resting = make(clock, options.pingInterval / 1000)
        self.awaiting = make(clock, options.pingTimeout / 1000)
        self.listening = make(clock, (options.pingInterval + options.pingTimeout) / 1000)
