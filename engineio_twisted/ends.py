"""
What ends, ends whole: each step of an end runs whatever another one raised, and no end runs inside another.

docs/architecture.md, "Ends".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


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
    stack, however many they are.

    @param clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._steps: deque[tuple[Any, Callable[[Any], object]]] = deque()
        self._isRunning = False
        self._waiting: list[Deferred[None]] = []

    def add(self, session: Any, steps: Iterable[Callable[[Any], object]]) -> None:
        """
        Queue the steps of an end.

        @param session: what each step is called with. Its C{logName} is its name in a log.
        """
        self._steps.extend([(session, each) for each in steps])

    def run(self) -> None:
        """Run what is queued, unless that happens already."""
        if self._isRunning:
            return
        self._isRunning = True
        steps = self._steps
        try:
            while steps:
                session, step = steps.popleft()
                try:
                    step(session)
                except BaseException:
                    _logFailure(step, Failure(), session)
        finally:
            self._isRunning = False
            if steps:
                # No room on the stack, not even for what logs. The next turn has a stack of its own.
                self._clock.callLater(0, self.run)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when no end is being run."""
        deferred: Deferred[None] = Deferred()
        if self._isRunning or self._steps:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred
