"""
What a server does with sessions of other processes, to bytes and back.

A frame is a head, the ids of sessions, and messages up to its end. The head has the kind in one byte, the flags in one,
the number of the call in 8, and the count of the ids in 4. An id is its length in 4 bytes, and UTF-8. A message is one
byte, 1 for text and 2 for binary, its length in 4 bytes, and its data, text as UTF-8. Numbers are in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag

import attrs

from .errors import DecodeError


class Kind(IntEnum):
    """
    What a frame is.

    C{BROADCAST}: messages to every session but those whose ids it has. C{SEND}: messages to the session whose id it
    has. C{CLOSE}: the close of that session. C{ANSWER}: what came of one of these two.
    """

    BROADCAST = 1
    SEND = 2
    CLOSE = 3
    ANSWER = 4


class Flags(IntFlag):
    """
    How.

    C{COMPRESSED}: the messages may be. C{VOLATILE}: they are dropped if they would have to wait. C{DISCARDED}: what
    is buffered is, at a close. C{DONE}: of an answer, the session was open and took it.
    """

    COMPRESSED = 1
    VOLATILE = 2
    DISCARDED = 4
    DONE = 8


@attrs.frozen
class RemoteCall:
    """
    A frame.

    @ivar number: what an answer repeats of the call that it answers, below 2**64.
    @ivar sids: ids of sessions; of C{SEND} and C{CLOSE} one.
    @ivar messages: messages that belong together.
    """

    kind: Kind
    flags: Flags = Flags(0)
    number: int = 0
    sids: tuple[str, ...] = ()
    messages: tuple[str | bytes, ...] = ()


_HEAD = struct.Struct("!BBQI")
_LENGTH = struct.Struct("!I")
_MESSAGE = struct.Struct("!BI")
_TEXT, _BINARY = 1, 2
_ALL_FLAGS = sum(Flags)


def encodeCall(call: RemoteCall) -> bytes:
    """
    Return the bytes of a frame.

    @raise UnicodeEncodeError: the text of a message holds a lone surrogate.
    """
    parts = [_HEAD.pack(call.kind, call.flags, call.number, len(call.sids))]
    for sid in call.sids:
        # An application may be asked for any text; what is no id is nobody's at the other end too.
        data = sid.encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(data)), data)
    for message in call.messages:
        isText = isinstance(message, str)
        data = message.encode() if isinstance(message, str) else message
        parts += (_MESSAGE.pack(_TEXT if isText else _BINARY, len(data)), data)
    return b"".join(parts)


def decodeCall(frame: bytes) -> RemoteCall:
    """
    Return what a frame says.

    @raise DecodeError: it says nothing. What it claims to have takes no memory before it is there.
    """
    try:
        kind, flags, number, count = _HEAD.unpack_from(frame)
        sids, position = [], _HEAD.size
        for _ in range(count):
            start = position + _LENGTH.size
            position = start + _LENGTH.unpack_from(frame, position)[0]
            sids.append(_part(frame, start, position).decode("utf-8", "surrogatepass"))
        call = RemoteCall(Kind(kind), Flags(flags), number, tuple(sids), tuple(_messages(frame, position)))
    except (struct.error, ValueError) as error:
        raise DecodeError(f"a frame of {len(frame)} bytes from another process: {error}") from None
    if flags & ~_ALL_FLAGS or (call.kind in (Kind.SEND, Kind.CLOSE) and count != 1):
        raise DecodeError(f"a frame from another process: {call.kind.name} with flags {flags} and {count} ids")
    return call


def _messages(frame: bytes, position: int) -> Iterator[str | bytes]:
    while position < len(frame):
        kind, size = _MESSAGE.unpack_from(frame, position)
        start = position + _MESSAGE.size
        position = start + size
        data = _part(frame, start, position)
        if kind not in (_TEXT, _BINARY):
            raise ValueError(f"a message of kind {kind}")
        yield data.decode() if kind == _TEXT else data


def _part(frame: bytes, start: int, end: int) -> bytes:
    if end > len(frame):
        raise ValueError(f"it ends {end - len(frame)} bytes early")
    return frame[start:end]
