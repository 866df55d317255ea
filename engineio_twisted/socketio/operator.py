"""Who gets an event, and how: what C{to}, C{except_}, C{volatile} and their kin return. docs/socketio-rooms.md."""

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
    Some sockets of a namespace, to send an event to or to do something else with.

    It never changes: each of its methods that choose returns another one.
    """

    __slots__ = ("_namespace", "_target")

    def __init__(self, namespace: Any, target: Target) -> None:
        self._namespace = namespace
        self._target = target

    def __repr__(self) -> str:
        return f"<Operator {self._namespace.name} {self._target}>"

    def to(self, *rooms: str) -> Operator:
        """
        Return an operator for the sockets of some rooms too.

        @param rooms: names of rooms, or ids of sockets. A socket in several of them counts once.
        @raise TypeError: one isn't text.
        """
        checkRooms(rooms)
        return Operator(self._namespace, attrs.evolve(self._target, rooms=self._target.rooms.union(rooms)))

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """
        Return an operator without the sockets of some rooms.

        @param rooms: names of rooms, or ids of sockets.
        @raise TypeError: one isn't text.
        """
        checkRooms(rooms)
        return Operator(self._namespace, attrs.evolve(self._target, excluded=self._target.excluded.union(rooms)))

    def _with(self, **flags: Any) -> Operator:
        return Operator(self._namespace, attrs.evolve(self._target, flags=attrs.evolve(self._target.flags, **flags)))

    @property
    def volatile(self) -> Operator:
        """The same, and each recipient that would have to wait for an event doesn't get it."""
        return self._with(volatile=True)

    @property
    def local(self) -> Operator:
        """The same, of this process only."""
        return self._with(local=True)

    def compress(self, compress: bool) -> Operator:
        """Return the same, whose events may be compressed or not."""
        return self._with(compress=bool(compress))

    def timeout(self, milliseconds: float | None) -> Operator:
        """
        Return the same, with a time for L{emitWithAck}.

        @param milliseconds: how long it waits; None for as long as the sockets last.
        """
        checkTimeout(milliseconds)
        # The option has the meaning of None here.
        return self._with(timeout=float("inf") if milliseconds is None else milliseconds)

    def emit(self, event: str, *arguments: Any) -> None:
        """
        Send an event. It is encoded once, and a recipient that fails keeps it from no other.

        @param arguments: what JSON can carry, and bytes.
        @raise ReservedEvent: the protocol keeps the name for itself.
        @raise UnsendableValue: an argument can't be sent.
        """
        checkEvent(event)
        namespace = self._namespace
        namespace.adapter.broadcast(Packet(PacketType.EVENT, namespace.name, None, [event, *arguments]), self._target)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message}, as L{emit}."""
        self.emit("message", *arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """
        Send an event, and return a Deferred of the list of acknowledgements, each as of L{Socket.emitWithAck}.

        It fires when all have answered; at once with an empty list if there is nobody. Cancelling it forgets the
        answers. It fails with L{AckTimeout}, which has the C{answers} that came and the ids that are C{missing}: when
        the time is over, or all others have answered and some have ended.

        @raise ReservedEvent: the protocol keeps the name for itself.
        @raise UnsendableValue: an argument can't be sent.
        """
        checkEvent(event)
        namespace = self._namespace
        packet = Packet(PacketType.EVENT, namespace.name, None, [event, *arguments])
        answers: Deferred[list[Any]] = namespace.adapter.broadcastWithAck(packet, self._target)
        return answers

    def fetchSockets(self) -> Deferred[list[RemoteSocket]]:
        """Return a Deferred of these sockets, of all processes, each as a L{RemoteSocket}."""
        sockets: Deferred[list[RemoteSocket]] = self._namespace.adapter.fetchSockets(self._target)
        return sockets

    def socketsJoin(self, *rooms: str) -> None:
        """Put these sockets into rooms. In other processes it happens later."""
        checkRooms(rooms)
        self._namespace.adapter.addSockets(self._target, rooms)

    def socketsLeave(self, *rooms: str) -> None:
        """Take these sockets out of rooms. In other processes it happens later."""
        checkRooms(rooms)
        self._namespace.adapter.removeSockets(self._target, rooms)

    def disconnectSockets(self, close: bool = False) -> None:
        """
        Disconnect these sockets from the namespace. In other processes it happens later.

        @param close: whether their sessions are closed, with all their namespaces.
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
        Return an operator for the sockets of some rooms.

        @param rooms: names of rooms, or ids of sockets. A socket in several of them counts once.
        @raise TypeError: one isn't text.
        """
        return self._everybody.to(*rooms)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Return an operator for all sockets but those of some rooms."""
        return self._everybody.except_(*rooms)

    @property
    def volatile(self) -> Operator:
        """All sockets; each that would have to wait for an event doesn't get it."""
        return self._everybody.volatile

    @property
    def local(self) -> Operator:
        """All sockets of this process."""
        return self._everybody.local

    def compress(self, compress: bool) -> Operator:
        """Return an operator for all sockets, whose events may be compressed or not."""
        return self._everybody.compress(compress)

    def timeout(self, milliseconds: float | None) -> Operator:
        """Return an operator for all sockets, with a time for C{emitWithAck} in milliseconds."""
        return self._everybody.timeout(milliseconds)

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event to all sockets, as L{Operator.emit}."""
        self._everybody.emit(event, *arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to all sockets."""
        self._everybody.emit("message", *arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """Send an event to all sockets, and return a Deferred of their answers, as L{Operator.emitWithAck}."""
        return self._everybody.emitWithAck(event, *arguments)

    def fetchSockets(self) -> Deferred[list[RemoteSocket]]:
        """Return a Deferred of all sockets, of all processes, each as a L{RemoteSocket}."""
        return self._everybody.fetchSockets()

    def socketsJoin(self, *rooms: str) -> None:
        """Put all sockets into rooms."""
        self._everybody.socketsJoin(*rooms)

    def socketsLeave(self, *rooms: str) -> None:
        """Take all sockets out of rooms."""
        self._everybody.socketsLeave(*rooms)

    def disconnectSockets(self, close: bool = False) -> None:
        """Disconnect all sockets from this namespace; with C{close} their sessions are closed."""
        self._everybody.disconnectSockets(close)


class SocketOperator:
    """
    One socket, and how it is sent something: what C{socket.volatile} and its kin return.

    C{to}, C{except_}, C{broadcast} and C{local} go on from here to all others, sent in the same way.
    """

    __slots__ = ("_flags", "_socket")

    def __init__(self, socket: Any, flags: Flags) -> None:
        self._socket = socket
        self._flags = flags

    @property
    def volatile(self) -> SocketOperator:
        """The same, and if it would have to wait for an event it doesn't get it."""
        return SocketOperator(self._socket, attrs.evolve(self._flags, volatile=True))

    def compress(self, compress: bool) -> SocketOperator:
        """Return the same, whose events may be compressed or not."""
        return SocketOperator(self._socket, attrs.evolve(self._flags, compress=bool(compress)))

    def timeout(self, milliseconds: float | None) -> SocketOperator:
        """Return the same, with a time for L{emitWithAck} in milliseconds; None for as long as the socket lasts."""
        checkTimeout(milliseconds)
        timeout = float("inf") if milliseconds is None else milliseconds
        return SocketOperator(self._socket, attrs.evolve(self._flags, timeout=timeout))

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event to the socket, as L{Socket.emit}."""
        self._socket.emitWith(self._flags, event, arguments)

    def send(self, *arguments: Any) -> None:
        """Send an event named C{message} to the socket."""
        self._socket.emitWith(self._flags, "message", arguments)

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[Any]:
        """Send an event to the socket, and return a Deferred of its acknowledgement, as L{Socket.emitWithAck}."""
        answer: Deferred[Any] = self._socket.emitWithAckWith(self._flags, event, arguments)
        return answer

    @property
    def broadcast(self) -> Operator:
        """All other sockets of the namespace."""
        socket = self._socket
        target = Target(excluded=frozenset((socket.id,)), flags=self._flags, sender=socket.id)
        return Operator(socket.namespace, target)

    @property
    def local(self) -> Operator:
        """All other sockets of the namespace in this process."""
        return self.broadcast.local

    def to(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets of some rooms."""
        return self.broadcast.to(*rooms)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Return an operator for the other sockets, without those of some rooms."""
        return self.broadcast.except_(*rooms)
