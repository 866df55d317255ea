"""Acknowledgements that an application waits for: of one socket, or of all that an event went to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from .. import DeadlineQueue
from .errors import AckTimeout, Disconnected, DisconnectReason


def resultOf(arguments: list[Any]) -> Any:
    """Return what an acknowledgement is for the application: None, its only argument, or a tuple of several."""
    if len(arguments) == 1:
        return arguments[0]
    return tuple(arguments) if arguments else None


class AckTimeouts:
    """
    The deadlines of all acknowledgements that are waited for: one timer for each number of milliseconds in use.

    @param clock: the time of the server, an C{IReactorTime}.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._queues: dict[float, DeadlineQueue] = {}

    def add(self, milliseconds: float, pending: Any) -> None:
        """Call C{timedOut} of something in a while, unless it is removed before."""
        queue = self._queues.get(milliseconds)
        if queue is None:
            queue = self._queues[milliseconds] = DeadlineQueue(self._clock, milliseconds / 1000, self._due)
        queue.add(pending)

    def remove(self, milliseconds: float, pending: Any) -> None:
        """Wait for something no more."""
        queue = self._queues.get(milliseconds)
        if queue is not None:
            queue.remove(pending)
            if not len(queue):
                # The application may choose another time for each.
                del self._queues[milliseconds]

    def _due(self, pending: Any) -> None:
        pending.timedOut()


class PendingAck:
    """
    The acknowledgement of one socket.

    @param socket: the L{Socket}.
    @ivar deferred: fires with the answer.
    """

    __slots__ = ("_id", "_milliseconds", "_socket", "_timeouts", "deferred")

    def __init__(self, socket: Any, ackId: int, milliseconds: float | None, timeouts: AckTimeouts) -> None:
        self._socket = socket
        self._id = ackId
        self._milliseconds = milliseconds
        self._timeouts = timeouts
        self.deferred: Deferred[Any] = Deferred(self._cancelled)
        if milliseconds is not None:
            timeouts.add(milliseconds, self)

    def _stop(self) -> None:
        if self._milliseconds is not None:
            self._timeouts.remove(self._milliseconds, self)

    def answered(self, socket: Any, arguments: list[Any]) -> None:
        """Called when the socket has acknowledged the event."""
        self._stop()
        self.deferred.callback(resultOf(arguments))

    def lost(self, socket: Any, reason: DisconnectReason) -> None:
        """Called when the socket has ended."""
        self._stop()
        self.deferred.errback(Disconnected(reason))

    def timedOut(self) -> None:
        """Called when the time is over."""
        self._stop()
        socket = self._socket
        socket._forgetAck(self._id)
        problem = f"the client did not acknowledge the event within {self._milliseconds:g} ms"
        self.deferred.errback(AckTimeout(problem, missing=[socket.id]))

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._stop()
        self._socket._forgetAck(self._id)


class BroadcastAck:
    """
    The acknowledgements of several sockets.

    @param ackId: the one id that all of them answer with.
    @param sockets: those who got the event, by id.
    @param missing: ids of those who won't answer.
    @ivar deferred: fires with the list of answers.
    """

    __slots__ = ("_answers", "_id", "_milliseconds", "_missing", "_timeouts", "_waiting", "deferred")

    def __init__(
        self,
        ackId: int,
        sockets: Mapping[str, Any],
        missing: Collection[str],
        milliseconds: float | None,
        timeouts: AckTimeouts,
    ) -> None:
        self._id = ackId
        self._waiting = dict(sockets)
        self._missing = [*missing]
        self._answers: list[Any] = []
        self._milliseconds = milliseconds
        self._timeouts = timeouts
        self.deferred: Deferred[list[Any]] = Deferred(self._cancelled)
        if milliseconds is not None:
            timeouts.add(milliseconds, self)
        for each in self._waiting.values():
            each._expectAck(ackId, self)
        self._look()

    def answered(self, socket: Any, arguments: list[Any]) -> None:
        """Called when a socket has acknowledged the event."""
        del self._waiting[socket.id]
        self._answers.append(resultOf(arguments))
        self._look()

    def lost(self, socket: Any, reason: DisconnectReason) -> None:
        """Called when a socket has ended."""
        del self._waiting[socket.id]
        self._missing.append(socket.id)
        self._look()

    def _look(self) -> None:
        if self._waiting:
            return
        self._stop()
        if self._missing:
            self._fail("ended, or had to wait for a volatile event")
        else:
            self.deferred.callback(self._answers)

    def timedOut(self) -> None:
        """Called when the time is over."""
        self._missing += self._waiting
        self._stop()
        self._fail(f"did not acknowledge the event within {self._milliseconds:g} ms")

    def _fail(self, what: str) -> None:
        count, of = len(self._missing), len(self._missing) + len(self._answers)
        self.deferred.errback(AckTimeout(f"{count} of {of} clients {what}", self._answers, self._missing))

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._milliseconds is not None:
            self._timeouts.remove(self._milliseconds, self)
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each._forgetAck(self._id)


Pending = PendingAck | BroadcastAck
