"""
What can go wrong in the Socket.IO layer.

::

    EngineIOError
    └── SocketIOError
        ├── ConnectRefused   raised by a middleware: the client may not join the namespace
        ├── InvalidPacket    a client sent what is not a packet, or one that may not come now; its session ends
        ├── AckTimeout       an acknowledgement did not come in time
        ├── Disconnected     the socket ended before its acknowledgement came
        ├── ReservedEvent    an application emits an event that the protocol keeps for itself
        ├── UnsendableValue  a value that JSON can't carry
        └── AdapterError     what is between the processes failed
            ├── NotSupported   the adapter can't do that
            └── RemoteTimeout  other processes did not answer in time
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from .. import EngineIOError


class DisconnectReason(StrEnum):
    """Why a socket ended: an argument of `disconnecting` and `disconnect`. Equal to its text."""

    CLIENT_NAMESPACE_DISCONNECT = "client namespace disconnect"
    SERVER_NAMESPACE_DISCONNECT = "server namespace disconnect"
    SERVER_SHUTTING_DOWN = "server shutting down"
    PARSE_ERROR = "parse error"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PING_TIMEOUT = "ping timeout"
    FORCED_CLOSE = "forced close"
    BUFFER_LIMIT_EXCEEDED = "buffer limit exceeded"
    RATE_LIMIT_EXCEEDED = "rate limit exceeded"


class SocketIOError(EngineIOError):
    """The base of every error of the Socket.IO layer."""


class ConnectRefused(SocketIOError):
    """
    Raise this in a middleware to refuse a client: it gets `connect_error` with the message and the data.

    @ivar message: the text for the client.
    @ivar data: what else the client is told, a value that JSON can carry; None for nothing.
    """

    message: str
    data: Any

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message, self.data = message, data


class InvalidPacket(SocketIOError, ValueError):
    """
    A client sent what is not a packet, or a packet that may not come now. Its session ends with `parse error`.

    @ivar problem: what is wrong with it, without anything that the client chose at length.
    @ivar option: the option whose limit it exceeds, or None.
    """

    problem: str
    option: str | None

    def __init__(self, problem: str, option: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.option = problem, option


class AckTimeout(SocketIOError):
    """
    An acknowledgement did not come in time.

    @ivar answers: of a broadcast, the answers that came; otherwise empty.
    @ivar missing: of a broadcast, the ids of the sockets that did not answer; otherwise that of the socket.
    """

    answers: list[Any]
    missing: list[str]

    def __init__(self, message: str, answers: Sequence[Any] = (), missing: Collection[str] = ()) -> None:
        super().__init__(message)
        self.answers, self.missing = [*answers], [*missing]


class Disconnected(SocketIOError):
    """
    The socket ended before its acknowledgement came.

    @ivar reason: a L{DisconnectReason}.
    """

    reason: DisconnectReason

    def __init__(self, reason: DisconnectReason) -> None:
        super().__init__(f"the socket ended before its acknowledgement came: {reason}")
        self.reason = reason


class ReservedEvent(SocketIOError, ValueError):
    """
    An application emits an event that the protocol keeps for itself.

    @ivar event: its name.
    """

    event: str

    def __init__(self, event: str) -> None:
        super().__init__(f"event {event!r}: the protocol keeps this name for itself; emit another")
        self.event = event


class UnsendableValue(SocketIOError, TypeError):
    """
    A value that JSON can't carry, in what an application emits or acknowledges with.

    @ivar path: where it stands, such as `args[1]["when"]`.
    """

    path: str

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class AdapterError(SocketIOError):
    """What connects the processes failed."""


class NotSupported(AdapterError):
    """The adapter can't do what was asked, such as reaching other processes from the one in memory."""


class RemoteTimeout(AdapterError):
    """
    Other processes did not answer in time.

    @ivar answers: what came, in no order.
    @ivar missing: how many processes did not answer.
    """

    answers: list[Any]
    missing: int

    def __init__(self, message: str, answers: Sequence[Any] = (), missing: int = 0) -> None:
        super().__init__(message)
        self.answers, self.missing = [*answers], missing


RESERVED_EVENTS: Mapping[str, None] = dict.fromkeys(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names that neither side may emit, in the order of the reference."""
