"""
The applications of the soak of workers: the talks of L{.server} in each worker, and ticks from each to all sessions.

At SIGUSR2 a worker writes what is left in it to C{measured.PID} in its folder, as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent, globalLogPublisher

import engineio_twisted.session.ending
from engineio_twisted import Server
from engineio_twisted.socketio import SocketIO

from .plan import CLOSING_TIMEOUT, reasonsFor
from .server import SocketIOTalk, Talk, Totals, forgetCancelled, memory

reactor: Any = installed
TICKS = 0.5
"""Seconds between two ticks of a worker."""
PROBLEM = "SOAK: "
"""What a line of the log begins with that says what is wrong."""
SHUTTING_DOWN = "server shutting down"


class WorkerTotals(Totals):
    """The same, of a worker: what is wrong is logged at once, as the worker may be gone before anybody asks."""

    def problem(self, text: str) -> None:
        # Not by the log, of which errors are problems.
        print(f"{PROBLEM}{text}", flush=True)


class WorkerTalk(Talk):
    """The application's part in one session of a worker. A reload may end it: what came then is a beginning."""

    def reasons(self) -> Sequence[str]:
        return (*reasonsFor(self.end), SHUTTING_DOWN)


class WorkerSocketIOTalk(SocketIOTalk):
    """The same, of Socket.IO."""

    def reasons(self) -> Sequence[str]:
        return (*reasonsFor(self.end), SHUTTING_DOWN)


async def measure(server: Server, path: Path) -> None:
    """Write what there is now of the server, the reactor, the process."""
    await forgetCancelled()
    for _ in range(3):
        gc.collect()
    objects = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    measured = {
        "clients": server.clientsCount,
        "webSockets": len(server._webSockets.connections),
        "timers": sum(call.active() for call in reactor.getDelayedCalls()),
        "readers": len(reactor.getReaders()) + len(reactor.getWriters()),
        "memory": memory(),
        "objects": {name: count for name, count in objects.items() if name.startswith("engineio_twisted.")},
    }
    written = path.with_suffix(".new")
    written.write_text(json.dumps(measured))
    written.rename(path)


def prepare(server: Server, tick: Any) -> WorkerTotals:
    """Do what both applications do."""
    engineio_twisted.session.ending.CLOSING_TIMEOUT = CLOSING_TIMEOUT
    totals = WorkerTotals()

    def logged(event: LogEvent) -> None:
        totals.logged(event)

    globalLogPublisher.addObserver(logged)
    path = Path(f"measured.{os.getpid()}").absolute()

    def asked(*_: object) -> None:
        reactor.callFromThread(lambda: Deferred.fromCoroutine(measure(server, path)))

    signal.signal(signal.SIGUSR2, asked)
    number, count = server.workers.number, 0

    def ticks() -> None:
        nonlocal count
        tick(number, count)
        count += 1

    reactor.callWhenRunning(LoopingCall(ticks).start, TICKS)
    return totals


def plain(server: Server) -> None:
    """Talk Engine.IO."""
    totals = prepare(server, lambda number, count: server.broadcast(f"tick.{number}.{count}"))
    server.on("connection", lambda socket: WorkerTalk(socket, totals) and None)


def withSocketIO(server: Server) -> None:
    """Talk Socket.IO."""
    io = SocketIO(server)
    totals = prepare(server, lambda number, count: io.to("all").emit("tick", number, count))
    io.on("connection", lambda socket: WorkerSocketIOTalk(socket, totals) and None)
