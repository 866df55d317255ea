"""Sockets of any process, which C{fetchSockets} returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import AckTimeout

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

_DEFAULT: Any = object()
"""In place of a timeout that isn't given."""


class RemoteSocket:
    """
    A socket of any process, as it was when C{fetchSockets} was called.

    @ivar id: its id. For a client of protocol 4, whose own id is secret, it is another one.
    @ivar rooms: the names of its rooms, its id among them.
    @ivar data: its C{data}. From another process, what JSON can carry of it.
    @ivar handshake: a mapping with C{headers}, C{query}, C{auth}, C{address}, C{secure}, C{url} and C{issued}.
    """

    def __init__(
        self,
        namespace: Any,
        id: str,  # noqa: A002
        rooms: frozenset[str],
        data: dict[str, Any],
        handshake: Mapping[str, Any],
    ) -> None:
        self._namespace = namespace
        self.id = id
        self.rooms = rooms
        self.data = data
        self.handshake = handshake

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.id} of {self._namespace.name}>"

    @property
    def _operator(self) -> Any:
        return self._namespace.to(self.id)

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event to the socket."""
        self._operator.emit(event, *arguments)

    def emitWithAck(self, event: str, *arguments: Any, timeout: float | None = _DEFAULT) -> Deferred[Any]:
        """
        Send an event to the socket, and await its acknowledgement.

        @param timeout: milliseconds to wait; None waits until the socket ends. The default is the option C{ackTimeout}.
        @return: a Deferred of the answer, like that of L{Socket.emitWithAck}. It fails with L{AckTimeout}, also when
            the socket has ended or ends, and with L{RemoteTimeout} if its process does not answer.
        """
        operator = self._operator if timeout is _DEFAULT else self._operator.timeout(timeout)
        answers: Deferred[Any] = operator.emitWithAck(event, *arguments)
        return answers.addCallback(self._answer)

    def _answer(self, answers: list[Any]) -> Any:
        if not answers:
            raise AckTimeout("the socket has ended", missing=[self.id])
        return answers[0]

    def join(self, *rooms: str) -> None:
        """Add the socket to rooms."""
        self._operator.socketsJoin(*rooms)

    def leave(self, *rooms: str) -> None:
        """Remove the socket from rooms."""
        self._operator.socketsLeave(*rooms)

    def disconnect(self, close: bool = False) -> None:
        """Disconnect the socket from the namespace. With C{close} its session is closed."""
        self._operator.disconnectSockets(close)
