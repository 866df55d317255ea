"""The recipients of an event, and how it is sent. docs/socketio-rooms.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .errors import RESERVED_EVENTS, ReservedEvent
from .interfaces import Flags, Target
from .packet import Packet, PacketType

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .remote import RemoteSocket


def checkEvent(event: Any) -> None:
    """
    Refuse what can't be the name of an event that an application emits.

    @raise ReservedEvent: the protocol keeps it for itself.
    @raise TypeError: it isn't text.
    """
    if not isinstance(event, str):
        raise TypeError(f"event {event!r:.100}: expected the name of an event, a str, before its arguments")
    if event in RESERVED_EVENTS:
        raise ReservedEvent(event)


def checkRooms(rooms: Iterable[Any]) -> None:
    """
    Refuse what can't be rooms.

    @raise TypeError: one isn't text.
    """
    for each in rooms:
        if not isinstance(each, str):
            cure = "; give several one by one, as in to(*rooms)" if isinstance(each, list | tuple | set) else ""
            raise TypeError(f"room {each!r:.100}: expected the name of a room or the id of a socket, a str{cure}")


def checkTimeout(milliseconds: Any) -> None:
    """
    Refuse what can't be the time that acknowledgements are waited for.

    @raise TypeError: it isn't a number.
    @raise ValueError: it isn't above 0.
    """
    if milliseconds is None:
        return
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        raise TypeError(f"timeout {milliseconds!r:.100}: expected milliseconds, or None for no timeout")
    if not 0 < milliseconds < float("inf"):
        raise ValueError(f"timeout {milliseconds!r}: expected milliseconds above 0, or None for no timeout")


class Operator:
    """
    Some sockets of a namespace, to send them an event or to do something else with them.

    An operator never changes: C{to}, C{volatile} and the others return a new one.
    """

    __slots__ = ("_namespace", "_target")

    def __init__(self, namespace: Any, target: Target) -> None:
        self._namespace = namespace
        self._target = target

    def __repr__(self) -> str:
        # Not the rooms: the id of a client of protocol 4 is one, and a secret.
        target = self._target
        return f"<Operator {self._namespace.name}, {len(target.rooms)} rooms, {len(target.excluded)} excluded>"

    def to(self, *rooms: str) -> Operator:
        """
        Return an operator for the sockets in some rooms, and those already chosen by rooms.

        @param rooms: names of rooms or ids of sockets. A socket in several of them counts once.
        @raise TypeError: a name is not text.
        """
        checkRooms(rooms)
        return Operator(self._namespace, attrs.evolve(self._target, rooms=self._target.rooms.union(rooms)))

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """
        Return an operator without the sockets in some rooms.

        @param rooms: names of rooms or ids of sockets.
        @raise TypeError: a name is not text.
        """
        checkRooms(rooms)
        return Operator(self._namespace, attrs.evolve(self._target, excluded=self._target.excluded.union(rooms)))

    def _with(self, **flags: Any) -> Operator:
        return Operator(self._namespace, attrs.evolve(self._target, flags=attrs.evolve(self._target.flags, **flags)))

    @property
    def volatile(self) -> Operator:
        """The same, whose events are dropped for each recipient that would have to wait."""
        return self._with(volatile=True)

    @property
    def local(self) -> Operator:
        """The same, limited to this process."""
        return self._with(local=True)

    def compress(self, compress: bool) -> Operator:
        """Return the same, with or without compression."""
        return self._with(compress=bool(compress))

    def timeout(self, milliseconds: float | None) -> Operator:
        """
        Return the same, with a timeout of L{emitWithAck}.

        @param milliseconds: the timeout; None waits until the sockets end.
        """
        checkTimeout(milliseconds)
        # The option has the meaning of None here.
        return self._with(timeout=float("inf") if milliseconds is None else milliseconds)

    def emit(self, event: str, *arguments: Any) -> None:
        """
        Send an event. It is encoded once for all, and a recipient that fails does not stop it for others.

        @param arguments: values that JSON can carry, and bytes.
        @raise ReservedEvent: the name is reserved.
        @raise UnsendableValue: an argument cannot be sent.
        """
        checkEvent(event)
        namespace = self._namespace
        namespace.adapter.broadcast(Packet(PacketType.EVENT, namespace.name, None, [event, *arguments]), self._target)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message}: see L{emit}."""
        self.emit("message", *arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """
        Send an event, and await the acknowledgements of all recipients.

        @return: a Deferred of a list of answers, each like that of L{Socket.emitWithAck}, in the order in which they
            came. It fires when all have answered, at once if there is no recipient. It fails with L{AckTimeout} when
            the time is over, or when all others have answered and some have ended. Cancelling it forgets the answers.
        @raise ReservedEvent: the name is reserved.
        @raise UnsendableValue: an argument cannot be sent.
        """
        checkEvent(event)
        namespace = self._namespace
        packet = Packet(PacketType.EVENT, namespace.name, None, [event, *arguments])
        answers: Deferred[list[Any]] = namespace.adapter.broadcastWithAck(packet, self._target)
        return answers

    def fetchSockets(self) -> Deferred[list[RemoteSocket]]:
        """Return a Deferred of a list of these sockets, of all processes, each a L{RemoteSocket}."""
        sockets: Deferred[list[RemoteSocket]] = self._namespace.adapter.fetchSockets(self._target)
        return sockets

    def socketsJoin(self, *rooms: str) -> None:
        """Add these sockets to rooms. In other processes it takes effect later."""
        checkRooms(rooms)
        self._namespace.adapter.addSockets(self._target, rooms)

    def socketsLeave(self, *rooms: str) -> None:
        """Remove these sockets from rooms. In other processes it takes effect later."""
        checkRooms(rooms)
        self._namespace.adapter.removeSockets(self._target, rooms)

    def disconnectSockets(self, close: bool = False) -> None:
        """
        Disconnect these sockets from the namespace. In other processes it takes effect later.

        @param close: whether to close their sessions, with all their namespaces.
        """
        self._namespace.adapter.disconnectSockets(self._target, close)


class Broadcaster:
    """
    What is sent to all sockets of a namespace, or to some: the part of L{Namespace} that a socket knows.

    @ivar name: the name of the namespace.
    @ivar sockets: its sockets in this process, by id. To look at.
    """

    name: str
    sockets: Mapping[str, Any]

    @property
    def _everybody(self) -> Operator:
        return Operator(self, Target())

    def to(self, *rooms: str) -> Operator:
        """
        Return an operator for the sockets in some rooms.

        @param rooms: names of rooms or ids of sockets. A socket in several of them counts once.
        @raise TypeError: a name is not text.
        """
        return self._everybody.to(*rooms)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Return an operator for all sockets, without those in some rooms."""
        return self._everybody.except_(*rooms)

    @property
    def volatile(self) -> Operator:
        """An operator for all sockets, whose events are dropped for each socket that would have to wait."""
        return self._everybody.volatile

    @property
    def local(self) -> Operator:
        """An operator for the sockets of this process."""
        return self._everybody.local

    def compress(self, compress: bool) -> Operator:
        """Return an operator for all sockets, with or without compression."""
        return self._everybody.compress(compress)

    def timeout(self, milliseconds: float | None) -> Operator:
        """Return an operator for all sockets, with a timeout of C{emitWithAck} in milliseconds, None for none."""
        return self._everybody.timeout(milliseconds)

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event to all sockets: see L{Operator.emit}."""
        self._everybody.emit(event, *arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to all sockets."""
        self._everybody.emit("message", *arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """Send an event to all sockets. Return a Deferred of their answers: see L{Operator.emitWithAck}."""
        return self._everybody.emitWithAck(event, *arguments)

    def fetchSockets(self) -> Deferred[list[RemoteSocket]]:
        """Return a Deferred of a list of all sockets of all processes, each a L{RemoteSocket}."""
        return self._everybody.fetchSockets()

    def socketsJoin(self, *rooms: str) -> None:
        """Add all sockets to rooms."""
        self._everybody.socketsJoin(*rooms)

    def socketsLeave(self, *rooms: str) -> None:
        """Remove all sockets from rooms."""
        self._everybody.socketsLeave(*rooms)

    def disconnectSockets(self, close: bool = False) -> None:
        """Disconnect all sockets from this namespace. With C{close} their sessions are closed."""
        self._everybody.disconnectSockets(close)


class SocketOperator:
    """
    One socket, with flags for what is sent to it: C{socket.volatile}, for example.

    C{to}, C{except_}, C{broadcast} and C{local} return an operator for other sockets with the same flags.
    """

    __slots__ = ("_flags", "_socket")

    def __init__(self, socket: Any, flags: Flags) -> None:
        self._socket = socket
        self._flags = flags

    @property
    def volatile(self) -> SocketOperator:
        """The same, whose events are dropped if the socket would have to wait."""
        return SocketOperator(self._socket, attrs.evolve(self._flags, volatile=True))

    def compress(self, compress: bool) -> SocketOperator:
        """Return the same, with or without compression."""
        return SocketOperator(self._socket, attrs.evolve(self._flags, compress=bool(compress)))

    def timeout(self, milliseconds: float | None) -> SocketOperator:
        """Return the same, with a timeout of L{emitWithAck} in milliseconds; None waits until the socket ends."""
        checkTimeout(milliseconds)
        timeout = float("inf") if milliseconds is None else milliseconds
        return SocketOperator(self._socket, attrs.evolve(self._flags, timeout=timeout))

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event to the socket: see L{Socket.emit}."""
        self._socket._emitWith(self._flags, event, arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to the socket."""
        self._socket._emitWith(self._flags, "message", arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[Any]:
        """Send an event to the socket. Return a Deferred of its acknowledgement: see L{Socket.emitWithAck}."""
        answer: Deferred[Any] = self._socket._emitWithAckWith(self._flags, event, arguments)
        return answer

    @property
    def broadcast(self) -> Operator:
        """An operator for all other sockets of the namespace."""
        socket = self._socket
        target = Target(excluded=frozenset((socket.id,)), flags=self._flags, sender=socket.id)
        return Operator(socket.namespace, target)

    @property
    def local(self) -> Operator:
        """An operator for all other sockets of the namespace in this process."""
        return self.broadcast.local

    def to(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets in some rooms."""
        return self.broadcast.to(*rooms)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets, without those in some rooms."""
        return self.broadcast.except_(*rooms)
