"""
Messages between processes, as JSON texts: those of python-socketio, and our own. Pure: no Twisted, no clock, no IO.

What comes is as untrusted as what clients send. docs/socketio-redis.md.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeAlias

import attrs

from .binary import slotsOf
from .errors import RESERVED_EVENTS, InvalidPacket, UnsendableValue
from .interfaces import Flags, Target
from .packet import MAX_ID, JSONParser, PacketType

VERSION = 1
"""The version of our own messages. A process ignores those of another version."""

MAX_ATTACHMENTS = 10_000
"""Attachments of one message, whose placeholders are looked for."""


class InvalidMessage(ValueError):
    """What came is no message, or none that may come."""


# What a message says


@attrs.frozen
class Event:
    """
    An event for sockets.

    @ivar data: the name and the arguments.
    @ivar callback: of python-socketio: whom to answer, as C{(room, namespace, id)}; None for nobody.
    """

    host: str
    namespace: str
    target: Target
    data: list[Any]
    callback: tuple[str, str, int] | None = None


@attrs.frozen
class ServerEvent:
    """An event for the handlers of other processes. @ivar data: the name and the arguments."""

    host: str
    namespace: str
    data: list[Any]


@attrs.frozen
class Rooms:
    """Rooms that sockets join or leave. @ivar joins: whether they join. @ivar rooms: the names of the rooms."""

    host: str
    namespace: str
    target: Target
    joins: bool
    rooms: frozenset[str]


@attrs.frozen
class Disconnect:
    """Sockets that are to be disconnected. @ivar close: whether their sessions are closed too."""

    host: str
    namespace: str
    target: Target
    close: bool


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
class Question:
    """
    A question to each process, which answers it with items.

    @ivar id: a number that the answer has too.
    @ivar about: an L{Event} that clients acknowledge, a L{ServerEvent}, or the L{Sockets} of a target.
    """

    host: str
    id: int
    about: Event | ServerEvent | Sockets


@attrs.frozen
class Sockets:
    """The sockets of a target."""

    host: str
    namespace: str
    target: Target


@attrs.frozen
class Answer:
    """
    A part of what a process answers.

    @ivar to: the process that asked.
    @ivar items: objects that the asking process understands, with values for L{readItem}.
    @ivar isLast: whether no other part follows.
    @ivar failed: whether the process can't answer.
    """

    host: str
    to: str
    id: int
    items: list[dict[str, Any]]
    isLast: bool
    failed: bool


@attrs.frozen
class Presence:
    """A process says that it has come, and wants to know of the others; that it is there; or that it goes."""

    host: str
    says: str


Message: TypeAlias = "Event | ServerEvent | Rooms | Disconnect | Client | Question | Answer | Presence"

HELLO, ALIVE, GONE = "hello", "alive", "gone"


# Writing


class MessageWriter:
    """
    Writes the messages of a process.

    @param host: the id of the process.
    @param default: what makes something of values that JSON hasn't, or None.
    @ivar begins: what its messages begin with, so that they are known when they come back: those for python-socketio,
        but answers, and those for our own processes.
    """

    def __init__(self, host: str, default: Callable[[Any], Any] | None = None) -> None:
        self._host = host
        self._parser = JSONParser(maxAttachments=MAX_ATTACHMENTS, default=default)
        self.begins = (f'{{"host_id":"{host}"'.encode(), f'{{"host":"{host}"'.encode())

    def forPeers(self, namespace: str, target: Target, data: Sequence[Any]) -> bytes:
        """
        Return an event as python-socketio has it. Its target excludes nothing.

        @param data: the name and the arguments.
        @raise UnsendableValue: something in it can't be sent.
        """
        # What one of theirs has no key for, it leaves alone.
        compress = {} if target.flags.compress else {"compress": False}
        rooms = sorted(target.rooms)
        return self._write(
            {
                "host_id": self._host,
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

    def callback(self, event: Event, arguments: Sequence[Any]) -> bytes:
        """
        Return the answer to an event of python-socketio.

        @raise UnsendableValue: something in it can't be sent; bytes neither.
        """
        assert event.callback is not None
        text, attachments = self._encode(arguments)
        if attachments:
            raise UnsendableValue("args", "bytes can't be an answer to python-socketio")
        room, namespace, id = event.callback  # noqa: A001
        fields = {"method": "callback", "host_id": event.host, "sid": room, "namespace": namespace, "id": id}
        return _joined(fields, f'"args":{text}')

    def peerOrder(self, method: str, namespace: str, **fields: str) -> bytes:
        """Return what python-socketio calls C{disconnect}, C{enter_room}, C{leave_room} or C{close_room}."""
        return _joined({"host_id": self._host, "method": method, "namespace": namespace, **fields})

    def event(self, namespace: str, target: Target, data: Sequence[Any]) -> bytes:
        """Return an event for sockets. @raise UnsendableValue: something in it can't be sent."""
        return self._write({**self._head("event", namespace, target), "event": data[0]}, data[1:])

    def serverEvent(self, namespace: str, data: Sequence[Any]) -> bytes:
        """Return an event for other processes. @raise UnsendableValue: something in it can't be sent."""
        return self._write({**self._head("server event", namespace), "event": data[0]}, data[1:])

    def rooms(self, namespace: str, target: Target, joins: bool, rooms: Iterable[str]) -> bytes:
        """Return that sockets join or leave rooms."""
        kind = "join" if joins else "leave"
        return _joined({**self._head(kind, namespace, target), "names": sorted(rooms)})

    def disconnect(self, namespace: str, target: Target, close: bool) -> bytes:
        """Return that sockets are to be disconnected."""
        return _joined({**self._head("disconnect", namespace, target), "close": close})

    def ask(self, message: bytes, id: int) -> bytes:  # noqa: A002
        """Return a message as a question. @param message: what L{event}, L{serverEvent} or L{sockets} returned."""
        return message[:-1] + b',"id":%d}' % id

    def sockets(self, namespace: str, target: Target) -> bytes:
        """Return what asks for the sockets of a target."""
        return _joined(self._head("sockets", namespace, target))

    def answers(self, question: Question, items: Iterable[bytes] | None, maxBytes: int) -> list[bytes]:
        """
        Return an answer, in as many messages as it takes.

        @param items: what L{item} returned; None if the process can't answer.
        @param maxBytes: bytes of one message.
        @raise UnsendableValue: an item is larger.
        """
        head = _joined({**self._head("answer"), "to": question.host, "id": question.id, "failed": items is None})[:-1]
        room = maxBytes - len(head) - len(',"isLast":false,"items":[]}')
        parts: list[list[bytes]] = [[]]
        size = 0
        for each in items or ():
            if len(each) > room:
                raise UnsendableValue("answer", "larger than maxMessageBytes")
            if size + len(each) > room:
                parts.append([])
                size = 0
            parts[-1].append(each)
            size += len(each) + 1
        last = len(parts) - 1
        return [
            head + b',"isLast":%s,"items":[%s]}' % (b"true" if number == last else b"false", b",".join(part))
            for number, part in enumerate(parts)
        ]

    def item(self, fields: dict[str, Any], values: Sequence[Any]) -> bytes:
        """
        Return an item of an answer.

        @param values: they may have bytes in them.
        @raise UnsendableValue: something can't be sent.
        """
        return self._write(fields, values)

    def presence(self, says: str) -> bytes:
        """Return that the process has come, is there, or goes."""
        return _joined(self._head(says))

    def _head(self, kind: str, namespace: str | None = None, target: Target | None = None) -> dict[str, Any]:
        head: dict[str, Any] = {"host": self._host, "v": VERSION, "type": kind}
        if namespace is not None:
            head["namespace"] = namespace
        if target is not None:
            head["rooms"], head["except"] = sorted(target.rooms), sorted(target.excluded)
            flags = target.flags
            if flags.volatile:
                head["volatile"] = True
            if not flags.compress:
                head["compress"] = False
            if flags.timeout is not None and flags.timeout != float("inf"):
                head["timeout"] = flags.timeout
        return head

    def _encode(self, arguments: Sequence[Any]) -> tuple[str, list[bytes]]:
        """Return the JSON of values with placeholders, and the attachments."""
        encoded: Any = self._parser.encode(PacketType.ACK, "/", None, [*arguments])
        if isinstance(encoded, str):
            return encoded[1:], []
        text, *attachments = encoded
        return text.partition("-")[2], attachments

    def _write(self, fields: dict[str, Any], arguments: Sequence[Any]) -> bytes:
        text, attachments = self._encode(arguments)
        if attachments:
            text = ",".join([text, *(f'"{b64encode(each).decode()}"' for each in attachments)])
            text = f"[{text}]"
        return _joined(fields, f'"binary":{"true" if attachments else "false"},"data":{text}')


def _joined(fields: dict[str, Any], more: str = "") -> bytes:
    text = json.dumps(fields, separators=(",", ":"))
    if more:
        text = f"{text[:-1]}{',' if fields else ''}{more}}}"
    return text.encode()


# Reading


def readPeers(payload: bytes) -> Message | None:
    """
    Return what came on the channel of python-socketio; None for an answer, as none is asked for there.

    @raise InvalidMessage: it is none of its messages, or none that may come.
    """
    message = _object(payload)
    method = message.get("method")
    host = _text(message, "host_id")
    if method == "callback":
        return None
    namespace = _text(message, "namespace", "/")
    if method == "emit":
        callback = _callbackOf(message.get("callback"))
        excluded = _someOf(message, "skip_sid", mayBeEmpty=True)
        target = Target(_someOf(message, "room"), excluded, Flags(compress=_flag(message, "compress", True)))
        return Event(host, namespace, target, _eventOf(message), callback)
    if method == "close_room":
        room = frozenset((_text(message, "room"),))
        return Rooms(host, namespace, Target(room), False, room)
    if method == "disconnect":
        return Client(host, namespace, _text(message, "sid"), method)
    if method == "enter_room" or method == "leave_room":
        return Client(host, namespace, _text(message, "sid"), method, _text(message, "room"))
    raise InvalidMessage("an unknown method")


def readOwn(payload: bytes) -> Message:
    """
    Return what came on our own channel.

    @raise InvalidMessage: it is none of our messages, or none that may come.
    """
    message = _object(payload)
    if message.get("v") != VERSION:
        raise InvalidMessage("a message of another version")
    kind, host = _text(message, "type"), _text(message, "host")
    if kind in (HELLO, ALIVE, GONE):
        return Presence(host, kind)
    if kind == "answer":
        items = message.get("items")
        if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
            raise InvalidMessage("an answer without items")
        to, isLast, failed = _text(message, "to"), _flag(message, "isLast"), _flag(message, "failed")
        return Answer(host, to, _id(message), items, isLast, failed)
    namespace = _text(message, "namespace")
    isQuestion = "id" in message
    if kind == "server event":
        told = ServerEvent(host, namespace, _eventOf(message, isServerSide=True))
        return Question(host, _id(message), told) if isQuestion else told
    target = _targetOf(message)
    if kind == "event":
        event = Event(host, namespace, target, _eventOf(message))
        return Question(host, _id(message), event) if isQuestion else event
    if kind == "sockets":
        return Question(host, _id(message), Sockets(host, namespace, target))
    if kind in ("join", "leave"):
        return Rooms(host, namespace, target, kind == "join", _texts(message.get("names")))
    if kind == "disconnect":
        return Disconnect(host, namespace, target, _flag(message, "close"))
    raise InvalidMessage("an unknown type")


def readItem(item: dict[str, Any]) -> list[Any]:
    """
    Return the values of an item of an answer.

    @raise InvalidMessage: there are none.
    """
    return _dataOf(item)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        message = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise InvalidMessage("no JSON") from None
    if not isinstance(message, dict):
        raise InvalidMessage("no object")
    return message


def _wrong(name: str) -> NoReturn:
    raise InvalidMessage(f"{name} is of a wrong type, or not there")


def _text(message: dict[str, Any], name: str, default: str | None = None) -> str:
    value = message.get(name)
    if value is None:
        value = default
    return value if isinstance(value, str) else _wrong(name)


def _flag(message: dict[str, Any], name: str, default: bool = False) -> bool:
    value = message.get(name, default)
    return value if isinstance(value, bool) else _wrong(name)


def _id(message: dict[str, Any]) -> int:
    value = message.get("id")
    return value if type(value) is int and 0 <= value <= MAX_ID else _wrong("id")


def _texts(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        _wrong("a list of names")
    return frozenset(value)


def _someOf(message: dict[str, Any], name: str, mayBeEmpty: bool = False) -> frozenset[str]:
    """Return what is None, a text or a list of texts. An empty list of rooms is for nobody, and not for all."""
    value = message.get(name)
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset((value,))
    if mayBeEmpty and isinstance(value, list):
        return _texts([each for each in value if each is not None])
    return _texts(value) or _wrong(name)


def _targetOf(message: dict[str, Any]) -> Target:
    timeout = message.get("timeout", float("inf"))
    if type(timeout) not in (int, float) or not timeout > 0:
        _wrong("timeout")
    flags = Flags(volatile=_flag(message, "volatile"), compress=_flag(message, "compress", True), timeout=timeout)
    return Target(_texts(message.get("rooms")), _texts(message.get("except")), flags)


def _callbackOf(value: object) -> tuple[str, str, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 3:
        room, namespace, id = value  # noqa: A001
        if isinstance(room, str) and isinstance(namespace, str) and type(id) is int and 0 <= id <= MAX_ID:
            return room, namespace, id
    _wrong("callback")


def _eventOf(message: dict[str, Any], isServerSide: bool = False) -> list[Any]:
    """Return the name of an event and its arguments."""
    name = _text(message, "event")
    if name in RESERVED_EVENTS and not isServerSide:
        raise InvalidMessage("a reserved event")
    return [name, *_dataOf(message)]


def _dataOf(message: dict[str, Any]) -> list[Any]:
    """Return the arguments, with their attachments."""
    data: Any = message.get("data")
    if not isinstance(data, list):
        _wrong("data")
    if not _flag(message, "binary"):
        return data
    if not data or not isinstance(data[0], list) or len(data) > MAX_ATTACHMENTS:
        _wrong("data")
    arguments: list[Any] = data[0]
    encoded = data[1:]
    try:
        attachments = [b64decode(each, validate=True) for each in encoded]
        slots = slotsOf(arguments, len(attachments))
    except (binascii.Error, ValueError, TypeError, InvalidPacket):
        raise InvalidMessage("wrong attachments") from None
    for container, place, number in slots:
        container[place] = attachments[number]
    return arguments
