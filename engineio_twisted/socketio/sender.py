"""What a socket sends: events, acknowledgements it waits for, and to whom else (L{Socket})."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from .acks import Pending, PendingAck
from .errors import RESERVED_EVENTS, Disconnected, DisconnectReason
from .interfaces import Flags, Target
from .listeners import CatchAll, Listeners, deferredOf
from .operator import Broadcaster, Operator, SocketOperator, checkEvent, checkTimeout
from .packet import PacketType

if TYPE_CHECKING:
    from .interfaces import Encoded

_EVENT = PacketType.EVENT
_PLAIN = Flags()
_DEFAULT: Any = object()
"""In place of a timeout that isn't given."""

CANCELLED = (CancelledError, asyncio.CancelledError)
"""With what work fails that was cancelled; the second one if a task of asyncio was awaited."""


class State(Enum):
    """Where a socket is in its life."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    ENDED = "ended"


CONNECTED = State.CONNECTED


class Sender(Listeners):
    """The half of a socket that sends."""

    _log = Logger()
    # What few sockets have is made when it is needed.
    _acks: dict[int, Pending] | None = None
    # What a middleware does before the socket is connected, to be done then.
    _kept: list[Callable[[], object]] | None = None
    # Why it ended.
    _reason: DisconnectReason | None = None
    # With recovery, the number of the last event that was sent to it.
    lastSent: int = 0

    def __init__(self, namespace: Any, client: Any, id: str) -> None:  # noqa: A002
        self.namespace: Broadcaster = namespace
        # The same, with what the layer itself does to it.
        self._namespace: Any = namespace
        self.client: Any = client
        self.id = id
        self._state = State.CONNECTING
        # Asked for at each event, where a default of the class takes longer to find.
        self._outgoing: CatchAll | None = None

    @property
    def logName(self) -> str:
        """The beginning of its session's id, and its namespace, for logs."""
        return f"{self.client.conn.logName} in {self._namespace.name[:100]}"

    def _keep(self, what: Callable[[], object]) -> None:
        """Do something when the socket is connected; of one that has ended, nothing."""
        if self._state is State.CONNECTING:
            if self._kept is None:
                self._kept = []
            self._kept.append(what)

    def emit(self, event: str, *arguments: Any) -> None:  # type: ignore[override]
        """
        Send an event to the client. In a middleware, it is sent when the socket has joined. After the end, nothing is
        sent.

        @param arguments: values that JSON can carry, and bytes.
        @raise ReservedEvent: the name is reserved.
        @raise UnsendableValue: an argument cannot be sent.
        @raise BufferLimitExceeded: the buffer is full, and C{bufferLimitAction} is C{"raise"}.
        """
        namespace = self._namespace
        if (
            self._state is CONNECTED
            and self._outgoing is None
            and namespace.recovery is None
            and type(event) is str
            and event not in RESERVED_EVENTS
        ):
            # Nearly always.
            encoded = namespace.encode(_EVENT, namespace.name, None, [event, *arguments])
            if type(encoded) is list:
                self.client.conn.sendAll(encoded)
            else:
                self.client.conn.send(encoded)
            return
        self._emitWith(_PLAIN, event, arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to the client."""
        self.emit("message", *arguments)

    def _emitWith(self, flags: Flags, event: str, arguments: tuple[Any, ...]) -> None:
        """Send an event with flags, as L{emit}."""
        checkEvent(event)
        namespace = self._namespace
        data = [event, *arguments]
        if self._state is not CONNECTED:
            # What can't be sent is to be known here, and not later.
            namespace.encode(_EVENT, namespace.name, None, data)
            self._keep(partial(self._emitWith, flags, event, arguments))
            return
        if namespace.recovery is not None and not flags.volatile:
            encoded = namespace.recovery.record(data, Target(frozenset((self.id,)), flags=flags))
            self.lastSent = namespace.recovery.newest
        else:
            encoded = namespace.encode(_EVENT, namespace.name, None, data)
        self._transmitTold(encoded, flags, data)

    def _transmit(self, encoded: Encoded, flags: Flags = _PLAIN) -> None:
        """Send a packet that is encoded."""
        conn = self.client.conn
        if flags.volatile and not conn.isDrained:
            self._namespace.io.counters.volatileDropped += 1
        elif type(encoded) is list:
            conn.sendAll(encoded, compress=flags.compress)
        else:
            conn.send(encoded, compress=flags.compress)

    def _tellOutgoing(self, data: list[Any]) -> None:
        """Call the listeners of what is sent."""
        if self._outgoing is not None:
            for each in self._outgoing.listeners:
                self._callListener(each, data)

    def emitWithAck(self, event: str, *arguments: Any, timeout: float | None = _DEFAULT) -> Deferred[Any]:
        """
        Send an event, and await the client's acknowledgement.

        @param timeout: milliseconds to wait; None waits until the socket ends. The default is the option C{ackTimeout}.
        @return: a Deferred of None if the acknowledgement has no argument, of its one argument, or of a tuple of
            several. It fails with L{AckTimeout}, or with L{Disconnected} when the socket ends. Cancelling it forgets
            the acknowledgement.
        @raise ReservedEvent: the name is reserved.
        @raise UnsendableValue: an argument cannot be sent.
        """
        if timeout is _DEFAULT:
            return self._emitWithAckWith(_PLAIN, event, arguments)
        checkTimeout(timeout)
        return self._emitWithAckWith(Flags(timeout=float("inf") if timeout is None else timeout), event, arguments)

    def _emitWithAckWith(self, flags: Flags, event: str, arguments: tuple[Any, ...]) -> Deferred[Any]:
        """Send an event with flags, as L{emitWithAck}."""
        checkEvent(event)
        if self._reason is not None:
            return fail(Disconnected(self._reason))
        namespace = self._namespace
        ackId = namespace._newAckId()
        encoded = namespace.encode(_EVENT, namespace.name, ackId, [event, *arguments])
        pending = PendingAck(self, ackId, namespace.ackTimeout(flags), namespace.io.ackTimeouts)
        self._expectAck(ackId, pending)
        if self._state is State.CONNECTING:
            self._keep(partial(self._transmitTold, encoded, flags, [event, *arguments]))
            return pending.deferred
        try:
            self._transmitTold(encoded, flags, [event, *arguments])
        except BaseException:
            pending.deferred.addErrback(lambda _: None)
            pending.deferred.cancel()
            raise
        return pending.deferred

    def _transmitTold(self, encoded: Encoded, flags: Flags, data: list[Any]) -> None:
        """Tell the listeners of what is sent, and send an event that is encoded, unless one of them has ended this."""
        if self._outgoing is not None:
            self._tellOutgoing(data)
        if self._state is CONNECTED:
            self._transmit(encoded, flags)

    def _expectAck(self, ackId: int, pending: Pending) -> None:
        """Tell something of the acknowledgement with an id, or of the end."""
        if self._acks is None:
            self._acks = {}
        self._acks[ackId] = pending
        self._namespace.io.counters.acks += 1

    def _forgetAck(self, ackId: int) -> None:
        """Wait for an acknowledgement no more; one that isn't waited for is no error."""
        if self._acks is not None and self._acks.pop(ackId, None) is not None:
            self._namespace.io.counters.acks -= 1
            if not self._acks:
                self._acks = None

    # Operators

    @property
    def volatile(self) -> SocketOperator:
        """The socket, whose events are dropped if it would have to wait."""
        return SocketOperator(self, Flags(volatile=True))

    def compress(self, compress: bool) -> SocketOperator:
        """Return this socket, with or without compression."""
        return SocketOperator(self, Flags(compress=bool(compress)))

    def timeout(self, milliseconds: float | None) -> SocketOperator:
        """Return this socket, with a timeout of C{emitWithAck} in milliseconds; None waits until it ends."""
        return SocketOperator(self, _PLAIN).timeout(milliseconds)

    @property
    def broadcast(self) -> Operator:
        """An operator for all other sockets of the namespace."""
        return Operator(self._namespace, Target(excluded=frozenset((self.id,)), sender=self.id))

    @property
    def local(self) -> Operator:
        """An operator for all other sockets of the namespace in this process."""
        return self.broadcast.local

    def to(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets in some rooms."""
        return self.broadcast.to(*rooms)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets of the namespace, without those in some rooms."""
        return self.broadcast.except_(*rooms)

    # Listeners of what is sent

    @property
    def _hearsOutgoing(self) -> bool:
        """Whether there were listeners of what is sent to it."""
        return self._outgoing is not None

    def _ownOutgoing(self) -> CatchAll:
        if self._outgoing is None:
            self._outgoing = CatchAll()
            if self._state is CONNECTED:
                self._namespace.outgoing[self.id] = self
        return self._outgoing

    def onAnyOutgoing(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener, called with each event to the client and its arguments, broadcasts too. Return it."""
        self._ownOutgoing().add(listener)
        return listener

    def prependAnyOutgoing(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener before those of L{onAnyOutgoing}. Return it."""
        self._ownOutgoing().add(listener, isFirst=True)
        return listener

    def offAnyOutgoing(self, listener: Callable[..., object] | None = None) -> None:
        """Remove a listener of L{onAnyOutgoing}, or all of them."""
        if self._outgoing is not None:
            self._outgoing.remove(listener)
            if not self._outgoing.listeners:
                self._outgoing = None
                self._namespace.outgoing.pop(self.id, None)

    def listenersAnyOutgoing(self) -> list[Callable[..., object]]:
        """Return the listeners of L{onAnyOutgoing}."""
        return [] if self._outgoing is None else [*self._outgoing.listeners]

    def _acknowledged(self, ackId: int | None, arguments: list[Any]) -> None:
        """Called with each acknowledgement of the client."""
        counters = self._namespace.io.counters
        pending = None if ackId is None or self._acks is None else self._acks.pop(ackId, None)
        if pending is None:
            counters.lateAcks += 1
            return
        counters.acks -= 1
        if not self._acks:
            self._acks = None
        pending.answered(self, arguments)

    # Errors

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log the failure of a handler, and emit it as C{error}."""
        with suppress(BaseException):
            self._log.failure(
                "Handler of {event} of session {session} failed", failure, event=event, session=self.logName
            )
        if event != "error":
            assert failure.value is not None
            self._tellError(failure.value)

    def _middlewareRaised(self, event: str, failure: Failure) -> None:
        """Emit what a middleware of events raised as C{error}; log it if nobody listens: it may be a mistake."""
        assert failure.value is not None
        if not self._tellError(failure.value) and self._namespace.io._allowsLine("event middlewares"):
            # The client chose the event, and may send it again and again.
            self._log.failure(
                "Middleware of {event} of session {session} raised", failure, event=event[:100], session=self.logName
            )

    def _tellError(self, error: BaseException) -> bool:
        """Emit an error, and return whether anyone listens."""
        isHeard = self.fire("error", error)
        return self._namespace._fireShared("error", self, error) or isHeard

    def _clientViolated(self, error: BaseException) -> None:
        """Called when its client has sent what is no packet, before the session ends."""
        self._tellError(error)

    def _callListener(self, listener: Callable[..., object], data: list[Any]) -> None:
        try:
            deferred = deferredOf(listener(*data))
        except BaseException:
            self.handlerFailed("any", (), Failure())
            return
        if deferred is not None:
            deferred.addErrback(self._failedLater, "any", None)

    def _failedLater(self, failure: Failure, event: str, _: object) -> None:
        if not failure.check(*CANCELLED):
            self.handlerFailed(event, (), failure)
