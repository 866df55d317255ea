"""One session, as the application of its server sees it. docs/sessions.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..logs import beginningOfId
from ..protocol.errors import CloseReason
from .base import BaseSocket
from .ending import CLOSED_BY_SERVER
from .handlers import SOCKET_EVENTS

if TYPE_CHECKING:
    from ..interfaces import Request


class Socket(BaseSocket):
    """
    One session, from its handshake to its end, on whatever transport it is.

    It is an C{IConsumer}: a producer may write to it, at the pace of the client.

    Events, with their arguments: C{open}; C{packet(packet)} for each packet received and C{packetCreate(packet)} for
    each made; C{data(data)} and C{message(data)} for a message; C{heartbeat} for a pong, or, in revision 3, a ping;
    C{flush(packets)} before and C{drain} after the buffer goes to the transport, and C{drain} when the socket is
    L{writable} again after somebody asked and it wasn't; C{upgrading(transport)}, C{upgrade(transport)}; of a session
    that can be resumed C{suspend(description)} when it has lost its connection, and C{resume} when the client has come
    back; C{error(exception)} when a handler raised one; C{close(reason, description)}, the last one.

    @ivar id: the session id, which is a secret of the client.
    @ivar protocol: the revision of the protocol.
    @ivar transport: the transport it is on.
    """

    _kind = "Socket"
    _peer = "client"
    _closedHere = CLOSED_BY_SERVER
    _events = SOCKET_EVENTS

    def __init__(self, sid: str, host: Any, transport: Any, exchange: Any, protocol: int) -> None:
        super().__init__(sid, host, transport, protocol)
        self._exchange = exchange

    @property
    def request(self) -> Request:
        """The session's first request, a L{twisted.web.server.Request}, made of what came when it is asked for."""
        request: Request = self._exchange.request
        return request

    @property
    def server(self) -> Any:
        """The L{Server}."""
        return self._host.server

    @property
    def remoteAddress(self) -> str | None:
        """The client's IP address, by the first request (L{Server.clientOf}); None on a UNIX socket."""
        address: str | None = self._host.addressOf(self._exchange)
        return address

    @property
    def logName(self) -> str:
        """The session id as it may stand in a log: shortened, because anyone who knows it can take the session over."""
        return f"{beginningOfId(self.id, self._host.opts.idPrefix)}…"

    def close(
        self, discard: bool = False, *, reason: CloseReason = CloseReason.FORCED_CLOSE, description: str | None = None
    ) -> None:
        """
        Close the session: what is buffered goes out first, then the client is told.

        With a client that doesn't take it, or on polling without a waiting GET, this takes until it does, 30 seconds at
        most. Nothing is received any more. Causes C{close} with the reason and the description, which observers get
        too; with C{ping timeout} when a polling client hasn't polled by the time when it would have to answer a ping,
        and with another reason if the client leaves first.

        @param discard: drop what is buffered, and close at once.
        @param reason: why, if a layer above knows better, such as C{CloseReason.PARSE_ERROR}. The client isn't told,
            but by the close code of a WebSocket: 1001 for C{server shutting down}, 1008 for C{rate limit exceeded},
            1000 for others.
        @param description: the same in more words; by default C{closed by the server}.
        @raise ValueError: the reason isn't a L{CloseReason}.
        @raise TypeError: the description isn't text.
        @raise RecursionError: the stack is full. The session is as before.
        """
        self._closeBy(discard, reason, description)
