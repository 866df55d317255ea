"""Requests of a hostile or broken client: what it is answered, and that nobody else notices."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from engineio_twisted import RequestRefused

from ..kit.wire import Arena, Hostile, eventually, http, makeFrame, target, upgrade

pytestmark = pytest.mark.everySite

plainAndUpgrade = pytest.mark.parametrize("isUpgrade", [False, True], ids=["plain", "upgrade"])
webSocket = partial(target, transport="websocket")

MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    4: "Forbidden",
    5: "Unsupported protocol version",
}


async def refused(here: Arena, request: bytes, code: int, message: str | None = None, **context: object) -> None:
    """Send a request that has to be refused with a code, in the form that fits it, and be emitted once."""
    before = len(here.refusals)
    method = request.partition(b" ")[0].decode()
    wire = await here.say(request)
    response = await wire.response(method)
    assert response.status == (403 if code == 4 else 400)
    text = message or MESSAGES[code]
    if method != "HEAD":
        if b"\r\nUpgrade: websocket\r\n" in request and b" HTTP/1.1" in request:
            assert response.headers["content-type"].startswith("text/plain")
            assert response.body == text.encode()
            assert await wire.lost() == b""
        else:
            assert response.json == {"code": code, "message": text}
    assert len(here.refusals) == before + 1
    event = here.refusals[-1]
    assert (event.req.method.decode(), event.code, event.message) == (method, code, MESSAGES[code])
    assert {name: event.context[name] for name in context} == context


class TestRefusals:
    """Requests for a session that there won't be."""

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_transport(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client that asks for a transport there isn't learns so: code 0."""
        async with hostile() as here:
            for name in (
                None,
                "",
                "nope",
                "constructor",
                "__proto__",
                "webtransport",
                "Polling",
                "polling%00",
                "%ff%zz",
            ):
                where = target(transport=name)
                await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0)
                assert set(here.refusals[-1].context) == {"transport"}

    @pytest.mark.parametrize(("enabled", "asked"), [("polling", "websocket"), ("websocket", "polling")])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_transportOff(self, hostile: Hostile, enabled: str, asked: str, isUpgrade: bool) -> None:
        """A transport that the server has switched off is as unknown as one that doesn't exist."""
        async with hostile(transports=[enabled]) as here:
            where = target(transport=asked)
            await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0, transport=asked)

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_sid(self, hostile: Hostile, method: str) -> None:
        """A client whose session has ended, or that guesses, learns that there is none: code 1."""
        async with hostile() as here:
            for sid in ("unknown", "__proto__", "constructor", "%00%0d%0a", "%ff", "x" * 5000):
                if method == "upgrade":
                    await refused(here, upgrade(webSocket(sid=sid)), 1)
                else:
                    await refused(here, http(method, target(sid=sid), body=b"4x" if method == "POST" else None), 1)
                if "%" not in sid:
                    assert here.refusals[-1].context == {"sid": sid}

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_method(self, hostile: Hostile, isUpgrade: bool) -> None:
        """Only GET opens a session: code 2."""
        async with hostile() as here:
            for method in ("POST", "PUT", "HEAD", "OPTIONS", "DELETE"):
                request = upgrade(method=method) if isUpgrade else http(method, target())
                await refused(here, request, 2, method=method)

    @pytest.mark.parametrize("byte", ["\x01", "\x1f", "\x7f", "\x0b"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_origin(self, hostile: Hostile, byte: str, isUpgrade: bool) -> None:
        """An Origin with bytes that no header may hold is not echoed anywhere: INVALID_ORIGIN."""
        async with hostile() as here:
            origin = f"http://a{byte}b"
            request = upgrade(Origin=origin) if isUpgrade else http("GET", target(), [("Origin", origin)])
            await refused(here, request, 3, name="INVALID_ORIGIN")
            sid = await here.open()
            where = webSocket(sid=sid) if isUpgrade else target(sid=sid)
            request = upgrade(where, Origin=origin) if isUpgrade else http("GET", where, [("Origin", origin)])
            await refused(here, request, 3, name="INVALID_ORIGIN")
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_transportMismatch(self, hostile: Hostile) -> None:
        """A request on another transport than the session's is refused, and the session goes on."""
        async with hostile() as here:
            sid = await here.open()
            for method in ("GET", "POST"):
                request = http(method, webSocket(sid=sid), body=b"4x")
                names = {"transport": "websocket", "previousTransport": "polling"}
                await refused(here, request, 3, name="TRANSPORT_MISMATCH", **names)
            await here.goesOn(sid)
            sid, wire = await here.openWebSocket()
            for method in ("GET", "POST"):
                request = http(method, target(sid=sid), body=b"4x")
                names = {"transport": "polling", "previousTransport": "websocket"}
                await refused(here, request, 3, name="TRANSPORT_MISMATCH", **names)
            wire.send(makeFrame("4there"))
            assert await wire.text() == "4there"

    @pytest_twisted.ensureDeferred
    async def test_upgradesOff(self, hostile: Hostile) -> None:
        """With allowUpgrades off a polling session stays on polling, however hard the client tries."""
        async with hostile(allowUpgrades=False) as here:
            sid = await here.open()
            names = {"transport": "websocket", "previousTransport": "polling"}
            await refused(here, upgrade(webSocket(sid=sid)), 3, name="TRANSPORT_MISMATCH", **names)
            await here.goesOn(sid)

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_halfAnUpgrade(self, hostile: Hostile, isLive: bool) -> None:
        """An upgrade request that names polling is not taken for a poll: what is buffered isn't lost."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            if sid is not None:
                here.server.clients[sid].send("kept")
            await refused(here, upgrade(target(sid=sid)), 3, name="TRANSPORT_HANDSHAKE_ERROR", transport="polling")
            if sid is not None:
                assert (await here.get(sid)).packets == ["4kept"]
                await here.goesOn(sid)

    @pytest.mark.parametrize(
        "request_",
        [
            http("GET", webSocket()),
            http("GET", webSocket(), [("Connection", "Upgrade")]),
            upgrade(Connection="keep-alive"),
            upgrade(Connection=None),
            upgrade(Upgrade="h2c"),
            upgrade(version="1.0"),
        ],
        ids=["plain", "no Upgrade", "keep-alive", "no Connection", "h2c", "HTTP/1.0"],
    )
    @pytest_twisted.ensureDeferred
    async def test_noUpgrade(self, hostile: Hostile, request_: bytes) -> None:
        """A request for a WebSocket without the headers for one, as a careless proxy makes it, gets an explanation."""
        async with hostile() as here:
            response = await here.ask(request_)
            assert response.status == 400
            assert response.json == {"code": 3, "message": "Bad request"}
            assert here.refusals[-1].context["name"] == "TRANSPORT_HANDSHAKE_ERROR"

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_revision(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client of another revision of the protocol is told so: code 5."""
        async with hostile() as here:
            for revision in (None, "", "3", "5", "4.0", "four", "04"):
                if isUpgrade:
                    await refused(here, upgrade(webSocket(EIO=revision)), 5, protocol=3)
                else:
                    await refused(here, http("GET", target(EIO=revision)), 5, protocol=3)

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_revisionMismatch(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client can't change the revision in the middle of a session, which goes on."""
        async with hostile() as here:
            sid = await here.open()
            for request in (
                [upgrade(webSocket(sid=sid, EIO=3))]
                if isUpgrade
                else [http("GET", target(sid=sid, EIO=3)), http("POST", target(sid=sid, EIO=None), body=b"4x")]
            ):
                await refused(here, request, 3, name="PROTOCOL_MISMATCH", protocol=3, previousProtocol=4)
            await here.goesOn(sid)

    @pytest.mark.parametrize("how", ["raises", "fails later", "duplicate", "not text", "empty", "None later"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_generateId(self, hostile: Hostile, how: str, isUpgrade: bool, loggedErrors: list[LogEvent]) -> None:
        """Where the application fails to make an id, the client gets an answer without detail, the log the cause."""
        async with hostile() as here:
            taken = next(iter(here.server.clients))

            def generateId(request: Any) -> Any:
                if how == "raises":
                    raise ValueError("secret")
                if how == "fails later":
                    return failing("secret")
                if how == "None later":
                    return later(None)
                return {"duplicate": taken, "not text": 5, "empty": ""}[how]

            here.server.generateId = generateId
            request = upgrade() if isUpgrade else http("GET", target())
            await refused(here, request, 3, name="ID_GENERATION_ERROR")
            assert len(loggedErrors) == 1
            loggedErrors.clear()

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_middleware(
        self, hostile: Hostile, isAsync: bool, isUpgrade: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """A middleware that fails refuses the request, without telling why, and not the session that it was about."""
        async with hostile() as here:
            sid = await here.open()

            def middleware(request: Any) -> Any:
                if not request.getHeader("x-hostile"):
                    return None
                if isAsync:
                    return failing("secret")
                raise ValueError("secret")

            here.server.use(middleware)
            for query in ({}, {"sid": sid}):
                if isUpgrade:
                    request = upgrade(webSocket(**query), X_Hostile="yes")
                else:
                    request = http("GET", target(**query), [("X-Hostile", "yes")])
                await refused(here, request, 3, name="MIDDLEWARE_FAILURE")
                assert len(loggedErrors) == 1
                loggedErrors.clear()
            await here.goesOn(sid)

    @pytest.mark.parametrize("answer", ["false", "Deferred", "coroutine", "refused", "refused later", "raises"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_allowRequest(
        self, hostile: Hostile, answer: str, isUpgrade: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """A client that the application doesn't want gets 403, with the application's text if it gives one."""
        asked = []

        async def refusing() -> None:
            await later(None)
            raise RequestRefused("come back tomorrow")

        def allowRequest(request: Any) -> Any:
            asked.append(request)
            if not request.getHeader("x-hostile"):
                return True
            if answer == "refused":
                raise RequestRefused("come back tomorrow")
            if answer == "raises":
                raise ValueError("secret")
            return {
                "false": lambda: False,
                "Deferred": lambda: Deferred.fromCoroutine(later(False)),
                "coroutine": lambda: later(0),
                "refused later": refusing,
            }[answer]()

        async with hostile(allowRequest=allowRequest) as here:
            request = upgrade(X_Hostile="yes") if isUpgrade else http("GET", target(), [("X-Hostile", "yes")])
            text = "come back tomorrow" if answer.startswith("refused") else None
            await refused(here, request, 4, text)
            assert len(loggedErrors) == (answer == "raises")
            loggedErrors.clear()
            # Nobody is asked about a session that is open.
            sid = await here.open()
            before = len(asked)
            await here.goesOn(sid)
            assert len(asked) == before

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_goneWhileAsking(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client that leaves while the application thinks about it leaves no session, even if it is let in."""
        asked: list[Any] = []

        async def allowRequest(request: Any) -> bool:
            if request.getHeader("x-hostile"):
                answer: Deferred[None] = Deferred()
                asked.append(request)
                try:
                    await answer
                except Exception:
                    asked.append("cancelled")
            return True

        async with hostile(allowRequest=allowRequest) as here:
            before = dict(here.server.clients)
            wire = await here.say(
                upgrade(X_Hostile="yes") if isUpgrade else http("GET", target(), [("X-Hostile", "yes")])
            )
            await eventually(lambda: asked, "the question")
            wire.drop()
            await eventually(lambda: len(asked) == 2, "the end of the question")
            assert here.server.clients == before

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_duplicateParameter(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A parameter with two values, which a proxy may read otherwise than the server, is refused, and named."""
        async with hostile() as here:
            sid = await here.open()
            make = upgrade if isUpgrade else partial(http, "GET")
            base = webSocket if isUpgrade else target
            for name, where in (
                ("sid", base(sid=sid) + "&sid=" + sid[:-1]),
                ("sid", base(sid=sid) + "&sid"),
                ("sid", "/engine.io/?sid=other&" + base(sid=sid).partition("?")[2]),
                ("transport", base(sid=sid) + "&transport=other"),
                ("EIO", base() + "&EIO=4&EIO=04"),
                ("EIO", base() + "&EIO=3"),
                ("b64", base() + "&b64=1&b64=0"),
            ):
                text = f"Bad request: the query parameter {name} comes with different values"
                await refused(here, make(where), 3, text, name="DUPLICATE_PARAMETER", parameter=name)
            await here.goesOn(sid)


async def later(answer: object) -> object:
    from ..kit.wire import pause

    await pause(0)
    return answer


async def failing(text: str) -> None:
    await later(None)
    raise ValueError(text)


RUBBISH = [
    "EIO=4&transport=%",
    "EIO=4&transport=%u0041",
    "%00=%00",
    "&&&===&;;",
    "?" * 1000,
    "EIO[]=4&transport[]=polling",
    "=4",
    "a=1&" * 1500,
]


WRONG_HEADERS: list[dict[str, Any]] = [
    {"Sec_WebSocket_Key": None},
    {"Sec_WebSocket_Key": ""},
    {"Sec_WebSocket_Key": "short"},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ="},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZS0t"},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZS!ub25jZQ=="},
    {"extra": "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"},
    {"Sec_WebSocket_Version": None},
    {"Sec_WebSocket_Version": "12"},
    {"Sec_WebSocket_Version": "thirteen"},
    {"extra": "Sec-WebSocket-Version: 8\r\n"},
]


class TestAddress:
    """Addresses and headers as no client makes them."""

    @pytest_twisted.ensureDeferred
    async def test_long(self, hostile: Hostile) -> None:
        """An application may have long parameters."""
        async with hostile() as here:
            response = await here.ask(http("GET", target(token="x" * 7000)))
            assert response.packets[0].startswith("0{")
            await here.end(json.loads(response.packets[0][1:])["sid"])

    @pytest.mark.parametrize("size", [20_000, 100_000])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_tooLong(self, hostile: Hostile, size: int, isUpgrade: bool) -> None:
        """An address beyond all measure opens nothing, and the connection ends."""
        async with hostile() as here:
            where = (webSocket if isUpgrade else target)(token="x" * size)
            wire = await here.say(upgrade(where) if isUpgrade else http("GET", where))
            said = await wire.lost()
            assert said == b"" or said.startswith(b"HTTP/1.1 4")

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_rubbish(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A query that makes no sense is an unknown transport, not an error of the server."""
        async with hostile() as here:
            for query in RUBBISH:
                where = "/engine.io/?" + query
                await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0)

    @pytest.mark.parametrize("where", ["line", "name", "value"])
    @pytest_twisted.ensureDeferred
    async def test_nul(self, hostile: Hostile, where: str) -> None:
        """A request with a NUL byte is no HTTP; the connection ends."""
        async with hostile() as here:
            path = target(t="\0") if where == "line" else target()
            header = {"line": ("A", "b"), "name": ("A\0", "b"), "value": ("A", "\0b")}[where]
            wire = await here.say(http("GET", path, [header]))
            assert (await wire.lost()).startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_lineBreaks(self, hostile: Hostile, isLive: bool) -> None:
        """A byte that some software takes for the end of a header line can't smuggle a header into an upgrade."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            for byte in "\x0b\x0c\x1c\x1d\x1e\x85":
                smuggled = f"a{byte}Sec-WebSocket-Protocol: evil"
                await refused(here, upgrade(webSocket(sid=sid), X_Forwarded_For=smuggled), 3)
            if sid is not None:
                await here.goesOn(sid)

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_handshakeHeaders(self, hostile: Hostile, isLive: bool) -> None:
        """An opening handshake that breaks the rules of WebSocket gets a 400, and the cause is in the context."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            for changes in WRONG_HEADERS:
                request = upgrade(webSocket(sid=sid), **changes)
                name = "Version" if "Version" in str(changes) else "Key"
                await refused(here, request, 3, name="TRANSPORT_HANDSHAKE_ERROR")
                assert f"Sec-WebSocket-{name}" in here.refusals[-1].context["reason"]
                if name == "Version":
                    response = await here.ask(request)
                    assert "13" in response.headers["sec-websocket-version"]
            if sid is not None:
                await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_upgradeByPost(self, hostile: Hostile) -> None:
        """Only GET asks for a WebSocket, on a session too, which doesn't suffer from another method."""
        async with hostile() as here:
            sid = await here.open()
            await refused(here, upgrade(webSocket(sid=sid), method="POST"), 3, name="TRANSPORT_HANDSHAKE_ERROR")
            await here.goesOn(sid)

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @pytest_twisted.ensureDeferred
    async def test_behindARefusal(self, hostile: Hostile, isAsync: bool) -> None:
        """What a client sends behind an upgrade request that is refused is never taken for another request."""

        def allowRequest(request: Any) -> Any:
            return True if not request.getHeader("x-hostile") else later(False) if isAsync else False

        async with hostile(allowRequest=allowRequest) as here:
            before = dict(here.server.clients)
            wire = await here.say(upgrade(X_Hostile="yes") + http("GET", target()))
            assert (await wire.response()).status == 403
            assert await wire.lost() == b""
            assert here.server.clients == before


class TestMethods:
    """Requests to a live session by methods that it doesn't have."""

    @pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
    @pytest_twisted.ensureDeferred
    async def test_notAllowed(self, hostile: Hostile, method: str) -> None:
        """A HEAD, say, of a crawler gets 405: the session lives, and neither its buffer nor its poll is touched."""
        async with hostile() as here:
            sid = await here.open()
            here.server.clients[sid].send("kept")
            response = await here.ask(http(method, target(sid=sid)))
            assert response.status == 405
            assert response.headers["allow"] == "GET, POST"
            assert (await here.get(sid)).packets == ["4kept"]
            waiting = await here.poll(sid)
            assert (await here.ask(http(method, target(sid=sid)))).status == 405
            here.server.clients[sid].send("too")
            assert (await waiting.response()).packets == ["4too"]
            await here.goesOn(sid)


class TestOverlap:
    """Two requests at a time where there may be one, and requests that break off."""

    @pytest_twisted.ensureDeferred
    async def test_get(self, hostile: Hostile) -> None:
        """A second GET ends the session: it gets 400, and the first is told of the end."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.get(sid)
            assert response.status == 400
            assert "message" in response.json
            assert (await waiting.response()).packets == ["1"]
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "overlap" in description
            await refused(here, http("GET", target(sid=sid)), 1)

    @pytest_twisted.ensureDeferred
    async def test_post(self, hostile: Hostile) -> None:
        """A second POST while the body of one is on its way ends the session; nothing of the two is delivered."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            first = await halfAPost(here, sid)
            response = await here.post(sid, "4second")
            assert response.status == 400
            assert "message" in response.json
            assert (await waiting.response()).packets == ["1"]
            assert b"200" not in await first.lost()
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "overlap" in description
            assert here.records[sid].messages == []

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_getLost(self, hostile: Hostile, abort: bool) -> None:
        """A client that vanishes while it polls is noticed at once."""
        async with hostile() as here:
            sid = await here.open()
            (await here.poll(sid)).drop(abort)
            assert await here.records[sid].closed() == ("transport error", "poll connection closed prematurely")

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_postLost(self, hostile: Hostile, abort: bool) -> None:
        """A client that vanishes while it posts is noticed at once, and what it posted is not delivered."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            (await halfAPost(here, sid)).drop(abort)
            reason = "data request connection closed prematurely"
            assert await here.records[sid].closed() == ("transport error", reason)
            assert (await waiting.response()).packets == ["1"]
            assert here.records[sid].messages == []

    @pytest.mark.parametrize("change", [{"EIO": "3"}, {"transport": "websocket"}, {"sid": "{0}&sid=other"}], ids=str)
    @pytest_twisted.ensureDeferred
    async def test_wrongPostLost(self, hostile: Hostile, change: dict[str, str]) -> None:
        """A POST that would have been refused anyway does the session no harm when it breaks off."""
        async with hostile() as here:
            sid = await here.open()
            query = {"sid": sid, **{name: value.format(sid) for name, value in change.items()}}
            headers = [("Content-Length", "10"), ("Expect", "100-continue")]
            wire = await here.say(http("POST", target(**query), headers))
            await wire.head()
            port = wire.transport.getHost().port
            wire.drop()
            await eventually(lambda: port not in ports(here), "the server to notice")
            await here.goesOn(sid)


async def halfAPost(here: Arena, sid: str) -> Any:
    """Begin a POST, and make sure that the server has seen its headers."""
    headers = [("Content-Length", "10"), ("Expect", "100-continue")]
    wire = await here.say(http("POST", target(sid=sid), headers))
    assert (await wire.head()).status == 100
    wire.send(b"4half")
    return wire


def ports(here: Arena) -> list[int]:
    """The clients' ports of the connections that the server has."""
    return [each.transport.getPeer().port for each in here.server._ownPorts.site.channels]
