"""Request headers with bytes that are no text, which every client may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from ..kit.engines import ENGINES
from ..kit.wire import Arena, Hostile, Wire, eventually, http, makeFrame, target, upgrade

pytestmark = [pytest.mark.no_cover, pytest.mark.everySite]

# Whatever the server, or twisted.web for it, looks at, or might.
NAMES = [
    "User-Agent",
    "Content-Type",
    "Accept-Encoding",
    "Content-Encoding",
    "Origin",
    "Cookie",
    "Referer",
    "Accept",
    "X-Forwarded-For",
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
    "If-None-Match",
    "Sec-WebSocket-Extensions",
    "X-Anything",
]
# As it is sent: no UTF-8, latin-1, UTF-8 that is cut, and UTF-8 of a surrogate.
VALUES = ["\xff", "Müller (Käse; ü)", "\xe2\x82", "\xed\xa0\x80"]
everyHeader = pytest.mark.parametrize("name", NAMES)


async def opened(here: Arena, header: tuple[str, str]) -> str:
    response = await here.ask(http("GET", target(), [header]))
    return str(json.loads(response.packets[0][1:])["sid"])


async def polling(here: Arena, sid: str, header: tuple[str, str]) -> Wire:
    wire = await here.say(http("GET", target(sid=sid), [header]))
    await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
    return wire


@pytest.fixture(params=[None, {"origin": True}], ids=["without CORS", "with CORS"])
def cors(request: pytest.FixtureRequest) -> Any:
    """Whether the server looks at more headers."""
    return request.param


class TestPolling:
    """Such headers on each request of a session on polling."""

    @everyHeader
    @pytest_twisted.ensureDeferred
    async def test_session(self, hostile: Hostile, name: str, cors: Any) -> None:
        """It is served as if they weren't there."""
        async with hostile(cors=cors) as here:
            for value in VALUES:
                header = (name, value)
                sid = await opened(here, header)
                socket = here.server.clients[sid]
                waiting = await polling(here, sid, header)
                # A header of a client is no reason for an error in the application.
                socket.send("to the client")
                assert (await waiting.response()).packets == ["4to the client"]
                response = await here.ask(http("POST", target(sid=sid), [header], b"4x"))
                assert (response.status, response.body) == (200, b"ok")
                assert here.records[sid].messages == ["x"]
                assert (await here.get(sid)).packets == ["4x"]
                await here.goesOn(sid)

    @everyHeader
    @pytest_twisted.ensureDeferred
    async def test_refused(self, hostile: Hostile, name: str, cors: Any) -> None:
        """What is refused is refused as always."""
        header = (name, "\xff")
        async with hostile(cors=cors, maxHttpBufferSize=1000) as here:
            sid = await here.open()
            for status, request in (
                (400, http("GET", target(transport="nope"), [header])),
                (400, http("POST", target(sid="unknown"), [header], b"4x")),
                (405, http("PUT", target(sid=sid), [header])),
                (413, http("POST", target(sid=await here.open()), [header], b"4" * 1001)),
            ):
                response = await here.ask(request)
                assert response.status == status
                assert "message" in response.json
            await here.goesOn(sid)

    @pytest.mark.parametrize("name", ["User-Agent", "Content-Type"])
    @pytest_twisted.ensureDeferred
    async def test_broadcast(self, hostile: Hostile, name: str) -> None:
        """An application that sends to all of its clients reaches all of them, whatever one of them has sent."""
        async with hostile() as here:
            sids = [await here.open() for _ in range(3)]
            wires = [await polling(here, each, (name, "\xff")) for each in sids]
            for each in sids:
                here.server.clients[each].send("to all")
            for each in wires:
                assert (await each.response()).packets == ["4to all"]
            for each in sids:
                await here.end(each)

    @pytest.mark.parametrize("name", ["User-Agent", "Accept-Encoding"])
    @pytest_twisted.ensureDeferred
    async def test_end(self, hostile: Hostile, name: str) -> None:
        """A session ends like any other, and a waiting GET is told."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await polling(here, sid, (name, "\xff"))
            here.server.clients[sid].close()
            assert (await waiting.response()).packets == ["1"]
            assert (await here.records[sid].closed())[0] == "forced close"


class TestWebSocket:
    """And on requests for a WebSocket."""

    @everyHeader
    @pytest.mark.parametrize("engine", ENGINES, ids=lambda each: each.__name__)
    @pytest_twisted.ensureDeferred
    async def test_session(self, hostile: Hostile, name: str, cors: Any, engine: Any) -> None:
        """They are opened, and taken over, as if those weren't there."""
        extra = "".join(f"{name}: {value}\r\n" for value in VALUES)
        async with hostile(cors=cors, wsEngine=engine) as here:
            wire = await here.webSocket(upgrade(extra=extra), makeFrame("4x"))
            assert (await wire.text())[0] == "0"
            assert await wire.text() == "4x"
            sid = await here.open()
            where = target(transport="websocket", sid=sid)
            wire = await here.webSocket(upgrade(where, extra=extra), makeFrame("2probe"), makeFrame("5"))
            assert await wire.text() == "3probe"
            here.server.clients[sid].send("upgraded")
            assert await wire.text() == "4upgraded"
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000
