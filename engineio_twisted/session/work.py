"""What an application begins for a session and ends with it: calls, loops, coroutines; and Deferreds of its end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import cached_property, partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from ..clock import cancel
from ..protocol.errors import CloseReason
from .emitter import CANCELLED
from .events import SocketEvents
from .states import ReadyState

Work = Coroutine[Any, Any, Any] | Deferred[Any]

ReasonT = TypeVar("ReasonT", bound=str)

FEW = 16
"""Calls to have before it is worth a look which of them were cancelled."""


class FailureReceiver(Protocol):
    """The receiver of failures of work, such as an L{EventEmitter}."""

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Called with what the work raised, by the name that it fails by, and no arguments."""
        ...


class SessionWork(Generic[ReasonT]):
    """
    The work of one session, which is stopped when the session ends: calls, loops, coroutines and Deferreds.

    Each L{Socket} makes one for the first of it. A layer with sessions of its own may have one for each of those, and
    calls L{stop} and then L{closed} when one ends.

    @param owner: what has a C{handlerFailed}, such as an L{EventEmitter}: it is called with what fails.
    @param clock: the time by which functions are called, such as L{Server.clock}.
    @ivar isOver: whether it was stopped; then nothing begins any more. May be set on one that is made too late.
    """

    isOver: bool = False

    def __init__(self, owner: FailureReceiver, clock: IReactorTime) -> None:
        self._owner = owner
        self._clock = clock
        self._calls: set[IDelayedCall] = set()
        self._mostCalls = FEW
        self._loops: set[LoopingCall] = set()
        self._pending: set[Deferred[Any]] = set()
        # In the order of asking, as a set has none.
        self._waiting: dict[Deferred[ReasonT], None] = {}

    def whenClosed(self) -> Deferred[ReasonT]:
        """Return a Deferred that L{closed} fires; cancelling it changes no other."""
        deferred: Deferred[ReasonT] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[deferred] = None
        return deferred

    def follow(self, work: Work, what: str = "follow") -> Deferred[Any]:
        """
        Follow work until it is over, or the session is.

        @param what: by which name it fails.
        @raise TypeError: it is neither a coroutine nor a Deferred.
        """
        if inspect.iscoroutine(work):
            if self.isOver:
                # Otherwise Python would complain that it was never awaited.
                work.close()
                nothing: Deferred[Any] = Deferred()
                nothing.callback(None)
                return nothing
            work = Deferred.fromCoroutine(work)
        if not isinstance(work, Deferred):
            raise TypeError(f"{work!r} can't be followed: expected a coroutine or a Deferred")
        return self._bind(work).addErrback(self._failed, what)

    def callLater(self, seconds: float, function: Callable[[], object]) -> IDelayedCall:
        """Call a function in some seconds, and follow what it returns."""

        def run() -> None:
            self._calls.discard(call)
            self.follow(maybeDeferred(function), "callLater")

        call = self._clock.callLater(_duration(seconds), run)
        if self.isOver:
            call.cancel()
            return call
        if len(self._calls) >= self._mostCalls:
            # Nobody says that one was cancelled.
            self._calls = {each for each in self._calls if each.active()}
            self._mostCalls = max(FEW, 2 * len(self._calls))
        self._calls.add(call)
        return call

    def callEvery(self, seconds: float, function: Callable[[], object], now: bool) -> LoopingCall:
        """Call a function again and again, each time after what it returned is over."""
        loop = LoopingCall(lambda: self._bind(maybeDeferred(function)))
        loop.clock = self._clock
        interval = _duration(seconds)
        if not self.isOver:
            self._loops.add(loop)

            def over(result: Any) -> Any:
                self._loops.discard(loop)
                return result

            loop.start(interval, now).addBoth(over).addErrback(self._failed, "callEvery")
        return loop

    def stop(self) -> None:
        """Stop all of it."""
        self.isOver = True
        for call in self._calls:
            cancel(call)
        self._calls.clear()
        for loop in tuple(self._loops):
            if loop.running:
                loop.stop()
        for each in tuple(self._pending):
            self._cancel(each)

    def closed(self, reason: ReasonT) -> None:
        """
        Fire the Deferreds of L{whenClosed}.

        @param reason: why the session has ended.
        """
        waiting = list(self._waiting)
        self._waiting.clear()
        for each in waiting:
            # A callback may cancel others.
            if not each.called:
                each.callback(reason)

    def _bind(self, work: Deferred[Any]) -> Deferred[Any]:
        """Cancel a Deferred at the end."""
        self._pending.add(work)

        def over(result: Any) -> Any:
            self._pending.discard(work)
            return result

        work.addBoth(over)
        if self.isOver:
            # It was the beginning of this work that ended the session.
            self._cancel(work)
        return work

    def _cancel(self, work: Deferred[Any]) -> None:
        try:
            work.cancel()
        except BaseException:
            self._owner.handlerFailed("canceller", (), Failure())

    def _failed(self, failure: Failure, what: str) -> None:
        if not failure.check(*CANCELLED):
            self._owner.handlerFailed(what, (), failure)


def _duration(seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError(f"{seconds!r} seconds: expected 0 or more")
    return seconds


class WorkOwner(SocketEvents):
    """The half of a session to which an application gives what ends with it, or is to be remembered with it."""

    # An ISessionHost.
    _host: Any
    _readyState: ReadyState
    _ending: Any
    # While the application has begun something.
    _work: SessionWork[CloseReason] | None = None

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the application wants to remember of the session, which is its own affair; empty at first."""
        return {}

    def whenClosed(self) -> Deferred[CloseReason]:
        """
        Return a Deferred of the reason why the session ends, one for each call; cancelling it changes no other.

        It fires after the handlers of C{close}; at once, if the session has ended already.
        """
        if self._ending is not None and self._ending.isOver:
            return succeed(self._ending.reason)
        return self._workOfSession().whenClosed()

    def follow(self, work: Work) -> Deferred[Any]:
        """
        Run a coroutine, or follow a Deferred, as long as the session lasts; it is cancelled when that ends.

        What it raises is logged with the session, and emitted as C{error}. When the session has ended already, a
        coroutine isn't begun, and a Deferred is cancelled.

        @return: a Deferred of what comes of it, or of None if it failed or was cancelled. Cancelling this one
            cancels the work. Of a Deferred it is that one itself.
        @raise TypeError: it is neither.
        """
        return self._workOfSession().follow(work)

    def callLater(self, seconds: float, function: Callable[..., object], *args: Any, **keywords: Any) -> IDelayedCall:
        """
        Call a function in a while, as the reactor's C{callLater} does, unless the session ends before.

        What it returns is followed, as by L{follow}. When the session has ended already, what is returned is cancelled.

        @param seconds: in how many, by the clock of the server.
        @raise ValueError: the seconds are negative.
        """
        return self._workOfSession().callLater(seconds, partial(function, *args, **keywords))

    def callEvery(self, seconds: float, function: Callable[..., object], *args: Any, now: bool = False) -> LoopingCall:
        """
        Call a function again and again until the session ends.

        A coroutine or a Deferred that it returns is waited for, and cancelled when the session ends. What it raises
        ends the loop, is logged with the session, and emitted as C{error}. When the session has ended already, what is
        returned doesn't run.

        @param seconds: from one call to the next, by the clock of the server.
        @param now: whether it is called for the first time at once.
        @return: what runs it, which can be stopped.
        @raise ValueError: the seconds are negative.
        """
        return self._workOfSession().callEvery(seconds, partial(function, *args), now)

    def _workOfSession(self) -> SessionWork[CloseReason]:
        if self._work is None:
            self._work = SessionWork(self, self._host.clock)
            self._work.isOver = self._readyState is ReadyState.CLOSED
        return self._work
