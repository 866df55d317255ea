"""What is sent while connections go away: it goes to those that are there, and to nobody else, without a complaint."""

from __future__ import annotations

from typing import Any

import h2.errors
import pytest
import pytest_twisted

from .test_http2 import listening as listening
from .wire import eventually, within


def farewell(server: Any, seen: list[str]) -> None:
    """Each session that goes says so to all others, one by one and together."""

    def closed(socket: Any, reason: str) -> None:
        seen.append(reason)
        for other in list(server.clients.values()):
            other.send("somebody has gone")
        server.broadcast("somebody has gone")
        socket.send("too late")

    server.on("connection", lambda socket: socket.on("close", lambda reason, _: closed(socket, reason)))


def cut(client: Any) -> None:
    client.transport.abortConnection()


def say_goodbye(client: Any) -> None:
    client.h2.close_connection()
    client.flush()


def reset(client: Any) -> None:
    """All streams in one segment."""
    for stream in client.h2.streams:
        if not client.answers[stream].isComplete:
            client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    client.flush()


@pytest.mark.parametrize("isPosting", [False, True])
@pytest.mark.parametrize("go", [cut, say_goodbye, reset])
@pytest_twisted.ensureDeferred
async def test_overHTTP2(listening: Any, loggedErrors: list[Any], go: Any, isPosting: bool) -> None:
    """A connection goes on which many sessions wait, some in the middle of a POST: all end, at once."""
    here = await listening()
    seen: list[str] = []
    farewell(here.server, seen)
    client = await here.connect()
    for each in [await client.open() for _ in range(5)]:
        client.ask(each)
        if isPosting:
            client.ask(each, "POST", b"4half", ends=False, content_length="10")
    await client.get("/page")
    go(client)
    await eventually(lambda: len(seen) == 5, "the ends of the sessions")
    assert (here.server.clientsCount, loggedErrors) == (0, [])
    await within(here.server.close(), "the server to close", 2)
