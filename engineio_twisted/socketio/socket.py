"""One client in one namespace, as the application sees it. docs/socketio.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import SessionWork, generateId
from .acks import Pending, PendingAck
from .errors import RESERVED_EVENTS, Disconnected, DisconnectReason
from .handshake import Handshake
from .interfaces import Flags, Target
from .listeners import OWN_EVENTS, CatchAll, Listeners, begun, deferredOf
from .middlewares import EventMiddlewares
from .operator import Broadcaster, Operator, SocketOperator, checkEvent, checkRooms, checkTimeout
from .packet import PacketType
from .remote import RemoteSocket

if TYPE_CHECKING:
    from twisted.web.server import Request

    from .. import Socket as EngineSocket
    from .interfaces import Encoded
    from .recovery import Kept

if TYPE_CHECKING:
    from typing import Literal, TypeAlias, TypeVar, overload

    FailureHandler: TypeAlias = Callable[[BaseException], object]
    EndHandler: TypeAlias = Callable[[DisconnectReason, str], object]

    FailureHandlerT = TypeVar("FailureHandlerT", bound=FailureHandler)
    EndHandlerT = TypeVar("EndHandlerT", bound=EndHandler)
    HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_EVENT, _ACK = PacketType.EVENT, PacketType.ACK
_PLAIN = Flags()
_DEFAULT: Any = object()
"""In place of a timeout that isn't given."""

_CANCELLED = (CancelledError, asyncio.CancelledError)


class State(Enum):
    """Where a socket is in its life."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    ENDED = "ended"


_CONNECTED = State.CONNECTED


class Socket(Listeners):
    """
    One client in one namespace, from its middlewares to its end.

    Events, with their arguments: C{disconnecting(reason, description)} when it ends, while it is in its rooms;
    C{disconnect(reason, description)}, the last event; C{error(exception)} when a handler raised or the client sent an
    invalid packet. The reason is a L{DisconnectReason}. Any other name is an event that the client sends:
    C{handler(*arguments)}.

    @ivar id: its id, which is also the name of a room of its own. It is not secret, except for clients of protocol 4.
    @ivar namespace: the L{Namespace}.
    @ivar auth: what the client said of itself when it joined.
    @ivar recovered: whether it continues a socket that its client lost.
    """

    _log = Logger()
    elsewhere: ClassVar[dict[str, str]] = {
        "connection": "it is an event of the namespace, such as io.on('connection', handler)",
        "new_namespace": "it is an event of io",
    }
    argumentsOf: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "error": ("exception",),
        "disconnecting": ("reason", "description"),
        "disconnect": ("reason", "description"),
    }
    recovered = False
    # Whether it was taken out of its rooms.
    _hasLeft = False
    # What few sockets have is made when it is needed.
    _acks: dict[int, Pending] | None = None
    _data: dict[str, Any] | None = None
    _work: SessionWork[DisconnectReason] | None = None
    _handshake: Handshake | None = None
    # What a middleware does before the socket is connected, to be done then.
    _kept: list[Callable[[], object]] | None = None
    # Why it ended.
    _reason: DisconnectReason | None = None
    _description: str = ""
    # Of protocol 4, in which the id is a secret.
    _remoteId: str | None = None
    # The secret by which its client may come back.
    pid: str | None = None
    # With recovery, the number of the last event that was sent to it.
    lastSent: int = 0

    if TYPE_CHECKING:
        # Any other name is of an event that clients send.

        @overload  # type: ignore[override]
        def on(self, event: Literal["error"]) -> Callable[[FailureHandlerT], FailureHandlerT]: ...
        @overload
        def on(self, event: Literal["error"], handler: FailureHandler) -> FailureHandler: ...

        @overload
        def on(self, event: Literal["disconnecting", "disconnect"]) -> Callable[[EndHandlerT], EndHandlerT]: ...
        @overload
        def on(self, event: Literal["disconnecting", "disconnect"], handler: EndHandler) -> EndHandler: ...

        @overload
        def on(self, event: str) -> Callable[[HandlerT], HandlerT]: ...
        @overload
        def on(self, event: str, handler: HandlerT) -> HandlerT: ...
        def on(self, event: str, handler: Any = None) -> Any: ...

        @overload  # type: ignore[override]
        def once(self, event: Literal["error"]) -> Callable[[FailureHandlerT], FailureHandlerT]: ...
        @overload
        def once(self, event: Literal["error"], handler: FailureHandler) -> FailureHandler: ...

        @overload
        def once(self, event: Literal["disconnecting", "disconnect"]) -> Callable[[EndHandlerT], EndHandlerT]: ...
        @overload
        def once(self, event: Literal["disconnecting", "disconnect"], handler: EndHandler) -> EndHandler: ...

        @overload
        def once(self, event: str) -> Callable[[HandlerT], HandlerT]: ...
        @overload
        def once(self, event: str, handler: HandlerT) -> HandlerT: ...
        def once(self, event: str, handler: Any = None) -> Any: ...

    def __init__(self, namespace: Any, client: Any, auth: dict[str, Any], id: str) -> None:  # noqa: A002
        self.namespace: Broadcaster = namespace
        # The same, with what the layer itself does to it.
        self._namespace: Any = namespace
        self.client: Any = client
        self.auth = auth
        self.id = id
        self._state = State.CONNECTING
        # Asked for at each event, where a default of the class takes longer to find.
        self._incoming: CatchAll | None = None
        self._outgoing: CatchAll | None = None
        self._middlewares: EventMiddlewares | None = None
        if client.isProtocol4:
            self._remoteId = generateId()

    def __repr__(self) -> str:
        return f"<Socket {self.logName} {self._state.value}>"

    @property
    def logName(self) -> str:
        """The beginning of its session's id, and its namespace, for logs."""
        return f"{self.conn.logName} in {self._namespace.name}"

    # What is known of it

    @property
    def conn(self) -> EngineSocket:
        """The session of the engine, with its transport, address and protocol."""
        conn: EngineSocket = self.client.conn
        return conn

    @property
    def request(self) -> Request:
        """The session's first request, a L{twisted.web.server.Request}."""
        request: Request = self.client.conn.request
        return request

    @property
    def handshake(self) -> Handshake:
        """What the session's first request said, and C{auth}."""
        if self._handshake is None:
            self._handshake = Handshake(self.client, self.auth)
        return self._handshake

    @property
    def connected(self) -> bool:
        """Whether it has joined its namespace, and has not ended."""
        return self._state is _CONNECTED

    @property
    def data(self) -> dict[str, Any]:
        """A dict for the application, empty at first."""
        if self._data is None:
            self._data = {}
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data = data

    @property
    def rooms(self) -> frozenset[str]:
        """The names of its rooms, its id among them; empty once it has left them, after C{disconnecting}."""
        if self._hasLeft:
            return frozenset()
        rooms: frozenset[str] = self._namespace.adapter.roomsOf(self.id)
        return rooms | {self.id}

    @property
    def remoteId(self) -> str:
        """The id for other processes: its own, or another one if that is secret, as in protocol 4."""
        return self.id if self._remoteId is None else self._remoteId

    def asRemote(self) -> RemoteSocket:
        """Return it as it is now, for C{fetchSockets}."""
        known = self.handshake
        handshake: dict[str, Any] = {each: getattr(known, each) for each in ("address", "secure", "url", "issued")}
        handshake |= {"headers": dict(known.headers), "query": dict(known.query)}
        # Not the secret by which the client comes back.
        handshake["auth"] = {name: value for name, value in known.auth.items() if name not in ("pid", "offset")}
        if self._remoteId is None:
            return RemoteSocket(self._namespace, self.id, self.rooms, self.data, handshake)
        rooms = (self.rooms - {self.id}) | {self._remoteId}
        return RemoteSocket(self._namespace, self._remoteId, rooms, self.data, handshake)

    # Rooms

    def join(self, *rooms: str) -> None:
        """
        Join rooms. In a middleware, this takes effect when the socket has joined the namespace.

        @raise TypeError: a name is not text.
        @raise ValueError: a name is the id of another socket.
        """
        checkRooms(rooms)
        if self._state is not _CONNECTED:
            self._keep(partial(self.join, *rooms))
            return
        namespace = self._namespace
        for each in rooms:
            owner = namespace.socketOf(each)
            if owner is not None and owner is not self:
                raise ValueError(f"room {each!r:.100}: it is the id of another socket, which is there alone")
        namespace.adapter.add(self.id, [each for each in rooms if each != self.id])

    def leave(self, *rooms: str) -> None:
        """
        Leave rooms. Rooms that it is not in, and that of its id, which it never leaves, are ignored.

        @raise TypeError: a name is not text.
        """
        checkRooms(rooms)
        if self._state is not _CONNECTED:
            self._keep(partial(self.leave, *rooms))
            return
        for each in rooms:
            self._namespace.adapter.remove(self.id, each)

    def _keep(self, what: Callable[[], object]) -> None:
        """Do something when the socket is connected; of one that has ended, nothing."""
        if self._state is State.CONNECTING:
            if self._kept is None:
                self._kept = []
            self._kept.append(what)

    # Sending

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
            self._state is _CONNECTED
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
        self.emitWith(_PLAIN, event, arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to the client."""
        self.emit("message", *arguments)

    def emitWith(self, flags: Flags, event: str, arguments: tuple[Any, ...]) -> None:
        """Send an event with flags, as L{emit}."""
        checkEvent(event)
        namespace = self._namespace
        data = [event, *arguments]
        if self._state is not _CONNECTED:
            # What can't be sent is to be known here, and not later.
            namespace.encode(_EVENT, namespace.name, None, data)
            self._keep(partial(self.emitWith, flags, event, arguments))
            return
        if namespace.recovery is not None and not flags.volatile:
            encoded = namespace.recovery.record(data, Target(frozenset((self.id,)), flags=flags))
            self.lastSent = namespace.recovery.newest
        else:
            encoded = namespace.encode(_EVENT, namespace.name, None, data)
        self._transmitTold(encoded, flags, data)

    def transmit(self, encoded: Encoded, flags: Flags = _PLAIN) -> None:
        """Send a packet that is encoded."""
        conn = self.client.conn
        if flags.volatile and not conn.isDrained:
            self._namespace.io.counters.volatileDropped += 1
        elif type(encoded) is list:
            conn.sendAll(encoded, compress=flags.compress)
        else:
            conn.send(encoded, compress=flags.compress)

    def tellOutgoing(self, data: list[Any]) -> None:
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
            return self.emitWithAckWith(_PLAIN, event, arguments)
        checkTimeout(timeout)
        return self.emitWithAckWith(Flags(timeout=float("inf") if timeout is None else timeout), event, arguments)

    def emitWithAckWith(self, flags: Flags, event: str, arguments: tuple[Any, ...]) -> Deferred[Any]:
        """Send an event with flags, as L{emitWithAck}."""
        checkEvent(event)
        if self._reason is not None:
            return fail(Disconnected(self._reason))
        namespace = self._namespace
        ackId = namespace.newAckId()
        encoded = namespace.encode(_EVENT, namespace.name, ackId, [event, *arguments])
        pending = PendingAck(self, ackId, namespace.ackTimeout(flags), namespace.io.ackTimeouts)
        self.expectAck(ackId, pending)
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
            self.tellOutgoing(data)
        if self._state is _CONNECTED:
            self.transmit(encoded, flags)

    def expectAck(self, ackId: int, pending: Pending) -> None:
        """Tell something of the acknowledgement with an id, or of the end."""
        if self._acks is None:
            self._acks = {}
        self._acks[ackId] = pending
        self._namespace.io.counters.acks += 1

    def forgetAck(self, ackId: int) -> None:
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

    # Receiving

    def use(self, middleware: Callable[[str, list[Any]], object]) -> Callable[[str, list[Any]], object]:
        """
        Add a middleware, which is called with each event of the client, before its handlers.

        It may change the list of arguments. If it raises, the event is dropped and C{error} is emitted. A coroutine or
        a Deferred is awaited, and later events wait for it.

        @param middleware: called with the name of the event and the list of its arguments.
        @return: the middleware.
        @raise TypeError: it cannot be called.
        """
        if not callable(middleware):
            raise TypeError(f"middleware {middleware!r:.100}: expected something to call with each event")
        if self._middlewares is None:
            self._middlewares = EventMiddlewares(self, self._namespace.io.opts.maxWaitingEvents)
        self._middlewares.add(middleware)
        return middleware

    def onAny(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener, called with each event of the client and its arguments, before the handlers. Return it."""
        if self._incoming is None:
            self._incoming = CatchAll()
        self._incoming.add(listener)
        return listener

    def prependAny(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener before those of L{onAny}. Return it."""
        if self._incoming is None:
            self._incoming = CatchAll()
        self._incoming.add(listener, isFirst=True)
        return listener

    def offAny(self, listener: Callable[..., object] | None = None) -> None:
        """Remove a listener of L{onAny}, or all of them."""
        if self._incoming is not None:
            self._incoming.remove(listener)

    def listenersAny(self) -> list[Callable[..., object]]:
        """Return the listeners of L{onAny}."""
        return [] if self._incoming is None else [*self._incoming.listeners]

    def _ownOutgoing(self) -> CatchAll:
        if self._outgoing is None:
            self._outgoing = CatchAll()
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

    def listenersAnyOutgoing(self) -> list[Callable[..., object]]:
        """Return the listeners of L{onAnyOutgoing}."""
        return [] if self._outgoing is None else [*self._outgoing.listeners]

    def received(self, data: list[Any], ackId: int | None) -> None:
        """
        Called with each event of the client.

        @param data: its name and its arguments; a list of its own.
        """
        if self._middlewares is None:
            self.dispatch(data, ackId)
        else:
            self._middlewares.receive(data[0], data[1:], ackId)

    def dispatch(self, data: list[Any], ackId: int | None) -> None:
        """Call the handlers of an event, and acknowledge it with what the first one returns."""
        if self._incoming is not None:
            for each in self._incoming.listeners:
                self._callListener(each, data)
        event = data[0]
        if event in OWN_EVENTS:
            return
        handlers = self.handlersOf(event)
        if handlers:
            ackId = self._call(handlers, event, data[1:], ackId)
        # Handlers of a namespace get the socket in place of the name.
        data[0] = self
        namespace = self._namespace
        while namespace is not None:
            handlers = namespace.handlersOf(event)
            if handlers:
                ackId = self._call(handlers, event, data, ackId)
            namespace = namespace.parent

    def _call(self, handlers: Any, event: str, arguments: list[Any], ackId: int | None) -> int | None:
        """Call handlers; return the id that is still to be acknowledged, that is None as soon as one was called."""
        for handler in handlers:
            try:
                result = handler(*arguments)
            except BaseException as error:
                self._raised(event, error)
            else:
                if result is not None:
                    self._returned(result, event, ackId)
                elif ackId is not None:
                    self._acknowledge(None, event, ackId)
            ackId = None
        return ackId

    def _raised(self, event: str, error: BaseException) -> None:
        failure = Failure()
        isCalled = error.__traceback__ is not None and error.__traceback__.tb_next is not None
        if isinstance(error, TypeError) and not isCalled:
            # The client chose how many arguments there are, and may do so again and again.
            self._namespace.io.handlerUnfit(self, event, error)
            self._tellError(error)
        else:
            self.handlerFailed(event, (), failure)

    def _returned(self, result: Any, event: str, ackId: int | None) -> None:
        if type(result) is CoroutineType:
            try:
                result = begun(result)
            except BaseException:
                self._failedLater(Failure(), event, ackId)
                return
        if isinstance(result, Deferred):
            io = self._namespace.io
            io.handlersRunning += 1
            arguments = (event, ackId)
            result.addCallbacks(self._acknowledgeLater, self._failedLater, arguments, {}, arguments)
            result.addBoth(io.handlerOver)
        elif ackId is not None:
            self._acknowledge(result, event, ackId)

    def _acknowledgeLater(self, result: Any, event: str, ackId: int | None) -> Any:
        if ackId is not None:
            self._acknowledge(result, event, ackId)
        return result

    def _failedLater(self, failure: Failure, event: str, _: object) -> None:
        if not failure.check(*_CANCELLED):
            self.handlerFailed(event, (), failure)

    def _acknowledge(self, result: Any, event: str, ackId: int) -> None:
        """Acknowledge an event with what a handler returned; after the end that does nothing."""
        if self._state is not _CONNECTED:
            return
        if result is None:
            arguments = []
        elif type(result) is tuple:
            arguments = [*result]
        else:
            arguments = [result]
        try:
            self.transmit(self._namespace.encode(_ACK, self._namespace.name, ackId, arguments))
        except BaseException:
            self.handlerFailed(event, (), Failure())

    def acknowledged(self, ackId: int | None, arguments: list[Any]) -> None:
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

    def _callListener(self, listener: Callable[..., object], data: list[Any]) -> None:
        try:
            deferred = deferredOf(listener(*data))
        except BaseException:
            self.handlerFailed("any", (), Failure())
            return
        if deferred is not None:
            deferred.addErrback(self._failedLater, "any", None)

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

    def middlewareRaised(self, event: str, failure: Failure) -> None:
        """Emit what a middleware of events raised as C{error}; log it if nobody listens: it may be a mistake."""
        assert failure.value is not None
        if not self._tellError(failure.value):
            self._log.failure(
                "Middleware of {event} of session {session} raised", failure, event=event, session=self.logName
            )

    def _tellError(self, error: BaseException) -> bool:
        """Emit an error, and return whether anyone listens."""
        isHeard = self.fire("error", error)
        return self._namespace.fireShared("error", self, error) or isHeard

    def violated(self, error: BaseException) -> None:
        """Called when its client has sent what is no packet, before the session ends."""
        self._tellError(error)

    # What ends with it

    def _workOfSocket(self) -> SessionWork[DisconnectReason]:
        if self._work is None:
            self._work = SessionWork(self, self._namespace.io.engine.clock)
            self._work.isOver = self._state is State.ENDED
        return self._work

    def follow(self, work: Coroutine[Any, Any, Any] | Deferred[Any]) -> Deferred[Any]:
        """
        Run a coroutine, or follow a Deferred, and cancel it when the socket ends.

        A failure is logged and emitted as C{error}. After the end of the socket, a coroutine is not started.

        @return: a Deferred of the result, or of None if it failed or was cancelled.
        @raise TypeError: it is neither.
        """
        return self._workOfSocket().follow(work)

    def callLater(self, seconds: float, function: Callable[..., object], *args: Any, **keywords: Any) -> IDelayedCall:
        """
        Call a function after some seconds, unless the socket ends before.

        @return: the call, which can be cancelled.
        @raise ValueError: C{seconds} is negative.
        """
        return self._workOfSocket().callLater(seconds, partial(function, *args, **keywords))

    def callEvery(self, seconds: float, function: Callable[..., object], *args: Any, now: bool = False) -> LoopingCall:
        """
        Call a function every some seconds until the socket ends.

        @param now: whether the first call is made at once.
        @return: the loop, which can be stopped.
        @raise ValueError: C{seconds} is negative.
        """
        return self._workOfSocket().callEvery(seconds, partial(function, *args), now)

    def whenDisconnected(self) -> Deferred[DisconnectReason]:
        """Return a Deferred of the reason of the end, which fires after C{disconnect}, or at once if it has ended."""
        if self._reason is not None:
            return succeed(self._reason)
        waiting: Deferred[Any] = self._workOfSocket().whenClosed()
        return waiting

    # The end

    def disconnect(self, close: bool = False) -> None:
        """
        Disconnect the client from the namespace. Clients then do not reconnect by themselves. After the end, nothing
        happens.

        @param close: whether to disconnect it from all its namespaces and close its session.
        """
        if close:
            self.client.disconnect()
        else:
            self.client.leave(self)

    def restore(self, kept: Kept) -> None:
        """Go on with what its client had. What a middleware has put into C{data} stays."""
        self.id = kept.id
        self._data = {**kept.data, **(self._data or {})}
        self.recovered = True

    def begin(self) -> list[Callable[[], object]]:
        """Called when it is connected; return what a middleware asked for."""
        self._state = _CONNECTED
        kept, self._kept = self._kept, None
        return kept or []

    def end(self, reason: DisconnectReason, description: str = "") -> None:
        """End it, whatever the reason; the steps of the end run at once, or behind an end that is running."""
        if self._state is State.ENDED:
            return
        wasConnected = self._state is _CONNECTED
        self._state = State.ENDED
        self._reason, self._description = reason, description
        self._kept = None
        ends = self._namespace.io.ends
        ends.add(self, _STEPS if wasConnected else _STEPS_UNCONNECTED)
        if wasConnected:
            # No event is to reach it any more.
            self._namespace.removed(self)
        ends.run()

    def endStep(self, event: str) -> None:
        """Emit an event of its end."""
        self.fire(event, self._reason, self._description)
        self._namespace.fireShared(event, self, self._reason, self._description)

    def leaveRooms(self) -> None:
        """Be in no room any more."""
        self._hasLeft = True
        self._namespace.adapter.removeAll(self.id)

    def loseAcks(self) -> None:
        """Tell those who wait for acknowledgements that none comes."""
        acks, self._acks = self._acks, None
        assert self._reason is not None
        for each in (acks or {}).values():
            self._namespace.io.counters.acks -= 1
            each.lost(self, self._reason)

    def stopWork(self) -> None:
        """Stop what was to end with it."""
        if self._middlewares is not None:
            self._middlewares.stop()
        if self._work is not None:
            self._work.stop()

    def tellWaiting(self) -> None:
        """Fire the Deferreds of L{whenDisconnected}."""
        if self._work is not None and self._reason is not None:
            self._work.closed(self._reason)


# The steps of an end, each of which is called with the socket.


def _disconnecting(socket: Any) -> None:
    socket.endStep("disconnecting")


def _remember(socket: Any) -> None:
    recovery = socket.namespace.recovery
    if recovery is not None:
        recovery.ended(socket, socket._reason)


def _leaveRooms(socket: Any) -> None:
    socket.leaveRooms()


def _loseAcks(socket: Any) -> None:
    socket.loseAcks()


def _stopWork(socket: Any) -> None:
    socket.stopWork()


def _disconnected(socket: Any) -> None:
    socket.endStep("disconnect")


def _tellWaiting(socket: Any) -> None:
    socket.tellWaiting()


def _leaveNamespace(socket: Any) -> None:
    socket.namespace.leaveIfEmpty()


_STEPS = (
    _disconnecting,
    _remember,
    _leaveRooms,
    _loseAcks,
    _stopWork,
    _disconnected,
    _tellWaiting,
    _leaveNamespace,
)
"""The steps of an end, in their order: one that fails keeps no other from running."""

_STEPS_UNCONNECTED = (_remember, _loseAcks, _stopWork, _tellWaiting)
"""Those of a socket that never was connected."""
