"""Redis for tests: one in memory on a clock, and programs of the real one, each on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from .tools import require


def bulk(value: bytes | int) -> bytes:
    return b":%d\r\n" % value if isinstance(value, int) else b"$%d\r\n%s\r\n" % (len(value), value)


def array(*values: bytes | int) -> bytes:
    return b"*%d\r\n" % len(values) + b"".join(map(bulk, values))


class _Connection:
    """The server's end of a connection, and the client's transport."""

    disconnecting = False

    def __init__(self, server: MemoryRedis, client: Any) -> None:
        self.server, self.client = server, client
        self.channels: set[bytes] = set()
        self.commands: list[list[bytes]] = []
        self.isLost = False
        self._read = b""

    # What the client's protocol calls

    def write(self, data: bytes) -> None:
        if self.isLost:
            return
        self._read += data
        while self._read:
            # Whole commands come: the client writes each at once.
            count, rest = self._read[1:].split(b"\r\n", 1)
            command = []
            for _ in range(int(count)):
                size, rest = rest[1:].split(b"\r\n", 1)
                command.append(rest[: int(size)])
                rest = rest[int(size) + 2 :]
            self._read = rest
            self.commands.append(command)
            if self.server.isHung:
                self.server.late.append((self, command))
            else:
                self.server.run(self, command)

    def loseConnection(self) -> None:
        self.disconnecting = True
        # With a server that hangs it stays until what was written is taken.
        if not self.server.isHung:
            self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionLost())

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    # What the server does

    def send(self, data: bytes) -> None:
        self.server.clock.callLater(0, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if not self.isLost:
            self.client.dataReceived(data)

    def end(self, reason: Exception | None = None) -> None:
        if not self.isLost:
            self.isLost = True
            self.server.connections.remove(self)
            self.server.clock.callLater(0, self.client.connectionLost, Failure(reason or ConnectionLost()))


@implementer(IStreamClientEndpoint)
class MemoryRedis:
    """
    A Redis in memory, and the endpoint that connects to it.

    @ivar isDown: whether it refuses connections.
    @ivar isSilent: whether an attempt to connect gets no answer.
    @ivar isHung: whether it reads, and answers nothing.
    @ivar refuses: commands that it refuses, each with the error.
    @ivar confirms: whether it answers SUBSCRIBE.
    @ivar connections: those that there are.
    @ivar published: the messages that came.
    @ivar log: the same, each with its channel.
    @ivar attempts: how many there were.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.isDown = self.isSilent = self.isHung = False
        self.refuses: dict[bytes, bytes] = {}
        self.connections: list[_Connection] = []
        self.log: list[tuple[bytes, bytes]] = []
        self.attempts = 0
        # What came while it hung.
        self.late: list[tuple[_Connection, list[bytes]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.isDown:
            return fail(ConnectError(string="refused"))
        if self.isSilent:
            return Deferred()
        protocol = factory.buildProtocol(None)
        connection = _Connection(self, protocol)
        self.connections.append(connection)
        protocol.makeConnection(connection)
        return succeed(protocol)

    def run(self, connection: _Connection, command: list[bytes]) -> None:
        name, *arguments = command
        if name in self.refuses:
            connection.send(b"-" + self.refuses[name] + b"\r\n")
        elif name == b"PING":
            connection.send(array(b"pong", b"") if connection.channels else b"+PONG\r\n")
        elif name in (b"AUTH", b"SELECT"):
            connection.send(b"+OK\r\n")
        elif name == b"SUBSCRIBE":
            connection.channels.add(arguments[0])
            connection.send(array(b"subscribe", arguments[0], len(connection.channels)))
        elif name == b"UNSUBSCRIBE":
            connection.channels.discard(arguments[0])
            connection.send(array(b"unsubscribe", arguments[0], len(connection.channels)))
        elif name == b"PUBLISH":
            connection.send(bulk(self.publish(*arguments)))
        else:
            raise AssertionError(f"unexpected: {command}")

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message as another client of it would."""
        self.log.append((channel, message))
        heard = [each for each in self.connections if channel in each.channels]
        for each in heard:
            each.send(array(b"message", channel, message))
        return len(heard)

    @property
    def published(self) -> list[bytes]:
        return [message for _, message in self.log]

    def wake(self) -> None:
        """End hanging, and answer what has come."""
        self.isHung = False
        late, self.late = self.late, []
        for connection, command in late:
            if not connection.isLost:
                self.run(connection, command)

    def stop(self) -> None:
        """End as a server that is stopped."""
        self.isDown = True
        for each in [*self.connections]:
            each.end()


class RedisServer:
    """
    A real redis-server that stores nothing, in a folder of its own.

    @ivar url: where it is.
    """

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.folder, self.port = folder, port
        self.url = f"redis://127.0.0.1:{port}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. It accepts connections a moment later."""
        executable = shutil.which("redis-server")
        assert executable is not None
        fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([executable, *fixed, *self._options], stdout=log, stderr=log)

    def ask(self, command: str) -> str:
        """Return what it answers to a command, on one line; nothing if it isn't there."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return " ".join(connection.recv(1000).decode().split())
        return ""

    def subscribers(self, channel: str) -> int:
        """Return how many connections have subscribed to a channel."""
        return int(self.ask(f"PUBSUB NUMSUB {channel}").rpartition(":")[2] or 0)

    def hang(self) -> None:
        """Have it do nothing, with its connections open."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; it may be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@contextmanager
def redisServers(folder: Path) -> Iterator[Callable[..., RedisServer]]:
    """
    Start servers; none outlives the context.

    `tls` is given a key and a certificate, for a server that speaks TLS alone.
    """
    require(shutil.which("redis-server") is not None, "redis-server")
    servers: list[RedisServer] = []

    def start(*options: str, tls: tuple[Path, Path] | None = None) -> RedisServer:
        number = len(servers)
        (folder / f"redis{number}").mkdir()
        # Bound, but not listening: nobody else is given the port, also while the server is stopped.
        held = ends.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        if tls is None:
            where = ["--port", str(port)]
        else:
            where = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
            where += ["--tls-key-file", str(tls[0]), "--tls-cert-file", str(tls[1])]
        servers.append(RedisServer(folder / f"redis{number}", port, *where, *options))
        ends.callback(servers[-1].stop)
        servers[-1].start()
        return servers[-1]

    with ExitStack() as ends:
        yield start
