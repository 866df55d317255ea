"""
Send every message back: the shortest useful Engine.IO server.

    python examples/echo/echo.py                                   # port 3000, all interfaces
    python examples/echo/echo.py tcp:8080:interface=127.0.0.1      # any endpoint description of Twisted
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from engineio_twisted import Server, Socket, listen


def application(server: Server) -> None:
    """Set up the handlers of `server`: each message goes back to its sender."""

    @server.on("connection")
    def connected(socket: Socket) -> None:
        @socket.on("message")
        def echo(data: str | bytes) -> None:
            # A str is sent as text, and bytes as binary.
            socket.send(data)


async def main(reactor: Any, endpoint: str = "tcp:3000") -> None:
    """Serve until Ctrl-C."""
    try:
        server = listen(endpoint, reactor=reactor)
        application(server)
        port = await server.listening
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    # Clients are told that the server stops, instead of noticing by a timeout.
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    address = port.getHost()
    where = f"http://127.0.0.1:{address.port}" if hasattr(address, "port") else endpoint
    print(f"Echo: open {where} with any Engine.IO client", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
