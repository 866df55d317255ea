"""The rooms of one namespace, joined with those of other processes. docs/architecture/socketio.md."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.python.failure import Failure

from .adapter import MemoryAdapter
from .errors import AckTimeout, RemoteTimeout, UnsendableValue
from .interfaces import Target
from .packet import Packet, PacketType
from .remote import RemoteSocket
from .remote_messages import (
    Disconnect,
    Event,
    InvalidMessage,
    MessageWriter,
    Newest,
    Position,
    Rooms,
    ServerEvent,
    Session,
    Sockets,
    readItem,
)


class Bus(Protocol):
    """What all namespaces of a L{SocketIO} share to reach other processes, as far as one of them knows it."""

    @property
    def writer(self) -> MessageWriter: ...

    @property
    def requestTimeout(self) -> float: ...

    def opened(self, namespace: Any) -> None: ...

    def closed(self, namespace: Any) -> Deferred[None]: ...

    def checked(self, message: bytes) -> bytes: ...

    def publish(self, message: bytes) -> None: ...

    def ask(
        self, message: bytes, seconds: float | None, read: Callable[[dict[str, Any]], Any]
    ) -> Deferred[tuple[list[Any], int]]: ...


Outgoing: TypeAlias = "tuple[Callable[[bytes], object], bytes]"
"""A message that may be published, behind what publishes it."""


class RemoteNamespace(MemoryAdapter):
    """
    The rooms of one namespace in this process, and what connects it with the same namespace in others.

    @param namespace: the L{Namespace}.
    @param shared: what all namespaces of its L{SocketIO} share.
    """

    def __init__(self, namespace: Any, shared: Bus) -> None:
        super().__init__(namespace)
        self.name: str = namespace.name
        self._shared: Bus = shared

    def start(self) -> None:
        self._shared.opened(self)

    def close(self) -> Deferred[None]:
        return self._shared.closed(self)

    def _elsewhere(self, target: Target) -> Target | None:
        """Return the part of a target that other processes may have; None if they have none."""
        if target.flags.local:
            return None
        socketOf, sessions = self.namespace.socketOf, self.namespace.io.engine.clients

        def isHere(name: str) -> bool:
            # In protocol 4 an id is that of the session, a secret: also of a socket that has ended before its session.
            return socketOf(name) is not None or name.rpartition("#")[2] in sessions

        rooms, excluded = target.rooms, target.excluded
        if rooms:
            rooms = frozenset([each for each in rooms if not isHere(each)])
            if not rooms:
                return None
        if excluded:
            excluded = frozenset([each for each in excluded if each != target.sender and not isHere(each)])
        return Target(rooms, excluded, target.flags)

    # What goes to other processes

    def broadcast(self, packet: Packet, target: Target) -> None:
        there = self._elsewhere(target)
        if there is None:
            super().broadcast(packet, target)
            return
        position = self._nextPosition(target)
        publish, message = self._eventMessage(there, packet.data, position)
        self.namespace.deliver(packet, target, position)
        publish(message)

    def _nextPosition(self, target: Target) -> Position | None:
        """Return the position of an event that is about to be sent to all processes, if the others are told of it."""
        return None

    def _own(self, message: bytes) -> Outgoing:
        """Return a message for processes of ours. @raise AdapterError: it is too large."""
        return self._shared.publish, self._shared.checked(message)

    def _eventMessage(self, there: Target, data: Sequence[Any], position: Position | None) -> Outgoing:
        """Return what tells other processes of an event."""
        return self._own(self._shared.writer.event(self.name, there, data, position))

    def _roomMessages(self, there: Target, joins: bool, rooms: tuple[str, ...]) -> list[Outgoing]:
        """Return what tells other processes that sockets join or leave rooms."""
        return [self._own(self._shared.writer.rooms(self.name, there, joins, rooms))]

    def _disconnectMessages(self, there: Target, close: bool) -> list[Outgoing]:
        """Return what tells other processes that sockets are to be disconnected."""
        return [self._own(self._shared.writer.disconnect(self.name, there, close))]

    def broadcastWithAck(self, packet: Packet, target: Target) -> Deferred[list[Any]]:
        there = self._elsewhere(target)
        if there is None:
            return super().broadcastWithAck(packet, target)
        shared = self._shared
        timeout = self.namespace.ackTimeout(target.flags)
        there = attrs.evolve(there, flags=attrs.evolve(there.flags, timeout=timeout))
        message = shared.checked(shared.writer.event(self.name, there, packet.data))
        missing: list[str] = []

        def read(item: dict[str, Any]) -> list[Any]:
            if "missing" in item:
                if not isinstance(item["missing"], str):
                    raise InvalidMessage("a missing socket without an id")
                missing.append(item["missing"])
                return []
            return [valueOf(readItem(item))]

        def notAll(failure: Failure) -> list[Any]:
            failure.trap(AckTimeout)
            timeout: Any = failure.value
            missing.extend(timeout.missing)
            return [*timeout.answers]

        def joined(results: list[Any]) -> list[Any]:
            here, (parts, absent) = results
            answers = [*here, *(each for part in parts for each in part)]
            if absent:
                raise remoteTimeout(answers, absent)
            if missing:
                count, of = len(missing), len(missing) + len(answers)
                raise AckTimeout(f"{count} of {of} clients did not acknowledge the event", answers, missing)
            return answers

        here = super().broadcastWithAck(packet, target).addErrback(notAll)
        # The processes know how long clients may take, and answer when all have, or the time is over.
        asked = shared.ask(message, None if timeout is None else timeout / 1000 + shared.requestTimeout, read)
        return together(here, asked).addCallback(joined)

    def fetchSockets(self, target: Target) -> Deferred[list[RemoteSocket]]:
        here = super().fetchSockets(target)
        there = self._elsewhere(target)
        if there is None:
            return here

        def joined(results: list[Any]) -> list[RemoteSocket]:
            here, (found, absent) = results
            if absent:
                raise remoteTimeout([*here, *found], absent)
            return [*here, *found]

        shared = self._shared
        message = shared.checked(shared.writer.sockets(self.name, there))
        return together(here, shared.ask(message, shared.requestTimeout, self._readSocket)).addCallback(joined)

    def _readSocket(self, item: dict[str, Any]) -> RemoteSocket:
        id, rooms, values = item.get("id"), item.get("rooms"), readItem(item)  # noqa: A001
        if not isinstance(id, str) or not isinstance(rooms, list) or not all(isinstance(each, str) for each in rooms):
            raise InvalidMessage("a socket without id and rooms")
        if len(values) != 2 or not all(isinstance(each, dict) for each in values):
            raise InvalidMessage("a socket without data and handshake")
        return RemoteSocket(self.namespace, id, frozenset(rooms), *values)

    def addSockets(self, target: Target, rooms: Iterable[str]) -> None:
        self._changeRooms(target, tuple(rooms), True)

    def removeSockets(self, target: Target, rooms: Iterable[str]) -> None:
        self._changeRooms(target, tuple(rooms), False)

    def _changeRooms(self, target: Target, rooms: tuple[str, ...], joins: bool) -> None:
        there = self._elsewhere(target)
        messages = [] if there is None else self._roomMessages(there, joins, rooms)
        if joins:
            super().addSockets(target, rooms)
        else:
            super().removeSockets(target, rooms)
        for publish, message in messages:
            publish(message)

    def disconnectSockets(self, target: Target, close: bool) -> None:
        there = self._elsewhere(target)
        messages = [] if there is None else self._disconnectMessages(there, close)
        super().disconnectSockets(target, close)
        for publish, message in messages:
            publish(message)

    def serverSideEmit(self, event: str, arguments: list[Any]) -> None:
        shared = self._shared
        shared.publish(shared.checked(shared.writer.serverEvent(self.name, [event, *arguments])))

    def serverSideEmitWithAck(self, event: str, arguments: list[Any], timeout: float | None) -> Deferred[list[Any]]:
        shared = self._shared
        message = shared.checked(shared.writer.serverEvent(self.name, [event, *arguments]))

        def answered(result: tuple[list[Any], int]) -> list[Any]:
            answers, absent = result
            if absent:
                raise remoteTimeout(answers, absent)
            return answers

        seconds = shared.requestTimeout if timeout is None else timeout / 1000
        return shared.ask(message, seconds, lambda item: valueOf(readItem(item))).addCallback(answered)

    # What comes from other processes

    def received(self, message: Event | ServerEvent | Rooms | Disconnect | Newest) -> None:
        """Called with what another process wants done here."""
        if isinstance(message, Event):
            super().broadcast(self._packet(message), message.target)
        elif isinstance(message, Rooms):
            change = super().addSockets if message.joins else super().removeSockets
            change(message.target, message.rooms)
        elif isinstance(message, Disconnect):
            super().disconnectSockets(message.target, message.close)
        elif isinstance(message, ServerEvent):
            self.namespace.serverSideReceived(message.data[0], message.data[1:]).addErrback(lambda _: None)

    def _packet(self, event: Event) -> Packet:
        return Packet(PacketType.EVENT, self.name, None, event.data)

    def itemsFor(self, about: Event | ServerEvent | Sockets | Session) -> Deferred[list[bytes] | None]:
        """Return a Deferred of the items that answer another process, None if it can't be answered; or it fails."""
        if isinstance(about, Session):
            return succeed(None)
        if isinstance(about, ServerEvent):
            answer = self.namespace.serverSideReceived(about.data[0], about.data[1:])
            items: Deferred[list[bytes] | None] = answer.addCallback(lambda value: [self._item(value)])
            return items
        if isinstance(about, Sockets):
            found = self.socketsIn(about.target.rooms, about.target.excluded)
            return succeed([self._socketItem(each.asRemote()) for each in found])
        secret = {each.id: each.remoteId for each in self.socketsIn(about.target.rooms, about.target.excluded)}
        answers = super().broadcastWithAck(self._packet(about), about.target)
        return answers.addCallbacks(self._items, self._itemsSoFar, errbackArgs=(secret,))

    def _items(self, answers: Collection[Any]) -> list[bytes]:
        return [self._item(each) for each in answers]

    def _itemsSoFar(self, failure: Failure, remoteIds: dict[str, str]) -> list[bytes]:
        failure.trap(AckTimeout)
        timeout: Any = failure.value
        missing = [remoteIds.get(each, each) for each in timeout.missing]
        return self._items(timeout.answers) + [self._shared.writer.item({"missing": each}, []) for each in missing]

    def _item(self, value: Any) -> bytes:
        return self._shared.writer.item({}, value if type(value) is tuple else [value])

    def _socketItem(self, socket: RemoteSocket) -> bytes:
        fields = {"id": socket.id, "rooms": sorted(socket.rooms)}
        writer = self._shared.writer
        try:
            return writer.item(fields, [socket.data, socket.handshake])
        except UnsendableValue:
            # What an application keeps of a client need not be for others.
            return writer.item(fields, [{}, socket.handshake])


def valueOf(arguments: list[Any]) -> Any:
    """Return what an answer is for the application."""
    return arguments[0] if len(arguments) == 1 else tuple(arguments)


def remoteTimeout(answers: list[Any], absent: int) -> RemoteTimeout:
    processes = "1 process" if absent == 1 else f"{absent} processes"
    return RemoteTimeout(f"{processes} did not answer", answers, absent)


def together(*waiting: Deferred[Any]) -> Deferred[list[Any]]:
    """Return a Deferred of the results of others, which cancels them if it is cancelled."""

    def failed(failure: Failure) -> Failure:
        error: Any = failure.value
        return error.subFailure if isinstance(error, FirstError) else failure

    return gatherResults(waiting, consumeErrors=True).addErrback(failed)
