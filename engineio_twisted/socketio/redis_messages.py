"""
Messages on the channels of Redis: those of python-socketio, and our own. Pure: no Twisted, no clock, no IO.

What arrives is as untrusted as what clients send. docs/socketio-redis.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from .errors import UnsendableValue
from .interfaces import Flags, Target
from .packet import MAX_ID
from .remote_messages import (
    Event,
    InvalidMessage,
    Message,
    MessageWriter,
    Rooms,
    eventOf,
    flagOf,
    headOf,
    joined,
    objectOf,
    readMessage,
    textOf,
    textsOf,
    wrong,
)

HELLO, ALIVE, GONE = "hello", "alive", "gone"


@attrs.frozen
class Call:
    """
    An event of python-socketio, which wants the answer of each client.

    @ivar data: the name and the arguments.
    @ivar callback: whom to answer, as C{(room, namespace, id)}.
    """

    host: str
    namespace: str
    target: Target
    data: list[Any]
    callback: tuple[str, str, int]


@attrs.frozen
class Client:
    """
    What python-socketio wants of one client.

    @ivar method: C{disconnect}, C{enter_room} or C{leave_room}.
    @ivar room: the room.
    """

    host: str
    namespace: str
    sid: str
    method: str
    room: str = ""


@attrs.frozen
class Presence:
    """A process says that it has come, and wants to know of the others; that it is there; or that it goes."""

    host: str
    says: str


RedisMessage: TypeAlias = "Message | Call | Client | Presence"


class PeersWriter(MessageWriter):
    """
    Writes the messages of a process, those for python-socketio too.

    @ivar beginsForPeers: what the latter begin with, but answers.
    """

    def __init__(self, host: str, default: Callable[[Any], Any] | None = None) -> None:
        super().__init__(host, default)
        self.beginsForPeers: bytes = f'{{"host_id":"{host}"'.encode()

    def forPeers(self, namespace: str, target: Target, data: Sequence[Any]) -> bytes:
        """
        Return an event as python-socketio has it. Its target excludes nothing.

        @param data: the name and the arguments.
        @raise UnsendableValue: something in it can't be sent.
        """
        # What one of theirs has no key for, it leaves alone.
        compress = {} if target.flags.compress else {"compress": False}
        rooms = sorted(target.rooms)
        return self.write(
            {
                "host_id": self.host,
                "method": "emit",
                "event": data[0],
                "namespace": namespace,
                "room": rooms if len(rooms) > 1 else rooms[0] if rooms else None,
                "skip_sid": None,
                "callback": None,
                **compress,
            },
            data[1:],
        )

    def callback(self, event: Call, arguments: Sequence[Any]) -> bytes:
        """
        Return the answer to an event of python-socketio.

        @raise UnsendableValue: something in it can't be sent; bytes neither.
        """
        text, attachments = self.encode(arguments)
        if attachments:
            raise UnsendableValue("args", "bytes can't be an answer to python-socketio")
        room, namespace, id = event.callback  # noqa: A001
        fields = {"method": "callback", "host_id": event.host, "sid": room, "namespace": namespace, "id": id}
        return joined(fields, f'"args":{text}')

    def peerOrder(self, method: str, namespace: str, **fields: str) -> bytes:
        """Return what python-socketio calls C{disconnect}, C{enter_room}, C{leave_room} or C{close_room}."""
        return joined({"host_id": self.host, "method": method, "namespace": namespace, **fields})

    def presence(self, says: str) -> bytes:
        """Return that the process has come, is there, or goes."""
        return joined(self._head(says))


def readPeers(payload: bytes) -> RedisMessage | None:
    """
    Return what came on the channel of python-socketio; None for an answer, as none is asked for there.

    @raise InvalidMessage: it is none of its messages, or none that may come.
    """
    message = objectOf(payload)
    method = message.get("method")
    host = textOf(message, "host_id")
    if method == "callback":
        return None
    namespace = textOf(message, "namespace", "/")
    if method == "emit":
        callback = _callbackOf(message.get("callback"))
        excluded = _someOf(message, "skip_sid", mayBeEmpty=True)
        target = Target(_someOf(message, "room"), excluded, Flags(compress=flagOf(message, "compress", True)))
        data = eventOf(message)
        if callback is None:
            return Event(host, namespace, target, data)
        return Call(host, namespace, target, data, callback)
    if method == "close_room":
        room = frozenset((textOf(message, "room"),))
        return Rooms(host, namespace, Target(room), False, room)
    if method == "disconnect":
        return Client(host, namespace, textOf(message, "sid"), method)
    if method == "enter_room" or method == "leave_room":
        return Client(host, namespace, textOf(message, "sid"), method, textOf(message, "room"))
    raise InvalidMessage("an unknown method")


def readOwn(payload: bytes) -> RedisMessage:
    """
    Return what came on our own channel.

    @raise InvalidMessage: it is none of our messages, or none that may come.
    """
    message = objectOf(payload)
    kind, host = headOf(message)
    return Presence(host, kind) if kind in (HELLO, ALIVE, GONE) else readMessage(message)


def _someOf(message: dict[str, Any], name: str, mayBeEmpty: bool = False) -> frozenset[str]:
    """Return what is None, a text or a list of texts. An empty list of rooms is for nobody, and not for all."""
    value = message.get(name)
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset((value,))
    if mayBeEmpty and isinstance(value, list):
        return textsOf([each for each in value if each is not None])
    return textsOf(value) or wrong(name)


def _callbackOf(value: object) -> tuple[str, str, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 3:
        room, namespace, id = value  # noqa: A001
        if isinstance(room, str) and isinstance(namespace, str) and type(id) is int and 0 <= id <= MAX_ID:
            return room, namespace, id
    return wrong("callback")
