"""The interfaces of the Socket.IO layer: what a parser and an adapter have to provide."""

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

    @ivar volatile: drop it for each recipient that would have to wait.
    @ivar compress: whether it may be compressed.
    @ivar timeout: milliseconds to wait for acknowledgements; None for the option `ackTimeout`.
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

    @ivar rooms: names of rooms, a socket's id among them; empty for all of the namespace.
    @ivar excluded: rooms or ids that don't get it.
    @ivar flags: how it is sent.
    @ivar sender: of a socket that sends to all others, its id, which is excluded: no other process has that socket.
    """

    rooms: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    flags: Flags = Flags()
    sender: str | None = None


class IParser(Interface):
    """Packets as messages. One parser serves all sessions, so it has no state of one. docs/socketio-protocol.md."""

    def encode(type: int, namespace: str, id: int | None, data: Any) -> Encoded:  # noqa: A002
        """
        Return a packet as messages.

        @param type: a L{PacketType}: an EVENT or an ACK becomes binary by itself if there are bytes in its data.
        @param data: of an EVENT a list of its name and its arguments, of an ACK a list, of others any value or None.
        @raise UnsendableValue: something in the data can't be sent.
        """

    def decode(message: str | bytes) -> Packet | IncompletePacket:
        """
        Return the packet of a message, or what the messages that follow complete.

        @raise InvalidPacket: it isn't one.
        """


class IAdapter(Interface):
    """
    The rooms of one namespace, and what connects it with the same namespace in other processes.

    The first five are answered at once, and concern sockets of this process. The others may return a Deferred.
    """

    namespace = Attribute("The L{Namespace}.")

    def add(id: str, rooms: Iterable[str]) -> None:  # noqa: A002
        """Put a socket into rooms."""

    def remove(id: str, room: str) -> None:  # noqa: A002
        """Take a socket out of a room. One that it isn't in is no error."""

    def removeAll(id: str) -> None:  # noqa: A002
        """Take a socket out of all rooms, as it has ended."""

    def roomsOf(id: str) -> frozenset[str]:  # noqa: A002
        """Return the rooms of a socket, without the one that is its id."""

    def socketsIn(rooms: Collection[str], excluded: Collection[str]) -> list[Any]:
        """
        Return the sockets of this process that are in one of some rooms, and in no excluded one; each once.

        @param rooms: names, or ids of sockets; none for all sockets.
        """

    def broadcast(packet: Packet, target: Target) -> None:
        """Send an event to a target, in all processes. The packet is an EVENT without an id."""

    def broadcastWithAck(packet: Packet, target: Target) -> Deferred[list[Any]]:
        """Send an event to a target, and return a Deferred of the answers, as L{Operator.emitWithAck} says."""

    def fetchSockets(target: Target) -> Deferred[list[Any]]:
        """Return a Deferred of a list of L{RemoteSocket}."""

    def addSockets(target: Target, rooms: Iterable[str]) -> None:
        """Put the sockets of a target into rooms, in all processes."""

    def removeSockets(target: Target, rooms: Iterable[str]) -> None:
        """Take the sockets of a target out of rooms, in all processes."""

    def disconnectSockets(target: Target, close: bool) -> None:
        """Disconnect the sockets of a target, in all processes; with C{close} their sessions too."""

    def serverSideEmit(event: str, arguments: list[Any]) -> None:
        """Send an event to the other processes. @raise NotSupported: there are none for this adapter."""

    def serverSideEmitWithAck(event: str, arguments: list[Any], timeout: float | None) -> Deferred[list[Any]]:
        """Send an event to the other processes, and return a Deferred of their answers."""

    def start() -> None:
        """Called when the namespace begins."""

    def close() -> Deferred[None] | None:
        """Called when the namespace ends. What is returned is waited for."""
