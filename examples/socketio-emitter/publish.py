"""
Publishes a headline from a process that has no clients of its own.

    python examples/socketio-emitter/publish.py sport "A draw"

Redis is at redis://127.0.0.1:6379; the variable REDIS_URL names another one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import defer, task

from engineio_twisted import Server
from engineio_twisted.socketio import SocketIO
from engineio_twisted.socketio.redis import RedisAdapter

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
PATIENCE = 5  # seconds


async def main(reactor: Any, topic: str, text: str) -> None:
    """Emit an event to a room, in all processes."""
    adapter = RedisAdapter(REDIS)
    # The server listens nowhere.
    io = SocketIO(Server(reactor=reactor), adapter=adapter)
    try:
        await adapter.whenConnected().addTimeout(PATIENCE, reactor)
        io.to(topic).emit("headline", topic, text)
    except defer.TimeoutError:
        # As text it has no password.
        sys.exit(f"no Redis at {adapter.connection.address}")
    finally:
        # Waits until Redis has what was emitted.
        await io.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: publish.py TOPIC TEXT")
    task.react(main, sys.argv[1:])
