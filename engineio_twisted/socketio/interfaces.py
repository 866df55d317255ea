"""The interfaces of the Socket.IO layer: parsers and adapters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .packet import IncompletePacket, Packet

Encoded: TypeAlias = "str | bytes | list[str | bytes]"
"""A packet as the engine's messages: one, or a list of the text and its attachments, which go all or none."""


@attrs.frozen
class Flags:
    """
    How an event is sent.

    @ivar volatile: whether it is dropped for each recipient that would have to wait.
    @ivar compress: whether it may be compressed.
    @ivar timeout: milliseconds to wait for acknowledgements; None for the option C{ackTimeout}.
    @ivar local: whether it is for sockets of this process only.
    """

    volatile: bool = False
    compress: bool = True
    timeout: float | None = None
    local: bool = False


@attrs.frozen
class Target:
    """
    The recipients of an event: the sockets in one of the rooms, each once, without those in an excluded one.

    @ivar rooms: names of rooms or ids of sockets; empty for all sockets of the namespace.
    @ivar excluded: names of rooms or ids of sockets that do not get it.
    @ivar flags: how it is sent.
    @ivar sender: of a socket that sends to all others, its id, which is excluded: no other process has that socket.
    """

    rooms: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    flags: Flags = Flags()
    sender: str | None = None


class IParser(Interface):
    """Converts packets to messages and back. One parser serves all sessions, so it keeps no state of a session."""

    def encode(type: int, namespace: str, id: int | None, data: Any) -> Encoded:  # noqa: A002
        """
        Return the messages of a packet.

        @param type: a L{PacketType}. An EVENT or an ACK whose data contains bytes becomes binary.
        @param data: for an EVENT a list of its name and its arguments, for an ACK a list of its arguments, for others
            any value or None.
        @raise UnsendableValue: a value in the data cannot be sent.
        """

    def decode(message: str | bytes) -> Packet | IncompletePacket:
        """
        Return the packet of a message; an L{IncompletePacket} if its attachments follow.

        @raise InvalidPacket: the message is no packet.
        """


class IAdapter(Interface):
    """
    The rooms of one namespace, and its connection to the same namespace in other processes.

    C{add}, C{remove}, C{removeAll}, C{roomsOf} and C{socketsIn} concern sockets of this process and return at once.
    """

    namespace = Attribute("The L{Namespace}.")
    rooms = Attribute("A mapping of the names of rooms to the ids of their sockets, without the rooms of ids.")

    def add(id: str, rooms: Iterable[str]) -> None:  # noqa: A002
        """Add a socket to rooms."""

    def remove(id: str, room: str) -> None:  # noqa: A002
        """Remove a socket from a room. Does nothing if it is not in the room."""

    def removeAll(id: str) -> None:  # noqa: A002
        """Remove a socket from all rooms. Called when it ends."""

    def roomsOf(id: str) -> frozenset[str]:  # noqa: A002
        """Return the rooms of a socket, without the one that is its id."""

    def socketsIn(rooms: Collection[str], excluded: Collection[str]) -> list[Any]:
        """
        Return the sockets of this process that are in one of the rooms and in no excluded one, each once.

        @param rooms: names of rooms or ids of sockets; empty for all sockets.
        """

    def broadcast(packet: Packet, target: Target) -> None:
        """Send an event to a target, in all processes. The packet is an EVENT without an id."""

    def broadcastWithAck(packet: Packet, target: Target) -> Deferred[list[Any]]:
        """Send an event to a target. Return a Deferred of the list of answers, as L{Operator.emitWithAck} describes."""

    def fetchSockets(target: Target) -> Deferred[list[Any]]:
        """Return a Deferred of a list of L{RemoteSocket}."""

    def addSockets(target: Target, rooms: Iterable[str]) -> None:
        """Add the sockets of a target to rooms, in all processes."""

    def removeSockets(target: Target, rooms: Iterable[str]) -> None:
        """Remove the sockets of a target from rooms, in all processes."""

    def disconnectSockets(target: Target, close: bool) -> None:
        """Disconnect the sockets of a target, in all processes. With C{close} their sessions are closed."""

    def serverSideEmit(event: str, arguments: list[Any]) -> None:
        """
        Send an event to the other processes.

        @raise NotSupported: this adapter reaches no other process.
        """

    def serverSideEmitWithAck(event: str, arguments: list[Any], timeout: float | None) -> Deferred[list[Any]]:
        """Send an event to the other processes. Return a Deferred of the list of their answers."""

    def start() -> None:
        """Called when the namespace begins."""

    def recoveryBegins(recovery: Any) -> None:
        """
        Called when the namespace begins to keep sessions of clients that may come back, or ceases to.

        @param recovery: its L{Recovery}, or None. An adapter that knows the sessions of other processes sets its
            C{elsewhere}.
        """

    def close() -> Deferred[None] | None:
        """Called when the namespace ends. A Deferred that it returns is awaited."""
