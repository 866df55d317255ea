"""Requests to other processes, and the answers that have come. docs/architecture/socketio.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from .remote_messages import Answer, InvalidMessage

MAX_ITEMS = 1_000_000
"""Items of the answers to one request, together."""


class Request:
    """
    A request that waits.

    @ivar id: its number, which its answers have.
    @ivar waiting: the processes that have not answered.
    @ivar items: what was read of the answers.
    @ivar failed: how many processes said that they can't answer.
    @ivar deferred: fires with the items and with how many processes did not answer.
    """

    __slots__ = ("call", "deferred", "failed", "id", "items", "read", "waiting")

    def __init__(
        self,
        id: int,  # noqa: A002
        waiting: set[str],
        read: Callable[[dict[str, Any]], Any],
        cancelled: Callable[[Request], None],
    ) -> None:
        self.id = id
        self.waiting = waiting
        self.read = read
        self.items: list[Any] = []
        self.failed = 0
        self.call: IDelayedCall | None = None
        self.deferred: Deferred[tuple[list[Any], int]] = Deferred(lambda _: cancelled(self))


class Requests:
    """
    The requests that wait.

    @param clock: an C{IReactorTime}.
    @param invalid: called with a text for each item that was ignored.
    @ivar timeouts: how many requests a process did not answer.
    """

    def __init__(self, clock: Any, invalid: Callable[[str], object]) -> None:
        self._clock = clock
        self._invalid = invalid
        self._requests: dict[int, Request] = {}
        self._last = 0
        self.timeouts = 0

    def __len__(self) -> int:
        return len(self._requests)

    def begin(self, processes: Iterable[str], seconds: float | None, read: Callable[[dict[str, Any]], Any]) -> Request:
        """
        Begin to wait for answers.

        @param seconds: how long; None for as long as the processes are there.
        @param read: called with each item, returns what it is for. It raises L{InvalidMessage} if it is nothing.
        """
        self._last += 1
        request = self._requests[self._last] = Request(self._last, set(processes), read, self.forget)
        if seconds is not None:
            request.call = self._clock.callLater(seconds, self._end, request)
        return request

    def forget(self, request: Request) -> None:
        """Wait for answers no more."""
        self._requests.pop(request.id, None)
        if request.call is not None and request.call.active():
            request.call.cancel()

    def answered(self, answer: Answer) -> None:
        """
        Called with each part of an answer. One that nobody waits for is ignored.

        @raise InvalidMessage: there is too much of it.
        """
        request = self._requests.get(answer.id)
        if request is None or answer.host not in request.waiting:
            return
        if len(request.items) + len(answer.items) > MAX_ITEMS:
            raise InvalidMessage("too many items of an answer")
        for each in answer.items:
            try:
                request.items.append(request.read(each))
            except InvalidMessage as error:
                self._invalid(str(error))
        if answer.failed:
            request.failed += 1
        if answer.isLast:
            request.waiting.remove(answer.host)
            self._look(request)

    def processGone(self, host: str) -> None:
        """Called when a process is gone: it won't answer."""
        for request in [*self._requests.values()]:
            # Who hears of one may cancel another.
            if host in request.waiting and request.id in self._requests:
                request.waiting.remove(host)
                request.failed += 1
                self._look(request)

    def _look(self, request: Request) -> None:
        if not request.waiting:
            self._end(request)

    def _end(self, request: Request) -> None:
        self.forget(request)
        absent = request.failed + len(request.waiting)
        if absent:
            self.timeouts += 1
        request.deferred.callback((request.items, absent))
