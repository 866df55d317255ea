"""Requests for a WebSocket outside the path of a server, which nobody may serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.protocols.policies import ProtocolWrapper

from ..clock import cancel

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall


class ForeignUpgrades:
    """
    The requests for a WebSocket that are not for this server, each until it is served, lost or closed.

    @param server: has the C{reactor}, which is looked up when it is first needed.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._calls: set[IDelayedCall] = set()
        self._isStopped = False

    def __len__(self) -> int:
        return len(self._calls)

    def closeLater(self, request: Any, timeout: float) -> None:
        """
        Close the connection of a request unless somebody serves it in time.

        @param timeout: the time, in seconds.
        """
        if self._isStopped:
            return
        connection = request.channel.transport

        def holder() -> object:
            return connection.wrappedProtocol if isinstance(connection, ProtocolWrapper) else connection.protocol

        before = holder()

        def destroy() -> None:
            self._calls.discard(call)
            # Code that serves it puts another protocol in the channel's place, or replaces its dataReceived.
            isServed = request.startedWriting or holder() is not before or "dataReceived" in vars(request.channel)
            if not isServed:
                connection.loseConnection()

        def over(_: object) -> None:
            self._calls.discard(call)
            cancel(call)

        call = self._server.reactor.callLater(timeout, destroy)
        self._calls.add(call)
        request.notifyFinish().addBoth(over)

    def stop(self) -> None:
        """Leave all of them alone, and those that come."""
        self._isStopped = True
        for call in self._calls:
            cancel(call)
        self._calls.clear()
