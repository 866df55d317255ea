"""Packets of Socket.IO as MessagePack. Pure: no Twisted, no clock, no IO. docs/socketio-protocol.md."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from .binary import Plain, hasOtherKeys
from .errors import InvalidPacket, UnsendableValue
from .packet import MAX_ID, Packet, PacketType, checkEvent, checkOther, isEventOrAck

_TYPES = dict(enumerate(list(PacketType)[:5]))
_DECODED = frozenset((str, int, float, bool, bytes, type(None)))
_MAX_UNCHECKED_ARRAYS = 16
_EXTENSION = "a value of an extension type, such as a Date"


class MessagePackPlain(Plain):
    """Makes a value plain for MessagePack, which has bytes, infinities and NaN, and integers of 64 bits."""

    def _text(self, value: str, path: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnsendableValue(path, "text with a lone surrogate, which MessagePack can't carry") from None
        return value

    def _integer(self, value: int, path: str) -> int:
        if not -(2**63) <= value < 2**64:
            raise UnsendableValue(path, "an integer of more than 64 bits, which MessagePack can't carry")
        return value

    def _float(self, value: float) -> float:
        return value

    def _bytes(self, value: bytes | bytearray | memoryview | array[Any]) -> bytes:
        return bytes(value)


class MsgpackParser:
    """
    Packets as MessagePack, each one binary message: C{parser="msgpack"}. One serves all sessions.

    It understands C{socket.io-msgpack-parser} of npm, and python-socketio's C{serializer="msgpack"}.
    """

    def __init__(self, *, default: Callable[[Any], Any] | None = None, fromServer: bool = False) -> None:
        """
        @param default: called with a value that MessagePack hasn't, returns what is sent in its place.
        @param fromServer: whether to decode what servers send; otherwise, what clients do.
        @raise ImportError: the package msgpack isn't installed.
        """
        try:
            import msgpack
        except ImportError as error:
            problem = 'MsgpackParser needs the package msgpack: pip install "engineio_twisted[msgpack]"'
            raise ImportError(problem) from error
        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self._default, self._fromServer = default, fromServer

    def encode(
        self,
        type: int,  # noqa: A002
        namespace: str,
        id: int | None,  # noqa: A002
        data: Any,
    ) -> bytes:
        """
        Return a packet as one message.

        @param type: a L{PacketType}.
        @param data: of an EVENT a list of its name and its arguments, of an ACK a list, of others any value or None
            for none.
        @raise UnsendableValue: something in the data can't be sent.
        """
        packet: dict[str, Any] = {"type": type, "nsp": namespace}
        if id is not None:
            packet["id"] = id
        if data is None:
            return self._packed(packet)
        packet["data"] = data
        try:
            message = self._packed(packet)
            if not hasOtherKeys(data):
                return message
        except (TypeError, ValueError, OverflowError, RecursionError, BufferError):
            pass
        plain = MessagePackPlain(self._default)
        hasArguments = isEventOrAck(type)
        try:
            packet["data"] = (
                plain.arguments(data, type == PacketType.EVENT) if hasArguments else plain.value(data, "data")
            )
            return self._packed(packet)
        except (ValueError, RecursionError):
            raise UnsendableValue("args" if hasArguments else "data", "nested too deeply") from None

    def _packed(self, packet: dict[str, Any]) -> bytes:
        message: bytes = self._pack(packet)
        return message

    def decode(self, message: str | bytes) -> Packet:
        """
        Return the packet of a message.

        @raise InvalidPacket: it isn't one.
        """
        if isinstance(message, str):
            raise InvalidPacket("text, but packets are MessagePack")
        if message.count(b"\xdc") + message.count(b"\xdd") > _MAX_UNCHECKED_ARRAYS:
            checkLengths(message)
        try:
            packet = self._unpack(message, ext_hook=_undefinedOf)
        except InvalidPacket:
            raise
        except (ValueError, TypeError, RecursionError):
            raise InvalidPacket("invalid MessagePack") from None
        if type(packet) is not dict:
            raise InvalidPacket("MessagePack that is no map")
        kind = packet.get("type")
        if type(kind) is not int or kind not in _TYPES:
            raise InvalidPacket("a packet whose type isn't 0 to 4")
        kind, namespace, id, data = _TYPES[kind], packet.get("nsp"), packet.get("id"), packet.get("data")  # noqa: A001
        if type(namespace) is not str or not namespace.startswith("/"):
            raise InvalidPacket("a packet whose namespace isn't text that begins with a slash")
        if id is not None and (type(id) is not int or not 0 <= id <= MAX_ID):
            raise InvalidPacket("an id that isn't a whole number of at most 2**53 - 1")
        checkDecoded(data)
        if kind is PacketType.EVENT:
            checkEvent(data)
        elif kind is PacketType.ACK:
            if type(data) is not list:
                raise InvalidPacket("an ACK without an array")
        else:
            checkOther(kind, id, data is not None, data, self._fromServer)
        return Packet(kind, namespace, id, data)


def _undefinedOf(code: int, data: bytes) -> None:
    """Return None for JavaScript's undefined, which the client's library writes as an extension type."""
    if code != 0 or data != b"\0":
        raise InvalidPacket(_EXTENSION)


def checkDecoded(data: Any) -> None:
    """
    Check that data is what JSON has, or bytes.

    @raise InvalidPacket: it has keys that aren't text, or extension types.
    """
    containers = [[data]]
    for container in containers:
        for value in container:
            kind = type(value)
            if kind in _DECODED:
                continue
            if kind is list:
                containers.append(value)
            elif kind is dict:
                for key in value:
                    if type(key) is not str:
                        raise InvalidPacket("a map with a key that isn't text")
                containers.append(value.values())
            else:
                raise InvalidPacket(_EXTENSION)


# For each first byte of a value: how many bytes follow for its length, and what the length counts.
_LENGTHS: dict[int, tuple[int, str]] = {
    **{0xC4 + index: (1 << index, "bytes") for index in range(3)},
    **{0xC7 + index: (1 << index, "extension") for index in range(3)},
    **{0xD9 + index: (1 << index, "bytes") for index in range(3)},
    **{0xDC + index: (2 << index, "array") for index in range(2)},
    **{0xDE + index: (2 << index, "map") for index in range(2)},
}
_FIXED = {
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    **{0xD4 + index: 1 + (1 << index) for index in range(5)},
}


def checkLengths(message: bytes) -> None:
    """
    Check that arrays and maps may be as long as they say.

    The library makes room for an array before it has read one element. In others a thousand of them would take a
    thousand times the length of the message.

    @raise InvalidPacket: less follows than one of them needs.
    """
    place, end, missing = 0, len(message), 1
    while missing > 0 and place < end:
        first = message[place]
        place += 1
        missing -= 1
        if first in _LENGTHS:
            size, counts = _LENGTHS[first]
            length = int.from_bytes(message[place : place + size], "big")
            place += size
            if counts == "array":
                missing += length
            elif counts == "map":
                missing += 2 * length
            else:
                place += length + (counts == "extension")
        elif first in _FIXED:
            place += _FIXED[first]
        elif 0x80 <= first < 0x90:
            missing += 2 * (first & 0x0F)
        elif 0x90 <= first < 0xA0:
            missing += first & 0x0F
        elif 0xA0 <= first < 0xC0:
            place += first & 0x1F
        if missing > end - place:
            raise InvalidPacket("invalid MessagePack: it ends too soon")
