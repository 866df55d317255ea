"""Namespaces, and parents that make namespaces when clients ask for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import generateId
from .acks import BroadcastAck
from .errors import NotSupported
from .interfaces import Flags, Target
from .listeners import Listeners, deferredOf
from .operator import Broadcaster, checkTimeout
from .options import ConnectionStateRecovery
from .packet import Packet, PacketType
from .recovery import Kept, Recovery
from .sender import CANCELLED
from .socket import Socket

if TYPE_CHECKING:
    from .interfaces import Encoded
    from .remote_messages import Position

Middleware = Callable[[Socket], object]

if TYPE_CHECKING:
    from typing import Literal, TypeAlias, TypeVar, overload

    from .errors import DisconnectReason

    SocketHandler: TypeAlias = Callable[[Socket], object]
    FailureHandler: TypeAlias = Callable[[Socket, BaseException], object]
    EndHandler: TypeAlias = Callable[[Socket, DisconnectReason, str], object]

    SocketHandlerT = TypeVar("SocketHandlerT", bound=SocketHandler)
    FailureHandlerT = TypeVar("FailureHandlerT", bound=FailureHandler)
    EndHandlerT = TypeVar("EndHandlerT", bound=EndHandler)
    HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class Shared(Listeners):
    """
    The base of L{Namespace} and L{ParentNamespace}: handlers and middlewares for all their sockets.

    Events, with their arguments: C{connection(socket)} when a socket has joined; C{disconnecting(socket, reason,
    description)} and C{disconnect(socket, reason, description)} when it ends; C{error(socket, exception)} when a
    handler raised or a client sent an invalid packet. Any other name is an event that clients send:
    C{handler(socket, *arguments)}.

    @ivar io: the L{SocketIO}.
    @ivar parent: the L{ParentNamespace} that made the namespace, or None.
    """

    _log = Logger()
    elsewhere: ClassVar[dict[str, str]] = {"new_namespace": "it is an event of io, io.on('new_namespace', handler)"}
    argumentsOf: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "connection": ("socket",),
        "error": ("socket", "exception"),
        "disconnecting": ("socket", "reason", "description"),
        "disconnect": ("socket", "reason", "description"),
    }
    parent: Any = None

    if TYPE_CHECKING:
        # Any other name is of an event that clients send.

        @overload  # type: ignore[override]
        def on(self, event: Literal["connection"]) -> Callable[[SocketHandlerT], SocketHandlerT]: ...
        @overload
        def on(self, event: Literal["connection"], handler: SocketHandler) -> SocketHandler: ...

        @overload
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
        def once(self, event: Literal["connection"]) -> Callable[[SocketHandlerT], SocketHandlerT]: ...
        @overload
        def once(self, event: Literal["connection"], handler: SocketHandler) -> SocketHandler: ...

        @overload
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

    def __init__(self, io: Any) -> None:
        self.io: Any = io
        self._middlewares: tuple[Middleware, ...] = ()
        # The handlers of events that have no other handler.
        self.unhandled: tuple[Callable[..., object], ...] = ()

    def onUnhandled(self, handler: HandlerT) -> HandlerT:
        """
        Register a handler for every event of clients that has no other handler.

        It is called as C{handler(socket, event, *arguments)}. What the first one returns is the acknowledgement.

        @return: the handler.
        @raise TypeError: it cannot be called.
        """
        if not callable(handler):
            raise TypeError(f"handler {handler!r:.100}: expected something to call with a socket and an event")
        self.unhandled = (*self.unhandled, handler)
        return handler

    def use(self, middleware: Middleware) -> Middleware:
        """
        Add a middleware, which is called with each socket before it joins, after those added before.

        It may be a coroutine function or return a Deferred, which is awaited, for at most 30 seconds. If it raises
        L{ConnectRefused}, the client is refused with its message and data. Any other exception is logged, and refuses
        the client with C{Connection refused}.

        @return: the middleware.
        @raise TypeError: it cannot be called.
        """
        if not callable(middleware):
            raise TypeError(f"middleware {middleware!r:.100}: expected something to call with each socket")
        self._middlewares = (*self._middlewares, middleware)
        return middleware

    @property
    def middlewares(self) -> tuple[Middleware, ...]:
        """The middlewares, in the order in which they are called."""
        return self._middlewares

    def _fireShared(self, event: str, *arguments: Any) -> bool:
        """Call the handlers of an event of the layer itself, and those of the parent; return whether there was one."""
        isHeard = self.fire(event, *arguments)
        if self.parent is not None and self.parent.fire(event, *arguments):
            isHeard = True
        return isHeard

    def connected(self, socket: Socket) -> None:
        """Emit C{connection}; a drain waits for handlers that take their time."""
        for handler in self.handlersOf("connection"):
            try:
                deferred = deferredOf(handler(socket))
            except BaseException:
                self.handlerFailed("connection", (socket,), Failure())
                continue
            if deferred is not None:
                deferred.addErrback(self._connectionFailed, socket)
                self.io.watch(deferred)
        if self.parent is not None:
            self.parent.connected(socket)

    def _connectionFailed(self, failure: Failure, socket: Socket) -> None:
        if not failure.check(*CANCELLED):
            self.handlerFailed("connection", (socket,), failure)

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, and emit it as C{error} with its socket."""
        socket = args[0] if args else None
        name = getattr(socket, "logName", "a namespace")
        self._log.failure("Handler of {event} of session {session} failed", failure, event=event, session=name)
        if event not in ("error", "new_namespace") and socket is not None:
            socket.fire("error", failure.value)
            self._fireShared("error", socket, failure.value)


class Namespace(Broadcaster, Shared):  # type: ignore[misc]
    """
    A namespace: its sockets, rooms and handlers. L{SocketIO.of} makes it.

    @ivar name: its name, which begins with a slash.
    @ivar adapter: its L{IAdapter}.
    @ivar recovery: the events and sessions that it keeps, a L{Recovery}, or None.
    """

    recovery: Recovery | None = None

    def __init__(self, io: Any, name: str, parent: Shared | None = None) -> None:
        super().__init__(io)
        self.name: str = name
        self.parent: Any = parent
        # Whether it stays when its last socket has left.
        self._isFixed: bool = parent is None
        self._sockets: dict[str, Socket] = {}
        self.sockets: Mapping[str, Socket] = MappingProxyType(self._sockets)
        self.encode: Callable[[int, str, int | None, Any], Encoded] = io.parser.encode
        # Of sockets of protocol 4, whose id is a secret: the ids by which others know them.
        self._byRemoteId: dict[str, Socket] = {}
        # Those with listeners for what is sent.
        self.outgoing: dict[str, Socket] = {}
        self._ackId = 0
        # How many clients are being asked to wait for middlewares.
        self._joiningHere: int = 0
        self._serverSide: dict[str, tuple[Callable[..., object], ...]] = {}
        self.adapter: Any = io.makeAdapter(self)
        self.adapter.start()

    def __repr__(self) -> str:
        count = len(self._sockets)
        return f"<Namespace {self.name}, {count} {'socket' if count == 1 else 'sockets'}>"

    def recover(self, settings: ConnectionStateRecovery | None) -> None:
        """Keep what clients miss, by some settings, or nothing."""
        if self.recovery is not None:
            self.recovery.close()
        self.recovery = None if settings is None else Recovery(self, settings)
        self.adapter.recoveryBegins(self.recovery)

    # Other processes

    def onServerSide(self, event: str, handler: Callable[..., object]) -> Callable[..., object]:
        """
        Register a handler for an event that another process sends with L{serverSideEmit}.

        What it returns is the answer to L{serverSideEmitWithAck}.

        @return: the handler.
        @raise TypeError: it cannot be called.
        """
        if not callable(handler):
            raise TypeError(f"handler {handler!r:.100} of the event {event!r}: expected something to call")
        self._serverSide[event] = (*self._serverSide.get(event, ()), handler)
        return handler

    def serverSideEmit(self, event: str, *arguments: Any) -> None:
        """
        Send an event to this namespace in the other processes.

        @raise NotSupported: the adapter reaches no other process.
        """
        _checkServerSide(event)
        self.adapter.serverSideEmit(event, [*arguments])

    def serverSideEmitWithAck(self, event: str, *arguments: Any, timeout: float | None = None) -> Deferred[list[Any]]:
        """
        Send an event to this namespace in the other processes, and await their answers.

        @param timeout: milliseconds to wait; None for the adapter's default.
        @return: a Deferred of the list of answers. It fails with L{RemoteTimeout} or L{NotSupported}.
        """
        _checkServerSide(event)
        checkTimeout(timeout)
        answers: Deferred[list[Any]] = self.adapter.serverSideEmitWithAck(event, [*arguments], timeout)
        return answers

    def serverSideReceived(self, event: str, arguments: list[Any]) -> Deferred[Any]:
        """
        Called by the adapter with an event of another process.

        @return: a Deferred of what the first handler returns; it fails with what that raises, which is logged, or
            with L{NotSupported} if there is none.
        """
        handlers = self._serverSide.get(event, ())
        first: Deferred[Any] | None = None
        for each in handlers:
            try:
                result = each(*arguments)
                deferred: Deferred[Any] = deferredOf(result) or succeed(result)
            except BaseException:
                deferred = fail(Failure())
            deferred.addErrback(self._serverSideFailed, event)
            self.io.watch(deferred)
            if first is None:
                first = deferred
            else:
                deferred.addErrback(lambda _: None)
        if first is None:
            return fail(NotSupported(f"no handler of the server-side event {event!r:.100}"))
        return first

    def _serverSideFailed(self, failure: Failure, event: str) -> Failure:
        self._log.failure("Handler of the server-side {event} failed", failure, event=event)
        return failure

    # Sockets and rooms

    @property
    def rooms(self) -> Mapping[str, frozenset[Socket]]:
        """The rooms of this process with their sockets, the rooms of ids among them. Do not change it."""
        return _Rooms(self)

    def socketOf(self, room: str) -> Socket | None:
        """Return the socket whose id, or remote id, a room is."""
        socket = self._sockets.get(room)
        return self._byRemoteId.get(room) if socket is None and self._byRemoteId else socket

    def _idFor(self, client: Any) -> str:
        """Return the id of a new socket. In protocol 4 the client makes it of the session's by itself."""
        if not client.isProtocol4:
            return generateId()
        return client.conn.id if self.name == "/" else f"{self.name}#{client.conn.id}"

    def add(self, socket: Socket) -> None:
        """Called when a socket is connected."""
        self._sockets[socket.id] = socket
        if socket.remoteId != socket.id:
            self._byRemoteId[socket.remoteId] = socket
        if socket._hearsOutgoing:
            self.outgoing[socket.id] = socket

    def _removed(self, socket: Socket) -> None:
        """Called when a socket ends; it is in its rooms until L{IAdapter.removeAll}."""
        self._sockets.pop(socket.id, None)
        self.outgoing.pop(socket.id, None)
        if self._byRemoteId:
            self._byRemoteId.pop(socket.remoteId, None)
        socket.client.left(socket)

    @property
    def _isEmpty(self) -> bool:
        """Whether no client is in it, or waits to join it."""
        return not self._sockets and not self._joiningHere

    def _endIfEmpty(self) -> None:
        """End, if this was made when a client asked for it, and nobody is left."""
        if self._isEmpty and not self._isFixed:
            self.io._namespaceEmpty(self)

    def _closeAdapter(self) -> Deferred[None]:
        """End: forget what is kept, and close the adapter; if that fails, it is logged."""
        if self.recovery is not None:
            self.recovery.close()
        return maybeDeferred(self.adapter.close).addErrback(self._adapterFailed)

    def _adapterFailed(self, failure: Failure) -> None:
        self._log.failure("The adapter of {namespace} failed to close", failure, namespace=self.name)

    @property
    def middlewares(self) -> tuple[Middleware, ...]:
        return self._middlewares if self.parent is None else (*self.parent.middlewares, *self._middlewares)

    # For adapters: the sockets of this process

    def _newAckId(self) -> int:
        """Return an id for an acknowledgement, which none of this namespace had before."""
        self._ackId += 1
        return self._ackId

    def ackTimeout(self, flags: Flags) -> float | None:
        """Return for how many milliseconds an acknowledgement is waited for; None is for as long as sockets last."""
        timeout = self.io.opts.ackTimeout if flags.timeout is None else flags.timeout
        return None if timeout == float("inf") else timeout

    def deliver(self, packet: Packet, target: Target, position: Position | None = None) -> None:
        """
        Send an event to the sockets of a target that are of this process.

        @param packet: an EVENT without an id.
        @param position: its L{Position} among the events that its process sends to all, if it has one.
        @raise UnsendableValue: an argument can't be sent.
        """
        flags = target.flags
        sockets = self.adapter.socketsIn(target.rooms, target.excluded)
        if self.recovery is not None and not flags.volatile:
            encoded = self.recovery.record(packet.data, target, position)
            for each in sockets:
                each.lastSent = self.recovery.newest
        else:
            encoded = self.encode(PacketType.EVENT, self.name, None, packet.data)
        self._transmit(encoded, sockets, flags, packet.data)

    def _transmit(self, encoded: Encoded, sockets: Collection[Socket], flags: Flags, data: list[Any]) -> None:
        if self.outgoing:
            for each in sockets:
                each._tellOutgoing(data)
            # A listener may have ended some.
            sockets = [each for each in sockets if each.connected]
        count = self.io.engine.broadcast(
            encoded,
            to=[each.client.conn for each in sockets],
            compress=flags.compress,
            volatile=flags.volatile,
        )
        if flags.volatile:
            self.io.counters.volatileDropped += len(sockets) - count

    def deliverWithAck(self, packet: Packet, target: Target) -> Deferred[list[Any]]:
        """
        Send an event to the sockets of a target that are of this process, and return a Deferred of their answers.

        @param packet: an EVENT without an id.
        @raise UnsendableValue: an argument can't be sent.
        """
        flags = target.flags
        ackId = self._newAckId()
        encoded = self.encode(PacketType.EVENT, self.name, ackId, packet.data)
        sockets = {each.id: each for each in self.adapter.socketsIn(target.rooms, target.excluded)}
        missing = [id for id, each in sockets.items() if flags.volatile and not each.conn.isDrained]  # noqa: A001
        for each in missing:
            del sockets[each]
        waiting = BroadcastAck(ackId, sockets, missing, self.ackTimeout(flags), self.io.ackTimeouts)
        self._transmit(encoded, [*sockets.values()], attrs.evolve(flags, volatile=False), packet.data)
        self.io.counters.volatileDropped += len(missing)
        return waiting.deferred

    # Recovery

    def _welcome(self, socket: Socket, kept: Kept | None) -> list[Encoded]:
        """
        Give a socket that is about to be connected its session; return what it has missed.

        @param kept: what it comes back to.
        """
        recovery = self.recovery
        if recovery is None:
            return []
        if kept is None:
            if not socket.client.isProtocol4:
                # An older client could not come back.
                recovery.begin(socket)
            return []
        missed = recovery.missed(kept, socket.auth.get("offset"))
        socket.restore(kept)
        recovery.restored(kept, socket)
        self.adapter.add(socket.id, kept.rooms)
        return missed


def _checkServerSide(event: Any) -> None:
    if not isinstance(event, str):
        raise TypeError(f"event {event!r:.100}: expected the name of an event, a str, before its arguments")


class _Rooms(Mapping[str, "frozenset[Socket]"]):
    """The rooms of a namespace, made of its adapter's when one is asked for."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __getitem__(self, room: str) -> frozenset[Socket]:
        sockets = self._namespace.adapter.socketsIn((room,), ())
        if not sockets:
            raise KeyError(room)
        return frozenset(sockets)

    def __iter__(self) -> Iterator[str]:
        yield from self._namespace.sockets
        yield from self._namespace.adapter.rooms

    def __len__(self) -> int:
        return len(self._namespace.sockets) + len(self._namespace.adapter.rooms)
