"""Requests that a client sends on one connection without waiting for answers, which HTTP allows and no client does."""

from __future__ import annotations

import pytest
import pytest_twisted

from ..kit.wire import Arena, Hostile, eventually, http, pause, target, within

pytestmark = pytest.mark.everySite


async def ends(here: Arena, sid: str, how: str) -> None:
    """End a session in one of the ways there are."""
    if how == "discard":
        here.server.clients[sid].close(True)
    elif how == "close":
        here.server.clients[sid].close()
    else:
        await here.post(sid, {"packet": "1", "broken": "7", "wrong direction": "2"}[how])


HOW = ["discard", "close", "packet", "broken", "wrong direction"]


@pytest.mark.parametrize("how", HOW)
@pytest_twisted.ensureDeferred
async def test_polls(hostile: Hostile, how: str) -> None:
    """GETs of a session that ends are answered, each of them: none waits for a session that isn't there any more."""
    async with hostile() as here:
        sid = await here.open()
        wire = await here.say(http("GET", target(sid=sid)) * 4)
        await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
        await ends(here, sid, how)
        await here.records[sid].closed()
        assert (await wire.response()).packets[-1] in ("1", "6")
        # Client and server share a reactor: if nothing has come by then, nothing will.
        for _ in range(100):
            await pause(0)
        assert wire.received.count(b"HTTP/1.1 ") == 3
        for _ in range(3):
            response = await wire.response()
            assert response.status == 400 or response.packets == ["1"]


@pytest_twisted.ensureDeferred
async def test_closing(hostile: Hostile) -> None:
    """Where the server closes, the first is told, and the connection of the others ends."""
    async with hostile() as here:
        here.serverEnds = True
        sid = await here.open()
        wire = await here.say(http("GET", target(sid=sid)) * 4)
        await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
        await within(here.server.close(), "the end of the server")
        assert (await wire.response()).packets == ["1"]
        await wire.lost()


@pytest_twisted.ensureDeferred
async def test_messages(hostile: Hostile) -> None:
    """What is sent meanwhile goes out with one GET after the other, in order and once."""
    async with hostile(echoes=False) as here:
        sid = await here.open()
        wire = await here.say(http("GET", target(sid=sid)) * 4)
        await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
        packets: list[str] = []
        for each in "abcd":
            here.server.clients[sid].send(each)
        while len(packets) < 4:
            packets += (await wire.response()).packets
        assert packets == ["4a", "4b", "4c", "4d"]
        wire.drop()
        if sid in here.server.clients:
            here.server.clients[sid].close(True)


@pytest.mark.parametrize("count", [2, 200])
@pytest_twisted.ensureDeferred
async def test_posts(hostile: Hostile, count: int) -> None:
    """POSTs are served one after the other, and aren't taken for two at a time."""
    async with hostile(echoes=False) as here:
        sid = await here.open()
        posts = [http("POST", target(sid=sid), body=f"4{each}".encode()) for each in range(count)]
        wire = await here.say(b"".join(posts))
        for _ in posts:
            assert (await wire.response()).body == b"ok"
        assert here.records[sid].messages == [str(each) for each in range(count)]
        await here.end(sid)


@pytest_twisted.ensureDeferred
async def test_behindAPoll(hostile: Hostile) -> None:
    """What comes behind a GET that waits is served when that is over, and not forgotten."""
    async with hostile() as here:
        sid = await here.open()
        wire = await here.say(http("GET", target(sid=sid)) + http("POST", target(sid=sid), body=b"4x"))
        await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
        assert here.records[sid].messages == []
        here.server.clients[sid].send("go on")
        assert (await wire.response()).packets == ["4go on"]
        assert (await wire.response()).body == b"ok"
        assert here.records[sid].messages == ["x"]
        assert (await here.get(sid)).packets == ["4x"]
        await here.goesOn(sid)
