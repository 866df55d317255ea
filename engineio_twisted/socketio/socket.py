"""One client in one namespace, as the application sees it. docs/socketio.md."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from .. import SessionWork, generateId
from .errors import DisconnectReason
from .handshake import Handshake
from .operator import checkRooms
from .receiver import Receiver
from .remote import RemoteSocket
from .sender import CONNECTED, State

if TYPE_CHECKING:
    from typing import Literal, TypeAlias, TypeVar, overload

    from twisted.web.server import Request

    from .. import Socket as EngineSocket
    from .recovery import Kept

    FailureHandler: TypeAlias = Callable[[BaseException], object]
    EndHandler: TypeAlias = Callable[[DisconnectReason, str], object]

    FailureHandlerT = TypeVar("FailureHandlerT", bound=FailureHandler)
    EndHandlerT = TypeVar("EndHandlerT", bound=EndHandler)
    HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class Socket(Receiver):
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
    _data: dict[str, Any] | None = None
    _work: SessionWork[DisconnectReason] | None = None
    _handshake: Handshake | None = None
    _description: str = ""
    # Of protocol 4, in which the id is a secret.
    _remoteId: str | None = None
    # The secret by which its client may come back.
    pid: str | None = None

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
        super().__init__(namespace, client, id)
        self.auth = auth
        if client.isProtocol4:
            self._remoteId = generateId()

    def __repr__(self) -> str:
        return f"<Socket {self.logName} {self._state.value}>"

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
        return self._state is CONNECTED

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
        if self._state is not CONNECTED:
            self._keep(partial(self.join, *rooms))
            return
        namespace = self._namespace
        for each in rooms:
            owner = namespace.socketOf(each)
            isKept = owner is None and namespace.recovery is not None and namespace.recovery.keepsId(each)
            if isKept or (owner is not None and owner is not self):
                # Not the whole of it, which is a secret in protocol 4.
                raise ValueError(f"room {each[:6]!r}…: it is the id of another socket, which is there alone")
        if namespace.recovery is not None:
            namespace.recovery.joined(self, rooms)
        namespace.adapter.add(self.id, [each for each in rooms if each != self.id])

    def leave(self, *rooms: str) -> None:
        """
        Leave rooms. Rooms that it is not in, and that of its id, which it never leaves, are ignored.

        @raise TypeError: a name is not text.
        """
        checkRooms(rooms)
        if self._state is not CONNECTED:
            self._keep(partial(self.leave, *rooms))
            return
        for each in rooms:
            self._namespace.adapter.remove(self.id, each)
            if self._namespace.recovery is not None:
                self._namespace.recovery.left(self, each)

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
        if self._state is State.ENDED:
            return
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
        self._state = CONNECTED
        kept, self._kept = self._kept, None
        return kept or []

    def end(self, reason: DisconnectReason, description: str = "") -> None:
        """End it, whatever the reason; the steps of the end run at once, or behind an end that is running."""
        if self._state is State.ENDED:
            return
        ends = self._namespace.io.ends
        wasConnected = self._state is CONNECTED
        self._state = State.ENDED
        self._reason, self._description = reason, description
        self._kept = None
        ends.add(self, _STEPS if wasConnected else _STEPS_UNCONNECTED)
        if wasConnected:
            # No event is to reach it any more.
            self._namespace._removed(self)
        else:
            self.client.left(self)
        ends.run()

    def _endStep(self, event: str) -> None:
        """Emit an event of its end."""
        self.fire(event, self._reason, self._description)
        self._namespace._fireShared(event, self, self._reason, self._description)

    def _leaveOwnRooms(self) -> None:
        """Be in no room any more."""
        self._hasLeft = True
        self._namespace.adapter.removeAll(self.id)

    def _loseAcks(self) -> None:
        """Tell those who wait for acknowledgements that none comes."""
        assert self._reason is not None
        # One at a time: who is told may cancel others.
        while self._acks:
            ackId = next(iter(self._acks))
            pending = self._acks[ackId]
            self._forgetAck(ackId)
            pending.lost(self, self._reason)

    def _endWork(self) -> None:
        """Stop what was to end with it."""
        if self._middlewares is not None:
            self._middlewares.stop()
        if self._work is not None:
            self._work.stop()

    def _tellOfEnd(self) -> None:
        """Fire the Deferreds of L{whenDisconnected}."""
        if self._work is not None and self._reason is not None:
            self._work.closed(self._reason)


# The steps of an end, each of which is called with the socket.


def _disconnecting(socket: Any) -> None:
    socket._endStep("disconnecting")


def _remember(socket: Any) -> None:
    recovery = socket.namespace.recovery
    if recovery is not None:
        recovery.ended(socket, socket._reason)


def _leaveRooms(socket: Any) -> None:
    socket._leaveOwnRooms()


def _loseAcks(socket: Any) -> None:
    socket._loseAcks()


def _stopWork(socket: Any) -> None:
    socket._endWork()


def _disconnected(socket: Any) -> None:
    socket._endStep("disconnect")


def _tellWaiting(socket: Any) -> None:
    socket._tellOfEnd()


def _leaveNamespace(socket: Any) -> None:
    socket.namespace._endIfEmpty()


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

_STEPS_UNCONNECTED = (_remember, _leaveRooms, _loseAcks, _stopWork, _tellWaiting)
"""Those of a socket that never was connected."""
