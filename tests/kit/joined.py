"""Servers in this process that are joined as processes are, by real sockets, on its reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from itertools import combinations, cycle
from typing import Any

from twisted.internet.defer import gatherResults, succeed
from twisted.internet.protocol import Factory

from engineio_twisted import Server
from engineio_twisted.listening import NotImplementedResource
from engineio_twisted.web.fast import siteFor
from engineio_twisted.workers.cluster import Cluster
from engineio_twisted.workers.handover import Neighbour
from engineio_twisted.workers.page import SharedPage


class Joined:
    """
    Servers with numbers from 1, each of which is a worker.

    @param options: of each server.
    @ivar neighbours: each as another one reaches it, by both numbers: `neighbours[1, 2]` is how 1 reaches 2.
    """

    def __init__(self, count: int = 2, mayMove: bool = True, **options: Any) -> None:
        from twisted.internet import reactor

        everything: Any = reactor
        page = SharedPage(bytearray(SharedPage.sizeOf(2 * count)), 2 * count)
        self.servers: list[Any] = []
        self.sites: list[Any] = []
        self.clusters: list[Any] = []
        prefix = options.pop("idPrefix", "")
        for number in range(1, count + 1):
            row = page.claim(number - 1, number)
            server = Server(reactor=everything, idPrefix=f"{prefix}{number}-", **options)
            site = siteFor(NotImplementedResource(), everything)
            server.attach(site)
            self.servers.append(server)
            self.sites.append(site)
            self.clusters.append(
                Cluster(server, site, page, row, prefix=prefix, count=count, stats=lambda: succeed({}), mayMove=mayMove)
            )
        self.neighbours: dict[tuple[int, int], Neighbour] = {}
        for one, other in combinations(range(1, count + 1), 2):
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end, here, there in zip(ends, (one, other), (other, one), strict=True):
                cluster = self.clusters[here - 1]
                self.neighbours[here, there] = Neighbour(everything, end, there, there - 1, cluster)
                cluster.addNeighbour(self.neighbours[here, there])

    def start(self) -> None:
        """Let all be ready."""
        for each in self.clusters:
            each.start()

    async def close(self) -> None:
        """Close all servers, and part them."""
        await gatherResults([each.close() for each in self.servers])
        for each in self.clusters:
            each.stop()


class InTurn(Factory):
    """A factory whose connections come to several sites in turn."""

    noisy = False

    def __init__(self, sites: Sequence[Any]) -> None:
        self._sites = sites
        self._next: Callable[[], Any] = cycle(sites).__next__

    def doStart(self) -> None:
        """Begin with the port."""
        for each in self._sites:
            each.doStart()

    def doStop(self) -> None:
        """End with the port."""
        for each in self._sites:
            each.doStop()

    def buildProtocol(self, address: Any) -> Any:
        """Return a channel of the next site."""
        return self._next().buildProtocol(address)
