"""
The server of the soak: it says what is planned, checks what comes, and tells what is left of it.

    python -m tests.soak.server

It prints its port, as JSON. On each line on stdin, whatever it says, it prints what L{measure} returns; at the
end of stdin it closes the server and goes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.logger import LogEvent, LogLevel, globalLogBeginner
from twisted.web.pages import notFound

import engineio_twisted.session.socket
from engineio_twisted import FastSite, Server, Socket, attach, socketio
from engineio_twisted.socketio import AckTimeout, Disconnected, SocketIO
from engineio_twisted.turns import inLaterTurn

from .plan import (
    CLOSING_TIMEOUT,
    COMPLETE,
    FROM_CLIENT,
    FROM_SERVER,
    PING_INTERVAL,
    PING_TIMEOUT,
    Checked,
    message,
    reasonsFor,
)

reactor: Any = installed
MOST_PROBLEMS = 20
MANY_TIMERS = 1000


class Totals:
    """What all sessions came to, in a few numbers."""

    def __init__(self) -> None:
        self.opened = self.upgraded = self.received = self.sent = self.errors = 0
        self.ends: Counter[str] = Counter()
        self.problemCount = 0
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        self.problemCount += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text)

    def logged(self, event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self.problem(f"logged: {event.get('log_failure') or event.get('log_format')}")


class Talk:
    """The application's part in one session."""

    def __init__(self, socket: Socket, totals: Totals) -> None:
        arguments = socket.request.args
        self.serial, self.fromClient, self.fromServer = (
            int(arguments[name][0]) for name in (b"serial", b"client", b"server")
        )
        self.end = arguments[b"end"][0].decode()
        self.socket, self.totals = socket, totals
        self.checked = Checked(self.serial, FROM_CLIENT)
        self.said = 0
        self.isClosed = False
        self.timer: DelayedCall | None = None
        self.listen()
        totals.opened += 1
        self.say(self.fromServer // 3)
        # The rest goes out little by little, also while the session is being upgraded.
        self.tick()

    def listen(self) -> None:
        self.socket.on("message", self.received)
        self.socket.on("upgrade", self.upgraded)
        self.socket.on("close", self.closed)

    def send(self, data: str | bytes) -> None:
        self.socket.send(data)

    def close(self, discard: bool = False) -> None:
        self.socket.close(discard=discard)

    def tick(self) -> None:
        self.timer = None
        self.say(1)
        if not self.isClosed and self.said < self.fromServer:
            self.timer = reactor.callLater(0.005 * (1 + self.serial % 16), self.tick)

    def say(self, count: int) -> None:
        if self.isClosed:
            return
        for _ in range(min(count, self.fromServer - self.said)):
            self.send(message(self.serial, FROM_SERVER, self.said))
            self.said += 1
        self.perhapsClose()

    def received(self, data: str | bytes) -> None:
        self.checked.take(data)
        self.say(1)

    def perhapsClose(self) -> None:
        if self.said < self.fromServer:
            return
        if self.end in ("server early", "deaf") or (self.end == "server" and self.checked.count == self.fromClient):
            self.close()
        elif self.end == "server discards":
            self.close(discard=True)

    def upgraded(self, transport: object) -> None:
        self.totals.upgraded += 1

    def reasons(self) -> Sequence[str]:
        """The reasons by which it may end."""
        return reasonsFor(self.end)

    def closed(self, reason: str, description: object) -> None:
        totals, who = self.totals, f"session {self.serial} ({self.end})"
        if self.isClosed:
            totals.problem(f"{who} closed twice")
        self.isClosed = True
        if self.timer is not None:
            self.timer.cancel()
        if reason not in self.reasons():
            totals.problem(f"{who} closed by {reason}: {description}")
        if self.checked.problem:
            totals.problem(f"{who}: {self.checked.problem}")
        isComplete = reason in reasonsFor(self.end) and "client" in COMPLETE.get(self.end, ())
        if isComplete and self.checked.count != self.fromClient:
            totals.problem(f"{who}: {self.checked.count} of {self.fromClient} messages came, then {reason}")
        totals.received += self.checked.count
        totals.sent += self.said
        totals.ends[f"{self.end}: {reason}"] += 1


class SocketIOTalk(Talk):
    """The application's part in one session of Socket.IO: rooms, acknowledgements both ways, and recovery."""

    def listen(self) -> None:
        socket: Any = self.socket
        socket.on("m", self.received)
        socket.conn.on("upgrade", self.upgraded)
        socket.on("disconnect", self.closed)
        socket.join("all", f"room {self.serial % 50}", f"room of {self.serial}")

    def send(self, data: str | bytes) -> None:
        socket: Any = self.socket
        if self.said % 2:
            socket.emitWithAck("m", data).addErrback(lambda failure: failure.trap(AckTimeout, Disconnected))
        elif self.said % 4:
            socket.emit("m", data)
        else:
            socket.namespace.to(f"room of {self.serial}").emit("m", data)

    def close(self, discard: bool = False) -> None:
        socket: Any = self.socket
        socket.conn.close(discard=discard)


def memory() -> int:
    """Return the resident memory of this process, in KiB."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


async def forgetCancelled() -> None:
    """
    Have the reactor forget the timers that were cancelled.

    It keeps them until they would have been due, which for an HTTP connection takes a minute, or until they are many.
    """
    calls = [reactor.callLater(3600, int) for _ in range(MANY_TIMERS)]
    # Now they are among the others,
    await deferLater(reactor, 0)
    for each in calls:
        each.cancel()
    # and now more of all are cancelled than are not.
    await deferLater(reactor, 0)


async def measure(io: SocketIO, server: Server, totals: Totals) -> dict[str, Any]:
    """Return what there is now: of the server, of the reactor, of the process."""
    await forgetCancelled()
    for _ in range(3):
        gc.collect()
    blocks = sys.getallocatedblocks()
    stats = io.stats()
    # By name, and what is ours by the full one: whatever there is of it belongs to a session or a connection.
    objects = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return {
        "clients": server.clientsCount + io.engine.clientsCount,
        "webSockets": len(server._webSockets.connections) + len(io.engine._webSockets.connections),
        **{name: getattr(stats, name) for name in ("sockets", "rooms", "acks", "attachments", "waitingSessions")},
        "timers": sum(call.active() for call in reactor.getDelayedCalls()),
        "readers": len(reactor.getReaders()) + len(reactor.getWriters()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "blocks": blocks,
        "memory": memory(),
        "objects": dict(objects),
        "totals": vars(totals),
    }


class Control(Protocol):
    """What comes on stdin."""

    def __init__(self, io: SocketIO, server: Server, totals: Totals, ended: Deferred[None]) -> None:
        self.io, self.server, self.totals, self.ended = io, server, totals, ended

    def dataReceived(self, data: bytes) -> None:
        Deferred.fromCoroutine(self.answer())

    async def answer(self) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(await measure(self.io, self.server, self.totals)).encode() + b"\n")

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)


async def main(_: object) -> None:
    engineio_twisted.session.ending.CLOSING_TIMEOUT = CLOSING_TIMEOUT
    totals = Totals()
    # There is one queue for a reactor, made with the first of such work, which may come late.
    inLaterTurn(reactor, lambda _: None)
    # Until it has begun, what is logged is kept.
    globalLogBeginner.beginLoggingTo([totals.logged], redirectStandardIO=False)
    site = FastSite(notFound())
    times = {"pingInterval": int(PING_INTERVAL * 1000), "pingTimeout": int(PING_TIMEOUT * 1000)}
    server = attach(site, allowEIO3=True, **times)
    server.on("connection", lambda socket: Talk(socket, totals) and None)
    io = socketio.attach(
        site, allowEIO3=True, connectionStateRecovery={"maxDisconnectionDuration": 3000, "maxBytes": 100_000}, **times
    )
    io.on("connection", lambda socket: SocketIOTalk(socket, totals) and None)
    listening = reactor.listenTCP(0, site, 1000, "127.0.0.1")
    port = listening.getHost().port
    ended: Deferred[None] = Deferred()
    control = StandardIO(Control(io, server, totals, ended))
    control.write(json.dumps({"port": port}).encode() + b"\n")
    await ended
    await listening.stopListening()
    await io.close()
    await server.close()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
