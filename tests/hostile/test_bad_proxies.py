"""Proxies that open no tunnel, or something else: a client that connects through one ends as with a bad server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engineio_twisted.client import ConnectionFailed, FailureType, TunnelEndpoint

from ..kit.client_servers import (
    OPEN,
    WEBSOCKET,
    MemoryServer,
    ScriptedServer,
    Step,
    answer,
    both,
    chunks,
    cuts,
    drips,
    endless,
    ends,
    frame,
)
from ..kit.client_stories import Story, telling
from .test_bad_servers import LIMIT, NO_HTTP, ODD_HEADERS, PORTAL, ids

TRANSPORTS = ("polling", "websocket")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"

REFUSALS: dict[str, Step] = {
    "407": answer(b"", "407 Proxy Authentication Required", "Proxy-Authenticate: Basic"),
    "403": answer(PORTAL, "403 Forbidden"),
    "302": answer(b"", "302 Found", "Location: http://login.test/"),
    "502": answer(PORTAL, "502 Bad Gateway"),
    "503": answer(b"", "503 Busy", "Retry-After: 7"),
    "a body without end": endless(answer(b"", "403 No", length=10**9), b"x" * 10_000),
    "a body that doesn't come": answer(b"", "403 No", length=100),
    "a body that drips": both(answer(b"", "403 No", length=100), drips(b"x" * 100)),
    "chunks": chunks(b"no", isEnded=False).replace(b"200 OK", b"403 No"),
    "a body until the end": ends(b"HTTP/1.1 403 No\r\n\r\nno"),
    "cut in the body": cuts(answer(b"no", "403 No", length=100)),
    "behind a 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(b"", "403 No"),
}
"""What a proxy says in place of opening a tunnel."""


@contextmanager
def through(steps: list[Step], transport: str, **how: Any) -> Iterator[Story]:
    """Connect a client through a proxy that does what is said; what it opens leads to itself."""
    server = ScriptedServer(steps, webSockets=[WEBSOCKET + frame(OPEN.decode())], **how)
    proxy = MemoryServer(server)
    tunnel = TunnelEndpoint(proxy, "localhost", 80, reactor=server.clock)
    with telling(server, transports=[transport], endpoint=tunnel) as story:
        # It is the proxy's network in which things happen.
        story.network = proxy.network
        story.connect()
        yield story


def assertFailed(story: Story, kind: FailureType, transport: str) -> ConnectionFailed:
    failure = story.result
    assert isinstance(failure, ConnectionFailed), failure
    assert (failure.type, failure.transport) == (kind, transport), failure
    assert failure.description.isprintable()
    assert story.isQuiet, story.left()
    return failure


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("step", ids(REFUSALS))
def test_refused(step: Step, transport: str) -> None:
    """A proxy that refuses is a failure of its own, with the response, soon."""
    with through([step], transport) as story:
        story.advance(4)
        failure = assertFailed(story, FailureType.PROXY, transport)
        assert failure.response is not None
        assert failure.response.status != 200
        assert len(failure.response.body) <= 4096
        assert story.server.said < 100 * LIMIT


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("line", ids(ODD_HEADERS))
def test_oddHeader(line: bytes, transport: str) -> None:
    """A line that is no header takes nothing with it."""
    refusal = answer(b"", "403 No").replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")
    with through([refusal], transport) as story:
        story.advance(4)
        assertFailed(story, FailureType.PROXY, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "step",
    ids(
        {name: data for name, data in NO_HTTP.items() if not data.startswith(b"HTTP/1.1 200")}
        | {"a head without end": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000)}
    ),
)
def test_noHTTP(step: Step, transport: str) -> None:
    """What speaks no HTTP is no proxy."""
    with through([step], transport) as story:
        story.advance(4)
        assertFailed(story, FailureType.PROXY, transport)
        assert story.server.said < 4 * LIMIT


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "step", ids({"nothing": b"", "half": OPENED[:20], "drips": drips(b"HTTP/1.1 200 " + b"x" * 100)})
)
def test_silent(step: Step, transport: str) -> None:
    """One that says nothing has no more time than the whole."""
    with through([step], transport) as story:
        story.advance(20.01)
        assertFailed(story, FailureType.TIMEOUT, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", [ends, cuts])
def test_cut(how: Any, transport: str) -> None:
    """One that closes the connection at any byte before it has opened a tunnel."""
    for at in range(len(OPENED)):
        with through([how(OPENED[:at])], transport) as story:
            story.advance(0.1)
            assertFailed(story, FailureType.LOST, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_closed(transport: str) -> None:
    """A client that is closed while its tunnel is being opened leaves nothing."""
    with through([b""], transport) as story:
        story.client.close()
        story.advance(0.1)
        assertFailed(story, FailureType.CLOSED, transport if transport == "none" else story.result.transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("behind", [b"", b"HTTP/1.1 400 Too Early\r\nContent-Length: 0\r\n\r\n"])
def test_opened(behind: bytes, transport: str) -> None:
    """What comes right behind the head is of the server, which hasn't been asked anything yet."""
    with through([OPENED + behind, answer(OPEN)], transport) as story:
        story.advance(0.1)
        if not behind:
            assert story.result is story.client
        else:
            assert isinstance(story.result, ConnectionFailed)
