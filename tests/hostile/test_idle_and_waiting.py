"""Connections that do nothing, and connections that wait to be accepted."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from engineio_twisted import Server, listen
from engineio_twisted.web.descriptions import BACKLOG, withBacklog
from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.group import ConnectionGroup
from engineio_twisted.web.site import Site

from ..kit.memory import connectTo
from ..kit.wire import eventually

PAGE = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
ALLOWED = int(Path("/proc/sys/net/core/somaxconn").read_text()) if Path("/proc/sys/net/core/somaxconn").exists() else 0


@pytest.mark.parametrize("kind", [Site, FastSite])
@pytest.mark.parametrize(
    ("given", "servers", "seconds"),
    [
        ({}, [], 75),
        ({}, [{}], 75),
        ({}, [{"keepAliveTimeout": 5000}], 5),
        ({}, [{"keepAliveTimeout": 5000}, {"keepAliveTimeout": 6000}], 6),
        ({}, [{"keepAliveTimeout": None}, {"keepAliveTimeout": 6000}], None),
        ({"timeout": 7}, [{"keepAliveTimeout": 5000}], 7),
        ({"timeout": None}, [{"keepAliveTimeout": 5000}], None),
    ],
)
def test_anIdleConnection(
    kind: Any, given: dict[str, Any], servers: list[dict[str, Any]], seconds: float | None
) -> None:
    """Is closed after the longest time that a server of the site has, unless the site was given one."""
    clock = Clock()
    site = kind(Resource(), reactor=clock, **given)
    for number, options in enumerate(servers):
        Server(site, reactor=clock, path=f"/{number}", **options)
    connection = connectTo(site, clock)
    connection.say(PAGE)
    assert connection.taken().startswith(b"HTTP/1.1 404 ")
    clock.advance((seconds or 100_000) - 0.01)
    connection.network.settle()
    assert not connection.isLost
    clock.advance(0.02)
    connection.network.settle()
    assert connection.isLost is (seconds is not None)
    connection.lose()


@pytest.mark.parametrize(
    ("description", "described"),
    [
        ("tcp:3000", f"tcp:3000:backlog={BACKLOG}"),
        ("tcp6:3000:interface=\\:\\:1", f"tcp6:3000:interface=\\:\\:1:backlog={BACKLOG}"),
        ("unix:/run/app.sock", f"unix:/run/app.sock:backlog={BACKLOG}"),
        ("ssl:443:privateKey=a", f"ssl:443:privateKey=a:backlog={BACKLOG}"),
        ("haproxy:tcp:3000", f"haproxy:tcp:3000:backlog={BACKLOG}"),
        ("tcp:3000:backlog=7", "tcp:3000:backlog=7"),
        ("tcp:backlog=7:port=3000", "tcp:backlog=7:port=3000"),
        ("unix:/run/a\\:backlog=7", f"unix:/run/a\\:backlog=7:backlog={BACKLOG}"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ("haproxy:systemd:domain=INET:index=0", "haproxy:systemd:domain=INET:index=0"),
        ("tls-files:tcp:443:certificate=a", f"tls-files:tcp:443:certificate=a:backlog={BACKLOG}"),
        ("tls-files:haproxy:tcp:443", f"tls-files:haproxy:tcp:443:backlog={BACKLOG}"),
        ("tls-files:systemd:domain=INET:index=0", "tls-files:systemd:domain=INET:index=0"),
        ("tcp", "tcp"),
        ("", ""),
    ],
)
def test_descriptions(description: str, described: str) -> None:
    """Have a backlog that is large, unless they say which, or take none."""
    assert withBacklog(description) == described


@pytest.mark.skipif(ALLOWED < 600, reason="the system lets fewer connections wait")
@pytest.mark.parametrize("endpoint", [0, "tcp:0:interface=127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_manyThatComeAtOnce(endpoint: Any) -> None:
    """600 clients connect while the reactor stands still: the system has taken all of them before it goes on."""
    from twisted.internet import reactor

    server = listen(endpoint, reactor=reactor)
    port = await server.listening
    clients: list[socket.socket] = []
    try:
        # Nothing is accepted before this returns to the reactor, so each connects to the queue, or waits in vain.
        for _ in range(600):
            client = socket.socket()
            clients.append(client)
            client.settimeout(20)
            client.connect(("127.0.0.1", port.getHost().port))

        def served() -> bytes:
            # The last in the queue is served when all before it are accepted.
            clients[-1].sendall(PAGE)
            return clients[-1].recv(12)

        assert await deferToThread(served) == b"HTTP/1.1 501"
    finally:
        for client in clients:
            client.close()
        await server.close()

        def isWatched() -> bool:
            return any(isinstance(each, ConnectionGroup) for each in reactor.getReaders())  # type: ignore[attr-defined]

        await eventually(lambda: not isWatched(), "the end of all connections")
