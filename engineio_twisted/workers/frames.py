"""
What workers tell each other, to bytes and back: the message of a move, and the frames of a link.

docs/architecture/workers.md, "Moving a connection" and "Relaying a request".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from typing import Any

import attrs

VERSION = 1

_HEAD = struct.Struct("!BHBBdI")
_PEER_IS_SECURE = 1
_IS_BALANCED = 2

Address = tuple[Any, ...]
"""C{("TCP" or "TCP6", host, port)} or C{("UNIX", path or None)}."""


@attrs.frozen
class Facts:
    """
    What is known of a connection that another process accepted.

    @ivar peer: the address of the client.
    @ivar host: the address that it connected to.
    @ivar isSecure: whether it came with TLS.
    @ivar moves: how often it has moved.
    @ivar isBalanced: whether its handshake was passed on by a worker that has more sessions.
    @ivar acceptedAt: when it was accepted, in seconds of the system's monotonic clock.
    @ivar served: how many requests were served on it.
    """

    peer: Address
    host: Address
    isSecure: bool = False
    moves: int = 0
    isBalanced: bool = False
    acceptedAt: float = 0.0
    served: int = 0


def encodeMove(facts: Facts, data: bytes) -> bytes:
    """
    Return the message of a connection that moves.

    @param facts: what is known of the connection.
    @param data: what was read of it and not served.
    """
    addresses = json.dumps([facts.peer, facts.host]).encode("ascii")
    flags = (_PEER_IS_SECURE if facts.isSecure else 0) | (_IS_BALANCED if facts.isBalanced else 0)
    head = _HEAD.pack(VERSION, len(addresses), flags, facts.moves, facts.acceptedAt, facts.served)
    return head + addresses + data


def decodeMove(message: bytes) -> tuple[Facts, bytes]:
    """
    Return what L{encodeMove} was given.

    @param message: any bytes.
    @raise ValueError: it is no such message.
    """
    if len(message) < _HEAD.size:
        raise ValueError("the message of a move is cut")
    version, size, flags, moves, acceptedAt, served = _HEAD.unpack_from(message)
    end = _HEAD.size + size
    if version != VERSION or len(message) < end:
        raise ValueError("the message of a move has another version, or is cut")
    try:
        peer, host = (_address(each) for each in json.loads(message[_HEAD.size : end]))
    except TypeError:
        raise ValueError("the message of a move has no addresses") from None
    isSecure, isBalanced = bool(flags & _PEER_IS_SECURE), bool(flags & _IS_BALANCED)
    return Facts(peer, host, isSecure, moves, isBalanced, acceptedAt, served), message[end:]


def _address(value: Any) -> Address:
    isAddress = isinstance(value, list) and all(isinstance(each, str | int | None) for each in value)
    if not isAddress or not value or value[0] not in ("TCP", "TCP6", "UNIX"):
        raise ValueError("the message of a move has no addresses")
    return tuple(value)


class Kind(IntEnum):
    """What a frame of a link holds."""

    REQUEST = 1
    ANSWER = 2
    END = 3
    CLOSE = 4
    UPGRADED = 5
    ABORTED = 6


_FRAME = struct.Struct("!IB")

MAX_HEAD = 1 << 20
"""Bytes that a frame may have beyond a body: a head, and what is told of the connection."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """Return a frame of a link."""
    return _FRAME.pack(len(payload), kind) + payload


MAX_ANSWER = 1 << 16
"""Bytes of a response in one frame, at most: a front passes a frame on when it is complete."""


def answerFrames(data: bytes) -> Iterator[bytes]:
    """Return the frames that carry a part of a response."""
    if len(data) <= MAX_ANSWER:
        yield frame(Kind.ANSWER, data)
        return
    for begin in range(0, len(data), MAX_ANSWER):
        yield frame(Kind.ANSWER, data[begin : begin + MAX_ANSWER])


class FrameReader:
    """
    Reads the frames of a link, which come in pieces of any size.

    @param limit: how many bytes the payload of a frame may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = _FRAME.size

    def add(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._pieces.append(data)
        self._size += len(data)

    def next(self) -> tuple[Kind, bytes] | None:
        """
        Return the next frame, its kind and its payload; None until it is complete.

        @raise ValueError: the kind is unknown, or the payload is too long. Nothing can be read after it.
        """
        if self._size < self._wanted:
            return None
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [data]
        size, number = _FRAME.unpack_from(data)
        if size > self._limit:
            raise ValueError(f"a frame of {size} bytes: expected {self._limit} at most")
        kind = Kind(number)
        end = _FRAME.size + size
        if self._size < end:
            self._wanted = end
            return None
        self._pieces = [data[end:]] if self._size > end else []
        self._size -= end
        self._wanted = _FRAME.size
        return kind, data[_FRAME.size : end]

    def rest(self) -> bytes:
        """Return what has come behind the last frame, and forget it: a link that is a pipe has no frames any more."""
        rest = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return rest


_SIZE = struct.Struct("!H")


def requestFrame(facts: Facts, request: bytes) -> bytes:
    """
    Return the frame of a REQUEST.

    @param facts: what is known of the connection on which the request came.
    @param request: its head and its body.
    """
    told = _told(facts)
    return b"%b%b%b" % (_FRAME.pack(len(told) + len(request), Kind.REQUEST), told, request)


@lru_cache(1024)
def _told(facts: Facts) -> bytes:
    told = json.dumps([facts.peer, facts.host, facts.isSecure, facts.isBalanced]).encode("ascii")
    return _SIZE.pack(len(told)) + told


@lru_cache(1024)
def _factsOf(told: bytes) -> Facts:
    try:
        peer, host, isSecure, isBalanced = json.loads(told)
    except TypeError:
        raise ValueError("a request without the facts about its connection") from None
    return Facts(_address(peer), _address(host), bool(isSecure), isBalanced=bool(isBalanced))


def decodeRequest(payload: bytes) -> tuple[Facts, bytes]:
    """
    Return what L{requestFrame} was given.

    @param payload: of a REQUEST.

    @raise ValueError: it is no such payload.
    """
    if len(payload) < _SIZE.size:
        raise ValueError("a request without the facts about its connection")
    begin = _SIZE.size + _SIZE.unpack_from(payload)[0]
    return _factsOf(payload[_SIZE.size : begin]), payload[begin:]


@attrs.frozen
class Aborted:
    """
    A body for a session that was not delivered.

    @ivar sid: the id of the session.
    @ivar revision: the revision of the protocol that its request names.
    @ivar status: the status with which it was refused; None if its connection was lost.
    @ivar name: the name of the refusal.
    @ivar message: its text.
    """

    sid: str
    revision: int
    status: int | None = None
    name: str = ""
    message: str = ""


def encodeAborted(aborted: Aborted) -> bytes:
    """Return the payload of an ABORTED."""
    return json.dumps([aborted.sid, aborted.revision, aborted.status, aborted.name, aborted.message]).encode("ascii")


def decodeAborted(payload: bytes) -> Aborted:
    """
    Return what L{encodeAborted} was given.

    @raise ValueError: it is no such payload.
    """
    try:
        sid, revision, status, name, message = json.loads(payload)
    except TypeError:
        raise ValueError("an abort without a session") from None
    hasTexts = all(isinstance(each, str) for each in (sid, name, message))
    if not hasTexts or not isinstance(revision, int) or not isinstance(status, int | None):
        raise ValueError("an abort without a session")
    return Aborted(sid, revision, status, name, message)
