"""
Publishes a headline as publish.py does, with python-socketio: for a program without Twisted, such as a Flask view.

    python examples/socketio-emitter/publish_manager.py sport "A draw"

Redis is at redis://127.0.0.1:6379; the variable REDIS_URL names another one.
"""

from __future__ import annotations

import os
import sys

import socketio

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")


def main(topic: str, text: str) -> None:
    """Emit an event to a room, in all processes."""
    manager = socketio.RedisManager(REDIS, write_only=True)
    # A tuple is several arguments.
    manager.emit("headline", (topic, text), room=topic)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: publish_manager.py TOPIC TEXT")
    main(*sys.argv[1:])
