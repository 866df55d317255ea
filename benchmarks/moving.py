"""
What a move costs, for `python benchmarks/workers.py`: two workers in one process, joined as processes are.

Each request comes on a connection of its own. Those at the wrong worker cost the CPU of both workers more than those at
the right one; what the accepting of connections costs is the same. Prints one number: microseconds for a move.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from typing import Any

from twisted.internet import defer, reactor, threads

from engineio_twisted import Server
from engineio_twisted.listening import NotImplementedResource
from engineio_twisted.web.fast import siteFor
from engineio_twisted.workers.cluster import Cluster
from engineio_twisted.workers.handover import Neighbour
from engineio_twisted.workers.page import SharedPage

COUNT, ROUNDS = 1000, 7
POST = "POST /engine.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3"
HANDSHAKE = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n"

loop: Any = reactor


def ask(port: int, request: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        return connection.recv(65536).decode()


def cpu() -> float:
    """Return the seconds of CPU that the workers have taken, without those of the client."""
    return float(threads.blockingCallFromThread(loop, time.thread_time))


def seconds(port: int, request: str) -> float:
    before = cpu()
    for _ in range(COUNT):
        if not ask(port, request).endswith("ok"):
            raise RuntimeError("a request was not answered")
    return cpu() - before


def measure(ports: list[int], clusters: list[Cluster]) -> float:
    opened = ask(ports[0], HANDSHAKE)
    request = POST.format(opened.partition('"sid":"')[2].partition('"')[0])
    found = []
    for _ in range(ROUNDS):
        here, elsewhere = [seconds(port, request) for port in ports]
        found.append((elsewhere - here) / COUNT * 1e6)
    if clusters[1].moved != COUNT * ROUNDS:
        raise RuntimeError(f"{clusters[1].moved} connections have moved")
    return statistics.median(found)


def main() -> None:
    page = SharedPage(bytearray(SharedPage.sizeOf(4)), 4)
    clusters, ports = [], []
    for number in (1, 2):
        server = Server(reactor=loop, idPrefix=f"{number}-")
        site = siteFor(NotImplementedResource(), loop)
        server.attach(site)
        row = page.claim(number - 1, number)
        cluster = Cluster(server, site, page, row, prefix="", count=2, stats=lambda: defer.succeed({}))
        clusters.append(cluster)
        ports.append(loop.listenTCP(0, site, interface="127.0.0.1"))
    for each, other, end in zip(
        clusters, reversed(clusters), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), strict=True
    ):
        each.addNeighbour(Neighbour(loop, end, other.number, other.number - 1, each))
        each.start()
    measuring = threads.deferToThread(measure, [each.getHost().port for each in ports], clusters)
    measuring.addCallback(lambda found: print(f"{found:.1f}"))
    measuring.addErrback(lambda failure: sys.stderr.write(failure.getTraceback()))
    measuring.addBoth(lambda _: loop.stop())
    loop.run()


if __name__ == "__main__":
    main()
