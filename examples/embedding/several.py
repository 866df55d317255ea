"""
Several servers in one process: two on one site, under paths and with options of their own, and one on another port.

    python examples/embedding/several.py                                # port 3000, all interfaces
    python examples/embedding/several.py tcp:8080:interface=127.0.0.1   # any endpoint description of Twisted
"""

from __future__ import annotations

from typing import Any

from common import echo, run
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.web.pages import notFound

from engineio_twisted import Server, Site, listen


async def start(reactor: Any, endpoint: str) -> Any:
    site = Site(notFound())
    visitors = Server(site, reactor=reactor)
    staff = Server(site, reactor=reactor, path="/staff/engine.io", pingInterval=5000, maxHttpBufferSize=10_000_000)
    # Programs on this machine connect to another port.
    programs = listen("tcp:0:interface=127.0.0.1", reactor=reactor, transports=["websocket"])
    port = await serverFromString(reactor, endpoint).listen(site)
    echo(visitors)

    @staff.on("connection")
    def connected(socket: Any) -> None:
        # The servers share nothing except what the application passes on.
        socket.on("message", lambda data: socket.send(f"{data} to {visitors.broadcast(data)} visitors"))

    echo(programs)
    print(f"Programs connect to ws://127.0.0.1:{(await programs.listening).getHost().port}", flush=True)
    servers = (visitors, staff, programs)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: gatherResults([each.close() for each in servers]))
    return port


if __name__ == "__main__":
    run(start)
