"""
The errors of the Socket.IO layer, and the reasons of an end.

::

    EngineIOError
    └── SocketIOError
        ├── ConnectRefused   raised by a middleware to refuse a client
        ├── InvalidPacket    a client sent an invalid packet, and its session ends
        ├── AckTimeout       no acknowledgement came in time
        ├── Disconnected     the socket ended before its acknowledgement came
        ├── ReservedEvent    the name of an event is reserved
        ├── UnsendableValue  JSON cannot carry a value
        └── AdapterError     the adapter failed
            ├── NotSupported   the adapter has no such feature
            └── RemoteTimeout  other processes did not answer in time
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from .. import EngineIOError


class DisconnectReason(StrEnum):
    """Why a socket ended: an argument of C{disconnecting} and C{disconnect}. Each is equal to its text."""

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
    Raise this in a middleware to refuse a client, which gets C{connect_error} with the message and the data.

    @ivar message: the text for the client.
    @ivar data: a value for the client that JSON can carry; None for none.
    """

    message: str
    data: Any

    def __init__(self, message: str, data: Any = None) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message {message!r:.100}: expected text for the client; what else it is told is data")
        super().__init__(message)
        self.message, self.data = message, data


class InvalidPacket(SocketIOError, ValueError):
    """
    A client sent an invalid packet, or one that is not allowed now. Its session ends with C{parse error}.

    @ivar problem: what is wrong with it, with at most a few characters from the client.
    @ivar option: the option whose limit it exceeds, or None.
    """

    problem: str
    option: str | None

    def __init__(self, problem: str, option: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.option = problem, option


class AckTimeout(SocketIOError):
    """
    No acknowledgement came in time.

    @ivar answers: the answers to a broadcast that came; empty for one socket.
    @ivar missing: the ids of the sockets that did not answer.
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
    The application emits an event with a reserved name.

    @ivar event: the name.
    """

    event: str

    def __init__(self, event: str) -> None:
        super().__init__(f"event {event!r}: the protocol keeps this name for itself; emit another")
        self.event = event


class UnsendableValue(SocketIOError, TypeError):
    """
    JSON cannot carry a value that the application emits or acknowledges with.

    @ivar path: the place of the value, such as C{args[1]["when"]}.
    """

    path: str

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class AdapterError(SocketIOError):
    """The adapter failed."""


class NotSupported(AdapterError):
    """The adapter has no such feature: L{MemoryAdapter} reaches no other process, for example."""


class RemoteTimeout(AdapterError):
    """
    Other processes did not answer in time.

    @ivar answers: the answers that came, in no order.
    @ivar missing: the number of processes that did not answer.
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
