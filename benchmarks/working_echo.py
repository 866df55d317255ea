"""An echo that works for some time on each message, for `python benchmarks/workers.py`: WORK is in microseconds."""

from __future__ import annotations

import os
import time

from engineio_twisted import Server, Socket

WORK = float(os.environ.get("WORK", "0")) / 1e6


def work() -> None:
    """Take so much time of this thread's CPU."""
    end = time.thread_time() + WORK
    while time.thread_time() < end:
        pass


def application(server: Server) -> None:
    """Send back what comes."""

    @server.on("connection")
    def connected(socket: Socket) -> None:
        @socket.on("message")
        def received(data: str | bytes) -> None:
            if WORK:
                work()
            socket.send(data)
