"""
Messages between processes of one application, as JSON texts. Pure: no Twisted, no clock, no IO.

What arrives is as untrusted as what clients send. docs/architecture/socketio.md.
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
"""The version of the messages. A process ignores those of another version."""

MAX_ATTACHMENTS = 10_000
"""Attachments of one message, whose placeholders are looked for."""


class InvalidMessage(ValueError):
    """What came is no message, or none that may come."""


# What a message says


@attrs.frozen
class Position:
    """
    The place of an event among those that a namespace of one process has sent to all processes.

    @ivar epoch: the epoch of the namespace, which no other namespace has, in any process.
    @ivar number: a whole number from 1 on; 0 is before the first event.
    """

    epoch: str
    number: int


@attrs.frozen
class Event:
    """
    An event for sockets.

    @ivar data: the name and the arguments.
    @ivar position: its place, if its sender keeps it for clients that may come back.
    """

    host: str
    namespace: str
    target: Target
    data: list[Any]
    position: Position | None = None


@attrs.frozen
class Newest:
    """
    The place of the newest event of a process.

    @ivar wantsAnswer: whether the process wants to know that of others.
    """

    host: str
    namespace: str
    position: Position
    wantsAnswer: bool


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
class Question:
    """
    A question to each process, which answers it with items.

    @ivar id: a number that the answer has too.
    @ivar about: an L{Event} that clients acknowledge, a L{ServerEvent}, the L{Sockets} of a target, or a L{Session}.
    """

    host: str
    id: int
    about: Event | ServerEvent | Sockets | Session


@attrs.frozen
class Sockets:
    """The sockets of a target."""

    host: str
    namespace: str
    target: Target


@attrs.frozen
class Session:
    """
    The session of a client that has come back.

    @ivar pid: the secret by which the client comes back.
    @ivar offset: what the client said of the last event that it received.
    @ivar takes: whether the session moves to the process that asks; otherwise it is only shown.
    """

    host: str
    namespace: str
    pid: str
    offset: str | None
    takes: bool


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


Message: TypeAlias = "Event | ServerEvent | Rooms | Disconnect | Newest | Question | Answer"


# Writing


class MessageWriter:
    """
    Writes the messages of a process.

    @param host: the id of the process.
    @param default: what makes something of values that JSON hasn't, or None.
    @ivar begins: what its messages begin with, so that they are known when they come back.
    """

    def __init__(self, host: str, default: Callable[[Any], Any] | None = None) -> None:
        self.host = host
        self._parser = JSONParser(maxAttachments=MAX_ATTACHMENTS, default=default)
        self.begins: bytes = f'{{"host":"{host}"'.encode()

    def event(self, namespace: str, target: Target, data: Sequence[Any], position: Position | None = None) -> bytes:
        """Return an event for sockets. @raise UnsendableValue: something in it can't be sent."""
        place = {} if position is None else attrs.asdict(position)
        return self.write({**self._head("event", namespace, target), **place, "event": data[0]}, data[1:])

    def serverEvent(self, namespace: str, data: Sequence[Any]) -> bytes:
        """Return an event for other processes. @raise UnsendableValue: something in it can't be sent."""
        return self.write({**self._head("server event", namespace), "event": data[0]}, data[1:])

    def rooms(self, namespace: str, target: Target, joins: bool, rooms: Iterable[str]) -> bytes:
        """Return that sockets join or leave rooms."""
        kind = "join" if joins else "leave"
        return joined({**self._head(kind, namespace, target), "names": sorted(rooms)})

    def disconnect(self, namespace: str, target: Target, close: bool) -> bytes:
        """Return that sockets are to be disconnected."""
        return joined({**self._head("disconnect", namespace, target), "close": close})

    def ask(self, message: bytes, id: int) -> bytes:  # noqa: A002
        """Return a message as a question. @param message: what L{event}, L{serverEvent} or L{sockets} returned."""
        return message[:-1] + b',"id":%d}' % id

    def sockets(self, namespace: str, target: Target) -> bytes:
        """Return what asks for the sockets of a target."""
        return joined(self._head("sockets", namespace, target))

    def session(self, namespace: str, pid: str, offset: str | None, takes: bool) -> bytes:
        """Return what asks for the session of a client that has come back."""
        return joined({**self._head("session", namespace), "pid": pid, "offset": offset, "takes": takes})

    def answers(self, question: Question, items: Iterable[bytes] | None, maxBytes: int) -> list[bytes]:
        """
        Return an answer, in as many messages as it takes.

        @param items: what L{item} returned; None if the process can't answer.
        @param maxBytes: bytes of one message.
        @raise UnsendableValue: an item is larger.
        """
        head = joined({**self._head("answer"), "to": question.host, "id": question.id, "failed": items is None})[:-1]
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
        return self.write(fields, values)

    def newest(self, namespace: str, position: Position, wantsAnswer: bool) -> bytes:
        """Return the place of the newest event."""
        return joined({**self._head("newest", namespace), **attrs.asdict(position), "wantsAnswer": wantsAnswer})

    def _head(self, kind: str, namespace: str | None = None, target: Target | None = None) -> dict[str, Any]:
        head: dict[str, Any] = {"host": self.host, "v": VERSION, "type": kind}
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

    def encode(self, arguments: Sequence[Any]) -> tuple[str, list[bytes]]:
        """Return the JSON of values with placeholders, and the attachments."""
        encoded: Any = self._parser.encode(PacketType.ACK, "/", None, [*arguments])
        if isinstance(encoded, str):
            return encoded[1:], []
        text, *attachments = encoded
        return text.partition("-")[2], attachments

    def write(self, fields: dict[str, Any], arguments: Sequence[Any]) -> bytes:
        """Return a message with values. @raise UnsendableValue: something in them can't be sent."""
        text, attachments = self.encode(arguments)
        if attachments:
            text = ",".join([text, *(f'"{b64encode(each).decode()}"' for each in attachments)])
            text = f"[{text}]"
        return joined(fields, f'"binary":{"true" if attachments else "false"},"data":{text}')


def joined(fields: dict[str, Any], more: str = "") -> bytes:
    """Return fields as a message. @param more: what follows in the object, as JSON."""
    text = json.dumps(fields, separators=(",", ":"))
    if more:
        text = f"{text[:-1]}{',' if fields else ''}{more}}}"
    return text.encode()


# Reading


def readMessage(message: dict[str, Any]) -> Message:
    """
    Return the message that an object is.

    @param message: what L{objectOf} returned.
    @raise InvalidMessage: it is none, or none that may come.
    """
    kind, host = headOf(message)
    if kind == "answer":
        items = message.get("items")
        if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
            raise InvalidMessage("an answer without items")
        to, isLast, failed = textOf(message, "to"), flagOf(message, "isLast"), flagOf(message, "failed")
        return Answer(host, to, idOf(message), items, isLast, failed)
    namespace = textOf(message, "namespace")
    isQuestion = "id" in message
    if kind == "server event":
        told = ServerEvent(host, namespace, eventOf(message, isServerSide=True))
        return Question(host, idOf(message), told) if isQuestion else told
    if kind == "newest":
        return Newest(host, namespace, positionOf(message), flagOf(message, "wantsAnswer"))
    if kind == "session":
        offset = None if message.get("offset") is None else textOf(message, "offset")
        session = Session(host, namespace, textOf(message, "pid"), offset, flagOf(message, "takes"))
        return Question(host, idOf(message), session)
    target = _targetOf(message)
    if kind == "event":
        event = Event(host, namespace, target, eventOf(message), positionOf(message) if "epoch" in message else None)
        return Question(host, idOf(message), event) if isQuestion else event
    if kind == "sockets":
        return Question(host, idOf(message), Sockets(host, namespace, target))
    if kind in ("join", "leave"):
        return Rooms(host, namespace, target, kind == "join", textsOf(message.get("names")))
    if kind == "disconnect":
        return Disconnect(host, namespace, target, flagOf(message, "close"))
    raise InvalidMessage("an unknown type")


def readItem(item: dict[str, Any]) -> list[Any]:
    """
    Return the values of an item of an answer.

    @raise InvalidMessage: there are none.
    """
    return _dataOf(item)


def headOf(message: dict[str, Any]) -> tuple[str, str]:
    """
    Return the kind of a message, and the process that sent it.

    @raise InvalidMessage: it is a message of another version, or none.
    """
    if message.get("v") != VERSION:
        raise InvalidMessage("a message of another version")
    return textOf(message, "type"), textOf(message, "host")


def positionOf(message: dict[str, Any]) -> Position:
    """Return the position in a message, or in an item. @raise InvalidMessage: there is none."""
    return Position(textOf(message, "epoch"), idOf(message, "number"))


def objectOf(payload: bytes) -> dict[str, Any]:
    """Return the object that a message is. @raise InvalidMessage: it is none."""
    try:
        message = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise InvalidMessage("no JSON") from None
    if not isinstance(message, dict):
        raise InvalidMessage("no object")
    return message


def wrong(name: str) -> NoReturn:
    raise InvalidMessage(f"{name} is of a wrong type, or not there")


def textOf(message: dict[str, Any], name: str, default: str | None = None) -> str:
    value = message.get(name)
    if value is None:
        value = default
    return value if isinstance(value, str) else wrong(name)


def flagOf(message: dict[str, Any], name: str, default: bool = False) -> bool:
    value = message.get(name, default)
    return value if isinstance(value, bool) else wrong(name)


def idOf(message: dict[str, Any], name: str = "id") -> int:
    value = message.get(name)
    return value if type(value) is int and 0 <= value <= MAX_ID else wrong(name)


def textsOf(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        wrong("a list of names")
    return frozenset(value)


def _targetOf(message: dict[str, Any]) -> Target:
    timeout = message.get("timeout", float("inf"))
    if type(timeout) not in (int, float) or not timeout > 0:
        wrong("timeout")
    flags = Flags(volatile=flagOf(message, "volatile"), compress=flagOf(message, "compress", True), timeout=timeout)
    return Target(textsOf(message.get("rooms")), textsOf(message.get("except")), flags)


def eventOf(message: dict[str, Any], isServerSide: bool = False) -> list[Any]:
    """Return the name of an event and its arguments."""
    name = textOf(message, "event")
    if name in RESERVED_EVENTS and not isServerSide:
        raise InvalidMessage("a reserved event")
    return [name, *_dataOf(message)]


def _dataOf(message: dict[str, Any]) -> list[Any]:
    """Return the arguments, with their attachments."""
    data: Any = message.get("data")
    if not isinstance(data, list):
        wrong("data")
    if not flagOf(message, "binary"):
        return data
    if not data or not isinstance(data[0], list) or len(data) > MAX_ATTACHMENTS:
        wrong("data")
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
