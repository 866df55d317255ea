"""What is sent while connections go away: it goes to those that are there, and to nobody else, without a complaint."""

from __future__ import annotations

import json
from typing import Any

import h2.errors
import pytest
import pytest_twisted

from ..kit.engines import ENGINES
from ..kit.http2 import listening as listening
from ..kit.wire import connectTo, eventually, http, target, upgrade, within


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("isLate", [False, True])
@pytest_twisted.ensureDeferred
async def test_overHTTP1(serve: Any, loggedErrors: list[Any], engine: Any, isLate: bool) -> None:
    """Many connections are cut at once, WebSockets and waiting GETs, some with more written than was read."""
    running = await serve(wsEngine=engine)
    server = running.server
    seen: list[str] = []
    farewell(server, seen)
    wires = []
    for number in range(10):
        wire = await connectTo(running.port)
        wires.append(wire)
        if number % 2:
            wire.send(upgrade())
            await wire.response()
        else:
            wire.send(http("GET", target()))
            sid = json.loads((await wire.response()).packets[0][1:])["sid"]
            wire.send(http("GET", target(sid=sid)))
    await eventually(lambda: server.clientsCount == 10, "the sessions")

    def allWait() -> bool:
        return all(getattr(each.transport, "_poll", True) is not None for each in server.clients.values())

    await eventually(allWait, "the GETs")
    if isLate:
        server.broadcast("x" * 100_000)
    for wire in wires:
        wire.drop()
    await eventually(lambda: server.clientsCount == 0 or len(seen) >= 5, "the ends of the sessions")
    # Of those that were answered, the clients have gone without a word.
    server.close()
    await eventually(lambda: len(seen) == 10, "all ends")
    assert (server.clientsCount, loggedErrors) == (0, [])


@pytest.mark.parametrize("how", ["close", "drain", "discard"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_whileTheServerEnds(serve: Any, loggedErrors: list[Any], engine: Any, how: str) -> None:
    """What a handler of `close` sends to sessions that are about to end reaches them, or isn't sent: nothing raises."""
    running = await serve(wsEngine=engine, drainTimeout=200)
    server = running.server
    seen: list[str] = []
    farewell(server, seen)
    wires = []
    for _ in range(5):
        wire = await connectTo(running.port)
        wires.append(wire)
        wire.send(upgrade())
        await wire.response()
    await eventually(lambda: server.clientsCount == 5, "the sessions")
    if how == "discard":
        for each in list(server.clients.values()):
            each.close(discard=True)
    await within(server.close(drain=how == "drain"), "the server to close")
    assert (len(seen), server.clientsCount, loggedErrors) == (5, 0, [])
    for wire in wires:
        await wire.lost()
