"""Packets of Socket.IO, and their JSON form. Pure: no Twisted, no clock, no IO. docs/socketio-protocol.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from json import JSONDecodeError, JSONDecoder
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any, NamedTuple, NoReturn

from .binary import BYTES_LIKE, PLACEHOLDER, Plain, Slot, hasOtherKeys, placeholder, slotsOf
from .errors import RESERVED_EVENTS, InvalidPacket, UnsendableValue


class PacketType(IntEnum):
    """The type of a packet."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


class Packet(NamedTuple):
    """
    A packet, complete with its attachments: what is decoded is never a BINARY_EVENT or a BINARY_ACK.

    @ivar type: a L{PacketType}.
    @ivar namespace: its namespace, as it was sent.
    @ivar id: the id of the acknowledgement, or None.
    @ivar data: for an EVENT a list of its name and its arguments, for an ACK a list of its arguments.
    """

    type: int
    namespace: str = "/"
    id: int | None = None
    data: Any = None


CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = PacketType

MAX_ID = 2**53 - 1
"""The largest id that JavaScript keeps exactly."""


class IncompletePacket:
    """
    A packet whose attachments have not all come.

    @ivar expected: how many attachments it has.
    @ivar size: bytes of the attachments that have come.
    """

    __slots__ = ("_attachments", "_maxBytes", "_packet", "_slots", "expected", "size")

    def __init__(self, packet: Packet, expected: int, slots: list[Slot], maxBytes: int | None) -> None:
        """
        @param packet: the packet, with placeholders.
        @param slots: where the attachments belong in its data.
        @param maxBytes: bytes that the attachments may have together, or None.
        """
        self.expected, self.size = expected, 0
        self._packet, self._slots, self._maxBytes = packet, slots, maxBytes
        self._attachments: list[bytes] = []

    @property
    def received(self) -> int:
        """How many attachments have come."""
        return len(self._attachments)

    def add(self, message: str | bytes) -> Packet | None:
        """
        Add the next message.

        @return: the packet, if it is complete now.
        @raise InvalidPacket: the message is no attachment, or too large.
        """
        if isinstance(message, str):
            raise InvalidPacket("text in place of an attachment")
        size = self.size + len(message)
        if self._maxBytes is not None and size > self._maxBytes:
            raise InvalidPacket("attachments of more bytes than a message may have", "maxHttpBufferSize")
        self.size = size
        self._attachments.append(message)
        if len(self._attachments) < self.expected:
            return None
        for container, place, number in self._slots:
            container[place] = self._attachments[number]
        return self._packet


def _refuseConstant(name: str) -> NoReturn:
    raise InvalidPacket(f"invalid JSON: {name}")


_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder(parse_constant=_refuseConstant).scan_once  # type: ignore[attr-defined]
_make: Callable[..., Packet] = tuple.__new__
"""Makes a packet in the way that costs the least."""

_DIGITS = "0123456"
_TYPES = dict(zip(_DIGITS, PacketType, strict=True))
_MAX_ID_DIGITS = 16
_MAX_COUNT_DIGITS = 4
_HEAD = re.compile(r"([0-6])(?:([0-9]+)-)?(?:(/[^,]*)(?:,|\Z))?([0-9]*)").match
MAX_QUICK_DIGITS = 15
"""An id of so many digits is never too large."""
_ARGUMENTS = re.compile(rf"([23])(?:(/[^,]*),)?([0-9]{{0,{MAX_QUICK_DIGITS}}})(?=\[)").match
_PLACEHOLDER_JSON = f'"{PLACEHOLDER}":true'


class JSONParser:
    """Packets as JSON texts and their attachments: the default parser. One serves all sessions."""

    def __init__(
        self,
        *,
        maxAttachments: int = 10,
        maxBytes: int | None = 1_000_000,
        default: Callable[[Any], Any] | None = None,
        fromServer: bool = False,
    ) -> None:
        """
        @param maxAttachments: how many attachments a packet may have.
        @param maxBytes: bytes that the received attachments of a packet may have together, or None.
        @param default: called with a value that JSON hasn't, returns what is sent in its place, as that of
            C{json.dumps}.
        @param fromServer: whether to decode what servers send; otherwise, what clients do.
        """
        # No more digits than clients may send.
        self._maxAttachments, self._maxBytes = min(maxAttachments, 10**_MAX_COUNT_DIGITS - 1), maxBytes
        self._default, self._fromServer = default, fromServer
        # While it encodes, what it has found.
        self._attachments: list[bytes] = []
        # Without markers of what it is in: a value that contains itself runs out of stack.
        self._encodeJson = c_make_encoder(None, self._attach, encode_basestring, None, ":", ",", False, False, False)

    def encode(
        self,
        type: int,  # noqa: A002
        namespace: str,
        id: int | None,  # noqa: A002
        data: Any,
    ) -> str | list[str | bytes]:
        """
        Return a packet as text, or as a list of the text and its attachments.

        @param type: a L{PacketType}. An EVENT or an ACK becomes binary by itself if there are bytes in its data.
        @param data: of an EVENT a list of its name and its arguments, of an ACK a list, of others any value or None
            for none.
        @raise UnsendableValue: something in the data can't be sent.
        """
        text, attachments = "", None
        if data is not None:
            try:
                text = "".join(self._encodeJson(data, 0))
                # The encoder makes text of other keys, and leaves alone what looks like a placeholder.
                isDone = "{" not in text or not self._isDoubtful(type, text, data)
            except (TypeError, ValueError, RecursionError):
                isDone = False
            finally:
                if self._attachments:
                    attachments, self._attachments = self._attachments, []
            if not isDone:
                text, attachments = self._encodeSlowly(type, data)
            if not text.isascii():
                text = _escapeSurrogates(text)
            if id is None and attachments is None and namespace == "/":
                return f"{_DIGITS[type]}{text}"
        if id is not None:
            text = f"{id}{text}"
        if namespace != "/":
            text = f"{namespace},{text}"
        if not attachments:
            return f"{_DIGITS[type]}{text}"
        if len(attachments) > self._maxAttachments:
            problem = f"{len(attachments)} attachments are more than maxAttachments ({self._maxAttachments})"
            raise UnsendableValue("args", problem)
        return [f"{_DIGITS[type + 3]}{len(attachments)}-{text}", *attachments]

    def _attach(self, value: Any) -> dict[str, Any]:
        """Called by the encoder with a value that JSON hasn't."""
        if not isinstance(value, BYTES_LIKE):
            raise TypeError
        self._attachments.append(bytes(value))
        return placeholder(len(self._attachments) - 1)

    def _isDoubtful(self, type: int, text: str, data: Any) -> bool:  # noqa: A002
        """Return whether what the encoder has made need not be what was meant."""
        count = len(self._attachments)
        if count and (text.count(_PLACEHOLDER_JSON) != count or not isEventOrAck(type)):
            return True
        # Without other braces there is no mapping but the placeholders.
        return text.count("{") != count and hasOtherKeys(data)

    def _encodeSlowly(self, type: int, data: Any) -> tuple[str, list[bytes]]:  # noqa: A002
        hasArguments = isEventOrAck(type)
        plain = Plain(self._default, hasArguments)
        try:
            value = plain.arguments(data, type == EVENT) if hasArguments else plain.value(data, "data")
            return "".join(self._encodeJson(value, 0)), plain.attachments
        except RecursionError:
            raise UnsendableValue("args" if hasArguments else "data", "nested too deeply") from None

    def decode(self, message: str | bytes) -> Packet | IncompletePacket:
        """
        Return the packet of a message, or what the messages that follow complete.

        @raise InvalidPacket: it isn't one.
        """
        # Events and acknowledgements that are as they should be; all else takes longer, to say what is wrong.
        kind, namespace, id, begin = EVENT, "/", None, 1  # noqa: A001
        if message[:2] != "2[":
            if not isinstance(message, str):
                return self._decodeAny(message)
            digit = message[:1]
            if digit != "2" and digit != "3":
                return self._decodeAny(message)
            begin = message.find("[", 1, MAX_QUICK_DIGITS + 2)
            digits = message[1:begin]
            if begin < 0 or not (digits.isdigit() and digits.isascii()):
                # There may be a namespace.
                head = _ARGUMENTS(message)
                if head is None:
                    return self._decodeAny(message)
                digit, namespace, digits = head.groups("/")
                begin = head.end()
            if digit == "3":
                kind = ACK
            if digits:
                id = int(digits)  # noqa: A001
        try:
            data, end = _scan(message, begin)  # type: ignore[arg-type]
            if end == len(message):
                if kind is ACK:
                    return _make(Packet, (ACK, namespace, id, data))
                name = data[0]
                if type(name) is str and name not in RESERVED_EVENTS:
                    return _make(Packet, (EVENT, namespace, id, data))
        except (ValueError, IndexError, StopIteration, RecursionError):
            pass
        return self._decodeAny(message)

    def _decodeAny(self, message: str | bytes) -> Packet | IncompletePacket:
        """Decode what is no plain event for `/`, and say what is wrong."""
        if not isinstance(message, str):
            raise InvalidPacket("bytes that no packet has announced")
        head = _HEAD(message)
        if head is None:
            raise InvalidPacket("a message that does not begin with a type, 0 to 6" if message else "an empty message")
        digit, attachments, namespace, digits = head.groups()
        kind = _TYPES[digit]
        id = None  # noqa: A001
        if digits:
            id = int(digits) if len(digits) <= _MAX_ID_DIGITS else MAX_ID + 1  # noqa: A001
            if id > MAX_ID:
                raise InvalidPacket("an id over 2**53 - 1")
        data, begin = None, head.end()
        hasData = begin < len(message)
        if hasData:
            data = _jsonOf(message, begin)
        expected = 0
        if kind is BINARY_EVENT or kind is BINARY_ACK:
            expected = self._expected(attachments)
            kind = EVENT if kind is BINARY_EVENT else ACK
        elif attachments is not None:
            raise InvalidPacket(f"attachments of a packet of type {kind.name}")
        if kind is EVENT:
            checkEvent(data)
        elif kind is ACK:
            if type(data) is not list:
                raise InvalidPacket("an ACK without an array")
        else:
            checkOther(kind, id, hasData, data, self._fromServer)
        packet = _make(Packet, (kind, namespace or "/", id, data))
        if expected:
            return IncompletePacket(packet, expected, slotsOf(data, expected), self._maxBytes)  # type: ignore[arg-type]
        return packet

    def _expected(self, attachments: str | None) -> int:
        """Return the number of attachments that a packet announces."""
        if attachments is None or len(attachments) > _MAX_COUNT_DIGITS:
            raise InvalidPacket("a binary packet without one to four digits and a hyphen for its attachments")
        expected = int(attachments)
        if not expected:
            raise InvalidPacket("a binary packet of no attachments")
        if expected > self._maxAttachments:
            raise InvalidPacket(f"{expected} attachments of a packet", "maxAttachments")
        return expected


def isEventOrAck(type: int) -> bool:  # noqa: A002
    """Return whether packets of a type have arguments, and may be binary."""
    return type in (EVENT, ACK)


def checkEvent(data: Any) -> None:
    """
    Check the data of an EVENT, and make text of a name that is a number.

    @raise InvalidPacket: it isn't a list of a name and arguments, or the name is reserved.
    """
    if type(data) is not list or not data:
        raise InvalidPacket("an EVENT without an array of its name and arguments")
    name = data[0]
    if type(name) is int or type(name) is float:
        data[0] = str(int(name)) if name == name // 1 and abs(name) < 1e21 else repr(name)
    elif type(name) is not str:
        raise InvalidPacket("an EVENT whose name is neither text nor a number")
    elif name in RESERVED_EVENTS:
        raise InvalidPacket(f"an EVENT with the reserved name {name}")


def checkOther(
    type: PacketType,  # noqa: A002
    id: int | None,  # noqa: A002
    hasData: bool,
    data: Any,
    fromServer: bool,
) -> None:
    """
    Check a packet that is neither EVENT nor ACK.

    @raise InvalidPacket: it is not as it has to be.
    """
    if id is not None:
        raise InvalidPacket(f"a packet of type {type.name} with an id")
    if type is CONNECT:
        if hasData and not isinstance(data, dict):
            raise InvalidPacket("a CONNECT whose data is no object")
    elif type is DISCONNECT:
        if hasData:
            raise InvalidPacket("a DISCONNECT with data")
    elif not fromServer:
        raise InvalidPacket("a CONNECT_ERROR from a client")
    elif not isinstance(data, (dict, str)):
        raise InvalidPacket("a CONNECT_ERROR without an object or text")


def _jsonOf(message: str, begin: int) -> Any:
    """Return the JSON that is the rest of a message."""
    try:
        data, end = _scan(message, begin)
    except InvalidPacket:
        raise
    except (JSONDecodeError, StopIteration):
        raise InvalidPacket("invalid JSON") from None
    except ValueError:
        raise InvalidPacket("an integer with too many digits") from None
    except RecursionError:
        raise InvalidPacket("JSON that is nested too deeply") from None
    if end != len(message) and message[end:].strip(" \t\n\r"):
        raise InvalidPacket("invalid JSON: something follows it")
    return data


def _escapeSurrogates(text: str) -> str:
    """Return JSON with lone surrogates escaped, which UTF-8 hasn't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
