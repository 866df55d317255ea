"""Shared by the examples of this folder: send every message back, start, print the address, and stop gracefully."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import react

from engineio_twisted import Server, Socket


def echo(server: Server) -> None:
    """Send every message back."""

    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)


def run(start: Callable[[Any, str], Awaitable[Any]], scheme: str = "http", endpoint: str = "tcp:3000") -> None:
    """
    Run a program until Ctrl-C or SIGTERM.

    @param start: called with the reactor and the endpoint of the command line; returns the port.
    @param endpoint: the endpoint if the command line has none.
    """

    async def main(reactor: Any) -> None:
        try:
            port = await start(reactor, sys.argv[1] if len(sys.argv) > 1 else endpoint)
        except (ValueError, CannotListenError) as error:
            sys.exit(str(error))
        print(f"Open {scheme}://127.0.0.1:{port.getHost().port} with any Engine.IO client", flush=True)
        await Deferred()

    react(lambda reactor: ensureDeferred(main(reactor)))
