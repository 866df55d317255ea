"""
The server that the benchmarks measure: an echo, written as the README shows it.

    python benchmarks/echo.py 3000

A text that begins with `broadcast:` goes to every client. The options are for measurements of what else there is to
choose; docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from typing import Any

REACTORS = ("default", "asyncio", "uvloop", "poll", "select")
COLLECTIONS = ("default", "freeze", "rare", "off")


def installReactor(name: str) -> None:
    """Choose the reactor, which has to be done before anything else of Twisted is imported."""
    if name == "default":
        return
    if name == "uvloop":
        import uvloop  # type: ignore[import-not-found]
        from twisted.internet import asyncioreactor

        asyncioreactor.install(uvloop.new_event_loop())
        return
    importlib.import_module(f"twisted.internet.{name}reactor").install()


def chooseCollections(name: str) -> None:
    """Say when Python looks for garbage in cycles."""
    if name == "freeze":
        # What there is now stays, and is never looked at again.
        gc.collect()
        gc.freeze()
    elif name == "rare":
        gc.set_threshold(50_000, 50, 50)
    elif name == "off":
        gc.disable()


async def main(reactor: Any, arguments: argparse.Namespace) -> None:
    from twisted.internet.defer import Deferred

    from engineio_twisted import Socket, listen

    where = f"{arguments.port}:interface=127.0.0.1:backlog=4096"
    endpoint = f"tcp:{where}"
    if arguments.tls:
        endpoint = f"ssl:{where}:privateKey={arguments.tls}:certKey={arguments.tls}"
    server = listen(endpoint, pingInterval=arguments.ping_interval, perMessageDeflate=arguments.deflate)

    @server.on("connection")
    def connected(socket: Socket) -> None:
        @socket.on("message")
        def received(data: str | bytes) -> None:
            if isinstance(data, str) and data.startswith("broadcast:"):
                server.broadcast(data)
            else:
                socket.send(data)

    await server.listening
    chooseCollections(arguments.gc)
    await Deferred()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve an echo application on loopback.")
    parser.add_argument("port", type=int)
    parser.add_argument("--ping-interval", type=int, default=25_000, metavar="MS")
    parser.add_argument("--reactor", choices=REACTORS, default="default")
    parser.add_argument("--gc", choices=COLLECTIONS, default="default")
    parser.add_argument("--tls", metavar="PEM", help="a file with a private key and its certificate")
    parser.add_argument("--deflate", action="store_true", help="compress for clients that can take it")
    given = parser.parse_args(sys.argv[1:])
    installReactor(given.reactor)

    from twisted.internet.task import react

    react(main, [given])
