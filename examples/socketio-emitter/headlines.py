"""
Headlines for readers in the browser, which other processes publish by way of Redis.

    npm ci                                                              # once, in this folder: the client for the page
    python examples/socketio-emitter/headlines.py                       # port 3000, all interfaces
    python examples/socketio-emitter/headlines.py tcp:3001              # a second process of the same, if you like
    python examples/socketio-emitter/publish.py sport "A draw"          # in another terminal

Redis is at redis://127.0.0.1:6379; the variable REDIS_URL names another one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.static import File

from engineio_twisted import Site
from engineio_twisted.socketio import Socket, SocketIO, attach
from engineio_twisted.socketio.redis import RedisAdapter

HERE = Path(__file__).resolve().parent
CLIENT = HERE / "node_modules" / "socket.io-client" / "dist"
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")

TOPICS = ("science", "sport", "weather")
"""Each is a room of its readers."""


def application(io: SocketIO) -> None:
    """Let readers choose topics. Nothing here publishes."""

    @io.on("connection")
    def connected(socket: Socket) -> None:
        socket.emit("topics", TOPICS)

    @io.on("follow")
    def follow(socket: Socket, topic: object = None, *_: object) -> bool:
        if topic not in TOPICS:
            return False
        socket.join(str(topic))
        return True

    @io.on("unfollow")
    def unfollow(socket: Socket, topic: object = None, *_: object) -> None:
        socket.leave(str(topic))


async def run(reactor: Any, description: str = "tcp:3000") -> None:
    """Serve the page and its readers until Ctrl-C."""
    try:
        endpoint = serverFromString(reactor, description)
        site = Site(File(str(HERE / "public")))
        # Without Redis the readers are served, too; what is published meanwhile is lost.
        io = attach(site, reactor=reactor, serveClient=CLIENT, adapter=RedisAdapter(REDIS), maxHttpBufferSize=4096)
        application(io)
        port = await endpoint.listen(site)
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    reactor.addSystemEventTrigger("before", "shutdown", io.close)
    print(f"Headlines: open http://127.0.0.1:{port.getHost().port}/", flush=True)
    await Deferred()


def main(arguments: Sequence[str]) -> None:
    """Read the command line and serve."""
    if not CLIENT.is_dir():
        sys.exit(f"The client for the page is missing: run `npm ci` in {HERE}")
    task.react(run, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
