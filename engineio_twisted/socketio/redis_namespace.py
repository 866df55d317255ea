"""The rooms of one namespace, joined with those of other processes by way of Redis. docs/socketio-redis.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .errors import AdapterError, UnsendableValue
from .interfaces import Flags, Target
from .redis_messages import Call, Client, PeersWriter
from .remote_messages import Disconnect, Event, Newest, Position, Rooms, ServerEvent
from .remote_namespace import Bus, Outgoing, RemoteNamespace


class RedisBus(Bus, Protocol):
    """What all namespaces of a L{RedisAdapter} share."""

    @property
    def writer(self) -> PeersWriter: ...

    def publishForPeers(self, message: bytes) -> None: ...


class RedisNamespace(RemoteNamespace):
    """
    The rooms of one namespace in this process, and what connects it with the same namespace in others.

    What python-socketio can say is said as it says it.

    @param namespace: the L{Namespace}.
    @param shared: the L{RedisAdapter}.
    """

    _shared: RedisBus

    def __init__(self, namespace: Any, shared: RedisBus) -> None:
        super().__init__(namespace, shared)

    def _forPeers(self, message: bytes) -> Outgoing:
        """Return a message for processes of python-socketio too. @raise AdapterError: it is too large."""
        return self._shared.publishForPeers, self._shared.checked(message)

    def _eventMessage(self, there: Target, data: Sequence[Any], position: Position | None) -> Outgoing:
        if there.excluded or there.flags.volatile:
            return super()._eventMessage(there, data, position)
        return self._forPeers(self._shared.writer.forPeers(self.name, there, data))

    def _roomMessages(self, there: Target, joins: bool, rooms: tuple[str, ...]) -> list[Outgoing]:
        own = super()._roomMessages(there, joins, rooms)
        if len(there.rooms) != 1 or there.excluded:
            return own
        # A single one may be the id of a client of python-socketio.
        (one,) = there.rooms
        order = self._shared.writer.peerOrder
        if not joins and rooms == (one,):
            return [self._forPeers(order("close_room", self.name, room=one)), *own]
        method = "enter_room" if joins else "leave_room"
        return [*[self._forPeers(order(method, self.name, sid=one, room=each)) for each in rooms], *own]

    def _disconnectMessages(self, there: Target, close: bool) -> list[Outgoing]:
        own = super()._disconnectMessages(there, close)
        if len(there.rooms) != 1 or there.excluded:
            return own
        (one,) = there.rooms
        return [self._forPeers(self._shared.writer.peerOrder("disconnect", self.name, sid=one)), *own]

    # What comes from other processes

    def received(self, message: Event | ServerEvent | Rooms | Disconnect | Newest | Call | Client) -> None:
        if isinstance(message, Client):
            self._order(message)
        elif isinstance(message, Call):
            self._emitWithCallback(message)
        else:
            super().received(message)

    def _order(self, order: Client) -> None:
        socket = self.namespace.socketOf(order.sid)
        if socket is None:
            return
        if order.method == "disconnect":
            socket.disconnect()
        elif order.method == "enter_room":
            socket.join(order.room)
        else:
            socket.leave(order.room)

    def _emitWithCallback(self, event: Call) -> None:
        """Send an event of python-socketio, which wants to hear of each answer by itself."""
        name, *arguments = event.data
        flags = Flags(compress=event.target.flags.compress)
        for socket in self.socketsIn(event.target.rooms, event.target.excluded):
            answer = socket._emitWithAckWith(flags, name, tuple(arguments))
            answer.addCallbacks(self._callBack, lambda _: None, callbackArgs=(event,))

    def _callBack(self, answer: Any, event: Call) -> None:
        arguments = [*answer] if type(answer) is tuple else [] if answer is None else [answer]
        try:
            message = self._shared.checked(self._shared.writer.callback(event, arguments))
        except (UnsendableValue, AdapterError):
            return
        self._shared.publishForPeers(message)
