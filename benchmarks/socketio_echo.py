"""
The Socket.IO server that the benchmarks measure.

    python benchmarks/socketio_echo.py 3000

The event `m` is answered by an event `m`, `a` is acknowledged, `c` is acknowledged by a coroutine, `join` puts the
client into a room, and `b` goes to all in it: each with its argument, and as the guides show it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from engineio_twisted import listen
from engineio_twisted.socketio import Socket, SocketIO

ROOM = "bench"


async def main(reactor: Any, arguments: argparse.Namespace) -> None:
    endpoint = f"tcp:{arguments.port}:interface=127.0.0.1:backlog=4096"
    server = listen(endpoint, path="/socket.io", pingInterval=arguments.ping_interval)
    io = SocketIO(server)

    @io.on("m")
    def echo(socket: Socket, data: Any) -> None:
        socket.emit("m", data)

    @io.on("a")
    def acknowledge(socket: Socket, data: Any) -> Any:
        return data

    @io.on("c")
    async def acknowledgeLater(socket: Socket, data: Any) -> Any:
        return data

    @io.on("join")
    def join(socket: Socket) -> None:
        socket.join(ROOM)

    @io.on("b")
    def broadcast(socket: Socket, data: Any) -> None:
        io.to(ROOM).emit("b", data)

    await server.listening
    await Deferred()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a Socket.IO application on loopback.")
    parser.add_argument("port", type=int)
    parser.add_argument("--ping-interval", type=int, default=25_000, metavar="MS")
    react(main, [parser.parse_args(sys.argv[1:])])
