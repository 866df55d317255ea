"""Workers of a Socket.IO application in memory, on one clock, that an exchange in memory joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from engineio_twisted import IServerExchange, Server
from engineio_twisted.socketio import SocketIO
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.testing.client import MemorySocket, connect
from engineio_twisted.testing import MemoryServer


@implementer(IServerExchange)
class MemoryExchange:
    """The exchange of one worker. What is sent waits in a queue for each two workers, until the queue is delivered."""

    def __init__(self, workers: Workers, number: int) -> None:
        self._workers = workers
        self.number = number
        self.peers: set[int] = set()
        self.isConnected = False
        self.dropped = 0
        self.channels: dict[str, Callable[[int, bytes], object]] = {}
        self.watching: list[Callable[[], object]] = []

    def subscribe(self, channel: str, deliver: Callable[[int, bytes], object]) -> Callable[[], None]:
        assert channel not in self.channels
        self.channels[channel] = deliver
        return lambda: self.channels.pop(channel, None) and None

    def send(self, targets: Iterable[int] | None, channel: str, frame: bytes) -> None:
        for each in [*self.peers] if targets is None else targets:
            if each in self.peers:
                self._workers.queue(self.number, each).append((channel, frame))

    def whenPeersChange(self, function: Callable[[], object]) -> Callable[[], None]:
        self.watching.append(function)
        return lambda: self.watching.remove(function)

    def start(self) -> None:
        self.isConnected = True

    def stop(self) -> None:
        self.isConnected = False
        self._workers.gone(self.number)

    def changePeers(self, peers: Iterable[int]) -> None:
        self.peers = {*peers}
        for each in [*self.watching]:
            each()


class Worker:
    """One of the workers: a server with clients of its own."""

    def __init__(self, clock: Clock, exchange: MemoryExchange, application: Any, options: dict[str, Any]) -> None:
        self.exchange = exchange
        server = Server(reactor=clock, path="/socket.io", pingInterval=10**9, pingTimeout=10**9, allowEIO3=True)
        server._joinExchange(exchange, lambda sid: None)
        server.workers = True
        self.io = SocketIO(server, **options)
        if application is not None:
            application(self.io)
        self.memory = MemoryServer(server, leavesTimers=True)

    @property
    def adapter(self) -> Any:
        """What joins it with the others."""
        return self.io.adapter._shared

    def begin(self, namespace: str = "/", **options: Any) -> MemorySocket:
        """Begin to connect a client, which can't be answered at once."""
        options = {"transport": "websocket", **options}
        return connect(self.memory, JSONParser(fromServer=True), namespace, find=self._find, **options)

    def _find(self, namespace: str, id: str) -> Any:  # noqa: A002
        known = self.io.namespaces.get(namespace)
        return None if known is None else known.sockets.get(id)

    def connect(self, *rooms: str, namespace: str = "/", protocol: int = 5) -> MemorySocket:
        """Connect a client; put it into rooms."""
        self.io.of(namespace)
        client = self.begin(namespace, protocol=protocol)
        self.memory.settle()
        self.socketOf(client, namespace).join(*rooms)
        return client

    def socketOf(self, client: MemorySocket, namespace: str = "/") -> Any:
        """Return the server's end of a client."""
        ids = [each.id for each in self.io.of(namespace).sockets.values() if each.conn.id == client.engine.sid]
        return self.io.of(namespace).sockets[ids[0]]


class Workers:
    """
    All workers, and the exchange.

    @ivar held: pairs of numbers, from and to, whose frames wait until the test lets them go.
    """

    def __init__(self, ends: ExitStack, application: Any = None, **options: Any) -> None:
        self.clock = Clock()
        self._application, self._options = application, options
        self._ends = ends
        self._queues: dict[tuple[int, int], deque[tuple[str, bytes]]] = {}
        self.held: set[tuple[int, int]] = set()
        self.frames: list[bytes] = []
        self.alive: dict[int, Worker] = {}
        self._last = 0

    def queue(self, origin: int, target: int) -> deque[tuple[str, bytes]]:
        return self._queues.setdefault((origin, target), deque())

    def start(self, application: Any = None, **options: Any) -> Worker:
        """Start another worker."""
        self._last += 1
        exchange = MemoryExchange(self, self._last)
        worker = Worker(self.clock, exchange, application or self._application, {**self._options, **options})
        self._ends.callback(worker.memory.close)
        self.alive[self._last] = worker
        for number, each in self.alive.items():
            each.exchange.changePeers(self.alive.keys() - {number})
        self.settle()
        return worker

    def kill(self, worker: Worker) -> None:
        """Let a worker die: what it has sent and not got yet arrives before the others know."""
        number = worker.exchange.number
        for pair in [*self._queues]:
            if number in pair:
                self.release(pair)
        self.gone(number)
        self.settle()

    def gone(self, number: int) -> None:
        self.alive.pop(number, None)
        for pair in [*self._queues]:
            if number in pair:
                del self._queues[pair]
        for other, each in [*self.alive.items()]:
            each.exchange.changePeers(self.alive.keys() - {other})

    def release(self, pair: tuple[int, int]) -> None:
        """Let go what waits from one worker to another."""
        self.held.discard(pair)
        queue = self._queues.get(pair)
        while queue:
            channel, frame = queue.popleft()
            self.frames.append(frame)
            target = self.alive.get(pair[1])
            deliver = None if target is None else target.exchange.channels.get(channel)
            if deliver is not None:
                deliver(pair[0], frame)

    def settle(self) -> None:
        """Let happen what takes no time."""
        isBusy = True
        while isBusy:
            isBusy = False
            for each in [*self.alive.values()]:
                each.memory.settle()
            for pair in [*self._queues]:
                if pair not in self.held and self._queues.get(pair):
                    isBusy = True
                    self.release(pair)

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.settle()


@contextmanager
def workersInMemory() -> Iterator[Callable[..., Workers]]:
    with ExitStack() as ends:
        yield lambda application=None, **options: Workers(ends, application, **options)


def events(client: MemorySocket) -> list[tuple[Any, ...]]:
    """Return what a client has received since it was asked last: the name and the arguments of each event."""
    return [(each.name, *each.args) for each in client.receiveAll()]
