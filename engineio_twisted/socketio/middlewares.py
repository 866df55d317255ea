"""Middlewares of the events of one socket, which keep the order of the events even if they take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .listeners import deferredOf


class EventMiddlewares:
    """
    The middlewares of one socket, and the events that wait for them; made when C{socket.use} is called first.

    @param socket: the L{Socket}.
    @param most: how many events may wait before the client is held back.
    """

    __slots__ = ("_functions", "_isPaused", "_most", "_running", "_socket", "_waiting")

    def __init__(self, socket: Any, most: int) -> None:
        self._socket = socket
        self._most = most
        self._functions: tuple[Callable[[str, list[Any]], object], ...] = ()
        self._waiting: deque[tuple[str, list[Any], int | None]] = deque()
        self._running: Deferred[None] | None = None
        self._isPaused = False

    def add(self, function: Callable[[str, list[Any]], object]) -> None:
        """Call a function with each event, behind those added before."""
        self._functions = (*self._functions, function)

    def receive(self, event: str, arguments: list[Any], ackId: int | None) -> None:
        """Pass an event through the middlewares, behind those that came before, and let it be handled then."""
        self._waiting.append((event, arguments, ackId))
        if self._running is None:
            running = self._running = Deferred.fromCoroutine(self._run())
            running.addErrback(self._failed)
            if running.called:
                self._running = None
            else:
                # It owes the acknowledgement of its event.
                self._socket.namespace.io.watch(running)
        elif len(self._waiting) >= self._most and not self._isPaused:
            self._isPaused = True
            self._socket.conn.pauseReceiving()

    async def _run(self) -> None:
        waiting = self._waiting
        while waiting:
            event, arguments, ackId = waiting.popleft()
            if await self._passes(event, arguments):
                self._socket._dispatch([event, *arguments], ackId)
            if self._isPaused and len(waiting) <= self._most // 2:
                self._goOn()
        self._running = None

    async def _passes(self, event: str, arguments: list[Any]) -> bool:
        """Call the middlewares with an event, and return whether none stopped it."""
        for each in self._functions:
            try:
                deferred = deferredOf(each(event, arguments))
                if deferred is not None:
                    await deferred
            except BaseException:
                if self._socket.connected:
                    self._socket._middlewareRaised(event, Failure())
                return False
            if not self._socket.connected:
                return False
        return True

    def _failed(self, failure: Failure) -> None:
        self._running = None
        if self._socket.connected:
            self._socket.handlerFailed("use", (), failure)

    def stop(self) -> None:
        """Drop what waits: the socket has ended."""
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()
        self._goOn()

    def _goOn(self) -> None:
        if self._isPaused:
            self._isPaused = False
            self._socket.conn.resumeReceiving()
