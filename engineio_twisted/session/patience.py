"""How long a client is waited for that is late with its heartbeat. docs/architecture.md, "The states of a session"."""

from __future__ import annotations

ARRIVING_TIMEOUT = 30.0
"""Seconds by which a session may be overdue while a message of its client's is arriving."""

QUIET_TIME = 5.0
"""Seconds in which nothing arrives of a message, after which it isn't waited for."""

STEP = 1.0
"""Seconds between two looks at a message that is arriving."""

GRACE = 5.0
"""Seconds that a client has at least, once, when receiving goes on: what it sent meanwhile was held up on its side."""


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
    hasBegunAnew: bool
    isOverdue: bool
    until: float

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
