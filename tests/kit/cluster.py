"""Several processes of a Socket.IO application in memory, on one clock, that one Redis in memory connects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from twisted.internet.task import Clock

from engineio_twisted import Server
from engineio_twisted.socketio import SocketIO
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.redis import RedisAdapter
from engineio_twisted.socketio.testing.client import MemorySocket, connect
from engineio_twisted.testing import MemoryServer

from .redis import MemoryRedis

URL = "redis://redis.example"
OWN = "socketio#engineio_twisted"


class Process:
    """One of the processes: a server with clients of its own."""

    def __init__(self, clock: Clock, redis: MemoryRedis, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self.adapter = RedisAdapter(URL, endpoint=redis, **settings)
        server = Server(reactor=clock, path="/socket.io", pingInterval=10**9, pingTimeout=10**9, allowEIO3=True)
        self.io = SocketIO(server, adapter=self.adapter, **options)
        self.memory = MemoryServer(server, leavesTimers=True)

    def connect(self, *rooms: str, namespace: str = "/", protocol: int = 5) -> MemorySocket:
        """Connect a client; put it into rooms."""
        self.io.of(namespace)
        client = connect(self.memory, JSONParser(fromServer=True), namespace, protocol=protocol)
        self.socketOf(client, namespace).join(*rooms)
        return client

    def socketOf(self, client: MemorySocket, namespace: str = "/") -> Any:
        """Return the server's end of a client."""
        ids = [each.id for each in self.io.of(namespace).sockets.values() if each.conn.id == client.engine.sid]
        return self.io.of(namespace).sockets[ids[0]]


class Cluster:
    """All processes, and Redis."""

    def __init__(self, ends: ExitStack) -> None:
        self.clock = Clock()
        self.redis = MemoryRedis(self.clock)
        self.processes: list[Process] = []
        self._ends = ends

    def start(self, *, options: dict[str, Any] | None = None, **settings: Any) -> Process:
        """Start another process. @param settings: of its adapter."""
        process = Process(self.clock, self.redis, settings, options or {})
        self._ends.callback(process.memory.close)
        self.processes.append(process)
        self.settle()
        return process

    def settle(self) -> None:
        """Let happen what takes no time."""
        for each in self.processes or []:
            each.memory.settle()

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.settle()

    def say(self, message: object, channel: str = "socketio") -> None:
        """Publish a message as another client of Redis does: bytes as they are, anything else as JSON."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.redis.publish(channel.encode(), payload)
        self.settle()

    def published(self, channel: str = "socketio") -> list[Any]:
        """Return the messages on a channel so far."""
        return [json.loads(payload) for each in self.redis.log if each[0] == channel.encode() and (payload := each[1])]


@contextmanager
def clusters() -> Iterator[Callable[[], Cluster]]:
    with ExitStack() as ends:
        yield lambda: Cluster(ends)


def events(client: MemorySocket) -> list[tuple[Any, ...]]:
    """Return what a client has received since it was asked last: the name and the arguments of each event."""
    return [(each.name, *each.args) for each in client.receiveAll()]
