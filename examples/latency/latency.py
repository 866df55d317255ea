"""
A page that measures how long a message takes to the server and back, and what the upgrade changes.

    npm ci                                                         # once, in this folder: the client for the page
    python examples/latency/latency.py                             # port 3000, all interfaces
    python examples/latency/latency.py tcp:8080:interface=127.0.0.1    # any endpoint description of Twisted
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.static import File

from engineio_twisted import Server, Site, Socket

HERE = Path(__file__).resolve().parent
CLIENT = HERE / "node_modules" / "engine.io-client" / "dist"


def application(server: Server) -> None:
    """Send each message back at once. The page measures."""

    @server.on("connection")
    def connected(socket: Socket) -> None:
        @socket.on("message")
        def answer(data: str | bytes) -> None:
            socket.send(data)


def serve(endpoint: str, reactor: Any) -> Server:
    """
    Serve the page and the measurements from one port.

    The port belongs to the site, not to the Engine.IO server: to stop all of it, close the server and the port,
    which `server.listening` is a Deferred of.
    """
    root = File(str(HERE / "public"))
    root.putChild(b"engine.io-client", File(str(CLIENT)))
    site = Site(root)
    # The server gets the requests to /engine.io/, and the site all others.
    server = Server(site, reactor=reactor)
    application(server)
    server.listening = serverFromString(reactor, endpoint).listen(site)
    return server


async def run(reactor: Any, endpoint: str) -> None:
    """Serve until Ctrl-C."""
    try:
        server = serve(endpoint, reactor)
        port = await server.listening
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    # Clients are told that the server stops, instead of noticing by a timeout.
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    address = port.getHost()
    where = f"http://127.0.0.1:{address.port}/" if hasattr(address, "port") else endpoint
    print(f"Latency: open {where} in a browser", flush=True)
    await Deferred()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Measure the round trip of a message, before and after the upgrade.")
    parser.add_argument("endpoint", nargs="?", default="tcp:3000", help="where to listen (default: %(default)s)")
    arguments = parser.parse_args()
    if not CLIENT.is_dir():
        sys.exit(f"The client for the page is missing: run `npm ci` in {HERE}")
    task.react(run, [arguments.endpoint])


if __name__ == "__main__":
    main()
