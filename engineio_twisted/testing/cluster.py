"""
Several workers of an application in memory, on one clock, for tests: what C{twistd engineio --workers} runs.

Their owners, frames, relays and exchange are those of real ones. Connections and links between them are in memory.
docs/testing.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from errno import EAGAIN
from os import strerror
from typing import Any, Unpack

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.pages import notFound
from zope.interface import implementer

from ..ends import attempt
from ..observer import ServerStats
from ..operation.service_options import MAX_PREFIX_WITH_WORKERS
from ..protocol.errors import OptionError
from ..protocol.options import OptionKeywords, ServerOptions
from ..server import Server
from ..session.socket import Socket
from ..web.fast import siteFor
from ..workers.cluster import Cluster
from ..workers.frames import decodeMove, encodeMove
from ..workers.handover import MAX_MOVING
from ..workers.interfaces import INeighbour
from ..workers.owners import prefixOf
from ..workers.page import Row, SharedPage
from .ends import Process
from .kit import Kit
from .links import Links, Message, Messages
from .network import MemoryNetwork


class WorkerClock(Clock):
    """The clock of one worker, whose timers are lost with it: its time is that of all."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def seconds(self) -> float:
        return self._clock.seconds()


@attrs.define(eq=False)
class MemoryWorker:
    """
    A worker of a L{MemoryCluster}.

    @ivar number: its number, which the ids of its sessions name.
    @ivar slot: its slot, from 0. A worker that replaces it has the same.
    @ivar server: its L{Server}.
    @ivar cluster: all workers, as it sees them.
    @ivar row: its row of the page that all share.
    @ivar process: what of it reads and writes.
    @ivar neighbours: the other workers, as it reaches them.
    @ivar isLeaving: whether another one has taken its place, and it drains.
    """

    server: Server
    cluster: Cluster
    row: Row
    process: Process
    neighbours: list[MemoryNeighbour] = attrs.field(factory=list)
    number: int = attrs.field(init=False)
    slot: int = attrs.field(init=False)
    isLeaving: bool = False

    def __attrs_post_init__(self) -> None:
        self.number, self.slot = self.row.number, self.row.slot

    def __repr__(self) -> str:
        return f"<worker {self.number}>"


class ClusterNetwork(MemoryNetwork):
    """The network of several workers, of which one is given each new connection."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, None)
        self.processes.clear()
        self.workers: dict[int, MemoryWorker] = {}
        self.last = 0
        self._turns = 0

    def processAt(self, at: Any) -> Process:
        number = at() if callable(at) else at
        if number is not None and not 1 <= number <= self.last:
            raise ValueError(f"worker {number!r}: expected one of {[*self.workers]}")
        worker = self.workers.get(number)
        if worker is None or worker.isLeaving:
            ready = [each for each in self.workers.values() if not each.isLeaving]
            assert ready, "no worker is there that a connection could reach"
            worker = ready[self._turns % len(ready)]
            self._turns += 1
        return worker.process


@implementer(INeighbour)
class MemoryNeighbour:
    """
    Another worker, as one worker reaches it in memory.

    @param owner: the worker that reaches it.
    @param other: the other worker.
    @ivar peer: the first one, as the other reaches that.
    @ivar outgoing: what is sent to the other worker.
    """

    peer: MemoryNeighbour
    _isLost = False

    def __init__(self, owner: MemoryWorker, other: MemoryWorker, links: Links) -> None:
        self.number = other.number
        self.slot = other.slot
        self._owner = owner
        self._other = other
        self._links = links
        self.outgoing: Messages = links.messages(other.process)

    @property
    def takesConnections(self) -> bool:
        isMoving = self._other.row.takesConnections and self.outgoing.queued < MAX_MOVING
        return bool(isMoving) and not self._isLost

    def move(self, released: Any) -> None:
        message = encodeMove(released.facts, released.data)
        carriers: list[Any] = []

        def sent(isTaken: bool) -> None:
            if isTaken:
                carriers.append(released.carrier.duplicate(self._other.process))
                released.forget()
            else:
                released.back()

        def deliver() -> None:
            facts, data = decodeMove(message)
            self._other.cluster.connectionCame(self.peer, carriers[0], facts, data)

        self.outgoing.send(Message(deliver, lambda: carriers[0].close(), sent))

    def openLink(self, kind: str, protocol: Any) -> None:
        if self.outgoing.isFull and not self._isLost:
            raise OSError(EAGAIN, strerror(EAGAIN))
        link = self._links.connect(self._owner.process, self._other.process)
        ours, theirs = link.ends
        ours.begin(protocol)

        def sent(isTaken: bool) -> None:
            if not isTaken:
                theirs.die()

        def deliver() -> None:
            made = self._other.cluster.protocolForLink(self.peer, kind)
            if made is None:
                theirs.die()
            else:
                theirs.begin(made)
                theirs.wake()

        self.outgoing.send(Message(deliver, theirs.die, sent))

    def lose(self) -> None:
        self._isLost = True
        self.outgoing.end(self.peer.isGone)
        self.peer.outgoing.close()

    def isGone(self) -> None:
        """Called when the other worker is gone, and all was read that it had sent."""
        if not self._isLost:
            self._isLost = True
            self._owner.neighbours.remove(self)
            attempt(self._owner.cluster.neighbourLost, self)
            self.outgoing.close()


class MemoryCluster(Kit):
    """
    Several workers of an application in memory, on one clock; and, as a context manager, closed behind them.

    It is used as a L{MemoryServer<engineio_twisted.testing.MemoryServer>}. Each request gets to the worker that has its
    session, whatever connection it comes on, as with C{twistd engineio --workers}.

    @param application: called with the L{Server} of each worker; a coroutine function too.
    @param workers: how many workers there are, at least 1.
    @param mode: C{move}: connections move between workers, if they can. C{relay}: all requests are relayed.
    @param leavesTimers: whether the application may have timers of its own on the clock in the end.
    @param options: options of each server, as in L{ServerOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the mode isn't one of those above.
    @ivar links: what becomes of what passes between workers: C{links.delay(seconds)}, C{links.split(size)},
        C{links.pause()}, C{links.resume()}, C{links.drop()}.
    @ivar clients: the L{MemoryClient}s that were connected, in this order.
    @ivar errors: as of L{MemoryServer<engineio_twisted.testing.MemoryServer>}.
    """

    _network: ClusterNetwork

    def __init__(
        self,
        application: Callable[[Server], object],
        workers: int = 2,
        *,
        mode: str = "move",
        leavesTimers: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> None:
        if workers < 1:
            raise OptionError("workers", workers, "expected at least 1")
        if mode not in ("move", "relay"):
            raise ValueError(f"mode {mode!r}: expected move or relay")
        self._application = application
        self._options = options
        self._prefix = options.get("idPrefix", "")
        if len(self._prefix) > MAX_PREFIX_WITH_WORKERS:
            raise OptionError(
                "idPrefix", self._prefix, f"expected at most {MAX_PREFIX_WITH_WORKERS} signs with workers"
            )
        self._count = workers
        self._mode = mode
        super().__init__(ClusterNetwork(Clock()), ServerOptions(**options), leavesTimers)
        self._page = SharedPage(bytearray(SharedPage.sizeOf(2 * workers)), 2 * workers)
        self.links: Links = Links(self._network)
        self._begin(lambda: [self._add(slot) for slot in range(workers)])

    @property
    def workers(self) -> Mapping[int, MemoryWorker]:
        """The workers that live, each a L{MemoryWorker}, by number. The first are 1, 2 and so on."""
        return self._network.workers

    @property
    def sockets(self) -> dict[str, Socket]:
        """The live sessions of all workers, by id."""
        return {sid: each for worker in self.workers.values() for sid, each in worker.server.clients.items()}

    # Workers that come and go

    def _add(self, slot: int) -> MemoryWorker:
        network = self._network
        network.last += 1
        row = self._page.claim(slot, network.last)
        clock = WorkerClock(self.clock)
        options: Any = {**self._options, "idPrefix": prefixOf(row.number, self._prefix)}
        try:
            server = Server(reactor=clock, **options)
            site = siteFor(notFound(), clock)
            server.attach(site)
            cluster = Cluster(
                server,
                site,
                self._page,
                row,
                prefix=self._prefix,
                count=self._count,
                stats=self._stats,
                mayMove=self._mode == "move",
            )
            worker = MemoryWorker(server, cluster, row, Process(clock, site))
            self._serve(server, self._application)
        except BaseException:
            row.clear()
            raise
        network.processes.append(worker.process)
        for other in self.workers.values():
            first, second = MemoryNeighbour(worker, other, self.links), MemoryNeighbour(other, worker, self.links)
            first.peer, second.peer = second, first
            for each in (first, second):
                each._owner.neighbours.append(each)
                each._owner.cluster.addNeighbour(each)
        network.workers[worker.number] = worker
        cluster.start()
        return worker

    def _stats(self) -> Deferred[Mapping[int, ServerStats]]:
        workers = [each for each in self.workers.values() if not each.process.isStalled]
        return succeed({each.slot: each.server.stats() for each in workers})

    def _worker(self, number: int) -> MemoryWorker:
        worker = self.workers.get(number)
        if worker is None:
            raise ValueError(f"worker {number!r}: expected one of {[*self.workers]}")
        return worker

    def kill(self, number: int, *, restart: bool = True) -> int | None:
        """
        Let a worker die, as by SIGKILL: its connections are cut, and nothing of it runs any more.

        @param number: its number.
        @param restart: whether another one takes its slot at once.
        @return: the number of that one; None if there is none.
        @raise ValueError: there is no such worker.
        """
        worker = self._worker(number)
        self._gone(worker)
        successor = self._add(worker.slot).number if restart else None
        self.settle()
        return successor

    def _gone(self, worker: MemoryWorker) -> None:
        network, process = self._network, worker.process
        del network.workers[worker.number]
        network.processes.remove(process)
        self._servers.remove(worker.server)
        process.isStalled = True
        process.clock.calls.clear()
        for end in list(process.ends):
            end.die()
        for carrier in [each for each in network.carriers if each.process is process]:
            carrier.close()
        for neighbour in list(worker.neighbours):
            neighbour.lose()
        worker.row.clear()

    def stall(self, number: int) -> None:
        """
        Let a worker stand still, as one whose handler doesn't return: it reads nothing, and none of its timers runs.

        @raise ValueError: there is no such worker.
        """
        self._worker(number).process.isStalled = True

    def resume(self, number: int) -> None:
        """
        Let a worker that stood still go on.

        @raise ValueError: there is no such worker.
        """
        process = self._worker(number).process
        process.isStalled = False
        for end in process.ends:
            end.wake()
        self.settle()

    def reload(self, **options: Unpack[OptionKeywords]) -> list[int]:
        """
        Replace all workers, slot by slot, as SIGHUP does: the new one is ready before the old one drains.

        Sessions of an old worker end with C{server shutting down}, at the latest after C{drainTimeout}.

        @param options: options of the new servers, if some are to change.
        @return: the numbers of the new workers, by slot.
        @raise OptionError: an option is unknown, of a wrong type or out of range. The old workers stay.
        """
        before = self._options
        self._options = {**before, **options}
        numbers: list[int] = []
        for old in sorted(self.workers.values(), key=lambda each: each.slot):
            if old.isLeaving:
                continue
            try:
                numbers.append(self._add(old.slot).number)
            except BaseException:
                # The first one decides.
                self._options = before if not numbers else self._options
                raise
            old.isLeaving = True
            old.server.close(drain=True).addBoth(self._leave, old)
            self.settle()
        return numbers

    def _leave(self, _: object, worker: MemoryWorker) -> None:
        worker.cluster.site.closeConnections().addBoth(lambda _: self._left(worker))

    def _left(self, worker: MemoryWorker) -> None:
        if worker.number in self.workers:
            attempt(worker.cluster.stop)
            self._gone(worker)

    # The end

    def _closeServers(self) -> list[Deferred[None]]:
        self.links.delay(0)
        self.links.resume()
        for each in list(self.workers.values()):
            self.resume(each.number)
        closing = super()._closeServers()
        self.settle()
        for each in list(self.workers.values()):
            each.cluster.stop()
        return closing
