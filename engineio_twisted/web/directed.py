"""
A connection whose next request may be served by another process, to which it moves. docs/architecture/workers.md.

Between two requests a connection is nothing but a socket and the bytes that were read of it. When a channel has the
whole head of a request, it asks which process serves the request, before it does anything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.web.http import Request

from ..ends import attempt
from ..interfaces import IEngineServer
from .connections import attach, detach, isMovable
from .fast import FastChannel
from .fast_exchange import FastExchange
from .resource import isUpgrade, serverAt

if TYPE_CHECKING:
    from .site import Site

MAX_MOVES = 2
"""Moves of a connection. On one that has moved so often, a proxy mixes sessions: each further request is relayed."""

MAX_MOVED_BYTES = 65536
"""Bytes that were read of a connection, at most, if it is to move."""


class RequestMoved(Exception):
    """The connection of the request that was being read has moved."""


class Forwarded:
    """
    A connection that no reactor watches, on its way to another process.

    @param site: the site that serves it here if it comes back.
    @param carrier: its socket, or what stands for that in memory.
    @param facts: what the process that takes it is told about it.
    @param data: what was read of it and not served.
    @ivar carrier: as given.
    @ivar facts: as given.
    @ivar data: as given.
    """

    def __init__(self, site: Site, carrier: Any, facts: Any, data: bytes) -> None:
        self._site = site
        self.carrier = carrier
        self.facts = facts
        self.data = data

    def forget(self) -> None:
        """Let go of it, as another process has it: this one's copy is closed, which ends nothing."""
        self.carrier.close()

    def back(self) -> None:
        """Serve it here after all, as nobody else can."""
        adopt(self._site, self.carrier, self.facts, self.data)


class Released(Forwarded):
    """
    A connection that a channel had, on its way to another process. The sender sets C{facts}.

    @param channel: the channel that has it until now.
    @param data: what was read of it and not served.
    @ivar moves: how often it has moved for a request, this time included.
    @ivar acceptedAt: when it was accepted, in seconds of the system's monotonic clock.
    @ivar served: how many requests were served on it.
    """

    def __init__(self, channel: DirectedChannel, data: bytes) -> None:
        self.peer: Any = channel.transport.getPeer()
        self.host: Any = channel.getHost()
        # Without a request it may move as often as before.
        self.moves: int = channel.moves + bool(data)
        self.acceptedAt: float = channel.acceptedAt
        self.served: int = channel.served
        super().__init__(channel.site, detach(channel), None, data)


class DirectedChannel(FastChannel):
    """
    A connection of a site that is served by several processes.

    Private names besides those of L{FastChannel}, seen in Twisted 26.4 and 26.10: C{_command} and C{_path} of
    C{HTTPChannel} are the method and the address of the request whose head has come. Without them each request that
    isn't read in one pass fails with an C{AttributeError}.

    @ivar moves: how often it has moved from one process to another.
    @ivar acceptedAt: as of L{Released}.
    @ivar served: as of L{Released}.
    @ivar isSettled: whether the request that is read or answered is served here, whatever its address says: it has
        travelled already, or this has been found out.
    """

    _command: bytes
    _path: bytes
    moves: int = 0
    acceptedAt: float = 0.0
    served: int = 0
    isSettled: bool = False
    # Called when a request was answered.
    whenDone: Callable[[], object] | None = None
    # The lines of the head that is being read.
    _lines: list[bytes]

    def connectionMade(self) -> None:
        if not self.acceptedAt:
            self.acceptedAt = time.monotonic()
        self._lines = []
        super().connectionMade()

    def arrives(self, facts: Any) -> None:
        """
        Take over what is known of a connection from the process that had it. Called before it is connected.

        @param facts: has C{moves}, C{acceptedAt} and C{served}, as L{Released}.
        """
        self.moves, self.acceptedAt, self.served = facts.moves, facts.acceptedAt, facts.served
        self.isSettled = True

    # Requests whose head came in lines

    def lineReceived(self, line: bytes) -> None:
        if self._HTTPChannel__first_line:
            self._lines = []
        self._lines.append(line)
        # Nothing is left of it here then.
        with suppress(RequestMoved):
            super().lineReceived(line)

    def allHeadersReceived(self) -> None:
        server = serverAt(self.site.resource, self._path.partition(b"?")[0])
        director = None if server is None else server.director
        if director is not None:
            request = self.requests[-1]
            request.clientproto = self._version
            place = self._placeToMove(director, self._command, self._path, isUpgrade(request))
            if place is not None:
                head = b"\r\n".join(self._lines) + b"\r\n"
                if len(head) + len(self._buffer) <= MAX_MOVED_BYTES:
                    self.requests.clear()
                    director.move(place, Released(self, head + self._buffer))
                    raise RequestMoved
        self._lines = []
        super().allHeadersReceived()

    def _awaitHead(self) -> None:
        # What was relayed has come whole.
        if self.whenDone is None:
            super()._awaitHead()

    def finish(self, until: float) -> None:
        """
        Close the connection, as L{Channel.finish}; if nothing is asked on it just now, another process may have it.

        A client may be about to send a request on it, which would be cut.
        """
        isIdle = not (self.requests or self._buffer or self._dataBuffer) and isMovable(self.transport)
        for server in self.site.servers if isIdle else ():
            place = None if server.director is None else server.director.placeOfIdle()
            if place is not None:
                server.director.move(place, Released(self, b""))
                return
        super().finish(until)

    def _isInHead(self) -> bool:
        return not self._isReleased and super()._isInHead()

    # Those that came whole

    def _serve(self, exchange: FastExchange, engineServer: IEngineServer, isUpgrade: bool) -> None:
        director = engineServer.director
        if director is not None:
            place = self._placeToMove(director, exchange.method, exchange.uri, isUpgrade)
            if place is not None:
                whole = exchange.whole()
                if len(whole) <= MAX_MOVED_BYTES:
                    director.move(place, Released(self, whole))
                    return
        super()._serve(exchange, engineServer, isUpgrade)

    def requestDone(self, request: Request) -> None:
        self.isSettled = False
        self.served += 1
        super().requestDone(request)
        if self.whenDone is not None:
            self.whenDone()

    def _placeToMove(self, director: Any, method: bytes, uri: bytes, isUpgrade: bool) -> Any:
        """Return where the connection moves for the request that has come; None if it stays."""
        if self.isSettled:
            return None
        place = director.place(method, uri)
        if place is None:
            # It is asked once for each request.
            self.isSettled = True
            return None
        mayMove = (isUpgrade or self.moves < MAX_MOVES) and isMovable(self.transport) and director.mayMove(place)
        return place if mayMove else None


class _Arriving:
    """
    Builds the channel of a connection that comes from another process.

    @ivar channel: the channel.
    """

    channel: Any = None

    def __init__(self, site: Site, facts: Any) -> None:
        self._site = site
        self._facts = facts

    def doStart(self) -> None:
        """Do nothing: the site has begun."""

    def buildProtocol(self, address: Any) -> Any:
        """Return the channel."""
        self.channel = self._site.buildProtocol(address)
        self.channel.arrives(self._facts)
        return self.channel


def adopt(site: Site, carrier: Any, facts: Any, data: bytes) -> None:
    """
    Serve a connection that another process had, or that was on its way to one. The next request is served here.

    @param site: a site whose protocol is L{DirectedChannel}.
    @param carrier: as C{carrier} of L{Released}. It is closed: the connection has a descriptor of its own.
    @param facts: as for L{DirectedChannel.arrives}.
    @param data: what was read of it and not served.
    """
    arriving = _Arriving(site, facts)
    try:
        connection = attach(carrier, arriving, site.reactor)
    except OSError:
        # Its client has gone, or there is no descriptor left. It ends with the copy that is closed here.
        return
    if not data:
        # It came without a request: where the next one is served isn't known yet.
        arriving.channel.isSettled = False
        return
    try:
        arriving.channel.dataReceived(data)
    except Exception:
        _log.failure("A connection from {peer} could not be read", peer=connection.getPeer())
        attempt(connection.abortConnection)


_log = Logger()
