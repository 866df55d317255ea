"""
What ends, ends whole: each step of an end runs whatever another one raised, and no end runs inside another.

docs/architecture/ends.md.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()

CLOSE_TIMEOUT = 3.0
"""
Seconds from the end of a connection, as far as we are concerned, until it is aborted.

Time for a slow network to carry a last answer or a close frame; a client that has gone, or doesn't read, or, over TLS,
doesn't say goodbye, must not keep a socket open.
"""

GRACE = 0.1
"""Seconds that what was aborted has to be gone. A connection takes a turn of the reactor for it, with TLS two."""

ROOM = 200
"""Levels of the stack that the steps of an end may take, without what handlers do."""

LEAST_ROOM = 60
"""Levels that it takes to begin an end, whose steps then run in another turn of the reactor."""


def hasRoom(levels: int = ROOM) -> bool:
    """Return whether the stack has room for so many calls inside each other."""
    try:
        # Nearly always it is less than half full, even if each frame counts twice, as one does that is called from C.
        sys._getframe(max(0, sys.getrecursionlimit() - levels) // 2)
    except ValueError:
        return True
    try:
        _descend(levels)
    except RecursionError:
        return False
    return True


def _descend(levels: int) -> None:
    if levels > 0:
        _descend(levels - 1)


def needRoom(levels: int = LEAST_ROOM) -> None:
    """
    Raise before anything has changed if the stack has no room to begin an end.

    @raise RecursionError: as Python itself would, half way.
    """
    if not hasRoom(levels):
        raise RecursionError("the stack has no room to end anything")


def attempt(step: Callable[..., object], *args: Any, session: Any = None) -> bool:
    """
    Run a step of an end, and log what it raises, whatever that is.

    @param session: the session that ends, whose C{logName} goes into the log; None if it isn't one.
    @return: whether the step came to its end.
    """
    try:
        step(*args)
    except BaseException:
        _logFailure(step, Failure(), session)
        return False
    return True


def attemptLater(step: Callable[..., object], *args: Any) -> Deferred[None]:
    """
    Run a step of an end that may return a Deferred, and log what it raises or fails with.

    @return: a Deferred that fires when the step is over, and never fails.
    """

    def failed(failure: Failure) -> None:
        _logFailure(step, failure, None)

    return maybeDeferred(step, *args).addCallbacks(lambda _: None, failed)


def alsoWhen(deferred: Deferred[Any]) -> Deferred[None]:
    """Return another Deferred that fires when one does, which never fails."""
    waiting: Deferred[None] = Deferred()

    def fire(result: object) -> object:
        waiting.callback(None)
        return result

    deferred.addCallback(fire)
    return waiting


def _logFailure(step: Callable[..., object], failure: Failure, session: Any) -> None:
    # A log that fails is no reason to skip the other steps either.
    with suppress(BaseException):
        name = getattr(step, "__qualname__", None) or repr(step)
        known = None if session is None else session.logName
        what = "the server" if known is None else f"session {known}"
        _log.failure("{step} failed while {what} ended", failure, step=name, what=what, session=known)


class Ends:
    """
    The ends of all sessions of a server: a queue of their steps.

    An end that begins while another one runs waits for it. So sessions that close each other take one level of the
    stack, however many they are. If the stack is nearly full, the steps run in the next turn of the reactor, so that
    none of them fails for want of room.

    @param clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Each session with the steps that are left of its end.
        self._steps: deque[tuple[Any, Iterator[Callable[[Any], object]]]] = deque()
        self._isRunning = False
        # What runs them in the next turn.
        self._call: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    def needRoom(self, more: int = 0) -> None:
        """
        Raise if the stack has no room to begin an end: call this before anything of it has changed.

        @param more: levels that are between the caller and the last end that it begins.
        @raise RecursionError: it has none.
        """
        needRoom(LEAST_ROOM + more)

    def add(self, session: Any, steps: Iterable[Callable[[Any], object]]) -> None:
        """
        Queue the steps of an end.

        @param session: what each step is called with. Its C{logName} is its name in a log.
        """
        self._steps.append((session, iter(steps)))

    def run(self) -> None:
        """Run the queued steps, unless they are being run; in the next turn if the stack is nearly full."""
        if self._isRunning:
            return
        if hasRoom():
            self._run()
        else:
            self._runLater()

    def _run(self) -> None:
        self._isRunning = True
        steps = self._steps
        try:
            while steps:
                session, left = steps[0]
                for step in left:
                    try:
                        step(session)
                    except BaseException:
                        _logFailure(step, Failure(), session)
                steps.popleft()
        finally:
            self._isRunning = False
            if steps:
                self._runLater()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _runLater(self) -> None:
        if self._call is None:
            self._call = self._clock.callLater(0, self._runNow)

    def _runNow(self) -> None:
        self._call = None
        if not self._isRunning:
            self._run()

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when no end is being run."""
        deferred: Deferred[None] = Deferred()
        if self._isRunning or self._steps:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred


class Deadline:
    """
    A wait that ends: when all that is waited for is over, or soon after a deadline.

    @param clock: an C{IReactorTime}.
    @param abort: called at the deadline, to abort what is left. That has L{GRACE} seconds to be gone.
    @param whatIsLeft: returns what is left, for the log, when it isn't waited for any more.
    @ivar over: a Deferred that fires at the end of the wait.
    """

    def __init__(self, clock: IReactorTime, abort: Callable[[], object], whatIsLeft: Callable[[], str]) -> None:
        self._clock = clock
        self._abort = abort
        self._whatIsLeft = whatIsLeft
        self._call: IDelayedCall | None = None
        self._pending = 0
        self._isAborting = False
        self.over: Deferred[None] = Deferred()

    def setTime(self, deadline: float) -> None:
        """
        Set the deadline, unless it is set to an earlier time already.

        @param deadline: seconds, by the clock.
        """
        if self._isAborting or self.over.called:
            return
        if self._call is not None:
            if self._call.getTime() <= deadline:
                return
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, deadline - self._clock.seconds()), self._due)

    def waitFor(self, deferreds: Iterable[Deferred[Any]]) -> None:
        """Wait for some Deferreds too, each of which takes its failures along into the log."""
        waited = [*deferreds]
        self._pending += len(waited)
        for each in waited:
            each.addErrback(lambda failure: _logFailure(self.waitFor, failure, None)).addBoth(self._oneOver)

    def _oneOver(self, _: object) -> None:
        self._pending -= 1
        if not self._pending:
            self._end()

    def _end(self) -> None:
        if not self.over.called:
            if self._call is not None and self._call.active():
                self._call.cancel()
            self.over.callback(None)

    def _due(self) -> None:
        self._isAborting = True
        # First: what is aborted may be gone at once.
        self._call = self._clock.callLater(GRACE, self._giveUp)
        attempt(self._abort)

    def _giveUp(self) -> None:
        attempt(self._logWhatIsLeft)
        self._end()

    def _logWhatIsLeft(self) -> None:
        _log.error("Not waited for any more: {what}", what=self._whatIsLeft())


ConnectionT = TypeVar("ConnectionT")


class Connections(Generic[ConnectionT]):
    """The connections of one kind that are open, and a way to wait until none is."""

    def __init__(self) -> None:
        self._open: set[ConnectionT] = set()
        self._waiting: list[Deferred[None]] = []

    def __iter__(self) -> Iterator[ConnectionT]:
        # A copy: a loop over them may close them.
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: ConnectionT) -> None:
        """Count a connection in."""
        self._open.add(connection)

    def remove(self, connection: ConnectionT) -> None:
        """Count a connection out; one that isn't in is no error."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def abort(self) -> None:
        """Abort every connection: each has an C{abort}."""
        for each in self:
            attempt(each.abort)  # type: ignore[attr-defined]

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when no connection is open."""
        deferred: Deferred[None] = Deferred()
        if self._open:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred
