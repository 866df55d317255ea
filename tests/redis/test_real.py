"""A real redis-server: restarted, hung, slow, with a password, with TLS, on a UNIX socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.ssl import Certificate, optionsForClientTLS

from engineio_twisted.redis import RedisConnection

from ..kit.chaos import Trouble, chaos
from ..kit.redis import RedisServer, redisServers
from ..kit.wire import eventually, within


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of Redis."""
    with redisServers(tmp_path) as start:
        yield start


@asynccontextmanager
async def connected(url: str, received: list[bytes], **options: Any) -> AsyncIterator[RedisConnection]:
    """A connection that has subscribed to a channel."""
    connection = RedisConnection(url, **options)
    connection.subscribe("news", received.append)
    connection.start()
    try:
        yield connection
    finally:
        await within(connection.close(), "the end of the connection")


async def isConnected(connection: RedisConnection) -> None:
    await within(connection.whenConnected(), f"a connection to {connection.address}")


@pytest_twisted.ensureDeferred
async def test_restartsAndHangs(redis: Any, serve: Any) -> None:
    """Bytes arrive as they are; after a restart, and after a server that hangs, everything works again by itself."""
    server = redis()
    received: list[bytes] = []
    async with connected(server.url, received, pingInterval=200, pingTimeout=1000, connectTimeout=1000) as connection:
        await isConnected(connection)
        everything = [bytes(range(256)), b"", b"12.5", b"\r\n$1\r\n", 300_000 * b"x"]
        for each in everything:
            assert connection.publish("news", each)
        await eventually(lambda: received == everything, "all messages")
        server.stop()
        await eventually(lambda: not connection.isConnected, "the loss")
        server.start()
        await isConnected(connection)
        connection.publish("news", b"after the restart")
        await eventually(lambda: received[-1] == b"after the restart", "a message after the restart")
        server.hang()
        await eventually(lambda: not connection.isConnected, "the notice that it hangs")
        server.wake()
        await isConnected(connection)
        connection.publish("news", b"after it hung")
        await eventually(lambda: received[-1] == b"after it hung", "a message after it hung")
        server.hang()
        connection.publish("news", b"into the void")
    # close() has ended, although it hangs.
    assert connection.stats().queuedBytes == 0
    assert connection.stats().connects >= 3


@pytest_twisted.ensureDeferred
async def test_slowServer(redis: Any, serve: Any) -> None:
    """With a slow network everything arrives, in order and once; the connections don't count as hung."""
    server = redis()
    received: list[bytes] = []
    slow = Trouble(pieces=[1, 40_000, 7], delay=0.001)
    async with chaos(server.port, lambda number: slow) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with connected(url, received, pingInterval=100, pingTimeout=3000) as connection:
            await isConnected(connection)
            for number in range(30):
                assert connection.publish("news", b"%d " % number + 50_000 * b"x")
            await eventually(lambda: len(received) == 30, "all messages")
            assert [int(each.split()[0]) for each in received] == [*range(30)]
            assert connection.stats().connects == 1


@pytest_twisted.ensureDeferred
async def test_passwordsAndUsers(redis: Any, serve: Any, tmp_path: Path, warnings: list[str]) -> None:
    """A password, a user of an access list that may do no more than this does, a UNIX socket, another database."""
    path = tmp_path / "redis.sock"
    user = ["me", "on", ">sec%ret", "&news*", "+publish", "+subscribe", "+unsubscribe", "+ping"]
    server = redis("--requirepass", "p@ss", "--unixsocket", str(path), "--user", *user)
    port = server.port
    for url in (
        f"redis://:p%40ss@127.0.0.1:{port}/1",
        f"redis://default:p%40ss@127.0.0.1:{port}",
        f"redis://me:sec%25ret@localhost:{port}",
        f"unix://:p%40ss@{path}?db=3",
    ):
        received: list[bytes] = []
        async with connected(url, received) as connection:
            await isConnected(connection)
            connection.publish("news", b"1")
            await eventually(lambda: received == [b"1"], "a message")  # noqa: B023
    for url, refusal in ((f"redis://127.0.0.1:{port}", "NOAUTH"), (f"redis://:wrong@127.0.0.1:{port}", "WRONGPASS")):
        async with connected(url, []) as connection:
            await eventually(lambda: any(refusal in each for each in warnings), refusal)  # noqa: B023
            assert not connection.isConnected


@pytest_twisted.ensureDeferred
async def test_tls(redis: Any, serve: Any, certificate: tuple[Path, Path], warnings: list[str]) -> None:
    """With rediss:// certificate and name of the host are verified."""
    server = redis("--requirepass", "secret", tls=certificate)
    trusted = Certificate.loadPEM(certificate[1].read_bytes())
    received: list[bytes] = []
    url = f"rediss://:secret@localhost:{server.port}"
    async with connected(url, received, tls=optionsForClientTLS("localhost", trustRoot=trusted)) as connection:
        await isConnected(connection)
        connection.publish("news", b"1")
        await eventually(lambda: received == [b"1"], "a message")
    wrong = [
        # Signed by nobody known.
        {},
        # Of another host.
        {"tls": optionsForClientTLS("other.example", trustRoot=trusted)},
    ]
    for each in wrong:
        warnings.clear()
        async with connected(url, [], **each) as connection:
            await eventually(lambda: any("verif" in each.lower() for each in warnings), "the refusal")
            assert not connection.isConnected
