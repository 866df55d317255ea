"""
One worker's view of all of them: where each request is served, and how sessions are spread.

docs/architecture/workers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic_ns
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from ..clock import cancel
from ..ends import attempt
from ..interfaces import IRequestDirector
from ..observer import Measure, ServerObserver, ServerStats
from ..protocol.errors import HTTPRefusal
from ..protocol.handshake import Want, classify, parseQuery
from ..web.directed import MAX_MOVES, DirectedChannel, Forwarded, adopt
from .addresses import asTuple
from .back import Back
from .exchange import KIND, LinkExchange
from .frames import Facts
from .front import Front
from .interfaces import IHandoverReceiver, INeighbour
from .owners import ownerOf
from .page import Row, RowState, SharedPage, isShortOfDescriptors

SPREAD = 4
"""Sessions by which a worker may exceed the one with the fewest: nothing is moved for less."""

TICK = 1.0
"""Seconds between two looks at what changes by itself."""


@attrs.frozen
class Workers:
    """
    The workers of a server, as the application in one of them sees them: C{server.workers}.

    @ivar number: the number of this one, which the ids of its sessions name. No other worker ever has it.
    @ivar slot: its slot, from 0. A worker that replaces it has the same.
    @ivar count: how many slots there are.
    """

    number: int
    slot: int
    count: int
    _ask: Callable[[], Deferred[Mapping[int, ServerStats]]]

    def stats(self) -> Deferred[Mapping[int, ServerStats]]:
        """
        Return what each worker has done and has now.

        @return: a Deferred of the L{ServerStats} by slot, after a second at most. A worker that does not answer in time
            is left out.
        """
        return self._ask()


@attrs.frozen
class Place:
    """
    Where else a request is served.

    @ivar neighbour: the worker that serves it.
    @ivar isNew: whether it opens a session.
    """

    neighbour: INeighbour
    isNew: bool


@attrs.define
class _Elsewhere:
    """A session of another worker, as a request to deliver a payload takes it to be; and its transport."""

    protocol: int
    name: str = "polling"
    # Whether the session can be resumed is found out by its owner, too.
    _resumption: None = None

    @property
    def transport(self) -> _Elsewhere:
        return self


@implementer(IRequestDirector, IHandoverReceiver)
class Cluster:
    """
    The workers, as one of them sees them. It knows nothing of processes.

    @param server: the L{Server} of this worker, whose C{idPrefix} ends with the number of this one.
    @param site: the L{Site} that it is attached to, before any connection has come.
    @param page: the page that all workers share.
    @param row: this worker's row of it.
    @param prefix: the option C{idPrefix} as it was given.
    @param count: how many slots there are.
    @param stats: asks all workers for their L{ServerStats}, by slot.
    @param mayMove: whether connections move between workers. If not, every request for another worker is relayed.
    @ivar neighbours: the other workers that live, by number.
    @ivar exchange: what they say to each other by.
    @ivar moved: connections that were given to other workers.
    """

    _log = Logger()

    def __init__(
        self,
        server: Any,
        site: Any,
        page: SharedPage,
        row: Row,
        *,
        prefix: str,
        count: int,
        stats: Callable[[], Deferred[Mapping[int, ServerStats]]],
        mayMove: bool = True,
    ) -> None:
        self.server = server
        self.site = site
        self.page = page
        self.number: int = row.number
        self._row = row
        self._prefix = prefix
        self._mayMove = mayMove
        self.neighbours: dict[int, INeighbour] = {}
        # Found once: a page of many rows is long to search for each request.
        self._rows: dict[int, Row] = {}
        # What had been passed on to this worker when it was looked at last.
        self._passedBefore: int = page.passedTo(row)
        row.received = self._passedBefore
        self.moved: int = 0
        # Those that had no row when they were looked at last.
        self._goneBefore: set[int] = set()
        self._tick: IDelayedCall | None = None
        self._clock: Any = server.clock
        self.front: Front = Front(server.clock, server.opts.maxHttpBufferSize)
        self.exchange: LinkExchange = LinkExchange(self.number, server.clock)
        server._joinExchange(self.exchange, self._ownerOf)
        site.protocol = DirectedChannel
        server.workers = Workers(self.number, row.slot, count, stats)
        server._factory.countElsewhere = self._sessionsElsewhere
        server.addObserver(_Counting(self))
        for phase in ("drain", "close"):
            server.addShutdownTrigger(phase, self.counted)

    # Life

    def start(self) -> None:
        """Begin to take sessions and connections: called when the server listens."""
        self._row.state = RowState.READY
        self._look()

    def stop(self) -> None:
        """Let go of all neighbours."""
        cancel(self._tick)
        self._tick = None
        self.front.stop()
        for each in list(self.neighbours.values()):
            each.lose()
        self.neighbours.clear()

    def _look(self) -> None:
        self._tick = self._clock.callLater(TICK, self._look)
        row = self._row
        row.lastTurn = monotonic_ns()
        row.takesConnections = int(self._mayMove and not isShortOfDescriptors())
        self.counted()
        # What was passed on a second ago and hasn't come by now was lost.
        row.received, self._passedBefore = max(row.received, self._passedBefore), self.page.passedTo(row)
        gone = {number for number in self.neighbours if self._rowOf(number) is None}
        for number in gone & self._goneBefore:
            # What it has sent was read since.
            neighbour = self.neighbours[number]
            attempt(neighbour.lose)
            self.neighbourLost(neighbour)
            self.front.dropUnanswered(neighbour)
        self._goneBefore = gone

    def counted(self) -> None:
        """Tell the others how many sessions there are here, and whether new ones are opened."""
        row, server = self._row, self.server
        if row.isReady and not server.isReady:
            row.state = RowState.DRAINING
        row.sessions = server.clientsCount
        row.pending = server._factory.pending

    def _sessionsElsewhere(self) -> int:
        """Return how many sessions the others have: called when a handshake is let in here, of which they then know."""
        self._row.pending = self.server._factory.pending + 1
        return sum([row.sessions + row.pending for row in self.page if row.number not in (0, self.number)])

    # Neighbours

    def addNeighbour(self, neighbour: INeighbour) -> None:
        """Know another worker from here on."""
        row = self.page.rowOf(neighbour.number)
        if row is not None:
            self._rows[neighbour.number] = row
        self.neighbours[neighbour.number] = neighbour
        self.counted()
        # Alone, every request is served here, and nobody is to be told of sessions.
        self.server._router.director = self
        self.exchange.addNeighbour(neighbour)

    def _rowOf(self, number: int) -> Row | None:
        """Return the row of a neighbour; None once the parent says that it is gone."""
        row = self._rows.get(number)
        return row if row is not None and row.number == number else None

    def neighbourLost(self, neighbour: INeighbour) -> None:
        del self.neighbours[neighbour.number]
        self._rows.pop(neighbour.number, None)
        if not self.neighbours:
            self.server._router.director = None
        self.front.neighbourLost(neighbour)
        self.exchange.neighbourLost(neighbour.number)

    def connectionCame(self, neighbour: INeighbour, carrier: Any, facts: Any, data: bytes) -> None:
        if not facts.isBalanced:
            adopt(self.site, carrier, facts, data)
            return
        # This worker may have begun to drain when it was on its way.
        other = None if self.server.isReady or facts.moves > MAX_MOVES else self._withFewer()
        if other is not None and self.mayMove(place := Place(other, True)):
            self._goesTo(place)
            other.move(Forwarded(self.site, carrier, attrs.evolve(facts, moves=facts.moves + 1), data))
        else:
            adopt(self.site, carrier, facts, data)
        self._handshakeCame()

    def protocolForLink(self, neighbour: INeighbour, kind: str) -> Any:
        if kind == "relay":
            return Back(self.site, self.server, self._handshakeCame)
        return self.exchange.linkFor(neighbour.number) if kind == KIND else None

    # Where a request is served

    def place(self, method: bytes, uri: bytes) -> Place | None:
        if method == b"OPTIONS":
            return None
        sid = self._sidOf(uri)
        if sid is None:
            return None
        if sid:
            owner = self._ownerOf(sid)
            neighbour = None if owner is None else self.neighbours.get(owner)
            # A program that it has started may keep the sockets of a worker open that is gone: the parent knows.
            isThere = neighbour is not None and self._rowOf(neighbour.number) is not None
            return Place(neighbour, False) if neighbour is not None and isThere else None
        if method != b"GET":
            return None
        neighbour = self._withFewer()
        return None if neighbour is None else Place(neighbour, True)

    def placeOfIdle(self) -> Place | None:
        neighbour = None if self.server.isReady else self._withFewer()
        place = None if neighbour is None else Place(neighbour, False)
        return place if place is not None and self.mayMove(place) else None

    def mayMove(self, place: Place) -> bool:
        return self._mayMove and place.neighbour.takesConnections

    def move(self, place: Place, released: Any) -> None:
        self.moved += 1
        self._goesTo(place)
        released.facts = Facts(
            peer=asTuple(released.peer),
            host=asTuple(released.host),
            moves=released.moves,
            isBalanced=place.isNew,
            acceptedAt=released.acceptedAt,
            served=released.served,
        )
        place.neighbour.move(released)

    def takes(self, exchange: Any, isUpgrade: bool) -> bool:
        if getattr(exchange.channel, "isSettled", False):
            return False
        place = self.place(exchange.method, exchange.uri)
        # Each byte of a WebSocket that is relayed takes two processes. A new one stays, unless it would be refused.
        if place is None or (place.isNew and isUpgrade and self.server.isReady):
            return False
        self._goesTo(place)
        self.front.relay(place.neighbour, exchange, isUpgrade, place.isNew)
        return True

    def pushReceiver(self, exchange: Any, method: bytes, uri: bytes) -> Any:
        if getattr(exchange.channel, "isSettled", False):
            return None
        place = self.place(method, uri)
        if place is None or place.isNew:
            return None
        # Whether the session is on polling, and of this revision, is found out by its owner.
        query = parseQuery(uri)
        there = _Elsewhere(4 if query.get("EIO") == "4" else 3)
        origins = exchange.headerValues(b"origin")
        try:
            wanted = classify(method.decode("latin-1"), uri, origins, False, self.server.opts, lambda _: there)
        except HTTPRefusal:
            return None
        if wanted.want is not Want.PUSH:
            return None
        return self.front.pushReceiver(place.neighbour, query["sid"], there.protocol)

    def _goesTo(self, place: Place) -> None:
        row = self._rowOf(place.neighbour.number) if place.isNew else None
        if row is not None:
            self.page.passOn(self._row, row)

    def _handshakeCame(self) -> None:
        """Called when a handshake that another worker has passed on is decided on, or was."""
        self.counted()
        self._row.received += 1

    def _sidOf(self, uri: bytes) -> str | None:
        """Return the id in an address, as a handshake reads it; empty if there is none, None if that is refused."""
        try:
            return parseQuery(uri).get("sid", "")
        except HTTPRefusal:
            return None

    def _ownerOf(self, sid: str) -> int | None:
        return ownerOf(sid, self._prefix)

    # How sessions are spread

    def _withFewer(self) -> INeighbour | None:
        """Return the neighbour that a new session is for; None if it is for this worker."""
        best, least = None, 0
        for each in self.neighbours.values():
            row = self._rowOf(each.number)
            if row is None or not row.isReady:
                continue
            load = row.sessions + row.pending + self._underWayTo(row)
            if best is None or load < least:
                best, least = each, load
        if best is None or not self.server.isReady:
            return best
        own = self.server.clientsCount + self.server._factory.pending + self._underWayTo(self._row)
        return best if own > least + max(SPREAD, least // 8) else None

    def _underWayTo(self, row: Row) -> int:
        """Return how many handshakes were passed on to a worker that it hasn't got yet."""
        return max(0, self.page.passedTo(row) - row.received)

    def measures(self) -> Iterable[Measure]:
        """Return the numbers of the moves and relays of this worker."""
        front = self.front
        yield Measure("engineio_connections_moved", "Connections given to other workers.", self.moved, isCounter=True)
        yield Measure("engineio_requests_relayed", "Requests relayed to other workers.", front.relayed, isCounter=True)
        yield Measure("engineio_relayed_websockets", "WebSockets of other workers.", front.webSockets)
        dropped = self.exchange.dropped
        yield Measure("engineio_exchange_dropped", "Frames that other workers did not take.", dropped, isCounter=True)


class _Counting(ServerObserver):
    """Tells the others of each session that begins or ends."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def opened(self, socket: Any) -> None:
        if self._cluster.neighbours:
            self._cluster.counted()

    def closed(self, socket: Any, reason: Any, description: str) -> None:
        if self._cluster.neighbours:
            self._cluster.counted()

    def measures(self) -> Iterable[Measure]:
        return self._cluster.measures()
