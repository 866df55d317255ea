"""Rooms in memory: the adapter of a server with one process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from .errors import NotSupported
from .interfaces import IAdapter, Target

if TYPE_CHECKING:
    from .packet import Packet
    from .remote import RemoteSocket
    from .socket import Socket


@implementer(IAdapter)
class MemoryAdapter:
    """
    The rooms of one namespace in this process.

    When a socket ends, the cost grows with the number of its own rooms, not with the number of sockets. The room of a
    socket's id is not stored.

    @param namespace: the L{Namespace}.
    """

    def __init__(self, namespace: Any) -> None:
        self.namespace: Any = namespace
        self._members: dict[str, set[str]] = {}
        self._rooms: dict[str, set[str]] = {}

    def start(self) -> None:
        pass

    def close(self) -> Deferred[None] | None:
        return None

    def recoveryBegins(self, recovery: Any) -> None:
        pass

    # Rooms

    @property
    def rooms(self) -> Mapping[str, Collection[str]]:
        """The ids of the sockets in each room, without the rooms of ids. Do not change it."""
        return MappingProxyType(self._members)

    def add(self, id: str, rooms: Iterable[str]) -> None:  # noqa: A002
        own = self._rooms.setdefault(id, set())
        for room in rooms:
            own.add(room)
            members = self._members.get(room)
            if members is None:
                self._members[room] = {id}
            else:
                members.add(id)

    def remove(self, id: str, room: str) -> None:  # noqa: A002
        own = self._rooms.get(id)
        if own is not None and room in own:
            own.remove(room)
            if not own:
                del self._rooms[id]
            self._leave(id, room)

    def removeAll(self, id: str) -> None:  # noqa: A002
        for room in self._rooms.pop(id, ()):
            self._leave(id, room)

    def _leave(self, id: str, room: str) -> None:  # noqa: A002
        members = self._members[room]
        members.discard(id)
        if not members:
            del self._members[room]

    def roomsOf(self, id: str) -> frozenset[str]:  # noqa: A002
        return frozenset(self._rooms.get(id, ()))

    def socketsIn(self, rooms: Collection[str], excluded: Collection[str]) -> list[Socket]:
        sockets = self.namespace.sockets
        if not rooms:
            if not excluded:
                return [*sockets.values()]
            without = self._idsIn(excluded)
            return [each for id, each in sockets.items() if id not in without]  # noqa: A001
        ids = self._idsIn(rooms)
        if excluded:
            ids = ids - self._idsIn(excluded)
        # One that is ending may still be in its rooms.
        return [socket for each in ids if (socket := sockets.get(each)) is not None]

    def _idsIn(self, rooms: Collection[str]) -> set[str]:
        """Return the ids of the sockets in some rooms, as a set that isn't to be changed."""
        if len(rooms) == 1:
            (room,) = rooms
            members = self._members.get(room)
            if members is not None:
                return members
        found: set[str] = set()
        for room in rooms:
            members = self._members.get(room)
            if members is not None:
                found |= members
            socket = self.namespace.socketOf(room)
            if socket is not None:
                found.add(socket.id)
        return found

    # What other adapters do in all processes

    def broadcast(self, packet: Packet, target: Target) -> None:
        self.namespace.deliver(packet, target)

    def broadcastWithAck(self, packet: Packet, target: Target) -> Deferred[list[Any]]:
        answers: Deferred[list[Any]] = self.namespace.deliverWithAck(packet, target)
        return answers

    def fetchSockets(self, target: Target) -> Deferred[list[RemoteSocket]]:
        return succeed([each.asRemote() for each in self.socketsIn(target.rooms, target.excluded)])

    def addSockets(self, target: Target, rooms: Iterable[str]) -> None:
        rooms = tuple(rooms)
        for each in self.socketsIn(target.rooms, target.excluded):
            each.join(*rooms)

    def removeSockets(self, target: Target, rooms: Iterable[str]) -> None:
        rooms = tuple(rooms)
        for each in self.socketsIn(target.rooms, target.excluded):
            each.leave(*rooms)

    def disconnectSockets(self, target: Target, close: bool) -> None:
        for each in self.socketsIn(target.rooms, target.excluded):
            each.disconnect(close)

    def serverSideEmit(self, event: str, arguments: list[Any]) -> None:
        raise NotSupported(_NO_OTHERS)

    def serverSideEmitWithAck(self, event: str, arguments: list[Any], timeout: float | None) -> Deferred[list[Any]]:
        return fail(NotSupported(_NO_OTHERS))


_NO_OTHERS = "the adapter in memory has no other processes; give SocketIO another one, such as RedisAdapter(url)"
